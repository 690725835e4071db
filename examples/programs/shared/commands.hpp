#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <klens/metric/any_metric.hpp>
#include <optional>
#include <string>
#include <vector>

#include "token_set.hpp"

namespace programs {

/// What every command takes that runs a model over tokens.
struct run_arguments {
  std::filesystem::path model;
  token_choice tokens;
  std::size_t threads = 1;
  std::filesystem::path statistics;  ///< of layers' inputs, for schemes that look at them; empty: no file
  bool strict = false;               ///< refuse fields of config.json that nobody knows
  std::size_t batch = 0;             ///< sequences that go through the model together; 0: 4, or 2 in a scan that may stop early

  [[nodiscard]] std::size_t sequences_per_batch(bool may_stop = false) const noexcept {
    return batch != 0 ? batch : may_stop ? 2 : 4;
  }
};

/// Which values of what a model keeps while it runs share a scale.
struct site_layout {
  std::size_t kv_by_channel = 0;        ///< positions that a channel's keys or values have one for; 0: one a position and head
  bool activations_per_tensor = false;  ///< one for all tokens of a sequence
  bool operator==(const site_layout&) const = default;
};

struct rank_arguments {
  run_arguments run;
  std::string schemes = "int4-channel,int8-channel";
  std::string metrics = "kl,reverse_kl,js,mse,sqnr,delta_ce,top1";
  std::vector<klens::any_metric> more_metrics;  ///< beside those
  std::string sort = "kl";
  std::string layers = ".*";  ///< regular expression, searched for in the names
  std::filesystem::path output, html;
  std::string stop = "exhaustive";
  double confidence = 0.99;
  std::size_t positions = 0;
  std::uint64_t seed = 1;
  std::string from = "reference";
  std::string method = "exact";
  std::filesystem::path checkpoint;
  bool split_fused = false;
  bool include_small = false;
  std::string sites = "weights";  ///< kinds of them, with commas between
  std::size_t context = 0;        ///< positions whose keys and values sizes count; 0: those of a sequence
  bool error_feedback = false;    ///< of states
  site_layout layout;
  bool by_position = false;  ///< kl also in bands of position
};

struct evaluate_arguments {
  run_arguments run;
  std::vector<std::string>
      versions;  ///< each "weights=int4-g64,kv=q8_0", measured beside the sum of its parts; none: the model alone
  site_layout layout;
};

struct validate_arguments {
  rank_arguments rank;    ///< of both scans; its tokens are those of calibration, its output is report.json
  token_choice held_out;  ///< its length is that of the calibration tokens
  std::filesystem::path html;
  std::size_t resamples = 1000;
  std::uint64_t seed = 1;
  bool ablations = false;
  bool all = false;      ///< print every table
  bool explain = false;  ///< with metrics between kl and mse
};

/// What a plan must respect; patterns are regular expressions that are searched in the names of layers.
struct plan_rules {
  std::vector<std::string> pins;             ///< PATTERN=SCHEME
  std::vector<std::string> exclude;          ///< layers that take no part
  std::vector<std::string> assume_harmless;  ///< layers whose damage counts as 0 where it is unknown
  std::vector<std::string> together;
  bool apart = false;  ///< q/k/v, gate/up and experts need not share a scheme
};

struct plan_arguments {
  run_arguments run;  ///< its tokens are held out
  std::filesystem::path scores, second_opinion;
  std::filesystem::path calibration;  ///< the tokens that were scored; empty: where the scores say
  std::string budget;
  std::vector<std::string> pools;  ///< PATTERN=BUDGET
  std::optional<double> max_damage;
  std::string allocator = "exact";
  std::string metric = "kl";
  std::uint64_t seed = 1;
  double gamma = 1.10;
  std::size_t candidates = 0;  ///< plans that are raced; 0: the first one is taken
  std::size_t context = 0;     ///< positions whose keys and values the budget is for; 0: as the scores have it
  std::size_t concurrent = 1;  ///< sequences whose run-time memory it is for
  plan_rules rules;
  std::filesystem::path output, html;
  std::vector<std::string> exports;  ///< TARGET=PATH
};

struct sweep_arguments {
  run_arguments run;  ///< its tokens are held out
  std::filesystem::path scores;
  std::vector<std::string> allocators{"exact", "greedy", "threshold", "share"};
  std::vector<std::string> metrics{"kl", "mse", "sqnr", "random", "size"};
  std::size_t budgets = 12;
  std::uint64_t seed = 1;
  plan_rules rules;
  std::filesystem::path output, html;
};

// Each prints its answer on stdout and throws klens::error where there is none.
[[nodiscard]] bool rank(const rank_arguments& arguments);          // false: interrupted, what was measured is shown and written
[[nodiscard]] bool validate(const validate_arguments& arguments);  // false: interrupted
void evaluate(const evaluate_arguments& arguments);
void logits(const run_arguments& arguments, const std::filesystem::path& output);
void plan(const plan_arguments& arguments);
void sweep(const sweep_arguments& arguments);
void merge(const std::vector<std::filesystem::path>& parts, const std::filesystem::path& output, const std::string& sort);
void layers(const std::filesystem::path& model, bool json, bool split_fused, bool strict);

}  // namespace programs
