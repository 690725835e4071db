#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/totals.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/candidate_list.hpp>
#include <klens/rank/scan/check_request.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <klens/rank/scan/next_tokens.hpp>
#include <klens/rank/scan/reference_pass.hpp>
#include <klens/rank/scan/scan_effort.hpp>
#include <klens/rank/scan/settle_places.hpp>
#include <klens/rank/scan/summarize.hpp>
#include <klens/rank/scores.hpp>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The books of a scan: which candidates there are, what each has been found to do so far, what it cost, what is left.
class scan_book {
 public:
  scan_book(std::span<const layer> layers, const std::vector<scheme>& schemes, const std::vector<any_metric>& metrics,
            const rank_options& options, std::size_t stages)
      : metrics_{&metrics},
        options_{&options},
        effort_{options},
        result_{begun(layers, schemes, metrics, options, stages)},
        candidates_{layers, schemes, options.from, result_} {
    if (!options.rank_by.empty()) rank_by_ = result_.index_of(options.rank_by);
    if (options.resume) take_up(*options.resume);
  }

  [[nodiscard]] const candidate_list& candidates() const noexcept { return candidates_; }
  /// Whether this candidate, or another that it is measured for, is still in the scan.
  [[nodiscard]] bool alive(std::size_t candidate) const {
    const std::vector<std::size_t>& alike = candidates_.alike(candidate);
    return std::any_of(alike.begin(), alike.end(), [&](std::size_t c) { return is_alive(result_.candidates[c]); });
  }
  /// How many are to be measured.
  [[nodiscard]] std::size_t alive() const {
    std::size_t count = 0;
    for (std::size_t c = 0; c < result_.candidates.size(); ++c) count += alive(c) ? 1 : 0;
    return count;
  }
  [[nodiscard]] std::size_t batches_done() const noexcept { return batches_done_; }
  [[nodiscard]] batch_start next_batch() const noexcept { return {result_.sequences, result_.tokens}; }

  /// Enters a batch's reference.
  void open_batch(const batch_reference& reference) {
    first_token_ = result_.tokens;
    sequences_before_ = result_.sequences;
    if (!options_->tokens.empty()) {
      const std::vector<contribution> nll = nll_of_next_tokens(reference);
      result_.reference.nll_by_sequence.insert(result_.reference.nll_by_sequence.end(), nll.begin(), nll.end());
    }
    const std::size_t tokens = reference.sequences * reference.length;
    result_.tokens += tokens;
    result_.positions = positions_counted(*options_, result_.tokens);
    result_.sequences += reference.sequences;
    measured_in_batch_ = reference.rows.size();
    length_ = reference.length;
    effort_.open_batch(tokens, result_.tokens, alive());
  }

  /// Counts work done on the current batch, in whole forwards over it.
  void spend(double forwards) { effort_.spend(forwards); }

  /// Enters what a candidate, and those that it is measured for, did to the current batch.
  void add(std::size_t candidate, const weight_error& error, const batch_damage& damage, outcome result) {
    for_alike(candidate, [&](layer_score& each) {
      add_sequences(damage, each.metrics);
      if (options_->by_position)
        for (const std::vector<contribution>& bands : damage.bands) add_sequence(each.by_position, bands, length_);
      each.positions += measured_in_batch_;
      each.weight_sqnr_db = sqnr_db(error);
      if (each.result != outcome::measured && measured_in_batch_ > 0) each.result = result;
    });
  }

  /// Enters that a candidate was dealt with without being measured.
  void pass_over(std::size_t candidate, const weight_error& error) {
    for_alike(candidate, [&](layer_score& each) { each.weight_sqnr_db = sqnr_db(error); });
  }

  /// Enters that a candidate cannot be measured, and why. It leaves the scan; what it had is not kept, it would mislead.
  void fail(std::size_t candidate, const std::string& reason) {
    for_alike(candidate, [&](layer_score& each) {
      each.result = outcome::failed;
      each.reason = reason;
      each.positions = 0;
      each.metrics.assign(metrics_->size(), {});
      each.by_position.clear();
    });
  }

  /// Says how many candidates the current batch is for, and how many batches there will be, where that is not all of them.
  void expect(std::size_t candidates, std::size_t batches) { effort_.expect(candidates, batches); }

  /// Enters what a whole model under one scheme lost on the current batch.
  void add_quantized(const std::string& scheme_name, const batch_damage& damage) {
    std::vector<whole_score>& known = result_.quantized;
    std::size_t at = 0;
    while (at < known.size() && known[at].scheme != scheme_name) ++at;
    if (at == known.size()) known.push_back({scheme_name, std::vector<metric_score>(metrics_->size())});
    add_sequences(damage, known[at].metrics);
  }

  /// Enters the noise floor.
  void set_noise(const batch_damage& damage) {
    result_.noise.assign(metrics_->size(), {});
    add_sequences(damage, result_.noise);
  }

