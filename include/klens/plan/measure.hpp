#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/error.hpp>
#include <klens/forward.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/measure.hpp>
#include <klens/metric/metrics.hpp>
#include <klens/plan/apply.hpp>
#include <klens/stats/interval.hpp>
#include <span>
#include <string>
#include <tuple>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// -ln P(token) by a row of logits, in nats. Throws numeric_error for logits that are no numbers.
[[nodiscard]] inline double next_token_nll(std::span<const float> logits, std::int32_t token) {
  return describe_reference(logits).log_sum_exp - static_cast<double>(logits[static_cast<std::size_t>(token)]);
}

/// The positions of some logits.
struct measured_positions {
  std::size_t length = 0;                     ///< of a sequence; 0: all are one sequence
  std::span<const std::int32_t> tokens = {};  ///< one a position, -1: not to be predicted; empty: no perplexity
  std::vector<bool> counted = {};             ///< which positions count, as in rank_options; empty: all
  std::size_t threads = 1;                    ///< the result does not depend on it
};

/// What a version of a model was measured to be, against the untouched one on the same tokens.
struct measured_version {
  totals<klens::kl> kl{klens::kl{}};
  totals<klens::top1> top1{klens::top1{}};
  std::vector<contribution> kl_by_sequence, top1_by_sequence;
  std::vector<contribution> nll_by_sequence;  ///< sum of -ln Q(next token), and how many
  std::size_t taken_in = 0;                   ///< positions, those that do not count included

  /// Takes in what both models gave for the same sequences: logits [positions x vocabulary].
  /// Throws     shape_error; argument_error for a token outside the vocabulary; numeric_error, naming the position (of all taken
  ///            in), for logits that are no numbers where they count.
  void add(const const_matrix_ref<float>& reference, const const_matrix_ref<float>& observed, const measured_positions& at);

  /// exp(mean of -ln Q(next token)); NaN without tokens.
  [[nodiscard]] double perplexity() const { return std::exp(mean_of(nll_by_sequence)); }

  /// Standard errors of the means, from their spread between sequences; NaN for a single one.
  [[nodiscard]] double kl_error() const { return standard_error(kl_by_sequence); }
  [[nodiscard]] double top1_error() const { return standard_error(top1_by_sequence); }
  /// Standard error of this perplexity's difference to that of `base`: both read the same text, so most of the scatter of
  /// either is not in it.
  [[nodiscard]] double perplexity_error(const measured_version& base) const {
    if (nll_by_sequence.size() != base.nll_by_sequence.size())
      throw shape_error{"perplexity_error: one version was measured on " + std::to_string(nll_by_sequence.size()) +
                        " sequences, the other on " + std::to_string(base.nll_by_sequence.size())};
    std::vector<contribution> change = nll_by_sequence;
    for (std::size_t s = 0; s < change.size(); ++s) change[s].value -= base.nll_by_sequence[s].value;
    return perplexity() * standard_error(change);
  }
};

namespace detail {

/// One past the last of the positions from `first` on, before `end`, that all count or all do not.
[[nodiscard]] inline std::size_t end_of_run(const std::vector<bool>& counted, std::size_t first, std::size_t end) {
  if (counted.empty()) return end;
  std::size_t at = first;
  while (at < end && counted[at] == counted[first]) ++at;
  return at;
}

/// Sum of -ln Q(next token) over positions begin .. end of one sequence, and how many: where the position and the next one count.
[[nodiscard]] inline contribution nll_of_sequence(const const_matrix_ref<float>& observed, const measured_positions& at,
                                                  std::size_t begin, std::size_t end) {
  contribution sum{0, 0};
  for (std::size_t t = begin; t + 1 < end; ++t) {
    const std::int32_t token = at.tokens[t + 1];
    if (token == -1 || (!at.counted.empty() && !(at.counted[t] && at.counted[t + 1]))) continue;
    if (token < 0 || token >= observed.cols())
      throw argument_error{"measuring a version: token " + std::to_string(token) + " is outside the vocabulary of " +
                           std::to_string(observed.cols())};
    sum.value += next_token_nll(row(observed, static_cast<Eigen::Index>(t)), token);
    sum.weight += 1;
  }
  return sum;
}

}  // namespace detail

inline void measured_version::add(const const_matrix_ref<float>& reference, const const_matrix_ref<float>& observed,
                                  const measured_positions& at) {
  const auto rows = static_cast<std::size_t>(reference.rows());
  const std::size_t length = at.length == 0 ? rows : at.length;
  if (rows == 0 || rows % length != 0 || (!at.tokens.empty() && at.tokens.size() != rows) ||
      (!at.counted.empty() && at.counted.size() != rows))
    throw shape_error{"measuring a version: " + std::to_string(rows) + " positions, " + std::to_string(at.tokens.size()) +
                      " tokens, " + std::to_string(at.counted.size()) + " entries of counted, sequences of " +
                      std::to_string(length)};
  if (observed.rows() != reference.rows())
    throw shape_error{"measuring a version: the untouched model gave " + std::to_string(rows) + " positions, the version " +
                      std::to_string(observed.rows())};
  for (std::size_t first = 0; first < rows; first += length) {
    totals<klens::kl> own_kl{klens::kl{}};
    totals<klens::top1> own_top1{klens::top1{}};
    for (std::size_t begin = first, end = first; begin < first + length; begin = end) {
      end = detail::end_of_run(at.counted, begin, first + length);
      if (!at.counted.empty() && !at.counted[begin]) continue;
      const auto run = static_cast<Eigen::Index>(begin), count = static_cast<Eigen::Index>(end - begin);
      const auto [run_kl, run_top1] =
          measure(reference.middleRows(run, count), observed.middleRows(run, count),
                  {.first_position = taken_in + begin, .threads = at.threads}, klens::kl{}, klens::top1{});
      own_kl.merge(run_kl);
      own_top1.merge(run_top1);
    }
    kl.merge(own_kl);
    top1.merge(own_top1);
    kl_by_sequence.push_back(own_kl.sum());
    top1_by_sequence.push_back(own_top1.sum());
    if (!at.tokens.empty()) nll_by_sequence.push_back(detail::nll_of_sequence(observed, at, first, first + length));
  }
  taken_in += rows;
}

