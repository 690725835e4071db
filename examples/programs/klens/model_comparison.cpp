#include "model_comparison.hpp"

#include <cstdint>
#include <deque>
#include <klens/error.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/weight_guard.hpp>

#include "hybrid_forward.hpp"
#include "terminal.hpp"

namespace programs {
namespace {

// Stores the named layers under their schemes as long as it lives.
class applied_schemes {
 public:
  applied_schemes(std::vector<klens::layer>& layers, const named_schemes& schemes) {
    for (klens::layer& each : layers) {
      const auto found = schemes.find(each.name);
      if (found == schemes.end()) continue;
      klens::weight_guard& guard = guards_.emplace_back(each);
      try {
        (void)guard.apply(klens::scheme{found->second});
      } catch (const klens::numeric_error& caught) {
        throw klens::numeric_error{each.name + ": " + caught.what()};
      }
      changed_ = changed_ || guard.changed();
    }
  }
  [[nodiscard]] bool changed() const noexcept { return changed_; }

 private:
  std::deque<klens::weight_guard> guards_;
  bool changed_ = false;
};

}  // namespace

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
    measured[0].add(reference, reference, own, tokens.length, threads);
    for (std::size_t v = 0; v < versions.size(); ++v) {
      line.show(text("measuring: batch %zu/%zu, version %zu/%zu", batch + 1, forward.batches(), v + 1, versions.size()));
      const applied_schemes applied{layers, versions[v]};
      measured[v + 1].add(reference, applied.changed() ? forward.logits(forward.end(batch)) : reference, own, tokens.length,
                          threads);
    }
    first += rows;
  }
  return measured;
}

}  // namespace programs
