#pragma once

#include <cstddef>
#include <filesystem>
#include <klens/layer.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/scores.hpp>
#include <span>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine/model.hpp"
#include "image_file.hpp"
#include "scan_request.hpp"
#include "token_set.hpp"

namespace programs {

/// A scan by the reference engine: what the command line asks for, and the model and tokens it loaded.
class rank_scan {
 public:
  /// Checks all that can be known before the work, then loads. Throws klens::error.
  /// `images`: a model of images will do as well, whose positions `tokens` stands for.
  explicit rank_scan(const rank_arguments& arguments, bool images = false);

  [[nodiscard]] const token_set& tokens() const noexcept { return subject_.tokens; }
  [[nodiscard]] const model& loaded() const noexcept { return model_; }
  [[nodiscard]] std::span<const klens::layer> layers() const noexcept { return subject_.layers; }

  /// Scans some of the tokens; goes on from the checkpoint where there is one (an empty path: none is kept). `phase` begins the
  /// line that shows progress.
  [[nodiscard]] klens::scores run(const token_set& part, const std::filesystem::path& checkpoint, bool noise_floor,
                                  const std::string& phase = {});

  /// Scans all of the tokens and reports; what was measured is written also where the scan fails. False: interrupted.
  [[nodiscard]] bool rank(const std::filesystem::path& checkpoint);

  /// Prints the scores, and writes them where the command line says so.
  void report(const klens::scores& scores) const { request_.report(subject_, scores); }

 private:
  /// The layers that --sites and --layers ask for, each with its schemes.
  [[nodiscard]] std::vector<klens::layer> layers_for(const rank_arguments& arguments, std::size_t sequence_length);
  [[nodiscard]] scan_request::measurement measurement_on(const token_set& part);
  /// What the layers' inputs are like, where schemes look at them: out of --statistics, or gathered and written there.
  template <class Forward>
  void know_inputs(Forward& forward, const std::vector<klens::scheme>& schemes, std::size_t batches);

  scan_request request_;
  std::size_t threads_;
  std::filesystem::path statistics_;
  model model_;
  image_set images_;  // of a model of images
  scan_subject subject_;
};

}  // namespace programs
