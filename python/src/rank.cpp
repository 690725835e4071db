#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <klens/io/atomic_file.hpp>
#include <klens/io/checkpoint.hpp>
#include <klens/rank/rank_layers.hpp>
#include <optional>
#include <shared/windows.hpp>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "forwards.hpp"
#include "inputs.hpp"
#include "layers.hpp"
#include "module.hpp"
#include "results.hpp"

namespace python {
namespace {

/// What klens._core.rank is asked; see klens::rank_options.
struct request {
  std::vector<std::string> schemes{};
  std::vector<std::string> metrics{"kl"};
  std::string method = "exact";
  std::string stop = "exhaustive";
  std::string rank_by{};
  double confidence = 0.99;
  bool from_quantized = false;
  bool noise_floor = false;
  std::size_t batches = 1;
  std::size_t sequence_length = 0;
  std::vector<std::int32_t> tokens{};
  std::vector<bool> counted{};
  std::size_t positions = 0;
  std::uint64_t seed = 1;
  std::size_t local_batches = 1;
  std::size_t threads = 1;
  bool computed = false;     ///< the model gives values of the metrics, [positions, 2 for each], instead of logits
  std::string checkpoint{};  ///< a file; empty: none is kept
  std::map<std::string, std::string> identity{};  ///< what the checkpoint must be of
  nb::object progress = nb::none();  ///< called with forwards spent, forwards expected, layer, scheme, seconds left
};

/// What came of it: all scores, or those until a failure, whose cause may be an exception of Python's.
using ranked = std::tuple<held_scores, std::string, nb::object>;

/// A metric that Python has computed: what stands for the logits of a position is one row of its values and weights.
template <bool Ratio>
struct computed_metric {
  static constexpr std::string_view name = "computed";
  static constexpr std::string_view unit = "";
  static constexpr bool higher_is_worse = true;
  std::size_t column = 0;  ///< of the value; its weight is beside it

