// Token files that say which tokens count: padding and labels enter neither KL nor perplexity, and what klens cannot honour is
// refused by name.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <klens/io/plan_json.hpp>
#include <klens/io/safetensors.hpp>
#include <klens/io/scores_json.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "program/klens.hpp"

namespace {

using support::check_refused;
using support::quoted;
using support::run_klens;
using support::temporary_folder;

const std::filesystem::path cases{KLENS_TEST_DATA "/cases"};
const std::string model = quoted(cases / "padded-model");
const std::filesystem::path padded_tokens = cases / "padded-tokens.safetensors";
constexpr std::size_t rows = 4, length = 32;

struct token_rows {
  std::vector<std::int64_t> ids, mask;
};

token_rows padded() {
  const klens::safetensors file{padded_tokens};
  return {file.integers("input_ids"), file.integers("attention_mask")};
}

using columns = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

void write_tokens(const std::filesystem::path& path, const columns& tensors, std::size_t wide = length) {
  std::vector<klens::stored_tensor> stored;
  for (const auto& [name, values] : tensors)
    stored.push_back(klens::as_tensor<std::int64_t>(name, {values.size() / wide, wide}, values));
  klens::write_safetensors(path, stored);
}

// The number after a word that begins a line.
double number_after(const std::string& output, const std::string& word) {
  const std::size_t at = output.find("\n" + word) == std::string::npos ? output.find(word) : output.find("\n" + word) + 1;
  REQUIRE(at != std::string::npos);
  return std::stod(output.substr(at + word.size()));
}

// -ln P(token) by a row of logits, in plain double.
double nll(std::span<const float> row, std::int64_t token) {
  double sum = 0;
  for (const float each : row) sum += std::exp(static_cast<double>(each));
  return std::log(sum) - static_cast<double>(row[static_cast<std::size_t>(token)]);
}

std::vector<float> logits_of(const temporary_folder& folder, const std::filesystem::path& tokens) {
  const auto result = run_klens("logits " + model + " --tokens " + quoted(tokens) + " --output " + quoted(folder / "logits"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  return klens::safetensors{folder / "logits"}.values<float>("logits");
}

}  // namespace

TEST_CASE("right padding: perplexity is that of the real tokens") {
  const auto result = run_klens("evaluate " + model + " --tokens " + quoted(padded_tokens));
  CHECK(result.exit_code == 0);
  CHECK(std::abs(number_after(result.output, "nll ") - 4.6219) < 5e-5);  // computed in float64 over the same positions
  CHECK(number_after(result.output, "positions ") == 62);
  CHECK(result.output.find("62 of them padding") != std::string::npos);
}

TEST_CASE("left padding: the same answer as right padding, to the last digit") {
  const temporary_folder folder;
  token_rows right = padded(), left = right;
  for (std::size_t r = 0; r < rows; ++r) {
    std::size_t real = 0;
    while (real < length && right.mask[r * length + real] == 1) ++real;
    for (std::size_t t = 0; t < length; ++t) {
      const bool is_padding = t < length - real;
      left.mask[r * length + t] = is_padding ? 0 : 1;
      left.ids[r * length + t] = is_padding ? 0 : right.ids[r * length + t - (length - real)];
    }
  }
  write_tokens(folder / "left", {{"input_ids", left.ids}, {"attention_mask", left.mask}});
  const auto before = run_klens("evaluate " + model + " --tokens " + quoted(padded_tokens));
  const auto after = run_klens("evaluate " + model + " --tokens " + quoted(folder / "left"));
  const auto without_speed = [](const std::string& output) { return output.substr(0, output.find("speed")); };
  CHECK(without_speed(after.output) == without_speed(before.output));
}

TEST_CASE("labels of -100 are not asked for: the loss that PyTorch's cross_entropy gives with them") {
  const temporary_folder folder;
  const std::vector<std::int64_t> all = padded().ids, ids(all.begin(), all.begin() + 2 * length);
  std::vector<std::int64_t> labels = ids;
  for (std::size_t t = 0; t < 20; ++t) labels[t] = -100;          // a prompt, then its answer
  for (std::size_t t = 5; t < 9; ++t) labels[length + t] = -100;  // a turn in the middle
  write_tokens(folder / "labels", {{"input_ids", ids}, {"labels", labels}});
  write_tokens(folder / "plain", {{"input_ids", ids}});
  const std::vector<float> logits = logits_of(folder, folder / "plain");
  const std::size_t vocabulary = logits.size() / ids.size();
  double sum = 0, count = 0;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    if ((t + 1) % length == 0 || labels[t + 1] == -100) continue;
    sum += nll(std::span(logits).subspan(t * vocabulary, vocabulary), ids[t + 1]);
    count += 1;
  }
  const std::string tokens = quoted(folder / "labels");
  const auto result = run_klens("evaluate " + model + " --tokens " + tokens);
  CHECK(std::abs(number_after(result.output, "nll ") - sum / count) < 1e-5);
  CHECK(number_after(result.output, "positions ") == count);
}

TEST_CASE("a mask of ones and labels for every token change nothing") {
  const temporary_folder folder;
  const token_rows all = padded();
  write_tokens(folder / "plain", {{"input_ids", all.ids}});
  write_tokens(folder / "ones",
               {{"attention_mask", std::vector<std::int64_t>(all.ids.size(), 1)}, {"input_ids", all.ids}, {"labels", all.ids}});
  for (const char* command : {"evaluate ", "rank "}) {
    const auto plain = run_klens(command + model + " --tokens " + quoted(folder / "plain"));
    const auto ones = run_klens(command + model + " --tokens " + quoted(folder / "ones"));
    CHECK(ones.exit_code == 0);
    const auto without_speed = [](const std::string& output) {
      return output.substr(0, std::min(output.find("speed"), output.find(" forwards over")));
    };
    CHECK(without_speed(ones.output) == without_speed(plain.output));
  }
}

TEST_CASE("klens rank: a padded row has the sums of the row without padding, and the mean is over all real positions") {
  const temporary_folder folder;
  const std::string options = " --schemes int3-channel,int4-channel --layers 'layers.0|lm_head' --output ";
  const auto scored = [&](const std::filesystem::path& tokens) {
    const auto result = run_klens("rank " + model + " --tokens " + quoted(tokens) + options + quoted(folder / "scores.json"));
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    return klens::read_scores(folder / "scores.json").result;
  };
  const klens::scores together = scored(padded_tokens);
  CHECK(together.sequences == rows);
  CHECK(together.positions == 66);
  CHECK(std::abs(together.reference.nll() - 4.6219) < 5e-5);
  const token_rows all = padded();
  std::vector<double> values(together.candidates.size(), 0.0);
  double positions = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    std::vector<std::int64_t> row;
    for (std::size_t t = 0; t < length && all.mask[r * length + t] == 1; ++t) row.push_back(all.ids[r * length + t]);
    write_tokens(folder / "row", {{"input_ids", row}}, row.size());
    const klens::scores alone = scored(folder / "row");
    CHECK(alone.positions == row.size());
    positions += static_cast<double>(row.size());
    for (std::size_t c = 0; c < alone.candidates.size(); ++c) {
      for (const char* metric : {"kl", "delta_ce", "top1"}) {
        const std::size_t m = alone.index_of(metric);
        const klens::contribution one = alone.candidates[c].metrics[m].by_sequence[0],
                                  other = together.candidates[c].metrics[m].by_sequence[r];
        CHECK(other.weight == one.weight);
        CHECK(std::abs(other.value - one.value) <= 1e-3 * std::abs(one.value) + 1e-6 * one.weight);
      }
      values[c] += alone.candidates[c].metrics[0].by_sequence[0].value;
    }
  }
  CHECK(positions == 66);
  for (std::size_t c = 0; c < values.size(); ++c)
    CHECK(std::abs(together.candidates[c].metrics[0].mean / (values[c] / positions) - 1) < 1e-3);
}

