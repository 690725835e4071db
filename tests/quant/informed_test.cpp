#include <klens/quant/informed_integer.hpp>

#include <doctest/doctest.h>

#include <Eigen/LU>
#include <cmath>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/quant/informed.hpp>
#include <klens/quant/packing.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/weight_guard.hpp>
#include <memory>
#include <string>
#include <support/quantized_row.hpp>
#include <support/reference_quantizers.hpp>
#include <vector>

namespace {

using klens::matrix;
using support::row;

/// Inputs of which some columns are large, some move together and one is always 0.
matrix<float> inputs_of(Eigen::Index positions, Eigen::Index columns, std::uint64_t seed) {
  splitmix random{seed};
  const auto draw = [&] { return random.bell(); };
  const matrix<float> few = matrix<float>::NullaryExpr(positions, 6, draw), mix = matrix<float>::NullaryExpr(6, columns, draw);
  matrix<float> x = few * mix + 0.3f * matrix<float>::NullaryExpr(positions, columns, draw);
  for (Eigen::Index j = 0; j < columns; ++j) x.col(j) *= std::exp(2 * random.bell());
  x.col(columns / 2).setZero();
  return x;
}

std::shared_ptr<const klens::layer_inputs> known_of(const matrix<float>& x) {
  auto known = std::make_shared<klens::layer_inputs>();
  known->positions = static_cast<std::size_t>(x.rows());
  known->second_moments = x.transpose() * x / static_cast<float>(x.rows());
  for (Eigen::Index j = 0; j < x.cols(); ++j) known->mean_squares.push_back(known->second_moments(j, j));
  return known;
}

matrix<float> weights_of(Eigen::Index rows, Eigen::Index columns, std::uint64_t seed) {
  splitmix random{seed};
  return matrix<float>::NullaryExpr(rows, columns, [&] { return random.bell(); });
}

matrix<float> kept_by(const klens::scheme& scheme, const matrix<float>& weights) {
  matrix<float> kept(weights.rows(), weights.cols());
  klens::round_trip(scheme, weights, kept);
  return kept;
}

double importance_error(const matrix<float>& kept, const matrix<float>& weights, const klens::layer_inputs& inputs) {
  double sum = 0;
  for (Eigen::Index j = 0; j < kept.cols(); ++j)
    sum += static_cast<double>(inputs.mean_squares[static_cast<std::size_t>(j)]) *
           static_cast<double>((kept.col(j) - weights.col(j)).cast<double>().squaredNorm());
  return sum;
}

double output_error(const matrix<float>& kept, const matrix<float>& weights, const matrix<float>& x) {
  return (x.cast<double>() * (kept - weights).cast<double>().transpose()).squaredNorm();
}

/// A user's own: rows of one bit, whose magnitude is what suits the inputs.
struct weighted_signs {
  std::string name() const { return "weighted-signs"; }
  std::size_t bytes(std::size_t columns) const { return (columns + 7) / 8 + 4; }
  void round_trip(std::span<const float> weights, std::span<float> kept, const klens::layer_inputs& inputs) const {
    float sum = 0, all = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      sum += inputs.mean_squares[i] * std::abs(weights[i]);
      all += inputs.mean_squares[i];
    }
    for (std::size_t i = 0; i < weights.size(); ++i) kept[i] = std::copysign(sum / all, weights[i]);
  }
};
static_assert(klens::informed_quantizer<weighted_signs> && !klens::quantizer<weighted_signs>);
static_assert(!klens::informed_quantizer<klens::int4> && !klens::quantizer<klens::importance_integer>);

constexpr const char* all_plain[] = {"int2-g32",        "int3-channel",  "int4-g64",          "int4-g32-f32",
                                     "int4-signed-g32", "int4-asym-g64", "int2-asym-g16",     "int5-g48",
                                     "int6-g7",         "int8-channel",  "int8-asym-channel", "int3-signed-channel-f32"};

}  // namespace

