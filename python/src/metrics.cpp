#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <klens/metric/any_metric.hpp>
#include <klens/metric/measure.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "module.hpp"

namespace python {
namespace {

/// A metric whose name is known at run time only, and what it needs of the sweep over a row.
template <klens::row_sums Needs>
struct named_metric {
  static constexpr std::string_view name = "logits";  // for messages
  static constexpr std::string_view unit = "";
  static constexpr bool higher_is_worse = true;
  static constexpr klens::row_sums needs = Needs;
  const klens::any_metric* metric;

  klens::contribution operator()(const klens::position& at) const { return (*metric)(at); }
  double finish(double mean) const { return metric->finish(mean); }
};

/// Calls use(metric) with the sums that it needs in its type, so that no others are computed.
template <class Use>
double with_needs(const klens::any_metric& metric, Use&& use) {
  using enum klens::row_sums;
  switch (metric.needs) {
    case kl:
      return use(named_metric<kl>{&metric});
    case reverse_kl:
      return use(named_metric<reverse_kl>{&metric});
    case js:
      return use(named_metric<js>{&metric});
    case squared_error:
      return use(named_metric<squared_error>{&metric});
    case same_top:
      return use(named_metric<same_top>{&metric});
    default:
      return use(named_metric<kl | reverse_kl | js | squared_error | same_top>{&metric});
  }
}

double measure(const std::string& name, const any_array& reference, const any_array& observed,
               const std::optional<std::vector<std::int32_t>>& next_tokens, std::size_t threads) {
  const klens::any_metric metric = klens::any_metric::parse(name);
  expect_matrix(reference, "reference");
  expect_matrix(observed, "observed");
  if (metric.name == "delta_ce" && !next_tokens)
    throw klens::argument_error{"delta_ce looks at the tokens that follow: give next_tokens, one for each position (-1: none)"};
  klens::measure_options options{.threads = threads};
  if (next_tokens) options.next_tokens = *next_tokens;
  return with_matrix(reference, [&](const auto& x) {
    return with_matrix(observed, [&](const auto& y) {
      return with_needs(metric, [&](const auto& named) { return std::get<0>(klens::measure(x, y, options, named)).mean(); });
    });
  });
}

}  // namespace

void add_metrics(nb::module_& module) {
  module.def("measure", &measure, nb::arg("metric"), nb::arg("reference"), nb::arg("observed"),
             nb::arg("next_tokens") = nb::none(), nb::arg("threads") = 1,
             "The mean of a metric over positions; both logits are [positions, vocabulary].");
  std::vector<std::string> names;
  for (const klens::any_metric& each : klens::all_metrics()) names.push_back(each.name);
  module.attr("metric_names") = nb::cast(names);
}

}  // namespace python