TEST_CASE("labels of -100: klens rank measures where text is, and before it; one alone between text is passed over") {
  const temporary_folder folder;
  const std::vector<std::int64_t> all = padded().ids, ids(all.begin(), all.begin() + 2 * length);
  std::vector<std::int64_t> labels = ids;
  for (std::size_t t = 0; t < 20; ++t) labels[t] = -100;
  labels[length + 7] = -100;
  write_tokens(folder / "labels", {{"input_ids", ids}, {"labels", labels}});
  const std::string tokens = " --tokens " + quoted(folder / "labels");
  const auto ranked = run_klens("rank " + model + tokens + " --layers lm_head --schemes int4-channel --output " +
                                quoted(folder / "scores.json"));
  REQUIRE_MESSAGE(ranked.exit_code == 0, ranked.errors);
  CHECK(ranked.output.find("2 sequences of 32 tokens, 21 not asked for (labels of -100) (45 positions)") != std::string::npos);
  const klens::scores scores = klens::read_scores(folder / "scores.json").result;
  const auto evaluated = run_klens("evaluate " + model + tokens);
  CHECK(std::abs(scores.reference.nll() - number_after(evaluated.output, "nll ")) < 1e-6);
  CHECK(scores.reference.nll_by_sequence[0].weight == 12);             // tokens 20 .. 31
  CHECK(scores.reference.nll_by_sequence[1].weight == 30);             // 1 .. 31, but for 7
  CHECK(scores.candidates[0].metrics[0].by_sequence[0].weight == 13);  // from position 19 on
}

