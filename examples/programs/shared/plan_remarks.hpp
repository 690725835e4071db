#pragma once

#include <klens/plan/plan.hpp>
#include <klens/plan/unit.hpp>
#include <span>
#include <string>
#include <vector>

namespace programs {

/// Of the candidates whose damage nobody knows, those of the layers of some units.
[[nodiscard]] std::vector<klens::unknown_damage> unknown_among(std::span<const klens::plan_unit> units,
                                                               const std::vector<klens::unknown_damage>& all);

/// What a reader must know before relying on a plan: lines that say which layers have no damage, why, and, of one plan, what
/// they got. Empty where all is known.
[[nodiscard]] std::string remarks_on(const std::vector<klens::unknown_damage>& unknown, const klens::plan* plan = nullptr);

/// A problem of finding a plan, with the layers that keep the finest scheme because their damage is unknown.
[[nodiscard]] std::string with_unknown(std::string problem, const std::vector<klens::unknown_damage>& unknown);

/// What a search has proven of a plan, in one line; `gap` as of its allocation.
[[nodiscard]] std::string proof_text(const klens::plan& of, double gap);

}  // namespace programs