TEST_CASE("informed schemes: names, parts and sizes are those of the plain scheme") {
  for (const std::string plain : all_plain)
    for (const std::string suffix : {"-imp", "-gptq"}) {
      const klens::scheme scheme{plain + suffix};
      CHECK(scheme.name() == plain + suffix);
      CHECK(scheme.stored_as() == plain);
      CHECK(scheme.parts() == klens::scheme{plain}.parts());
      CHECK(scheme.bytes(96) == klens::scheme{plain}.bytes(96));
    }
  CHECK(klens::scheme{"int4-g64"}.needs() == klens::input_need::nothing);
  CHECK(klens::scheme{"int4-g64-imp"}.needs() == klens::input_need::mean_squares);
  CHECK(klens::scheme{"int4-g64-gptq"}.needs() == klens::input_need::second_moments);
  CHECK(klens::scheme{klens::with_importance(klens::int4{.group_size = 64})} == klens::scheme{"int4-g64-imp"});
  CHECK(klens::scheme{klens::with_gptq(klens::int4_asym{})} == klens::scheme{"int4-asym-channel-gptq"});
  for (const std::string name : {"q4_0-imp", "int4-g64-imp-gptq", "int4-g64-imp-f32", "fp16-gptq", "-imp"})
    CHECK_THROWS_AS(klens::scheme{name}, klens::argument_error);
}

TEST_CASE("-imp: by hand") {
  // Codes -1, 0, 1. The plain scale is 4, and 1 becomes 0. Where the large weight counts for nothing, the other one has it all.
  const matrix<float> weights{{4, 1, -1, 0}};
  klens::layer_inputs inputs{1, {0, 1, 1, 1}, {}};
  const klens::scheme scheme{"int2-channel-imp"};
  const auto kept = [&] { return kept_by(scheme.informed_by(std::make_shared<const klens::layer_inputs>(inputs)), weights); };
  CHECK(kept() == matrix<float>{{1, 1, -1, 0}});
  inputs.mean_squares = {1, 0, 0, 0};
  CHECK(kept() == matrix<float>{{4, 0, 0, 0}});
  inputs.mean_squares = {0, 0, 0, 0};  // all count alike: 4 and zeros leave 2, three times the scale s leave less for no s
  CHECK(importance_error(kept(), weights, {1, {1, 1, 1, 1}, {}}) <= 2);
}

TEST_CASE("-imp: never worse than the plain scheme for what it looks at, and mostly far better") {
  const matrix<float> weights = weights_of(24, 96, 5), x = inputs_of(64, 96, 6);
  const auto inputs = known_of(x);
  for (const std::string plain : all_plain) {
    INFO(plain);
    const klens::scheme informed = klens::scheme{plain + "-imp"}.informed_by(inputs);
    const matrix<float> kept = kept_by(informed, weights);
    double rows_worse = 0;
    for (Eigen::Index r = 0; r < weights.rows(); ++r) {
      const double own = importance_error(kept.row(r), weights.row(r), *inputs);
      const double of_plain = importance_error(kept_by(plain, weights).row(r), weights.row(r), *inputs);
      rows_worse += own > of_plain * (1 + 1e-5) ? 1 : 0;
    }
    CHECK(rows_worse == 0);
    CHECK(importance_error(kept, weights, *inputs) < 0.95 * importance_error(kept_by(plain, weights), weights, *inputs));
  }
}

TEST_CASE("-gptq: the output's error falls far below plain rounding's") {
  const matrix<float> weights = weights_of(24, 160, 7), x = inputs_of(400, 160, 8);
  const auto inputs = known_of(x);
  for (const std::string plain : {"int2-g32", "int3-channel", "int4-g64", "int4-asym-g32", "int4-g100", "int8-channel"}) {
    INFO(plain);
    const matrix<float> kept = kept_by(klens::scheme{plain + "-gptq"}.informed_by(inputs), weights);
    const matrix<float> by_importance = kept_by(klens::scheme{plain + "-imp"}.informed_by(inputs), weights);
    const double own = output_error(kept, weights, x);
    CHECK(own < 0.4 * output_error(kept_by(plain, weights), weights, x));
    CHECK(own < 0.7 * output_error(by_importance, weights, x));
  }
}

