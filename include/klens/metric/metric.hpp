#pragma once

#include <concepts>
#include <cstddef>
#include <klens/detail/instruction_set.hpp>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET {

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

/// What a metric says of one position: its value and the weight it has in the mean. Weight 0: the position does not count.
struct contribution {
  double value = 0;
  double weight = 1;

  constexpr contribution() = default;
  constexpr contribution(double of_value, double with_weight = 1) noexcept : value(of_value), weight(with_weight) {}  // NOLINT
};

/// What a metric sees of one position: both rows of raw logits, the token that follows (none at the end of a sequence), and the
/// sums that one shared sweep over both rows gave, as far as the metrics of this call need them.
struct position {
  std::span<const float> reference;
  std::span<const float> observed;
  std::optional<std::size_t> next_token;
  const row_damage& damage;
};

/// How a metric's mean becomes damage: a number that rises with what is lost, is 0 where nothing is, and adds up over layers.
enum class damage_scale {
  unknown,               ///< the metric does not say: its mean is taken as damage where higher is worse, and refused elsewhere
  mean,                  ///< the mean itself: a divergence, a squared error
  one_minus_mean,        ///< a share of agreement becomes one of disagreement
  noise_over_signal_db,  ///< decibels of signal over noise become the ratio of noise to signal
};

/// Measures one position at a time. What a metric returns for a position is a `contribution`, a value with a weight (a plain
/// double has weight 1); its mean over many positions is sum of values / sum of weights. Optional members:
///   static constexpr row_sums needs = ...;   what the shared sweep over both rows has to compute for it
///   double finish(double mean) const;        from the mean to what is reported (SQNR: to decibels); monotone
///   static constexpr double least = ...;     what no mean can be below (0 for a divergence): intervals end there
///   static constexpr damage_scale damage = ...;  how its mean becomes damage that adds up over layers, for plans and plots
template <class M>
concept metric = requires(const M& m, const position& at) {
  { M::name } -> std::convertible_to<std::string_view>;
  { M::unit } -> std::convertible_to<std::string_view>;
  { M::higher_is_worse } -> std::convertible_to<bool>;
  { m(at) } -> std::convertible_to<contribution>;
}
&&std::copyable<M>;

}  // namespace klens
