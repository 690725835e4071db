#pragma once
// What the benchmarks of this folder share: a model's matrix products by themselves, clocks, medians.

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <klens/matrix.hpp>
#include <vector>

#include "engine/model.hpp"

namespace benchmarks {

/// Every weight's product [positions x in] [out x in]^T of one sequence, and nothing else.
class products {
 public:
  products(programs::model& of, Eigen::Index positions) {
    Eigen::Index widest = 0;
    for (const programs::weight& each : of.weights()) {
      if (each.kind == "embed_tokens") continue;  // a gather
      weights_.push_back(each.as_layer().load());
      widest = std::max(widest, each.columns);
      rows_ = std::max(rows_, each.rows);
    }
    x_ = klens::matrix<float>::Random(positions, widest);
  }
  /// Room for the largest of them.
  [[nodiscard]] klens::matrix<float> result() const { return klens::matrix<float>::Zero(x_.rows(), rows_); }

  /// gemm(a, b, c) makes c = a b^T.
  void run(const auto& gemm, klens::matrix<float>& result) const {
    for (const klens::matrix<float>& each : weights_) gemm(x_.leftCols(each.cols()), each, result.leftCols(each.rows()));
  }

 private:
  std::vector<klens::matrix<float>> weights_;
  Eigen::Index rows_ = 0;
  klens::matrix<float> x_;
};

[[nodiscard]] double wall_ms(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

/// Of all threads together.
[[nodiscard]] double processor_ms(const auto& work) {
  const std::clock_t start = std::clock();
  work();
  return 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

[[nodiscard]] inline double median_quotient(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> all(above.size());
  std::ranges::transform(above, below, all.begin(), std::divides<>{});
  std::ranges::nth_element(all, all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2));
  return all[all.size() / 2];
}

}  // namespace benchmarks
