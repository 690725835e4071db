#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/detail/integer_rows.hpp>
#include <klens/quant/detail/row_checks.hpp>
#include <span>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// What the codes of a group of integers are computed with, and kept with: steps are codes less the zero point.
struct integer_levels {
  float scale = 0;  ///< as it is stored
  int zero = 0;

  [[nodiscard]] int step_of(const integer_rows& rows, float weight) const noexcept {
    if (scale == 0) return 0;
    const float step = std::clamp(std::nearbyint(weight / scale), static_cast<float>(rows.lowest() - zero),
                                  static_cast<float>(rows.highest() - zero));
    return static_cast<int>(step);
  }
};

/// Looks for the scale (and the zero point) of a group with the least sum of importance (kept - w)^2: of scales around that of the
/// plain scheme, the codes of each with the scale that suits those codes best (least squares). Never worse than the plain one's.
class integer_fit {
  static constexpr Eigen::Index lanes = 8;
  using vector = Eigen::Array<float, lanes, 1>;

 public:
  explicit integer_fit(const integer_rows& rows) : rows_{rows} {}

  /// `importance` of each weight, at least 0; where all are 0 they count alike. The weights are finite.
  [[nodiscard]] integer_levels operator()(std::span<const float> weights, std::span<const float> importance) {
    load(weights, importance);
    float above = 0, below = 0;
    for (const float w : weights) above = std::max(above, w), below = std::max(below, -w);
    const integer_levels plain = plain_levels(above, below);
    if (plain.scale == 0) return plain;
    const float range = rows_.grid == grid::asym ? above + below : std::max(above, below);
    const float whole = range / static_cast<float>(rows_.steps());
    const int signs = rows_.grid == grid::signed_ ? 2 : 1, zeros = rows_.is_asym() ? 3 : 1;
    double best_gain = -1;
    integer_levels best = plain;
    for (int sign = 0; sign < signs; ++sign)
      for (int zero = 0; zero < zeros; ++zero)
        for (int attempt = 0; attempt < attempts; ++attempt) {
          const float share = 1.05f - (1.05f - least_share()) * static_cast<float>(attempt) / (attempts - 1);
          const integer_levels tried{(sign == 0 ? whole : -whole) * share,
                                     std::clamp(plain.zero + zero - zeros / 2, 0, rows_.is_asym() ? rows_.highest() : 0)};
          const sums of = sums_of(tried);
          if (of.code_code <= 0 || of.code_weight == 0) continue;
          const double gain = of.code_weight * of.code_weight / of.code_code;  // what is left of the energy is the error
          if (gain <= best_gain) continue;
          best_gain = gain;
          best = {stored(static_cast<float>(of.code_weight / of.code_code)), tried.zero};
        }
    return error_of(best) < error_of(plain) ? best : plain;
  }

  /// What the plain scheme has: the largest magnitude decides.
  [[nodiscard]] integer_levels plain_levels(float above, float below) const {
    const bool negative = rows_.grid == grid::signed_ && above > below;
    const float range = rows_.grid == grid::asym ? above + below : std::max(above, below);
    const float scale = range / static_cast<float>(rows_.steps());
    if (!(scale <= rows_.largest_scale()))
      refuse<numeric_error>({rows_.name(), ": a group needs a scale of ", std::to_string(scale), ", ", rows_.limit_text()});
    const int zero = rows_.is_asym() && scale != 0
                         ? static_cast<int>(std::min(std::nearbyint(below / scale), static_cast<float>(rows_.highest())))
                         : 0;
    return {stored(negative ? -scale : scale), zero};
  }

 private:
  static constexpr int attempts = 28;

  struct sums {
    double code_weight = 0, code_code = 0;
  };

  /// Of the scale that reaches the largest weight: the fewer the bits, the more clipping pays.
  [[nodiscard]] float least_share() const noexcept {
    constexpr float of_bits[] = {0.3f, 0.42f, 0.55f, 0.65f, 0.75f, 0.85f, 0.9f};
    return of_bits[rows_.bits - 2];
  }

  [[nodiscard]] float stored(float scale) const noexcept {
    return rows_.scale == scale_kind::f16 ? static_cast<float>(static_cast<half>(scale)) : scale;
  }

  void load(std::span<const float> weights, std::span<const float> importance) {
    const std::size_t padded = (weights.size() + lanes - 1) / lanes * lanes;
    weights_.assign(padded, 0.0f);
    importance_.assign(padded, 0.0f);
    std::copy(weights.begin(), weights.end(), weights_.begin());
    const float largest = importance.empty() ? 0 : *std::max_element(importance.begin(), importance.end());
    for (std::size_t i = 0; i < weights.size(); ++i) importance_[i] = largest > 0 ? importance[i] / largest : 1;
  }

