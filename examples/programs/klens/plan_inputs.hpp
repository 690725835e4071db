#pragma once

#include <filesystem>
#include <klens/io/scores_json.hpp>
#include <klens/layer.hpp>
#include <klens/plan/constraints.hpp>
#include <klens/plan/plan.hpp>
#include <klens/plan/units_of.hpp>
#include <optional>
#include <string>
#include <vector>

#include "commands.hpp"
#include "engine/model.hpp"
#include "model_comparison.hpp"
#include "token_set.hpp"

namespace programs {

/// What every plan starts from, checked: scores of this model, its layers as they were scored (whole, or a fused one in
/// parts), and tokens that were not scored. Throws klens::error.
class plan_inputs {
 public:
  /// `kept`: how many positions and sequences what the model keeps at run time is for; a context of 0: the scores'.
  plan_inputs(const run_arguments& run, const std::filesystem::path& scores, const site_options& kept = {.context = 0});

  model loaded;
  klens::scores_file scored;
  std::vector<klens::layer> layers;  ///< in the model's order
  std::vector<std::string> schemes;  ///< that were scored, in the order of the file
  token_set held_out;
  std::size_t context = 0;            ///< of what is kept at run time; 0: nothing of that was scored
  std::vector<std::string> not_kept;  ///< scored inputs of products, which take no memory from one token to the next

  /// The smallest scheme that holds every weight of the layers to be planned: what they fall back to.
  [[nodiscard]] std::string untouched(const plan_rules& rules) const;

  /// klens::units_of for the model's layers. `metric` is one of the file's, or
  ///   weight_sqnr   noise of the weights themselves, as a share of their energy
  ///   size          every layer minds a bit less as much as every other: what is known without measuring
  ///   random        the same times a factor from 1 to 10000, drawn for each layer
  /// Throws klens::argument_error as it does, and for a layer that was not scored and that `rules` do not exclude.
  [[nodiscard]] klens::scored_units units(const std::string& metric, const plan_rules& rules, std::uint64_t seed) const;

  /// Sum of single KLs, in nats/token, those that are unknown left out; nothing where KL was not scored.
  [[nodiscard]] std::optional<double> predicted_kl(const klens::plan& of) const;

  /// The untouched model and versions of it, on the held-out tokens.
  [[nodiscard]] std::vector<klens::measured_version> measure(const std::vector<klens::model_version>& versions);

 private:
  const run_arguments& run_;
};

/// Those of the command line. Throws klens::argument_error for a pin that is not written PATTERN=SCHEME.
[[nodiscard]] klens::plan_constraints constraints_of(const plan_rules& rules);

/// What stands before and after the last '='; `option` names what the text was given to.
[[nodiscard]] std::pair<std::string, std::string> split_assignment(const std::string& text, const char* option);

}  // namespace programs
