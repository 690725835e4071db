#pragma once
// Needs nlohmann-json; not part of klens.hpp.

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <klens/error.hpp>
#include <klens/io/atomic_file.hpp>
#include <klens/io/detail/file_map.hpp>
#include <klens/io/detail/safetensors_header.hpp>
#include <klens/matrix.hpp>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian, and so must this machine be");

/// A tensor in a safetensors file, or one about to be written: row-major, dense. `bytes` need not be aligned.
struct stored_tensor {
  std::string name;
  std::string dtype;  ///< as the format names it: F32, F16, BF16, I64, ...
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes;

  [[nodiscard]] std::size_t elements() const noexcept {
    std::size_t product = 1;
    for (const std::size_t extent : shape) product *= extent;
    return product;
  }
};

/// "[2, 37, 97]": how a tensor's shape looks in a message.
[[nodiscard]] inline std::string shape_text(std::span<const std::size_t> shape) {
  std::string text = "[";
  for (const std::size_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

/// The format's name of a C++ type.
template <class T>
[[nodiscard]] constexpr std::string_view dtype_of() noexcept {
  if constexpr (std::same_as<T, float>)
    return "F32";
  else if constexpr (std::same_as<T, double>)
    return "F64";
  else if constexpr (std::same_as<T, half>)
    return "F16";
  else if constexpr (std::same_as<T, bfloat16>)
    return "BF16";
  else if constexpr (std::same_as<T, std::int32_t>)
    return "I32";
  else if constexpr (std::same_as<T, std::int64_t>)
    return "I64";
  else if constexpr (std::same_as<T, std::uint8_t>)
    return "U8";
  else
    static_assert(sizeof(T) == 0, "no safetensors type for this");
}

/// A safetensors file, mapped read-only: tensors are views of the file, valid as long as this object (moved along with it).
/// Throws     file_error, starting with the path, for whatever the header says that is not so. A header costs memory in
///            proportion to its own length only. A file that another program shortens while it is mapped ends the process.
/// Source     https://github.com/huggingface/safetensors (format description)
class safetensors {
 public:
  explicit safetensors(std::filesystem::path path) : path_(std::move(path)), map_(path_) {
    constexpr std::uint64_t longest_header = 100'000'000;
    const std::span<const std::byte> bytes = map_.bytes();
    std::uint64_t length = 0;
    if (bytes.size() < sizeof length) fail(bytes.empty() ? "is empty" : "is too short for a safetensors header");
    std::memcpy(&length, bytes.data(), sizeof length);
    if (length > bytes.size() - sizeof length) fail("says that its header is longer than the file");
    if (length > longest_header) fail("has a header of more than 100 MB");
    detail::safetensors_sax header;
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof length, length);
    if (const std::string problem = detail::parse_safetensors_header(text, header); !problem.empty()) fail(problem);
    const std::span<const std::byte> data = bytes.subspan(sizeof length + length);
    if (const std::string problem = detail::check_offsets(header.entries, data.size()); !problem.empty()) fail(problem);
    tensors_.reserve(header.entries.size());
    for (auto& each : header.entries)
      tensors_.push_back({std::move(each.name), std::move(each.dtype), std::move(each.shape),
                          data.subspan(each.offsets[0], each.offsets[1] - each.offsets[0])});
    std::sort(tensors_.begin(), tensors_.end(), [](const stored_tensor& a, const stored_tensor& b) { return a.name < b.name; });
    const auto twice = std::adjacent_find(tensors_.begin(), tensors_.end(),
                                          [](const stored_tensor& a, const stored_tensor& b) { return a.name == b.name; });
    if (twice != tensors_.end()) fail("names tensor " + detail::name_text(twice->name) + " twice");
    metadata_ = std::move(header.metadata);
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

  /// All tensors, sorted by name.
  [[nodiscard]] std::span<const stored_tensor> tensors() const noexcept { return tensors_; }

  /// Null where there is none of that name.
  [[nodiscard]] const stored_tensor* find(std::string_view name) const noexcept {
    const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                     [](const stored_tensor& each, std::string_view wanted) { return each.name < wanted; });
    return at != tensors_.end() && at->name == name ? &*at : nullptr;
  }
  [[nodiscard]] bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }
  [[nodiscard]] const stored_tensor& at(std::string_view name) const {
    if (const stored_tensor* found = find(name)) return *found;
    throw file_error(path_.string() + ": has no tensor " + detail::name_text(name));
  }

  /// All elements of a tensor that is stored as T.
  template <class T>
  [[nodiscard]] std::vector<T> values(std::string_view name) const {
    const stored_tensor& from = at(name);
    if (from.dtype != dtype_of<T>()) refuse_dtype(from, dtype_of<T>());
    std::vector<T> all(from.elements());
    if (!all.empty()) std::memcpy(static_cast<void*>(all.data()), from.bytes.data(), from.bytes.size());
    return all;
  }

  /// All elements of an I32 or I64 tensor.
  [[nodiscard]] std::vector<std::int64_t> integers(std::string_view name) const {
    if (at(name).dtype != "I32") return values<std::int64_t>(name);
    const std::vector<std::int32_t> narrow = values<std::int32_t>(name);
    return {narrow.begin(), narrow.end()};
  }

  /// Elements first, first + 1, ... of an F32, F16 or BF16 tensor of this file, as floats. Refuses other types also where `to`
  /// is empty.
  void copy_floats(const stored_tensor& from, std::size_t first, std::span<float> to) const {
    assert(first <= from.elements() && to.size() <= from.elements() - first);
    const auto copy_as = [&]<class T>(T) {
      for (std::size_t i = 0; i < to.size(); ++i) {
        T value;
        std::memcpy(static_cast<void*>(&value), from.bytes.data() + (first + i) * sizeof(T), sizeof(T));
        to[i] = static_cast<float>(value);
      }
    };
    if (from.dtype == "F32")
      copy_as(float{});
    else if (from.dtype == "F16")
      copy_as(half{});
    else if (from.dtype == "BF16")
      copy_as(bfloat16{});
    else
      refuse_dtype(from, "F32, F16 or BF16");
  }

  /// Gives back the memory that reading these bytes of a tensor took; they are read again from the file when touched.
  void release(std::span<const std::byte> part) const noexcept { map_.release(part); }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw file_error(path_.string() + ": " + problem + "; fetch or write the safetensors file again");
  }
  [[noreturn]] void refuse_dtype(const stored_tensor& from, std::string_view wanted) const {
    throw file_error(path_.string() + ": tensor " + detail::name_text(from.name) + " is " + detail::name_text(from.dtype) +
                     "; store it as " + std::string(wanted));
  }

  std::filesystem::path path_;
  detail::file_map map_;
  std::vector<stored_tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to be written: a view of `values`, which must outlive it and fill `shape`.
