#pragma once

#include <klens/matrix.hpp>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Whether a type of Eigen's owns what it holds.
template <class T>
inline constexpr bool is_plain = std::is_base_of_v<Eigen::PlainObjectBase<T>, T>;

/// What a layer sees of a matrix, Map, Ref or block of rows. Stops the compiler with a sentence where it is nothing that a layer
/// can view.
template <class Weights>
[[nodiscard]] auto weight_view_of(Weights& weights) {
  using plain = std::remove_cv_t<Weights>;
  using scalar = typename plain::Scalar;
  constexpr bool known = std::is_same_v<scalar, float> || std::is_same_v<scalar, half> || std::is_same_v<scalar, bfloat16>;
  constexpr bool direct = (plain::Flags & Eigen::DirectAccessBit) != 0;
  constexpr bool writes = direct && (plain::Flags & Eigen::LvalueBit) != 0 && !(std::is_const_v<Weights> && is_plain<plain>);
  constexpr bool rows_in_one = plain::IsRowMajor;
  static_assert(known,
                "klens: a layer views float, klens::half or klens::bfloat16 weights; for others give a pair of load and "
                "store callables");
  static_assert(writes,
                "klens: a layer views weights that it can write: a matrix, Map or Ref that is not const, no expression");
  static_assert(rows_in_one,
                "klens: these weights are column-major, as Eigen's matrices are by default. A layer needs rows one "
                "after the other: keep them in a klens::matrix<float> (row-major), or give a pair of load and "
                "store callables");
  if constexpr (known && writes && rows_in_one && is_plain<plain>) {
    return matrix_ref<scalar>{weights};
  } else if constexpr (known && writes && rows_in_one) {
    plain view = weights;  // a const view writes as well
    return matrix_ref<scalar>{view};
  } else {  // a static_assert has stopped the compiler
    return matrix_ref<float>{Eigen::Map<matrix<float>, 0, Eigen::OuterStride<>>{nullptr, 0, 0, Eigen::OuterStride<>(0)}};
  }
}

}  // namespace klens::detail
