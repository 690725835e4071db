#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/plan/detail/knapsack_classes.hpp>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

struct knapsack_answer {
  std::vector<std::size_t> chosen;  ///< an item of each class
  std::int64_t cost = 0;
  std::int64_t lower_bound = 0;  ///< nothing that fits costs less; equal to cost where the answer is proven optimal
};

/// The multiple-choice knapsack: one item of each class, total weight at most the capacity, least total cost. In integers, so
/// that bounds are exact and ties are ties.
///   1. Upgrades along the hull of each class, best saving per weight first, solve the linear relaxation; the first that is
///      too heavy sets the price of weight.
///   2. Classes join a list of undominated partial solutions, those first where another item is nearly as good at that
///      price. A partial solution leaves when the relaxation of the classes to come cannot bring it below the best complete
///      one. The search ends at the first class for which leaving the relaxed choice costs too much.
/// Source: Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", EJOR 83 (1995), on the relaxation of
/// Zemel (1980) and Dyer (1984).
class choice_knapsack {
 public:
  /// The lightest items together must fit the capacity.
  choice_knapsack(std::span<const std::vector<knapsack_item>> classes, std::int64_t capacity) : problem_(classes, capacity) {}

  /// Exact unless about state_limit partial solutions are kept in all: then those with the lowest bounds stay, and the lowest
  /// bound among the dropped ones limits the answer's.
  [[nodiscard]] knapsack_answer solve(std::size_t state_limit) {
    if (relax()) search(state_limit);
    const auto in_callers_units = [&](std::int64_t cost) { return problem_.base_cost + problem_.cost_unit * cost; };
    knapsack_answer answer{{}, in_callers_units(best_cost_), in_callers_units(std::min(best_cost_, dropped_))};
    for (std::size_t k = 0; k < problem_.items.size(); ++k) answer.chosen.push_back(problem_.items[k][best_[k]].index);
    return answer;
  }

 private:
  using item = knapsack_classes::item;
  using upgrade = knapsack_classes::upgrade;
  struct deviation {
    std::size_t of_class;
    wide_int price;  // of leaving the relaxed choice for the next best item
  };
  struct step {
    std::uint32_t parent, item;
  };
  struct state {
    std::int64_t weight, cost, bound;
    step from;
  };

  // Solves the relaxation; what it takes whole is the first complete solution. False: that is each class's cheapest item.
  [[nodiscard]] bool relax() {
    best_.assign(problem_.items.size(), 0);
    for (const auto& items : problem_.items) best_cost_ += items.front().cost;
    std::int64_t room = problem_.room;
    auto next = problem_.upgrades.begin();
    for (; next != problem_.upgrades.end() && next->weight <= room; ++next) {
      room -= next->weight;
      best_cost_ -= next->saving;
      best_[next->of_class] = next->to;
    }
    if (next == problem_.upgrades.end()) return false;
    price_saving_ = next->saving;
    price_weight_ = next->weight;
    relaxed_cost_ = wide_int{best_cost_} * price_weight_ - wide_int{room} * price_saving_;
    relaxed_ = best_;
    for (std::size_t k = 0; k < problem_.items.size(); ++k) {
      std::optional<wide_int> least;
      for (std::size_t i = 0; i < problem_.items[k].size(); ++i)
        if (i != relaxed_[k] && (!least || price_of(k, i) < *least)) least = price_of(k, i);
      if (least) deviations_.push_back({k, *least});
    }
    std::stable_sort(deviations_.begin(), deviations_.end(),
                     [](const deviation& a, const deviation& b) { return a.price < b.price; });
    return true;
  }

  // What item i of a class costs beyond the relaxed choice when weight has its price; times price_weight_.
  [[nodiscard]] wide_int price_of(std::size_t k, std::size_t i) const {
    const item &to = problem_.items[k][i], &from = problem_.items[k][relaxed_[k]];
    return wide_int{to.cost - from.cost} * price_weight_ + wide_int{to.weight - from.weight} * price_saving_;
  }

  // Whether a solution that deviates so far can still be a whole number below the best.
  [[nodiscard]] bool may_improve(wide_int deviation_price) const {
    return relaxed_cost_ + deviation_price <= wide_int{best_cost_ - 1} * price_weight_;
  }

  // The upgrades that are taken whole, best first, as the room shrinks.
  struct filling {
    std::span<const upgrade> upgrades;
    std::size_t taken = 0;
    std::int64_t weight = 0, saving = 0;

    filling(std::span<const upgrade> of, std::int64_t room) : upgrades(of) {
      for (; taken < of.size() && weight + of[taken].weight <= room; ++taken) {
        weight += of[taken].weight;
        saving += of[taken].saving;
      }
    }
    void shrink_to(std::int64_t room) {
      while (weight > room) {
        --taken;
        weight -= upgrades[taken].weight;
        saving -= upgrades[taken].saving;
      }
    }
    // What the relaxation saves with the next one.
    [[nodiscard]] std::int64_t partial_saving(std::int64_t room) const {
      if (taken == upgrades.size()) return 0;
      return static_cast<std::int64_t>(wide_int{upgrades[taken].saving} * (room - weight) / upgrades[taken].weight);
    }
  };

