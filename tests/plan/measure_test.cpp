#include <klens/plan/measure.hpp>
// first: the header stands alone
#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/toy_model.hpp"

namespace {

using klens::applied_version;
using klens::measured_version;
using klens::model_version;

const model_version in_int4{{"block.0.up.weight", "int4-channel"}, {"head.weight", "int3-g4"}};

}  // namespace

TEST_CASE(
    "applied_version: layers hold what their schemes keep, and every weight is back afterwards, also after an exception") {
  support::toy_model model;
  const klens::matrix<float> first = model.first, second = model.second, head = model.head;
  std::vector<klens::layer> layers = model.layers();
  klens::matrix<float> expected = first;
  (void)klens::round_trip(klens::scheme{"int4-channel"}, expected, expected);
  {
    const applied_version applied{layers, in_int4};
    CHECK(applied.changed());
    CHECK(model.first == expected);
    CHECK(model.second == second);
    CHECK(model.head != head);
  }
  CHECK(model.first == first);
  CHECK(model.head == head);
  CHECK(!applied_version{layers, {{"head.weight", "f32"}}}.changed());

  CHECK_THROWS_WITH_AS((applied_version{layers, {{"block.0.up.weight", "int4-channel"}, {"x", "fp16"}}}),
                       "the plan has a layer 'x', the model has not", klens::argument_error);
  CHECK(model.first == first);
  model.head(3, 1) = 1e6f;
  CHECK_THROWS_WITH_AS((applied_version{layers, {{"block.0.up.weight", "int4-channel"}, {"head.weight", "fp16"}}}),
                       doctest::Contains("head.weight: "), klens::numeric_error);
  CHECK(model.first == first);
}

TEST_CASE("measure_versions: KL, top-1 and perplexity are what plain loops in double give, in every strength of forward") {
  support::toy_model model;
  std::vector<klens::layer> layers = model.layers();
  const std::vector<std::int32_t> tokens = model.tokens();
  const klens::matrix<float> reference = model.all_logits();
  klens::matrix<float> observed;
  {
    const applied_version applied{layers, in_int4};
    observed = model.all_logits();
  }
  double kl = 0, same = 0, nll = 0;
  std::vector<double> kl_of(model.sequences, 0.0);
  for (Eigen::Index t = 0; t < reference.rows(); ++t) {
    const auto x = reference.row(t).cast<double>().eval(), y = observed.row(t).cast<double>().eval();
    const double lse_x = std::log(x.array().exp().sum()), lse_y = std::log(y.array().exp().sum());
    const double here = ((x.array() - lse_x).exp() * (x.array() - lse_x - y.array() + lse_y)).sum();
    kl += here;
    kl_of[static_cast<std::size_t>(t) / model.length] += here / static_cast<double>(model.length);
    Eigen::Index of_x = 0, of_y = 0;
    x.maxCoeff(&of_x);
    y.maxCoeff(&of_y);
    same += of_x == of_y ? 1 : 0;
    if ((static_cast<std::size_t>(t) + 1) % model.length != 0) nll += lse_y - y(tokens[static_cast<std::size_t>(t) + 1]);
  }
  const double positions = static_cast<double>(reference.rows()), sequences = static_cast<double>(model.sequences);
  kl /= positions;
  double squares = 0;
  for (const double each : kl_of) squares += (each - kl) * (each - kl);

  const auto check = [&](auto&& forward, klens::measure_versions_options options) {
    options.sequence_length = model.length;
    options.tokens = tokens;
    const std::vector<model_version> versions{in_int4, {}};
    const std::vector<measured_version> measured = klens::measure_versions(forward, layers, versions, options);
    REQUIRE(measured.size() == 3);
    CHECK(measured[1].kl.positions() == tokens.size());
    CHECK(std::abs(measured[1].kl.mean() / kl - 1) <= 1e-5);
    CHECK(std::abs(measured[1].kl_error() / std::sqrt(squares / (sequences - 1) / sequences) - 1) <= 1e-4);
    CHECK(measured[1].top1.mean() == same / positions);
    CHECK(std::abs(measured[1].perplexity() / std::exp(nll / (positions - sequences)) - 1) <= 1e-5);
    for (const std::size_t untouched : {0, 2}) {
      CHECK(measured[untouched].kl.mean() == 0);
      CHECK(measured[untouched].top1.mean() == 1);
      CHECK(measured[untouched].perplexity() == measured[0].perplexity());
      CHECK(measured[untouched].perplexity_error(measured[0]) == 0);
    }
    CHECK(measured[1].perplexity_error(measured[0]) > 0);
  };
  check(model, {.batches = model.batches()});
  check([&](std::size_t batch) { return model.batch_logits(batch); }, {.batches = model.batches(), .threads = 2});
  check([&] { return model.all_logits(); }, {});
}

