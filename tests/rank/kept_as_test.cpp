// Schemes that keep the same of a layer are measured once.
#include <klens/rank/rank_layers.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <support/near.hpp>
#include <support/residual_model.hpp>
#include <vector>

using support::gaussian;
using support::residual_model;

namespace {

// As llama-quantize's types: int3-channel under a name of its own, but int4-channel where rows have at most so many weights.
struct stand_in {
  std::size_t longest = 0;

  [[nodiscard]] std::string name() const { return "int3-or-int4"; }
  [[nodiscard]] std::string kept_as(std::size_t columns) const { return columns <= longest ? "int4-channel" : name(); }
  [[nodiscard]] std::size_t bytes(std::size_t columns) const { return scheme_of(columns).bytes(columns); }
  void round_trip(std::span<const float> weights, std::span<float> kept) const {
    (void)scheme_of(weights.size()).round_trip(weights, kept);
  }

 private:
  [[nodiscard]] klens::scheme scheme_of(std::size_t columns) const {
    return columns <= longest ? "int4-channel" : "int3-channel";
  }
};

// Three pairs of matrices side by side, of rows with 12 and with 8 weights; 24 batches of one sequence of six positions.
struct two_widths {
  static constexpr std::size_t batches = 24, length = 6, narrow = 8;
  std::vector<klens::matrix<float>> in, out;

  two_widths() {
    for (std::uint64_t i = 0; i < 3; ++i) {
      in.push_back(gaussian(8, 12, 0.2 * std::pow(1.2, static_cast<double>(i)), 20 + i));
      out.push_back(gaussian(19, 8, 0.3, 30 + i));
    }
  }
  [[nodiscard]] klens::matrix<float> operator()(std::size_t batch) const {
    const klens::matrix<float> inputs = gaussian(static_cast<Eigen::Index>(length), 12, 1, 40 + batch);
    klens::matrix<float> logits = klens::matrix<float>::Zero(inputs.rows(), 19);
    for (std::size_t i = 0; i < 3; ++i) logits += (inputs * in[i].transpose()).array().tanh().matrix() * out[i].transpose();
    return logits;
  }
  std::vector<klens::layer> layers() {
    std::vector<klens::layer> all;
    for (std::size_t i = 0; i < 3; ++i) {
      all.emplace_back("in." + std::to_string(i), in[i]);
      all.emplace_back("out." + std::to_string(i), out[i]);
    }
    return all;
  }
  klens::scores ranked(const std::vector<klens::scheme>& schemes, klens::rank_options options = {}) {
    std::vector<klens::layer> all = layers();
    options.batches = batches;
    options.sequence_length = length;
    options.tokens.assign(batches * length, 1);
    return klens::rank_layers(all, *this, schemes, {klens::kl{}}, options);
  }
};

klens::scores ranked(const std::vector<klens::scheme>& schemes, klens::scan_method method) {
  residual_model model;
  std::vector<klens::layer> layers = model.layers();
  klens::rank_options options;
  options.batches = model.batches();
  options.sequence_length = model.length;
  options.tokens = model.tokens();
  options.method = method;
  options.local.calibrations = 8;
  if (method == klens::scan_method::refine) options.stop = klens::top{4};
  return klens::rank_layers(layers, model, schemes, {klens::kl{}}, options);
}

void expect_same(const klens::layer_score& a, const klens::layer_score& b) {
  INFO(a.layer, " as ", a.scheme, " and ", b.scheme);
  CHECK(a.layer == b.layer);
  CHECK(a.result == b.result);
  CHECK(a.source == b.source);
  CHECK(a.positions == b.positions);
  CHECK(a.place == b.place);
  CHECK(a.weight_sqnr_db == near{b.weight_sqnr_db, 1e-6});  // summed in floats by the scheme, or by klens
  const klens::metric_score &of_a = a.metrics.front(), &of_b = b.metrics.front();
  CHECK(of_a.mean == of_b.mean);
  CHECK((of_a.low == of_b.low || std::isnan(of_a.low)));
  CHECK((of_a.high == of_b.high || std::isnan(of_a.high)));
}

}  // namespace

TEST_CASE("kept_as: the narrow layers, which both schemes keep alike, cost one forward each, and both have the scores") {
  two_widths model;
  const klens::scores one = model.ranked({"int4-channel"}), two = model.ranked({"int4-channel", stand_in{model.narrow}}),
                      all = model.ranked({"int4-channel", stand_in{0}});
  REQUIRE(two.candidates.size() == 12);
  for (std::size_t c = 0; c < 12; c += 2) {
    const klens::layer_score &first = two.candidates[c], &second = two.candidates[c + 1];
    expect_same(first, one.candidates[c / 2]);
    if (first.columns == model.narrow)
      expect_same(second, first);
    else
      expect_same(second, all.candidates[c + 1]);
    CHECK(second.scheme == "int3-or-int4");
  }
  CHECK(one.cost.forwards == doctest::Approx(6 + 1 + 1. / 24));  // the reference, and again over its first batch
  CHECK(two.cost.forwards == doctest::Approx(9 + 1 + 1. / 24));
  CHECK(all.cost.forwards == doctest::Approx(12 + 1 + 1. / 24));
}

TEST_CASE("kept_as: under a stopping rule either scheme leaves when its own place is settled") {
  two_widths model;
  klens::rank_options options;
  options.stop = klens::top{3};
  options.confidence = 0.99;
  const std::vector<klens::scores> alone{model.ranked({"int4-channel"}, options),
                                         model.ranked({stand_in{model.narrow}}, options)};
  const klens::scores both = model.ranked({"int4-channel", stand_in{model.narrow}}, options);
  bool apart = false;
  for (std::size_t c = 0; c < 12; ++c) {
    const klens::layer_score& each = both.candidates[c];
    INFO(each.layer, " as ", each.scheme);
    CHECK(each.metrics.front().by_sequence.size() * model.length == each.positions);
    expect_same(each, alone[c % 2].candidates[c / 2]);
    if (c % 2 == 1 && each.columns == model.narrow) apart = apart || each.positions != both.candidates[c - 1].positions;
  }
  CHECK(apart);
}

TEST_CASE("kept_as: restored in models that differ, the same weights are measured in each") {
  two_widths model;
  klens::rank_options options;
  options.from = klens::direction::from_quantized;
  const klens::scores alone = model.ranked({stand_in{model.narrow}}, options),
                      both = model.ranked({"int4-channel", stand_in{model.narrow}}, options);
  for (const klens::layer_score& each : alone.candidates) expect_same(each, *both.find(each.layer, each.scheme));
}

TEST_CASE("kept_as: another name for a scheme costs nothing and changes no bit, whatever the method") {
  for (const klens::scan_method method : {klens::scan_method::exact, klens::scan_method::local, klens::scan_method::refine}) {
    const klens::scores two = ranked({"int4-channel", "int3-channel"}, method),
                        three = ranked({"int4-channel", stand_in{24}, "int3-channel"}, method);
    CHECK(three.cost.forwards == two.cost.forwards);
    REQUIRE(three.candidates.size() * 2 == two.candidates.size() * 3);
    for (std::size_t l = 0; l < two.candidates.size() / 2; ++l) {
      expect_same(three.candidates[3 * l], two.candidates[2 * l]);
      expect_same(three.candidates[3 * l + 1], two.candidates[2 * l]);
      expect_same(three.candidates[3 * l + 2], two.candidates[2 * l + 1]);
    }
  }
}
