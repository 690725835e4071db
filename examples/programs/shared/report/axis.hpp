#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "terminal.hpp"

namespace programs {

struct axis {
  std::string label;         ///< with its unit
  bool logarithmic = false;  ///< values of 0 and below then stand in a strip of their own at the low end
  bool falling = false;      ///< large values at the left or below, for what is worse when it is low
};

struct axis_tick {
  double at = 0;  ///< as axis_scale::at
  std::string label;
};

/// Where values stand along an axis: 0 at its beginning, 1 at its end.
class axis_scale {
 public:
  /// Made to fit values, all of them finite.
  axis_scale(const axis& of, const std::vector<double>& values) : axis_{of} {
    std::vector<double> shown;
    for (const double each : values)
      is_below(each) ? void(below_ = true) : shown.push_back(axis_.logarithmic ? std::log10(each) : each);
    if (!shown.empty()) {
      low_ = *std::ranges::min_element(shown);
      high_ = *std::ranges::max_element(shown);
    }
    const double least = axis_.logarithmic ? 0.05 : std::max(std::abs(high_) * 0.01, 1e-12);
    const double margin = std::max(least, 0.05 * (high_ - low_));
    low_ -= margin;
    high_ += margin;
  }

  /// Stands in the strip.
  [[nodiscard]] bool is_below(double value) const noexcept { return axis_.logarithmic && !(value > 0); }
  /// The strip is there; it ends at this place.
  [[nodiscard]] bool has_strip() const noexcept { return below_; }
  [[nodiscard]] double strip_end() const noexcept { return turned(strip()); }

  [[nodiscard]] double at(double value) const {
    if (is_below(value)) return turned(strip() / 2);
    const double share = ((axis_.logarithmic ? std::log10(value) : value) - low_) / (high_ - low_);
    return turned(strip() + (1 - strip()) * share);
  }

  [[nodiscard]] std::vector<axis_tick> ticks() const {
    std::vector<double> values = axis_.logarithmic ? decades() : steps(low_, high_);
    if (axis_.logarithmic && values.size() < 2) values = steps(std::pow(10, low_), std::pow(10, high_));
    std::vector<axis_tick> ticks;
    for (const double each : values) ticks.push_back({at(each), number(each)});
    if (below_) ticks.push_back({turned(strip() / 2), "≤ 0"});
    return ticks;
  }

 private:
  static constexpr double most_ticks = 6;

  [[nodiscard]] double strip() const noexcept { return below_ ? 0.08 : 0; }
  [[nodiscard]] double turned(double share) const noexcept { return axis_.falling ? 1 - share : share; }

  // Short enough to stand beside the axis: 0.001, 1e-4, 20000, 1e5.
  [[nodiscard]] static std::string number(double value) {
    const double size = std::abs(value);
    if (size == 0 || (size > 0.99e-3 && size < 0.99e5)) return text("%.6g", value);
    const double exponent = std::floor(std::log10(size) + 1e-9);
    return text("%.4ge%.0f", value / std::pow(10, exponent), exponent);
  }

  // Multiples of 1, 2 or 5 times a power of ten.
  [[nodiscard]] static std::vector<double> steps(double low, double high) {
    const double rough = (high - low) / most_ticks;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    const double step = power * (rough > 5 * power ? 10 : rough > 2 * power ? 5 : rough > power ? 2 : 1);
    std::vector<double> values;
    for (double k = std::ceil(low / step); k * step <= high; ++k) values.push_back(k == 0 ? 0 : k * step);
    return values;
  }

  // Powers of ten, as many as fit; with 2 and 5 times those where there are few.
  [[nodiscard]] std::vector<double> decades() const {
    const double every = std::max(1.0, std::ceil((high_ - low_) / most_ticks));
    std::vector<double> values;
    for (double power = std::floor(low_ / every) * every; power <= high_; power += every)
      for (const double digit : {1.0, 2.0, 5.0})
        if (const double value = digit * std::pow(10, power);
            (digit == 1 || high_ - low_ < 2) && std::log10(value) >= low_ && std::log10(value) <= high_)
          values.push_back(value);
    return values;
  }

  axis axis_;
  bool below_ = false;
  double low_ = 0;  // of the values, or of their logarithms
  double high_ = 0;
};

}  // namespace programs
