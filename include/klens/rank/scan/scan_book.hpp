#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <klens/rank/scan/next_tokens.hpp>
#include <klens/rank/scan/settle_places.hpp>
#include <klens/rank/scan/summarize.hpp>
#include <klens/rank/scores.hpp>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace klens::detail {

/// The books of a scan: which candidates there are, what each has been found to do so far, what it cost, what is left.
class scan_book {
 public:
  scan_book(std::span<const layer> layers, const std::vector<scheme>& schemes, const std::vector<any_metric>& metrics,
            const rank_options& options, std::size_t stages)
      : metrics_{&metrics}, options_{&options}, by_layer_(layers.size()), batches_expected_{options.batches} {
    expect_something(layers, schemes, metrics);
    std::set<std::string> names;
    for (const layer& each : layers) {
      if (!names.insert(each.name).second) throw argument_error{each.name + ": two layers have this name"};
      if (each.stage > stages)
        throw argument_error{each.name + ": its stage is " + std::to_string(each.stage) + ", the forward's head is stage " +
                             std::to_string(stages)};
    }
    for (std::size_t l = 0; l < layers.size(); ++l)
      for (std::size_t s = 0; s < schemes.size(); ++s) add_candidate(layers[l], l, schemes[s], s);
    if (result_.candidates.empty())
      throw argument_error{"no layer can be stored under any of the schemes: " + result_.skipped.front()};
    if (options.resume) take_up(*options.resume);
  }

  [[nodiscard]] const std::vector<std::size_t>& candidates_of(std::size_t layer_index) const { return by_layer_[layer_index]; }
  [[nodiscard]] std::size_t scheme_of(std::size_t candidate) const { return scheme_of_[candidate]; }
  [[nodiscard]] bool alive(std::size_t candidate) const { return result_.candidates[candidate].place == standing::open; }
  [[nodiscard]] std::size_t alive() const {
    return static_cast<std::size_t>(std::ranges::count(result_.candidates, standing::open, &layer_score::place));
  }
  [[nodiscard]] std::size_t batches_done() const noexcept { return batches_done_; }
  [[nodiscard]] std::size_t sequences_seen() const noexcept { return result_.sequences; }

  /// Enters a batch's reference, and gives it its next tokens.
  void open_batch(batch_reference& reference) {
    first_row_ = result_.positions;
    sequences_before_ = result_.sequences;
    if (!options_->tokens.empty()) {
      const std::vector<contribution> nll = take_next_tokens(reference, options_->tokens, first_row_);
      result_.reference.nll_by_sequence.insert(result_.reference.nll_by_sequence.end(), nll.begin(), nll.end());
    }
    result_.positions += reference.sequences * reference.length;
    result_.sequences += reference.sequences;
    measured_in_batch_ = reference.rows.size();
    rows_in_batch_ = reference.sequences * reference.length;
    spent_before_batch_ = spent_;
    alive_in_batch_ = alive();
    done_in_batch_ = 0;
  }

  /// Counts work done on the current batch, in whole forwards over it.
  void spend(double forwards) { spent_ += forwards * static_cast<double>(rows_in_batch_); }

  /// Enters what a candidate did to the current batch.
  void add(std::size_t candidate, const weight_error& error, const batch_damage& damage, outcome result) {
    layer_score& each = result_.candidates[candidate];
    add_sequences(damage, each.metrics);
    each.positions += measured_in_batch_;
    each.weight_sqnr_db = sqnr_db(error);
    if (each.result != outcome::measured) each.result = result;
    ++done_in_batch_;
  }

  /// Enters that a candidate was dealt with without being measured.
  void pass_over(std::size_t candidate, const weight_error& error) {
    result_.candidates[candidate].weight_sqnr_db = sqnr_db(error);
    ++done_in_batch_;
  }

