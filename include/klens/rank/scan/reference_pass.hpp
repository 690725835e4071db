#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <klens/error.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scan/batch_reference.hpp>
#include <klens/rank/scan/drawn_positions.hpp>
#include <klens/rank/scan/driver.hpp>
#include <klens/rank/scan/logits_block.hpp>
#include <klens/rank/scan/next_tokens.hpp>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The states of one batch at the entries of the stages where candidates begin.
using stage_entries = std::map<std::size_t, any_state>;

/// Runs a batch through all stages and keeps the state at the entry of every wanted one; stages() stands for the head and is
/// always kept: the last one returned, from which logits are taken. at_exit(state, stage) sees the states after wanted stages.
[[nodiscard]] inline stage_entries run_stages(driver& forward, std::size_t batch, const std::vector<bool>& wanted,
                                              const std::function<void(any_state&, std::size_t)>& at_exit = {}) {
  any_state state = forward.begin(batch);
  stage_entries entries;
  for (std::size_t stage = 0; stage < forward.stages(); ++stage) {
    if (wanted[stage]) entries.emplace(stage, state);
    forward.advance(state, stage);
    if (wanted[stage] && at_exit) at_exit(state, stage);
  }
  entries.emplace(forward.stages(), std::move(state));
  return entries;
}

/// What a scan has run over before a batch.
struct batch_start {
  std::size_t sequence = 0;  ///< the batch's first
  std::size_t token = 0;     ///< of that sequence, in the whole calibration set
};

/// Which positions of a batch are measured, and how it falls into sequences and chunks.
[[nodiscard]] inline batch_reference lay_out_batch(std::size_t positions, batch_start start, const rank_options& options) {
  batch_reference of;
  of.length = options.sequence_length ? options.sequence_length : positions;
  if (positions == 0 || positions % of.length != 0)
    refuse<shape_error>({"the forward gave ", positions, " positions, not a whole number of sequences of ", of.length});
  of.sequences = positions / of.length;
  std::vector<std::size_t> measured;
  for (std::size_t s = 0; s < of.sequences; ++s) {
    const std::vector<std::size_t> drawn = drawn_positions(options, start.sequence + s, start.token + s * of.length, of.length);
    for (const std::size_t each : drawn) of.rows.push_back(s * of.length + each);
    measured.push_back(drawn.size());
  }
  of.chunks = cut_into_chunks(measured);
  of.panels = of.chunks;
  of.windows = {{0, of.panels.size()}};
  return of;
}

/// Keeps what is measured of the logits of all positions.
[[nodiscard]] inline batch_reference keep_measured(logits_block all, batch_start start, const rank_options& options) {
  batch_reference of = lay_out_batch(static_cast<std::size_t>(all.rows()), start, options);
  of.vocabulary = static_cast<std::size_t>(all.columns());
  if (of.rows.size() == static_cast<std::size_t>(all.rows())) {
    of.logits = std::move(all).take();
    return of;
  }
  of.logits.resize(static_cast<Eigen::Index>(of.rows.size()), all.columns());
  for (std::size_t i = 0; i < of.rows.size(); ++i) copy_row(all.row(of.rows[i]), row(of.logits, static_cast<Eigen::Index>(i)));
  return of;
}

/// Describes every row of the reference, as the metrics need it.
inline void describe_rows(driver& forward, batch_reference& of, std::size_t threads) {
  of.known.resize(of.rows.size());
  of.logits_of_next.resize(of.next.size());
  std::vector<float> largest(of.rows.size());
  for_reference_panels(forward, of, threads, {}, [&](const chunk& panel, const reference_logits& logits) {
    for (std::size_t at = panel.first; at < panel.first + panel.count; ++at) {
      try {
        of.known[at] = klens::describe_reference(logits.row(at));
      } catch (const numeric_error& caught) {
        refuse<numeric_error>({"the untouched model, ", of.place(at), ": ", caught.what()});
      }
      largest[at] = logits.row(at)[of.known[at].top];
      if (const auto token = of.next_token(at)) of.logits_of_next[at] = logits.row(at)[*token];
    }
  });
  of.largest = std::move(largest);
}

/// The reference logits of a batch at the measured positions, with what is known of each row and the tokens that follow: the
/// untouched model's, whose state this is, or those that options.reference gives. Where they are made again, the state must stay.
[[nodiscard]] inline batch_reference take_reference(driver& forward, const any_state& state, batch_start start,
                                                    const rank_options& options, std::size_t batch) {
  batch_reference of;
  if (options.reference) {
    of = keep_measured(logits_block{options.reference(batch)}, start, options);
  } else if (forward.has_rows()) {
    of = lay_out_batch(forward.positions(state), start, options);
    if (!of.rows.empty()) {
      const std::span<const std::size_t> some = of.rows_of(of.chunks.front());
      of.vocabulary = forward.vocabulary(state, some.first(std::min<std::size_t>(some.size(), 64)));
    }
    // With every layer quantized there is no untouched model to make them of.
    lay_out_panels(of, options.from == direction::from_quantized ? static_cast<std::size_t>(-1) : options.logits_memory);
    if (of.windows.size() > 1)
      of.remade = &state;
    else
      of.logits = make_logits(forward, state, of, of.windows.front(), options.threads);
  } else {
    of = keep_measured(forward.logits(state), start, options);
  }
  if (options.reference && forward.has_rows() && forward.positions(state) != of.sequences * of.length)
    refuse<shape_error>(
        {"options.reference gave ", of.sequences * of.length, " positions for a batch of ", forward.positions(state)});
  if (!options.tokens.empty()) take_next_tokens(of, options, start.token);
  describe_rows(forward, of, options.threads);
  return of;
}

}  // namespace klens::detail