TEST_CASE(
    "measure_versions: positions that do not count enter nothing, tokens of -1 no perplexity, in every strength of forward") {
  support::toy_model model;
  std::vector<klens::layer> layers = model.layers();
  // Of each sequence of five: right padding, everything, nothing, a prompt, a gap in the middle, one position alone.
  const std::string marks =
      "11100"
      "11111"
      "00000"
      "00111"
      "11011"
      "10000";
  std::vector<bool> counted;
  for (const char each : marks) counted.push_back(each == '1');
  std::vector<std::int32_t> tokens = model.tokens();
  tokens[7] = -1;  // read, and not asked for
  const klens::matrix<float> reference = model.all_logits();
  klens::matrix<float> observed;
  {
    const applied_version applied{layers, in_int4};
    observed = model.all_logits();
  }
  double kl = 0, same = 0, nll = 0, positions = 0, asked = 0;
  for (std::size_t t = 0; t < marks.size(); ++t) {
    if (!counted[t]) continue;
    const auto row = static_cast<Eigen::Index>(t);
    const auto x = reference.row(row).cast<double>().eval(), y = observed.row(row).cast<double>().eval();
    const double lse_x = std::log(x.array().exp().sum()), lse_y = std::log(y.array().exp().sum());
    kl += ((x.array() - lse_x).exp() * (x.array() - lse_x - y.array() + lse_y)).sum();
    Eigen::Index of_x = 0, of_y = 0;
    x.maxCoeff(&of_x);
    y.maxCoeff(&of_y);
    same += of_x == of_y ? 1 : 0;
    positions += 1;
    if (t % 5 == 4 || !counted[t + 1] || t + 1 == 7) continue;
    nll += lse_y - y(tokens[t + 1]);
    asked += 1;
  }
  CHECK(positions == 3 + 5 + 0 + 3 + 4 + 1);
  CHECK(asked == 2 + 3 + 0 + 2 + 2 + 0);

  const std::vector<model_version> versions{in_int4};
  const auto check = [&](auto&& forward, std::size_t batches) {
    const std::vector<measured_version> measured = klens::measure_versions(
        forward, layers, versions, {.batches = batches, .sequence_length = 5, .tokens = tokens, .counted = counted});
    CHECK(measured[1].kl.positions() == 16);
    CHECK(measured[1].taken_in == 30);
    CHECK(std::abs(measured[1].kl.mean() / (kl / positions) - 1) <= 1e-5);
    CHECK(measured[1].top1.mean() == same / positions);
    CHECK(std::abs(measured[1].perplexity() / std::exp(nll / asked) - 1) <= 1e-5);
    CHECK(measured[1].kl_by_sequence.size() == 6);
    CHECK(measured[1].kl_by_sequence[2].weight == 0);
    CHECK(measured[1].nll_by_sequence[1].weight == 3);
    CHECK(measured[1].kl_error() > 0);
  };
  check(model, model.batches());
  check([&](std::size_t batch) { return model.batch_logits(batch); }, model.batches());
  check([&] { return model.all_logits(); }, 1);

  // Every position is what no mask is, to the last bit.
  const std::vector<bool> all(30, true);
  const auto whole = [&] { return model.all_logits(); };
  const auto plain = klens::measure_versions(whole, layers, versions, {.sequence_length = 5, .tokens = tokens});
  const auto masked =
      klens::measure_versions(whole, layers, versions, {.sequence_length = 5, .tokens = tokens, .counted = all});
  CHECK(masked[1].kl.mean() == plain[1].kl.mean());
  CHECK(masked[1].perplexity() == plain[1].perplexity());
}

