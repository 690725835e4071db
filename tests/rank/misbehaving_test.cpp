// What a user's callables may get wrong: each is refused with a sentence, none reads or writes where it must not.
#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

#include <clocale>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/residual_model.hpp"
#include "support/toy_options.hpp"

namespace {

using support::options_for;
using support::positioned_toy_model;
using support::toy_model;

// Gives fewer or more rows than it was asked for, from the given call on.
struct wrong_rows : positioned_toy_model {
  int off = 0;
  mutable int calls_until = 0;
  using positioned_toy_model::logits;
  [[nodiscard]] klens::matrix<float> logits(const state& at, std::span<const std::size_t> rows) const {
    const klens::matrix<float> right = head_of(at, rows);
    if (calls_until-- > 0) return right;
    klens::matrix<float> wrong = klens::matrix<float>::Ones(right.rows() + off, right.cols());
    return wrong;
  }
};

struct wrong_columns : toy_model {
  int calls = 0;
  [[nodiscard]] klens::matrix<float> logits(const state& at) {
    const klens::matrix<float> right = toy_model::logits(at);
    return ++calls < 3 ? right : right.leftCols(5);
  }
};

struct odd_stages : toy_model {
  std::size_t count = 3;
  double price = 1;
  [[nodiscard]] std::size_t stages() const { return count; }
  [[nodiscard]] double cost(std::size_t) const { return price; }
};

struct wrong_residual : support::residual_model {
  klens::matrix<float> short_by_one;
  [[nodiscard]] klens::matrix_ref<float> residual(state& at) {
    short_by_one = at.hidden.topRows(at.hidden.rows() - 1);
    return short_by_one;
  }
};

struct odd_metric {
  static constexpr std::string_view name = "odd", unit = "";
  static constexpr bool higher_is_worse = true;
  klens::contribution answer;
  [[nodiscard]] klens::contribution operator()(const klens::position&) const { return answer; }
};

struct short_rule {
  std::size_t off = 1;
  klens::standing says = klens::standing::open;
  [[nodiscard]] std::vector<klens::standing> operator()(const klens::look& at) const {
    return std::vector<klens::standing>(at.standings.size() - off, says);
  }
  [[nodiscard]] std::string name() const { return "short"; }
};

struct reopening_rule {
  [[nodiscard]] std::vector<klens::standing> operator()(const klens::look& at) const {
    std::vector<klens::standing> now(at.standings.size(), klens::standing::open);
    if (at.sequences_before == 0) now[0] = klens::standing::below;
    return now;
  }
  [[nodiscard]] std::string name() const { return "reopening"; }
};

struct short_doubts {
  [[nodiscard]] std::vector<klens::standing> operator()(const klens::look& at) const {
    return {at.standings.begin(), at.standings.end()};
  }
  [[nodiscard]] klens::doubts doubts_of(const klens::damage_draws&, double) const { return {{0.5}, 0}; }
  [[nodiscard]] std::string name() const { return "doubtful"; }
};

}  // namespace

TEST_CASE("a positioned forward that returns fewer or more rows than asked is refused, in the reference and in candidates") {
  for (const int off : {-1, 1, 300})
    for (const int calls_until : {0, 1, 3, 20}) {
      wrong_rows model;
      model.off = off;
      model.calls_until = calls_until;
      auto layers = model.layers();
      CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options_for(model)),
                           doctest::Contains("was asked for 5 rows and gave"), klens::scan_error);
    }
}

TEST_CASE("logits of no rows, no columns or at a null pointer are refused; so is another vocabulary") {
  klens::matrix<float> w{{1, 2}};
  std::vector<klens::layer> layers{{"w", w}};
  const auto empty = [](std::size_t) { return klens::matrix<float>(0, 3); };
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, empty, "int4-channel"), doctest::Contains("gave 0x3 logits"),
                       klens::scan_error);
  const auto nowhere = [](std::size_t) { return klens::logits_view{static_cast<const float*>(nullptr), 2, 3}; };
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, nowhere, "int4-channel"), doctest::Contains("null pointer"),
                       klens::scan_error);
  wrong_columns model;
  auto toy = model.layers();
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(toy, model, "int4-channel", options_for(model)),
                       doctest::Contains("logits of 5 columns, and of 19 before"), klens::scan_error);
  const std::vector<float> flat(6);
  CHECK_THROWS_WITH_AS((klens::logits_view{flat, 2, 4}), doctest::Contains("a span of 6 floats is not 2x4"),
                       klens::shape_error);
  CHECK_THROWS_AS((klens::logits_view{flat.data(), 2, 3, 2}), klens::shape_error);
}

