#pragma once
// Scores and plans as Python sees them: a handle, and all that is in it as JSON.

#include <klens/plan/plan.hpp>
#include <klens/rank/scores.hpp>

namespace python {

struct held_scores {
  klens::scores scores;
};

struct held_plan {
  klens::plan plan;
};

}  // namespace python