template <class T>
[[nodiscard]] stored_tensor as_tensor(std::string name, std::vector<std::size_t> shape, std::span<const T> values) {
  return {std::move(name), std::string(dtype_of<T>()), std::move(shape), std::as_bytes(values)};
}

/// What a file of these tensors begins with, before their bytes in this order. Their own `bytes` are not looked at, so a tensor
/// may be written in pieces (through atomic_file) without ever being whole in memory.
/// Throws argument_error for a type that klens does not know, a shape without a size, and a name that is no UTF-8.
[[nodiscard]] inline std::string safetensors_header(std::span<const stored_tensor> tensors,
                                                    const std::map<std::string, std::string>& metadata = {}) {
  nlohmann::ordered_json entries = nlohmann::ordered_json::object();
  if (!metadata.empty()) entries["__metadata__"] = metadata;
  std::size_t end = 0;
  for (const stored_tensor& each : tensors) {
    const std::optional<std::size_t> size = detail::dtype_bytes(each.dtype, each.shape);
    if (!size)
      throw argument_error("safetensors: " + each.name + " has no size as " + each.dtype + " " + shape_text(each.shape));
    entries[each.name] = {{"dtype", each.dtype}, {"shape", each.shape}, {"data_offsets", {end, end + *size}}};
    end += *size;
  }
  std::string text;
  try {
    text = entries.dump();
  } catch (const nlohmann::json::exception& caught) {
    throw argument_error{std::string{"safetensors: a name is no UTF-8: "} + caught.what()};
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data begin at a multiple of 8
  const std::uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

/// Writes a safetensors file, whole or not at all.
/// Throws argument_error as above and where bytes do not fill a shape; file_error as atomic_file.
inline void write_safetensors(const std::filesystem::path& path, std::span<const stored_tensor> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  const std::string header = safetensors_header(tensors, metadata);
  for (const stored_tensor& each : tensors)
    if (detail::dtype_bytes(each.dtype, each.shape) != each.bytes.size())
      throw argument_error("safetensors: " + each.name + " has " + std::to_string(each.bytes.size()) + " bytes, not those of " +
                           each.dtype + " " + shape_text(each.shape));
  atomic_file file{path};
  file.write(header);
  for (const stored_tensor& each : tensors) file.write(each.bytes);
  file.commit();
}

}  // namespace klens