namespace {

// Text for a model, the same every time: `count` rows of `wide` tokens.
std::vector<std::int64_t> made_up(std::size_t count, std::size_t wide, std::int64_t seed) {
  std::vector<std::int64_t> ids;
  for (std::size_t i = 0; i < count * wide; ++i) {
    seed = (seed * 1103515245 + 12345) % (std::int64_t{1} << 31);
    ids.push_back(seed / 65536 % 64);
  }
  return ids;
}

// The same rows with `more` tokens of padding behind each.
columns padded_by(std::size_t more, const std::vector<std::int64_t>& ids, std::size_t wide) {
  std::vector<std::int64_t> longer, mask;
  for (std::size_t at = 0; at < ids.size(); ++at) {
    longer.push_back(ids[at]);
    mask.push_back(1);
    if ((at + 1) % wide != 0) continue;
    longer.insert(longer.end(), more, 3);
    mask.insert(mask.end(), more, 0);
  }
  return {{"attention_mask", mask}, {"input_ids", longer}};
}

// Numbers by name. Padding moves the last bits of the engine's products: logits of a few units by 1e-6, so a KL of 1e-3, which
// is about the square of what it moves, by 1e-4 of itself.
using numbers = std::map<std::string, double>;
void check_alike(const numbers& one, const numbers& other) {
  REQUIRE(one.size() == other.size());
  for (const auto& each : one) CHECK_MESSAGE(std::abs(other.at(each.first) / each.second - 1) < 1e-3, each.first);
}

}  // namespace

TEST_CASE("padding changes nothing that any command says") {
  const temporary_folder folder;
  constexpr std::size_t wide = 20, more = 12, count = 5;
  const std::vector<std::int64_t> ids = made_up(count, wide, 1), others = made_up(count, wide, 2);
  write_tokens(folder / "plain", {{"input_ids", ids}}, wide);
  write_tokens(folder / "plain-held-out", {{"input_ids", others}}, wide);
  write_tokens(folder / "padded", padded_by(more, ids, wide), wide + more);
  write_tokens(folder / "padded-held-out", padded_by(more, others, wide), wide + more);
  const std::string schemes = "--schemes int3-channel,int4-channel ";
  const auto answer = [&](const std::string& command, const std::string& arguments) {
    const auto result = run_klens(command + model + " " + arguments + " --output " + quoted(folder / "answer"));
    REQUIRE_MESSAGE(result.exit_code == 0, command << arguments << ": " << result.errors);
    return nlohmann::json::parse(support::content_of(folder / "answer"));
  };
  const auto tokens_of = [&](const std::string& which) { return "--tokens " + quoted(folder / which) + " "; };
  const auto held_out_of = [&](const std::string& which) {
    return "--held-out " + quoted(folder / (which + "-held-out")) + " ";
  };

  const auto ranked = [&](const std::string& which, const std::string& method, std::size_t sequences) {
    const nlohmann::json json = answer("rank ", tokens_of(which) + schemes + method);
    CHECK(json.at("tokens").at("positions") == sequences * wide);
    numbers kl;
    for (const nlohmann::json& each : json.at("candidates"))
      kl[each.at("layer").get<std::string>() + " " + each.at("scheme").get<std::string>()] =
          each.at("metrics").at("kl").at("mean");
    return kl;
  };
  check_alike(ranked("plain", "", count), ranked("padded", "", count));
  check_alike(ranked("plain", "--method local", 2), ranked("padded", "--method local", 2));  // it looks at so many

  (void)answer("rank ", tokens_of("plain") + schemes);
  std::filesystem::rename(folder / "answer", folder / "scores.json");
  const std::string scores = "--scores " + quoted(folder / "scores.json") + " ";
  const auto planned = [&](const std::string& which) {
    const nlohmann::json json = answer("plan ", held_out_of(which) + scores + "--budget 5bpw");
    const nlohmann::json& measured = json.at("measured");
    CHECK(measured.at("positions") == count * wide);
    numbers all{{"kl", measured.at("kl")}, {"ppl", measured.at("perplexity")}, {"top1", measured.at("top1")}};
    for (const auto& [name, of] : json.at("baselines").items()) all[name] = of.at("perplexity");
    return all;
  };
  check_alike(planned("plain"), planned("padded"));

  const auto swept = [&](const std::string& which) {
    const nlohmann::json json = answer("sweep ", held_out_of(which) + scores + "--budgets 3 --metrics kl --allocators exact");
    CHECK(json.at("tokens").at("positions") == count * wide);
    numbers all{{"untouched", json.at("perplexity")}};
    for (const nlohmann::json& each : json.at("points")) {
      const std::string name = each.at("metric").get<std::string>() + " " + std::to_string(each.at("bytes").get<int>());
      all[name + " ppl"] = each.at("perplexity");
      if (each.at("kl") != 0) all[name + " kl"] = each.at("kl");
    }
    return all;
  };
  check_alike(swept("plain"), swept("padded"));

  const auto validated = [&](const std::string& which) {
    const nlohmann::json json =
        answer("validate ", tokens_of(which) + held_out_of(which) + schemes + "--layers 'layers.0' --resamples 100");
    CHECK(json.at("calibration").at("positions") == count * wide);
    CHECK(json.at("held_out").at("positions") == count * wide);
    numbers all{{"untouched", json.at("perplexity")}};
    for (const nlohmann::json& each : json.at("candidates")) {
      const std::string name = each.at("layer").get<std::string>() + " " + each.at("scheme").get<std::string>();
      all[name + " kl"] = each.at("scores").at("kl");
      all[name + " ppl"] = each.at("perplexity");
    }
    return all;
  };
  check_alike(validated("plain"), validated("padded"));
}

