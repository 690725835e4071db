#pragma once

#include <cmath>
#include <klens/detail/float_bits.hpp>
#include <klens/metric/metric.hpp>
#include <limits>
#include <string_view>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// KL(P || Q): what the observed model loses against the reference, averaged over positions.
///   P = softmax(reference logits of the position), Q = softmax(observed)
/// Unit       nats; 0 where the rows agree up to a constant; higher is worse.
/// Edges      a token that is -inf in both rows adds nothing; -inf in observed alone gives +inf.
/// Precision  relative error below 1e-5 wherever it is above 1e-10 nats.
/// Source     Kullback and Leibler 1951; arXiv:2604.13440 (which uses the reverse); the stable form: metric/detail/
///            divergence_sums.hpp.
struct kl {
  static constexpr std::string_view name = "kl";
  static constexpr std::string_view unit = "nats/token";
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::kl;

  [[nodiscard]] double operator()(const position& at) const noexcept { return at.damage.kl; }
};
static_assert(metric<kl>);

/// KL(Q || P): the divergence seen from the observed model, averaged over positions. Times the sequence length it is what the
/// code of arXiv:2604.13440 computes.
/// Unit       nats; 0 where the rows agree up to a constant; higher is worse.
/// Edges      a token that is -inf in both rows adds nothing; -inf in reference alone gives +inf.
/// Precision  as kl.
struct reverse_kl {
  static constexpr std::string_view name = "reverse_kl";
  static constexpr std::string_view unit = "nats/token";
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::reverse_kl;

  [[nodiscard]] double operator()(const position& at) const noexcept { return at.damage.reverse_kl; }
};
static_assert(metric<reverse_kl>);

/// Jensen-Shannon divergence (KL(P, M) + KL(Q, M)) / 2 with M = (P + Q) / 2, averaged over positions: symmetric, at most ln 2.
/// Unit       nats; 0 where the rows agree up to a constant; higher is worse.
/// Edges      finite whatever is masked.
/// Source     Lin 1991, doi:10.1109/18.61115.
struct js {
  static constexpr std::string_view name = "js";
  static constexpr std::string_view unit = "nats/token";
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::js;

  [[nodiscard]] double operator()(const position& at) const noexcept { return at.damage.js; }
};
static_assert(metric<js>);

/// Mean over positions and the vocabulary of (observed - reference)^2, on raw logits.
/// Unit       squared logits; higher is worse. Unlike the divergences it sees a constant that is added to a row.
/// Edges      -inf in both rows adds 0 and counts as an element; in one alone it gives +inf.
struct mse {
  static constexpr std::string_view name = "mse";
  static constexpr std::string_view unit = "squared logits";
  static constexpr bool higher_is_worse = true;
  static constexpr double least = 0;
  static constexpr row_sums needs = row_sums::squared_error;

  [[nodiscard]] double operator()(const position& at) const noexcept {
    return at.damage.squared_error / static_cast<double>(at.reference.size());
  }
};
static_assert(metric<mse>);

/// Signal to quantization noise of raw logits: 10 log10(sum reference^2 / sum (observed - reference)^2), both sums over all
/// positions and the vocabulary. A contribution is a position's noise, weighted with its energy, so that the mean is the ratio.
/// Unit       dB; +inf where no logit moved; lower is worse.
struct sqnr {
  static constexpr std::string_view name = "sqnr";
  static constexpr std::string_view unit = "dB";
  static constexpr bool higher_is_worse = false;
  static constexpr double least = 0;
  static constexpr damage_scale damage = damage_scale::noise_over_signal_db;
  static constexpr row_sums needs = row_sums::squared_error;

  [[nodiscard]] contribution operator()(const position& at) const noexcept {
    return {at.damage.squared_error, at.damage.reference_energy};
  }
  [[nodiscard]] double finish(double ratio) const noexcept { return -10 * std::log10(ratio); }
};
static_assert(metric<sqnr>);

/// ln P(x) - ln Q(x) of the token x that follows, averaged over the positions that have one: what quantization adds to the
/// cross-entropy. A single position may well gain.
/// Unit       nats; higher is worse.
/// Edges      a next token masked in observed alone gives +inf, in reference alone -inf, in both 0.
struct delta_ce {
  static constexpr std::string_view name = "delta_ce";
  static constexpr std::string_view unit = "nats/token";
  static constexpr bool higher_is_worse = true;
  static constexpr row_sums needs = row_sums::kl;

  [[nodiscard]] contribution operator()(const position& at) const noexcept {
    if (!at.next_token) return {0, 0};
    const double before = static_cast<double>(at.reference[*at.next_token]);
    const double after = static_cast<double>(at.observed[*at.next_token]);
    if (before == after && detail::is_infinite(before)) return 0.0;  // masked in both
    return at.damage.log_partition_change - (after - before);
  }
};
static_assert(metric<delta_ce>);

/// Share of positions where reference and observed logits are largest at the same token; of equal logits the first one counts.
/// Unit       share, 0 to 1; 1 where the rows agree; lower is worse.
struct top1 {
  static constexpr std::string_view name = "top1";
  static constexpr std::string_view unit = "share";
  static constexpr bool higher_is_worse = false;
  static constexpr double least = 0;
  static constexpr damage_scale damage = damage_scale::one_minus_mean;
  static constexpr row_sums needs = row_sums::same_top;

  [[nodiscard]] double operator()(const position& at) const noexcept { return at.damage.same_top ? 1 : 0; }
};
static_assert(metric<top1>);

}  // namespace klens
