#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/detail/order.hpp>
#include <klens/rank/look.hpp>
#include <klens/stats/shrunken_variance.hpp>
#include <klens/stats/student_t.hpp>
#include <span>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// Compares the open candidates of a look with one another, on the sequences that all of them have seen.
///   Means are compared by their logarithms (a sequence that is hard for one candidate is hard for most, in proportion), by
///   their difference where one of them is negative. A NaN, nothing measured, counts as the least damage.
/// What is asked is whether a difference would keep its sign at the end of the calibration set: what has been seen is part of
/// it, hence the factor 1 - n/N of sampling from a finite population (W. G. Cochran, Sampling Techniques (1977), section 2.5).
class paired_comparison {
 public:
  struct difference {
    double value = 0;     ///< >= 0 where the first is the worse
    double variance = 0;  ///< of one sequence's part in it
  };

  explicit paired_comparison(const look& at)
      : dof_{static_cast<double>(at.sequences) - 1},
        unseen_{at.sequences_in_all ? 1 - static_cast<double>(at.sequences) / static_cast<double>(at.sequences_in_all) : 1} {
    std::vector<double> means;
    for (std::size_t c = 0; c < at.candidates.size(); ++c)
      if (at.standings[c] == standing::open) {
        assert(at.candidates[c].size() >= at.sequences);
        open_.push_back({c, at.candidates[c].first(at.sequences), 0, {}});
        means.push_back(mean_of(open_.back().sums));
      }
    bool by_logarithm = true;
    for (const double mean : means) by_logarithm = by_logarithm && !(mean < 0);
    const double sign = at.higher_is_worse ? 1 : -1;
    for (std::size_t i = 0; i < open_.size(); ++i) {
      open_[i].damage = detail::is_nan(means[i]) ? -unbounded : sign * (by_logarithm ? std::log(means[i]) : means[i]);
      open_[i].moves = influences(open_[i].sums);
      const bool none = means[i] == 0 || !detail::is_finite(means[i]);  // nothing can move it
      for (double& each : open_[i].moves) each = none ? 0 : by_logarithm ? each / means[i] : each;
    }
    worst_first_ = order_of(open_.size(), [this](std::size_t a, std::size_t b) { return open_[a].damage > open_[b].damage; });
  }

  /// How many candidates are open; they are numbered worst first.
  [[nodiscard]] std::size_t size() const noexcept { return open_.size(); }

  /// Where the i-th worst stands in the look.
  [[nodiscard]] std::size_t candidate(std::size_t i) const noexcept { return open_[worst_first_[i]].candidate; }

  /// The i-th worst against the j-th worst, i < j.
  [[nodiscard]] difference operator()(std::size_t i, std::size_t j) const noexcept {
    const entry &worse = open_[worst_first_[i]], &other = open_[worst_first_[j]];
    if (worse.damage == other.damage) return {};  // also where both are infinite
    double squares = 0;
    for (std::size_t s = 0; s < worse.moves.size(); ++s) {
      const double apart = worse.moves[s] - other.moves[s];
      squares += apart * apart;
    }
    return {worse.damage - other.damage, squares / dof_};
  }

  /// For each difference the chance that its sign is not that of the whole calibration set: a tail of Student's t, at most 1/2.
  /// The variances steady one another; `cautious`: upwards only, for those who pick the surest out of many.
  [[nodiscard]] std::vector<double> chances_of_reversal(std::span<const difference> differences, bool cautious) const {
    std::vector<double> variances;
    for (const difference& each : differences) variances.push_back(each.variance);
    const shrunken_variances shrunken = shrink_variances(variances, dof_);
    std::vector<double> chances;
    for (const auto& [value, variance] : differences) {
      const double steadied = cautious ? std::max(variance, shrunken(variance)) : shrunken(variance);
      const double error = std::sqrt(steadied * unseen_ / (dof_ + 1));
      chances.push_back(value > 0 ? student_t_tail(value / error, shrunken.dof) : 0.5);
    }
    return chances;
  }

 private:
  struct entry {
    std::size_t candidate;
    sequence_sums sums;
    double damage;
    std::vector<double> moves;
  };
  std::vector<entry> open_;
  std::vector<std::size_t> worst_first_;
  double dof_;
  double unseen_;
};

}  // namespace klens::detail
