#include "importance.hpp"

#include <ggml-cpp.h>
#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <klens/error.hpp>
#include <utility>

#include "engine.hpp"
#include "fingerprint.hpp"

namespace llama_adapter {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& problem) {
  throw klens::file_error{path.string() + ": " + problem};
}

constexpr const char* cut_short = "is no importance matrix, or cut short; llama-imatrix makes one";

std::span<const float> floats_of(const ggml_tensor* tensor) {
  return {static_cast<const float*>(tensor->data), static_cast<std::size_t>(ggml_nelements(tensor))};
}

}  // namespace

importance_matrix::importance_matrix(std::filesystem::path path, const gguf_file& of) : path_{std::move(path)} {
  std::ifstream file{path_, std::ios::binary};
  if (!std::filesystem::is_regular_file(path_) || !file) refuse(path_, "there is no such file");
  const std::string content{std::istreambuf_iterator<char>{file}, {}};
  if (content.starts_with("GGUF"))
    read_gguf();
  else
    read_older(content);
  for (const auto& [tensor, values] : values_)
    if (!std::ranges::all_of(values, [](float each) { return std::isfinite(each) && each >= 0; }))
      refuse(path_, "has a negative or infinite number, or none, for " + klens::detail::name_text(tensor) + "; make it again");
  expect_model(of);
  programs::fingerprint_hasher hasher;
  fingerprint_ = hasher.add(std::as_bytes(std::span(content))).text();
}

void importance_matrix::read_gguf() {
  ggml_context* memory = nullptr;
  const gguf_context_ptr header{gguf_init_from_file(path_.c_str(), {.no_alloc = false, .ctx = &memory})};
  const ggml_context_ptr tensors{memory};
  if (!header) {
    (void)take_engine_error();
    refuse(path_, "is damaged or cut short; make it again");
  }
  for (const char* key : {"imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"})
    if (gguf_find_key(header.get(), key) < 0) refuse(path_, std::string{"has no "} + key + "; it is no importance matrix");
  const std::int64_t datasets = gguf_find_key(header.get(), "imatrix.datasets"),
                     chunks = gguf_find_key(header.get(), "imatrix.chunk_count");
  if (gguf_get_kv_type(header.get(), datasets) != GGUF_TYPE_ARRAY ||
      gguf_get_arr_type(header.get(), datasets) != GGUF_TYPE_STRING ||
      gguf_get_kv_type(header.get(), chunks) != GGUF_TYPE_UINT32)
    refuse(path_, "has imatrix.datasets that are no texts, or an imatrix.chunk_count that is no number; make it again");
  if (gguf_get_arr_n(header.get(), datasets) > 0) dataset_ = gguf_get_arr_str(header.get(), datasets, 0);
  chunks_ = gguf_get_val_u32(header.get(), chunks);
  constexpr std::string_view sums_end = ".in_sum2", counts_end = ".counts";
  for (ggml_tensor* each = ggml_get_first_tensor(memory); each; each = ggml_get_next_tensor(memory, each)) {
    std::string name = each->name;
    if (!name.ends_with(sums_end)) continue;
    name.resize(name.size() - sums_end.size());
    const ggml_tensor* const counts = ggml_get_tensor(memory, (name + std::string{counts_end}).c_str());
    if (!counts || counts->type != GGML_TYPE_F32 || each->type != GGML_TYPE_F32 || ggml_nelements(counts) < 1 ||
        ggml_nelements(each) % ggml_nelements(counts) != 0)
      refuse(path_, "has no counts for " + klens::detail::name_text(name) + "; make it again");
    take(name, floats_of(each), floats_of(counts));
  }
  if (values_.empty()) refuse(path_, "has no data");
}

void importance_matrix::announce_to(gguf_file& file) const {
  file.expect_entry("quantize.imatrix.file", path_.string());
  if (!dataset_.empty()) file.expect_entry("quantize.imatrix.dataset", dataset_);
  file.expect_entry("quantize.imatrix.entries_count", static_cast<std::uint32_t>(values_.size()));
  if (chunks_ > 0) file.expect_entry("quantize.imatrix.chunks_count", chunks_);
}

// As llama-quantize: what no token reached counts alike in all columns.
void importance_matrix::take(const std::string& tensor, std::span<const float> sums, std::span<const float> counts) {
  std::vector<float>& values = values_[tensor];
  const std::size_t columns = sums.size() / counts.size();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const auto count = static_cast<float>(std::lround(counts[i / columns]));
    values.push_back(count > 0 ? sums[i] / count : 1.0f);
  }
}

void importance_matrix::read_older(const std::string& content) {
  std::size_t at = 0;
  const auto number = [&] {
    std::int32_t value = 0;
    if (content.size() - at < sizeof(value)) refuse(path_, cut_short);
    std::memcpy(&value, content.data() + at, sizeof(value));
    at += sizeof(value);
    return value;
  };
  const auto bytes = [&](std::int64_t count) {
    if (count < 1 || static_cast<std::uint64_t>(count) > content.size() - at) refuse(path_, cut_short);
    const char* const begin = content.data() + at;
    at += static_cast<std::size_t>(count);
    return begin;
  };
  const std::int32_t entries = number();
  if (entries < 1) refuse(path_, cut_short);
  for (std::int32_t e = 0; e < entries; ++e) {
    const std::int32_t length = number();
    const std::string name{bytes(length), static_cast<std::size_t>(length)};
    const std::int32_t calls = number(), count = number();
    const char* const stored = bytes(std::int64_t{count} * static_cast<std::int64_t>(sizeof(float)));
    std::vector<float>& values = values_[name];
    values.resize(static_cast<std::size_t>(count));
    std::memcpy(values.data(), stored, values.size() * sizeof(float));
    if (calls > 0)
      for (float& each : values) each /= static_cast<float>(calls);
  }
  // newer files of this format go on with chunks and text
  if (content.size() - at < sizeof(std::int32_t)) return;
  chunks_ = static_cast<std::uint32_t>(std::max(0, number()));
  if (content.size() - at < sizeof(std::int32_t)) return;
  if (const std::int32_t length = number(); length > 0) dataset_.assign(bytes(length), static_cast<std::size_t>(length));
}

void importance_matrix::expect_model(const gguf_file& model) const {
  for (const auto& [tensor, values] : values_) {
    const auto known = std::ranges::find(model.tensors(), tensor, &gguf_tensor::name);
    if (known == model.tensors().end())
      refuse(path_, "is of another model: it has " + klens::detail::name_text(tensor) + ", which " +
                        model.path().filename().string() + " has not");
    if (values.size() != known->columns * known->experts)
      refuse(path_, "is of another model: it has " + std::to_string(values.size()) + " values for " +
                        klens::detail::name_text(tensor) + ", which has " + std::to_string(known->columns * known->experts) +
                        " columns");
  }
}

std::span<const float> importance_matrix::of(const std::string& tensor) const noexcept {
  const auto found = values_.find(tensor);
  return found == values_.end() ? std::span<const float>{} : std::span<const float>{found->second};
}

std::string importance_matrix::name() const { return path_.filename().string() + " (" + fingerprint_ + ")"; }

}  // namespace llama_adapter
