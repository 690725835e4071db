#pragma once

#include <cstddef>

namespace klens {

/// What a sweep over two rows of logits may compute; metrics say which of it they need. Combine with |.
enum class row_sums : unsigned { none = 0, kl = 1, reverse_kl = 2, squared_error = 4, js = 8, same_top = 16 };

[[nodiscard]] constexpr row_sums operator|(row_sums a, row_sums b) noexcept {
  return static_cast<row_sums>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
[[nodiscard]] constexpr bool contains(row_sums all, row_sums one) noexcept {
  return (static_cast<unsigned>(all) & static_cast<unsigned>(one)) == static_cast<unsigned>(one);
}

[[nodiscard]] constexpr bool intersects(row_sums a, row_sums b) noexcept {
  return (static_cast<unsigned>(a) & static_cast<unsigned>(b)) != 0;
}

/// What is computed once for a row of reference logits and reused for every candidate.
struct reference_row {
  double log_sum_exp = 0;  ///< ln sum exp x
  double energy = 0;       ///< sum x^2 over the logits that are not -inf
  std::size_t top = 0;     ///< the first index of the largest logit
  bool masked = false;     ///< whether a logit is -inf
};

/// One row's damage, in nats where it is a divergence. Only what was asked for is to be relied on.
struct row_damage {
  double log_partition_change = 0;  ///< ln sum exp y - ln sum exp x (asked for with kl)
  bool same_top = true;             ///< the largest observed logit is the largest reference logit
  double kl = 0;                    ///< KL(P || Q)
  double reverse_kl = 0;            ///< KL(Q || P)
  double js = 0;                    ///< (KL(P, M) + KL(Q, M)) / 2
  double squared_error = 0;         ///< sum (y - x)^2
  double reference_energy = 0;      ///< sum x^2, copied from the reference row
};

}  // namespace klens
