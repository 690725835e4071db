#pragma once

#include <cmath>

namespace klens::detail {

/// A sum of doubles that keeps what each addition rounds away: twice the digits, so that the order of additions and of merges
/// does not show in value(). Once infinite, it stays so.
/// Source     Knuth, The Art of Computer Programming 2, 4.2.2 (two-sum).
class compensated_sum {
 public:
  void add(double term) noexcept {
    const double sum = sum_ + term;
    const double of_term = sum - sum_;
    const double rest = (sum_ - (sum - of_term)) + (term - of_term);
    sum_ = sum;
    rest_ += rest;
  }
  void add(const compensated_sum& other) noexcept {
    add(other.sum_);
    rest_ += other.rest_;
  }
  [[nodiscard]] double value() const noexcept { return std::isfinite(sum_) ? sum_ + rest_ : sum_; }

 private:
  double sum_ = 0;
  double rest_ = 0;
};

}  // namespace klens::detail
