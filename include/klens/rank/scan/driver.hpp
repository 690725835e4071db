#pragma once

#include <any>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/text.hpp>
#include <klens/error.hpp>
#include <klens/forward.hpp>
#include <klens/matrix.hpp>
#include <klens/rank/scan/logits_block.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A state of a forward, of whatever type its begin() gives. A copy copies the state.
class any_state {
 public:
  template <class State>
  [[nodiscard]] static any_state holding(State state) {
    any_state made;
    made.held_ = boxed<State>{std::move(state)};
    return made;
  }
  template <class State>
  [[nodiscard]] State& as() {
    return std::any_cast<boxed<State>&>(held_).state;
  }
  template <class State>
  [[nodiscard]] const State& as() const {
    return std::any_cast<const boxed<State>&>(held_).state;
  }

 private:
  template <class State>
  struct boxed {  // a state that is a std::any itself must not be unpacked
    State state;
  };
  std::any held_;
};

/// What a scan asks of a forward, of whatever strength and type: the scan is compiled once, for this. Everything that the
/// user's callable returns is checked here and nowhere else; what does not fit is a shape_error.
class driver {
 public:
  driver(const driver&) = delete;
  driver& operator=(const driver&) = delete;
  virtual ~driver() = default;

  /// How many stages come before the head; 0 for a forward that is not staged.
  [[nodiscard]] std::size_t stages() const noexcept { return costs_.size() - 1; }

  /// True where logits can be had for chosen rows of a state, from several threads at once.
  [[nodiscard]] virtual bool has_rows() const noexcept = 0;
  /// True where states show their residual stream.
  [[nodiscard]] virtual bool has_residual() const noexcept = 0;

  /// True where layers' inputs can be seen, through observe_inputs.
  [[nodiscard]] virtual bool shows_inputs() const noexcept = 0;
  virtual void observe_inputs(const input_observer& observer) = 0;

  [[nodiscard]] virtual any_state begin(std::size_t batch) = 0;
  virtual void advance(any_state& state, std::size_t stage) = 0;

  /// All rows.
  [[nodiscard]] logits_block logits(const any_state& state) {
    logits_block all = all_logits(state);
    expect_logits(all);
    return all;
  }
  /// Chosen rows.
  [[nodiscard]] logits_block logits(const any_state& state, std::span<const std::size_t> rows) {
    logits_block chosen = chosen_logits(state, rows);
    expect_logits(chosen);
    if (static_cast<std::size_t>(chosen.rows()) != rows.size())
      refuse<shape_error>({"the forward's logits(state, rows) was asked for ", rows.size(), " rows and gave ", chosen.rows(),
                           "; return one row for each, in that order"});
    return chosen;
  }
  [[nodiscard]] virtual std::size_t positions(const any_state& state) = 0;
  /// How many columns logits have; where no logits have been seen yet, those of these rows.
  [[nodiscard]] std::size_t vocabulary(const any_state& state, std::span<const std::size_t> rows) {
    if (vocabulary_ == 0) (void)logits(state, rows);
    return static_cast<std::size_t>(vocabulary_);
  }

  [[nodiscard]] matrix_ref<float> residual(any_state& state) {
    matrix_ref<float> stream = residual_of(state);
    if (stream.size() == 0)
      refuse<shape_error>(
          {"the forward's residual(state) is ", shape_text(stream.rows(), stream.cols()), "; it must be [positions x width]"});
    return stream;
  }

  /// The share of a whole forward that runs from the entry of `stage` to the logits.
  [[nodiscard]] double share_from(std::size_t stage) const noexcept {
    double from_here = 0, all = 0;
    for (std::size_t s = 0; s < costs_.size(); ++s) {
      all += costs_[s];
      if (s >= stage) from_here += costs_[s];
    }
    return from_here / all;
  }

 protected:
  driver() = default;

  /// One cost a stage, and the head's.
  void set_costs(std::vector<double> costs) {
    double all = 0;
    for (std::size_t s = 0; s < costs.size(); ++s) {
      if (!(costs[s] >= 0 && detail::is_finite(costs[s])))
        refuse<argument_error>(
            {"the forward's cost(", s, ") is ", number_text(costs[s]), "; give a finite cost of at least 0"});
      all += costs[s];
    }
    if (!(all > 0))
      throw argument_error{"the forward's cost(stage) is 0 for every stage and the head; one of them must cost something"};
    costs_ = std::move(costs);
  }

 private:
  [[nodiscard]] virtual logits_block all_logits(const any_state& state) = 0;
  [[nodiscard]] virtual logits_block chosen_logits(const any_state& state, std::span<const std::size_t> rows) = 0;
  [[nodiscard]] virtual matrix_ref<float> residual_of(any_state& state) = 0;

  void expect_logits(const logits_block& given) {
    if (given.rows() <= 0 || given.columns() <= 0 || given.is_null())
      refuse<shape_error>({"the forward gave ", shape_text(given.rows(), given.columns()),
                           given.is_null() ? " logits at a null pointer" : " logits",
                           "; they must be [positions x vocabulary], at least 1x1"});
    Eigen::Index known = 0;
    if (!vocabulary_.compare_exchange_strong(known, given.columns()) && known != given.columns())
      refuse<shape_error>({"the forward gave logits of ", given.columns(), " columns, and of ", known,
                           " before; the vocabulary must stay the same"});
  }

  std::vector<double> costs_{1};
  std::atomic<Eigen::Index> vocabulary_{0};
};

}  // namespace klens::detail
