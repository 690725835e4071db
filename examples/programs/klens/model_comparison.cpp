#include "model_comparison.hpp"

#include <cstdint>

#include "hybrid_forward.hpp"
#include "terminal.hpp"

namespace programs {

std::vector<klens::measured_version> measure_versions(const model& of, std::span<klens::layer> layers,
                                                      std::span<const klens::model_version> versions, const token_set& tokens,
                                                      std::size_t sequences_per_batch, std::size_t threads) {
  const hybrid_forward forward{of, tokens, sequences_per_batch, threads};
  const std::vector<std::int32_t> targets = tokens.targets();
  progress_line line;
  const auto progress = [&](std::size_t batch, std::size_t version) {
    line.show(text("measuring: batch %zu/%zu, version %zu/%zu", batch + 1, forward.batches(), version, versions.size()));
  };
  return klens::measure_versions(forward, layers, versions,
                                 {.batches = forward.batches(),
                                  .sequence_length = tokens.length,
                                  .tokens = targets,
                                  .counted = tokens.counted(),
                                  .progress = progress,
                                  .threads = threads});
}

}  // namespace programs