TEST_CASE("measured_version: a position is named as the caller counts it, and logits that do not count may be anything") {
  const klens::matrix<float> reference = support::wave(6, 4, 0.7);
  klens::matrix<float> observed = reference;
  observed(5, 2) = std::nanf("");
  measured_version version;
  version.add(reference, observed, {.length = 3, .counted = {false, true, true, true, true, false}});
  CHECK(version.kl.mean() == 0);
  CHECK_THROWS_WITH_AS(version.add(reference, observed, {.length = 3, .counted = {true, false, false, false, false, true}}),
                       doctest::Contains("position 11: "), klens::numeric_error);
  CHECK_THROWS_WITH_AS(version.add(reference, observed, {.length = 3, .counted = {true}}),
                       doctest::Contains("1 entries of counted"), klens::shape_error);
}

TEST_CASE("measure_versions: a reference of another engine is an option, and the untouched model is measured against it") {
  support::toy_model model;
  std::vector<klens::layer> layers = model.layers();
  klens::matrix<float> other;
  {
    const applied_version applied{layers, in_int4};
    other = model.all_logits();
  }
  const std::vector<model_version> versions{in_int4};
  const std::vector<measured_version> measured =
      klens::measure_versions([&] { return model.all_logits(); }, layers, versions,
                              {.sequence_length = 5, .reference = [&](std::size_t) { return other; }});
  CHECK(measured[0].kl.mean() > 0);
  CHECK(measured[1].kl.mean() == 0);
  CHECK(std::isnan(measured[1].perplexity()));  // no tokens
}

TEST_CASE("measure_versions: weights are back when the forward throws, and shapes are checked") {
  support::toy_model model;
  const klens::matrix<float> first = model.first;
  std::vector<klens::layer> layers = model.layers();
  int calls = 0;
  const auto throwing = [&]() -> klens::matrix<float> {
    if (++calls == 2) throw std::runtime_error{"out of memory"};
    return model.all_logits();
  };
  const std::vector<model_version> versions{in_int4};
  CHECK_THROWS_WITH_AS((void)klens::measure_versions(throwing, layers, versions), "out of memory", std::runtime_error);
  CHECK(calls == 2);
  CHECK(model.first == first);
  const auto whole = [&] { return model.all_logits(); };
  const std::vector<std::int32_t> few(7, 1), outside(30, 19);
  CHECK_THROWS_AS((void)klens::measure_versions(whole, layers, versions, {.tokens = few}), klens::shape_error);
  CHECK_THROWS_WITH_AS((void)klens::measure_versions(whole, layers, versions, {.counted = {true, false}}),
                       doctest::Contains("2 entries of counted"), klens::shape_error);
  CHECK_THROWS_AS((void)klens::measure_versions(whole, layers, versions, {.sequence_length = 7}), klens::shape_error);
  CHECK_THROWS_AS((void)klens::measure_versions(whole, layers, versions, {.tokens = outside}), klens::argument_error);
  CHECK(model.first == first);
}

TEST_CASE("version_of: choices that a unit has not are refused") {
  const std::vector<klens::plan_unit> units{{{"head.weight"}, 8, {{{"int4-channel"}, 4, 1}, {{"fp16"}, 16, 0}}}};
  const std::vector<std::size_t> second{1}, third{2}, none{};
  CHECK(klens::version_of(units, second) == model_version{{"head.weight", "fp16"}});
  CHECK_THROWS_AS((void)klens::version_of(units, third), klens::argument_error);
  CHECK_THROWS_AS((void)klens::version_of(units, none), klens::shape_error);
}
