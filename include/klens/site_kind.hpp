#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <klens/error.hpp>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// What in a model can be stored in fewer bits: weights, which lie in a file, and what comes into being while the model runs.
enum class site_kind {
  weights,      ///< a weight matrix
  activations,  ///< what goes into the product with a weight matrix
  kv,           ///< keys or values that an attention has behind it
  state,        ///< the recurrent state of a block
  conv          ///< the last inputs of a causal convolution
};

namespace detail {

inline constexpr std::array<std::pair<site_kind, std::string_view>, 5> site_kinds{{{site_kind::weights, "weights"},
                                                                                   {site_kind::activations, "activations"},
                                                                                   {site_kind::kv, "kv"},
                                                                                   {site_kind::state, "state"},
                                                                                   {site_kind::conv, "conv"}}};

}  // namespace detail

/// "weights", "activations", "kv", "state", "conv".
[[nodiscard]] constexpr std::string_view name_of(site_kind kind) noexcept {
  return detail::site_kinds[static_cast<std::size_t>(kind)].second;
}

/// The kind of that name. Throws argument_error, which names those that there are.
[[nodiscard]] inline site_kind site_kind_of(std::string_view name) {
  const auto found =
      std::find_if(detail::site_kinds.begin(), detail::site_kinds.end(), [&](const auto& each) { return each.second == name; });
  if (found == detail::site_kinds.end())
    detail::refuse<argument_error>(
        {"unknown kind of site ", detail::name_text(name), "; a site is weights, activations, kv, state or conv"});
  return found->first;
}

/// Kinds from a list such as "weights,kv", in that order. Throws argument_error for an unknown name, and for one that is there
/// twice.
[[nodiscard]] inline std::vector<site_kind> parse_site_kinds(std::string_view list) {
  std::vector<site_kind> kinds;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const site_kind next = site_kind_of(list.substr(begin, end - begin));
    if (std::find(kinds.begin(), kinds.end(), next) != kinds.end())
      detail::refuse<argument_error>({"the site ", name_of(next), " is named twice in ", detail::name_text(list)});
    kinds.push_back(next);
    begin = end + 1;
  }
  return kinds;
}

}  // namespace klens
