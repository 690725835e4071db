#pragma once

#include <cstddef>
#include <klens/metric/row_damage.hpp>
#include <optional>
#include <span>

namespace klens {

/// What a metric says of one position: its value and the weight it has in the mean. Weight 0: the position does not count.
struct contribution {
  double value = 0;
  double weight = 1;

  constexpr contribution() = default;
  constexpr contribution(double of_value, double with_weight = 1) noexcept : value(of_value), weight(with_weight) {}  // NOLINT
};

/// What a metric sees of one position: both rows of raw logits, the token that follows (none at the end of a sequence), and the
/// sums that one shared sweep over both rows gave, as far as the metrics of this call need them.
struct position {
  std::span<const float> reference;
  std::span<const float> observed;
  std::optional<std::size_t> next_token;
  const row_damage& damage;
};

}  // namespace klens
