#pragma once

#include <klens/error.hpp>
#include <klens/layer.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/round_trip.hpp>
#include <klens/quant/scheme.hpp>
#include <klens/site.hpp>

namespace programs {

/// Whether a scheme can store a layer: rows of that length, and these weights.
[[nodiscard]] inline bool can_store(const klens::scheme& scheme, const klens::layer& each) {
  if (!klens::why_not_stored(each, scheme).empty()) return false;
  if (each.site != klens::site_kind::weights) return true;
  if (scheme.needs() != klens::input_need::nothing)
    return each.inputs && each.inputs->positions > 0 && can_store(klens::scheme{scheme.stored_as()}, each);
  const klens::matrix<float> weights = each.load();
  klens::matrix<float> kept(weights.rows(), weights.cols());
  try {
    (void)klens::round_trip(scheme, weights, kept);
    return true;
  } catch (const klens::numeric_error&) {
    return false;
  }
}

}  // namespace programs
