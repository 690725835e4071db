#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/totals.hpp>
#include <klens/rank/scan/summarize.hpp>
#include <klens/rank/scores.hpp>
#include <string>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Joins two exhaustive scans of the same candidates over disjoint tokens: the sequences of `first`, then those of `second`.
/// Candidates and whole models are matched by layer and scheme, in whatever order each scan lists them.
/// The result is, bit for bit, that of one scan over all of them, since sums are kept by sequence; costs are added up, remarks
/// are joined. A candidate that failed in one of them has failed in the joint scan.
/// Throws     argument_error where candidates or metrics differ, where a scan was stopped early, interrupted or not exact, or
///            where a metric is not one of klens' own.
[[nodiscard]] inline scores merge(const scores& first, const scores& second) {
  const auto refuse = [](const std::string& problem) { throw argument_error{"these scans cannot be merged: " + problem}; };
  const auto same_candidate = [](const layer_score& a, const layer_score* b) {
    return b != nullptr && a.rows == b->rows && a.columns == b->columns;
  };
  const auto quantized_of = [](const scores& of, const std::string& scheme) {
    for (const whole_score& each : of.quantized)
      if (each.scheme == scheme) return &each;
    return static_cast<const whole_score*>(nullptr);
  };
  if (!detail::same_metrics(first, second)) refuse("their metrics differ");
  if (first.candidates.size() != second.candidates.size()) refuse("their layers or schemes differ");
  for (const layer_score& each : first.candidates)
    if (!same_candidate(each, second.find(each.layer, each.scheme))) refuse("their layers or schemes differ");
  if (first.quantized.size() != second.quantized.size()) refuse("one restores layers, the other quantizes them");
  for (const whole_score& each : first.quantized)
    if (quantized_of(second, each.scheme) == nullptr) refuse("their layers or schemes differ");
  for (const scores* each : {&first, &second}) {
    if (!each->complete) refuse("one was interrupted");
    for (const layer_score& candidate : each->candidates) {
      if (candidate.place != standing::open) refuse(candidate.layer + " left one of them early");
      if (candidate.result == outcome::measured && candidate.metrics.front().by_sequence.empty())
        refuse(candidate.layer + " was not scored by sequence (the methods local and refine do not)");
    }
  }

  scores all = first;
  const auto append = [&](std::vector<metric_score>& to, const std::vector<metric_score>& from, bool savings) {
    for (std::size_t m = 0; m < to.size(); ++m) {
      const any_metric metric = any_metric::parse(all.metrics[m].name);
      to[m].by_sequence.insert(to[m].by_sequence.end(), from[m].by_sequence.begin(), from[m].by_sequence.end());
      detail::take_worst(metric.higher_is_worse, to[m].worst, to[m].worst_position, from[m].worst,
                         from[m].worst_position + std::max(first.tokens, first.positions));
      detail::summarize(metric, to[m], savings);
    }
  };
  const bool savings = !all.quantized.empty();
  for (layer_score& candidate : all.candidates) {
    const layer_score& other = *second.find(candidate.layer, candidate.scheme);
    append(candidate.metrics, other.metrics, savings);
    candidate.positions += other.positions;
    if (candidate.result == outcome::output_unchanged) candidate.result = other.result;
    if (other.result == outcome::failed && candidate.result != outcome::failed) {
      candidate.result = outcome::failed;
      candidate.reason = other.reason;
    }
    if (candidate.result == outcome::failed) {
      candidate.positions = 0;
      candidate.metrics.assign(all.metrics.size(), {});
      candidate.by_position.clear();
      continue;
    }
    if (candidate.by_position.size() != other.by_position.size()) refuse("one has bands of position that the other has not");
    for (std::size_t b = 0; b < candidate.by_position.size(); ++b) {
      std::vector<contribution>& sums = candidate.by_position[b].by_sequence;
      const std::vector<contribution>& more = other.by_position[b].by_sequence;
      sums.insert(sums.end(), more.begin(), more.end());
    }
    if (!candidate.by_position.empty())
      detail::summarize(candidate.by_position, any_metric::parse(all.metrics.front().name).least);
  }
  for (whole_score& each : all.quantized) append(each.metrics, quantized_of(second, each.scheme)->metrics, false);
  all.reference.nll_by_sequence.insert(all.reference.nll_by_sequence.end(), second.reference.nll_by_sequence.begin(),
                                       second.reference.nll_by_sequence.end());
  for (const std::string& remark : second.remarks)
    if (std::find(all.remarks.begin(), all.remarks.end(), remark) == all.remarks.end()) all.remarks.push_back(remark);
  // Each counted forwards over its own part.
  const auto tokens_of = [](const scores& of) { return std::max(of.tokens, of.positions); };
  const auto part = [&](const scores& of) {
    return static_cast<double>(tokens_of(of)) / static_cast<double>(tokens_of(first) + tokens_of(second));
  };
  all.cost = {first.cost.forwards * part(first) + second.cost.forwards * part(second),
              first.cost.seconds + second.cost.seconds};
  all.sequences += second.sequences;
  all.positions += second.positions;
  all.tokens = tokens_of(first) + tokens_of(second);
  return all;
}

}  // namespace klens
