#include <klens/plan/plan.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <klens/io/plan_json.hpp>
#include <klens/plan/exact.hpp>
#include <limits>
#include <string>
#include <vector>

#include "plan/units.hpp"

using klens::plan;
using klens::plan_from_json;
using klens::plan_unit;

constexpr double infinity = std::numeric_limits<double>::infinity();

TEST_CASE("plan: an allocation written out layer by layer, with its size") {
  const std::vector<plan_unit> units{{{"z.q", "z.k"}, 24, {{{"int4", "int4"}, 12, 0.5}, {{"int8", "int8"}, 24, 0.25}}},
                                     {{"a"}, 8, {{{"int4"}, 4, 2}, {{"fp16"}, 16, 0}}}};
  const klens::allocation best = klens::exact{}(units, 28);
  const plan made = klens::make_plan(klens::exact::name, units, best, 30, {.weights = 32, .bytes = 2});
  CHECK(made.allocator == "exact");
  CHECK(made.budget_bytes == 30);
  CHECK(made.bytes == 30);
  CHECK(made.bits_per_weight == 3.75);
  CHECK(made.predicted.at("kl") == 0.5);
  REQUIRE(made.layers.size() == 3);
  CHECK(*made.scheme_of("z.q") == "int4");
  CHECK(*made.scheme_of("z.k") == "int4");
  CHECK(*made.scheme_of("a") == "fp16");
  CHECK(made.scheme_of("b") == nullptr);
  CHECK(klens::make_plan("", {}, {}, 0).bits_per_weight == 0);
  CHECK(klens::make_plan("", units, best, 30, {}, "mse").predicted.at("mse") == 0.5);
}

static plan full_plan() {
  plan made;
  made.allocator = "exact";
  made.budget_bytes = 18446744073709551615U;
  made.bytes = 2'340'576;
  made.bits_per_weight = 4.499999999999999;
  made.layers = {
      {"model.layers.10.x_proj.weight", "int4-g64"}, {"model.layers.2.\"odd\" näme", "fp16"}, {"lm_head.weight", "q8_0"}};
  made.predicted = {{"kl", 0.1 + 0.2}, {"mse", infinity}};
  made.at_run_time = {8192, 16};
  made.measured = {0.03, 36.25, 0.875, 65536};
  made.baselines = {{"fp16", {8322048, 0, 35.9}}, {"int4-g64", {2340576, -0.0, infinity}}};
  return made;
}

TEST_CASE("plan.json: comes back as it went out, bit for bit and in order") {
  const plan before = full_plan();
  const std::string text = klens::to_json(before).dump();
  const plan after = plan_from_json(text);
  CHECK(klens::to_json(after).dump() == text);
  CHECK(after.budget_bytes == before.budget_bytes);
  CHECK(after.bits_per_weight == before.bits_per_weight);
  CHECK(after.predicted.at("kl") == 0.1 + 0.2);
  CHECK(after.predicted.at("mse") == infinity);
  REQUIRE(after.at_run_time);
  CHECK((after.at_run_time->context == 8192 && after.at_run_time->concurrent == 16));
  CHECK(after.measured->positions == 65536);
  CHECK(after.measured->top1 == 0.875);
  CHECK(after.baselines.at("int4-g64").perplexity == infinity);
  REQUIRE(after.layers.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(after.layers[i].layer == before.layers[i].layer);
    CHECK(after.layers[i].scheme == before.layers[i].scheme);
  }
}

TEST_CASE("plan.json: the form that others rely on") {
  plan made;
  made.allocator = "greedy";
  made.budget_bytes = 30;
  made.bytes = 28;
  made.bits_per_weight = 7;
  made.layers = {{"b", "int4"}, {"a", "fp16"}};
  made.predicted = {{"kl", 0.5}};
  CHECK(klens::to_json(made).dump() ==
        R"({"format":"klens-plan","version":1,"allocator":"greedy","budget_bytes":30,"bytes":28,"bits_per_weight":7.0,)"
        R"("layers":{"b":"int4","a":"fp16"},"predicted":{"kl":0.5},"baselines":{}})");
  CHECK(!plan_from_json(klens::to_json(made).dump()).measured);
  CHECK(!plan_from_json(klens::to_json(made).dump()).at_run_time);
}

