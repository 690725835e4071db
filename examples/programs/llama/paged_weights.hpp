#pragma once

#include <ggml-cpp.h>
#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/scheme.hpp>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace llama_adapter {

/// How the graphs of a model use a matrix.
enum class matrix_use {
  block,   ///< products inside of a block: float32 while its block is loaded
  lookup,  ///< rows of it are looked up: stays as it is stored, which gives the same floats
  head,    ///< one product after the last block: unpacked a panel at a time by whoever makes that product
  other    ///< float32 all the time
};

/// A matrix of a model that llama-quantize would change. Its weights are the file's, or what a candidate keeps of them.
struct paged_matrix {
  struct packed {
    ggml_type type = GGML_TYPE_F32;
    const std::byte* data = nullptr;
  };
  struct copy {
    ggml_tensor* tensor = nullptr;  ///< several where an embedding is the head as well
    matrix_use use = matrix_use::other;
    std::size_t slot = 0;  ///< of a block's matrix: where its floats lie, counted in floats
  };

  std::string name;
  int block = -1;
  std::size_t rows = 0, columns = 0;
  std::size_t rows_of_expert = 0;  ///< rows, where there are no experts
  std::vector<copy> copies;
  packed file, current;
  bool is_mapped = false;          ///< the file's weights: their pages need not stay in memory
  std::vector<std::byte> changed;  ///< what a candidate keeps, packed
  klens::matrix<float> lent;       ///< or as floats that somebody has borrowed
};

/// Packs the rows of a matrix for a candidate.
class row_packer {
 public:
  virtual ~row_packer() = default;
  [[nodiscard]] virtual ggml_type type() const = 0;
  virtual void pack(std::span<const float> weights, std::size_t row, std::span<std::byte> packed) const = 0;
  virtual void unpack(std::span<const std::byte> packed, std::span<float> kept) const = 0;
};

/// The matrices of a model that is computed with in float32 while its file stays as it is stored: floats are there for one block
/// at a time. Not for several threads at once.
class paged_weights {
 public:
  /// What packs a matrix as a scheme.
  using packers = std::function<std::unique_ptr<row_packer>(const paged_matrix& of, const klens::scheme& as)>;

  paged_weights(std::vector<paged_matrix> matrices, packers packer_of, std::size_t threads);
  ~paged_weights();  ///< the tensors are again what the file stores
  paged_weights(const paged_weights&) = delete;
  paged_weights& operator=(const paged_weights&) = delete;

  /// The block whose floats the nodes with this source need; nothing where it is none of these matrices, or no block's.
  [[nodiscard]] std::optional<int> block_of(const ggml_tensor* source) const;
  [[nodiscard]] const paged_matrix* find(const ggml_tensor* tensor) const;
  /// Makes the floats of a block the ones that its tensors have.
  void load(int block);

  /// Rows first, first + 1, ... of the current weights.
  void unpack(const paged_matrix& from, std::size_t first, klens::matrix_ref<float> into) const;

  /// The file's own rows are not needed for now: where it is mapped, their pages leave memory, and neighbours with them.
  void leave(const paged_matrix& of, std::size_t first, std::size_t count) const;

  [[nodiscard]] std::span<const std::unique_ptr<paged_matrix>> matrices() const noexcept { return matrices_; }
  /// A layer for each of them, which ends with this object.
  [[nodiscard]] std::vector<klens::layer> layers();
  /// Bytes of all floats that are kept.
  [[nodiscard]] std::size_t float_bytes() const noexcept { return (arena_.size() + kept_) * sizeof(float); }

 private:
  void place(paged_matrix& matrix);
  void refresh(paged_matrix& matrix);
  void fill_slot(const paged_matrix& from, std::size_t slot);
  [[nodiscard]] klens::weight_change change(paged_matrix& matrix, const klens::scheme& as, std::size_t threads);

  std::vector<std::unique_ptr<paged_matrix>> matrices_;  // layers refer to them
  packers packer_of_;
  std::size_t threads_;
  std::vector<float> arena_;
  std::size_t kept_ = 0;  // floats at the arena's end, of matrices that are no block's
  std::optional<int> loaded_;
  const std::byte *mapped_begin_ = nullptr, *mapped_end_ = nullptr;  // of all mapped matrices, which lie in one file
};

/// Rows of a stored matrix as floats.
void unpack_rows(const paged_matrix::packed& from, std::size_t columns, std::size_t first, klens::matrix_ref<float> into);

}  // namespace llama_adapter