  /// Calls use(steps, weights, importance), vectors each.
  template <class Use>
  void for_steps(const integer_levels& with, const Use& use) const {
    constexpr float whole_numbers = 0x1.8p23f;  // adding it rounds, halves to even
    const float inverse = 1 / with.scale;
    const auto low = static_cast<float>(rows_.lowest() - with.zero), high = static_cast<float>(rows_.highest() - with.zero);
    for (std::size_t i = 0; i < weights_.size(); i += lanes) {
      const vector w = Eigen::Map<const vector>(&weights_[i]), importance = Eigen::Map<const vector>(&importance_[i]);
      const vector bounded = (w * inverse).max(low - 1).min(high + 1);
      const vector shifted = bounded + whole_numbers;
      use((shifted - whole_numbers).max(low).min(high).eval(), w, importance);
    }
  }
  [[nodiscard]] sums sums_of(const integer_levels& with) const {
    vector code_weight = vector::Zero(), code_code = vector::Zero();
    for_steps(with, [&](const vector& steps, const vector& w, const vector& importance) {
      const vector weighted = importance * steps;
      code_weight += weighted * w;
      code_code += weighted * steps;
    });
    return {static_cast<double>(code_weight.sum()), static_cast<double>(code_code.sum())};
  }
  [[nodiscard]] double error_of(const integer_levels& with) const {
    if (with.scale == 0) return INFINITY;
    vector error = vector::Zero();
    for_steps(with, [&](const vector& steps, const vector& w, const vector& importance) {
      const vector change = steps * with.scale - w;
      error += importance * change * change;
    });
    return static_cast<double>(error.sum());
  }

  integer_rows rows_;
  std::vector<float> weights_, importance_;
};

/// A row of integers, code by code, as integer_rows stores it.
class integer_row {
 public:
  integer_row(const integer_rows& rows, std::size_t columns) : rows_{rows}, steps_(columns), levels_(rows.groups(columns)) {}

  void set_levels(std::size_t group, integer_levels levels) noexcept { levels_[group] = levels; }
  /// Codes a weight; returns what is kept of it.
  float set(std::size_t column, float weight) noexcept {
    const integer_levels& with = levels_[column / group_size()];
    steps_[column] = static_cast<std::int16_t>(with.step_of(rows_, weight));
    return kept(column);
  }
  [[nodiscard]] float kept(std::size_t column) const noexcept {
    return static_cast<float>(steps_[column]) * levels_[column / group_size()].scale;
  }
  [[nodiscard]] std::size_t group_size() const noexcept { return std::max<std::size_t>(rows_.group_of(steps_.size()), 1); }

  void pack(std::span<std::byte> packed) const noexcept {
    std::fill(packed.begin(), packed.end(), std::byte{});
    const auto put = [&](std::size_t first_byte, std::size_t index, int code) {
      const std::size_t bits = static_cast<std::size_t>(rows_.bits), at = index * bits;
      const unsigned stored = (static_cast<unsigned>(code) & ((1u << bits) - 1)) << at % 8;
      packed[first_byte + at / 8] |= static_cast<std::byte>(stored & 255);
      if (at % 8 + bits > 8) packed[first_byte + at / 8 + 1] |= static_cast<std::byte>(stored >> 8);
    };
    const std::size_t scales = stream_bytes(steps_.size(), static_cast<std::size_t>(rows_.bits));
    const std::size_t zeros = scales + levels_.size() * scale_size(rows_.scale);
    for (std::size_t i = 0; i < steps_.size(); ++i) put(0, i, steps_[i] + levels_[i / group_size()].zero);
    for (std::size_t g = 0; g < levels_.size(); ++g) {
      const auto in_fp16 = static_cast<half>(levels_[g].scale);
      if (rows_.scale == scale_kind::f16)
        std::memcpy(&packed[scales + g * sizeof in_fp16], &in_fp16, sizeof in_fp16);
      else
        std::memcpy(&packed[scales + g * sizeof(float)], &levels_[g].scale, sizeof(float));
      if (rows_.is_asym()) put(zeros, g, levels_[g].zero);
    }
  }

 private:
  integer_rows rows_;
  std::vector<std::int16_t> steps_;
  std::vector<integer_levels> levels_;
};

/// Throws numeric_error for a row that has a weight that is not finite.
inline void expect_finite_row(const integer_rows& rows, std::span<const float> weights) {
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (!is_finite(weights[i])) [[unlikely]]
      refuse_weight(rows.name(), weights[i], i, "only finite weights can be stored");
}

}  // namespace klens::detail
