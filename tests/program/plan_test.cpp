// klens plan on the embedded model: what it decides, what it measures, what it refuses, and the packed model it writes.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <klens/io/plan_json.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/io/scores_json.hpp>
#include <klens/quant/round_trip.hpp>
#include <klens/quant/scheme.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "program/klens.hpp"
#include "support/browser.hpp"

namespace {

using support::check_refused;
using support::embedded_model;
using support::quoted;
using support::run_klens;
using support::temporary_folder;

const std::string held_out_file = support::example_data + "/wikitext2-held-out.safetensors";
const std::string held_out = " --held-out '" + held_out_file + "' --sequences 2 --length 64 ";

// Scores of all 57 layers under three schemes, on 2 x 64 tokens; made once.
const std::filesystem::path& scores_file() {
  static const temporary_folder folder;
  static const std::filesystem::path file = [] {
    const auto result =
        run_klens("rank " + embedded_model + " --tokens " + support::calibration +
                  " --sequences 2 --length 64 --metrics kl,mse --schemes int4-g32,int6-g32,int8-channel --output " +
                  quoted(folder / "scores.json"));
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    return folder / "scores.json";
  }();
  return file;
}
const klens::scores& scores() {
  static const klens::scores all = klens::read_scores(scores_file()).result;
  return all;
}

support::program_result run_plan(const std::string& options) {
  return run_klens("plan " + embedded_model + held_out + "--scores " + quoted(scores_file()) + " " + options);
}

klens::plan planned(const std::string& options) {
  const temporary_folder folder;
  const auto result = run_plan(options + " --output " + quoted(folder / "plan.json"));
  REQUIRE_MESSAGE(result.exit_code == 0, options << ": " << result.errors);
  return klens::read_plan(folder / "plan.json");
}

// Of a layer of the embedded model under a scheme, from its shape.
std::uint64_t bytes_of(const klens::layer_scheme& each) {
  const klens::layer_score* scored = scores().find(each.layer, "int4-g32");
  REQUIRE(scored);
  return klens::scheme{each.scheme}.bytes(scored->rows, scored->columns);
}
double damage_of(const klens::layer_scheme& each, const char* metric) {
  const klens::layer_score* scored = scores().find(each.layer, each.scheme);
  return scored ? scored->metrics[scores().index_of(metric)].mean : 0;
}

std::string scheme_of(const klens::plan& of, const std::string& layer) {
  const std::string* scheme = of.scheme_of(layer);
  return scheme ? *scheme : "none";
}

// What the table says of a version: all after its name.
std::string row(const std::string& output, const std::string& version) {
  const std::size_t at = output.find("\n" + version + "  ");
  REQUIRE_MESSAGE(at != std::string::npos, output);
  const std::size_t first = output.find_first_not_of(' ', at + 1 + version.size());
  return output.substr(first, output.find('\n', first) - first);
}

}  // namespace

