#include "measured_version.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace programs {

void measured_version::add(const klens::matrix<float>& reference, const klens::matrix<float>& observed,
                           std::span<const std::int32_t> tokens, std::size_t length, std::size_t threads) {
  const auto [own_kl, own_top1] = klens::measure(reference, observed, {.threads = threads}, klens::kl{}, klens::top1{});
  kl.merge(own_kl);
  top1.merge(own_top1);
  for (std::size_t first = 0; first < tokens.size(); first += length) {
    klens::contribution& sum = nll_by_sequence.emplace_back(0.0, 0.0);
    for (std::size_t t = first; t + 1 < first + length; ++t) {
      sum.value += next_token_nll(klens::row(observed, static_cast<Eigen::Index>(t)), tokens[t + 1]);
      sum.weight += 1;
    }
  }
}

double measured_version::perplexity() const { return std::exp(klens::mean_of(nll_by_sequence)); }

double measured_version::perplexity_error(const measured_version& base) const {
  const auto n = static_cast<double>(nll_by_sequence.size());
  if (n < 2) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0, squares = 0;
  for (std::size_t s = 0; s < nll_by_sequence.size(); ++s) {
    const double difference = (nll_by_sequence[s].value - base.nll_by_sequence[s].value) / nll_by_sequence[s].weight;
    sum += difference;
    squares += difference * difference;
  }
  return perplexity() * std::sqrt(std::max(0.0, squares - sum * sum / n) / (n - 1) / n);
}

}  // namespace programs
