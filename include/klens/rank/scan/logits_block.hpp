#pragma once

#include <cstddef>
#include <klens/forward.hpp>
#include <klens/matrix.hpp>
#include <span>
#include <type_traits>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// (Rows are copied as spans: Eigen's assignments cost whoever includes klens a quarter of a second each.)
inline void copy_row(std::span<const float> from, std::span<float> to) noexcept {
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = from[i];
}

/// Logits as a forward returned them: a matrix that is ours now, or a view of the forward's own memory.
class logits_block {
 public:
  explicit logits_block(matrix<float> own) : own_{std::move(own)}, rows_{own_.rows()}, columns_{own_.cols()} {}
  logits_block(const float* data, Eigen::Index rows, Eigen::Index columns, Eigen::Index stride)
      : seen_{data}, rows_{rows}, columns_{columns}, stride_{stride} {}

  [[nodiscard]] Eigen::Index rows() const noexcept { return rows_; }
  [[nodiscard]] Eigen::Index columns() const noexcept { return columns_; }
  [[nodiscard]] bool is_null() const noexcept { return own_.size() == 0 && seen_ == nullptr; }

  [[nodiscard]] std::span<const float> row(std::size_t index) const noexcept {
    const auto r = static_cast<Eigen::Index>(index);
    return {seen_ ? seen_ + r * stride_ : own_.data() + r * columns_, static_cast<std::size_t>(columns_)};
  }

  /// The logits as a matrix; copies only what is a view.
  [[nodiscard]] matrix<float> take() && {
    if (seen_ == nullptr) return std::move(own_);
    matrix<float> copy(rows_, columns_);
    for (Eigen::Index r = 0; r < rows_; ++r) copy_row(row(static_cast<std::size_t>(r)), klens::row(copy, r));
    return copy;
  }

 private:
  matrix<float> own_;
  const float* seen_ = nullptr;
  Eigen::Index rows_, columns_, stride_ = 0;
};

template <class T>
inline constexpr bool is_view = false;
template <class Matrix, int Options, class Stride>
inline constexpr bool is_view<Eigen::Map<Matrix, Options, Stride>> = true;
template <class Matrix, int Options, class Stride>
inline constexpr bool is_view<Eigen::Ref<Matrix, Options, Stride>> = !std::is_const_v<Matrix>;  // a Ref<const> may own a copy

/// Takes what a forward returned. Copies only what is not row-major, a matrix that somebody else keeps being a view.
template <logits_matrix Logits>
[[nodiscard]] logits_block block_of(Logits&& from) {
  using plain = std::remove_cvref_t<Logits>;
  if constexpr (std::is_same_v<plain, logits_view>)
    return {from.data, static_cast<Eigen::Index>(from.positions), static_cast<Eigen::Index>(from.vocabulary),
            static_cast<Eigen::Index>(from.stride)};
  else if constexpr (std::is_same_v<Logits, matrix<float>>)
    return logits_block{std::move(from)};
  else if constexpr (std::is_same_v<plain, matrix<float>> || is_view<plain>) {
    constexpr bool stays = std::is_lvalue_reference_v<Logits> || is_view<plain>;
    if constexpr (stays && plain::IsRowMajor && plain::InnerStrideAtCompileTime == 1)
      return {from.data(), from.rows(), from.cols(), from.outerStride()};
    else
      return logits_block{matrix<float>(from)};
  } else {
    return logits_block{matrix<float>(from)};
  }
}

}  // namespace klens::detail
