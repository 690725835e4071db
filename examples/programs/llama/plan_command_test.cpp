// klens-llama plan: what it decides, the bytes that this takes, and what is refused.
#include "plan_command.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <klens/io/scores_json.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "ggml_format.hpp"
#include "llama_test.hpp"
#include "support/near.hpp"

namespace {

using namespace llama_adapter;
using support::quoted;

const std::filesystem::path& model() {
  static const std::filesystem::path path = written(tiny_model{}, "planned.gguf");
  return path;
}

// Scores of all 16 matrices, or of some; made once for each choice of options.
std::filesystem::path scores_of(const std::string& options) {
  static std::map<std::string, std::filesystem::path> made;
  std::filesystem::path& path = made[options];
  if (!path.empty()) return path;
  path = scratch("scores-" + std::to_string(made.size()) + ".json");
  const auto result = support::run_klens("rank " + quoted(model()) + " --tokens " + quoted(written(some_tokens(32), "ids")) +
                                         " --chunks 4 --context 8 --metrics kl --output " + quoted(path) + " " + options);
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  return path;
}
const std::string three_types = "--types q4_0,q4_k,q8_0 ";

struct planned {
  std::string output, text;
  std::map<std::string, std::string> types;  // by tensor, from the tensor type file

  [[nodiscard]] std::uint64_t number_after(const std::string& words) const {
    const std::size_t at = output.find(words);
    REQUIRE_MESSAGE(at != std::string::npos, output);
    return std::stoull(output.substr(at + words.size()));
  }
  [[nodiscard]] std::uint64_t bytes() const { return number_after("16 tensors, "); }
};

std::string command(const std::string& scored, const std::string& options) {
  std::filesystem::remove(scratch("types.txt"));
  return "plan " + quoted(model()) + " --scores " + quoted(scores_of(scored)) + " --output " + quoted(scratch("types.txt")) +
         " " + options;
}

planned plan(const std::string& scored, const std::string& options) {
  const auto result = support::run_klens(command(scored, options));
  REQUIRE_MESSAGE(result.exit_code == 0, options << ": " << result.errors);
  planned made{result.output, support::content_of(scratch("types.txt")), {}};
  std::istringstream lines{made.text};
  for (std::string line; std::getline(lines, line);) {  // ^blk\.0\.attn_q\.weight$=q8_0
    const std::size_t end = line.find("$=");
    REQUIRE(end != std::string::npos);
    std::string name = line.substr(1, end - 1);
    std::erase(name, '\\');
    made.types[name] = line.substr(end + 2);
  }
  return made;
}

void check_refused(const std::string& scored, const std::string& options, const std::string& because) {
  support::check_refused(support::run_klens(command(scored, options)), because);
  CHECK_FALSE(std::filesystem::exists(scratch("types.txt")));
}

// Of a matrix of the tiny model, from the layout of ggml's blocks.
std::uint64_t bytes_of(const std::string& tensor, const std::string& type) {
  const bool wide = holds(tensor, "ffn_gate") || holds(tensor, "ffn_up"), down = holds(tensor, "ffn_down");
  const std::uint64_t columns = down ? 96 : 256, rows = wide ? 96 : holds(tensor, "blk.") ? 256 : 11;
  const std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> blocks{
      {"f16", {1, 2}}, {"q4_0", {32, 18}}, {"q4_k", {256, 144}}, {"q5_0", {32, 22}}, {"q8_0", {32, 34}}};
  const auto [weights, bytes] = blocks.at(type);
  REQUIRE(columns % weights == 0);
  return (rows * columns / weights * bytes + 31) / 32 * 32;  // every tensor begins at a multiple of 32
}
std::uint64_t bytes_of(const std::map<std::string, std::string>& types) {
  std::uint64_t sum = 0;
  for (const auto& [name, type] : types) sum += bytes_of(name, type);
  return sum;
}

std::map<std::string, std::string> all_as(const std::string& type) {
  std::map<std::string, std::string> types;
  const gguf_file file{model()};
  for (const gguf_tensor& each : file.tensors())
    if (each.rows > 1) types[each.name] = type;
  return types;
}

std::uint64_t made_bytes(llama_ftype mixture) { return std::filesystem::file_size(quantized(gguf_file{model()}, mixture)); }

// Norms and metadata in a file that llama-quantize wrote.
std::uint64_t bytes_of_the_rest() {
  static const std::uint64_t bytes = made_bytes(LLAMA_FTYPE_MOSTLY_Q8_0) - bytes_of(all_as("q8_0"));
  return bytes;
}

double damage_of(const klens::scores& scores, const std::map<std::string, std::string>& types,
                 const std::string& asked_for_q5_0) {
  double sum = 0;
  for (const auto& [name, type] : types) {
    if (type == "f16") continue;
    const klens::layer_score* const scored = scores.find(name, type == "q5_0" ? asked_for_q5_0 : type);
    REQUIRE(scored);
    sum += scored->metrics[0].mean;
  }
  return sum;
}

}  // namespace

