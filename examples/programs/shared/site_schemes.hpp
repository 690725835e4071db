#pragma once

#include <klens/layer.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/site_kind.hpp>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace programs {

/// Which schemes each kind of site is stored under.
struct site_schemes {
  std::vector<klens::scheme> all;                             ///< each once, in the order in which they first come
  std::map<klens::site_kind, std::vector<std::string>> of{};  ///< the names of each kind's
};

/// "int4-g64,int8-channel,kv=q8_0,state=fp16": an entry KIND=SCHEME is for sites of that kind alone, one without is for all kinds
/// that have none of their own. Throws klens::argument_error for unknown names, an entry of a kind that is not among `kinds`, a
/// kind without a scheme, and a scheme that a kind has twice.
[[nodiscard]] site_schemes parse_site_schemes(const std::string& list, const std::vector<klens::site_kind>& kinds);

/// Tells layers of several kinds which schemes are theirs (layer::schemes). Throws klens::argument_error, with a reason, for a
/// scheme that not one site of its kind can be stored under; those that some can are left to the scan, which leaves out the others.
void assign_schemes(const site_schemes& schemes, std::span<klens::layer> layers);

}  // namespace programs
