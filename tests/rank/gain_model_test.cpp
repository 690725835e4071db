#include <klens/rank/local/gain_model.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <klens/detail/random.hpp>
#include <numeric>
#include <vector>

#include "support/near.hpp"

using klens::detail::gain_item;
using klens::detail::gain_model;
using klens::detail::gain_observation;

namespace {

// Twelve blocks of five kinds under two schemes.
std::vector<gain_item> some_items() {
  std::vector<gain_item> items;
  for (std::size_t layer = 0; layer < 60; ++layer)
    for (std::size_t scheme = 0; scheme < 2; ++scheme)
      items.push_back({static_cast<double>(layer / 5) / 12, layer % 5, layer, scheme, layer / 5});
  return items;
}

// Every second layer, under one scheme or the other in turns, on two sequences.
template <class Truth>
std::vector<gain_observation> half_seen(const std::vector<gain_item>& items, double variance, Truth truth) {
  std::vector<gain_observation> seen;
  for (std::size_t i = 0; i < items.size(); i += 4) {
    const std::size_t item = i + (i / 4) % 2;
    seen.push_back({item, (i / 8) % 2, truth(item), variance});
  }
  return seen;
}

struct summary {
  std::vector<double> low, median, high;
};
summary summary_of(gain_model model) {
  constexpr std::size_t draws = 400;
  std::vector<std::vector<double>> of;
  for (std::size_t d = 0; d < draws; ++d) {
    const std::vector<double> gains = model.draw().log_gains;
    of.resize(gains.size());
    for (std::size_t i = 0; i < gains.size(); ++i) of[i].push_back(gains[i]);
  }
  summary found;
  for (std::vector<double>& each : of) {
    std::ranges::sort(each);
    found.low.push_back(each[draws / 40]);
    found.median.push_back(each[draws / 2]);
    found.high.push_back(each[draws - 1 - draws / 40]);
  }
  return found;
}

double rms(const std::vector<double>& values) {
  return std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0) / static_cast<double>(values.size()));
}

}  // namespace

TEST_CASE("gain_model: where no gain differs, all are the level, also of what was not measured") {
  const std::vector<gain_item> items = some_items();
  const summary found = summary_of({items, half_seen(items, 1e-4, [](std::size_t) { return -2.5; }), 1});
  for (std::size_t i = 0; i < items.size(); ++i) {
    CHECK(found.median[i] == near{-2.5, 0, 0.03});
    // What is left is the 0.05 of a candidate, and two sequences that may have lied.
    CHECK(found.high[i] - found.low[i] < 0.7);
  }
}

TEST_CASE("gain_model: a kind of its own level and a drift with depth are learned from a part of the layers") {
  const std::vector<gain_item> items = some_items();
  const auto truth = [&items](std::size_t i) {
    return -1 + 0.8 * items[i].depth + (items[i].kind == 2 ? 0.5 : 0) + (items[i].kind == 1 ? -0.4 : 0);
  };
  const summary found = summary_of({items, half_seen(items, 0.0025, truth), 2});
  std::vector<double> all, misses;
  for (std::size_t i = 0; i < items.size(); ++i) all.push_back(truth(i));
  const double mean = std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
  for (std::size_t i = 0; i < items.size(); ++i) misses.push_back(found.median[i] - all[i]);
  for (double& each : all) each -= mean;
  CHECK(rms(misses) < 0.2 * rms(all));
}

TEST_CASE("gain_model: what runs behind a stage is learned from those of its layers that were measured") {
  const std::vector<gain_item> items = some_items();
  const auto truth = [&items](std::size_t i) { return items[i].stage % 3 == 0 ? 0.8 : -0.4; };  // nothing of depth or kind
  const summary found = summary_of({items, half_seen(items, 0.0025, truth), 8});
  std::vector<double> unmeasured;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (items[i].layer % 2 != 0) unmeasured.push_back(found.median[i] - truth(i));
  CHECK(rms(unmeasured) < 0.2);  // of 0.57, which they differ by
}

TEST_CASE("gain_model: one outlier does not move its kind, and keeps what was seen of it") {
  const std::vector<gain_item> items = some_items();
  const std::size_t outlier = 40;
  const auto truth = [](std::size_t i) { return i == outlier ? 2.0 : 0.0; };
  const summary found = summary_of({items, half_seen(items, 0.01, truth), 3});
  CHECK(found.median[outlier] > 1.6);
  CHECK(found.median[outlier + 1] > 1.6);  // the same layer under the other scheme
  for (std::size_t i = 0; i < items.size(); ++i)
    if (items[i].layer != items[outlier].layer) {
      CHECK(std::abs(found.median[i]) < 0.2);  // a mean of its kind would move by 2 / 6
    }
}

TEST_CASE("gain_model: a sequence that is hard for all moves nobody against the others") {
  const std::vector<gain_item> items = some_items();
  std::vector<gain_observation> seen = half_seen(items, 0.0025, [](std::size_t) { return 0.0; });
  for (gain_observation& each : seen) each.log_gain += each.sequence == 0 ? 0.3 : -0.3;
  const summary found = summary_of({items, seen, 4});
  const auto [least, most] = std::ranges::minmax(found.median);
  CHECK(most - least < 0.25);
}

