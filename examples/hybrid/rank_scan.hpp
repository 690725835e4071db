#pragma once

#include <filesystem>
#include <klens/quant/scheme.hpp>
#include <klens/rank/any_metric.hpp>
#include <klens/rank/layer.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scores.hpp>
#include <klens/rank/stopping.hpp>
#include <span>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine/model.hpp"
#include "hybrid_forward.hpp"
#include "token_set.hpp"

namespace hybrid {

/// A scan as the command line asks for it: the model and tokens it loaded, and the report.
class rank_scan {
 public:
  /// Checks all that can be known before the work, then loads. Throws klens::error.
  explicit rank_scan(const rank_arguments& arguments);

  [[nodiscard]] const token_set& tokens() const noexcept { return tokens_; }
  [[nodiscard]] const model& loaded() const noexcept { return model_; }
  [[nodiscard]] std::span<const klens::layer> layers() const noexcept { return layers_; }

  /// Scans some of the tokens; goes on from the checkpoint where there is one (an empty path: none is kept). `phase` begins the
  /// line that shows progress.
  [[nodiscard]] klens::scores run(const token_set& part, const std::filesystem::path& checkpoint, bool noise_floor,
                                  const std::string& phase = {});

  /// Prints the scores, and writes them where the command line says so.
  void report(const klens::scores& scores) const;

 private:
  [[nodiscard]] klens::scores run_both_ways(hybrid_forward& forward, klens::rank_options options);

  const rank_arguments& arguments_;
  std::vector<klens::scheme> schemes_;
  std::vector<klens::any_metric> metrics_;
  klens::any_stopping_rule stop_;
  model model_;
  token_set tokens_;
  std::vector<klens::layer> layers_;
};

}  // namespace hybrid