TEST_CASE("stages and costs that make no sense are refused at the door") {
  odd_stages model;
  auto layers = model.layers();
  model.count = std::numeric_limits<std::size_t>::max();
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options_for(model)),
                       doctest::Contains("18446744073709551615 stages"), klens::argument_error);
  model.count = 3;
  for (const double price : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    model.price = price;
    CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options_for(model)),
                         doctest::Contains("cost("), klens::argument_error);
  }
  model.price = 2;
  layers[0].last_stage = 4;
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options_for(model)),
                       doctest::Contains("its stage is 4"), klens::argument_error);
}

TEST_CASE("a confidence that is no share is refused at the door") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.stop = klens::order{0.9};
  for (const double confidence : {95.0, 1.0, 0.0, -0.5, std::nan("")}) {
    options.confidence = confidence;
    CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options),
                         doctest::Contains("it lies between 0 and 1"), klens::argument_error);
  }
  options.confidence = 95;
  CHECK_THROWS_WITH((void)klens::rank_layers(layers, model, "int4-channel", options),
                    "options.confidence is 95; it lies between 0 and 1");
}

TEST_CASE("options.reference: other shapes than the forward's are refused, whatever its strength") {
  const auto refused = [](auto model, const klens::matrix<float>& reference, const char* why) {
    auto layers = model.layers();
    klens::rank_options options = options_for(model);
    options.reference = [&](std::size_t) { return reference; };
    CAPTURE(why);
    CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options), doctest::Contains(why),
                         klens::scan_error);
  };
  const auto both = [&](Eigen::Index rows, Eigen::Index columns, const char* why, const char* why_positioned) {
    refused(toy_model{}, klens::matrix<float>::Ones(rows, columns), why);
    refused(positioned_toy_model{}, klens::matrix<float>::Ones(rows, columns), why_positioned);
  };
  both(0, 0, "gave 0 positions", "gave 0 positions");
  both(7, 19, "gave 7 positions", "gave 7 positions");
  both(5, 19, "the forward gave 10x19 logits for a batch of 5 positions",
       "options.reference gave 5 positions for a batch of 10");
  both(15, 19, "10x19 logits for a batch of 15", "options.reference gave 15 positions for a batch of 10");
  both(10, 18, "18", "18");
}

TEST_CASE("a residual stream of another number of positions than the logits is refused") {
  wrong_residual model;
  auto layers = model.layers();
  klens::rank_options options;
  options.batches = model.batches();
  options.sequence_length = model.length;
  options.method = klens::scan_method::local;
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options), doctest::Contains("residual"),
                       klens::scan_error);
}

TEST_CASE("load: weights that it leaves out are seen") {
  std::vector<klens::layer> layers{
      {"w", 2, 2, [](klens::matrix_ref<float> into) { into(0, 0) = 1; }, [](const klens::const_matrix_ref<float>&) {}}};
  const auto forward = [] { return klens::matrix<float>{{1, 2}}; };
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, forward, "int4-channel"), doctest::Contains("w: weight [0, 1] is"),
                       klens::numeric_error);
}

TEST_CASE("a metric that is NaN fails its candidate, one with an impossible weight ends the scan") {
  toy_model model;
  auto layers = model.layers();
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  for (const double weight : {nan, infinity, -1.0})
    CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", odd_metric{{1, weight}}, options_for(model)),
                         doctest::Contains("metric odd gives a position the weight"), klens::scan_error);
  klens::rank_options once = options_for(model);
  once.repeat_reference = false;  // or the metric of the untouched model against itself is NaN, which ends the scan
  const klens::scores found = klens::rank_layers(layers, model, "int4-channel", odd_metric{{nan, 1}}, once);
  for (const klens::layer_score& each : found.candidates) {
    CHECK(each.result == klens::outcome::failed);
    CHECK(each.reason.find("metric odd is NaN") != std::string::npos);
  }
}

