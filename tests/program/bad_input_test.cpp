// Whatever is wrong with the input: one line on stderr that names it, exit code 2, nothing half written.
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <klens/io/safetensors.hpp>
#include <string>
#include <vector>

#include "program/klens.hpp"

namespace {

using support::calibration;
using support::check_refused;
using support::embedded_model;
using support::quoted;
using support::run_klens;
using support::temporary_folder;

std::string quick(const std::string& model, const std::string& tokens) {
  return "rank " + model + " --tokens " + tokens + " --sequences 1 --length 8 --layers x_proj ";
}

void write(const std::filesystem::path& file, const std::string& content) { std::ofstream{file, std::ios::binary} << content; }

void write_tokens(const std::filesystem::path& file, const std::vector<std::int32_t>& ids,
                  const std::string& name = "input_ids") {
  const std::vector<klens::stored_tensor> tensors{klens::as_tensor<std::int32_t>(name, {ids.size()}, ids)};
  klens::write_safetensors(file, tensors);
}

// A copy of the embedded model that a test may break.
std::filesystem::path copied_model(const temporary_folder& folder) {
  const auto copy = folder / "model";
  std::filesystem::create_directory(copy);
  for (const char* file : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(support::example_data + "/wikitext-hybrid-4m/" + file, copy / file);
  return copy;
}

void replace_in(const std::filesystem::path& file, const std::string& from, const std::string& to) {
  std::string content = support::content_of(file);
  const std::size_t at = content.find(from);
  REQUIRE(at != std::string::npos);
  write(file, content.replace(at, from.size(), to));
}

}  // namespace

TEST_CASE("bad command lines") {
  check_refused(run_klens(""), "subcommand");
  check_refused(run_klens("fly"), "subcommand");
  check_refused(run_klens("rank"), "MODEL");
  check_refused(run_klens("rank " + embedded_model), "--tokens");
  const std::string fine = quick(embedded_model, calibration);
  check_refused(run_klens(fine + "--threads 0"), "--threads");
  check_refused(run_klens(fine + "--batch none"), "--batch");
  check_refused(run_klens(fine + "--sequences -3"), "--sequences");
  check_refused(run_klens(fine + "--schemes int9-channel"), "int9-channel");
  check_refused(run_klens(fine + "--schemes int4-g0"), "int4-g0");
  check_refused(run_klens(fine + "--schemes int4-channel,int4-channel"), "int4-channel");
  check_refused(run_klens(fine + "--schemes ''"), "scheme");
  check_refused(run_klens(fine + "--metrics kl,beauty"), "beauty");
  check_refused(run_klens(fine + "--metrics kl,kl"), "kl");
  check_refused(run_klens(fine + "--metrics mse --sort kl"), "--sort kl");
  check_refused(run_klens("rank " + embedded_model + " --tokens " + calibration + " --layers no_such_layer"), "no_such_layer");
  check_refused(run_klens("rank " + embedded_model + " --tokens " + calibration + " --layers '('"), "regular expression");
  check_refused(run_klens("rank " + embedded_model + " --tokens " + calibration + " --layers dt_proj --schemes q4_0"),
                "q4_0");  // rows of 12: nothing is left
}

TEST_CASE("bad tokens") {
  const temporary_folder folder;
  const auto file = folder / "tokens.safetensors";
  const auto refused = [&](const std::string& because) {
    check_refused(run_klens(quick(embedded_model, quoted(file))), because);
  };
  refused(file.string());  // not there
  write(file, "");
  refused("is empty");
  write(file, "abc");
  refused(file.string());
  write_tokens(file, std::vector<std::int32_t>(100, 1), "tokens");
  refused("input_ids");
  write_tokens(file, std::vector<std::int32_t>(7, 1));
  refused("holds 0 sequences of 8 tokens");
  write_tokens(file, {1, 2, 3, 4, 5, 6, 7, 2048, 9});
  refused("input_ids[7] is 2048, outside the model's vocabulary of 2048");
  write_tokens(file, {1, 2, -3, 4, 5, 6, 7, 8, 9});
  refused("input_ids[2] is -3");
  const std::vector<float> floats(9, 1.0f);
  const std::vector<klens::stored_tensor> wrong_type{klens::as_tensor<float>("input_ids", {9}, floats)};
  klens::write_safetensors(file, wrong_type);
  refused("F32");
  const std::vector<std::int32_t> ids(8, 1);
  const std::vector<klens::stored_tensor> wrong_shape{klens::as_tensor<std::int32_t>("input_ids", {2, 2, 2}, ids)};
  klens::write_safetensors(file, wrong_shape);
  refused("[2, 2, 2]");

  write_tokens(file, std::vector<std::int32_t>(64, 1));
  const std::string model_and_tokens = embedded_model + " --tokens " + quoted(file);
  check_refused(run_klens("rank " + model_and_tokens + " --length 65"), "holds 0 sequences of 65 tokens");
  check_refused(run_klens("rank " + model_and_tokens + " --length 16 --sequences 5"),
                "holds 4 sequences of 16 tokens after the first 0, not 5");
  check_refused(run_klens("rank " + model_and_tokens + " --first 64"), "none after the first 64");
  check_refused(run_klens("rank " + model_and_tokens + " --length 0"), "--length 0");
  check_refused(run_klens("rank " + model_and_tokens + " --length 8 --sequences 0"), "--sequences 0");
  check_refused(run_klens("evaluate " + model_and_tokens + " --length 1"), "--length 1");
}

TEST_CASE("bad models") {
  const temporary_folder folder;
  check_refused(run_klens(quick(quoted(folder / "nowhere"), calibration)), "nowhere");
  check_refused(run_klens(quick(quoted(folder / "red\x1b[31m"), calibration)), "red?[31m");  // nothing that a terminal obeys
  const auto model = copied_model(folder);
  const auto refused = [&](const std::string& because) {
    check_refused(run_klens(quick(quoted(model), calibration)), because);
  };
  const auto restore = [&](const char* file) {
    std::filesystem::copy_file(support::example_data + "/wikitext-hybrid-4m/" + file, model / file,
                               std::filesystem::copy_options::overwrite_existing);
  };
  CHECK(run_klens(quick(quoted(model), calibration)).exit_code == 0);

  std::filesystem::remove(model / "config.json");
  refused("config.json");
  write(model / "config.json", "{\"model_type\": \"jamba\", ");
  refused("config.json");
  write(model / "config.json", "[]");
  refused("config.json");
  restore("config.json");
  replace_in(model / "config.json", "\"jamba\"", "\"zebra\"");
  refused("zebra");
  restore("config.json");
  replace_in(model / "config.json", "\"hidden_size\": 192", "\"hidden_size\": 196");
  refused("hidden_size");
  restore("config.json");
  replace_in(model / "config.json", "\"hidden_size\": 192", "\"hidden_size\": \"wide\"");
  refused("hidden_size");
  restore("config.json");
  replace_in(model / "config.json", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"tanh\"");
  refused("hidden_act");
  restore("config.json");

  std::filesystem::resize_file(model / "model.safetensors", 4000000);
  refused("model.safetensors");
  std::filesystem::resize_file(model / "model.safetensors", 0);
  refused("model.safetensors");
  restore("model.safetensors");
  replace_in(model / "model.safetensors", "\"F16\"", "\"F99\"");
  refused("F99");
  restore("model.safetensors");
  replace_in(model / "model.safetensors", "model.layers.3.mamba.x_proj.weight", "model.layers.3.mamba.y_proj.weight");
  refused("_proj");
  restore("model.safetensors");
  {
    std::fstream file{model / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary};
    const std::uint64_t lie = std::uint64_t{1} << 60;
    file.write(reinterpret_cast<const char*>(&lie), sizeof lie);
  }
  refused("model.safetensors");
  restore("model.safetensors");
  {  // the last weights of the file become NaN
    std::fstream file{model / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary};
    file.seekp(-4096, std::ios::end);
    const std::string nan(4096, '\xff');
    file.write(nan.data(), 4096);
  }
  const auto poisoned = run_klens("rank " + quoted(model) + " --tokens " + calibration + " --sequences 1 --length 8");
  check_refused(poisoned, "holds a NaN");
}

TEST_CASE("an output that cannot be written is known before the work, and nothing is left of it") {
  const temporary_folder folder;
  const std::string fine = quick(embedded_model, calibration);
  check_refused(run_klens(fine + "--output " + quoted(folder / "no") + "/such/folder.json"), "no/such/folder.json");
  check_refused(run_klens(fine + "--output " + quoted(folder.path())), "is a folder");
  check_refused(run_klens("logits " + embedded_model + " --tokens " + calibration + " --length 8 --sequences 1 --output " +
                          quoted(folder.path())),
                "is a folder");
  // A scan that fails leaves an older file as it was.
  const auto file = folder / "scores.json";
  write(file, "older");
  check_refused(run_klens(fine + "--schemes nonsense --output " + quoted(file)), "nonsense");
  CHECK(support::content_of(file) == "older");
  CHECK(std::distance(std::filesystem::directory_iterator{folder.path()}, {}) == 1);
}

TEST_CASE("a full disk while writing is an error, not a short file") {
  if (!std::filesystem::exists("/dev/full")) return;
  const auto result = run_klens(quick(embedded_model, calibration) + "--output /dev/full");
  CHECK(result.exit_code == 2);
  CHECK(result.errors.find("/dev/full") != std::string::npos);
}