  void search(std::size_t state_limit) {
    rest_ = problem_.upgrades;
    std::int64_t rest_cost = 0;  // of the lightest items of the classes to come
    for (const auto& items : problem_.items) rest_cost += items.front().cost;
    const auto stages = static_cast<std::size_t>(
        std::count_if(deviations_.begin(), deviations_.end(), [&](const deviation& each) { return may_improve(each.price); }));
    std::vector<state> states{{0, 0, 0, {0, 0}}};
    for (std::size_t stage = 0; stage < stages && !states.empty() && may_improve(deviations_[stage].price); ++stage) {
      const std::size_t k = deviations_[stage].of_class;
      std::erase_if(rest_, [&](const upgrade& each) { return each.of_class == k; });
      rest_cost -= problem_.items[k].front().cost;
      states = extended(states, stage, rest_cost);
      const std::size_t limit = std::max<std::size_t>(state_limit / (stages - stage), 1);
      if (states.size() > limit) drop_worst(states, limit);
      state_limit -= std::min(state_limit, states.size());
      steps_.emplace_back();
      for (const state& each : states) steps_.back().push_back(each.from);
    }
    if (best_stage_) follow_best();
  }

  // The undominated states with one class more that may still lead below the best, by weight.
  [[nodiscard]] std::vector<state> extended(const std::vector<state>& states, std::size_t stage, std::int64_t rest_cost) {
    const std::size_t k = deviations_[stage].of_class;
    std::vector<state> all, kept;
    for (std::size_t i = 0; i < problem_.items[k].size(); ++i) {
      if (!may_improve(price_of(k, i))) continue;
      const item& with = problem_.items[k][i];
      const auto middle = static_cast<std::ptrdiff_t>(all.size());
      filling fill{rest_, problem_.room};
      for (std::size_t parent = 0; parent < states.size(); ++parent) {
        const std::int64_t weight = states[parent].weight + with.weight, cost = states[parent].cost + with.cost;
        if (weight > problem_.room) break;
        fill.shrink_to(problem_.room - weight);
        const step from{static_cast<std::uint32_t>(parent), static_cast<std::uint32_t>(i)};
        const std::int64_t complete = cost + rest_cost - fill.saving;
        if (complete < best_cost_) {
          best_cost_ = complete;
          best_stage_ = stage;
          best_step_ = from;
        }
        const std::int64_t bound = complete - fill.partial_saving(problem_.room - weight);
        if (bound < best_cost_) all.push_back({weight, cost, bound, from});
      }
      std::inplace_merge(all.begin(), all.begin() + middle, all.end(), lighter<state>);
    }
    for (const state& each : all)
      if (each.bound < best_cost_ && (kept.empty() || each.cost < kept.back().cost)) kept.push_back(each);
    return kept;
  }

  void drop_worst(std::vector<state>& states, std::size_t limit) {
    const auto cut = states.begin() + static_cast<std::ptrdiff_t>(limit);
    std::nth_element(states.begin(), cut, states.end(), [](const state& a, const state& b) { return a.bound < b.bound; });
    dropped_ = std::min(dropped_, cut->bound);
    states.erase(cut, states.end());
    std::sort(states.begin(), states.end(), lighter<state>);
  }

  // Writes the solution behind best_cost_: the steps that led there, then upgrades of all other classes while they fit.
  void follow_best() {
    std::int64_t room = problem_.room;
    std::vector<bool> decided(problem_.items.size(), false);
    best_.assign(problem_.items.size(), 0);
    step at = best_step_;
    for (std::size_t stage = *best_stage_ + 1; stage-- > 0;) {
      const std::size_t k = deviations_[stage].of_class;
      decided[k] = true;
      best_[k] = at.item;
      room -= problem_.items[k][at.item].weight;
      if (stage > 0) at = steps_[stage - 1][at.parent];
    }
    for (const upgrade& each : problem_.upgrades) {
      if (decided[each.of_class]) continue;
      if (each.weight > room) break;
      room -= each.weight;
      best_[each.of_class] = each.to;
    }
  }

  knapsack_classes problem_;
  std::vector<upgrade> rest_;  // upgrades of the classes to come

  std::vector<std::size_t> relaxed_;
  std::int64_t price_saving_ = 0, price_weight_ = 1;
  wide_int relaxed_cost_ = 0;  // times price_weight_
  std::vector<deviation> deviations_;

  std::vector<std::vector<step>> steps_;
  std::vector<std::size_t> best_;
  std::int64_t best_cost_ = 0, dropped_ = std::numeric_limits<std::int64_t>::max();
  std::optional<std::size_t> best_stage_;
  step best_step_{};
};

}  // namespace klens::detail
