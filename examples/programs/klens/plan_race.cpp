#include "plan_race.hpp"

#include <algorithm>
#include <cmath>
#include <klens/error.hpp>
#include <klens/plan/constraints.hpp>
#include <klens/plan/race.hpp>
#include <klens/plan/swaps.hpp>
#include <klens/stats/interval.hpp>
#include <map>
#include <utility>

#include "hybrid_forward.hpp"
#include "model_comparison.hpp"
#include "named_allocator.hpp"
#include "terminal.hpp"

namespace programs {
namespace {

constexpr std::size_t least_sequences = 8;      // of each half: intervals of fewer say little
constexpr std::size_t sequences_for_kinds = 4;  // that corrections by kind are learned from
constexpr double may_change_in_vain = 0.1;      // chance that the first plan is given up for one that is no better
constexpr double largest_correction = 4;        // and one over it: beyond it is noise, or damage that adds up in no way

struct candidate_plan {
  std::string what;
  klens::plan plan;
};

class plan_race {
 public:
  plan_race(plan_inputs& inputs, const plan_arguments& arguments, const klens::plan& first,
            std::span<const klens::plan_unit> units, const klens::allocation& chosen)
      : inputs_{&inputs}, arguments_{&arguments}, first_{&first}, units_{units.begin(), units.end()}, chosen_{&chosen} {
    const std::size_t half = inputs.held_out.sequences / 2;
    if (half < least_sequences)
      throw klens::argument_error{
          "--candidates: half of the held-out sequences choose the plan, the other half measure it, each at "
          "least " +
          std::to_string(least_sequences) + "; there are " + std::to_string(inputs.held_out.sequences)};
    tokens_ = inputs.held_out.part(0, half);
    inputs.held_out = inputs.held_out.part(half, inputs.held_out.sequences - half);
    add("", first);
  }

  raced_plan run() {
    const std::size_t runs = add_corrected_by_kind();
    for (const double power : {0.5, 0.7, 1.4, 2.0})
      add_with(text("damages to the power %.1f", power),
               [power](double d, std::size_t) { return std::pow(std::max(d, 0.0), power); });
    for (const klens::metric_info& each : inputs_->scored.result.metrics) add_by_metric(each.name);
    for (const klens::allocation& each : klens::best_swaps(units_, *chosen_, first_->budget_bytes, arguments_->candidates))
      add("a swap of two layers", made(units_, each, arguments_->metric));

    std::vector<klens::model_version> versions;
    for (const candidate_plan& each : candidates_) versions.push_back(klens::version_of(each.plan));
    const hybrid_forward forward{inputs_->loaded, tokens_, arguments_->run.sequences_per_batch(), arguments_->run.threads};
    progress_line line;
    const klens::race_result race =
        klens::race_versions(forward, inputs_->layers, versions,
                             {.measuring = {.batches = forward.batches(),
                                            .sequence_length = tokens_.length,
                                            .tokens = {},
                                            .counted = tokens_.counted(),
                                            .progress =
                                                [&](std::size_t batch, std::size_t version) {
                                                  line.show(text("racing plans: batch %zu/%zu, plan %zu/%zu", batch + 1,
                                                                 forward.batches(), version, versions.size()));
                                                },
                                            .threads = arguments_->run.threads}});
    line.clear();
    const auto kl_of = [&](std::size_t plan) -> const klens::measured_version& { return race.measured[plan + 1]; };
    // of so many plans one looks better by chance: each has its share of that chance, one side of a two-sided interval
    const double sure = 1 - 2 * may_change_in_vain / static_cast<double>(std::max<std::size_t>(2, candidates_.size()));
    const bool surely_better =
        race.left[0] || !klens::difference_of(kl_of(0).kl_by_sequence, kl_of(race.winner).kl_by_sequence, sure).may_be_zero();
    const candidate_plan& won = candidates_[surely_better ? race.winner : 0];
    const std::string end = race.winner == 0 ? "the first plan won"
                            : surely_better  ? "the winner has " + won.what
                                             : "none was surely better than the first plan, which is kept";
    return {won.plan, won.what,
            text("%zu plans raced on %zu sequences, %td left early, for %.1f forwards over them: %s (kl %.5g, the first plan's "
                 "%.5g)\n",
                 candidates_.size(), tokens_.sequences, std::ranges::count(race.left, true),
                 static_cast<double>(runs + race.runs) / static_cast<double>(forward.batches()), end.c_str(),
                 kl_of(race.winner).kl.mean(), kl_of(0).kl.mean())};
  }

