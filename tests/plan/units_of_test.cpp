#include <klens/plan/units_of.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

namespace {

using klens::outcome;
using klens::plan_layer;
using klens::scored_units;
using klens::units_of;

// A layer of 2 x 64 under both schemes: int4-g32 takes 2 * (32 + 4) bytes, int8-channel 2 * (64 + 2).
void add(klens::scores& to, const std::string& layer, double of_int4, double of_int8, outcome result = outcome::measured) {
  for (const char* scheme : {"int4-g32", "int8-channel"}) {
    klens::layer_score& score = to.candidates.emplace_back();
    score.layer = layer;
    score.scheme = scheme;
    score.rows = 2;
    score.columns = 64;
    score.bytes = klens::scheme{scheme}.bytes(2, 64);
    score.result = result;
    score.metrics.resize(2);
    score.metrics[0].mean = scheme[3] == '4' ? of_int4 : of_int8;
    score.metrics[1].mean = scheme[3] == '4' ? 20 : 40;
  }
}

klens::scores two_layers() {
  klens::scores all;
  all.metrics = {{"kl", "nats/token", true}, {"sqnr", "dB", false}};
  add(all, "a", 0.5, 0.01);
  add(all, "b", 0.25, 0.02);
  return all;
}

const std::vector<plan_layer> in_fp16{{"a", 2, 64, klens::scheme_offer{"fp16", 256}},
                                      {"b", 2, 64, klens::scheme_offer{"fp16", 256}}};

std::string choices_of(const klens::plan_unit& unit) {
  std::string all;
  for (const klens::plan_choice& each : unit.choices)
    all += each.schemes.front() + " " + std::to_string(each.bytes) + " " + klens::detail::number_text(each.damage) + "; ";
  return all;
}

}  // namespace

TEST_CASE("units_of: a unit a layer, its scored schemes, then what holds its weights at no damage") {
  const scored_units found = units_of(two_layers(), in_fp16);
  REQUIRE(found.units.size() == 2);
  CHECK(found.unknown.empty());
  CHECK(found.units[0].layers == std::vector<std::string>{"a"});
  CHECK(found.units[0].weights == 128);
  CHECK(choices_of(found.units[0]) == "int4-g32 72 0.5; int8-channel 132 0.01; fp16 256 0; ");
  CHECK(choices_of(found.units[1]) == "int4-g32 72 0.25; int8-channel 132 0.02; fp16 256 0; ");
  CHECK(choices_of(units_of(two_layers(), in_fp16, {.metric = "sqnr"}).units[0]) ==  // noise over signal
        "int4-g32 72 0.01; int8-channel 132 0.0001; fp16 256 0; ");
  CHECK(choices_of(units_of(two_layers()).units[0]) == "int4-g32 72 0.5; int8-channel 132 0.01; ");  // nothing holds them
}

TEST_CASE("units_of: unknown is not harmless") {
  for (const outcome result : {outcome::output_unchanged, outcome::not_measured}) {
    klens::scores all = two_layers();
    add(all, "c", 0, 0, result);  // the zeros that a scan writes where it saw nothing
    std::vector<plan_layer> layers = in_fp16;
    layers.push_back({"c", 2, 64, klens::scheme_offer{"bf16", 256}});
    const scored_units found = units_of(all, layers);
    CHECK(choices_of(found.units[2]) == "bf16 256 0; ");
    REQUIRE(found.unknown.size() == 2);
    CHECK(found.unknown[0].layer == "c");
    CHECK(found.unknown[0].scheme == "int4-g32");
    CHECK(found.unknown[0].why == (result == outcome::not_measured ? "it was not measured" : "its change reached no logit"));
    CHECK(!found.unknown[0].assumed_harmless);
    CHECK(choices_of(found.units[0]) == "int4-g32 72 0.5; int8-channel 132 0.01; fp16 256 0; ");  // the others are as before

    // Where nothing holds the weights, the largest scheme is the only one.
    CHECK(choices_of(units_of(all).units[2]) == "int8-channel 132 0; ");

    // On the caller's word its damage is 0, and the list says that it is assumed.
    const scored_units assumed = units_of(all, layers, {.assume_harmless = {"^c$"}});
    CHECK(choices_of(assumed.units[2]) == "int4-g32 72 0; int8-channel 132 0; bf16 256 0; ");
    REQUIRE(assumed.unknown.size() == 2);
    CHECK(assumed.unknown[1].assumed_harmless);
  }
}

