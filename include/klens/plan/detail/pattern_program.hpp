#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <klens/detail/instruction_set.hpp>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The bytes that a place of a pattern takes.
using byte_set = std::bitset<256>;

/// An ECMAScript regular expression, compiled to instructions. Names are bytes: a character beyond ASCII is several of them.
///   Without \u, named groups, look-behind and flags. A repetition of more than 1000 and a pattern of more than 20,000
///   instructions are refused.
/// It stands in for std::regex, which takes seconds to compile in each file that includes it, recurses once for each character
/// of a name, and depends on the locale.
struct pattern_program {
  enum class op : std::uint8_t {
    take,      // a byte of sets[x]
    split,     // try x, then y
    jump,      // to x
    save,      // the position, as capture x
    mark,      // the position, as the beginning of an iteration of loop x
    progress,  // fails where loop x took nothing since its mark
    begin,
    end,       // ^ and $
    boundary,  // \b; y: \B
    look,      // x: the instructions up to `found` match here; y: they do not
    found,     // ends a pattern or what `look` asks for
    again      // what capture x holds, once more
  };
  struct instruction {
    op code;
    std::size_t x = 0, y = 0;
  };
  std::vector<instruction> code;
  std::vector<byte_set> sets;
  std::size_t groups = 0, loops = 0;
};

}  // namespace klens::detail
