#include <klens/metric/totals.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <klens/metric/metrics.hpp>
#include <limits>
#include <random>
#include <support/near.hpp>
#include <vector>

namespace {

/// Heavy-tailed values, as divergences of single positions are: ten orders of magnitude.
std::vector<klens::contribution> heavy_tailed(std::size_t n) {
  std::mt19937_64 generator(1);
  std::normal_distribution<double> gauss(-12, 5);
  std::vector<klens::contribution> all(n);
  for (auto& each : all) each = {std::exp(gauss(generator)), 1 + std::exp(gauss(generator))};
  return all;
}

klens::totals<klens::kl> sum(const std::vector<klens::contribution>& all, std::size_t begin, std::size_t end) {
  klens::totals<klens::kl> part;
  for (std::size_t i = begin; i < end; ++i) part.add(all[i], i);
  return part;
}

void expect_equal(const klens::totals<klens::kl>& a, const klens::totals<klens::kl>& b) {
  CHECK(a.mean() == b.mean());
  CHECK(a.sum().value == b.sum().value);
  CHECK(a.sum().weight == b.sum().weight);
  CHECK(a.positions() == b.positions());
  CHECK(a.worst() == b.worst());
  CHECK(a.worst_position() == b.worst_position());
}

}  // namespace

TEST_CASE("by hand") {
  klens::totals<klens::kl> seen;
  CHECK(seen.mean() != seen.mean());
  CHECK(seen.worst() != seen.worst());
  seen.add({3, 2}, 10);
  seen.add({5, 1}, 11);
  seen.add({7, 0}, 12);  // a position without energy still has noise
  seen.add({5, 1}, 13);
  CHECK(seen.mean() == 5);
  CHECK(seen.positions() == 3);
  CHECK(seen.worst() == 5);
  CHECK(seen.worst_position() == 11);
}

TEST_CASE("halves merge to exactly the whole, wherever the cut") {
  const std::vector<klens::contribution> all = heavy_tailed(1000);
  const klens::totals<klens::kl> whole = sum(all, 0, all.size());
  for (std::size_t cut = 0; cut <= all.size(); ++cut) {
    klens::totals<klens::kl> merged = sum(all, 0, cut);
    merged.merge(sum(all, cut, all.size()));
    expect_equal(merged, whole);
    klens::totals<klens::kl> later_first = sum(all, cut, all.size());
    later_first.merge(sum(all, 0, cut));
    expect_equal(later_first, whole);
  }
}

TEST_CASE("merging is associative") {
  const std::vector<klens::contribution> all = heavy_tailed(999);
  const auto a = sum(all, 0, 100), b = sum(all, 100, 700), c = sum(all, 700, 999);
  klens::totals<klens::kl> left = a, right = b, grouped = a;
  left.merge(b);
  left.merge(c);
  right.merge(c);
  grouped.merge(right);
  expect_equal(left, grouped);
}

TEST_CASE("a small value after large ones is not lost") {
  klens::totals<klens::kl> seen;
  seen.add({1e16, 0}, 0);
  for (int i = 0; i < 10; ++i) seen.add({1, 1}, 1);
  seen.add({-1e16, 0}, 2);
  CHECK(seen.mean() == 1);
}

TEST_CASE("infinite damage stays infinite") {
  klens::totals<klens::kl> seen;
  seen.add(1.0, 0);
  seen.add(std::numeric_limits<double>::infinity(), 1);
  seen.add(2.0, 2);
  CHECK(seen.mean() == std::numeric_limits<double>::infinity());
  CHECK(seen.worst_position() == 1);
}

TEST_CASE("worst follows the metric's direction, in its unit") {
  klens::totals<klens::sqnr> seen;
  seen.add({1, 100}, 0);  // 20 dB
  seen.add({1, 10}, 1);   // 10 dB, the worse
  CHECK(seen.worst() == near{10, 1e-15});
  CHECK(seen.worst_position() == 1);
  CHECK(seen.mean() == near{10 * std::log10(55.0), 1e-15});
}

TEST_CASE("of equally bad positions the smallest is named, in whatever order they come") {
  klens::totals<klens::kl> early, late;
  early.add(7.0, 3);
  late.add(7.0, 5);
  late.add(7.0, 4);
  CHECK(late.worst_position() == 4);
  klens::totals<klens::kl> merged = late;
  merged.merge(early);
  CHECK(merged.worst_position() == 3);
  early.merge(late);
  CHECK(early.worst_position() == 3);
}