TEST_CASE("units_of: one unknown candidate leaves the others of its layer on offer") {
  klens::scores all = two_layers();
  all.candidates[0].result = outcome::output_unchanged;
  const scored_units found = units_of(all, in_fp16);
  CHECK(choices_of(found.units[0]) == "int8-channel 132 0.01; fp16 256 0; ");
  REQUIRE(found.unknown.size() == 1);
  CHECK(found.unknown[0].scheme == "int4-g32");
}

TEST_CASE("units_of: weights that a scheme keeps exactly lose nothing, and that is known") {
  klens::scores all = two_layers();
  all.candidates[0].result = outcome::weights_unchanged;
  all.candidates[0].metrics[0].mean = 0;
  const scored_units found = units_of(all, in_fp16);
  CHECK(found.unknown.empty());
  CHECK(choices_of(found.units[0]) == "int4-g32 72 0; int8-channel 132 0.01; fp16 256 0; ");
}

TEST_CASE("units_of: kept layers, a limit of damage, the caller's own damage and sizes") {
  CHECK(choices_of(units_of(two_layers(), in_fp16, {.keep = {"b"}}).units[1]) == "fp16 256 0; ");
  CHECK(choices_of(units_of(two_layers(), in_fp16, {.largest_damage = 0.1}).units[0]) == "int8-channel 132 0.01; fp16 256 0; ");
  const auto columns = [](const klens::layer_score& of) { return static_cast<double>(of.columns); };
  CHECK(choices_of(units_of(two_layers(), in_fp16, {.damage = columns}).units[0]) ==
        "int4-g32 72 64; int8-channel 132 64; fp16 256 0; ");
  const auto only_int4 = [](const plan_layer& layer, const std::string& scheme) -> std::optional<klens::scheme_offer> {
    if (scheme != "int4-g32") return std::nullopt;
    return klens::scheme_offer{"Q4", layer.rows * 100};
  };
  CHECK(choices_of(units_of(two_layers(), in_fp16, {.offer = only_int4}).units[0]) == "Q4 200 0.5; fp16 256 0; ");
}

TEST_CASE("units_of: a model's layers fall back to the smallest of fp16, bf16 and f32 that holds all their weights") {
  const auto fall_back = [](float weight) {
    klens::matrix<float> a = klens::matrix<float>::Constant(2, 64, 0.5f), b = a;
    b(1, 63) = weight;
    const std::vector<klens::layer> layers{{"a", a}, {"b", b}};
    const scored_units found = units_of(two_layers(), layers);
    CHECK(found.units[0].choices.back().schemes == found.units[1].choices.back().schemes);
    return found.units[0].choices.back().schemes.front();
  };
  CHECK(fall_back(0.75f) == "fp16");
  CHECK(fall_back(65504.0f) == "fp16");
  CHECK(fall_back(131072.0f) == "bf16");  // 2^17 is too large for fp16
  CHECK(fall_back(std::numeric_limits<float>::denorm_min()) == "f32");
  CHECK(fall_back(1.0f + 0x1p-23f) == "f32");  // 24 significant bits
}

TEST_CASE("units_of: what does not hold together is refused, in words") {
  const auto refused = [](const klens::scores& all, const klens::unit_options& options, const char* because) {
    CHECK_THROWS_WITH_AS((void)units_of(all, in_fp16, options), doctest::Contains(because), klens::argument_error);
  };
  klens::scores all = two_layers();
  refused(all, {.metric = "beauty"}, "metric 'beauty' was not measured; measured were kl, sqnr");
  refused(all, {.keep = {"("}}, "'(' is not a regular expression");
  refused(all, {.assume_harmless = {"^c$"}}, "'^c$' matches no layer");
  all.candidates.push_back(all.candidates[1]);
  refused(all, {}, "the scores have a as int8-channel twice");
  all = two_layers();
  all.candidates.erase(all.candidates.begin() + 2);
  refused(all, {}, "the scores have no b as int4-g32");
  add(all, "z", 1, 1);
  refused(all, {}, "the scores have a layer 'z'");
  CHECK_THROWS_WITH_AS((void)units_of(two_layers(), {.offer = [](const auto&, const auto&) { return std::nullopt; }}),
                       doctest::Contains("a has no scheme on offer"), klens::argument_error);
}
