#pragma once

#include <cstddef>
#include <klens/detail/parallel_for.hpp>
#include <klens/error.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/as_staged.hpp>
#include <klens/rank/scan/compare_batch.hpp>
#include <klens/rank/scan/drawn_positions.hpp>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace klens::detail {

/// The states of one batch at the entries of the stages where candidates begin.
template <class State>
using stage_entries = std::map<std::size_t, State>;

struct ignore_exits {
  template <class State>
  void operator()(State&, std::size_t) const noexcept {}
};

/// Runs a batch through all stages and keeps the state at the entry of every wanted one; stages() stands for the head and is
/// always kept: the last one returned, from which logits are taken. at_exit(state, stage) sees the states after wanted stages.
template <class Staged, class Observer = ignore_exits>
[[nodiscard]] auto run_stages(Staged& forward, std::size_t batch, const std::vector<bool>& wanted,
                              const Observer& at_exit = {}) {
  auto state = forward.begin(batch);
  stage_entries<decltype(state)> entries;
  for (std::size_t stage = 0; stage < forward.stages(); ++stage) {
    if (wanted[stage]) entries.emplace(stage, state);
    forward.advance(state, stage);
    if (wanted[stage]) at_exit(state, stage);
  }
  entries.emplace(forward.stages(), std::move(state));
  return entries;
}

/// Which positions of a batch are measured, and how it falls into sequences and chunks. `first_sequence` is the batch's first.
[[nodiscard]] inline batch_reference lay_out_batch(std::size_t positions, std::size_t first_sequence,
                                                   const rank_options& options) {
  batch_reference of;
  of.length = options.sequence_length ? options.sequence_length : positions;
  if (positions == 0 || positions % of.length != 0)
    throw shape_error{"the forward gave " + std::to_string(positions) + " positions, not a whole number of sequences of " +
                      std::to_string(of.length)};
  of.sequences = positions / of.length;
  const std::size_t all_sequences = options.tokens.size() / of.length;
  std::vector<std::size_t> measured;
  for (std::size_t s = 0; s < of.sequences; ++s) {
    const std::vector<std::size_t> drawn =
        drawn_positions(options.positions, options.seed, first_sequence + s, all_sequences, of.length);
    for (const std::size_t each : drawn) of.rows.push_back(s * of.length + each);
    measured.push_back(drawn.size());
  }
  of.chunks = cut_into_chunks(measured);
  return of;
}

/// The logits of the untouched model at the measured positions, and what is known of each row.
template <class Staged, class State>
[[nodiscard]] batch_reference take_reference(Staged& forward, const State& state, std::size_t first_sequence,
                                             const rank_options& options) {
  batch_reference of;
  if constexpr (Staged::has_rows) {
    of = lay_out_batch(forward.positions(state), first_sequence, options);
    for (const chunk& each : of.chunks) {
      const matrix<float> part = forward.logits(state, std::span(of.rows).subspan(each.first, each.count));
      if (of.logits.size() == 0) of.logits.resize(static_cast<Eigen::Index>(of.rows.size()), part.cols());
      of.logits.middleRows(static_cast<Eigen::Index>(each.first), part.rows()) = part;
    }
  } else {
    matrix<float> all = forward.logits(state);
    of = lay_out_batch(static_cast<std::size_t>(all.rows()), first_sequence, options);
    if (of.rows.size() == static_cast<std::size_t>(all.rows())) {
      of.logits = std::move(all);
    } else {
      of.logits.resize(static_cast<Eigen::Index>(of.rows.size()), all.cols());
      for (std::size_t i = 0; i < of.rows.size(); ++i)
        of.logits.row(static_cast<Eigen::Index>(i)) = all.row(static_cast<Eigen::Index>(of.rows[i]));
    }
  }
  of.known.resize(of.rows.size());
  parallel_for(options.threads, of.chunks.size(), [&](std::size_t c) {
    for (std::size_t at = of.chunks[c].first; at < of.chunks[c].first + of.chunks[c].count; ++at) {
      try {
        of.known[at] = klens::describe_reference(row(of.logits, static_cast<Eigen::Index>(at)));
      } catch (const numeric_error& caught) {
        throw numeric_error{"the untouched model, " + of.place(at) + ": " + caught.what()};
      }
    }
  });
  return of;
}

}  // namespace klens::detail
