#pragma once

#include <concepts>
#include <cstddef>
#include <klens/quant/detail/row_checks.hpp>
#include <klens/quant/quantizer.hpp>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The round trip of a row under any quantizer. One that does not return its weight_error costs a second sweep.
template <quantizer Quantizer>
weight_error round_trip_row(const Quantizer& policy, std::span<const float> weights, std::span<float> kept) {
  if constexpr (requires {
                  { policy.round_trip(weights, kept) } -> std::same_as<weight_error>;
                }) {
    return policy.round_trip(weights, kept);
  } else {
    expect_length(policy, "kept", kept.size(), weights.size());
    const std::vector<float> before(weights.begin(), weights.end());  // `kept` may be the weights themselves
    policy.round_trip(weights, kept);
    weight_error error;
    for (std::size_t i = 0; i < before.size(); ++i) {
      const double weight = before[i], change = kept[i] - weight;
      error += {weight * weight, change * change};
    }
    return error;
  }
}

}  // namespace klens::detail
