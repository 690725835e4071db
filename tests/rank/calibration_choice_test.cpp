#include <klens/rank/local/calibration_choice.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <map>
#include <set>
#include <vector>

using klens::detail::calibrations_for;
using klens::detail::calibrations_of_batch;
using klens::detail::choose_calibrations;
using klens::detail::gain_item;

namespace {

// Twenty layers of four kinds under two schemes, of which the second has a hundredth of the energy.
std::vector<gain_item> some_items() {
  std::vector<gain_item> items;
  for (std::size_t layer = 0; layer < 20; ++layer)
    for (std::size_t scheme = 0; scheme < 2; ++scheme)
      items.push_back({static_cast<double>(layer) / 20, layer / 5, layer, scheme});
  return items;
}
std::vector<double> some_energies() {
  std::vector<double> energies;
  for (std::size_t layer = 0; layer < 20; ++layer)
    for (const double size : {1., 0.01}) energies.push_back(size * static_cast<double>(1 + layer));
  return energies;
}

}  // namespace

TEST_CASE("calibrations: their number grows with the square root of the candidates") {
  CHECK(calibrations_for(100) == 32);
  CHECK(calibrations_for(400) == 64);
}

TEST_CASE("calibrations: no layer twice, all kinds, the highest energies of either scheme, and nothing but the seed decides") {
  const std::vector<gain_item> items = some_items();
  const std::vector<double> energies = some_energies();
  std::set<std::size_t> schemes;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const std::vector<std::size_t> chosen = choose_calibrations(items, energies, 8, seed);
    REQUIRE(chosen.size() == 8);
    std::set<std::size_t> layers, kinds;
    std::size_t high = 0;
    for (const std::size_t c : chosen) {
      layers.insert(items[c].layer);
      kinds.insert(items[c].kind);
      schemes.insert(items[c].scheme);
      high += items[c].layer >= 12 ? 1 : 0;
    }
    CHECK(layers.size() == 8);
    CHECK(kinds.size() == 4);
    CHECK(high >= 4);
    CHECK(choose_calibrations(items, energies, 8, seed) == chosen);
    CHECK(choose_calibrations(items, energies, 8, seed + 1) != chosen);
  }
  CHECK(schemes.size() == 2);
  CHECK(choose_calibrations(items, energies, 100, 1).size() == 20);  // every layer once
}

TEST_CASE("calibrations: what has no energy is not measured") {
  std::vector<double> energies = some_energies();
  for (std::size_t c = 0; c < 36; ++c) energies[c] = 0;
  for (const std::size_t c : choose_calibrations(some_items(), energies, 10, 3)) CHECK(c >= 36);
  CHECK(choose_calibrations(some_items(), std::vector<double>(40, 0), 10, 3).empty());
}

TEST_CASE("calibrations: each is measured on a batch, and no batch has fewer than twelve where there are so many") {
  for (const std::size_t batches : {1u, 2u, 3u, 16u}) {
    std::map<std::size_t, std::size_t> times;
    for (std::size_t b = 0; b < batches; ++b) {
      const std::vector<std::size_t> here = calibrations_of_batch(30, b, batches);
      CHECK(here.size() == std::max<std::size_t>((30 + batches - 1) / batches, 12));
      CHECK(std::set<std::size_t>(here.begin(), here.end()).size() == here.size());
      for (const std::size_t c : here) ++times[c];
    }
    CHECK(times.size() == 30);
  }
  CHECK(calibrations_of_batch(5, 1, 4).size() == 5);
  CHECK(calibrations_of_batch(0, 1, 4).empty());
}