TEST_CASE("klens plan and klens sweep measure over the positions that count: their perplexity is exp of evaluate's nll") {
  const temporary_folder folder;
  write_tokens(folder / "text", {{"input_ids", made_up(3, length, 5)}});
  const std::string scores = quoted(folder / "scores.json"),
                    held_out = " --held-out " + quoted(padded_tokens) + " --scores " + scores;
  REQUIRE(run_klens("rank " + model + " --tokens " + quoted(folder / "text") + " --output " + scores).exit_code == 0);
  const double nll = number_after(run_klens("evaluate " + model + " --tokens " + quoted(padded_tokens)).output, "nll ");

  const auto swept = run_klens("sweep " + model + held_out + " --budgets 2 --metrics kl --allocators exact --output " +
                               quoted(folder / "sweep.json"));
  REQUIRE_MESSAGE(swept.exit_code == 0, swept.errors);
  CHECK(swept.output.find("4 sequences of 32 tokens, 62 of them padding (66 positions)") != std::string::npos);
  const nlohmann::json sweep = nlohmann::json::parse(support::content_of(folder / "sweep.json"));
  CHECK(std::abs(std::log(sweep.at("perplexity").get<double>()) - nll) < 1e-6);  // six digits are printed
  CHECK(sweep.at("tokens").at("positions") == 66);

  const auto planned = run_klens("plan " + model + held_out + " --budget 5bpw --output " + quoted(folder / "plan.json"));
  REQUIRE_MESSAGE(planned.exit_code == 0, planned.errors);
  CHECK(planned.output.find("62 of them padding (66 positions)") != std::string::npos);
  const klens::plan plan = klens::read_plan(folder / "plan.json");
  CHECK(plan.measured->positions == 66);
  CHECK(std::abs(std::log(plan.baselines.at("f32").perplexity) - nll) < 1e-6);
}

TEST_CASE("text that was scored is found behind padding, and where it stands counts the padding") {
  const temporary_folder folder;
  const std::vector<std::int64_t> text = made_up(2, 64, 9);
  write_tokens(folder / "scored", {{"input_ids", text}}, 64);
  const std::string scores = quoted(folder / "scores.json");
  REQUIRE(run_klens("rank " + model + " --tokens " + quoted(folder / "scored") + " --layers lm_head --output " + scores)
              .exit_code == 0);
  // A row of other text, then the scored text over two rows; the first two rows are padded at their beginning.
  std::vector<std::int64_t> ids, mask;
  const auto add = [&](std::size_t padding, std::vector<std::int64_t> row) {
    ids.insert(ids.end(), padding, 0);
    mask.insert(mask.end(), padding, 0);
    ids.insert(ids.end(), row.begin(), row.end());
    mask.insert(mask.end(), row.size(), 1);
  };
  add(10, made_up(1, 54, 77));
  add(8, {text.begin(), text.begin() + 56});
  add(0, {text.begin() + 56, text.begin() + 120});
  write_tokens(folder / "held-out", {{"input_ids", ids}, {"attention_mask", mask}}, 64);
  const std::string held_out = " --held-out " + quoted(folder / "held-out");
  const auto planned =
      run_klens("plan " + model + held_out + " --scores " + scores + " --budget 5bpw --exclude '^(?!lm_head)'");
  check_refused(planned, "its tokens from input_ids[");
  const std::size_t at = std::stoul(planned.errors.substr(planned.errors.find("input_ids[") + 10));
  CHECK(at >= 72);  // the sketch keeps every 16th run or so
  CHECK(at < 72 + 32);
  check_refused(run_klens("validate " + model + " --tokens " + quoted(folder / "scored") + held_out),
                "its text from input_ids[72] on");
}