static std::string changed(const std::string& from, const std::string& to) {
  std::string text = klens::to_json(full_plan()).dump();
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

TEST_CASE("plan.json: whatever is not right is refused and named") {
  const auto refused = [](const std::string& text, const char* message) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS((void)plan_from_json(text), message, klens::argument_error);
  };
  refused(changed("klens-plan", "klens-scores"), "is not a klens-plan document of version 1");
  refused(changed("\"version\":1", "\"version\":2"), "is not a klens-plan document of version 1");
  refused(changed("\"version\":1", "\"version\":\"1\""), "'version' is not a whole number of 0 or more");
  refused(changed("\"bytes\":2340576,\"bits", "\"bytes\":-1,\"bits"), "'bytes' is not a whole number of 0 or more");
  refused(changed("\"bytes\":2340576,\"bits", "\"bytes\":1.5,\"bits"), "'bytes' is not a whole number of 0 or more");
  refused(changed("\"bytes\":2340576,\"bits", "\"bytes\":18446744073709551616,\"bits"),
          "'bytes' is not a whole number of 0 or more");
  refused(changed("\"bytes\":2340576,\"bits", "\"bits"), "'bytes' is missing");
  refused(changed("\"allocator\":\"exact\"", "\"allocator\":3"), "'allocator' is not a text");
  refused(changed("\"q8_0\"", "null"), "'layers.lm_head.weight' is not a text");
  refused(changed("\"q8_0\"", "\"\""), "'layers.lm_head.weight' is not a text");
  refused(changed("\"lm_head.weight\"", "\"model.layers.10.x_proj.weight\""),
          "'model.layers.10.x_proj.weight' appears twice in one object");
  refused(changed("\"version\":1", "\"version\":1,\"version\":1"), "'version' appears twice in one object");
  refused(changed("\"mse\":\"inf\"", "\"mse\":\"Infinity\""), "'predicted.mse' is not a number");
  refused(changed("\"mse\":\"inf\"", "\"mse\":null"), "'predicted.mse' is not a number");
  refused(changed("\"top1\":0.875,", ""), "'measured.top1' is missing");
  refused(changed("\"kl\":0.0,", ""), "'baselines.fp16.kl' is missing");
  refused("[]", "the document is not an object");
  for (const std::string text : {"", "{", "{}", "[1", "nul", "{\"format\":\"klens-plan\",}", "\xff", "{\"layers\":[]}"}) {
    CAPTURE(text);
    CHECK_THROWS_AS((void)plan_from_json(text), klens::argument_error);
  }
  const std::string text = klens::to_json(full_plan()).dump();
  for (std::size_t cut = 0; cut < text.size(); ++cut)
    CHECK_THROWS_AS((void)plan_from_json(text.substr(0, cut)), klens::argument_error);
  const std::string deep(100000, '[');
  CHECK_THROWS_AS((void)plan_from_json(deep), klens::argument_error);
  plan broken = full_plan();
  broken.predicted["kl"] = std::nan("");
  CHECK_THROWS_WITH_AS((void)klens::to_json(broken), "plan: predicted damage is NaN, which no plan can hold",
                       klens::numeric_error);
}

TEST_CASE("plan.json: fields of a later minor form are passed over") {
  CHECK(plan_from_json(changed("\"version\":1", "\"version\":1,\"layers_note\":{\"lm_head.weight\":[{\"a\":1}]}"))
            .layers.size() == 3);
}

TEST_CASE("plan.json: files") {
  const std::filesystem::path path = std::filesystem::temp_directory_path() / "klens_plan_test.json";
  klens::write_plan(path, full_plan());
  CHECK(klens::to_json(klens::read_plan(path)).dump() == klens::to_json(full_plan()).dump());
  std::ofstream{path} << "{}";
  CHECK_THROWS_WITH_AS((void)klens::read_plan(path), (path.string() + ": 'format' is missing").c_str(), klens::file_error);
  std::filesystem::remove(path);
  CHECK_THROWS_AS((void)klens::read_plan(path), klens::file_error);
}