TEST_CASE("gain_model: what noise may have done is not believed, what it cannot have done is") {
  const std::vector<gain_item> items = some_items();
  klens::detail::random_stream random{5};
  std::vector<gain_observation> seen = half_seen(items, 0.09, [&](std::size_t) { return 0.3 * random.normal(); });
  const summary noisy = summary_of({items, seen, 5});
  for (gain_observation& each : seen) each.variance = 1e-4;
  const summary sure = summary_of({items, seen, 5});
  std::vector<double> believed, kept, said;
  for (const gain_observation& each : seen) {
    believed.push_back(noisy.median[each.item]);
    kept.push_back(sure.median[each.item] - each.log_gain);
    said.push_back(each.log_gain);
  }
  CHECK(rms(believed) < 0.5 * rms(said));
  CHECK(rms(kept) < 0.25 * rms(said));
}

TEST_CASE("gain_model: 95 % intervals hold the truth of simulated models in at least 90 % of the cases, and say something") {
  const std::vector<gain_item> items = some_items();
  for (const double of_layer : {0.02, 0.3}) {
    std::size_t held = 0, all = 0;
    for (std::uint64_t model = 1; model <= 20; ++model) {
      klens::detail::random_stream random{model, 77};
      std::vector<double> kinds(5), layers(60), truth, sequences(2);
      for (double& each : kinds) each = 0.2 * random.normal();
      for (double& each : layers) each = of_layer * random.normal();
      for (double& each : sequences) each = 0.1 * random.normal();
      for (const gain_item& each : items) truth.push_back(-1 + kinds[each.kind] + layers[each.layer] + 0.05 * random.normal());
      std::vector<gain_observation> seen = half_seen(items, 0.01, [&truth](std::size_t i) { return truth[i]; });
      for (gain_observation& each : seen)
        each.log_gain += sequences[each.sequence] + std::sqrt(2 * each.variance) * random.normal();
      const summary found = summary_of({items, seen, model});
      for (std::size_t i = 0; i < items.size(); ++i) held += found.low[i] <= truth[i] && truth[i] <= found.high[i] ? 1 : 0;
      all += items.size();
    }
    const double share = static_cast<double>(held) / static_cast<double>(all);
    INFO(of_layer);
    CHECK(share > 0.9);
    if (of_layer > 0.1) CHECK(share < 0.99);  // where hardly anything differs, priors are what is left, and careful
  }
}

TEST_CASE("gain_model: the same draws for the same seed, others for another") {
  const std::vector<gain_item> items = some_items();
  const std::vector<gain_observation> seen =
      half_seen(items, 0.01, [](std::size_t i) { return 0.01 * static_cast<double>(i); });
  CHECK(gain_model{items, seen, 1}.draw().log_gains == gain_model{items, seen, 1}.draw().log_gains);
  CHECK(gain_model{items, seen, 1}.draw().log_gains != gain_model{items, seen, 2}.draw().log_gains);
}

TEST_CASE("gain_model: draws do not hang on the last bits of what was seen") {
  const std::vector<gain_item> items = some_items();
  klens::detail::random_stream random{6};
  std::vector<gain_observation> seen = half_seen(items, 0.01, [&](std::size_t) { return 0.3 * random.normal(); });
  const std::vector<double> before = gain_model{items, seen, 6}.draw().log_gains;
  for (gain_observation& each : seen) {
    each.log_gain += 1e-7 * random.normal();
    each.variance *= 1 + 1e-7 * random.normal();
  }
  CHECK(gain_model{items, seen, 6}.draw().log_gains == before);
}

TEST_CASE("gain_model: means move by no more than a hundredth where another engine's sums differ in their fourth digit") {
  const std::vector<gain_item> items = some_items();
  klens::detail::random_stream random{7};
  std::vector<gain_observation> seen = half_seen(items, 0.02, [&](std::size_t) { return 0.3 * random.normal(); });
  const auto means_of = [&](std::uint64_t seed) {
    gain_model model{items, seen, seed};
    for (int d = 0; d < 256; ++d) (void)model.draw();
    return model.mean_log_gains();
  };
  const std::vector<double> before = means_of(7), luck = means_of(8);
  for (gain_observation& each : seen) {
    each.log_gain += 1e-4 * random.normal();
    each.variance *= 1 + 1e-4 * random.normal();
  }
  const std::vector<double> after = means_of(7);
  for (std::size_t i = 0; i < items.size(); ++i) {
    CHECK(std::abs(after[i] - before[i]) < 0.01);
    CHECK(std::abs(luck[i] - before[i]) < 0.1);
  }
}

TEST_CASE("gain_model: the means are the middles of the draws") {
  const std::vector<gain_item> items = some_items();
  klens::detail::random_stream random{9};
  gain_model model{items, half_seen(items, 0.01, [&](std::size_t i) { return items[i].depth + 0.2 * random.normal(); }), 9};
  constexpr std::size_t draws = 1000;
  std::vector<double> sums(items.size(), 0);
  for (std::size_t d = 0; d < draws; ++d) {
    const std::vector<double> gains = model.draw().log_gains;
    for (std::size_t i = 0; i < items.size(); ++i) sums[i] += gains[i] / draws;
  }
  const std::vector<double> means = model.mean_log_gains();
  for (std::size_t i = 0; i < items.size(); ++i) CHECK(means[i] == near{sums[i], 0, 0.05});
}