TEST_CASE("-gptq: without correlations it is importance alone, and with two columns it is the paper's step") {
  const matrix<float> weights = weights_of(8, 64, 9);
  auto alone = std::make_shared<klens::layer_inputs>();
  alone->positions = 1;
  alone->second_moments = matrix<float>::Identity(64, 64);
  alone->mean_squares.assign(64, 1.0f);
  CHECK(kept_by(klens::scheme{"int4-g32-gptq"}.informed_by(alone), weights) ==
        kept_by(klens::scheme{"int4-g32-imp"}.informed_by(alone), weights));

  // H = [[1, h], [h, 1]] (with damping d on the diagonal): an error e of the first column moves the second by h e / (1 + d).
  auto both = std::make_shared<klens::layer_inputs>();
  both->positions = 1;
  both->second_moments = matrix<float>{{1, 0.5f}, {0.5f, 1}};
  both->mean_squares = {1, 1};
  const klens::gptq_integer policy = klens::with_gptq(klens::int4{.group_size = 1, .scale = klens::scale_kind::f32});
  const auto known = policy.prepare(*both);
  CHECK(known.shares(0, 1) == doctest::Approx(-0.5 / 1.01).epsilon(1e-6));
  CHECK(known.importance[1] == doctest::Approx(1.01).epsilon(1e-6));
  CHECK(known.importance[0] == doctest::Approx(1.01 - 0.25 / 1.01).epsilon(1e-6));
}

TEST_CASE("-gptq: shares are those of the inverse's Cholesky factor") {
  const auto inputs = known_of(inputs_of(300, 20, 3));
  const auto known = klens::with_gptq(klens::int4{}).prepare(*inputs);
  Eigen::MatrixXd h = inputs->second_moments.cast<double>();
  const double mean = h.diagonal().mean();
  h.row(10).setZero(), h.col(10).setZero(), h(10, 10) = mean;  // the column that is always 0
  h.diagonal().array() += 0.01 * mean;
  const Eigen::MatrixXd u = Eigen::MatrixXd(h.inverse().llt().matrixL()).transpose();  // H^-1 = U^T U
  for (Eigen::Index i = 0; i < 20; ++i) {
    CHECK(known.importance[static_cast<std::size_t>(i)] == doctest::Approx(1 / (u(i, i) * u(i, i))).epsilon(1e-4));
    for (Eigen::Index j = i + 1; j < 20; ++j)
      CHECK(std::abs(known.shares(i, j) - u(i, j) / u(i, i)) < 1e-4 * (1 + std::abs(u(i, j) / u(i, i))));
  }
}

TEST_CASE("informed schemes: what they pack the plain scheme unpacks, for any number of rows and threads") {
  const matrix<float> weights = weights_of(150, 96, 11);
  const auto inputs = known_of(inputs_of(64, 96, 12));
  for (const std::string plain : all_plain)
    for (const std::string suffix : {"-imp", "-gptq"}) {
      INFO(plain << suffix);
      const klens::scheme informed = klens::scheme{plain + suffix}.informed_by(inputs);
      const matrix<float> kept = kept_by(informed, weights);
      const klens::packer packer{informed}, reader{klens::scheme{plain}};
      std::vector<std::byte> packed(150 * packer.bytes(96));
      klens::pack(packer, weights, packed);
      matrix<float> unpacked(150, 96);
      klens::unpack(reader, packed, unpacked);
      CHECK(unpacked == kept);
      matrix<float> own = weights;
      klens::layer layer{"w", own};
      layer.inputs = inputs;
      for (const std::size_t threads : {1, 3, 1}) {
        klens::weight_guard guard{layer};
        const klens::weight_error error = guard.apply(plain + suffix, {.threads = threads});
        CHECK(own == kept);
        CHECK(error.squared_error ==
              doctest::Approx((kept.cast<double>() - weights.cast<double>()).squaredNorm()).epsilon(1e-9));
        guard.restore();
        CHECK(own == weights);
      }
      own *= 2;  // other weights, whatever is remembered of the first
      {
        klens::weight_guard guard{layer};
        (void)guard.apply(plain + suffix);
        CHECK(own == kept_by(informed, 2 * weights));
      }
    }
}

