#include "demo_versions.hpp"

#include <doctest/doctest.h>

#include <klens/error.hpp>
#include <klens/quant/scheme.hpp>

namespace {

using openvino_adapter::demo_version;
using openvino_adapter::demo_versions;

constexpr std::size_t rows = 10;

// A layer of 10 rows under both schemes; that of 8 bits does a hundredth of the damage.
void add(klens::scores& to, const std::string& layer, std::size_t columns, double kl) {
  for (const char* scheme : {"int4-signed-g32", "int8-signed-channel"}) {
    klens::layer_score& score = to.candidates.emplace_back();
    score.layer = layer;
    score.scheme = scheme;
    score.rows = rows;
    score.columns = columns;
    score.bytes = klens::scheme{scheme}.bytes(rows, columns);
    score.result = klens::outcome::measured;
    score.metrics.emplace_back().mean = scheme[3] == '4' ? kl : kl / 100;
  }
}

// Nine layers of one size, of which l0 minds least and l8 most.
klens::scores nine_layers() {
  klens::scores scores;
  scores.metrics.push_back({"kl", "nats/token", true});
  for (int i = 0; i < 9; ++i) add(scores, "l" + std::to_string(i), 64, 0.1 * (i + 1));
  return scores;
}

std::string schemes_of(const demo_version& version) {
  std::string digits;
  for (int i = 0; i < 9; ++i) digits += (*version.plan.scheme_of("l" + std::to_string(i)))[3];
  return digits;
}

}  // namespace

TEST_CASE("fp16, ten cuts from all 8 bits to all 4 in the order of KL, and a plan for each budget") {
  const std::vector<demo_version> versions = demo_versions(nine_layers(), {"5bpw", "6bpw"});
  REQUIRE(versions.size() == 13);
  CHECK(versions[0].name == "fp16");
  CHECK(versions[0].plan.bytes == 2 * 9 * rows * 64);
  CHECK(*versions[0].plan.scheme_of("l3") == "fp16");
  CHECK(versions[1].name == "p01");
  CHECK(schemes_of(versions[1]) == "888888888");
  CHECK(schemes_of(versions[2]) == "488888888");
  CHECK(schemes_of(versions[6]) == "444448888");
  CHECK(versions[10].name == "p10");
  CHECK(schemes_of(versions[10]) == "444444444");
  // 64 weights take 32 + 2 * 2 bytes, or 64 + 2.
  CHECK(versions[6].plan.bytes == rows * (5 * 36 + 4 * 66));
  // 5 bits of 576 weights in a row of each layer: 360 bytes. All in 4 bits take 324, and 30 more for each layer in 8.
  CHECK(versions[11].name == "exact-5bpw");
  CHECK(schemes_of(versions[11]) == "444444448");
  CHECK(schemes_of(versions[12]) == "444444888");
  for (const demo_version& each : versions) {
    std::uint64_t bytes = 0;
    for (const klens::layer_scheme& layer : each.plan.layers) bytes += klens::scheme{layer.scheme}.bytes(rows, 64);
    CHECK(bytes == each.plan.bytes);
  }
}

TEST_CASE("the first version holds the weights: f32 where fp16 does not") {
  const demo_version first = demo_versions(nine_layers(), {}, {}, "f32").front();
  CHECK(first.name == "f32");
  CHECK(first.plan.bytes == 4 * 9 * rows * 64);
  CHECK(*first.plan.scheme_of("l3") == "f32");
}

TEST_CASE("a layer of which nobody knows what it loses has its largest scheme in every version, unless it is vouched for") {
  klens::scores scores = nine_layers();
  for (klens::layer_score& each : scores.candidates)
    if (each.layer == "l0") each.result = klens::outcome::output_unchanged;  // which minded least
  const std::vector<demo_version> versions = demo_versions(scores, {"5bpw"});
  for (std::size_t v = 1; v < versions.size(); ++v) {
    CHECK(*versions[v].plan.scheme_of("l0") == "int8-signed-channel");
    CHECK(versions[v].plan.unknown.size() == 2);
  }
  CHECK(schemes_of(versions[10]) == "844444444");
  CHECK(schemes_of(demo_versions(scores, {"5bpw"}, {"l0"})[10]) == "444444444");
}

TEST_CASE("layers that kernels fuse share a scheme") {
  klens::scores scores = nine_layers();
  for (const char* name : {"0.q_proj.weight", "0.k_proj.weight", "0.v_proj.weight"})
    add(scores, name, 64, name[2] == 'q' ? 100 : 1e-6);
  for (const demo_version& each : demo_versions(scores, {"4.8bpw"})) {
    CAPTURE(each.name);
    CHECK(*each.plan.scheme_of("0.q_proj.weight") == *each.plan.scheme_of("0.k_proj.weight"));
    CHECK(*each.plan.scheme_of("0.q_proj.weight") == *each.plan.scheme_of("0.v_proj.weight"));
  }
}

TEST_CASE("a layer whose columns the groups do not divide keeps 8 bits") {
  klens::scores scores = nine_layers();
  add(scores, "odd", 48, 1e-9);
  const std::vector<demo_version> versions = demo_versions(scores, {});
  CHECK(*versions[10].plan.scheme_of("odd") == "int8-signed-channel");
  CHECK(schemes_of(versions[10]) == "444444444");
  CHECK_THROWS_AS((void)demo_versions(scores, {"1bpw"}), klens::argument_error);
  scores.candidates.pop_back();  // now nothing can store it
  CHECK_THROWS_AS((void)demo_versions(scores, {}), klens::argument_error);
}
