// Token files that say which tokens count: padding and labels enter neither KL nor perplexity, and what klens cannot honour is
// refused by name.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <klens/io/safetensors.hpp>
#include <span>
#include <string>
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

TEST_CASE("commands that do not honour masks refuse them by name") {
  const temporary_folder folder;
  const std::string tokens = quoted(padded_tokens);
  const token_rows all = padded();
  write_tokens(folder / "plain", {{"input_ids", all.ids}});
  const std::string scores = quoted(folder / "scores.json");
  REQUIRE(run_klens("rank " + model + " --tokens " + quoted(folder / "plain") + " --output " + scores).exit_code == 0);
  check_refused(run_klens("rank " + model + " --tokens " + tokens), "attention_mask");
  check_refused(run_klens("plan " + model + " --scores " + scores + " --held-out " + tokens + " --budget 5bpw"),
                "attention_mask");
  check_refused(run_klens("sweep " + model + " --scores " + scores + " --held-out " + tokens + " --output " +
                          quoted(folder / "sweep.json")),
                "attention_mask");
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