TEST_CASE("masks that klens cannot honour are refused by name") {
  const temporary_folder folder;
  const token_rows all = padded();
  const auto refused = [&](const columns& tensors, const std::string& because) {
    write_tokens(folder / "tokens", tensors);
    for (const char* command : {"evaluate ", "rank "})
      check_refused(run_klens(command + model + " --tokens " + quoted(folder / "tokens")), because);
  };
  auto mask = std::vector<std::int64_t>(all.ids.size(), 1);
  mask[5] = 0;
  refused({{"input_ids", all.ids}, {"attention_mask", mask}}, "attention_mask[5] is 0");
  mask[5] = 2;
  refused({{"input_ids", all.ids}, {"attention_mask", mask}}, "attention_mask[5] is 2");
  refused({{"input_ids", all.ids}, {"attention_mask", std::vector<std::int64_t>(all.ids.size(), 0)}}, "holds 0 sequences");
  refused({{"input_ids", all.ids}, {"attention_mask", std::vector<std::int64_t>(length, 1)}},
          "attention_mask has shape [1, 32]");
  auto labels = all.ids;
  labels[40] = (labels[41] + 1) % 64 == labels[40] ? labels[41] : (labels[41] + 1) % 64;
  labels[40] = labels[40] == all.ids[40] ? (labels[40] + 1) % 64 : labels[40];
  refused({{"input_ids", all.ids}, {"labels", labels}}, "labels[40]");
  std::vector<std::int64_t> positions;
  for (std::size_t at = 0; at < all.ids.size(); ++at) positions.push_back(static_cast<std::int64_t>(at % length));
  write_tokens(folder / "counting", {{"input_ids", all.ids}, {"position_ids", positions}});
  CHECK(run_klens("evaluate " + model + " --tokens " + quoted(folder / "counting")).exit_code == 0);
  for (std::size_t at = 17; at < length; ++at) positions[at] -= 17;
  refused({{"input_ids", all.ids}, {"position_ids", positions}}, "position_ids[17] is 0 after 16");
  refused({{"input_ids", all.ids}, {"segment_ids", all.ids}}, "segment_ids");
  const std::vector<float> floats(all.ids.size(), 1.0f);
  for (const char* name : {"logits", "loss_mask"}) {  // a result, and what may be none
    const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int64_t>("input_ids", {rows, length}, all.ids),
                                                    klens::as_tensor<float>(name, {rows, length}, floats)};
    klens::write_safetensors(folder / "floats", tensors);
    const auto result = run_klens("evaluate " + model + " --tokens " + quoted(folder / "floats"));
    CHECK(result.exit_code == (std::string{name} == "logits" ? 0 : 2));
  }
}

TEST_CASE("sequences without a next token, and sequences beyond what the model was made for") {
  const temporary_folder folder;
  const std::string tokens = " --tokens " + quoted(padded_tokens);
  for (const char* command : {"evaluate ", "rank "})
    check_refused(run_klens(command + model + tokens + " --length 1"), "--length 1");
  auto ids = padded().ids;
  ids.resize(96);
  write_tokens(folder / "long", {{"input_ids", ids}}, 96);
  const auto fine = run_klens("evaluate " + model + " --length 64 --tokens " + quoted(folder / "long"));
  CHECK(fine.exit_code == 0);
  CHECK(fine.errors.empty());
  const auto beyond = run_klens("evaluate " + model + " --length 96 --tokens " + quoted(folder / "long"));
  CHECK(beyond.exit_code == 0);
  CHECK(beyond.errors.find("96 tokens are longer than this model's max_position_embeddings of 64") != std::string::npos);
}