TEST_CASE("stopping rules whose answer does not fit are refused by name") {
  toy_model model;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.stop = short_rule{};
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options),
                       doctest::Contains("the stopping rule short gave 2 standings for 3 candidates"), klens::scan_error);
  options.stop = short_rule{0, static_cast<klens::standing>(17)};
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options),
                       doctest::Contains("a standing that does not exist"), klens::scan_error);
  options.stop = reopening_rule{};
  CHECK_THROWS_WITH_AS((void)klens::rank_layers(layers, model, "int4-channel", options),
                       doctest::Contains("opens candidate 0 again"), klens::scan_error);
  const klens::any_stopping_rule doubtful = short_doubts{};
  const klens::damage_draws draws{{1, 2, 3}, {{1, 2, 3}}};
  CHECK_THROWS_WITH_AS((void)doubtful.doubts_of(draws, 0.99), doctest::Contains("1 chances for 3 candidates"),
                       klens::argument_error);
}

TEST_CASE("names of stopping rules do not depend on the locale, and parse reads them back") {
  const char* const had = std::setlocale(LC_NUMERIC, nullptr);
  const std::string before = had ? had : "C";
  for (const char* comma : {"de_DE.UTF-8", "fr_FR.UTF-8", "C"}) {
    if (!std::setlocale(LC_NUMERIC, comma)) continue;
    for (const char* name : {"top:10", "split:0.25", "order:0.95", "budget:20.5", "budget:1.5s", "exhaustive"})
      CHECK(klens::any_stopping_rule::parse(name).name == name);
  }
  std::setlocale(LC_NUMERIC, before.c_str());
}

TEST_CASE("an engine whose logits vary from run to run is noticed") {
  toy_model model;
  auto layers = model.layers();
  for (klens::layer& each : layers) each.stage = 0;
  float sign = 1;
  const auto noisy = [&](std::size_t batch) -> klens::matrix<float> {
    klens::matrix<float> logits = model.batch_logits(batch);
    sign = -sign;
    for (Eigen::Index r = 0; r < logits.rows(); ++r) logits(r, r % logits.cols()) += sign * 0.01f;
    return logits;
  };
  const klens::scores found = klens::rank_layers(layers, noisy, "int8-channel", options_for(model));
  REQUIRE(found.noise.size() == 1);
  CHECK(found.noise[0].mean > 1e-7);
  CHECK(found.noise[0].by_sequence.size() == model.per_batch);
  REQUIRE(found.remarks.size() == 1);
  CHECK(found.remarks[0].find("gave other logits when it ran again") != std::string::npos);

  const klens::scores steady = klens::rank_layers(
      layers, [&](std::size_t b) { return model.batch_logits(b); }, "int8-channel", options_for(model));
  CHECK(steady.noise.empty());
  CHECK(steady.remarks.empty());
  klens::rank_options asked = options_for(model);
  asked.noise_floor = true;
  CHECK(klens::rank_layers(
            layers, [&](std::size_t b) { return model.batch_logits(b); }, "int8-channel", asked)
            .noise.at(0)
            .mean == 0);
}

TEST_CASE("options.reference: scores are taken against logits of another source") {
  toy_model model, other;
  other.head *= 1.01f;
  auto layers = model.layers();
  klens::rank_options options = options_for(model);
  options.reference = [&](std::size_t batch) { return other.batch_logits(batch); };
  const klens::scores found = klens::rank_layers(layers, model, "int8-channel", options);
  REQUIRE(found.noise.size() == 1);
  CHECK(found.noise[0].mean > 0);  // how far the untouched model is from it

  // The same by hand: the second layer quantized, against the other model.
  klens::round_trip(klens::scheme{"int8-channel"}, klens::matrix<float>{model.second}, model.second);
  const klens::matrix<float> observed = model.all_logits(), reference = other.all_logits();
  double kl = 0;
  for (Eigen::Index t = 0; t < reference.rows(); ++t) {
    const auto x = klens::row(reference, t), y = klens::row(observed, t);
    kl += klens::compare_rows(x, y, klens::describe_reference(x), klens::row_sums::kl).kl / 30;
  }
  CHECK(std::abs(found.find("block.1.up.weight", "int8-channel")->metrics[0].mean - kl) < 1e-12);
  options.method = klens::scan_method::local;
  CHECK_THROWS_AS((void)klens::rank_layers(layers, model, "int8-channel", options), klens::argument_error);
}
