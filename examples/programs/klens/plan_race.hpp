#pragma once

#include <cstddef>
#include <klens/plan/plan.hpp>
#include <klens/plan/unit.hpp>
#include <string>
#include <vector>

#include "commands.hpp"
#include "plan_inputs.hpp"

namespace programs {

/// The plan that won, and what the race was like.
struct raced_plan {
  klens::plan won;
  std::string what;    ///< how it differs from the first plan; empty: it is that one
  std::string report;  ///< lines
};

/// Makes arguments.candidates plans at the budget of `first`, and races them on the first half of the held-out sequences, which are
/// taken from inputs.held_out: what is left there nobody has looked at. Beside the first plan these are made from
///   damages corrected by kind of layer: what all layers of a kind lose together, as stored in the first plan, over the sum of what
///   each loses alone;
///   other orders of magnitude of the damages: their powers 0.5, 0.7, 1.4 and 2;
///   the other metrics that were scored;
///   single swaps in the first plan (klens::best_swaps).
/// Throws klens::argument_error with fewer than 16 held-out sequences.
[[nodiscard]] raced_plan race_plans(plan_inputs& inputs, const plan_arguments& arguments, const klens::plan& first,
                                    std::span<const klens::plan_unit> units, const klens::allocation& chosen);

/// "gain over the first plan ...": both measured on the same sequences.
[[nodiscard]] std::string gain_text(const klens::measured_version& first, const klens::measured_version& won);

}  // namespace programs
