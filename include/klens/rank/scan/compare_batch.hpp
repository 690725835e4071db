#pragma once

#include <atomic>
#include <cstddef>
#include <cstring>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/totals.hpp>
#include <klens/rank/position_bands.hpp>
#include <klens/rank/scan/batch_reference.hpp>
#include <klens/rank/scan/driver.hpp>
#include <klens/rank/scan/logits_block.hpp>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// One metric's sums over one sequence, and its worst position.
struct metric_sums {
  contribution total{0, 0};
  double worst = std::numeric_limits<double>::quiet_NaN();
  std::size_t worst_row = 0;

  void add(const any_metric& metric, contribution at_row, std::size_t row_index) {
    total.value += at_row.value;
    total.weight += at_row.weight;
    if (at_row.weight != 0)
      take_worst(metric.higher_is_worse, worst, worst_row, metric.finish(at_row.value / at_row.weight), row_index);
  }
  void add(const any_metric& metric, const metric_sums& later) {
    total.value += later.total.value;
    total.weight += later.total.weight;
    take_worst(metric.higher_is_worse, worst, worst_row, later.worst, later.worst_row);
  }
};

/// What one candidate did to one batch: sums [sequence][metric], and whether any logit moved at all; of the first metric also
/// sums [sequence][band of positions].
struct batch_damage {
  std::vector<std::vector<metric_sums>> sums;
  bool changed = false;
  std::vector<std::vector<contribution>> bands{};
};

/// Throws where a metric's answer for a position cannot enter a mean.
inline void expect_contribution(const any_metric& metric, const contribution& given) {
  if (is_nan(given.value)) refuse<numeric_error>({"metric ", metric.name, " is NaN"});
  if (!(given.weight >= 0 && given.weight < std::numeric_limits<double>::infinity()))
    refuse<argument_error>({"metric ", metric.name, " gives a position the weight ", number_text(given.weight),
                            "; a weight is finite and at least 0"});
}

/// Compares a batch with its reference, panel by panel.
class batch_comparison {
 public:
  /// `by_position`, unless empty, takes the first metric's value at each measured position.
  batch_comparison(const batch_reference& reference, std::span<const any_metric> metrics, std::span<double> by_position = {})
      : reference_{reference}, metrics_{metrics}, by_position_{by_position}, measured_(reference.rows.size() * metrics.size()) {
    for (const any_metric& each : metrics) needs_ = needs_ | each.needs;
  }

  /// Takes in a panel: its i-th position is row which[i] of `observed`. Panels may be taken in by several threads at once.
  void take(const chunk& panel, const reference_logits& logits, const logits_block& observed,
            std::span<const std::size_t> which) {
    for (std::size_t i = 0; i < which.size(); ++i) {
      const std::size_t at = panel.first + i;
      const std::span<const float> x = logits.row(at), y = observed.row(which[i]);
      try {
        const row_damage damage = klens::compare_rows(x, y, reference_.known[at], needs_);
        if (std::memcmp(x.data(), y.data(), x.size_bytes()) != 0) changed_ = true;
        const position here{x, y, reference_.next_token(at), damage};
        for (std::size_t m = 0; m < metrics_.size(); ++m) {
          const contribution measured = metrics_[m](here);
          expect_contribution(metrics_[m], measured);
          measured_[at * metrics_.size() + m] = measured;
          if (m == 0 && !by_position_.empty()) by_position_[at] = measured.value;
        }
      } catch (const numeric_error& caught) {
        refuse<numeric_error>({reference_.place(at), ": ", caught.what()});
      }
    }
  }

