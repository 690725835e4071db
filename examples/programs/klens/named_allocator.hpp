#pragma once

#include <array>
#include <cstdint>
#include <klens/error.hpp>
#include <klens/plan/exact.hpp>
#include <klens/plan/greedy.hpp>
#include <klens/plan/unit.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include "share.hpp"
#include "threshold.hpp"

namespace programs {

/// One of klens' allocators, by its name.
class named_allocator {
 public:
  static constexpr std::string_view name = "named";
  static constexpr std::array<std::string_view, 4> names{klens::exact::name, klens::greedy::name, klens::threshold::name,
                                                         klens::share::name};

  /// Throws klens::argument_error for a name that is not known.
  explicit named_allocator(std::string which) : which_{std::move(which)} {
    for (const std::string_view each : names)
      if (which_ == each) return;
    throw klens::argument_error{"unknown allocator '" + which_ + "'; known are exact, greedy, threshold, share, tolerance"};
  }

  [[nodiscard]] klens::allocation operator()(std::span<const klens::plan_unit> units, std::uint64_t budget_bytes) const {
    if (which_ == klens::greedy::name) return klens::greedy{}(units, budget_bytes);
    if (which_ == klens::threshold::name) return klens::threshold{}(units, budget_bytes);
    if (which_ == klens::share::name) return klens::share{}(units, budget_bytes);
    return klens::exact{}(units, budget_bytes);
  }

 private:
  std::string which_;
};
static_assert(klens::allocator<named_allocator>);

}  // namespace programs