  /// Says how many candidates the current batch is for, and how many batches there will be, where that is not all of them.
  void expect(std::size_t candidates, std::size_t batches) {
    alive_in_batch_ = candidates;
    batches_expected_ = batches;
  }

  /// Enters what a whole model under one scheme lost on the current batch.
  void add_quantized(const std::string& scheme_name, const batch_damage& damage) {
    auto found = std::ranges::find(result_.quantized, scheme_name, &whole_score::scheme);
    if (found == result_.quantized.end()) {
      result_.quantized.push_back({scheme_name, std::vector<metric_score>(metrics_->size())});
      found = std::prev(result_.quantized.end());
    }
    add_sequences(damage, found->metrics);
  }

  void set_noise(const batch_damage& damage) {
    result_.noise.resize(metrics_->size());
    add_sequences(damage, result_.noise);
  }

  /// Tells the caller; false: it wants to stop.
  [[nodiscard]] bool report(std::size_t candidate) const {
    if (!options_->progress) return true;
    const layer_score& each = result_.candidates[candidate];
    const double done = static_cast<double>(done_in_batch_) / static_cast<double>(alive_in_batch_);
    const double batches_left = static_cast<double>(batches_expected_ - batches_done_) - done;
    const double in_batch = (spent_ - spent_before_batch_) / done;
    const double expected = forwards(spent_ + in_batch * batches_left);
    return options_->progress({batches_done_, batches_expected_, done_in_batch_, alive_in_batch_, each.layer, each.scheme,
                               result_.positions, forwards(spent_), expected, seconds(),
                               seconds() * (expected / forwards(spent_) - 1)});
  }

  /// Ends a batch: candidates whose place is settled leave.
  void close_batch() {
    ++batches_done_;
    look at;
    at.confidence = options_->confidence;
    at.sequences = result_.sequences;
    at.sequences_before = sequences_before_;
    at.sequences_in_all = options_->sequence_length ? options_->tokens.size() / options_->sequence_length : 0;
    at.forwards = forwards(spent_);
    at.seconds = seconds();
    settle_places(result_, (*metrics_)[rank_by_], rank_by_, options_->stop, at);
    if (options_->checkpoint) options_->checkpoint({result_, batches_done_, spent_});
  }

  /// The result so far, with means and intervals.
  [[nodiscard]] scores finish(bool complete) const {
    scores done = result_;
    done.cost = {forwards(spent_), seconds()};
    done.complete = complete;
    const bool savings = options_->from == direction::from_quantized;
    for (std::size_t m = 0; m < metrics_->size(); ++m) {
      for (layer_score& each : done.candidates) summarize((*metrics_)[m], each.metrics[m], savings);
      for (whole_score& each : done.quantized) summarize((*metrics_)[m], each.metrics[m], false);
      if (!done.noise.empty()) summarize((*metrics_)[m], done.noise[m], false);
    }
    return done;
  }

 private:
  void expect_something(std::span<const layer> layers, const std::vector<scheme>& schemes,
                        const std::vector<any_metric>& metrics) {
    if (layers.empty()) throw argument_error{"rank_layers: there is no layer to rank"};
    if (schemes.empty()) throw argument_error{"rank_layers: there is no scheme to rank layers under"};
    if (metrics.empty()) throw argument_error{"rank_layers: there is no metric to rank by"};
    if (options_->batches == 0) throw argument_error{"rank_layers: options.batches is 0; a scan needs at least one"};
    if (options_->positions != 0 && options_->tokens.empty())
      throw argument_error{"rank_layers: drawing options.positions needs options.tokens, which tell how many there are"};
    for (const any_metric& each : metrics) {
      if (options_->from == direction::from_quantized && each.has_finish())
        throw argument_error{"metric " + each.name +
                             " is no mean over positions: what restoring a layer saves of it is not defined"};
      if (std::ranges::find(result_.metrics, each.name, &metric_info::name) != result_.metrics.end())
        throw argument_error{"metric " + each.name + " is asked for twice"};
      result_.metrics.push_back({each.name, each.unit, each.higher_is_worse});
    }
    if (!options_->rank_by.empty()) rank_by_ = result_.index_of(options_->rank_by);
    if (!(options_->confidence > 0 && options_->confidence < 1))
      throw argument_error{"options.confidence is " + std::to_string(options_->confidence) + "; it lies between 0 and 1"};
  }