  /// All panels together.
  [[nodiscard]] batch_damage total() const {
    batch_damage damage{{reference_.sequences, std::vector<metric_sums>(metrics_.size())}, changed_};
    for (const chunk& each : reference_.chunks)
      for (std::size_t m = 0; m < metrics_.size(); ++m) {
        metric_sums of_chunk;
        for (std::size_t at = each.first; at < each.first + each.count; ++at)
          of_chunk.add(metrics_[m], measured_[at * metrics_.size() + m], reference_.rows[at]);
        damage.sums[each.sequence][m].add(metrics_[m], of_chunk);
      }
    damage.bands.resize(reference_.sequences);
    for (const chunk& each : reference_.chunks)
      for (std::size_t at = each.first; at < each.first + each.count; ++at) {
        std::vector<contribution>& bands = damage.bands[each.sequence];
        const std::size_t band = band_of(reference_.rows[at] % reference_.length);
        if (bands.size() <= band) bands.resize(band + 1, {0, 0});
        bands[band].value += measured_[at * metrics_.size()].value;
        bands[band].weight += measured_[at * metrics_.size()].weight;
      }
    return damage;
  }

 private:
  const batch_reference& reference_;
  std::span<const any_metric> metrics_;
  std::span<double> by_position_;
  row_sums needs_ = row_sums::none;
  std::vector<contribution> measured_;  // [measured x metrics]
  std::atomic<bool> changed_ = false;
};

/// Which rows of a panel's own logits are its positions.
[[nodiscard]] inline std::vector<std::size_t> rows_in_order(std::size_t first, std::size_t count) {
  std::vector<std::size_t> rows(count);
  std::iota(rows.begin(), rows.end(), first);
  return rows;
}

/// Compares the logits of a state with the reference. `turns`: what a candidate that changes the head needs.
[[nodiscard]] inline batch_damage compare_batch(driver& forward, const any_state& state, const batch_reference& reference,
                                                std::span<const any_metric> metrics, std::size_t threads,
                                                const head_turns& turns = {}, std::span<double> by_position = {}) {
  batch_comparison comparison{reference, metrics, by_position};
  if (forward.has_rows()) {
    for_reference_panels(forward, reference, threads, turns, [&](const chunk& panel, const reference_logits& logits) {
      const logits_block chosen = forward.logits(state, reference.rows_of(panel));
      comparison.take(panel, logits, chosen, rows_in_order(0, panel.count));
    });
  } else {
    const logits_block all = forward.logits(state);
    if (static_cast<std::size_t>(all.rows()) != reference.sequences * reference.length)
      refuse<shape_error>({"the forward gave ", shape_text(all.rows(), all.columns()), " logits for a batch of ",
                           reference.sequences * reference.length, " positions"});
    for_reference_panels(forward, reference, threads, turns, [&](const chunk& panel, const reference_logits& logits) {
      comparison.take(panel, logits, all, reference.rows_of(panel));
    });
  }
  return comparison.total();
}

/// What every metric says of a candidate that changes nothing; no stage runs again.
[[nodiscard]] inline batch_damage compare_with_itself(driver& forward, const batch_reference& reference,
                                                      std::span<const any_metric> metrics, std::size_t threads) {
  batch_comparison comparison{reference, metrics};
  for_reference_panels(forward, reference, threads, {}, [&](const chunk& panel, const reference_logits& logits) {
    const logits_block same{logits.rows.data(), logits.rows.rows(), logits.rows.cols(), logits.rows.cols()};
    comparison.take(panel, logits, same, rows_in_order(panel.first - logits.first, panel.count));
  });
  return comparison.total();
}

/// Turns the damage that is left into what was saved of the whole damage. False: nothing was, to the last bit.
inline bool turn_into_savings(batch_damage& left, const batch_damage& whole) {
  bool any = false;
  for (std::size_t s = 0; s < whole.sums.size(); ++s)
    for (std::size_t m = 0; m < whole.sums[s].size(); ++m) {
      const double saved = whole.sums[s][m].total.value - left.sums[s][m].total.value;
      any = any || saved != 0;
      left.sums[s][m] = {{saved, whole.sums[s][m].total.weight}};
    }
  return any;
}

}  // namespace klens::detail
