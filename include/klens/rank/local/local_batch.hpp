#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// A value for each measured position of a batch, by candidate.
using values_by_candidate = std::map<std::size_t, std::vector<double>>;

/// A mean over positions, and the variance of its logarithm.
struct noisy_mean {
  double value = 0;
  double variance = 0;
};

/// How much the KL of a position moves for the same energy, 1 on average over a sequence: the median over the candidates of which
/// both are known, each against its own average. Some positions are near a choice between two tokens, others are settled
/// whatever happens; the whole scan of such a candidate tells them apart for all others. With fewer than five: all are 1.
[[nodiscard]] inline std::vector<double> position_weights(const values_by_candidate& energies, const values_by_candidate& kls,
                                                          std::size_t first, std::size_t count) {
  constexpr std::size_t enough = 5;
  const auto sum = [&](const std::vector<double>& of) {
    const auto begin = of.begin() + static_cast<std::ptrdiff_t>(first);
    return std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(count), 0.0);
  };
  std::vector<std::vector<double>> ratios(count);
  std::size_t known = 0;
  for (const auto& [candidate, kl] : kls) {
    const auto energy = energies.find(candidate);
    if (energy == energies.end()) continue;
    const double scale = sum(energy->second) / sum(kl);
    if (!(scale > 0 && is_finite(scale))) continue;
    ++known;
    for (std::size_t t = 0; t < count; ++t)
      if (energy->second[first + t] > 0) ratios[t].push_back(scale * kl[first + t] / energy->second[first + t]);
  }
  std::vector<double> weights(count, 1);
  if (known < enough) return weights;
  double total = 0;
  for (std::size_t t = 0; t < count; ++t) {
    if (!ratios[t].empty()) {
      const auto middle = ratios[t].begin() + static_cast<std::ptrdiff_t>(ratios[t].size() / 2);
      std::nth_element(ratios[t].begin(), middle, ratios[t].end());
      weights[t] = *middle;
    }
    total += weights[t];
  }
  if (!(total > 0)) return std::vector<double>(count, 1);
  for (double& each : weights) each *= static_cast<double>(count) / total;
  return weights;
}

/// The means over positions first .. first + count, with what the positions tell of their sampling: the relative variance of the
/// sum of the blocks that they form, without what all candidates have in common there. Neighbours share their context, so
/// blocks are eight positions, shorter only where that leaves fewer than eight of them. With so few blocks a variance is itself
/// uncertain: it is drawn towards the median of all. Those that are 0 or infinite have no logarithm and are left out.
[[nodiscard]] inline std::map<std::size_t, noisy_mean> noisy_means(const values_by_candidate& values,
                                                                   const std::vector<double>& weights, std::size_t first) {
  constexpr double strength_of_median = 4, least = 1e-6, unknown = 0.25;
  const std::size_t count = weights.size(), size = std::clamp<std::size_t>(count / 8, 1, 8), blocks = count / size;
  std::map<std::size_t, noisy_mean> means;
  std::vector<std::vector<double>> shares;
  std::vector<double> common(blocks, 0);
  for (const auto& [candidate, of] : values) {
    std::vector<double> share(blocks, 0);
    for (std::size_t t = 0; t < count; ++t) share[std::min(t / size, blocks - 1)] += weights[t] * of[first + t];
    const double sum = std::accumulate(share.begin(), share.end(), 0.0);
    if (!(sum > 0 && is_finite(sum))) continue;
    means[candidate] = {sum / static_cast<double>(count), unknown};
    for (std::size_t b = 0; b < blocks; ++b) common[b] += share[b] /= sum;
    shares.push_back(std::move(share));
  }
  const auto n = static_cast<double>(shares.size()), of_blocks = static_cast<double>(blocks);
  if (blocks < 2 || shares.size() < 2) return means;
  std::vector<double> variances;
  for (const std::vector<double>& share : shares) {
    double squares = 0;
    for (std::size_t b = 0; b < blocks; ++b) squares += std::pow(share[b] - common[b] / n, 2);
    variances.push_back(squares * of_blocks / (of_blocks - 1) * n / (n - 1));
  }
  std::vector<double> sorted = variances;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  auto variance = variances.begin();
  for (auto& [candidate, mean] : means)
    mean.variance =
        std::max(((of_blocks - 1) * *variance++ + strength_of_median * *middle) / (of_blocks - 1 + strength_of_median), least);
  return means;
}

}  // namespace klens::detail
