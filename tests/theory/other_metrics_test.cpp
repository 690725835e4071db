// docs/theory.md, section 4: where MSE and SQNR go wrong, and where they do not.
#include "logits.hpp"

#include <doctest/doctest.h>

#include <klens/metric/measure.hpp>
#include <klens/metric/metrics.hpp>

using namespace theory;

namespace {

klens::matrix<float> matrix_of(const rows& from) {
  klens::matrix<float> made(static_cast<Eigen::Index>(from.size()), static_cast<Eigen::Index>(from[0].size()));
  for (std::size_t t = 0; t < from.size(); ++t)
    std::ranges::copy(from[t], klens::row(made, static_cast<Eigen::Index>(t)).begin());
  return made;
}

}  // namespace

TEST_CASE("theory 4.1: output SQNR and MSE are one order") {
  const auto reference = matrix_of(real_logits("reference"));
  const double energy = reference.cast<double>().squaredNorm() / static_cast<double>(reference.size());
  for (const char* name : {"int8_a", "int4_a", "int4_b", "int4_ab", "int2_a"}) {
    const auto [mse, sqnr] = klens::measure(reference, matrix_of(real_logits(name)), {}, klens::mse{}, klens::sqnr{});
    CHECK(std::abs(sqnr.mean() - 10 * std::log10(energy / mse.mean())) < 1e-4);
  }
}

TEST_CASE("theory 4.2: a shift is all to MSE and nothing to KL") {
  const rows reference = real_logits("reference");
  for (const row& x : reference) {
    row rounded = x;  // to a multiple of 2^-10, so that the shift is exact
    for (float& each : rounded) each = std::nearbyint(each * 1024) / 1024;
    const row y = moved(rounded, row(x.size(), 1.0f), 4);
    CHECK(mse(rounded, y) == 16);
    CHECK(kl(rounded, y) == 0);
  }
}

TEST_CASE("theory 4.3: two errors that MSE orders the wrong way round, by any factors, no shift involved") {
  for (const double by_mse : {2.0, 100.0, 1e4})
    for (const double by_kl : {2.0, 100.0, 1e4}) {
      // token 0 has half of all probability; token 1 has e = 1 / (4 by_mse by_kl), less a little; 1000 tokens share the rest
      const double e = 0.9 / (4 * by_mse * by_kl), b = 0.01, a = b * std::sqrt(by_mse) * 1.01;
      row x(1002, static_cast<float>(std::log((0.5 - e) / 1000)));
      x[0] = static_cast<float>(std::log(0.5));
      x[1] = static_cast<float>(std::log(e));
      row rare(x.size(), 0.0f), common(x.size(), 0.0f);
      rare[1] = static_cast<float>(a);
      common[0] = static_cast<float>(b);
      const row first = moved(x, rare), second = moved(x, common);
      const auto spread = [&](const row& y) {  // MSE with the mean taken out: the excuse of the shift
        const list delta = difference(x, y);
        return variance(list(delta.size(), 1.0 / static_cast<double>(delta.size())), delta);
      };
      CAPTURE(by_mse);
      CAPTURE(by_kl);
      CHECK(mse(x, first) / mse(x, second) >= by_mse);
      CHECK(spread(first) / spread(second) >= by_mse);
      CHECK(kl(x, second) / kl(x, first) >= by_kl / growth(a));  // a = 1 is beyond second order: the factor of 1.2
    }
}

TEST_CASE("theory 4.4: flat distributions: KL is half the mean squared error, its mean taken out") {
  klens::detail::random_stream random{44};
  for (int i = 0; i < 20; ++i) {
    const row x(500, 0.5f), y = moved(x, normal_row(random, 500, 1), 1e-3 * (i + 1));
    const list delta = difference(x, y), flat(500, 1.0 / 500);
    CHECK(std::abs(kl(x, y) / (variance(flat, delta) / 2) - 1) < 0.01);
  }
}

TEST_CASE("theory 4.5: isotropic errors: KL is on average half of MSE times 1 - sum p^2") {
  klens::detail::random_stream random{45};
  for (const row& x : {real_logits("reference")[0], real_logits("reference")[5]}) {
    const list p = softmax(x);
    const double sigma = 0.01, expected = sigma * sigma / 2 * (1 - dot(p, p));
    double sum = 0, squares = 0;
    constexpr int draws = 2000;
    for (int i = 0; i < draws; ++i) {
      const double one = kl(x, moved(x, normal_row(random, x.size(), sigma)));
      sum += one;
      squares += one * one;
    }
    const double mean = sum / draws, error = std::sqrt((squares / draws - mean * mean) / draws);
    CHECK(std::abs(mean - expected) < 5 * error + 1e-4 * expected);
  }
}

TEST_CASE("theory 4.5: real errors are not isotropic, position by position") {
  const rows reference = real_logits("reference"), observed = real_logits("int4_a");
  list ratio;
  for (std::size_t t = 0; t < reference.size(); ++t) {
    const list p = softmax(reference[t]);
    ratio.push_back(2 * kl(reference[t], observed[t]) / (mse(reference[t], observed[t]) * (1 - dot(p, p))));
  }
  CHECK(std::ranges::max(ratio) > 3 * std::ranges::min(ratio));
}

TEST_CASE("theory 4.6: KL of logits that are divided by a temperature goes from KL to half of the centred MSE") {
  const rows reference = real_logits("reference"), observed = real_logits("int4_a");
  for (std::size_t t = 0; t < reference.size(); t += 5) {
    const row &x = reference[t], &y = observed[t];
    const list delta = difference(x, y), flat(x.size(), 1.0 / static_cast<double>(x.size()));
    const double centred = variance(flat, delta), widest = range(list(x.begin(), x.end()));
    for (const double temperature : {0.5, 1.0, 4.0, 32.0, 256.0}) {
      row cooled = x, moved_too = y;
      for (float& each : cooled) each = static_cast<float>(static_cast<double>(each) / temperature);
      for (float& each : moved_too) each = static_cast<float>(static_cast<double>(each) / temperature);
      const double scaled = temperature * temperature * kl(cooled, moved_too), half = variance(softmax(cooled), delta) / 2,
                   r = range(delta) / temperature;
      CAPTURE(temperature);
      CHECK(scaled <= half * growth(r) * (1 + 1e-3));  // 1e-3: the logits are rounded to floats again
      CHECK(scaled >= half * growth(-r) * (1 - 1e-3));
      const double flatness = std::exp(widest / temperature);  // no token is more or less likely than so many times 1 / n
      CHECK(scaled <= centred / 2 * flatness * growth(r) * (1 + 1e-3));
      CHECK(scaled >= centred / 2 / flatness * growth(-r) * (1 - 1e-3));
    }
  }
}
