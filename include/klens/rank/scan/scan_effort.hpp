#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <klens/rank/rank_options.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// What a scan has spent, and what it is expected to spend. Work is counted in forwards times tokens; time goes on from that of
/// the scan that was taken up.
class scan_effort {
 public:
  explicit scan_effort(const rank_options& options) : options_{&options}, batches_expected_{options.batches} {}

  /// Goes on after a checkpoint.
  void take_up(double spent, double seconds) {
    spent_ = spent;
    seconds_before_ = seconds;
  }

  /// Begins a batch of so many tokens, for so many candidates; `tokens_seen` counts them all, these included.
  void open_batch(std::size_t tokens, std::size_t tokens_seen, std::size_t candidates) {
    tokens_in_batch_ = tokens;
    tokens_seen_ = tokens_seen;
    spent_before_batch_ = spent_;
    candidates_ = candidates;
    done_ = 0;
  }
  /// Says how many candidates the batch is for, and how many batches there will be, where that is not all of them.
  void expect(std::size_t candidates, std::size_t batches) {
    candidates_ = candidates;
    batches_expected_ = batches;
  }
  /// Counts work on the current batch, in whole forwards over it.
  void spend(double forwards) { spent_ += forwards * static_cast<double>(tokens_in_batch_); }
  void finish_candidate() noexcept { ++done_; }
  void close_batch() noexcept { done_ = 0; }

  [[nodiscard]] double spent() const noexcept { return spent_; }
  [[nodiscard]] double seconds() const {
    return seconds_before_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  [[nodiscard]] double forwards(std::size_t batches_done) const noexcept { return as_forwards(spent_, batches_done); }

  [[nodiscard]] scan_progress progress(std::size_t batches_done) const {
    const double done = static_cast<double>(done_) / static_cast<double>(candidates_);
    const double batches_left = static_cast<double>(batches_expected_ - batches_done) - done;
    const double in_batch = (spent_ - spent_before_batch_) / done;
    const double now = forwards(batches_done), expected = as_forwards(spent_ + in_batch * batches_left, batches_done);
    const double time = seconds();
    return {.batch = batches_done,
            .batches = batches_expected_,
            .candidate = done_,
            .candidates = candidates_,
            .forwards = now,
            .expected_forwards = expected,
            .seconds = time,
            .seconds_left = now > 0 ? time * (expected / now - 1) : 0};
  }

 private:
  /// Work as whole forwards over the calibration set; without tokens its size is guessed from the batches seen.
  [[nodiscard]] double as_forwards(double spent, std::size_t batches_done) const noexcept {
    const double known = static_cast<double>(options_->tokens.size());
    const double guessed = static_cast<double>(tokens_seen_) * static_cast<double>(options_->batches) /
                           static_cast<double>(std::max<std::size_t>(batches_done + (done_ > 0 ? 1 : 0), 1));
    const double all = known > 0 ? known : guessed;
    return all > 0 ? spent / all : 0;
  }

  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const rank_options* options_;
  std::size_t batches_expected_;
  double seconds_before_ = 0;
  double spent_ = 0;
  double spent_before_batch_ = 0;
  std::size_t tokens_in_batch_ = 0;
  std::size_t tokens_seen_ = 0;
  std::size_t candidates_ = 0;
  std::size_t done_ = 0;
};

}  // namespace klens::detail
