#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/detail/instruction_set.hpp>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// order_of without its template: a sort costs a compiler much, so there is one copy of it.
[[nodiscard]] inline std::vector<std::size_t> order_by(std::size_t count,
                                                       bool (*before)(const void* context, std::size_t a, std::size_t b),
                                                       const void* context) {
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [=](std::size_t a, std::size_t b) { return before(context, a, b); });
  return order;
}

/// The indices below count in the order that before(a, b) asks for; those of which neither is before the other stay in theirs.
template <class Before>
[[nodiscard]] std::vector<std::size_t> order_of(std::size_t count, const Before& before) {
  return order_by(
      count,
      [](const void* context, std::size_t a, std::size_t b) -> bool { return (*static_cast<const Before*>(context))(a, b); },
      &before);
}

}  // namespace klens::detail