  klens::contribution operator()(const klens::position& at) const { return {at.observed[column], at.observed[column + 1]}; }
  double finish(double mean) const requires Ratio { return klens::sqnr{}.finish(mean); }
};

/// The metric with values from `column` on in the place of its own formula.
klens::any_metric computed(const klens::any_metric& like, std::size_t column) {
  klens::any_metric metric = like.name == klens::sqnr::name ? klens::any_metric{computed_metric<true>{column}}
                                                            : klens::any_metric{computed_metric<false>{column}};
  metric.name = like.name;
  metric.unit = like.unit;
  metric.higher_is_worse = like.higher_is_worse;
  metric.least = like.least;
  metric.damage = like.damage;
  return metric;
}

klens::scan_method method_of(const std::string& name) {
  if (name == "exact") return klens::scan_method::exact;
  if (name == "local") return klens::scan_method::local;
  if (name == "refine") return klens::scan_method::refine;
  throw klens::argument_error{"method " + name + " is none of exact, local, refine"};
}

ranked rank(nb::list layers, nb::object model, bool staged, const request& asked) {
  std::vector<klens::layer> views;
  for (nb::handle each : layers) views.push_back(nb::cast<held_layer&>(each).layer);
  std::vector<klens::scheme> schemes(asked.schemes.begin(), asked.schemes.end());
  std::vector<klens::any_metric> metrics;
  for (const std::string& each : asked.metrics) metrics.push_back(klens::any_metric::parse(each));
  if (asked.computed)
    for (std::size_t m = 0; m < metrics.size(); ++m) metrics[m] = computed(metrics[m], 2 * m);

  raised errors;
  klens::rank_options options;
  options.batches = asked.batches;
  options.sequence_length = asked.sequence_length;
  options.tokens = asked.tokens;
  options.counted = asked.counted;
  options.positions = asked.positions;
  options.seed = asked.seed;
  options.method = method_of(asked.method);
  options.local.batches = asked.local_batches;
  options.stop = klens::any_stopping_rule::parse(asked.stop);
  options.confidence = asked.confidence;
  options.rank_by = asked.rank_by;
  if (asked.from_quantized) options.from = klens::direction::from_quantized;
  options.noise_floor = asked.noise_floor;
  options.threads = asked.threads;
  options.progress = [&](const klens::scan_progress& at) {
    if (!asked.progress.is_none())
      errors.guard([&] {
        return asked.progress(at.forwards, at.expected_forwards, std::string{at.layer}, std::string{at.scheme},
                              at.seconds_left);
      });
    return !errors.take_signal();
  };
  std::optional<klens::scan_checkpoint> resumed;
  if (!asked.checkpoint.empty()) {
    klens::atomic_file{asked.checkpoint};  // an unwritable file is better known before the work
    if (std::filesystem::exists(asked.checkpoint)) resumed = klens::read_checkpoint(asked.checkpoint, asked.identity);
    if (resumed) options.resume = &*resumed;
    options.checkpoint = [&](const klens::scan_checkpoint& at) {
      klens::write_checkpoint(asked.checkpoint, asked.identity, at);
    };
  }
  try {
    if (staged) {
      staged_forward forward{std::move(model), errors};
      return {held_scores{klens::rank_layers(views, forward, schemes, metrics, options)}, "", errors.exception()};
    }
    whole_forward forward{nb::cast<nb::callable>(model), errors};
    return {held_scores{klens::rank_layers(views, forward, schemes, metrics, options)}, "", errors.exception()};
  } catch (klens::scan_error& error) {
    return {held_scores{std::move(error.partial)}, error.what(), errors.exception()};
  }
}

}  // namespace

void add_rank(nb::module_& module) {
  nb::class_<held_layer>(module, "Layer", "A weight matrix [out, in] that is quantized as one; changed in place.")
      .def(nb::new_(&view_layer), nb::arg("name"), nb::arg("array"), "A view of an array on the CPU.")
      .def_static("called", &called_layer, nb::arg("name"), nb::arg("rows"), nb::arg("columns"), nb::arg("load"),
                  nb::arg("store"), "A layer that is loaded and stored by callables.")
      .def(
          "load", [](const held_layer& of) { return copy_of(of.layer.load()); }, "A copy of its weights as float32.")
      .def(
          "put_back",
          [](held_layer& of, const any_array& weights) {
            expect_matrix(weights, "weights");
            if (weights.shape(0) != of.layer.rows() || weights.shape(1) != of.layer.columns())
              throw klens::shape_error{of.layer.name + ": these weights have another shape"};
            with_matrix(weights, [&](const auto& from) { of.layer.store(klens::matrix<float>{from.template cast<float>()}); });
          },
          nb::arg("weights"), "Stores what load gave.")
      .def_prop_ro("name", [](const held_layer& of) { return of.layer.name; })
      .def_prop_ro("shape", [](const held_layer& of) { return nb::make_tuple(of.layer.rows(), of.layer.columns()); })
      .def_prop_rw(
          "kind", [](const held_layer& of) { return of.layer.kind; },
          [](held_layer& of, std::string kind) { of.layer.kind = std::move(kind); })
      .def_prop_rw(
          "stage", [](const held_layer& of) { return of.layer.stage; },
          [](held_layer& of, std::size_t stage) { of.layer.stage = stage; })
      .def_prop_rw(
          "last_stage", [](const held_layer& of) { return of.layer.last_stage; },
          [](held_layer& of, std::size_t stage) { of.layer.last_stage = stage; })
      .def(
          "set_inputs",
          [](held_layer& of, std::size_t positions, const any_array& mean_squares, const any_array& second_moments) {
            of.layer.inputs = inputs_of(positions, mean_squares, second_moments);
          },
          nb::arg("positions"), nb::arg("mean_squares"), nb::arg("second_moments"),
          "What its inputs were like: mean squares [1, in], and second moments [in, in] or [0, 0].")
      .def_prop_rw(
          "note", [](const held_layer& of) { return of.layer.note; },
          [](held_layer& of, std::string note) { of.layer.note = std::move(note); });
  nb::class_<request>(module, "Request", "What rank() is asked.")
      .def(nb::init<>())
      .def_rw("schemes", &request::schemes)
      .def_rw("metrics", &request::metrics)
      .def_rw("method", &request::method)
      .def_rw("stop", &request::stop)
      .def_rw("rank_by", &request::rank_by)
      .def_rw("confidence", &request::confidence)
      .def_rw("from_quantized", &request::from_quantized)
      .def_rw("noise_floor", &request::noise_floor)
      .def_rw("batches", &request::batches)
      .def_rw("sequence_length", &request::sequence_length)
      .def_rw("tokens", &request::tokens)
      .def_rw("counted", &request::counted)
      .def_rw("positions", &request::positions)
      .def_rw("seed", &request::seed)
      .def_rw("local_batches", &request::local_batches)
      .def_rw("threads", &request::threads)
      .def_rw("computed", &request::computed)
      .def_rw("checkpoint", &request::checkpoint)
      .def_rw("identity", &request::identity)
      .def_rw("progress", &request::progress, nb::arg("value").none());
  module.def(
      "windows",
      [](std::size_t sequences, std::size_t length, std::uint64_t seed) {
        const auto cut = programs::window_order::of(sequences, length, programs::window_order::least_context, seed);
        std::vector<std::pair<std::size_t, std::size_t>> order;
        for (const programs::window& each : cut.order) order.emplace_back(each.sequence, each.first);
        return std::make_tuple(cut.length, order);
      },
      nb::arg("sequences"), nb::arg("length"), nb::arg("seed"),
      "How local and refine cut sequences: the length of a window, and where each begins: sequence, token.");
  module.def(
      "windows_to_look_at", [](const std::vector<std::size_t>& counted) { return programs::windows_to_look_at(counted); },
      nb::arg("counted"), "How many windows local and refine look at first; `counted` has the positions that count in each.");
  module.def("rank", &rank, nb::arg("layers"), nb::arg("model"), nb::arg("staged"), nb::arg("request"),
             "Scores; the message of what ended the scan, or nothing; and the exception that is its cause, or None.");
}

}  // namespace python
