#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/rank/any_stopping_rule.hpp>
#include <klens/rank/rank_options.hpp>
#include <klens/rank/scores.hpp>
#include <string>
#include <vector>

#include "commands.hpp"
#include "site_schemes.hpp"
#include "token_sampler.hpp"
#include "token_set.hpp"

namespace programs {

/// What a scan is made on, whichever engine runs the model.
struct scan_subject {
  std::string title;                         ///< of the model; begins the report
  std::vector<std::filesystem::path> files;  ///< of the model; their content tells it from others
  std::vector<klens::layer> layers;          ///< those that are ranked
  token_set tokens;
  std::size_t context = 0;  ///< positions whose keys and values count in sizes; 0: nothing is kept of them
};

/// How one run of a scan differs from another.
struct scan_circumstances {
  std::filesystem::path checkpoint = {};  ///< goes on from it where it exists; empty: none is kept
  bool noise_floor = false;
  std::string phase = {};  ///< begins the line that shows progress
};

/// A scan as the command line asks for it, whichever engine runs the model: its choices, checkpoint, progress and report.
class scan_request {
 public:
  /// klens::rank_layers on the engine's own forward and layers.
  using measurement = std::function<klens::scores(const std::vector<klens::scheme>&, const std::vector<klens::any_metric>&,
                                                  const klens::rank_options&)>;

  static constexpr std::size_t default_length = 256;    ///< of a sequence
  static constexpr std::size_t default_sequences = 16;  ///< at most, where no number was chosen

  /// Checks all that can be known without the model. Throws klens::error.
  explicit scan_request(const rank_arguments& arguments);
  /// The same where the engine has schemes of its own, made from those names.
  scan_request(const rank_arguments& arguments, std::vector<klens::scheme> schemes);

  [[nodiscard]] std::size_t sequences_per_batch() const;
  /// The tokens of the command's file, cut as it says, or what the model generates; as_scanned.
  [[nodiscard]] token_set tokens_for(const token_sampler& model) const;
  /// Tokens as the method wants them: the methods local and refine look at a few windows drawn across them. Throws
  /// klens::argument_error where no token is there to be predicted.
  [[nodiscard]] token_set as_scanned(token_set tokens) const;
  /// The schemes of each kind of site, as --schemes has them for --sites.
  [[nodiscard]] static site_schemes schemes_of(const rank_arguments& arguments);
  /// Whether the method is one that predicts (local and refine).
  [[nodiscard]] bool predicts() const;
  /// Those of a model's layers that --layers asks for. Throws klens::argument_error where there are none;
  /// `all` has at least one.
  [[nodiscard]] std::vector<klens::layer> chosen(const std::vector<klens::layer>& all) const;

  /// Scans `part`, some of the subject's tokens. Throws klens::scan_error where the scan fails, with advice.
  [[nodiscard]] klens::scores run(const scan_subject& subject, const token_set& part, const measurement& measure,
                                  const scan_circumstances& at) const;

  /// Prints the scores, and writes them where the command line says so.
  void report(const scan_subject& subject, const klens::scores& scores) const;

  /// Scans all of the subject's tokens and reports. Where the scan fails, what it had measured is written first. False:
  /// interrupted.
  [[nodiscard]] bool rank(const scan_subject& subject, const measurement& measure, const scan_circumstances& at) const;

 private:
  void write(const scan_subject& subject, const klens::scores& scores) const;
  [[nodiscard]] klens::scores run_both_ways(const measurement& measure, klens::rank_options options) const;

  const rank_arguments& arguments_;
  std::vector<klens::scheme> schemes_;
  std::vector<klens::any_metric> metrics_;
  klens::any_stopping_rule stop_;
};

}  // namespace programs