TEST_CASE("klens-llama plan: bytes are those of the file that llama-quantize writes, whatever the types") {
  const gguf_file file{model()};
  for (const char* budget : {"--bpw 4.6", "--bpw 5.5", "--bpw 7", "--bpw 9", "--bpw 12", "--like Q4_K_M"}) {
    CAPTURE(budget);
    const planned made = plan(three_types, budget);
    REQUIRE(made.types.size() == 16);
    CHECK(made.bytes() == bytes_of_the_rest() + bytes_of(made.types));
    tensor_types types;
    for (const auto& [name, type] : made.types) types[name] = ggml_format{type}.type();
    CHECK(made.bytes() == std::filesystem::file_size(quantized(file, types)));
    const std::size_t at = made.output.find("kl predicted ");
    REQUIRE(at != std::string::npos);
    const double expected = damage_of(klens::read_scores(scores_of(three_types)).result, made.types, "q4_k");
    CHECK(std::stod(made.output.substr(at + 13)) == near{expected, 5e-5});  // five digits are printed
  }
  const planned table = plan(three_types, "--like Q5_K_S");
  CHECK(table.number_after("\nQ4_K_M") == made_bytes(LLAMA_FTYPE_MOSTLY_Q4_K_M));
  CHECK(table.number_after("\nQ4_0") == made_bytes(LLAMA_FTYPE_MOSTLY_Q4_0));
  CHECK(table.number_after("\nQ5_K_S") == made_bytes(LLAMA_FTYPE_MOSTLY_Q5_K_S));
}

TEST_CASE("klens-llama plan: limits are of the file, of its tensors, and of a mixture") {
  std::uint64_t weights = 5 * 256;
  for (const auto& [name, type] : all_as("f16")) weights += bytes_of(name, type) / 2;
  const std::uint64_t metadata = bytes_of_the_rest() - 5 * 256 * 4, of_tensors = weights * 65 / 80;  // 6.5 bits each
  const planned by_bits = plan(three_types, "--bpw 6.5");
  CHECK(by_bits.bytes() <= metadata + of_tensors);
  const std::string row = "\nplan    " + std::to_string(by_bits.bytes());
  const std::size_t at = by_bits.output.find(row);
  REQUIRE(at != std::string::npos);
  CHECK(std::stod(by_bits.output.substr(at + row.size())) ==
        near{8 * static_cast<double>(by_bits.bytes() - metadata) / static_cast<double>(weights), 0, 6e-4});  // three digits
  CHECK(plan(three_types, "--size " + std::to_string(metadata + of_tensors)).text == by_bits.text);
  CHECK(plan(three_types, "--size " + std::to_string(by_bits.bytes())).text == by_bits.text);
  CHECK(plan(three_types, "--size " + std::to_string(by_bits.bytes() - 1)).bytes() < by_bits.bytes());
  const std::uint64_t mixture = made_bytes(LLAMA_FTYPE_MOSTLY_Q4_K_M);
  CHECK(plan(three_types, "--like Q4_K_M").text == plan(three_types, "--size " + std::to_string(mixture)).text);
}

