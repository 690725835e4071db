#include "engine/rope.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "folders.hpp"
#include "support/near.hpp"

using support::temporary_folder;

namespace {

programs::rope rope_of(const std::string& config, std::size_t head_width, double rotated = 1, bool partial = false) {
  const temporary_folder folder;
  klens::write_file(folder / "config.json", config);
  const programs::config fields(folder / "config.json");
  return {fields, head_width, rotated, partial};
}

}  // namespace

TEST_CASE("rope: two heads of four elements turn by position * 10000^(-i/2)") {
  const programs::rope turn = rope_of("{}", 4);
  klens::matrix<float> x(3, 8);
  x.setZero();
  x.col(0).setOnes();  // head 0, pair 0: elements 0 and 2
  x.col(7).setOnes();  // head 1, pair 1: elements 5 and 7
  turn.apply(x);
  for (int t = 0; t < 3; ++t) {
    CHECK(x(t, 0) == near{std::cos(1.0 * t), 0, 1e-7});
    CHECK(x(t, 2) == near{std::sin(1.0 * t), 0, 1e-7});
    CHECK(x(t, 5) == near{-std::sin(0.01 * t), 0, 1e-7});
    CHECK(x(t, 7) == near{std::cos(0.01 * t), 0, 1e-7});
    CHECK(x(t, 1) == 0);
  }
}

TEST_CASE("rope: half of a head may stay as it is") {
  const programs::rope turn = rope_of("{}", 8, 0.5, true);
  klens::matrix<float> x = klens::matrix<float>::Random(5, 8);
  const klens::matrix<float> before = x;
  turn.apply(x);
  CHECK(x.rightCols(4) == before.rightCols(4));
  CHECK(x.row(0) == before.row(0));
  CHECK(x.row(1).head(4) != before.row(1).head(4));
}

TEST_CASE("rope: a turn keeps the length of every pair") {
  const programs::rope turn = rope_of(R"({"rope_parameters": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
    "high_freq_factor": 4, "original_max_position_embeddings": 32}})",
                                      16);
  klens::matrix<float> x = klens::matrix<float>::Random(100, 32);
  const klens::matrix<float> before = x;
  turn.apply(x);
  for (int t = 0; t < 100; ++t)
    for (int i = 0; i < 8; ++i)
      CHECK(std::hypot(x(t, i), x(t, i + 8)) == near{std::hypot(before(t, i), before(t, i + 8)), 1e-6});
}

TEST_CASE("rope: older names mean the same") {
  klens::matrix<float> a = klens::matrix<float>::Random(40, 8), b = a;
  rope_of(R"({"rope_theta": 50, "rope_scaling": {"type": "linear", "factor": 2}})", 8).apply(a);
  rope_of(R"({"rope_parameters": {"rope_theta": 50, "rope_type": "linear", "factor": 2}})", 8).apply(b);
  CHECK(a == b);
}

TEST_CASE("rope: dynamic scaling begins where the trained context ends, whatever was asked before") {
  const std::string dynamic = R"({"max_position_embeddings": 20, "rope_parameters": {"rope_type": "dynamic", "factor": 4}})";
  const programs::rope turn = rope_of(dynamic, 8);
  klens::matrix<float> within = klens::matrix<float>::Random(20, 8), plain = within,
                       beyond = klens::matrix<float>::Random(21, 8);
  const klens::matrix<float> again = within;
  turn.apply(within);
  rope_of("{}", 8).apply(plain);
  CHECK(within == plain);
  klens::matrix<float> unscaled = beyond, repeated = again;
  turn.apply(beyond);
  rope_of("{}", 8).apply(unscaled);
  CHECK(beyond != unscaled);
  turn.apply(repeated);
  CHECK(repeated == within);
}
