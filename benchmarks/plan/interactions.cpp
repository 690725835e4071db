// Do the interactions of layers (docs/theory.md, 5.1) make predictions and plans better?
//   plan_interactions MODEL CALIBRATION HELD_OUT SEQUENCES LENGTH SCHEMES BITS...
// Measures every layer under every scheme once, with its KL and a sketch of its weighted logit changes sqrt(p) (delta - mean): inner
// products of sketches are the covariances of pairs. For each number of bits a weight: the exact plan from the sums, the plan that a
// local search from there finds with the pairs added, what both predict on the calibration tokens, and the KL that both are measured
// to have there and on as many held-out tokens, with 95 % intervals.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <klens/metric/compare_rows.hpp>
#include <klens/metric/rows.hpp>
#include <klens/plan/exact.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/stats/interval.hpp>
#include <klens/weight_guard.hpp>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/model.hpp"
#include "token_file.hpp"

namespace {

using matrix = klens::matrix<float>;
using sums = std::vector<klens::contribution>;

constexpr std::size_t buckets = 16384;  // inner products are off by 1 / 128 of the lengths' product, times a standard normal

// Where an entry goes, and with which sign: SplitMix64 of its place.
std::uint64_t place_of(std::uint64_t entry) {
  std::uint64_t z = (entry + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// The untouched model on some tokens, with its state before every stage, and what versions of it do.
class subject {
 public:
  subject(const programs::model& of, programs::token_set tokens) : model_{of}, tokens_{std::move(tokens)} {
    programs::state at = model_.begin(tokens_.tokens, tokens_.sequences, tokens_.length);
    for (std::size_t stage = 0; stage < model_.stages(); ++stage) {
      entries_.push_back(at);
      model_.advance(at, stage, 1);
    }
    entries_.push_back(at);
    logits_ = model_.logits(at, 1);
    for (Eigen::Index r = 0; r < logits_.rows(); ++r) known_.push_back(klens::describe_reference(klens::row(logits_, r)));
  }
  [[nodiscard]] double positions() const { return static_cast<double>(logits_.rows()); }

  // The logits of a version that differs from some stage on.
  [[nodiscard]] matrix logits_from(std::size_t stage) const {
    programs::state at = entries_[stage];
    for (; stage < model_.stages(); ++stage) model_.advance(at, stage, 1);
    return model_.logits(at, 1);
  }
  [[nodiscard]] sums kl_of(const matrix& observed) const {
    sums by_sequence(tokens_.sequences, klens::contribution{0, 0});
    for (Eigen::Index r = 0; r < observed.rows(); ++r) {
      klens::contribution& of = by_sequence[static_cast<std::size_t>(r) / tokens_.length];
      of.value += klens::kl_divergence(klens::row(logits_, r), klens::row(observed, r));
      of.weight += 1;
    }
    return by_sequence;
  }
  [[nodiscard]] std::vector<float> sketch_of(const matrix& observed) const {
    std::vector<double> sketch(buckets, 0);
    for (Eigen::Index r = 0; r < observed.rows(); ++r) {
      const std::span<const float> x = klens::row(logits_, r), y = klens::row(observed, r);
      const double log_sum = known_[static_cast<std::size_t>(r)].log_sum_exp;
      double mean = 0;
      roots_.resize(x.size());
      for (std::size_t v = 0; v < x.size(); ++v) {
        roots_[v] = std::exp(0.5 * (static_cast<double>(x[v]) - log_sum));
        mean += roots_[v] * roots_[v] * (static_cast<double>(y[v]) - static_cast<double>(x[v]));
      }
      for (std::size_t v = 0; v < x.size(); ++v) {
        const double entry = roots_[v] * (static_cast<double>(y[v]) - static_cast<double>(x[v]) - mean);
        const std::uint64_t place = place_of(static_cast<std::uint64_t>(r) * x.size() + v);
        sketch[place % buckets] += place >> 63 ? entry : -entry;
      }
    }
    return {sketch.begin(), sketch.end()};
  }

 private:
  const programs::model& model_;
  programs::token_set tokens_;
  std::vector<programs::state> entries_;
  matrix logits_;
  std::vector<klens::reference_row> known_;
  mutable std::vector<double> roots_;
};

std::string text_of(double value, const std::optional<klens::interval>& range) {
  char text[96];
  std::snprintf(text, sizeof text, "%.5f (%.5f to %.5f)", value, range ? range->low : NAN, range ? range->high : NAN);
  return text;
}
std::string text_of(const sums& of) { return text_of(klens::mean_of(of), klens::mean_interval(of)); }

// Damages and pair terms of what each unit can become, numbered [unit][choice].
struct pairs {
  std::vector<std::size_t> first;  // of each unit, among all
  matrix sketches;                 // [all x buckets], divided by the root of the number of positions
  matrix products;                 // [all x all]: covariances

  [[nodiscard]] double with_pairs(const klens::allocation& of) const {
    double sum = of.damage;
    for (std::size_t a = 0; a < of.chosen.size(); ++a)
      for (std::size_t b = 0; b < a; ++b) sum += at(a, of.chosen[a], b, of.chosen[b]);
    return sum;
  }
  [[nodiscard]] double at(std::size_t a, std::size_t choice_a, std::size_t b, std::size_t choice_b) const {
    return static_cast<double>(
        products(static_cast<Eigen::Index>(first[a] + choice_a), static_cast<Eigen::Index>(first[b] + choice_b)));
  }
};

// The best of all changes of one unit and of two that fit, again and again, until none lowers the sum with pairs.
klens::allocation improved(const std::vector<klens::plan_unit>& units, const pairs& of, klens::allocation from,
                           std::uint64_t budget) {
  for (;;) {
    std::vector<std::vector<double>> change(units.size());  // of the sum, where one unit becomes something else
    for (std::size_t a = 0; a < units.size(); ++a)
      for (std::size_t c = 0; c < units[a].choices.size(); ++c) {
        double moved = units[a].choices[c].damage - units[a].choices[from.chosen[a]].damage;
        for (std::size_t b = 0; b < units.size(); ++b)
          if (b != a) moved += of.at(a, c, b, from.chosen[b]) - of.at(a, from.chosen[a], b, from.chosen[b]);
        change[a].push_back(moved);
      }
    double best = -1e-12;
    std::vector<std::size_t> chosen = from.chosen;
    const auto bytes_more = [&](std::size_t u, std::size_t c) {
      return static_cast<std::int64_t>(units[u].choices[c].bytes) -
             static_cast<std::int64_t>(units[u].choices[from.chosen[u]].bytes);
    };
    const auto room = static_cast<std::int64_t>(budget - from.bytes);
    for (std::size_t a = 0; a < units.size(); ++a)
      for (std::size_t c = 0; c < units[a].choices.size(); ++c) {
        if (bytes_more(a, c) <= room && change[a][c] < best) {
          best = change[a][c];
          chosen = from.chosen;
          chosen[a] = c;
        }
        for (std::size_t b = 0; b < a; ++b)
          for (std::size_t d = 0; d < units[b].choices.size(); ++d) {
            if (bytes_more(a, c) + bytes_more(b, d) > room) continue;
            const double both = change[a][c] + change[b][d] + of.at(a, c, b, d) - of.at(a, c, b, from.chosen[b]) -
                                of.at(a, from.chosen[a], b, d) + of.at(a, from.chosen[a], b, from.chosen[b]);
            if (both >= best) continue;
            best = both;
            chosen = from.chosen;
            chosen[a] = c;
            chosen[b] = d;
          }
      }
    if (chosen == from.chosen) return from;
    from = klens::allocation_of(units, chosen);
  }
}

sums measured(const subject& on, std::vector<klens::layer>& layers, const std::vector<klens::scheme>& schemes,
              const klens::allocation& plan) {
  std::list<klens::weight_guard> guards;
  for (std::size_t l = 0; l < layers.size(); ++l) (void)guards.emplace_back(layers[l]).apply(schemes[plan.chosen[l]]);
  return on.kl_of(on.logits_from(0));
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 8) {
    std::fputs("plan_interactions MODEL CALIBRATION HELD_OUT SEQUENCES LENGTH SCHEMES BITS...\n", stderr);
    return 2;
  }
  const programs::model model = programs::model::load(arguments[1]);
  const auto tokens_of = [&](const char* file) {
    return programs::read_tokens({.file = file, .sequences = std::stoul(arguments[4]), .length = std::stoul(arguments[5])},
                                 model.vocabulary(), 256);
  };
  const subject calibration{model, tokens_of(arguments[2])}, held_out{model, tokens_of(arguments[3])};
  const std::vector<klens::scheme> schemes = klens::parse_schemes(arguments[6]);
  std::vector<klens::layer> layers;
  std::uint64_t weights = 0;
  for (const programs::weight& each : model.weights()) {
    layers.push_back(each.as_layer());
    weights += each.rows * each.columns;
  }
  std::vector<klens::plan_unit> units;
  pairs of;
  of.sketches.resize(static_cast<Eigen::Index>(layers.size() * schemes.size()), static_cast<Eigen::Index>(buckets));
  Eigen::Index row = 0;
  for (klens::layer& each : layers) {
    of.first.push_back(static_cast<std::size_t>(row));
    klens::plan_unit unit{{each.name}, each.rows() * each.columns()};
    klens::weight_guard guard{each};
    for (const klens::scheme& storage : schemes) {
      (void)guard.apply(storage);
      const matrix observed = calibration.logits_from(each.stage);
      unit.choices.push_back(
          {{storage.name()}, storage.bytes(each.rows(), each.columns()), klens::mean_of(calibration.kl_of(observed))});
      const std::vector<float> sketch = calibration.sketch_of(observed);
      of.sketches.row(row++) =
          Eigen::Map<const Eigen::RowVectorXf>(sketch.data(), buckets) / static_cast<float>(std::sqrt(calibration.positions()));
    }
    units.push_back(std::move(unit));
    std::fprintf(stderr, "\r%zu of %zu layers", units.size(), layers.size());
  }
  std::fputs("\n", stderr);
  of.products = of.sketches * of.sketches.transpose();

  std::printf(
      "| bits | sum | with pairs | joint | held out: plan from sums | plan from pairs | difference | layers that differ |\n"
      "|---|---|---|---|---|---|---|---|\n");
  for (int i = 7; i < count; ++i) {
    const auto budget = static_cast<std::uint64_t>(std::atof(arguments[i]) * static_cast<double>(weights) / 8);
    const klens::allocation plain = klens::exact{}(units, budget), other = improved(units, of, plain, budget);
    const sums joint = measured(calibration, layers, schemes, plain);
    const sums one = measured(held_out, layers, schemes, plain), two = measured(held_out, layers, schemes, other);
    const klens::estimate difference = klens::difference_of(two, one);
    std::size_t differing = 0;
    for (std::size_t u = 0; u < units.size(); ++u) differing += plain.chosen[u] != other.chosen[u] ? 1 : 0;
    std::printf("| %s | %.5f | %.5f | %s | %s | %s | %s | %zu |\n", arguments[i], plain.damage, of.with_pairs(plain),
                text_of(joint).c_str(), text_of(one).c_str(), text_of(two).c_str(),
                text_of(difference.value, difference.range).c_str(), differing);
    std::fflush(stdout);
  }
}
