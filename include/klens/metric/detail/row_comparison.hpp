#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/metric/detail/divergence_sums.hpp>
#include <klens/metric/detail/row_sweeps.hpp>
#include <klens/metric/metric.hpp>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Sum of (y - x)^2 in double, where float squares are too large. Equal infinities differ by 0.
[[nodiscard]] inline double wide_squared_error(std::span<const float> x, std::span<const float> y) noexcept {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double difference = x[i] == y[i] ? 0.0 : static_cast<double>(y[i]) - static_cast<double>(x[i]);
    sum += difference * difference;
  }
  return sum;
}

/// Whether a row holds logits: each is finite or -inf (masked), and not all are masked.
[[nodiscard]] inline bool are_logits(const row_summary& summary, std::span<const float> row) noexcept {
  return summary.masked < static_cast<double>(row.size());
}

/// Fills in `known` from what the sweeps say of a row. False where these are no logits.
[[nodiscard]] inline bool describe(const row_summary& summary, std::span<const float> row, reference_row& known) noexcept {
  if (!are_logits(summary, row)) return false;
  known = {static_cast<double>(row[summary.top]) + std::log(summary.partition), summary.energy, summary.top,
           summary.masked > 0};
  if (std::isinf(known.energy)) {  // squares too large for float
    known.energy = 0;
    for (const float x : row) known.energy += std::isinf(x) ? 0 : static_cast<double>(x) * static_cast<double>(x);
  }
  return true;
}

/// One comparison of two rows. The first sweep measures differences from that of the reference's top token, in float, and says
/// whether this was good enough; the few rows where it was not are swept again with care::exact, measured from the change of
/// the partition function, where every divergence is a sum of terms >= 0.
class row_comparison {
 public:
  row_comparison(const row_sweeps& sweeps, std::span<const float> reference, std::span<const float> observed,
                 const reference_row& known) noexcept
      : sweeps_(sweeps),
        x_(reference),
        y_(observed),
        known_(known),
        x_top_(reference[known.top]),
        partition_(std::exp(known.log_sum_exp - static_cast<double>(x_top_))) {
    damage_.reference_energy = known.energy;
  }

  /// False where the observed row is no row of logits.
  [[nodiscard]] bool measure(row_sums needs) noexcept {
    const bool has_js = contains(needs, row_sums::js);
    if (!sweep_once(has_js ? all_but_js : needs) && !sweep_exactly()) return false;
    if (has_js) damage_.js = sweeps_.compare(care::exact, row_sums::js, x_, y_, close_, known_.top).js / partition_;
    return true;
  }
  [[nodiscard]] const row_damage& damage() const noexcept { return damage_; }

 private:
  [[nodiscard]] bool sweep_once(row_sums needs) noexcept {
    const float y_top = y_[known_.top];
    const double shift = static_cast<double>(y_top) - static_cast<double>(x_top_);
    const care how = known_.masked ? care::masked : care::plain;
    const pair_sums sums = sweeps_.compare(how, needs, x_, y_, {x_top_, y_top, 1, shift}, known_.top);
    if (!std::isfinite(sums.squared_error)) return false;
    if (intersects(needs, row_sums::kl | row_sums::reverse_kl)) {
      if (sums.largest - y_top > 8) return false;  // the sums hold e^d: up to e^8 float is exact enough
      const divergence_sums means = means_of(sums);
      const double others = 1 - 1 / partition_ + 1e-6;  // the mass beside the top token; float sums know it to 1e-6
      if (!means.trustworthy(shift, others)) return false;
      take(means, shift);
      close_ = anchored(y_top, 1 / (1 + means.s));
    }
    damage_.squared_error = sums.squared_error;
    damage_.same_top = sums.keeps_top;
    return true;
  }

  [[nodiscard]] bool sweep_exactly() noexcept {
    const row_summary observed = sweeps_.describe(y_);
    if (!are_logits(observed, y_)) return false;
    close_ = anchored(y_[observed.top], partition_ / observed.partition);
    const pair_sums sums = sweeps_.compare(care::exact, all_but_js, x_, y_, close_, known_.top);
    const divergence_sums means = means_of(sums);
    take(means, close_.shift);
    close_ = anchored(close_.y_from, static_cast<double>(close_.scale) / (1 + means.s));
    damage_.squared_error = std::isfinite(sums.squared_error) ? sums.squared_error : wide_squared_error(x_, y_);
    damage_.same_top = observed.top == known_.top;
    return true;
  }

  [[nodiscard]] divergence_sums means_of(const pair_sums& sums) const noexcept {
    return {sums.drift / partition_, sums.change / partition_, sums.kl / partition_, sums.reverse_kl / partition_};
  }

  void take(const divergence_sums& means, double shift) noexcept {
    damage_.log_partition_change = shift + std::log1p(means.s);
    damage_.kl = means.kl;
    damage_.reverse_kl = means.reverse_kl;
  }

  [[nodiscard]] anchor anchored(float y_from, double scale) const noexcept {
    const auto kept = static_cast<float>(scale);
    return {x_top_, y_from, kept,
            static_cast<double>(y_from) - static_cast<double>(x_top_) - std::log(static_cast<double>(kept))};
  }

  row_sweeps sweeps_;
  std::span<const float> x_, y_;
  const reference_row& known_;
  float x_top_;
  double partition_;  // sum of e^(x - x_top)
  anchor close_;      // to the change of the partition function
  row_damage damage_;
};

// What compare_rows.hpp calls. compiled_rows.hpp has the same for users of klens::compiled.

[[nodiscard]] inline bool describe_logits(std::span<const float> row, reference_row& known) noexcept {
  return describe(describe_row<best_arch>(row), row, known);
}
[[nodiscard]] inline bool compare_logits(std::span<const float> reference, std::span<const float> observed,
                                         const reference_row& known, row_sums needs, row_damage& damage,
                                         const row_sweeps& sweeps = chosen_sweeps()) noexcept {
  row_comparison comparison{sweeps, reference, observed, known};
  if (!comparison.measure(needs)) return false;
  damage = comparison.damage();
  return true;
}
/// The same for sums that are known at compile time.
template <row_sums Needs>
[[nodiscard]] bool compare_logits_for(std::span<const float> reference, std::span<const float> observed,
                                      const reference_row& known, row_damage& damage) noexcept {
  return compare_logits(reference, observed, known, Needs, damage,
                        {&describe_row<best_arch>, &compare_known<Needs, best_arch>});
}

}  // namespace klens::detail