  /// Enters what the untouched model gave when it ran again over the first batch. Not the same bits: a remark says so.
  void add_repetition(const batch_damage& damage) {
    if (damage.changed || options_->noise_floor) set_noise(damage);
    if (!damage.changed) return;
    metric_score& apart = result_.noise[rank_by_];
    summarize((*metrics_)[rank_by_], apart, false);
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof digits, apart.mean, std::chars_format::general, 2);
    result_.remarks.push_back(
        joined({"the untouched model gave other logits when it ran again over the first batch (",
                result_.metrics[rank_by_].name, " ", std::string_view(digits, end.ptr), " ", result_.metrics[rank_by_].unit,
                "): scores no worse than that mean nothing; make the engine deterministic, or rank by what is "
                "well above it"}));
  }

  /// Tells the caller; false: it wants to stop.
  [[nodiscard]] bool report(std::size_t candidate) const {
    if (!options_->progress) return true;
    scan_progress now = effort_.progress(batches_done_);
    now.layer = result_.candidates[candidate].layer;
    now.scheme = result_.candidates[candidate].scheme;
    now.positions = result_.positions;
    return options_->progress(now);
  }

  /// Ends a batch: candidates whose place is settled leave.
  void close_batch() {
    ++batches_done_;
    effort_.close_batch();
    result_.cost = {effort_.forwards(batches_done_), effort_.seconds()};
    look at;
    at.confidence = options_->confidence;
    at.sequences = result_.sequences;
    at.sequences_before = sequences_before_;
    at.sequences_in_all = options_->sequence_length ? options_->tokens.size() / options_->sequence_length : 0;
    at.forwards = result_.cost.forwards;
    at.seconds = result_.cost.seconds;
    settle_places(result_, (*metrics_)[rank_by_], rank_by_, options_->stop, at);
    if (options_->checkpoint) options_->checkpoint({result_, batches_done_, effort_.spent()});
  }

  /// The result so far, with means and intervals.
  [[nodiscard]] scores finish(bool complete) const {
    scores done = result_;
    done.cost = {effort_.forwards(batches_done_), effort_.seconds()};
    done.complete = complete;
    const bool savings = options_->from == direction::from_quantized;
    for (layer_score& each : done.candidates) summarize(each.by_position, metrics_->front().least);
    for (std::size_t m = 0; m < metrics_->size(); ++m) {
      for (layer_score& each : done.candidates) summarize((*metrics_)[m], each.metrics[m], savings);
      for (whole_score& each : done.quantized) summarize((*metrics_)[m], each.metrics[m], false);
      if (!done.noise.empty()) summarize((*metrics_)[m], done.noise[m], false);
      if (is_unknown_to_all(done, m))
        done.remarks.push_back(joined({done.metrics[m].name,
                                       ": no position counts for it, so it is unknown (a metric of the next token needs "
                                       "options.tokens, and sequences of at least two tokens that count)"}));
    }
    return done;
  }

 private:
  /// A result without candidates, once the request is found in order.
  [[nodiscard]] static scores begun(std::span<const layer> layers, const std::vector<scheme>& schemes,
                                    const std::vector<any_metric>& metrics, const rank_options& options, std::size_t stages) {
    check_request(layers, schemes, metrics, options, stages);
    scores result;
    for (const any_metric& each : metrics) result.metrics.push_back(info_of(each));
    return result;
  }
  [[nodiscard]] static bool is_alive(const layer_score& each) noexcept {
    return each.place == standing::open && each.result != outcome::failed;
  }

  /// Calls work with a candidate and with those that it is measured for, as far as they are in the scan.
  template <class Work>
  void for_alike(std::size_t candidate, const Work& work) {
    for (const std::size_t each : candidates_.alike(candidate))
      if (is_alive(result_.candidates[each])) work(result_.candidates[each]);
    effort_.finish_candidate();
  }

  void take_up(const scan_checkpoint& from) {
    bool fits = from.so_far.candidates.size() == result_.candidates.size() && same_metrics(from.so_far, result_);
    for (std::size_t c = 0; fits && c < result_.candidates.size(); ++c) {
      const layer_score &a = from.so_far.candidates[c], &b = result_.candidates[c];
      fits = a.layer == b.layer && a.scheme == b.scheme && a.rows == b.rows && a.columns == b.columns;
    }
    if (!fits)
      throw argument_error{"options.resume is of another scan: its layers, schemes or metrics are not those asked for"};
    check_resumed(from, *options_);
    result_ = from.so_far;
    result_.tokens = std::max(result_.tokens, result_.positions);
    batches_done_ = from.batches;
    effort_.take_up(from.spent, from.so_far.cost.seconds);
  }

  void add_sequences(const batch_damage& damage, std::vector<metric_score>& scores_of_metrics) const {
    for (const std::vector<metric_sums>& sequence : damage.sums)
      for (std::size_t m = 0; m < sequence.size(); ++m) {
        metric_score& score = scores_of_metrics[m];
        score.by_sequence.push_back(sequence[m].total);
        take_worst((*metrics_)[m].higher_is_worse, score.worst, score.worst_position, sequence[m].worst,
                   sequence[m].worst_row + first_token_);
      }
  }

  const std::vector<any_metric>* metrics_;
  const rank_options* options_;
  scan_effort effort_;
  scores result_;
  candidate_list candidates_;
  std::size_t rank_by_ = 0;
  std::size_t batches_done_ = 0;
  std::size_t sequences_before_ = 0;
  std::size_t first_token_ = 0;
  std::size_t measured_in_batch_ = 0;
  std::size_t length_ = 0;  // of the batch's sequences
};

}  // namespace klens::detail
