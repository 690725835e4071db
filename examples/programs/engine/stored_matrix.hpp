#pragma once

#include <klens/io/safetensors.hpp>
#include <klens/matrix.hpp>
#include <list>
#include <memory>
#include <utility>

namespace programs {

/// A matrix as its file keeps it (F32, F16 or BF16, mapped, not copied), read as float some rows at a time; or floats of its own,
/// where the file keeps codes. Rows can be lent: from then on they are the float memory that somebody writes to.
class stored_matrix {
 public:
  stored_matrix() = default;
  /// The whole of a tensor, whose elements must be rows times columns of a type that copy_floats reads.
  stored_matrix(std::shared_ptr<const klens::safetensors> file, const klens::stored_tensor& tensor, Eigen::Index rows,
                Eigen::Index columns);
  explicit stored_matrix(klens::matrix<float> own) : own_(std::move(own)), rows_(own_.rows()), columns_(own_.cols()) {}

  [[nodiscard]] Eigen::Index rows() const noexcept { return rows_; }
  [[nodiscard]] Eigen::Index columns() const noexcept { return columns_; }

  /// Rows first, first + 1, ... as they count now, with what is lent. Several threads may read at the same time.
  void read(Eigen::Index first, klens::matrix_ref<float> into) const;
  /// The same without what is lent.
  void read_own(Eigen::Index first, klens::matrix_ref<float> into) const;

  /// Float memory, uninitialised, that stands for `rows` rows from `first` on until it is taken back.
  [[nodiscard]] klens::matrix_ref<float> lend(Eigen::Index first, Eigen::Index rows);
  /// Ends what lend(first, rows) began.
  void take_back(Eigen::Index first, Eigen::Index rows) noexcept;

 private:
  struct lent_rows {
    lent_rows(Eigen::Index from, Eigen::Index rows, Eigen::Index columns);
    lent_rows(const lent_rows&) = delete;
    lent_rows& operator=(const lent_rows&) = delete;
    ~lent_rows();
    Eigen::Index first;
    klens::matrix<float> values;
  };
  enum class element { f32, f16, bf16 };

  std::shared_ptr<const klens::safetensors> file_;
  const std::byte* bytes_ = nullptr;
  element type_ = element::f32;
  klens::matrix<float> own_;  // instead of the file
  Eigen::Index rows_ = 0, columns_ = 0;
  std::list<lent_rows> lent_;
};

}  // namespace programs