TEST_CASE("klens plan: sizes, predictions and measurements are what they are called") {
  const temporary_folder folder;
  const auto result = run_plan("--budget 5.0bpw --output " + quoted(folder / "plan.json"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  const klens::plan plan = klens::read_plan(folder / "plan.json");
  CHECK(plan.allocator == "exact");
  CHECK(plan.layers.size() == 57);
  std::uint64_t bytes = 0, weights = 0;
  double kl = 0;
  for (const klens::layer_scheme& each : plan.layers) {
    const klens::layer_score* scored = scores().find(each.layer, "int4-g32");
    REQUIRE(scored);
    weights += scored->rows * scored->columns;
    bytes += bytes_of(each);
    kl += damage_of(each, "kl");
  }
  CHECK(plan.bytes == bytes);
  CHECK(plan.budget_bytes == weights * 5 / 8);
  CHECK(plan.bytes <= plan.budget_bytes);
  CHECK(plan.bits_per_weight == 8 * static_cast<double>(bytes) / static_cast<double>(weights));
  CHECK(std::abs(plan.predicted.at("kl") - kl) <= 1e-12 * kl);
  REQUIRE(plan.measured);
  CHECK(plan.measured->positions == 128);
  CHECK(plan.measured->kl > 0);

  // The model is stored in fp16, so that baseline is the model itself.
  const auto evaluated =
      run_klens("evaluate " + embedded_model + " --tokens '" + held_out_file + "' --sequences 2 --length 64");
  const double perplexity = std::strtod(evaluated.output.c_str() + evaluated.output.find("perplexity") + 10, nullptr);
  CHECK(plan.baselines.at("fp16").bytes == 2 * weights);
  CHECK(plan.baselines.at("fp16").kl == 0);
  CHECK(std::abs(plan.baselines.at("fp16").perplexity - perplexity) <= 0.00005001);  // four digits are printed
  CHECK(plan.baselines.size() == 4);
  CHECK(plan.baselines.at("int4-g32").kl > plan.measured->kl);
  CHECK(plan.baselines.at("int8-channel").kl < plan.measured->kl);
  for (const char* said : {"measured / predicted ", "greedy under the same budget", "proven: ", "top1", "int6-g32"})
    CHECK_MESSAGE(result.output.find(said) != std::string::npos, said);
}

TEST_CASE("klens plan: by KL, half a bit over INT4 closes 0.55 of its gap to FP16, a whole bit 0.8") {
  const temporary_folder folder;
  const auto ranked =
      run_klens("rank " + embedded_model + " --tokens " + support::calibration +
                " --sequences 4 --length 256 --metrics kl --schemes int4-g32,int5-g32,int6-g32,int8-channel,fp16" +
                " --output " + quoted(folder / "scores.json"));
  REQUIRE_MESSAGE(ranked.exit_code == 0, ranked.errors);
  for (const auto& [budget, closed] : {std::pair{"5.0bpw", 0.55}, std::pair{"5.5bpw", 0.8}}) {
    const auto result =
        run_klens("plan " + embedded_model + " --held-out '" + held_out_file + "' --sequences 8 --length 256" + " --scores " +
                  quoted(folder / "scores.json") + " --budget " + budget + " --output " + quoted(folder / "plan.json"));
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    const klens::plan plan = klens::read_plan(folder / "plan.json");
    REQUIRE(plan.measured);
    CHECK(1 - plan.measured->kl / plan.baselines.at("int4-g32").kl >= closed);
    // The sum of single KLs is the joint one to about 5 %; the means over either text are known to about as much.
    CHECK(std::abs(plan.measured->kl / plan.predicted.at("kl") - 1) <= 0.15);
  }
}

TEST_CASE("klens plan: a uniform plan is its baseline, to the last bit") {
  const klens::plan plan = planned("--budget 100% --pin '.=int4-g32'");
  const klens::plan_baseline& same = plan.baselines.at("int4-g32");
  CHECK(plan.bytes == same.bytes);
  REQUIRE(plan.measured);
  CHECK(plan.measured->kl == same.kl);
  CHECK(plan.measured->perplexity == same.perplexity);
}

TEST_CASE("klens plan: no allocator beats the exact one by prediction, and each keeps to the budget") {
  for (const std::string metric : {"kl", "mse"}) {
    const klens::plan exact = planned("--budget 5.5bpw --metric " + metric);
    for (const std::string allocator : {"greedy", "threshold", "share"}) {
      const klens::plan other = planned("--budget 5.5bpw --metric " + metric + " --allocator " + allocator);
      CHECK(other.allocator == allocator);
      CHECK(other.bytes <= other.budget_bytes);
      CHECK(exact.predicted.at(metric) <= other.predicted.at(metric));
    }
  }
  for (const std::string metric : {"weight_sqnr", "size", "random"}) {
    const klens::plan plan = planned("--budget 5.5bpw --metric " + metric);
    CHECK(plan.bytes <= plan.budget_bytes);
    CHECK(plan.predicted.at("kl") > 0);
  }
  CHECK(scheme_of(planned("--budget 5.5bpw --metric random --seed 2"), "lm_head.weight") != "none");
}

TEST_CASE("klens plan: by the SQNR of the weights, the sum over layers is that of noise over signal") {
  const auto noise_of = [](const klens::plan& plan) {
    double sum = 0;
    for (const klens::layer_scheme& each : plan.layers) {
      const klens::layer_score* const scored = scores().find(each.layer, each.scheme);
      if (scored) sum += std::pow(10.0, -scored->weight_sqnr_db / 10);  // in fp16 nothing is lost
    }
    return sum;
  };
  const klens::plan plan = planned("--budget 5.5bpw --metric weight_sqnr");
  const double predicted = plan.predicted.at("weight_sqnr");
  CHECK(predicted > 0);
  CHECK(std::abs(noise_of(plan) - predicted) <= 1e-12 * predicted);
  for (const char* other : {"--budget 5.5bpw", "--budget 5.5bpw --metric size", "--budget 100% --pin '.=int4-g32'"})
    CHECK(noise_of(planned(other)) > predicted);  // no plan of that size has less of it, this one apart
}

TEST_CASE("klens plan: layers that belong together share a scheme, and rules change that") {
  const std::string attention = "model.layers.2.self_attn.";
  const auto shares = [](const klens::plan& plan, const std::vector<std::string>& layers) {
    std::set<std::string> schemes;
    for (const std::string& each : layers) schemes.insert(scheme_of(plan, each + ".weight"));
    return schemes.size() == 1 && !schemes.contains("none");
  };
  for (const char* budget : {"4.8bpw", "5.2bpw", "6bpw"}) {
    const klens::plan plan = planned(std::string{"--budget "} + budget);
    CHECK(shares(plan, {attention + "q_proj", attention + "k_proj", attention + "v_proj"}));
    for (int b = 0; b < 8; ++b) {
      const std::string mlp = "model.layers." + std::to_string(b) + ".feed_forward.";
      CHECK(shares(plan, {mlp + "gate_proj", mlp + "up_proj"}));
    }
  }
  const klens::plan free = planned("--budget 5.2bpw --apart"), bound = planned("--budget 5.2bpw");
  CHECK(free.predicted.at("kl") <= bound.predicted.at("kl"));
  const klens::plan blocks = planned(R"(--budget 6bpw --together '^(model\.layers\.\d+)\.')");
  for (const klens::layer_scheme& each : blocks.layers)
    if (each.layer.starts_with("model.layers.3."))
      CHECK(each.scheme == scheme_of(blocks, "model.layers.3.mamba.in_proj.weight"));
}

TEST_CASE("klens plan: pins hold, and what is excluded counts nowhere") {
  const klens::plan plan =
      planned("--budget 7bpw --pin lm_head=int8-channel --pin 'layers\\.3\\.=fp16' --exclude 'layers\\.7\\.'");
  CHECK(scheme_of(plan, "lm_head.weight") == "int8-channel");
  std::uint64_t weights = 0;
  for (const klens::layer_scheme& each : plan.layers) {
    CHECK(!each.layer.starts_with("model.layers.7."));
    if (each.layer.starts_with("model.layers.3.")) CHECK(each.scheme == "fp16");
    weights += bytes_of({each.layer, "fp16"}) / 2;
  }
  CHECK(plan.budget_bytes == weights * 7 / 8);
  CHECK(plan.baselines.at("fp16").bytes == 2 * weights);
}

TEST_CASE("klens plan: every pool keeps to its own budget") {
  const klens::plan plan = planned("--pool 'lm_head=6bpw' --pool 'layers\\.[0-3]\\.=4.7bpw' --pool 'layers\\.[4-7]\\.=40%'");
  std::array<std::uint64_t, 3> bytes{}, weights{};
  for (const klens::layer_scheme& each : plan.layers) {
    const std::size_t pool = each.layer == "lm_head.weight" ? 0 : each.layer < "model.layers.4" ? 1 : 2;
    bytes[pool] += bytes_of(each);
    weights[pool] += bytes_of({each.layer, "fp16"}) / 2;
  }
  CHECK(bytes[0] <= weights[0] * 6 / 8);
  CHECK(bytes[1] <= weights[1] * 47 / 80);
  CHECK(bytes[2] <= weights[2] * 80 / 100);
  CHECK(plan.budget_bytes == weights[0] * 6 / 8 + weights[1] * 47 / 80 + weights[2] * 80 / 100);
}

TEST_CASE("klens plan: the smallest plan under a limit of damage is the dual of the best one under a budget") {
  const klens::plan best = planned("--budget 5.3bpw");
  char limit[32];
  std::snprintf(limit, sizeof limit, "%.17g", best.predicted.at("kl"));
  const klens::plan smallest = planned(std::string{"--max-damage "} + limit);
  CHECK(smallest.bytes == best.bytes);  // the exact one takes the fewest bytes for its damage
  CHECK(smallest.predicted.at("kl") <= best.predicted.at("kl") * (1 + 1e-12));
  CHECK(planned("--max-damage 1e9").bytes == best.baselines.at("int4-g32").bytes);
}

TEST_CASE("klens plan: tolerance stays within gamma of the untouched model, on the tokens that were scored") {
  const std::string few = " --allocator tolerance --exclude 'layers\\.[2-7]\\.'";
  const klens::plan loose = planned("--gamma 1e6" + few), tight = planned("--gamma 1.002" + few);
  CHECK(loose.bytes == loose.baselines.at("int4-g32").bytes);
  CHECK(tight.bytes > loose.bytes);
  CHECK(tight.bytes < tight.baselines.at("fp16").bytes);
  const auto said = run_plan("--gamma 1.002" + few).output;
  const std::size_t at = said.find(" times that of the untouched model");
  REQUIRE(at != std::string::npos);
  CHECK(std::strtod(said.c_str() + said.rfind(' ', at - 1), nullptr) <= 1.002 + 0.00005);
}

TEST_CASE("klens plan: a second opinion is planned by other scores and measured beside") {
  const temporary_folder folder;
  REQUIRE(run_klens("rank " + embedded_model + " --tokens " + support::calibration +
                    " --sequences 2 --length 64 --metrics kl --schemes int4-g32,int8-channel --from quantized --output " +
                    quoted(folder / "restored.json"))
              .exit_code == 0);
  const auto result = run_plan("--budget 5.2bpw --second-opinion " + quoted(folder / "restored.json"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(row(result.output, "second opinion") != row(result.output, "plan"));
  const auto same = run_plan("--budget 5.2bpw --second-opinion " + quoted(scores_file()));
  CHECK(row(same.output, "second opinion") == row(same.output, "plan"));
}

TEST_CASE("klens plan: a packed model takes the plan's bytes and gives the logits of its simulation, bit for bit") {
  const temporary_folder folder;
  const std::filesystem::path packed = folder / "packed";
  const auto result =
      run_plan("--budget 5.5bpw --exclude 'layers\\.6\\.' --pin 'dt_proj=fp16' --export packed=" + quoted(packed) +
               " --output " + quoted(folder / "plan.json"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  const klens::plan plan = klens::read_plan(folder / "plan.json");
  CHECK(support::content_of(packed / "plan.json") == support::content_of(folder / "plan.json"));
  const klens::safetensors file{packed / "model.safetensors"};
  std::uint64_t bytes = 0;
  for (const klens::stored_tensor& each : file.tensors())
    if (each.dtype == "U8") bytes += each.bytes.size();
  CHECK(bytes == plan.bytes);

  // The simulation, made without the program: the model with rounded weights, as floats.
  const std::filesystem::path original = support::example_data + "/wikitext-hybrid-4m", simulated = folder / "simulated";
  std::filesystem::create_directory(simulated);
  std::filesystem::copy_file(original / "config.json", simulated / "config.json");
  const klens::safetensors source{original / "model.safetensors"};
  std::vector<klens::stored_tensor> tensors(source.tensors().begin(), source.tensors().end());
  std::vector<klens::matrix<float>> kept(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    klens::stored_tensor& each = tensors[i];
    const std::string* scheme = plan.scheme_of(each.name == "model.embed_tokens.weight" ? "lm_head.weight" : each.name);
    if (!scheme) continue;
    kept[i].resize(static_cast<Eigen::Index>(each.shape[0]), static_cast<Eigen::Index>(each.shape[1]));
    source.copy_floats(each, 0, {kept[i].data(), each.elements()});
    (void)klens::round_trip(klens::scheme{*scheme}, kept[i], kept[i]);
    each = klens::as_tensor<float>(each.name, each.shape, std::span<const float>(kept[i].data(), each.elements()));
  }
  klens::write_safetensors(simulated / "model.safetensors", tensors);
  const auto logits = [&](const std::filesystem::path& model, const char* name) {
    const auto ran = run_klens("logits " + quoted(model) + " --tokens '" + held_out_file +
                               "' --sequences 2 --length 64 --output " + quoted(folder / name));
    REQUIRE_MESSAGE(ran.exit_code == 0, ran.errors);
    return support::content_of(folder / name);
  };
  CHECK(logits(packed, "a") == logits(simulated, "b"));
  const auto evaluated =
      run_klens("evaluate " + quoted(packed) + " --tokens '" + held_out_file + "' --sequences 2 --length 64");
  REQUIRE(plan.measured);
  CHECK(std::abs(std::strtod(evaluated.output.c_str() + evaluated.output.find("perplexity") + 10, nullptr) -
                 plan.measured->perplexity) <= 0.00005001);

  check_refused(run_plan("--budget 5.5bpw --export packed=" + quoted(packed)), "exists");
  // Neither file is believed without the other.
  const std::string evaluate = "evaluate " + quoted(packed) + " --tokens '" + held_out_file + "' --length 8";
  const nlohmann::json good = nlohmann::json::parse(support::content_of(packed / "klens-packed.json"));
  const auto refused = [&](const std::function<void(nlohmann::json&)>& spoil, const std::string& because) {
    nlohmann::json bad = good;
    spoil(bad);
    std::ofstream{packed / "klens-packed.json"} << bad;
    check_refused(run_klens(evaluate), because);
  };
  const std::string name = "model.layers.1.mamba.in_proj.weight";
  refused([&](auto& json) { json["tensors"].erase(name); }, name);
  refused([&](auto& json) { json["tensors"][name][0]["rows"] = 769; }, "lists more rows than the 768 of config.json");
  refused([&](auto& json) { json["tensors"][name][0]["rows"] = 767; }, "lists 767 rows, config.json asks for 768");
  refused([&](auto& json) { json["tensors"][name][0]["rows"] = -1; }, "lists more rows");
  refused([&](auto& json) { json["tensors"][name][0]["scheme"] = "int3-g32"; }, "bytes of U8, its schemes ask for ");
  refused([&](auto& json) { json["tensors"][name][0]["scheme"] = "int99"; }, "unknown scheme 'int99'");
  refused([&](auto& json) { json["tensors"][name][0].erase("scheme"); }, "klens-packed.json");
  refused([](auto& json) { json["version"] = 2; }, "is not a klens-packed document of version 1");
}

TEST_CASE(
    "klens plan --candidates: plans are raced on half of the held-out sequences, and the other half measures the winner") {
  const temporary_folder folder;
  const std::string command = "plan " + embedded_model + " --scores " + quoted(scores_file()) + " --held-out '" +
                              held_out_file + "' --sequences 17 --length 32 --budget 5bpw ";
  const auto result = run_klens(command + "--candidates 7 --output " + quoted(folder / "plan.json"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(result.output.find("7 plans raced on 8 sequences") != std::string::npos);
  CHECK(result.output.find("gain over the first plan") != std::string::npos);
  const klens::plan won = klens::read_plan(folder / "plan.json");
  CHECK(won.measured->positions == 9 * 32);
  CHECK(won.bytes <= won.budget_bytes);
  // what stands as the first plan is the plan without a race, measured where the winner was
  const auto alone =
      run_klens("plan " + embedded_model + " --scores " + quoted(scores_file()) + " --held-out '" + held_out_file +
                "' --first 256 --sequences 9 --length 32 --budget 5bpw --output " + quoted(folder / "first.json"));
  REQUIRE_MESSAGE(alone.exit_code == 0, alone.errors);
  CHECK(won.baselines.at("first plan").kl == klens::read_plan(folder / "first.json").measured->kl);

  check_refused(
      run_klens("plan " + embedded_model + held_out + "--scores " + quoted(scores_file()) + " --budget 5bpw --candidates 4"),
      "each at least 8; there are 2");
  check_refused(run_plan("--max-damage 0.1 --candidates 4"), "--candidates");
  check_refused(run_plan("--budget 5bpw --candidates 1"), "--candidates");
}

TEST_CASE("klens plan: the parts of fused projections are packed under a scheme each") {
  const temporary_folder folder;
  REQUIRE(run_klens("rank " + embedded_model + " --tokens " + support::calibration +
                    " --sequences 2 --length 64 --metrics kl --schemes int4-g32,int8-channel --split-fused --output " +
                    quoted(folder / "scores.json"))
              .exit_code == 0);
  const std::string common = "plan " + embedded_model + held_out + "--scores " + quoted(folder / "scores.json") +
                             " --pin 'layers\\.0\\.mamba\\.in_proj.*\\[x\\]=int8-channel'" +
                             " --pin 'layers\\.0\\.mamba\\.in_proj.*\\[z\\]=int4-g32' --budget 5.5bpw --export packed=";
  const auto result = run_klens(common + quoted(folder / "packed") + " --output " + quoted(folder / "plan.json"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  const klens::plan plan = klens::read_plan(folder / "plan.json");
  std::uint64_t bytes = 0;
  const klens::safetensors packed{folder / "packed" / "model.safetensors"};
  for (const klens::stored_tensor& each : packed.tensors())
    if (each.dtype == "U8") bytes += each.bytes.size();
  CHECK(bytes == plan.bytes);
  const auto evaluated =
      run_klens("evaluate " + quoted(folder / "packed") + " --tokens '" + held_out_file + "' --sequences 2 --length 64");
  REQUIRE_MESSAGE(evaluated.exit_code == 0, evaluated.errors);
  REQUIRE(plan.measured);
  CHECK(std::abs(std::strtod(evaluated.output.c_str() + evaluated.output.find("perplexity") + 10, nullptr) -
                 plan.measured->perplexity) <= 0.00005001);
}

TEST_CASE("klens plan: exports are written, or refused with both names before anything is") {
  const temporary_folder folder;
  const std::string every = "--budget 100% --pin '.=int8-channel' ";
  const auto result = run_plan(every + "--export modelopt=" + quoted(folder / "my_plan.py"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(result.output.find("from my_plan import PLAN") != std::string::npos);
  CHECK(support::content_of(folder / "my_plan.py").find("lm_head.weight_quantizer") != std::string::npos);
  std::filesystem::remove(folder / "my_plan.py");
  for (const std::string target : {"nncf", "llama-quantize", "auto-round", "mlx-lm", "compressed-tensors", "olive"})
    check_refused(run_plan(every + "--export " + target + "=" + quoted(folder / "x") + " --output " + quoted(folder / "y") +
                           " --export packed=" + quoted(folder / "z")),
                  " cannot store int8-channel, which the plan gives to ");
  check_refused(run_plan(every + "--export gguf=" + quoted(folder / "x")), "known are packed, nncf, llama-quantize");
  check_refused(run_plan(every + "--export nncf"), "TARGET=PATH");
  CHECK(std::filesystem::is_empty(folder.path()));
  const std::string help = run_klens("plan --help").output;
  for (const char* version : {"nncf 3.4.0", "llama-cpp-python 0.3.36", "auto-round 0.16.1", "mlx-lm 0.32.2", "modelopt 0.47.0",
                              "compressed-tensors 0.20.1", "olive-ai 0.13.0"})
    CHECK_MESSAGE(help.find(version) != std::string::npos, version);
}

TEST_CASE("klens plan: what cannot be is named, and nothing is written") {
  const temporary_folder folder;
  const std::string output = " --output " + quoted(folder / "plan.json");
  const auto refused = [&](const std::string& options, const std::string& because) {
    check_refused(run_plan(options + output), because);
  };
  const std::uint64_t smallest = planned("--max-damage 1e9").bytes;
  refused("--budget 3bpw", "the smallest possible is " + std::to_string(smallest) + " bytes");
  refused("--budget large", "budget 'large'");
  refused("", "--budget, --pool");
  refused("--budget 5bpw --max-damage 1", "one of --budget, --pool");
  refused("--max-damage 0.1 --allocator greedy", "--max-damage: only the exact allocator");
  refused("--budget 5bpw --allocator tolerance", "--gamma");
  refused("--allocator tolerance --gamma 0.9", "gamma is 0.9");
  refused("--max-damage -1", "the least possible is 0");
  refused("--budget 5bpw --allocator best", "unknown allocator 'best'");
  refused("--budget 5bpw --metric beauty", "metric 'beauty' was not measured; measured were kl, mse");
  refused("--budget 5bpw --pin lm_head=int4-g32 --pin head=int8-channel",
          "lm_head.weight is pinned to int4-g32 and to int8-channel");
  refused("--budget 5bpw --pin q_proj=int4-g32 --pin k_proj=int8-channel", "contradictory pins");
  refused("--budget 5bpw --pin lm_head=int4-g32 --exclude lm_head", "is kept out and pinned to int4-g32");
  refused("--budget 5bpw --pin lm_head=int5-g32", "int5-g32, which is not among its candidates");
  refused("--budget 5bpw --pin lm_head=int44", "unknown scheme 'int44'");
  refused("--budget 5bpw --pin lm_head", "--pin 'lm_head'");
  refused("--budget 5bpw --pin nothing=int4-g32", "'nothing' matches no layer");
  refused("--budget 5bpw --exclude '('", "is not a regular expression");
  refused("--budget 5bpw --exclude .", "leaves no layer");
  refused("--pool lm_head=5bpw", "is in no pool");
  refused("--pool .=5bpw --pool lm_head=5bpw", "is in two pools");
  check_refused(run_klens("plan " + embedded_model + held_out + "--scores " + quoted(folder / "none.json") + " --budget 5bpw"),
                "none.json");
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("klens plan: a layer that was not measured under a scheme does not get it, and the plan says so") {
  const temporary_folder folder;
  nlohmann::json scores = nlohmann::json::parse(support::content_of(scores_file()));
  const std::string layer = scores.at("candidates").at(3).at("layer"), scheme = scores.at("candidates").at(3).at("scheme");
  scores["candidates"][3]["result"] = "not_measured";
  std::ofstream{folder / "scores.json"} << scores;
  const auto made = run_klens("plan " + embedded_model + held_out + "--scores " + quoted(folder / "scores.json") +
                              " --budget 5bpw --output " + quoted(folder / "plan.json"));
  REQUIRE_MESSAGE(made.exit_code == 0, made.errors);
  CHECK(nlohmann::json::parse(support::content_of(folder / "plan.json")).at("layers").at(layer) != scheme);
  CHECK(made.output.find(layer) != std::string::npos);
}

TEST_CASE("klens plan: scores that do not hold together are refused") {
  const temporary_folder folder;
  const nlohmann::json good = nlohmann::json::parse(support::content_of(scores_file()));
  const auto refused = [&](const std::function<void(nlohmann::json&)>& spoil, const std::string& because) {
    nlohmann::json bad = good;
    spoil(bad);
    std::ofstream{folder / "scores.json"} << bad;
    check_refused(run_klens("plan " + embedded_model + held_out + "--scores " + quoted(folder / "scores.json") +
                            " --budget 5bpw --output " + quoted(folder / "plan.json")),
                  because);
    CHECK(!std::filesystem::exists(folder / "plan.json"));
  };
  const std::string layer = good.at("candidates").at(3).at("layer"), scheme = good.at("candidates").at(3).at("scheme");
  refused([](auto& json) { json["model"]["fingerprint"] = "0123456789abcdef"; }, "the scores of another model");
  refused([](auto& json) { json["candidates"].erase(3); }, "the scores have no " + layer + " as " + scheme);
  refused([](auto& json) { json["candidates"].push_back(json["candidates"][3]); }, layer + " as " + scheme + " twice");
  refused([](auto& json) { json["candidates"][3]["metrics"]["kl"]["mean"] = nullptr; }, layer + " under " + scheme + " is NaN");
  refused([](auto& json) { json["candidates"][3]["layer"] = "model.layers.77.x.weight"; }, "a layer model.layers.77.x.weight");
  refused([](auto& json) { json["candidates"][3].erase("bytes"); }, "scores.json");
  refused([](auto& json) { json["format"] = "other"; }, "scores.json");
}

TEST_CASE("klens plan: tokens that were scored are refused as held-out, wherever they come from") {
  const temporary_folder folder;
  const std::string common = "plan " + embedded_model + " --scores " + quoted(scores_file()) + " --budget 5bpw --held-out ";
  check_refused(run_klens(common + support::calibration + " --sequences 2 --length 64"), "these tokens were used for scoring");
  check_refused(run_klens(common + support::calibration + " --sequences 4 --length 32"), "were used for scoring");
  check_refused(run_klens(common + support::calibration + " --sequences 2 --length 64 --first 60"), "were used for scoring");
  // The same text in another file, behind other tokens.
  const std::string calibration = support::example_data + "/wikitext2-calibration.safetensors";
  const std::vector<std::int64_t> scored = klens::safetensors{calibration}.integers("input_ids");
  std::vector<std::int32_t> ids(77, 5);
  for (std::size_t i = 20; i < 90; ++i) ids.push_back(static_cast<std::int32_t>(scored[i]));
  for (int i = 0; i < 80; ++i) ids.push_back(i);
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int32_t>("input_ids", {ids.size()}, ids)};
  klens::write_safetensors(folder / "other.safetensors", tensors);
  check_refused(run_klens(common + quoted(folder / "other.safetensors") + " --sequences 3 --length 64"),
                "were used for scoring; measure on others");
  const auto behind = run_klens(common + support::calibration + " --sequences 2 --length 64 --first 128");
  CHECK_MESSAGE(behind.exit_code == 0, behind.errors);

  // Nor may a plan be made by measuring on the held-out tokens.
  check_refused(run_plan("--allocator tolerance --calibration '" + held_out_file + "'"), "has tokens of the held-out ones");
  check_refused(run_plan("--allocator tolerance --calibration " + quoted(folder / "gone")), "name their file with");
}

TEST_CASE("plan --html: every planned layer is shown in the colour of its scheme, in a browser too") {
  const temporary_folder folder;
  const auto result =
      run_plan("--budget 5.5bpw --output " + quoted(folder / "plan.json") + " --html " + quoted(folder / "plan.html"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(result.output.find("page written to " + (folder / "plan.html").string()) != std::string::npos);
  const klens::plan plan = klens::read_plan(folder / "plan.json");
  const std::string page = support::content_of(folder / "plan.html");
  std::set<std::string> schemes;
  for (const klens::layer_scheme& each : plan.layers) {
    schemes.insert(each.scheme);
    CHECK(page.find(each.layer + " (") != std::string::npos);
    const std::size_t at = page.find(each.layer + " (");
    CHECK(page.substr(at, 200).find("): " + each.scheme + ", ") != std::string::npos);
  }
  REQUIRE(schemes.size() > 1);
  for (const char* load : {"http:", "https:", "src=", "href=", "url(", "@import"}) CHECK(page.find(load) == std::string::npos);
  check_refused(run_plan("--budget 5.5bpw --html /nowhere/plan.html"), "/nowhere/plan.html");
  if (!support::has_browser()) {
    MESSAGE("skipped: chromium is not installed");
    return;
  }
  const support::page_in_browser seen = support::look_at(page, 360);
  REQUIRE(seen.loaded);
  CHECK(seen.points == plan.layers.size() + schemes.size());
  CHECK_FALSE(seen.scrolls);
}
