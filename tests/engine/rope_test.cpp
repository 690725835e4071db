#include "engine/rope.hpp"

#include <doctest/doctest.h>

#include <array>
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

TEST_CASE("rope: longrope keeps its short factors up to the trained length, that length included") {
  const std::string scaled = R"({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "longrope", "factor": 1,
    "original_max_position_embeddings": 20, "short_factor": [1, 1, 1, 1], "long_factor": [4, 4, 4, 4]}})";
  const std::string plain = "{}", all_longer = R"({"rope_parameters": {"rope_type": "linear", "factor": 4}})";
  const auto turned = [](const std::string& config, Eigen::Index length) {
    klens::matrix<float> x = klens::matrix<float>::Ones(length, 8);
    rope_of(config, 8).apply(x);
    return x;
  };
  for (const Eigen::Index length : {1, 19, 20}) CHECK(turned(scaled, length) == turned(plain, length));
  const klens::matrix<float> longer = turned(scaled, 21), by_four = turned(all_longer, 21);
  CHECK(longer != turned(plain, 21));
  for (Eigen::Index i = 0; i < longer.size(); ++i) CHECK(longer.data()[i] == near{by_four.data()[i], 0, 1e-6});
}

TEST_CASE("rope: yarn's ramp may end beyond the last pair, by hand") {
  // A head of 8, theta 10, trained on 10000 positions: pair 8 ln(10000 / (2 pi n)) / (2 ln 10) turns n times. 32 times: pair
  // 6.79, rounded down to 6; once: pair 12.8, rounded up to 13 and held at 7, the last of the head's elements. All four pairs lie
  // before the ramp from 6 to 7 and keep their frequency. With 512 in place of 32 it begins at pair 1.97, so 1: pairs 2 and 3
  // have a sixth and a third of it behind them, as far as the ramp ends at 7.
  // Trained on 150 positions no pair turns 32 times: at pair -0.51, rounded down to -1, where the ramp is held at 0. It ends at 5.51,
  // rounded up to 6.
  const auto turned_once = [](const std::string& more, int trained = 10000) {
    klens::matrix<float> x(2, 8);
    x.setZero();
    x.leftCols(4).setOnes();
    rope_of(R"({"rope_theta": 10, "max_position_embeddings": )" + std::to_string(trained) +
                R"(, "rope_parameters": {"rope_theta": 10, "rope_type": "yarn", "factor": 4, "attention_factor": 1)" + more +
                "}}",
            8)
        .apply(x);
    return x;
  };
  const auto check = [&](const std::string& more, const std::array<double, 4>& behind, int trained = 10000) {
    const klens::matrix<float> x = turned_once(more, trained);
    for (int i = 0; i < 4; ++i) {
      const double frequency = std::pow(10.0, -i / 4.0), scaled = frequency * (1 - behind[static_cast<std::size_t>(i)] * 0.75);
      CAPTURE(i);
      CHECK(x(1, i) == near{std::cos(scaled), 0, 1e-6});
      CHECK(x(1, 4 + i) == near{std::sin(scaled), 0, 1e-6});
    }
  };
  check("", {0, 0, 0, 0});
  check(R"(, "beta_fast": 512)", {0, 0, 1.0 / 6, 1.0 / 3});
  check("", {0, 1.0 / 6, 1.0 / 3, 1.0 / 2}, 150);
}
