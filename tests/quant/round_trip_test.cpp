#include <klens/quant/round_trip.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <klens/quant/scheme.hpp>
#include <span>
#include <string>
#include <support/near.hpp>
#include <support/reference_quantizers.hpp>
#include <vector>

namespace {

klens::matrix<float> weights_of(Eigen::Index rows, Eigen::Index columns) {
  splitmix random{static_cast<std::uint64_t>(rows)};
  klens::matrix<float> weights(rows, columns);
  for (Eigen::Index i = 0; i < weights.size(); ++i) weights.data()[i] = random.bell();
  return weights;
}

/// Keeps weights as they are, and remembers where they lie.
struct addresses {
  std::vector<const float*>* seen;

  std::string name() const { return "addresses"; }
  std::size_t bytes(std::size_t columns) const { return columns; }
  void round_trip(std::span<const float> weights, std::span<float> kept) const {
    seen->push_back(weights.data());
    std::copy(weights.begin(), weights.end(), kept.begin());
  }
};

template <class Scalar>
void expect_same_from() {
  const klens::matrix<float> weights = weights_of(90, 1000);
  const klens::matrix<Scalar> narrow = weights.cast<Scalar>();
  const klens::matrix<float> wide = narrow.template cast<float>();
  klens::matrix<float> kept(90, 640), expected(90, 640);
  for (const std::size_t threads : {1, 3}) {  // rows of a wider matrix
    const auto error = klens::round_trip(klens::int4{.group_size = 32}, narrow.middleCols(5, 640), kept, {.threads = threads});
    CHECK(error.squared_error ==
          klens::round_trip(klens::int4{.group_size = 32}, wide.middleCols(5, 640), expected).squared_error);
    CHECK(kept == expected);
  }
  std::vector<const float*> seen;
  klens::matrix<float> same(90, 1000);
  klens::round_trip(addresses{&seen}, narrow, same);
  CHECK(same == wide);
  REQUIRE(seen.size() == 90);
  CHECK(std::count(seen.begin(), seen.begin() + 65, seen[0]) == 65);  // one row's room serves all rows of a part
}

}  // namespace

TEST_CASE("round_trip: row by row, the same bits for any number of threads") {
  const klens::matrix<float> weights = weights_of(300, 1000);
  for (const klens::scheme& scheme : klens::parse_schemes("int4-g32,int8-channel,int4-asym-g100,fp16")) {
    klens::matrix<float> expected(300, 1000);
    klens::weight_error sum;
    for (Eigen::Index r = 0; r < 300; ++r) sum += scheme.round_trip(klens::row(weights, r), klens::row(expected, r));
    klens::weight_error first;
    for (const std::size_t threads : {1, 2, 5}) {
      klens::matrix<float> kept(300, 1000);
      const klens::weight_error error = klens::round_trip(scheme, weights, kept, {threads});
      CHECK(kept == expected);
      CHECK(error.energy == near{sum.energy, 1e-12});
      if (threads == 1) first = error;
      CHECK(error.energy == first.energy);
      CHECK(error.squared_error == first.squared_error);
    }
  }
}

TEST_CASE("round_trip: views whose rows lie apart, and in place") {
  klens::matrix<float> wide = weights_of(9, 80);
  const klens::matrix<float> before = wide;
  klens::matrix<float> expected(9, 37);
  const klens::scheme scheme{"int4-g16"};
  klens::round_trip(scheme, before.block(0, 3, 9, 37), expected);
  klens::round_trip(scheme, wide.block(0, 3, 9, 37), wide.block(0, 3, 9, 37), {.threads = 2});
  CHECK(wide.block(0, 3, 9, 37) == expected);
  CHECK(wide.leftCols(3) == before.leftCols(3));
  CHECK(wide.rightCols(40) == before.rightCols(40));
}

TEST_CASE("round_trip: weights of half and bfloat16 are the floats that they stand for, without a copy of the matrix") {
  expect_same_from<klens::half>();
  expect_same_from<klens::bfloat16>();
}

TEST_CASE("round_trip: a policy without a scheme around it") {
  const klens::matrix<float> weights = weights_of(4, 64);
  klens::matrix<float> a(4, 64), b(4, 64);
  const klens::weight_error error = klens::round_trip(klens::int4{.group_size = 32}, weights, a);
  CHECK(klens::round_trip(klens::scheme{"int4-g32"}, weights, b).squared_error == error.squared_error);
  CHECK(a == b);
  CHECK(klens::sqnr_db(error) == near{10 * std::log10(error.energy / error.squared_error), 1e-12});
}

TEST_CASE("round_trip: errors name the row") {
  klens::matrix<float> weights = weights_of(70, 2000), kept(70, 2000);
  weights(66, 5) = 1e6f;
  weights(68, 5) = std::nanf("");
  for (const std::size_t threads : {1, 2})
    CHECK_THROWS_WITH_AS(klens::round_trip(klens::int4{.group_size = 32}, weights, kept, {.threads = threads}),
                         "row 66: int4-g32: columns 0 to 31 need a scale of 142857.140625, and fp16 ends at 65504; store it in "
                         "float: int4-g32-f32",
                         klens::numeric_error);
  CHECK_THROWS_WITH_AS(klens::round_trip(klens::q8_0{}, weights.leftCols(33).eval(), kept),
                       "round_trip: weights are 70x33, kept is 70x2000", klens::shape_error);
  CHECK_THROWS_AS(klens::round_trip(klens::q8_0{}, weights.leftCols(33).eval(), kept.leftCols(33)), klens::argument_error);
  klens::matrix<float> none(0, 0);
  CHECK(klens::round_trip(klens::int4{}, none, none).energy == 0);
}