 private:
  [[nodiscard]] klens::plan made(std::span<const klens::plan_unit> units, const klens::allocation& chosen,
                                 const std::string& metric) const {
    return klens::make_plan(arguments_->allocator, units, chosen, first_->budget_bytes, {}, metric);
  }

  void add(std::string what, klens::plan plan) {
    const auto same = [&](const candidate_plan& known) { return klens::version_of(known.plan) == klens::version_of(plan); };
    if (candidates_.size() < std::max<std::size_t>(1, arguments_->candidates) && std::ranges::none_of(candidates_, same))
      candidates_.push_back({std::move(what), std::move(plan)});
  }

  /// The plan from damages that are changed(damage, unit).
  template <class Changed>
  void add_with(std::string what, const Changed& changed) {
    std::vector<klens::plan_unit> units = units_;
    for (std::size_t u = 0; u < units.size(); ++u)
      for (klens::plan_choice& each : units[u].choices)
        if (std::isfinite(each.damage)) each.damage = changed(each.damage, u);
    const klens::allocation found = named_allocator{arguments_->allocator}(units, first_->budget_bytes);
    add(std::move(what), made(units_, klens::allocation_of(units_, found.chosen), arguments_->metric));
  }

  void add_by_metric(const std::string& metric) {
    if (metric == arguments_->metric || metric == "delta_ce") return;  // which may be below 0, and mostly is noise
    const std::vector<klens::plan_unit> units =
        klens::constrain(inputs_->units(metric, arguments_->rules, arguments_->seed).units, constraints_of(arguments_->rules));
    add("damages by " + metric, made(units, named_allocator{arguments_->allocator}(units, first_->budget_bytes), metric));
  }

  /// Returns how many batches went through the model.
  std::size_t add_corrected_by_kind() {
    std::map<std::string, std::string> kind_of;
    for (const klens::layer& each : inputs_->layers) kind_of[each.name] = each.kind;
    std::map<std::string, klens::model_version> version_of_kind;
    std::map<std::string, double> sum_of_kind;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      const klens::plan_choice& choice = units_[u].choices[chosen_->chosen[u]];
      const std::string& kind = kind_of[units_[u].layers.front()];
      sum_of_kind[kind] += choice.damage;
      for (std::size_t i = 0; i < units_[u].layers.size(); ++i)
        version_of_kind[kind].emplace(units_[u].layers[i], klens::scheme{choice.schemes[i]});
    }
    std::vector<klens::model_version> versions;
    for (const auto& [kind, version] : version_of_kind) versions.push_back(version);
    const token_set some = tokens_.part(0, sequences_for_kinds);
    const std::vector<klens::measured_version> measured = measure_versions(
        inputs_->loaded, inputs_->layers, versions, some, arguments_->run.sequences_per_batch(), arguments_->run.threads);
    std::map<std::string, double> factor;
    std::size_t k = 0;
    for (const auto& [kind, sum] : sum_of_kind) {
      const double ratio = measured[++k].kl.mean() / sum;
      factor[kind] = std::isfinite(ratio) ? std::clamp(ratio, 1 / largest_correction, largest_correction) : 1;
    }
    add_with("damages corrected by kind of layer",
             [&](double damage, std::size_t u) { return damage * factor[kind_of[units_[u].layers.front()]]; });
    const std::size_t per_batch = arguments_->run.sequences_per_batch();
    return (versions.size() + 1) * ((sequences_for_kinds + per_batch - 1) / per_batch);
  }

  plan_inputs* inputs_;
  const plan_arguments* arguments_;
  const klens::plan* first_;
  std::vector<klens::plan_unit> units_;
  const klens::allocation* chosen_;
  token_set tokens_;
  std::vector<candidate_plan> candidates_;
};

}  // namespace

raced_plan race_plans(plan_inputs& inputs, const plan_arguments& arguments, const klens::plan& first,
                      std::span<const klens::plan_unit> units, const klens::allocation& chosen) {
  return plan_race{inputs, arguments, first, units, chosen}.run();
}

std::string gain_text(const klens::measured_version& first, const klens::measured_version& won) {
  const klens::estimate gain = klens::difference_of(first.kl_by_sequence, won.kl_by_sequence);
  return text("gain over the first plan, on sequences that chose nothing: kl %.4g (95 %% interval %.4g to %.4g), %.1f %%\n",
              gain.value, gain.range->low, gain.range->high, 100 * gain.value / first.kl.mean());
}

}  // namespace programs