  void add_candidate(const layer& each, std::size_t layer_index, const scheme& storage, std::size_t scheme_index) {
    if (!storage.stores(each.columns())) {
      result_.skipped.push_back(each.name + ": " + storage.name() + " cannot store rows of " + std::to_string(each.columns()));
      return;
    }
    by_layer_[layer_index].push_back(result_.candidates.size());
    scheme_of_.push_back(scheme_index);
    layer_score candidate;
    candidate.layer = each.name;
    candidate.kind = each.kind;
    candidate.scheme = storage.name();
    candidate.note = each.note;
    candidate.rows = each.rows();
    candidate.columns = each.columns();
    candidate.bytes = storage.bytes(each.rows(), each.columns());
    candidate.metrics.resize(metrics_->size());
    if (find_candidate(candidate)) throw argument_error{"scheme " + candidate.scheme + " is asked for twice"};
    result_.candidates.push_back(std::move(candidate));
  }
  [[nodiscard]] bool find_candidate(const layer_score& like) const { return result_.find(like.layer, like.scheme) != nullptr; }

  void take_up(const scan_checkpoint& from) {
    const auto same = [](const layer_score& a, const layer_score& b) {
      return a.layer == b.layer && a.scheme == b.scheme && a.rows == b.rows && a.columns == b.columns;
    };
    const bool fits = std::ranges::equal(from.so_far.candidates, result_.candidates, same) &&
                      std::ranges::equal(from.so_far.metrics, result_.metrics, {}, &metric_info::name, &metric_info::name);
    if (!fits)
      throw argument_error{"options.resume is of another scan: its layers, schemes or metrics are not those asked for"};
    result_ = from.so_far;
    batches_done_ = from.batches;
    spent_ = from.spent;
  }

  void add_sequences(const batch_damage& damage, std::vector<metric_score>& scores_of_metrics) const {
    for (const std::vector<metric_sums>& sequence : damage.sums)
      for (std::size_t m = 0; m < sequence.size(); ++m) {
        metric_score& score = scores_of_metrics[m];
        score.by_sequence.push_back(sequence[m].total);
        take_worst((*metrics_)[m], score, sequence[m].worst, sequence[m].worst_row + first_row_);
      }
  }

  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  /// Work as whole forwards over the calibration set; without tokens its size is guessed from the batches seen.
  [[nodiscard]] double forwards(double spent) const noexcept {
    const double known = static_cast<double>(options_->tokens.size());
    const double guessed = static_cast<double>(result_.positions) * static_cast<double>(options_->batches) /
                           static_cast<double>(std::max<std::size_t>(batches_done_ + (done_in_batch_ > 0 ? 1 : 0), 1));
    const double all = known > 0 ? known : guessed;
    return all > 0 ? spent / all : 0;
  }

  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const std::vector<any_metric>* metrics_;
  const rank_options* options_;
  scores result_;
  std::vector<std::vector<std::size_t>> by_layer_;
  std::size_t batches_expected_;
  std::vector<std::size_t> scheme_of_;
  std::size_t rank_by_ = 0;
  std::size_t batches_done_ = 0;
  double spent_ = 0;
  std::size_t sequences_before_ = 0;
  std::size_t first_row_ = 0;
  std::size_t measured_in_batch_ = 0;
  std::size_t rows_in_batch_ = 0;
  double spent_before_batch_ = 0;
  std::size_t alive_in_batch_ = 0;
  std::size_t done_in_batch_ = 0;
};

}  // namespace klens::detail
