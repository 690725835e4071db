#include <klens/rank/local/gain_model.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <support/near.hpp>
#include <vector>

using klens::detail::gain_item;
using klens::detail::gain_model;

namespace {

// Eight blocks of three kinds under two schemes.
std::vector<gain_item> some_items() {
  std::vector<gain_item> items;
  for (std::size_t layer = 0; layer < 24; ++layer)
    for (std::size_t scheme = 0; scheme < 2; ++scheme)
      items.push_back({static_cast<double>(layer / 3) / 8, layer % 3, layer, scheme});
  return items;
}

std::vector<std::size_t> all_of(const std::vector<gain_item>& items) {
  std::vector<std::size_t> all(items.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  return all;
}

}  // namespace

TEST_CASE("gain_model: the design takes no layer twice, spreads over kinds and depths, and depends on nothing but its seed") {
  const std::vector<gain_item> items = some_items();
  const gain_model model{items};
  const std::vector<std::size_t> chosen = model.design(9, all_of(items), 5);
  CHECK(chosen.size() == 9);
  std::set<std::size_t> layers, kinds, early_or_late;
  for (const std::size_t c : chosen) {
    layers.insert(items[c].layer);
    kinds.insert(items[c].kind);
    early_or_late.insert(items[c].depth < 0.5 ? 0 : 1);
  }
  CHECK(layers.size() == 9);
  CHECK(kinds.size() == 3);
  CHECK(early_or_late.size() == 2);
  CHECK(model.design(9, all_of(items), 5) == chosen);
  CHECK(model.design(100, all_of(items), 5).size() == 24);  // every layer once
  CHECK(model.design(9, {3, 7}, 5).size() == 2);
}

TEST_CASE("gain_model: equal gains predict the same gain everywhere, and nearly surely next to what was measured") {
  const std::vector<gain_item> items = some_items();
  gain_model model{items};
  const std::vector<std::size_t> measured = model.design(8, all_of(items), 1);
  model.fit(measured, std::vector<double>(8, -2.5));
  for (std::size_t i = 0; i < items.size(); ++i) CHECK(model.mean(i) == near{-2.5, 0, 1e-9});
  for (const std::size_t c : measured) {
    const std::size_t other_scheme = c ^ 1;
    CHECK(model.deviation(c) < 0.03);             // the noise of a measurement
    CHECK(model.deviation(other_scheme) < 0.09);  // that, and what differs between schemes
  }
}

TEST_CASE("gain_model: a kind of its own level and a drift with depth are learned from a part of the layers") {
  const std::vector<gain_item> items = some_items();
  const auto truth = [&items](std::size_t i) {
    return -1 + 0.4 * items[i].depth + (items[i].kind == 2 ? 0.5 : 0) + (items[i].kind == 1 ? -0.2 : 0);
  };
  gain_model model{items};
  const std::vector<std::size_t> measured = model.design(12, all_of(items), 2);
  std::vector<double> gains;
  for (const std::size_t c : measured) gains.push_back(truth(c));
  model.fit(measured, gains);
  double spread = 0, missed = 0;  // squares: around the mean of what was measured, and around the prediction
  const double level = std::accumulate(gains.begin(), gains.end(), 0.) / static_cast<double>(gains.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    const double miss = model.mean(i) - truth(i);
    CHECK(std::abs(miss) < 3 * model.deviation(i));
    spread += (truth(i) - level) * (truth(i) - level);
    missed += miss * miss;
  }
  CHECK(missed < 0.05 * spread);
}

TEST_CASE("gain_model: gains that do not fit the model widen every deviation") {
  const std::vector<gain_item> items = some_items();
  const std::vector<std::size_t> measured = gain_model{items}.design(10, all_of(items), 3);
  std::vector<double> smooth, wild;
  for (std::size_t i = 0; i < measured.size(); ++i) {
    smooth.push_back(0.1 * items[measured[i]].depth);
    wild.push_back(i % 2 ? 3 : -3);
  }
  gain_model calm{items}, torn{items};
  calm.fit(measured, smooth);
  torn.fit(measured, wild);
  for (std::size_t i = 0; i < items.size(); ++i) CHECK(torn.deviation(i) >= 5 * calm.deviation(i));
}

TEST_CASE("gain_model: draws have the mean, the deviation and the correlation that the model says") {
  const std::vector<gain_item> items = some_items();
  gain_model model{items};
  const std::vector<std::size_t> measured{0, 13, 22, 40};
  model.fit(measured, {0.3, -0.1, 0.2, 0.4});
  constexpr int count = 4000;
  std::vector<double> sums(items.size(), 0), squares(items.size(), 0);
  double together = 0;  // of two schemes of one layer, which are strongly correlated
  klens::detail::random_stream random{7};
  for (int d = 0; d < count; ++d) {
    const std::vector<double> draw = model.draw(random);
    for (std::size_t i = 0; i < items.size(); ++i) {
      sums[i] += draw[i];
      squares[i] += (draw[i] - model.mean(i)) * (draw[i] - model.mean(i));
    }
    together += (draw[20] - model.mean(20)) * (draw[21] - model.mean(21));
  }
  for (std::size_t i = 0; i < items.size(); ++i) {
    const double deviation = model.deviation(i);
    CHECK(sums[i] / count == near{model.mean(i), 0, 5 * deviation / std::sqrt(count)});
    CHECK(squares[i] / count == near{deviation * deviation, 5 * std::sqrt(2. / count)});
  }
  CHECK(together / count > 0.8 * model.deviation(20) * model.deviation(21));
}
