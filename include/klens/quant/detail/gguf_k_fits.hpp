#pragma once

#include <algorithm>
#include <cstddef>
#include <klens/detail/simd.hpp>
#include <klens/quant/detail/lane_tile.hpp>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

/// The searches of ggml's K-types, a group in each lane. Every product that goes into a sum is rounded() first: a fused one would
/// give other bits. Each finds the codes and the scale of the vector of groups at `lane`.
template <class Arch, std::size_t Group>
class k_fits {
 public:
  using floats = batch<float, Arch>;
  using tile_type = lane_tile<Group>;

  static constexpr float vanishing = 1e-15f;  // ggml: no group is smaller and not 0

  k_fits(tile_type& tile, std::size_t lane) noexcept : tile_{tile}, lane_{lane} {}

  /// Codes 0 .. top for w = scale code + (a value of 0 or less), whose magnitude is `least`. Tries the range's own scale, and those
  /// of (top + first + i / 10) steps over it, i from 0 to `last`. (ggml: make_qkx2_quants.)
  template <bool Absolute, class WeightOf>
  void with_least(int top, float first, int last, const WeightOf& weight_of) const noexcept {
    const floats zeros(0.0f);
    floats least = weight(0), most = least, importance[Group];
    floats sum_w = importance[0] = weight_of(weight(0)), sum_x = sum_w * weight(0);
    for (std::size_t i = 1; i < Group; ++i) {
      const floats x = weight(i), w = importance[i] = weight_of(x);
      least = xsimd::select(x < least, x, least);
      most = xsimd::select(x > most, x, most);
      sum_w = sum_w + w;
      sum_x = sum_x + rounded(w * x);
    }
    least = xsimd::select(least > zeros, zeros, least);
    const auto flat = least == most;
    const floats flat_least = least;
    floats steps = quotient(floats(static_cast<float>(top)), most - least), scale = quotient(floats(1.0f), steps);
    floats codes[Group], error = zeros;
    for (std::size_t i = 0; i < Group; ++i) {
      codes[i] = nearest_whole(steps * (weight(i) - least), 0, top);
      error = error + rounded(importance[i] * distance<Absolute>(scale, codes[i], least, weight(i)));
    }
    for (int attempt = 0; attempt <= last; ++attempt) {
      const floats wider = floats(first) + rounded(floats(0.1f) * floats(static_cast<float>(attempt)));
      steps = quotient(wider + floats(static_cast<float>(top)), most - least);
      floats tried[Group], sum_l = zeros, sum_l2 = zeros, sum_xl = zeros;
      for (std::size_t i = 0; i < Group; ++i) {
        const floats code = tried[i] = nearest_whole(steps * (weight(i) - least), 0, top), wl = rounded(importance[i] * code);
        sum_l = sum_l + wl;
        sum_l2 = sum_l2 + rounded(wl * code);
        sum_xl = sum_xl + rounded(wl * weight(i));
      }
      const floats determinant = rounded(sum_w * sum_l2) - rounded(sum_l * sum_l);
      const floats slope = quotient(rounded(sum_w * sum_xl) - rounded(sum_x * sum_l), determinant);
      const floats offset = quotient(rounded(sum_l2 * sum_x) - rounded(sum_l * sum_xl), determinant);
      const auto above = offset > zeros;
      const floats new_scale = xsimd::select(above, quotient(sum_xl, sum_l2), slope);
      const floats new_least = xsimd::select(above, zeros, offset);
      floats new_error = zeros;
      for (std::size_t i = 0; i < Group; ++i)
        new_error = new_error + rounded(importance[i] * distance<Absolute>(new_scale, tried[i], new_least, weight(i)));
      const auto better = determinant > zeros && new_error < error;
      if (!xsimd::any(better)) continue;
      for (std::size_t i = 0; i < Group; ++i) codes[i] = xsimd::select(better, tried[i], codes[i]);
      error = xsimd::select(better, new_error, error);
      scale = xsimd::select(better, new_scale, scale);
      least = xsimd::select(better, new_least, least);
    }
    for (std::size_t i = 0; i < Group; ++i) keep(i, xsimd::select(flat, zeros, codes[i]));
    xsimd::select(flat, zeros, scale).store_aligned(tile_.scale + lane_);
    (-xsimd::select(flat, flat_least, least)).store_aligned(tile_.least + lane_);
  }

  /// Codes from 0 for w = scale (code - middle): tries the scales at which the weight of largest magnitude would have the code
  /// -middle (1 +- i / 10 of a step), i up to 9. (ggml: make_qx_quants, squares of the weights as their weights.)
  void around_zero(int middle) const noexcept {
    const floats zeros(0.0f), largest = first_largest(), half(static_cast<float>(middle));
    const auto none = xsimd::abs(largest) < floats(vanishing);
    floats codes[Group], scale = zeros, best = zeros;
    for (int attempt = 0; attempt < 19; ++attempt) {  // 0, -9 .. -1, 1 .. 9
      const int off = attempt == 0 ? 0 : attempt < 10 ? attempt - 10 : attempt - 9;
      const floats steps = -(half + rounded(floats(0.1f) * floats(static_cast<float>(off))));
      const floats inverse = quotient(steps, largest);
      floats tried[Group], sum_lx = zeros, sum_l2 = zeros;
      for (std::size_t i = 0; i < Group; ++i) {
        const floats x = weight(i), w = rounded(x * x), code = nearest_whole(inverse * x, -middle, middle - 1);
        tried[i] = code + half;
        sum_lx = sum_lx + rounded(w * x * code);
        sum_l2 = sum_l2 + rounded(w * code * code);
      }
      const floats fitted = quotient(sum_lx, sum_l2);
      if (attempt == 0) {
        scale = xsimd::select(sum_l2 == zeros, zeros, fitted);
        best = rounded(scale * sum_lx);
        std::copy_n(tried, Group, codes);
        continue;
      }
      const auto better = sum_l2 > zeros && rounded(sum_lx * sum_lx) > rounded(best * sum_l2);
      if (!xsimd::any(better)) continue;
      for (std::size_t i = 0; i < Group; ++i) codes[i] = xsimd::select(better, tried[i], codes[i]);
      scale = xsimd::select(better, fitted, scale);
      best = xsimd::select(better, rounded(fitted * sum_lx), best);
    }
    for (std::size_t i = 0; i < Group; ++i) keep(i, xsimd::select(none, zeros, codes[i]));
    xsimd::select(none, zeros, scale).store_aligned(tile_.scale + lane_);
  }