/// How versions are measured.
struct measure_versions_options {
  std::size_t batches = 1;
  std::size_t sequence_length = 0;            ///< positions in a sequence; 0: every batch is one
  std::span<const std::int32_t> tokens = {};  ///< of all batches in order, one a position, -1: not to be predicted; empty: no
                                              ///< perplexity
  std::vector<bool> counted = {};             ///< which positions count, of all batches in order; empty: all
  /// The logits of a batch that versions are held against, where they are not the untouched model's own (another engine's).
  std::function<matrix<float>(std::size_t batch)> reference{};
  std::function<void(std::size_t batch, std::size_t version)> progress{};  ///< called before each is run
  std::size_t threads = 1;                                                 ///< for rows and round trips
};

namespace detail {

/// All logits of one batch, whatever the forward's strength.
template <class Forward>
[[nodiscard]] matrix<float> logits_of_batch(Forward& forward, std::size_t batch) {
  if constexpr (staged_forward<Forward>) {
    auto state = forward.begin(batch);
    for (std::size_t stage = 0; stage < forward.stages(); ++stage) forward.advance(state, stage);
    return matrix_of(forward.logits(state));
  } else if constexpr (batched_forward<Forward>) {
    return matrix_of(forward(batch));
  } else {
    expect_forward<Forward>();
    return matrix_of(forward());
  }
}

/// Of all positions those of a batch, which begins at `first`.
[[nodiscard]] inline measured_positions positions_of_batch(const measure_versions_options& options, std::size_t first,
                                                           std::size_t rows) {
  const auto expect_enough = [&](std::size_t given, const char* what) {
    if (given != 0 && given < first + rows)
      throw shape_error{"measure_versions: " + std::to_string(given) + what + " for at least " + std::to_string(first + rows) +
                        " positions"};
  };
  expect_enough(options.tokens.size(), " tokens");
  expect_enough(options.counted.size(), " entries of counted");
  measured_positions at{options.sequence_length, options.tokens, {}, options.threads};
  if (!options.tokens.empty()) at.tokens = options.tokens.subspan(first, rows);
  const auto begin = options.counted.begin() + static_cast<std::ptrdiff_t>(first);
  if (!options.counted.empty()) at.counted.assign(begin, begin + static_cast<std::ptrdiff_t>(rows));
  return at;
}

}  // namespace detail

namespace detail {

/// Measures the untouched model (the first of `measured`) and those versions of which `runs` says so, batch by batch;
/// `after_batch` is called after each. Returns how many forwards over one batch that took.
template <class Forward, class Runs, class AfterBatch>
std::size_t measure_by_batch(Forward& forward, std::span<layer> layers, std::span<const model_version> versions,
                             const measure_versions_options& options, std::vector<measured_version>& measured, const Runs& runs,
                             const AfterBatch& after_batch) {
  measured.resize(versions.size() + 1);
  std::size_t first = 0, forwards = 0;
  for (std::size_t batch = 0; batch < options.batches; ++batch) {
    const auto observe = [&](std::size_t version) {
      if (options.progress) options.progress(batch, version);
      ++forwards;
      return logits_of_batch(forward, batch);
    };
    const matrix<float> untouched = observe(0);
    const matrix<float> other = options.reference ? options.reference(batch) : matrix<float>{};
    const matrix<float>& reference = options.reference ? other : untouched;
    const auto rows = static_cast<std::size_t>(untouched.rows());
    const measured_positions at = positions_of_batch(options, first, rows);
    measured[0].add(reference, untouched, at);
    for (std::size_t v = 0; v < versions.size(); ++v) {
      if (!runs(v)) continue;
      applied_version applied{layers, versions[v], {.threads = options.threads}};
      measured[v + 1].add(reference, applied.changed() ? observe(v + 1) : untouched, at);
      applied.restore();
    }
    first += rows;
    after_batch();
  }
  return forwards;
}

}  // namespace detail

/// Measures the untouched model (the first of the result), then each version, all on the same tokens. Weights are back when it
/// returns or throws. Batches are the outer loop: three of logits are in memory at most.
/// Throws     what applied_version, measured_version::add and the forward throw; shape_error where there are fewer tokens or
///            entries of counted than positions; restore_error where a layer could not be put back.
template <class Forward>
[[nodiscard]] std::vector<measured_version> measure_versions(Forward&& forward, std::span<layer> layers,
                                                             std::span<const model_version> versions,
                                                             const measure_versions_options& options = {}) {
  std::vector<measured_version> measured;
  (void)detail::measure_by_batch(
      forward, layers, versions, options, measured, [](std::size_t) { return true; }, [] {});
  return measured;
}

/// The same for versions that stand in braces: klens::measure_versions(forward, layers, {klens::version_of(plan)}).
template <class Forward>
[[nodiscard]] std::vector<measured_version> measure_versions(Forward&& forward, std::span<layer> layers,
                                                             const std::vector<model_version>& versions,
                                                             const measure_versions_options& options = {}) {
  return measure_versions(forward, layers, std::span<const model_version>{versions}, options);
}

}  // namespace klens
