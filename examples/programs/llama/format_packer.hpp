#pragma once

#include <cstddef>
#include <klens/quant/scheme.hpp>
#include <memory>
#include <span>

#include "ggml_format.hpp"
#include "paged_weights.hpp"

namespace llama_adapter {

/// Packs the rows of a matrix as llama-quantize does.
class format_packer final : public row_packer {
 public:
  format_packer(const paged_matrix& of, const ggml_format& as) : format_{as}, columns_{of.columns} {}

  [[nodiscard]] static std::unique_ptr<row_packer> make(const paged_matrix& of, const klens::scheme& as) {
    return std::make_unique<format_packer>(of, ggml_format{as.name()});
  }

  [[nodiscard]] ggml_type type() const override { return format_.stored_type(columns_); }
  void pack(std::span<const float> weights, std::size_t, std::span<std::byte> packed) const override {
    format_.pack(weights, packed);
  }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const override { format_.unpack(packed, kept); }

 private:
  ggml_format format_;
  std::size_t columns_;
};

}  // namespace llama_adapter
