#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <span>

#include "part.hpp"
#include "past.hpp"
#include "rounding.hpp"

namespace programs {

/// Stores a state [states x channels] otherwise than as floats. Its vectors are channels one after the other, each with all of its
/// states: as many channels as the rounding's columns hold.
/// `remainder`, the same shape: what rounding took away until now is added before, and what it takes away now is left there.
inline void store_state(const rounding& how, klens::matrix_ref<float> state, klens::matrix_ref<float>* remainder) {
  klens::matrix<float> by_channel = state.transpose();
  if (remainder) by_channel += remainder->transpose();
  const klens::matrix<float> exact = remainder ? by_channel : klens::matrix<float>{};
  how.apply({by_channel.data(), static_cast<std::size_t>(by_channel.size())});
  if (remainder) *remainder = (exact - by_channel).transpose();
  state = by_channel.transpose();
}

/// The recurrent state that a part keeps under a number: memory where it has to be kept, and the order in which positions run.
class recurrence {
 public:
  /// Shapes     state [rows x columns]: [states x channels], or several of them below one another.
  recurrence(const pass& at, const void* part, int number, Eigen::Index rows, Eigen::Index columns)
      : how_{rounding_of(at, part, kept_as::state)} {
    const auto memory = [&](klens::matrix<float>& own, int kept_under) {
      if (at.before != nullptr) return &at.before->state(part, kept_under, rows, columns);
      own = klens::matrix<float>::Zero(rows, columns);
      return &own;
    };
    if (at.before != nullptr || how_ != nullptr) state_ = memory(own_state_, number);
    if (how_ != nullptr && how_->feedback) remainder_ = memory(own_remainder_, number + kept_as::remainder);
  }
  recurrence(const recurrence&) = delete;
  recurrence& operator=(const recurrence&) = delete;

  /// run(first position, how many, state): over all positions at once, or, where the state is stored otherwise than as floats, over
  /// one at a time, after each of which it is, as by an engine that reads and writes it at every step. The state is null where a
  /// sequence begins and nobody wants to know how it ends; it is rows first_row, first_row + 1, ... of what is kept.
  template <class Run>
  void over(Eigen::Index length, Eigen::Index first_row, Eigen::Index rows, const Run& run) const {
    if (state_ == nullptr) return run(Eigen::Index{0}, length, static_cast<klens::matrix_ref<float>*>(nullptr));
    klens::matrix_ref<float> own = state_->middleRows(first_row, rows);
    if (how_ == nullptr) return run(Eigen::Index{0}, length, &own);
    klens::matrix_ref<float> rest = (remainder_ ? remainder_ : state_)->middleRows(first_row, rows);
    for (Eigen::Index t = 0; t < length; ++t) {
      run(t, Eigen::Index{1}, &own);
      store_state(*how_, own, remainder_ ? &rest : nullptr);
    }
  }
  /// The same with all rows.
  template <class Run>
  void over(Eigen::Index length, const Run& run) const {
    over(length, 0, state_ ? state_->rows() : 0, run);
  }

 private:
  const rounding* how_;
  klens::matrix<float> own_state_, own_remainder_;
  klens::matrix<float>*state_ = nullptr, *remainder_ = nullptr;
};

}  // namespace programs