TEST_CASE("informed schemes: a user's own needs no more than a plain quantizer") {
  const klens::scheme scheme = weighted_signs{};
  CHECK(scheme.needs() == klens::input_need::mean_squares);
  const auto inputs = std::make_shared<const klens::layer_inputs>(klens::layer_inputs{1, {1, 3}, {}});
  matrix<float> weights{{4, -8}, {0, 1}};
  klens::layer layer{"own", weights};
  layer.inputs = inputs;
  klens::weight_guard guard{layer};
  (void)guard.apply(scheme);
  CHECK(weights == matrix<float>{{7, -7}, {0.75f, 0.75f}});
  CHECK_THROWS_AS(klens::packer{scheme.informed_by(inputs)}, klens::argument_error);
}

TEST_CASE("informed schemes: what is missing or wrong is named") {
  matrix<float> weights = weights_of(2, 4, 1);
  row kept(4);
  klens::layer layer{"model.up.weight", weights};
  const klens::scheme scheme{"int4-g64-imp"}, gptq{"int4-g64-gptq"};
  CHECK_THROWS_WITH_AS(scheme.round_trip(klens::row(std::as_const(weights), 0), kept),
                       doctest::Contains("int4-g64-imp: looks at a layer's inputs, and they are not known here"),
                       klens::argument_error);
  CHECK_THROWS_WITH_AS((void)klens::weight_guard{layer}.apply(scheme),
                       doctest::Contains("model.up.weight as int4-g64-imp: nothing is known of the layer's inputs"),
                       klens::argument_error);
  layer.inputs = std::make_shared<const klens::layer_inputs>();
  CHECK_THROWS_WITH_AS((void)klens::weight_guard{layer}.apply(scheme), doctest::Contains("nothing came into this layer"),
                       klens::numeric_error);
  layer.inputs = std::make_shared<const klens::layer_inputs>(klens::layer_inputs{1, {1, 1, 1}, {}});
  CHECK_THROWS_WITH_AS((void)klens::weight_guard{layer}.apply(scheme), doctest::Contains("are not those of 4 columns"),
                       klens::shape_error);
  layer.inputs = std::make_shared<const klens::layer_inputs>(klens::layer_inputs{1, {1, 1, 1, 1}, {}});
  CHECK_THROWS_WITH_AS((void)klens::weight_guard{layer}.apply(gptq), doctest::Contains("needs the second moments"),
                       klens::argument_error);
  klens::layer_inputs bad{1, {1, 1, 1, 1}, matrix<float>::Constant(4, 4, NAN)};
  layer.inputs = std::make_shared<const klens::layer_inputs>(bad);
  CHECK_THROWS_WITH_AS((void)klens::weight_guard{layer}.apply(gptq), doctest::Contains("are not finite"), klens::numeric_error);
  CHECK_THROWS_WITH_AS(klens::packer{scheme}, doctest::Contains("to unpack int4-g64"), klens::argument_error);

  bad.second_moments = matrix<float>::Zero(4, 4);  // nothing but dead columns: as if all counted alike
  layer.inputs = std::make_shared<const klens::layer_inputs>(bad);
  CHECK((void((void)klens::weight_guard{layer}.apply(gptq)), true));
  bad.second_moments = matrix<float>::Ones(4, 4);  // of rank 1: the damping makes it regular
  layer.inputs = std::make_shared<const klens::layer_inputs>(bad);
  CHECK((void((void)klens::weight_guard{layer}.apply(gptq)), true));
  weights(1, 2) = std::nanf("");
  CHECK_THROWS_AS((void)klens::weight_guard{layer}.apply(gptq), klens::numeric_error);
  weights(1, 2) = 1e9f;
  CHECK_THROWS_WITH_AS((void)klens::weight_guard{layer}.apply(scheme), doctest::Contains("and fp16 ends at 65504"),
                       klens::numeric_error);
}
