// How sure a score is, and how far two orders agree.
#pragma once

#include <klens/stats/bootstrap.hpp>
#include <klens/stats/interval.hpp>
#include <klens/stats/rank_correlation.hpp>
#include <klens/stats/shrunken_variance.hpp>
#include <klens/stats/student_t.hpp>
