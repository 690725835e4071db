#include <klens/io/scores_json.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>

#include "support/run_program.hpp"
#include "support/same_scores.hpp"

namespace {

klens::scores_file example() {
  klens::scores_file file;
  file.origin = {"models/a \"b\"", "0123456789abcdef", "tokens.safetensors", "fedcba9876543210", 256, 7, 123456789012, {}};
  file.origin.sketch = {0, (std::uint64_t{1} << 53) - 1};
  klens::scores& all = file.result;
  all.metrics = {{"kl", "nats/token", true}, {"sqnr", "dB", false}, {"delta_ce", "nats/token", true}};
  all.metrics[0].damage = klens::damage_scale::mean;
  all.metrics[1].damage = klens::damage_scale::noise_over_signal_db;
  all.sequences = 2;
  all.positions = 512;
  all.tokens = 600;
  all.complete = true;
  all.cost = {70.277213352685106, 12.5};
  all.reference.nll_by_sequence = {{1.0 / 3, 255}, {std::nextafter(2.0, 3.0), 255}};
  all.skipped = {"x: q4_0 cannot store rows of 12"};
  all.remarks = {"2 predicted scores mean nothing"};
  klens::layer_score one;
  one.layer = "model.layers.0.mamba.x_proj.weight";
  one.kind = "x_proj";
  one.scheme = "int4-channel";
  one.note = "tied";
  one.rows = 44;
  one.columns = 384;
  one.bytes = 8536;
  one.positions = 512;
  one.result = klens::outcome::measured;
  one.place = klens::standing::below;
  one.weight_sqnr_db = 18.278924971429134;
  one.source = klens::score_source::local;
  one.local_energy = 1.0 / 7;
  one.gain = 2.0 / 3;
  one.metrics.resize(3);
  one.metrics[0] = {9.0123456789e-9, 4e-324, std::numeric_limits<double>::max(), 0.1, 511, {{1e-300, 256}, {2e-9, 256}}};
  one.metrics[1].mean = std::numeric_limits<double>::infinity();
  one.metrics[1].low = -std::numeric_limits<double>::infinity();
  one.metrics[2].mean = -0.0;
  one.metrics[2].by_sequence = {{0, 0}, {0, 0}};
  klens::layer_score failed = one;
  failed.layer = "lm_head.weight";
  failed.result = klens::outcome::failed;
  failed.reason = "batch 0: a scale of 70000 is beyond fp16";
  all.candidates = {one, failed};
  all.quantized = {{"int4-channel", one.metrics}};
  all.noise = one.metrics;
  all.noise[0].mean = 1e-17;
  all.expected_tau = 5.0 / 7;
  return file;
}

}  // namespace

TEST_CASE("scores.json: everything comes back, every double bit for bit") {
  const klens::scores_file before = example();
  const klens::scores_file after = klens::scores_from_json(nlohmann::json::parse(klens::to_json(before).dump()));
  CHECK(after.origin.model_path == before.origin.model_path);
  CHECK(after.origin.model_fingerprint == before.origin.model_fingerprint);
  CHECK(after.origin.tokens_file == before.origin.tokens_file);
  CHECK(after.origin.length == 256);
  CHECK(after.origin.first == 7);
  CHECK(after.origin.tokens_fingerprint == before.origin.tokens_fingerprint);
  CHECK(after.origin.sketch == before.origin.sketch);
  CHECK(after.origin.peak_bytes == 123456789012);
  support::check_same(after.result, before.result);
  CHECK(after.result.cost.forwards == before.result.cost.forwards);
  CHECK(after.result.cost.seconds == before.result.cost.seconds);
}

TEST_CASE("scores.json: a noise floor that was not measured comes back as none") {
  klens::scores_file before = example();
  before.result.noise.clear();
  CHECK(klens::scores_from_json(klens::to_json(before)).result.noise.empty());
}

