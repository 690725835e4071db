#include <klens/io/checkpoint.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <klens/rank/rank_layers.hpp>

#include "support/run_program.hpp"
#include "support/toy_model.hpp"

namespace {

const klens::scan_identity identity{{"model", "0123"}, {"tokens", "4567"}, {"schemes", "int4-channel"}};

std::vector<klens::scan_checkpoint> checkpoints_of_a_scan(klens::rank_options& options, support::toy_model& model,
                                                          std::vector<klens::layer>& layers, klens::scores& whole) {
  std::vector<klens::scan_checkpoint> all;
  options.batches = model.batches();
  options.sequence_length = model.length;
  options.tokens = model.tokens();
  options.checkpoint = [&](const klens::scan_checkpoint& at) { all.push_back(at); };
  whole = klens::rank_layers(layers, model, {"int4-channel"}, klens::all_metrics(), options);
  options.checkpoint = nullptr;
  return all;
}

}  // namespace

TEST_CASE("checkpoint: a scan taken up from a file ends with the very scores of one that never stopped") {
  const support::temporary_folder folder;
  support::toy_model model;
  auto layers = model.layers();
  klens::rank_options options;
  klens::scores whole;
  for (const klens::scan_checkpoint& each : checkpoints_of_a_scan(options, model, layers, whole)) {
    klens::write_checkpoint(folder / "c", identity, each);
    const klens::scan_checkpoint read = klens::read_checkpoint(folder / "c", identity);
    options.resume = &read;
    const klens::scores resumed = klens::rank_layers(layers, model, {"int4-channel"}, klens::all_metrics(), options);
    nlohmann::json a = klens::to_json(klens::scores_file{{}, whole}), b = klens::to_json(klens::scores_file{{}, resumed});
    a["cost"].erase("seconds");
    b["cost"].erase("seconds");
    CHECK(a.dump() == b.dump());
  }
}

TEST_CASE("checkpoint: one of another scan is refused, and the message says what differs") {
  const support::temporary_folder folder;
  klens::write_checkpoint(folder / "c", identity, {});
  for (const auto& [name, value] : identity) {
    klens::scan_identity other = identity;
    other[name] = "another";
    CHECK_THROWS_WITH_AS((void)klens::read_checkpoint(folder / "c", other),
                         doctest::Contains(("its " + name + " is " + value + ", not another").c_str()), klens::file_error);
  }
  klens::scan_identity more = identity;
  more["seed"] = "1";
  CHECK_THROWS_WITH_AS((void)klens::read_checkpoint(folder / "c", more), doctest::Contains("its seed is not known, not 1"),
                       klens::file_error);
}

TEST_CASE("checkpoint: cut short at any length, it is refused and never crashes") {
  const support::temporary_folder folder;
  support::toy_model model;
  auto layers = model.layers();
  klens::rank_options options;
  klens::scores whole;
  klens::write_checkpoint(folder / "c", identity, checkpoints_of_a_scan(options, model, layers, whole).front());
  const std::string content = support::content_of(folder / "c");
  for (std::size_t length = 0; length + 2 < content.size(); length += 97) {
    std::ofstream{folder / "c", std::ios::binary} << content.substr(0, length);
    CHECK_THROWS_AS((void)klens::read_checkpoint(folder / "c", identity), klens::file_error);
  }
  CHECK_THROWS_AS((void)klens::read_checkpoint(folder / "none", identity), klens::file_error);
}

TEST_CASE("checkpoint: a disk that is full ends the scan with an error, weights in place, and the older checkpoint stays") {
  if (!std::filesystem::exists("/dev/full")) return;
  support::toy_model model;
  const klens::matrix<float> first = model.first;
  auto layers = model.layers();
  klens::rank_options options;
  options.batches = model.batches();
  options.sequence_length = model.length;
  options.checkpoint = [&](const klens::scan_checkpoint& at) { klens::write_checkpoint("/dev/full", identity, at); };
  try {
    (void)klens::rank_layers(layers, model, {"int4-channel"}, {klens::kl{}}, options);
    FAIL("no exception");
  } catch (const klens::scan_error& caught) {
    CHECK(std::string{caught.what()}.find("/dev/full") != std::string::npos);
    CHECK(caught.partial.candidates[0].positions == 10);
  }
  CHECK(model.first == first);
}

TEST_CASE("checkpoint: one that does not hold together is refused, not gone on from") {
  const support::temporary_folder folder;
  support::toy_model model;
  auto layers = model.layers();
  klens::rank_options options;
  klens::scores whole;
  klens::write_checkpoint(folder / "c", identity, checkpoints_of_a_scan(options, model, layers, whole).front());
  const nlohmann::json good = nlohmann::json::parse(support::content_of(folder / "c"));
  CHECK_NOTHROW((void)klens::read_checkpoint(folder / "c", identity));
  const auto refused = [&](const char* pointer, const nlohmann::json& value) {
    nlohmann::json bad = good;
    REQUIRE(bad.contains(nlohmann::json::json_pointer{pointer}));
    bad[nlohmann::json::json_pointer{pointer}] = value;
    std::ofstream{folder / "c"} << bad;
    CAPTURE(pointer);
    CHECK_THROWS_WITH_AS((void)klens::read_checkpoint(folder / "c", identity), doctest::Contains("is damaged"),
                         klens::file_error);
  };
  const nlohmann::json nothing{{"values", nlohmann::json::array()}, {"weights", nlohmann::json::array()}};
  refused("/batches", -1);
  refused("/batches", 1.5);
  refused("/batches", 100);  // more than the sequences it has seen
  refused("/spent", -1);
  refused("/scores/tokens/sequences", 3);
  refused("/scores/tokens/positions", 1);
  refused("/scores/reference/by_sequence", nothing.at("values"));
  refused("/scores/reference/by_sequence/values/0", nullptr);
  refused("/scores/candidates/0/metrics/kl/by_sequence", nothing);
  refused("/scores/candidates/1/positions", 1000);
  nlohmann::json all = good;  // of a whole candidate
  for (nlohmann::json& each : all["scores"]["candidates"][0]["metrics"]) each["by_sequence"] = nothing;
  std::ofstream{folder / "c"} << all;
  CHECK_THROWS_AS((void)klens::read_checkpoint(folder / "c", identity), klens::file_error);
}