TEST_CASE("klens-llama plan: the type file and the command say all that llama-quantize needs") {
  const std::string smallest = "--size " + std::to_string(bytes_of_the_rest() + bytes_of(all_as("q8_0"))) + " ";
  const planned made = plan("--types q8_0", smallest);
  CHECK(made.types == all_as("q8_0"));
  CHECK(holds(made.text, "^token_embd\\.weight$=q8_0\n"));
  CHECK(holds(made.text, "^blk\\.1\\.ffn_down\\.weight$=q8_0\n"));
  CHECK(holds(made.output, "use: llama-quantize --tensor-type-file " + quoted(scratch("types.txt")) + " " + quoted(model()) +
                               " 'OUTPUT.gguf' q8_0\n"));
  // Rows of 96 columns have no q4_k.
  std::map<std::string, std::string> smaller = all_as("q4_k");
  for (const char* each : {"blk.0.ffn_down.weight", "blk.1.ffn_down.weight"}) smaller[each] = "q5_0";
  const std::string least = "--size " + std::to_string(bytes_of_the_rest() + bytes_of(smaller));
  CHECK(plan("--types q4_k", least).types == smaller);
  check_refused("--types q4_k", "--size " + std::to_string(bytes_of_the_rest() + bytes_of(smaller) - 1), "plan");
}

TEST_CASE("klens-llama plan: a tensor whose type is told gets it, and llama-quantize's mixtures are told the same") {
  const std::string told = "--output-tensor-type q8_0 --token-embedding-type Q4_K ";
  for (const char* budget : {"--bpw 5 ", "--bpw 8 ", "--bpw 12 "}) {
    CAPTURE(budget);
    const planned made = plan(three_types, budget + told);
    CHECK(made.types.at("output.weight") == "q8_0");
    CHECK(made.types.at("token_embd.weight") == "q4_k");
    CHECK(made.bytes() == bytes_of_the_rest() + bytes_of(made.types));
  }
  const planned like = plan(three_types, "--like Q4_0 --pure " + told);
  std::map<std::string, std::string> pure = all_as("q4_0");
  pure["output.weight"] = "q8_0";
  pure["token_embd.weight"] = "q4_k";
  CHECK(like.number_after("\nQ4_0") == bytes_of_the_rest() + bytes_of(pure));
  CHECK(plan(three_types, "--like Q4_0").number_after("\nQ4_0") != bytes_of_the_rest() + bytes_of(all_as("q4_0")));
  CHECK(plan(three_types, "--like Q4_0 --pure").number_after("\nQ4_0") == bytes_of_the_rest() + bytes_of(all_as("q4_0")));
  CHECK(plan(three_types, "--bpw 20 --output-tensor-type f16").types == all_as("f16"));  // it has that already
  check_refused(three_types, "--bpw 8 --output-tensor-type q6_k", "the scores do not know output.weight as q6_k");
  check_refused(three_types, "--bpw 8 --output-tensor-type q9_k", "unknown type 'q9_k'");
  check_refused(three_types, "--bpw 8 --output-tensor-type iq2_xs", "the type iq2_xs needs an importance matrix");
  check_refused(three_types, "--like IQ2_XS", "--like IQ2_XS: llama-quantize makes it with an importance matrix only");
}

TEST_CASE("klens-llama plan: tensors are kept by name, and by what they would lose") {
  const planned kept = plan(three_types, "--bpw 8 --keep output --keep token_embd");
  for (const auto& each : kept.types) {
    CAPTURE(each.first);
    CHECK((each.second == "f16" || !(holds(each.first, "output") || holds(each.first, "token_embd"))));
  }

  // The least that a floor in the midst of the losses leaves: q8_0 up to there, f16 above it.
  const klens::scores scores = klens::read_scores(scores_of("--types q8_0")).result;
  std::vector<double> losses;
  for (const klens::layer_score& each : scores.candidates) losses.push_back(each.metrics[0].mean);
  std::ranges::sort(losses);
  std::map<std::string, std::string> least = all_as("q8_0");
  for (auto& [name, type] : least)
    if (scores.find(name, "q8_0")->metrics[0].mean > losses[7]) type = "f16";
  std::ostringstream floor;
  floor << std::setprecision(17) << " --floor " << losses[7];
  const std::uint64_t bytes = bytes_of_the_rest() + bytes_of(least);
  CHECK(plan("--types q8_0", "--size " + std::to_string(bytes) + floor.str()).types == least);
  check_refused("--types q8_0", "--size " + std::to_string(bytes - 1) + floor.str(), "plan: nothing fits");
  CHECK(plan(three_types, "--bpw 17 --floor 1e-300").types == all_as("f16"));
}

