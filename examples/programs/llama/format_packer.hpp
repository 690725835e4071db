#pragma once

#include <cstddef>
#include <klens/error.hpp>
#include <klens/quant/scheme.hpp>
#include <memory>
#include <span>

#include "ggml_format.hpp"
#include "importance.hpp"
#include "paged_weights.hpp"

namespace llama_adapter {

/// Packs the rows of a matrix as llama-quantize does, with the importance of its columns where it is known.
class format_packer final : public row_packer {
 public:
  /// `importance`: of the columns, once or for each expert.
  format_packer(const paged_matrix& of, const ggml_format& as, std::span<const float> importance)
      : format_{as}, columns_{of.columns}, rows_of_expert_{of.rows_of_expert}, importance_{importance} {
    if (ggml_quantize_requires_imatrix(type()) && importance_.empty())
      throw klens::argument_error{"as " + format_.name() + " it needs an importance matrix with data for it"};
  }

  /// For all matrices of a model; `importance` may be null, and must outlive what this returns.
  [[nodiscard]] static paged_weights::packers with(const importance_matrix* importance) {
    return [importance](const paged_matrix& of, const klens::scheme& as) -> std::unique_ptr<row_packer> {
      return std::make_unique<format_packer>(of, ggml_format{as.name()},
                                             importance ? importance->of(of.name) : std::span<const float>{});
    };
  }

  [[nodiscard]] ggml_type type() const override { return format_.stored_type(columns_); }
  void pack(std::span<const float> weights, std::size_t row, std::span<std::byte> packed) const override {
    format_.pack(weights, packed,
                 importance_.empty() ? importance_ : importance_.subspan(row / rows_of_expert_ * columns_, columns_));
  }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const override { format_.unpack(packed, kept); }

 private:
  ggml_format format_;
  std::size_t columns_, rows_of_expert_;
  std::span<const float> importance_;
};

}  // namespace llama_adapter
