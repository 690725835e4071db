#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/error.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Bits of one element; nothing for a type that is not known.
[[nodiscard]] inline std::optional<std::size_t> dtype_bits(std::string_view dtype) {
  constexpr std::pair<std::string_view, std::size_t> known[] = {
      {"F32", 32}, {"F16", 16},    {"BF16", 16},   {"F64", 64}, {"I64", 64},    {"I32", 32},    {"I16", 16},
      {"I8", 8},   {"U64", 64},    {"U32", 32},    {"U16", 16}, {"U8", 8},      {"BOOL", 8},    {"F8_E4M3", 8},
      {"C64", 64}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E4M3FNUZ", 8}};
  for (const auto& [name, bits] : known)
    if (name == dtype) return bits;
  return std::nullopt;
}

/// Bytes of a dense tensor; nothing where the type is unknown, the product overflows or the bits do not fill whole bytes.
[[nodiscard]] inline std::optional<std::size_t> dtype_bytes(std::string_view dtype, std::span<const std::size_t> shape) {
  const std::optional<std::size_t> bits = dtype_bits(dtype);
  if (!bits) return std::nullopt;
  if (std::find(shape.begin(), shape.end(), std::size_t{0}) != shape.end()) return 0;
  std::size_t total = *bits;
  for (const std::size_t extent : shape)
    if (__builtin_mul_overflow(total, extent, &total)) return std::nullopt;
  return total % 8 == 0 ? std::optional(total / 8) : std::nullopt;
}

/// One entry of a header, as it is written there.
struct safetensors_entry {
  std::string name;
  std::string dtype;
  std::vector<std::size_t> shape;
  std::vector<std::size_t> offsets;  // [begin, end) within the data
};

/// Collects the entries of a header while it is parsed: no tree is built, so memory stays within a small multiple of the text.
/// It accepts {"name": {"dtype": text, "shape": [n...], "data_offsets": [n, n]}, ..., "__metadata__": {text: text}} and nothing
/// else; `problem` says what it refused.
class safetensors_sax {
 public:
  std::vector<safetensors_entry> entries;
  std::map<std::string, std::string> metadata;
  std::string problem;

  bool start_object(std::size_t) {
    if (depth_ == 0 && !in_array_) return ++depth_, true;
    if (depth_ != 1 || in_array_) return refuse("holds an object where a value belongs");
    if (!in_metadata_) entries.push_back({.name = key_, .dtype = {}, .shape = {}, .offsets = {}});
    seen_dtype_ = seen_shape_ = false;
    return ++depth_, true;
  }
  bool end_object() {
    if (--depth_ == 1 && !in_metadata_ && !(seen_dtype_ && seen_shape_ && entries.back().offsets.size() == 2))
      return refuse("lacks dtype, shape or a pair of data_offsets");
    return true;
  }
  bool start_array(std::size_t) {
    if (depth_ != 2 || in_metadata_ || in_array_ || (key_ != "shape" && key_ != "data_offsets"))
      return refuse("holds a list where none belongs");
    if (key_ == "shape" ? std::exchange(seen_shape_, true) : !entries.back().offsets.empty())
      return refuse("says one thing twice");
    return in_array_ = true;
  }
  bool end_array() { return in_array_ = false, true; }
  bool key(std::string& text) {
    key_ = text;
    if (depth_ == 1) in_metadata_ = text == "__metadata__";
    return true;
  }
  bool string(std::string& text) {
    if (depth_ != 2 || in_array_) return refuse("holds text where none belongs");
    if (in_metadata_) return metadata[key_] = text, true;
    if (key_ != "dtype") return refuse("holds text where none belongs");
    if (std::exchange(seen_dtype_, true)) return refuse("says one thing twice");
    return entries.back().dtype = text, true;
  }
  bool number_unsigned(std::uint64_t number) {
    if (!in_array_) return refuse("holds a number where none belongs");
    std::vector<std::size_t>& list = key_ == "shape" ? entries.back().shape : entries.back().offsets;
    if (list.size() == (key_ == "shape" ? most_dimensions : 2)) return refuse("has too long a shape or data_offsets");
    return list.push_back(number), true;
  }
  bool number_integer(std::int64_t) { return refuse("holds a negative number"); }
  bool number_float(double, const std::string&) { return refuse("holds a number that is no 64-bit count"); }
  bool boolean(bool) { return refuse("holds a value that is neither text nor list"); }
  bool null() { return refuse("holds a value that is neither text nor list"); }
  template <class Binary>
  bool binary(Binary&) {
    return refuse("holds binary");
  }
  template <class Error>
  bool parse_error(std::size_t byte, const std::string&, const Error&) {
    problem = "header is no JSON from its byte " + std::to_string(byte) + " on";
    return false;
  }

 private:
  static constexpr std::size_t most_dimensions = 64;

  bool refuse(std::string_view what) {
    problem =
        "header " +
        (depth_ == 0 ? std::string() : "entry " + name_text(depth_ == 2 && !in_metadata_ ? entries.back().name : key_) + " ") +
        std::string(what);
    return false;
  }

  std::string key_;
  int depth_ = 0;
  bool in_metadata_ = false, in_array_ = false, seen_dtype_ = false, seen_shape_ = false;
};

/// Parses a header's text. Gives the problem, or nothing where it is well formed (offsets are not looked at yet).
[[nodiscard]] inline std::string parse_safetensors_header(std::string_view text, safetensors_sax& into) {
  if (text.empty() || text.front() != '{') return "header does not begin with '{'";
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &into) && into.problem.empty()) into.problem = "header is no JSON";
  return into.problem;
}

/// Sorts by place and holds every entry against the number of data bytes: no gap, no overlap, none outside, sizes as dtype and
/// shape say. Gives the problem, or nothing.
[[nodiscard]] inline std::string check_offsets(std::vector<safetensors_entry>& entries, std::size_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.offsets < b.offsets; });
  std::size_t end = 0;
  for (const auto& each : entries) {
    const std::size_t first = each.offsets[0], last = each.offsets[1];
    const std::string which = "tensor " + name_text(each.name) + " ";
    if (first > last || last > data_bytes) return which + "lies outside the file";
    if (first < end) return which + "overlaps its neighbour";
    if (first > end) return which + "leaves a gap before it";
    if (dtype_bits(each.dtype) && dtype_bytes(each.dtype, each.shape) != last - first)
      return which + "has " + std::to_string(last - first) + " bytes, which is not what its dtype and shape need";
    end = last;
  }
  if (end != data_bytes) return "has " + std::to_string(data_bytes - end) + " bytes that belong to no tensor";
  return {};
}

}  // namespace klens::detail