TEST_CASE("klens-llama plan: a tensor of which nobody knows what it loses stays as it is in the file, and is named") {
  nlohmann::json json = nlohmann::json::parse(support::content_of(scores_of(three_types)));
  for (nlohmann::json& each : json.at("candidates"))
    if (each.at("layer") == "blk.1.attn_k.weight") each["result"] = "output_unchanged";
  std::ofstream{scratch("unknown.json")} << json;
  const std::string command = "plan " + quoted(model()) + " --bpw 6 --output " + quoted(scratch("types.txt")) + " --scores " +
                              quoted(scratch("unknown.json"));
  const auto kept = support::run_klens(command);
  REQUIRE_MESSAGE(kept.exit_code == 0, kept.errors);
  CHECK(holds(support::content_of(scratch("types.txt")), "^blk\\.1\\.attn_k\\.weight$=f16\n"));
  CHECK(holds(kept.output, "blk.1.attn_k.weight gets f16: as q4_0, q4_k, q8_0 its change reached no logit"));
  CHECK(holds(kept.output, "proven for the layers whose damage is known"));
  const auto assumed = support::run_klens(command + " --assume-harmless 'blk.1.attn_k'");
  REQUIRE_MESSAGE(assumed.exit_code == 0, assumed.errors);
  CHECK_FALSE(holds(support::content_of(scratch("types.txt")), "attn_k\\.weight$=f16\n"));
  CHECK(holds(assumed.output, "assumed harmless, not measured:\n  blk.1.attn_k.weight"));
  CHECK_FALSE(holds(assumed.output, "proven"));
}

TEST_CASE("klens-llama plan: held-out tokens are measured where they count, and llama-perplexity gets none with masks") {
  const std::string held_out = " --tokens " + quoted(written_padded(some_tokens(40, 500), 8, 3, "held-out.safetensors"));
  const auto result = support::run_klens(command(three_types, "--bpw 6" + held_out));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(holds(result.output, "held out: 5 sequences of 11 tokens, 15 of them padding (40 positions)"));
  const std::filesystem::path tools = scratch("tools");
  std::filesystem::create_directory(tools);
  for (const char* each : {"llama-quantize", "llama-perplexity"}) {
    std::ofstream{tools / each} << "#!/bin/sh\nexit 1\n";
    std::filesystem::permissions(tools / each, std::filesystem::perms::owner_all);
  }
  check_refused(three_types,
                "--bpw 6 --verify --tools " + quoted(tools) + " --quantized " + quoted(scratch("made.gguf")) + held_out,
                "--verify: llama-perplexity would count padding");
}

TEST_CASE("klens-llama plan: scores of another model and scores that are not enough are refused, and nothing is written") {
  check_refused("--types q4_0 --tensors blk", "--bpw 8", "the scores have no token_embd.weight as q4_0");
  CHECK(plan("--types q4_0 --tensors blk", "--bpw 8 --keep embd --keep ^output").types.size() == 16);
  check_refused(three_types, "--size 100", "bytes alone; the limit is 100");
  check_refused(three_types, "--size " + std::to_string(bytes_of_the_rest() + 1000), "plan");
  check_refused(three_types, "", "give one of --size, --bpw and --like");
  check_refused(three_types, "--bpw 5 --like Q4_0", "give one of --size, --bpw and --like");
  check_refused(three_types, "--like Q4", "--like 'Q4' is not known; known are Q4_0");
  check_refused(three_types, "--bpw 5 --keep nowhere", "'nowhere' matches no layer");
  check_refused(three_types, "--bpw 5 --floor 0", "--floor: wants a KL above 0");
  check_refused(three_types, "--bpw 5 --context 8 --tokens " + quoted(written(some_tokens(40), "same")), "overlap");
  // Scores that name a tensor which the model has not.
  const std::string scores = support::content_of(scores_of(three_types));
  std::ofstream{scratch("renamed.json")} << std::regex_replace(scores, std::regex{"blk\\.1\\.attn_q"}, "blk.7.attn_q");
  support::check_refused(support::run_klens("plan " + quoted(model()) + " --bpw 8 --scores " + quoted(scratch("renamed.json"))),
                         "the scores have a tensor 'blk.7.attn_q.weight' that llama-quantize would not change");
  const std::filesystem::path other = written(tiny_model{.wave = 0.6f}, "other.gguf");
  support::check_refused(support::run_klens("plan " + quoted(other) + " --scores " + quoted(scores_of(three_types)) +
                                            " --bpw 8 --output " + quoted(scratch("types.txt"))),
                         "has the scores of another model, ");
  CHECK_FALSE(std::filesystem::exists(scratch("types.txt")));
}
