#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/lent_weights.hpp>
#include <klens/quant/layer_inputs.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <klens/site_kind.hpp>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// How an engine stores a site: store_as(scheme) makes it keep each vector as the scheme would from now on, store_plainly() as
/// it comes. The second must not throw.
struct site_storage {
  std::function<void(const scheme&)> store_as;
  std::function<void()> store_plainly;
};

/// A site that comes into being while the model runs (keys, values, states, inputs of products), as a layer: whatever takes
/// layers takes it, and where it matters what it is, layer::site tells.
///   `vectors`  how many the engine keeps for one sequence, `columns` values each: a size in bytes is that of one sequence
///   A vector has scales of its own, so a scheme of one scale a row (int8-channel) has one a vector.
/// f32 stores it as it is: the outcome is weights_unchanged, and the damage exactly 0. Its weight_sqnr_db is not known.
[[nodiscard]] inline layer run_time_site(std::string name, site_kind kind, std::size_t vectors, std::size_t columns,
                                         site_storage storage) {
  const auto no_weights = [name] {
    detail::refuse<argument_error>({name, ": comes into being while the model runs; it has no weights to read or write"});
  };
  const auto change = [store_as = std::move(storage.store_as)](const scheme& as, std::size_t) {
    const scheme_parts parts = as.parts();
    if (parts.family == scheme_family::floating_point && parts.bits == 32) return weight_change{};
    store_as(as);
    constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
    return weight_change{{unknown, unknown}, true};
  };
  layer site{name, vectors, columns,
             lent_weights{[no_weights](Eigen::Index, matrix_ref<float>) { no_weights(); },
                          [no_weights]() -> matrix_ref<float> {
                            no_weights();
                            throw argument_error{""};  // not reached
                          },
                          std::move(storage.store_plainly), change}};
  site.site = kind;
  return site;
}

/// Why a layer cannot be stored so, as the end of a sentence that begins with both names; empty where it can.
[[nodiscard]] inline std::string why_not_stored(const layer& of, const scheme& as) {
  if (of.site == site_kind::weights)
    return as.stores(of.columns()) ? "" : detail::joined({"cannot store rows of ", of.columns()});
  if (as.needs() != input_need::nothing) return "looks at the inputs of a weight matrix, and this is none";
  if (!as.stores(of.columns())) return detail::joined({"cannot store vectors of ", of.columns()});
  if (const std::size_t group = as.parts().group_size; group > of.columns())
    return detail::joined({"has groups of ", group, ", which would reach across its vectors of ", of.columns()});
  return "";
}

/// A forward that offers sites beside its weights:
///   sites(kinds)   those of these kinds, in order of stages; they change what the forward computes as layers do
template <class F>
concept site_offering_forward = requires(F& f, std::span<const site_kind> kinds) {
  { f.sites(kinds) } -> std::convertible_to<std::vector<layer>>;
};

/// A forward's sites of these kinds. Throws argument_error, naming the kind, where it has none of one of them; of weights, which
/// are layers that no forward has to offer, there need be none.
template <site_offering_forward Forward>
[[nodiscard]] std::vector<layer> sites_of(Forward& forward, std::span<const site_kind> kinds) {
  std::vector<layer> all;
  for (const site_kind kind : kinds) {
    std::vector<layer> some = forward.sites(std::span(&kind, 1));
    if (some.empty() && kind != site_kind::weights)
      detail::refuse<argument_error>({"the model has no site of the kind ", name_of(kind)});
    for (layer& each : some) all.push_back(std::move(each));
  }
  return all;
}

}  // namespace klens
