#pragma once

#include <cstddef>
#include <klens/detail/float_bits.hpp>
#include <klens/rank/local/local_batch.hpp>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The KL of a candidate as one sequence shows it.
struct observed_kl {
  noisy_mean kl;
  double energy = 0;  // on the same sequence; 0: not looked at there
  std::size_t sequence = 0;
  std::size_t positions = 0;
};

/// What a local scan has seen of one candidate.
struct local_evidence {
  bool is_local = false;
  double plain_energy = 0;  // summed over the positions where it was looked at
  std::size_t positions = 0;
  double weighted = 0, weight = 0, variance = 0;  // of energies: sums over sequences of means and of variances, each times
                                                  // positions
  std::vector<observed_kl> kls = {};

  [[nodiscard]] double energy() const noexcept { return weight > 0 ? weighted / weight : 0; }
  [[nodiscard]] double energy_variance() const noexcept { return weight > 0 ? variance / (weight * weight) : 0; }

  [[nodiscard]] double mean_kl() const noexcept {
    double sum = 0, count = 0;
    for (const observed_kl& each : kls) {
      sum += each.kl.value * static_cast<double>(each.positions);
      count += static_cast<double>(each.positions);
    }
    return sum / count;
  }
  /// Whether what is believed of it comes from the gain model.
  [[nodiscard]] bool is_modelled() const noexcept { return is_local && energy() > 0 && (kls.empty() || is_finite(mean_kl())); }
  /// Of a log KL; `usual` where it was not measured.
  [[nodiscard]] double variance_per_position(double usual) const noexcept {
    double sum = 0;
    for (const observed_kl& each : kls) sum += each.kl.variance * static_cast<double>(each.positions);
    return kls.empty() ? usual : sum / static_cast<double>(kls.size());
  }
};

}  // namespace klens::detail
