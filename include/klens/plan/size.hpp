#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <klens/error.hpp>
#include <klens/plan/detail/knapsack_classes.hpp>
#include <string>
#include <string_view>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// A size budget in bytes, from "4.5bpw" (bits a weight), "3MB" (powers of 1000), "2.5MiB" (powers of 1024), "60%" (of what
/// fp16 takes) or a plain "123456". Computed in whole numbers and rounded down, so never more than was asked for.
/// weights    how many weights the budget is for; fp16_bytes is their size in fp16.
/// Throws     argument_error for anything else, for 0, and for more than 2^60 bytes.
[[nodiscard]] inline std::uint64_t parse_budget(std::string_view text, std::uint64_t weights, std::uint64_t fp16_bytes) {
  const auto refuse = [&](const std::string& why) {
    return argument_error{"budget " + detail::name_text(text) + " " + why +
                          "; write it like 4.5bpw, 3MB, 2.5MiB, 60% or 123456"};
  };
  // value = digits / 10^decimals
  detail::wide_int digits = 0, power = 1;
  std::size_t read = 0, count = 0;
  bool after_point = false;
  for (; read < text.size(); ++read) {
    const char c = text[read];
    if (c == '.' && !after_point && count > 0) {
      after_point = true;
    } else if (c >= '0' && c <= '9') {
      if (++count > 18) throw refuse("has too many digits");
      digits = digits * 10 + (c - '0');
      if (after_point) power *= 10;
    } else {
      break;
    }
  }
  if (count == 0 || text[read - 1] == '.') throw refuse("does not start with a number");

  struct unit {
    std::string_view name;
    detail::wide_int bytes, divisor;
  };
  const std::array<unit, 13> units{{{"", 1, 1},
                                    {"B", 1, 1},
                                    {"bpw", weights, 8},
                                    {"%", fp16_bytes, 100},
                                    {"kB", 1'000, 1},
                                    {"KB", 1'000, 1},
                                    {"MB", 1'000'000, 1},
                                    {"GB", 1'000'000'000, 1},
                                    {"TB", 1'000'000'000'000, 1},
                                    {"KiB", 1LL << 10, 1},
                                    {"MiB", 1LL << 20, 1},
                                    {"GiB", 1LL << 30, 1},
                                    {"TiB", 1LL << 40, 1}}};
  const auto* const known =
      std::find_if(units.begin(), units.end(), [&](const unit& each) { return each.name == text.substr(read); });
  if (known == units.end()) throw refuse("has no unit that is known");
  if (known->name.empty() && after_point) throw refuse("is a part of a byte");
  const detail::wide_int bytes = digits * known->bytes / (power * known->divisor);
  if (bytes <= 0) throw refuse("is nothing");
  if (bytes > (detail::wide_int{1} << 60)) throw refuse("is more than any memory holds");
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace klens
