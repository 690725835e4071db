#include <CLI/CLI.hpp>
#include <cstdio>
#include <klens/error.hpp>
#include <klens/io/plan_json.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/io/scores_json.hpp>
#include <klens/plan/size.hpp>
#include <klens/plan/units_of.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/random.hpp>

#include "compressed_ir.hpp"
#include "demo_versions.hpp"
#include "ir_weights.hpp"
#include "openvino_commands.hpp"
#include "plan_remarks.hpp"
#include "stored_form.hpp"
#include "synthetic.hpp"
#include "token_file.hpp"

namespace openvino_adapter {
namespace {

constexpr std::size_t synthetic_sequences = 2;  // of random tokens, once for ranking and once held out

void write_random_tokens(const std::filesystem::path& file, std::size_t count, std::size_t vocabulary) {
  klens::random_stream random{1};
  std::vector<std::int64_t> tokens(count);
  for (std::int64_t& each : tokens) each = static_cast<std::int64_t>(random.below(vocabulary));
  klens::write_safetensors(file,
                           std::vector<klens::stored_tensor>{{"input_ids", "I64", {count}, std::as_bytes(std::span(tokens))}});
}

// Whatever can be known to be wrong before anything is made.
void expect_sensible(const demo_arguments& arguments) {
  if (arguments.synthetic.empty() == arguments.model.empty())
    throw klens::argument_error{"give an IR, or --synthetic and the name of a model"};
  if (arguments.synthetic.empty() && (arguments.calibration.file.empty() || arguments.held_out.file.empty()))
    throw klens::argument_error{"an IR needs --tokens to rank its layers on, and --held-out to measure with"};
  for (const klens::scheme& each : klens::parse_schemes(arguments.schemes))
    if (const std::string why = storage_problem({"", each.name(), 0, 0}); !why.empty())
      throw klens::argument_error{"--schemes: OpenVINO cannot store " + each.name() + ": " + why};
  for (const std::string& each : arguments.budgets) (void)klens::parse_budget(each, 1 << 20, 1 << 21);
  expect_devices(arguments.request.devices);
}

// Makes the model, and tokens in place of text, in the folder of the demonstration.
void synthesize(demo_arguments& arguments) {
  checked_ir ir = check_ir(synthetic_model(arguments.synthetic), arguments.synthetic);
  std::filesystem::create_directories(arguments.output);
  arguments.model = arguments.output / "model.xml";
  write_ir(ir, arguments.model);
  const std::size_t tokens = synthetic_sequences * arguments.request.length;
  arguments.calibration.file = arguments.held_out.file = arguments.output / "tokens.safetensors";
  write_random_tokens(arguments.held_out.file, 2 * tokens, ir.vocabulary);
  arguments.calibration.sequences = arguments.held_out.sequences = synthetic_sequences;
  arguments.held_out.first = tokens;
  arguments.request.trained = false;
}

void expect_usable(const demo_arguments& arguments) {
  checked_ir ir = read_ir(arguments.model);
  (void)turn_weights_into_inputs(*ir.model, ir.path);
  const auto tokens = [&](programs::token_choice choice, std::size_t most) {
    choice.length = arguments.request.length;
    return programs::read_tokens(choice, ir.vocabulary, 0, most);
  };
  if (const auto shared = programs::shared_run(tokens(arguments.calibration, 16), tokens(arguments.held_out, 64)))
    throw klens::file_error{arguments.held_out.file.string() + ": its text from input_ids[" + std::to_string(*shared) +
                            "] on is also calibration text; hold other text out (--held-out-first)"};
}

// What holds the weights of an IR bit for bit.
std::string untouched_scheme(const std::filesystem::path& model) {
  const checked_ir ir = read_ir(model);
  std::vector<ir_weight> weights = turn_weights_into_inputs(*ir.model, ir.path);
  std::vector<klens::layer> layers;
  for (ir_weight& each : weights) layers.push_back(each.as_layer());
  return klens::holding_scheme(layers).name() == "fp16" ? "fp16" : "f32";
}

bool demo(demo_arguments arguments) {
  expect_sensible(arguments);
  if (arguments.synthetic.empty())
    expect_usable(arguments);
  else
    synthesize(arguments);
  const std::filesystem::path& folder = arguments.output;
  std::filesystem::create_directories(folder);

  programs::rank_arguments ranking;
  ranking.run.model = arguments.model;
  ranking.run.tokens = arguments.calibration;
  ranking.run.threads = arguments.request.threads;
  ranking.run.tokens.length = arguments.request.length;
  ranking.schemes = arguments.schemes;
  ranking.metrics = "kl";
  ranking.output = folder / "scores.json";
  if (!openvino_adapter::rank(ranking)) return false;

  std::vector<profile_subject> subjects;
  const std::vector<demo_version> versions = demo_versions(klens::read_scores(ranking.output).result, arguments.budgets,
                                                           arguments.assume_harmless, untouched_scheme(arguments.model));
  std::printf("%s", programs::remarks_on(versions.back().plan.unknown).c_str());
  for (const demo_version& each : versions) {
    const std::filesystem::path xml = folder / (each.name + ".xml"), plan = folder / (each.name + "-plan.json");
    checked_ir ir = read_ir(arguments.model);
    (void)store_plan(ir, each.plan, plan.string());
    write_ir(ir, xml);
    klens::write_plan(plan, each.plan);
    subjects.push_back({each.name, xml, each.family});
  }
  profile_request request = arguments.request;
  request.held_out = arguments.held_out;
  std::printf("\n");
  report_profile(profile_models(subjects, request), folder / "profile.json", folder / "profile.html");
  return true;
}

}  // namespace

void add_demo(CLI::App& app, demo_arguments& arguments, bool& interrupted) {
  CLI::App& command = *app.add_subcommand(
      "demo", "rank an IR, store it as it is, in ten cuts by KL from 8 bits to 4 and in exact plans, and profile all of them");
  command.add_option("MODEL", arguments.model, "an IR that is not compressed: model.xml, with model.bin beside it");
  command.add_option("--synthetic", arguments.synthetic,
                     "mamba2-130m or llama-130m in place of an IR: random weights in that shape");
  command.add_option("--tokens", arguments.calibration.file, "safetensors with input_ids to rank on");
  command.add_option("--sequences", arguments.calibration.sequences, "how many of them (default: up to 16)");
  command.add_option("--held-out", arguments.held_out.file, "safetensors with input_ids of other text to measure with");
  command.add_option("--held-out-sequences", arguments.held_out.sequences, "how many of them (default: up to 64)");
  command.add_option("--held-out-first", arguments.held_out.first, "tokens of that file to skip");
  command.add_option("--schemes", arguments.schemes, "the cuts go from the largest to the smallest")->capture_default_str();
  command.add_option("--budgets", arguments.budgets, "of the exact plans")->delimiter(',');
  command.add_option("--assume-harmless", arguments.assume_harmless,
                     "layers whose damage counts as 0 where the scores do not know it (a change that reached no logit)");
  command.add_option("--output", arguments.output, "a folder for models, plans, scores.json, profile.json and profile.html")
      ->required();
  add_speed_options(command, arguments.request);
  command.callback([&arguments, &interrupted] { interrupted = !demo(arguments); });
}

}  // namespace openvino_adapter
