#pragma once

#include <nanobind/nanobind.h>

namespace python {

void add_metrics(nanobind::module_& module);
void add_quantizers(nanobind::module_& module);
void add_scores(nanobind::module_& module);
void add_rank(nanobind::module_& module);
void add_plan(nanobind::module_& module);

}  // namespace python
