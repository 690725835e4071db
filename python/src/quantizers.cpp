#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <klens/quant/packing.hpp>
#include <klens/quant/round_trip.hpp>
#include <klens/quant/scheme.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.hpp"
#include "inputs.hpp"
#include "module.hpp"

namespace python {
namespace {

/// What a weight matrix multiplies: positions, mean squares and second moments, or nothing.
using known_inputs = std::optional<std::tuple<std::size_t, any_array, any_array>>;

klens::scheme informed(const std::string& name, const known_inputs& inputs, std::size_t columns) {
  klens::scheme scheme{name};
  if (!inputs) return scheme;
  const auto known = inputs_of(std::get<0>(*inputs), std::get<1>(*inputs), std::get<2>(*inputs));
  klens::detail::expect_inputs(name, *known, columns);
  return scheme.informed_by(known);
}

std::tuple<new_array<float>, double> quantize(const any_array& weights, const std::string& name, std::size_t threads,
                                              const known_inputs& inputs) {
  expect_matrix(weights, "weight");
  const klens::scheme scheme = informed(name, inputs, weights.shape(1));
  const new_array<float> kept = make_array<float>(weights.shape(0), weights.shape(1));
  Eigen::Map<klens::matrix<float>> into{kept.data(), static_cast<Eigen::Index>(weights.shape(0)),
                                        static_cast<Eigen::Index>(weights.shape(1))};
  const klens::weight_error error =
      with_matrix(weights, [&](const auto& from) { return klens::round_trip(scheme, from, into, {.threads = threads}); });
  return {kept, klens::sqnr_db(error)};
}

new_array<std::uint8_t> pack(const any_array& weights, const std::string& name, std::size_t threads,
                             const known_inputs& inputs) {
  expect_matrix(weights, "weight");
  const klens::packer packer{informed(name, inputs, weights.shape(1))};
  const std::size_t rows = weights.shape(0), row_bytes = packer.bytes(weights.shape(1));
  const new_array<std::uint8_t> packed = make_array<std::uint8_t>(rows, row_bytes);
  const std::span bytes{reinterpret_cast<std::byte*>(packed.data()), rows * row_bytes};
  with_matrix(weights, [&](const auto& from) { klens::pack(packer, from, bytes, {.threads = threads}); });
  return packed;
}

new_array<float> unpack(const nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& packed,
                        const std::string& name, std::size_t columns, std::size_t threads) {
  const klens::packer packer{klens::scheme{klens::scheme{name}.stored_as()}};
  const std::size_t rows = packed.shape(0);
  if (packed.shape(1) != packer.bytes(columns))
    throw klens::shape_error{"unpack: rows of " + std::to_string(packed.shape(1)) + " bytes cannot hold " +
                             std::to_string(columns) + " weights of " + packer.name() + ", which take " +
                             std::to_string(packer.bytes(columns))};
  const new_array<float> kept = make_array<float>(rows, columns);
  Eigen::Map<klens::matrix<float>> into{kept.data(), static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns)};
  klens::unpack(packer, {reinterpret_cast<const std::byte*>(packed.data()), rows * packed.shape(1)}, into,
                {.threads = threads});
  return kept;
}

}  // namespace

void add_quantizers(nb::module_& module) {
  module.def("quantize", &quantize, nb::arg("weight"), nb::arg("scheme"), nb::arg("threads") = 1,
             nb::arg("inputs") = nb::none(),
             "What storage would give back of a weight matrix [out, in], as float32, and its SQNR in dB.");
  module.def("pack", &pack, nb::arg("weight"), nb::arg("scheme"), nb::arg("threads") = 1, nb::arg("inputs") = nb::none(),
             "The stored rows of a weight matrix [out, in]: bytes [out, bytes of a row].");
  module.def("unpack", &unpack, nb::arg("packed"), nb::arg("scheme"), nb::arg("columns"), nb::arg("threads") = 1,
             "What pack stored, as float32 [out, columns].");
  module.def(
      "size_in_bytes",
      [](std::size_t rows, std::size_t columns, const std::string& name) { return klens::scheme{name}.bytes(rows, columns); },
      nb::arg("rows"), nb::arg("columns"), nb::arg("scheme"), "The exact size of a weight matrix when stored.");
  module.def(
      "needs",
      [](const std::vector<std::string>& schemes) {
        int most = 0;
        for (const std::string& each : schemes) most = std::max(most, static_cast<int>(klens::scheme{each}.needs()));
        return most;
      },
      nb::arg("schemes"),
      "What schemes look at beside the weights: 0 nothing, 1 mean squares of the inputs, 2 second moments.");
  module.def(
      "scheme_name", [](const std::string& name) { return klens::scheme{name}.name(); }, nb::arg("name"),
      "A scheme's canonical name. Raises ValueError for one that klens does not know.");
}

}  // namespace python
