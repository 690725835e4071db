#include <klens/metric/measure.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <klens/io/safetensors.hpp>
#include <klens/metric/metrics.hpp>
#include <string>
#include <support/near.hpp>
#include <vector>

// Values by NumPy in long double, row by row; the seeds are 1 to 11 in the order of the cases (tests/data/README.md).
namespace {

const klens::safetensors& golden() {
  static const klens::safetensors file{KLENS_TEST_DATA "/golden-metrics.safetensors"};
  return file;
}

klens::matrix<float> logits(const std::string& name) {
  const auto values = golden().values<float>(name);
  const auto& shape = golden().at(name).shape;
  return Eigen::Map<const klens::matrix<float>>(values.data(), static_cast<Eigen::Index>(shape[0]),
                                                static_cast<Eigen::Index>(shape[1]));
}

}  // namespace

TEST_CASE("golden values of every metric") {
  // Where rows agree up to rounding, the true divergence is the rounding's: 1e-12 nats is far below what any layer does.
  for (const std::string name : {"typical", "tiny_noise", "tiniest_noise", "large_noise", "peaked", "huge_logits",
                                 "constant_shift", "odd_vocab", "vocab_1", "vocab_7", "wide"}) {
    CAPTURE(name);
    const klens::matrix<float> reference = logits(name + ".reference"), observed = logits(name + ".candidate");
    const auto target = golden().values<std::int64_t>(name + ".target");
    const auto expected = [&](const std::string& metric) { return golden().values<double>(name + "." + metric); };
    const auto kl = expected("kl"), reverse_kl = expected("reverse_kl"), js = expected("js"), delta_ce = expected("delta_ce"),
               mse = expected("mse"), sqnr = expected("sqnr_db");
    const auto top1 = golden().values<std::int64_t>(name + ".top1");
    for (Eigen::Index t = 0; t < reference.rows(); ++t) {
      CAPTURE(t);
      const auto i = static_cast<std::size_t>(t);
      const std::vector<std::int32_t> next{static_cast<std::int32_t>(target[i])};
      const auto [a_kl, a_reverse, a_js, a_mse, a_sqnr, a_delta, a_top] =
          klens::measure(reference.row(t), observed.row(t), {.next_tokens = next}, klens::kl{}, klens::reverse_kl{},
                         klens::js{}, klens::mse{}, klens::sqnr{}, klens::delta_ce{}, klens::top1{});
      CHECK(a_kl.mean() == near{kl[i], 1e-5, 1e-12});
      CHECK(a_reverse.mean() == near{reverse_kl[i], 1e-5, 1e-12});
      CHECK(a_js.mean() == near{js[i], 1e-5, 1e-12});
      CHECK(a_mse.mean() == near{mse[i], 1e-6});
      CHECK(a_sqnr.mean() == near{sqnr[i], 0, 1e-5});  // 10 log10 of a ratio that is off by at most 2e-6
      CHECK(a_top.mean() == static_cast<double>(top1[i]));
      // ln sum e^y - ln sum e^x is a mean of differences that are rounded in float, the rest is exact.
      const double difference = std::sqrt(2 * std::abs(kl[i])) + std::abs(delta_ce[i]);
      CHECK(a_delta.mean() == near{delta_ce[i], 0, 1e-8 + 1e-6 * difference});
    }
  }
}
