#include "model_comparison.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <klens/detail/weight_guard.hpp>
#include <klens/error.hpp>
#include <klens/metric/compare_rows.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/interval.hpp>
#include <limits>

#include "hybrid_forward.hpp"
#include "terminal.hpp"

namespace hybrid {
namespace {

// Stores the named layers under their schemes as long as it lives.
class applied_schemes {
 public:
  applied_schemes(std::vector<klens::layer>& layers, const named_schemes& schemes) {
    for (klens::layer& each : layers) {
      const auto found = schemes.find(each.name);
      if (found == schemes.end()) continue;
      klens::detail::weight_guard& guard = guards_.emplace_back(each);
      try {
        (void)guard.perturb(klens::scheme{found->second});
      } catch (const klens::numeric_error& caught) {
        throw klens::numeric_error{each.name + ": " + caught.what()};
      }
      changed_ = changed_ || guard.changed();
    }
  }
  [[nodiscard]] bool changed() const noexcept { return changed_; }

 private:
  std::deque<klens::detail::weight_guard> guards_;
  bool changed_ = false;
};

void add_batch(measured_version& to, const klens::matrix<float>& reference, const klens::matrix<float>& observed,
               std::span<const std::int32_t> tokens, std::size_t length, std::size_t threads) {
  const auto [kl, top1] = klens::measure(reference, observed, {.threads = threads}, klens::kl{}, klens::top1{});
  to.kl.merge(kl);
  to.top1.merge(top1);
  for (std::size_t first = 0; first < tokens.size(); first += length) {
    klens::contribution& sum = to.nll_by_sequence.emplace_back(0.0, 0.0);
    for (std::size_t t = first; t + 1 < first + length; ++t) {
      sum.value += next_token_nll(klens::row(observed, static_cast<Eigen::Index>(t)), tokens[t + 1]);
      sum.weight += 1;
    }
  }
}

}  // namespace

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

std::vector<measured_version> measure_versions(const model& of, std::vector<klens::layer>& layers,
                                               const std::vector<named_schemes>& versions, const token_set& tokens,
                                               std::size_t sequences_per_batch, std::size_t threads) {
  const hybrid_forward forward{of, tokens, sequences_per_batch, threads};
  std::vector<measured_version> measured(versions.size() + 1);
  progress_line line;
  std::size_t first = 0;
  for (std::size_t batch = 0; batch < forward.batches(); ++batch) {
    const klens::matrix<float> reference = forward.logits(forward.end(batch));
    const auto rows = static_cast<std::size_t>(reference.rows());
    const std::span<const std::int32_t> own = std::span(tokens.tokens).subspan(first, rows);
    add_batch(measured[0], reference, reference, own, tokens.length, threads);
    for (std::size_t v = 0; v < versions.size(); ++v) {
      line.show(text("measuring: batch %zu/%zu, version %zu/%zu", batch + 1, forward.batches(), v + 1, versions.size()));
      const applied_schemes applied{layers, versions[v]};
      add_batch(measured[v + 1], reference, applied.changed() ? forward.logits(forward.end(batch)) : reference, own,
                tokens.length, threads);
    }
    first += rows;
  }
  return measured;
}

}  // namespace hybrid
