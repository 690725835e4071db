#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/parallel_for.hpp>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/totals.hpp>
#include <klens/rank/scan/driver.hpp>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A run of measured positions within one sequence: what one thread takes at a time. Sums are formed within chunks in the order
/// of positions and then over chunks in their order, so no result depends on the number of threads or on how sequences were put
/// into batches.
struct chunk {
  std::size_t sequence = 0;  // in the batch
  std::size_t first = 0;     // among the batch's measured positions
  std::size_t count = 0;

  static constexpr std::size_t most = 256;
};

/// `measured` holds, for every sequence, how many of its positions are measured.
[[nodiscard]] inline std::vector<chunk> cut_into_chunks(std::span<const std::size_t> measured) {
  std::vector<chunk> chunks;
  std::size_t first = 0;
  for (std::size_t s = 0; s < measured.size(); first += measured[s++])
    for (std::size_t at = 0; at < measured[s]; at += chunk::most)
      chunks.push_back({s, first + at, std::min(chunk::most, measured[s] - at)});
  return chunks;
}

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

/// The reference side of one batch, kept while its candidates are measured.
struct batch_reference {
  std::size_t sequences = 0;
  std::size_t length = 0;            // positions in a sequence
  std::vector<std::size_t> rows;     // the measured positions, among all of the batch
  std::vector<chunk> chunks;         // of them
  matrix<float> logits;              // [measured x vocabulary]
  std::vector<reference_row> known;  // a row each
  std::vector<std::int64_t> next;  // the token after each measured position, -1 where there is none; empty: no tokens are known

  [[nodiscard]] std::optional<std::size_t> next_token(std::size_t measured) const {
    if (next.empty() || next[measured] < 0) return std::nullopt;
    return static_cast<std::size_t>(next[measured]);
  }
  [[nodiscard]] std::string place(std::size_t measured) const {
    return "sequence " + std::to_string(rows[measured] / length) + " of the batch, position " +
           std::to_string(rows[measured] % length);
  }
};

/// What one candidate did to one batch: sums [sequence][metric], and whether any logit moved at all.
struct batch_damage {
  std::vector<std::vector<metric_sums>> sums;
  bool changed = false;
};

/// Throws where a metric's answer for a position cannot enter a mean.
inline void expect_contribution(const any_metric& metric, const contribution& given) {
  if (is_nan(given.value)) throw numeric_error{"metric " + metric.name + " is NaN"};
  if (!(given.weight >= 0 && given.weight < std::numeric_limits<double>::infinity()))
    throw argument_error{"metric " + metric.name + " gives a position the weight " + number_text(given.weight) +
                         "; a weight is finite and at least 0"};
}

/// Compares a batch with its reference, chunk by chunk.
class batch_comparison {
 public:
  /// `by_position`, unless empty, takes the first metric's value at each measured position.
  batch_comparison(const batch_reference& reference, std::span<const any_metric> metrics, std::span<double> by_position = {})
      : reference_{reference}, metrics_{metrics}, by_position_{by_position}, by_chunk_(reference.chunks.size()) {
    for (const any_metric& each : metrics) needs_ = needs_ | each.needs;
  }

  /// Takes in a chunk: its i-th position is row which[i] of `observed`. Chunks may be taken in by several threads at once.
  void take(std::size_t c, const logits_block& observed, std::span<const std::size_t> which) {
    std::vector<metric_sums> sums(metrics_.size());
    bool changed = false;
    for (std::size_t i = 0; i < which.size(); ++i) {
      const std::size_t at = reference_.chunks[c].first + i;
      const auto x = row(reference_.logits, static_cast<Eigen::Index>(at));
      const std::span<const float> y = observed.row(which[i]);
      try {
        const row_damage damage = klens::compare_rows(x, y, reference_.known[at], needs_);
        changed = changed || std::memcmp(x.data(), y.data(), x.size_bytes()) != 0;
        const position here{x, y, reference_.next_token(at), damage};
        for (std::size_t m = 0; m < metrics_.size(); ++m) {
          const contribution measured = metrics_[m](here);
          expect_contribution(metrics_[m], measured);
          sums[m].add(metrics_[m], measured, reference_.rows[at]);
          if (m == 0 && !by_position_.empty()) by_position_[at] = measured.value;
        }
      } catch (const numeric_error& caught) {
        throw numeric_error{reference_.place(at) + ": " + caught.what()};
      }
    }
    by_chunk_[c] = {{std::move(sums)}, changed};
  }

  /// All chunks together.
  [[nodiscard]] batch_damage total() const {
    batch_damage damage{{reference_.sequences, std::vector<metric_sums>(metrics_.size())}, false};
    for (std::size_t c = 0; c < by_chunk_.size(); ++c) {
      for (std::size_t m = 0; m < metrics_.size(); ++m)
        damage.sums[reference_.chunks[c].sequence][m].add(metrics_[m], by_chunk_[c].sums[0][m]);
      damage.changed = damage.changed || by_chunk_[c].changed;
    }
    return damage;
  }

 private:
  const batch_reference& reference_;
  std::span<const any_metric> metrics_;
  std::span<double> by_position_;
  row_sums needs_ = row_sums::none;
  std::vector<batch_damage> by_chunk_;
};

/// Compares the logits of a state with the reference.
[[nodiscard]] inline batch_damage compare_batch(driver& forward, const any_state& state, const batch_reference& reference,
                                                std::span<const any_metric> metrics, std::size_t threads,
                                                std::span<double> by_position = {}) {
  batch_comparison comparison{reference, metrics, by_position};
  const auto rows_of = [&](std::size_t c) {
    return std::span(reference.rows).subspan(reference.chunks[c].first, reference.chunks[c].count);
  };
  if (forward.has_rows()) {
    parallel_for(threads, reference.chunks.size(), [&](std::size_t c) {
      std::vector<std::size_t> in_order(reference.chunks[c].count);
      std::iota(in_order.begin(), in_order.end(), std::size_t{0});
      const logits_block chosen = forward.logits(state, rows_of(c));
      comparison.take(c, chosen, in_order);
    });
  } else {
    const logits_block all = forward.logits(state);
    if (static_cast<std::size_t>(all.rows()) != reference.sequences * reference.length)
      throw shape_error{"the forward gave " + shape_text(all.rows(), all.columns()) + " logits for a batch of " +
                        std::to_string(reference.sequences * reference.length) + " positions"};
    parallel_for(threads, reference.chunks.size(), [&](std::size_t c) { comparison.take(c, all, rows_of(c)); });
  }
  return comparison.total();
}

/// What every metric says of a candidate that changes nothing; no forward is spent.
[[nodiscard]] inline batch_damage compare_with_itself(const batch_reference& reference, std::span<const any_metric> metrics,
                                                      std::size_t threads) {
  batch_comparison comparison{reference, metrics};
  std::vector<std::size_t> rows(reference.rows.size());
  std::iota(rows.begin(), rows.end(), std::size_t{0});
  const matrix<float>& logits = reference.logits;
  const logits_block same{logits.data(), logits.rows(), logits.cols(), logits.cols()};
  parallel_for(threads, reference.chunks.size(), [&](std::size_t c) {
    comparison.take(c, same, std::span(rows).subspan(reference.chunks[c].first, reference.chunks[c].count));
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
