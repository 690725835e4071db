#pragma once
// Needs nlohmann-json; not part of klens.hpp.

#include <klens/detail/instruction_set.hpp>
#include <nlohmann/json.hpp>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// A JSON document as text that ends its line. Bytes that are no UTF-8, as a path of an old file system may have, become
/// U+FFFD: what took hours is not lost because of a name.
///   indent     spaces for each level; below 0: all in one line
template <class Json>
[[nodiscard]] std::string json_text(const Json& document, int indent = 1) {
  return document.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace klens
