// From scores to a scheme for each layer under a byte budget.
#pragma once

#include <klens/plan/apply.hpp>
#include <klens/plan/constraints.hpp>
#include <klens/plan/exact.hpp>
#include <klens/plan/greedy.hpp>
#include <klens/plan/measure.hpp>
#include <klens/plan/name_pattern.hpp>
#include <klens/plan/plan.hpp>
#include <klens/plan/pools.hpp>
#include <klens/plan/race.hpp>
#include <klens/plan/size.hpp>
#include <klens/plan/swaps.hpp>
#include <klens/plan/tolerance.hpp>
#include <klens/plan/unit.hpp>
#include <klens/plan/units_of.hpp>