  /// The same with the one scale, after which codes move one by one where that is better, in up to five rounds. (ggml:
  /// make_q3_quants.)
  void one_by_one(int middle) const noexcept {
    const floats zeros(0.0f), largest = first_largest(), half(static_cast<float>(middle));
    const auto none = xsimd::abs(largest) < floats(vanishing);
    const floats inverse = quotient(-half, largest);
    floats codes[Group], sum_lx = zeros, sum_l2 = zeros;
    for (std::size_t i = 0; i < Group; ++i) {
      const floats x = weight(i), w = rounded(x * x), code = codes[i] = nearest_whole(inverse * x, -middle, middle - 1);
      sum_lx = sum_lx + rounded(w * x * code);
      sum_l2 = sum_l2 + rounded(w * code * code);
    }
    for (int round = 0; round < 5; ++round) {
      bool moved = false;
      for (std::size_t i = 0; i < Group; ++i) {
        const floats x = weight(i), w = rounded(x * x), code = codes[i];
        const floats rest_lx = sum_lx - rounded(w * x * code), rest_l2 = sum_l2 - rounded(w * code * code);
        const floats moved_to = nearest_whole(quotient(x * rest_l2, rest_lx), -middle, middle - 1);
        const floats new_lx = rest_lx + rounded(w * x * moved_to), new_l2 = rest_l2 + rounded(w * moved_to * moved_to);
        const auto better = rest_lx > zeros && moved_to != code && new_l2 > zeros &&
                            rounded(new_lx * new_lx * sum_l2) > rounded(sum_lx * sum_lx * new_l2);
        if (!xsimd::any(better)) continue;
        moved = true;
        codes[i] = xsimd::select(better, moved_to, code);
        sum_lx = xsimd::select(better, new_lx, sum_lx);
        sum_l2 = xsimd::select(better, new_l2, sum_l2);
      }
      if (!moved) break;  // a group that did not change does not change in the next round either
    }
    for (std::size_t i = 0; i < Group; ++i) keep(i, xsimd::select(none, zeros, codes[i] + half));
    const floats scale = xsimd::select(sum_l2 > zeros, quotient(sum_lx, sum_l2), zeros);
    xsimd::select(none, zeros, scale).store_aligned(tile_.scale + lane_);
  }

  /// Codes again, of (w + least) / scale for the groups whose scale is not 0, from -lower to upper, stored from 0.
  void code_again(const float* scales, const float* leasts, int lower, int upper) const noexcept {
    const floats scale = floats::load_aligned(scales + lane_), offset(static_cast<float>(lower));
    const floats least = leasts == nullptr ? floats(0.0f) : floats::load_aligned(leasts + lane_);
    const auto vanished = scale == floats(0.0f);
    for (std::size_t i = 0; i < Group; ++i) {
      const floats x = leasts == nullptr ? weight(i) : weight(i) + least;
      const floats code = nearest_whole(quotient(x, scale), -lower, upper) + offset;
      keep(i, xsimd::select(vanished, floats::load_aligned(tile_.codes[i] + lane_), code));
    }
  }

  /// The root mean square of the groups. (A sum in the order of the weights.)
  [[nodiscard]] floats root_mean_square() const noexcept {
    floats sum(0.0f);
    for (std::size_t i = 0; i < Group; ++i) sum = sum + rounded(weight(i) * weight(i));
    return xsimd::sqrt(quotient(sum, floats(static_cast<float>(Group))));
  }

 private:
  [[nodiscard]] floats weight(std::size_t i) const noexcept { return floats::load_aligned(tile_.weights[i] + lane_); }
  void keep(std::size_t i, const floats& code) const noexcept { code.store_aligned(tile_.codes[i] + lane_); }

  [[nodiscard]] floats first_largest() const noexcept {
    floats largest(0.0f), magnitude = largest;
    for (std::size_t i = 0; i < Group; ++i) {
      const floats x = weight(i), reach = xsimd::abs(x);
      const auto larger = reach > magnitude;
      magnitude = xsimd::select(larger, reach, magnitude);
      largest = xsimd::select(larger, x, largest);
    }
    return largest;
  }

  template <bool Absolute>
  [[nodiscard]] static floats distance(const floats& scale, const floats& code, const floats& least, const floats& x) noexcept {
    const floats change = rounded(scale * code) + least - x;
    return Absolute ? xsimd::abs(change) : rounded(change * change);
  }

  tile_type& tile_;
  std::size_t lane_;
};

}  // namespace klens::detail