TEST_CASE("scores.json: infinities are strings, what is not known is null") {
  const nlohmann::json json = klens::to_json(example());
  const nlohmann::json& metrics = json.at("candidates").at(0).at("metrics");
  CHECK(metrics.at("sqnr").at("mean") == "inf");
  CHECK(metrics.at("sqnr").at("low") == "-inf");
  CHECK(metrics.at("sqnr").at("high").is_null());
  CHECK(json.at("candidates").at(0).at("left") == "settled");
  CHECK(json.at("format") == "klens-scores");
  CHECK(json.at("version") == 1);
}

TEST_CASE("scores.json: through a file") {
  const support::temporary_folder folder;
  klens::write_scores(folder / "scores.json", example());
  CHECK(klens::to_json(klens::read_scores(folder / "scores.json")) == klens::to_json(example()));
}

TEST_CASE("scores.json: what is none is refused, with its path") {
  const support::temporary_folder folder;
  const auto file = folder / "scores.json";
  const auto check_refused = [&](const std::string& content) {
    std::ofstream{file} << content;
    CHECK_THROWS_WITH_AS((void)klens::read_scores(file), doctest::Contains(file.c_str()), klens::file_error);
  };
  CHECK_THROWS_AS((void)klens::read_scores(folder / "none.json"), klens::file_error);
  check_refused("");
  check_refused("{");
  check_refused("[]");
  check_refused("{\"format\": \"klens-plan\", \"version\": 1}");
  check_refused("{\"format\": \"klens-scores\", \"version\": 2}");
  const auto broken = [&](const char* pointer, const nlohmann::json& value) {
    nlohmann::json json = klens::to_json(example());
    json[nlohmann::json::json_pointer{pointer}] = value;
    check_refused(json.dump());
  };
  broken("/candidates", "many");
  broken("/candidates/0/metrics/kl/mean", "small");
  broken("/candidates/0/metrics", nlohmann::json::object());
  broken("/candidates/0/shape", nlohmann::json::array());
  broken("/candidates/0/bytes", "8 kB");
  broken("/candidates/0/result", "robust");
  broken("/candidates/0/metrics/kl/by_sequence/weights", nlohmann::json::array());
  broken("/cost", nullptr);
}

TEST_CASE("scores.json: a path that is no UTF-8 is written, and everything else comes back") {
  const support::temporary_folder folder;
  klens::scores_file file = example();
  file.origin.tokens_file = "caf\xe9.safetensors";
  klens::write_scores(folder / "scores.json", file);
  const klens::scores_file read = klens::read_scores(folder / "scores.json");
  CHECK(read.origin.tokens_file == "caf\xef\xbf\xbd.safetensors");
  CHECK(read.result.candidates[0].metrics[0].mean == file.result.candidates[0].metrics[0].mean);
}

TEST_CASE("scores.json: numbers that are no counts are refused, not turned into some count") {
  const auto refused = [](const char* pointer, const nlohmann::json& value) {
    nlohmann::json json = klens::to_json(example());
    json[nlohmann::json::json_pointer{pointer}] = value;
    CAPTURE(pointer);
    CHECK_THROWS_AS((void)klens::scores_from_json(json), klens::argument_error);
  };
  for (const nlohmann::json& value : {nlohmann::json(-1), nlohmann::json(1.5), nlohmann::json(true), nlohmann::json("1")})
    for (const char* pointer : {"/tokens/sequences", "/tokens/positions", "/tokens/length", "/tokens/first", "/tokens/sketch/0",
                                "/cost/peak_bytes", "/candidates/0/bytes", "/candidates/0/positions", "/candidates/0/shape/0",
                                "/candidates/0/shape/1", "/candidates/0/metrics/kl/at"})
      refused(pointer, value);
  refused("/candidates/0/metrics/kl/by_sequence/weights/0", -256);
  refused("/candidates/0/metrics/kl/by_sequence/values/0", nullptr);
}
