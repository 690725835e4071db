#include "gguf_file.hpp"

#include <ggml.h>
#include <llama.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <klens/error.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "engine.hpp"

namespace llama_adapter {
namespace {

constexpr const char* split_count = "split.count";

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& problem) {
  throw klens::file_error{path.string() + ": " + problem};
}

void expect_magic(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) refuse(path, "there is no such file; klens-llama wants a model in GGUF");
  std::array<char, 4> magic{};
  std::ifstream{path, std::ios::binary}.read(magic.data(), magic.size());
  if (std::string_view{magic.data(), magic.size()} != "GGUF")
    refuse(path, "is no GGUF file; llama.cpp's convert_hf_to_gguf.py makes one from a Hugging Face folder");
}

// A split file counts its parts in a number of any width.
std::uint64_t unsigned_value(const gguf_context* header, const char* key) {
  const std::int64_t at = gguf_find_key(header, key);
  if (at < 0) return 0;
  switch (gguf_get_kv_type(header, at)) {
    case GGUF_TYPE_UINT8:
      return gguf_get_val_u8(header, at);
    case GGUF_TYPE_UINT16:
      return gguf_get_val_u16(header, at);
    case GGUF_TYPE_UINT32:
      return gguf_get_val_u32(header, at);
    case GGUF_TYPE_UINT64:
      return gguf_get_val_u64(header, at);
    default:
      return 0;
  }
}

// Reads all but the weights, and lays out a short forward: what llama.cpp asserts of a model, it asserts here.
void load_without_weights(const std::filesystem::path& path) {
  llama_model_params of_model = llama_model_default_params();
  of_model.n_gpu_layers = 0;
  of_model.load_mode = LLAMA_LOAD_MODE_NONE;
  of_model.use_extra_bufts = false;
  of_model.no_alloc = true;
  llama_model* const model = llama_model_load_from_file(path.c_str(), of_model);
  if (!model) throw klens::error{take_engine_error()};
  if (llama_model_has_encoder(model) || !llama_model_has_decoder(model))
    throw klens::error{"it is an encoder; klens ranks models that predict the next token"};
  llama_context_params of_context = llama_context_default_params();
  of_context.n_ctx = of_context.n_batch = of_context.n_ubatch = 32;
  if (!llama_init_from_model(model, of_context)) throw klens::error{take_engine_error()};
}

}  // namespace

std::uint64_t bytes_as(ggml_type type, std::uint64_t rows, std::uint64_t columns) {
  const auto block = static_cast<std::uint64_t>(ggml_blck_size(type));
  return rows * ((columns + block - 1) / block) * ggml_type_size(type);
}

gguf_file::gguf_file(std::filesystem::path path) : path_{std::move(path)} {
  expect_magic(path_);
  read_header();
  expect_whole();
  if (const std::optional<std::string> failure = failure_in_child([&] { load_without_weights(path_); }))
    refuse(path_, "llama.cpp " KLENS_LLAMA_VERSION " cannot load it: " + *failure);
}

void gguf_file::read_header() {
  ggml_context* shapes = nullptr;
  header_.reset(gguf_init_from_file(path_.c_str(), {.no_alloc = true, .ctx = &shapes}));
  shapes_.reset(shapes);
  if (!header_) refuse(path_, "is damaged or cut short (" + take_engine_error() + "); fetch or convert it again");
  if (const std::uint64_t parts = unsigned_value(header_.get(), split_count); parts > 1)
    refuse(path_, "is one of " + std::to_string(parts) + " parts of a model; put them together with llama-gguf-split --merge");
  for (ggml_tensor* each = ggml_get_first_tensor(shapes); each; each = ggml_get_next_tensor(shapes, each))
    tensors_.push_back({each->name, each->type, static_cast<std::uint64_t>(each->ne[0]),
                        static_cast<std::uint64_t>(ggml_nrows(each)), ggml_nbytes(each),
                        static_cast<std::uint64_t>(each->ne[2])});
}

void gguf_file::expect_whole() const {
  const std::uint64_t size = std::filesystem::file_size(path_), data = gguf_get_data_offset(header_.get());
  for (std::int64_t i = 0; i < gguf_get_n_tensors(header_.get()); ++i) {
    const std::uint64_t begin = gguf_get_tensor_offset(header_.get(), i), bytes = gguf_get_tensor_size(header_.get(), i);
    if (data > size || begin > size - data || bytes > size - data - begin)
      refuse(path_, "is cut short: " + klens::detail::name_text(gguf_get_tensor_name(header_.get(), i)) +
                        " ends behind the file's " + std::to_string(size) + " bytes; fetch or convert it again");
  }
}

const gguf_tensor& gguf_file::at(const std::string& name) const {
  const auto found = std::ranges::find(tensors_, name, &gguf_tensor::name);
  if (found == tensors_.end()) refuse(path_, "has no tensor " + klens::detail::name_text(name));
  return *found;
}

std::uint64_t gguf_file::weights() const noexcept {
  std::uint64_t sum = 0;
  for (const gguf_tensor& each : tensors_) sum += each.weights();
  return sum;
}

std::uint64_t gguf_file::bytes_in_file(const gguf_tensor& tensor, ggml_type type) const {
  return GGML_PAD(bytes_as(type, tensor.rows, tensor.columns), gguf_get_alignment(header_.get()));
}

std::uint64_t gguf_file::metadata_bytes() const {
  const gguf_context_ptr written{gguf_init_empty()};
  gguf_set_kv(written.get(), header_.get());
  gguf_set_val_u32(written.get(), "general.quantization_version", GGML_QNT_VERSION);
  gguf_set_val_u32(written.get(), "general.file_type", LLAMA_FTYPE_MOSTLY_Q8_0);
  for (const auto& [key, text] : texts_) gguf_set_val_str(written.get(), key.c_str(), text.c_str());
  for (const auto& [key, number] : numbers_) gguf_set_val_u32(written.get(), key.c_str(), number);
  for (const char* each : {"split.no", "split.count", "split.tensors.count"}) gguf_remove_key(written.get(), each);
  for (ggml_tensor* each = ggml_get_first_tensor(shapes_.get()); each; each = ggml_get_next_tensor(shapes_.get(), each))
    gguf_add_tensor(written.get(), each);
  return gguf_get_meta_size(written.get());
}

std::uint64_t gguf_file::file_bytes_as(const tensor_types& types) const {
  std::uint64_t bytes = metadata_bytes();
  for (const gguf_tensor& each : tensors_) {
    const auto type = types.find(each.name);
    bytes += bytes_in_file(each, type == types.end() ? each.type : type->second);
  }
  return bytes;
}

}  // namespace llama_adapter
