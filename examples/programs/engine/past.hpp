#pragma once

#include <cstddef>
#include <klens/matrix.hpp>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "part.hpp"

namespace programs {

/// What the parts of a model keep of the positions that one sequence has behind it: keys and values, recurrent states, the last
/// inputs of convolutions. It grows by the keys and values of each position.
class past {
 public:
  /// The matrix that `part` keeps under a number; zero the first time.
  [[nodiscard]] klens::matrix<float>& state(const void* part, int number, Eigen::Index rows, Eigen::Index columns) {
    klens::matrix<float>& kept = states_[{part, number}];
    if (kept.size() == 0) kept = klens::matrix<float>::Zero(rows, columns);
    return kept;
  }

  /// All matrices that `part` keeps: of a convolution, or all others.
  [[nodiscard]] std::vector<klens::matrix<float>*> states_of(const void* part, bool of_convolution) {
    std::vector<klens::matrix<float>*> all;
    for (auto& [key, state] : states_)
      if (key.first == part && (key.second < 0) == of_convolution) all.push_back(&state);
    return all;
  }

  /// Puts rows below those that `part` has kept under a number; all of them, until the next call.
  [[nodiscard]] panel append(const void* part, int number, const klens::const_matrix_ref<float>& rows) {
    std::vector<float>& kept = rows_[{part, number}];
    for (Eigen::Index r = 0; r < rows.rows(); ++r)
      kept.insert(kept.end(), rows.row(r).data(), rows.row(r).data() + rows.cols());
    return {kept.data(), static_cast<Eigen::Index>(kept.size()) / rows.cols(), rows.cols()};
  }

  /// What `part` has appended under a number until now, row by row.
  [[nodiscard]] std::span<float> appended(const void* part, int number) { return rows_[{part, number}]; }

  /// How many rows of so many columns `part` has kept under a number.
  [[nodiscard]] std::size_t rows(const void* part, int number, Eigen::Index columns) const {
    const auto found = rows_.find({part, number});
    return found == rows_.end() ? 0 : found->second.size() / static_cast<std::size_t>(columns);
  }

 private:
  std::map<std::pair<const void*, int>, klens::matrix<float>> states_;
  std::map<std::pair<const void*, int>, std::vector<float>> rows_;
};

/// The position of the first of a part's rows: how many it has kept under a number, before with_past takes them in.
[[nodiscard]] inline std::size_t first_position(const pass& at, const void* part, int number, const panel& rows) {
  return at.before ? at.before->rows(part, number, rows.cols()) : 0;
}

/// `rows` themselves where a sequence begins and nothing is kept; else all that `part` has had under this number, these last.
[[nodiscard]] inline panel with_past(const pass& at, const void* part, int number, panel& rows) {
  return at.before ? at.before->append(part, number, rows) : panel{rows.data(), rows.rows(), rows.cols()};
}

}  // namespace programs
