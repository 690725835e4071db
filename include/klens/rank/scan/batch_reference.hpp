#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <klens/detail/parallel_for.hpp>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/rank/scan/driver.hpp>
#include <klens/rank/scan/logits_block.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A run of measured positions within one sequence. Sums are formed within chunks in the order of positions and then over chunks
/// in their order, so no result depends on the number of threads or on how sequences were put into batches.
struct chunk {
  std::size_t sequence = 0;  // in the batch
  std::size_t first = 0;     // among the batch's measured positions
  std::size_t count = 0;

  static constexpr std::size_t most = 256;
};

/// `measured` holds, for every sequence, how many of its positions are measured.
[[nodiscard]] inline std::vector<chunk> cut_into_chunks(std::span<const std::size_t> measured, std::size_t most = chunk::most) {
  std::vector<chunk> chunks;
  std::size_t first = 0;
  for (std::size_t s = 0; s < measured.size(); first += measured[s++])
    for (std::size_t at = 0; at < measured[s]; at += most) chunks.push_back({s, first + at, std::min(most, measured[s] - at)});
  return chunks;
}

/// Panels whose reference logits lie in memory together.
struct panel_range {
  std::size_t first = 0;
  std::size_t count = 0;
};

/// The reference side of one batch, kept while its candidates are measured. Its logits are kept as well, or, where they are too
/// many, made again from the untouched model's last state for every candidate, a few panels at a time.
struct batch_reference {
  std::size_t sequences = 0;
  std::size_t length = 0;             // positions in a sequence
  std::vector<std::size_t> rows;      // the measured positions, among all of the batch
  std::vector<chunk> chunks;          // of them
  std::vector<chunk> panels;          // the chunks, or parts of them: what one thread compares at a time
  std::vector<panel_range> windows;   // of the panels; one where logits are kept
  std::size_t vocabulary = 0;         // 0 where no position is measured
  matrix<float> logits;               // [measured x vocabulary] where they are kept
  const any_state* remade = nullptr;  // what they are made of again; null where they are kept
  std::vector<reference_row> known;   // a row each
  std::vector<std::int64_t> next;     // the token after each measured position, -1 where there is none; empty: no tokens known
  std::vector<float> logits_of_next;  // of those tokens
  std::vector<float> largest;         // the largest logit of each row

  [[nodiscard]] std::optional<std::size_t> next_token(std::size_t measured) const {
    if (next.empty() || next[measured] < 0) return std::nullopt;
    return static_cast<std::size_t>(next[measured]);
  }
  [[nodiscard]] std::string place(std::size_t measured) const {
    return joined({"sequence ", rows[measured] / length, " of the batch, position ", rows[measured] % length});
  }
  /// Positions of a panel among all of the batch.
  [[nodiscard]] std::span<const std::size_t> rows_of(const chunk& panel) const {
    return std::span(rows).subspan(panel.first, panel.count);
  }
};

/// Lays out panels and windows. Logits that fit into `memory` bytes are kept; others are made again in windows of a quarter of
/// that. A panel takes up to 64 MiB, and no fewer than 64 positions: products of fewer cost more than they save.
inline void lay_out_panels(batch_reference& of, std::size_t memory) {
  constexpr std::size_t unit = 64, panel_bytes = std::size_t{64} << 20;
  if (of.rows.empty()) return;
  const std::size_t bytes = of.vocabulary * sizeof(float);
  const auto positions_in = [&](std::size_t size) { return std::max(unit, size / bytes / unit * unit); };
  const std::size_t most = std::min(chunk::most, positions_in(panel_bytes)), room = positions_in(memory / 4);
  of.panels.clear();
  for (const chunk& each : of.chunks)
    for (std::size_t at = 0; at < each.count; at += most)
      of.panels.push_back({each.sequence, each.first + at, std::min(most, each.count - at)});
  of.windows = {{0, of.panels.size()}};
  if (of.rows.size() <= memory / bytes) return;
  of.windows.clear();
  std::size_t held = 0;
  for (std::size_t p = 0; p < of.panels.size(); ++p) {
    if (of.windows.empty() || held + of.panels[p].count > room) {
      of.windows.push_back({p, 0});
      held = 0;
    }
    ++of.windows.back().count;
    held += of.panels[p].count;
  }
}

/// Logits of a window's positions, from the state after all stages.
[[nodiscard]] inline matrix<float> make_logits(driver& forward, const any_state& state, const batch_reference& of,
                                               panel_range window, std::size_t threads) {
  if (window.count == 0) return {};
  const chunk &head = of.panels[window.first], &tail = of.panels[window.first + window.count - 1];
  matrix<float> made(static_cast<Eigen::Index>(tail.first + tail.count - head.first), static_cast<Eigen::Index>(of.vocabulary));
  parallel_for(threads, window.count, [&](std::size_t i) {
    const chunk& panel = of.panels[window.first + i];
    const logits_block some = forward.logits(state, of.rows_of(panel));
    for (std::size_t r = 0; r < panel.count; ++r)
      copy_row(some.row(r), row(made, static_cast<Eigen::Index>(panel.first - head.first + r)));
  });
  return made;
}

/// Reference logits of a run of measured positions.
struct reference_logits {
  const matrix<float>& rows;
  std::size_t first;  // the measured position of the first row

  [[nodiscard]] std::span<const float> row(std::size_t measured) const {
    return klens::row(rows, static_cast<Eigen::Index>(measured - first));
  }
};

/// What has to happen around making reference logits again, while a candidate has changed the head.
struct head_turns {
  std::function<void()> untouched = {};  // puts the head's own weights back
  std::function<void()> changed = {};    // makes them the candidate's again
};

/// Throws where logits that were made again are not those that were described.
inline void expect_as_described(const batch_reference& of, const chunk& panel, const reference_logits& logits) {
  for (std::size_t at = panel.first; at < panel.first + panel.count && !of.largest.empty(); ++at)
    if (logits.row(at)[of.known[at].top] != of.largest[at])
      refuse<argument_error>(
          {of.place(at),
           ": its reference logits came out otherwise when they were made again; a layer that the head uses needs "
           "stage or last_stage = stages(). Or keep them: a larger rank_options::logits_memory"});
}

/// Calls use(panel, reference logits) once for each panel, from several threads.
template <class Use>
void for_reference_panels(driver& forward, const batch_reference& of, std::size_t threads, const head_turns& turns,
                          const Use& use) {
  matrix<float> remade;
  for (const panel_range& window : of.windows) {
    if (of.remade != nullptr) {
      if (turns.untouched) turns.untouched();
      remade.resize(0, 0);  // before its successor is made
      remade = make_logits(forward, *of.remade, of, window, threads);
      if (turns.changed) turns.changed();
    }
    const reference_logits logits =
        of.remade != nullptr ? reference_logits{remade, of.panels[window.first].first} : reference_logits{of.logits, 0};
    parallel_for(threads, window.count, [&](std::size_t i) {
      const chunk& panel = of.panels[window.first + i];
      if (of.remade != nullptr) expect_as_described(of, panel, logits);
      use(panel, logits);
    });
  }
}

}  // namespace klens::detail
