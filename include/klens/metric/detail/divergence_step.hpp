#pragma once

#include <cstddef>
#include <klens/metric/detail/divergence_terms.hpp>
#include <klens/metric/detail/sweep.hpp>
#include <klens/metric/metric.hpp>
#include <limits>
#include <span>

namespace klens::detail {

/// Where one row's differences are measured from: d_i = (y_i - x_i) - shift. Divergences do not depend on the shift, their
/// accuracy does. p_i = e^(x_i - x_top) and q_i = scale e^(y_i - y_from), so that q_i = p_i e^(d_i).
struct anchor {
  float x_top = 0;
  float y_from = 0;
  float scale = 1;
  double shift = 0;  // y_from - x_top - ln(scale)
};

/// How careful a sweep is. `plain` trusts that float holds y - x, that no logit is masked and that shift is a float.
/// `masked` lets a token that is -inf in both rows count for nothing. `exact` knows y - x to twice the digits, takes the shift
/// with as many, and carries every kind of masking through to the limits.
enum class care { plain, masked, exact };

/// The sums of one sweep over two rows, of which only those asked for hold, and what `needs` cannot do without.
struct pair_sums {
  double drift = 0;       // sum p d
  double change = 0;      // sum (q - p)
  double kl = 0;          // sum p phi(d)
  double reverse_kl = 0;  // sum p psi(d)
  double js = 0;
  double squared_error = 0;
  float largest = 0;      // of y, at least where it could be far above its value at the reference's top token
  bool keeps_top = true;  // y is first largest at the reference's top token
};

template <row_sums Needs, care Care, class Arch>
class divergence_step {
  using vector = batch<float, Arch>;
  static constexpr bool has_kl = contains(Needs, row_sums::kl);
  static constexpr bool has_reverse_kl = contains(Needs, row_sums::reverse_kl);
  static constexpr bool has_squared_error = contains(Needs, row_sums::squared_error);
  static constexpr bool has_js = contains(Needs, row_sums::js);
  static constexpr bool has_top = contains(Needs, row_sums::same_top);

 public:
  divergence_step(const anchor& from, std::size_t top) noexcept
      : x_top_(from.x_top),
        y_from_(from.y_from),
        scale_(from.scale),
        shift_(static_cast<float>(from.shift)),
        shift_rest_(static_cast<float>(from.shift - static_cast<double>(static_cast<float>(from.shift)))),
        top_(top) {}

  struct lanes {
    vector drift = vector(0.0f), change = drift, kl = drift, reverse_kl = drift, js = drift, squared_error = drift;
    vector largest = vector(minus_infinity);
  };

  void whole(lanes& block, const vector& x, const vector& y) const noexcept { add<Care>(block, x, y); }
  void padded(lanes& block, const vector& x, const vector& y) const noexcept {
    add<Care == care::plain ? care::masked : Care>(block, x, y);
  }
  void take(const lanes& block, std::size_t end) noexcept {
    if constexpr (has_kl) kl_.add(block.kl);
    if constexpr (has_kl && Care == care::exact) change_.add(block.change);
    if constexpr (has_kl && Care != care::exact) drift_.add(block.drift);
    if constexpr (has_reverse_kl) reverse_kl_.add(block.reverse_kl);
    if constexpr (has_squared_error) squared_error_.add(block.squared_error);
    if constexpr (has_js) js_.add(block.js);
    vector& side = end <= top_ ? before_top_ : from_top_;
    side = xsimd::max(side, block.largest);
    if (end <= top_) seen_before_top_ = end;
  }

  [[nodiscard]] pair_sums sums(std::span<const float> y) const noexcept {
    pair_sums all{drift_.total(), change_.total(), kl_.total(), reverse_kl_.total(), js_.total(), squared_error_.total()};
    if constexpr (Care == care::exact)
      all.drift = all.change - all.kl;
    else
      all.change = all.drift + all.kl;
    all.largest = largest_of<Arch>(xsimd::max(before_top_, from_top_));
    if constexpr (has_top) all.keeps_top = keeps_top(y);
    return all;
  }

 private:
  template <care Here>
  void add(lanes& block, const vector& x, const vector& y) const noexcept {
    vector difference = y - x;
    vector d = difference - shift_;
    if constexpr (Here == care::exact) d += rounding_of(difference, x, y) - shift_rest_;
    if constexpr (Here != care::plain) {
      const auto masked = (x == y) & (x == vector(minus_infinity));
      difference = xsimd::select(masked, vector(0.0f), difference);
      d = xsimd::select(masked, vector(0.0f), d);
    }
    if constexpr (has_squared_error) block.squared_error = xsimd::fma(difference, difference, block.squared_error);
    if constexpr (has_top) block.largest = xsimd::max(block.largest, y);
    if constexpr (Here == care::exact)
      add_exact_terms(block, x, y, d);
    else if constexpr (has_kl)
      add_terms(block, x, y, d);
  }

  void add_terms(lanes& block, const vector& x, const vector& y, const vector& d) const noexcept {
    const vector p = lean_exp<Arch>(x - x_top_);
    const vector dd = d * d;
    const vector pdd = p * dd;
    const vector ratio = phi_ratio<Arch>(d);
    block.drift = xsimd::fma(p, d, block.drift);
    const auto large = dd > vector(small_difference * small_difference);
    if (!xsimd::any(large)) {
      if constexpr (has_reverse_kl) {
        const vector kl = pdd * ratio;
        block.kl += kl;
        block.reverse_kl += xsimd::fma(d, kl, pdd - kl);
      } else {
        block.kl = xsimd::fma(pdd, ratio, block.kl);
      }
      return;
    }
    const vector q = lean_exp<Arch>(y - y_from_);
    const vector change = q - p;
    const vector kl = xsimd::select(large, change - p * d, pdd * ratio);
    block.kl += kl;
    if constexpr (has_reverse_kl)
      block.reverse_kl += xsimd::select(large, xsimd::fms(q, d, change), xsimd::fma(d, kl, pdd - kl));
    if constexpr (!has_top) block.largest = xsimd::max(block.largest, y);
  }

  void add_exact_terms(lanes& block, const vector& x, const vector& y, const vector& exact_d) const noexcept {
    const vector never(minus_infinity), zero(0.0f), infinite(-minus_infinity), limit(1e30f);
    const vector p = xsimd::select(x == never, zero, lean_exp<Arch>(x - x_top_));
    const vector q = xsimd::select(y == never, zero, scale_ * lean_exp<Arch>(y - y_from_));
    const vector d = xsimd::max(-limit, xsimd::min(limit, exact_d));  // p and q of 0 silence what they must
    if constexpr (has_kl) {
      const auto large = xsimd::abs(d) > vector(small_difference);
      const vector pd = p * d, pdd = pd * d, small = pdd * phi_ratio<Arch>(d);
      const vector change = xsimd::select(large, q - p, pd + small);
      const vector kl = xsimd::select(large, change - pd, small);
      const vector reverse_kl = xsimd::select(large, q * d - change, xsimd::fma(d, small, pdd - small));
      block.change += change;
      block.kl += xsimd::select((y == never) & (x != never), infinite, kl);
      block.reverse_kl += xsimd::select((x == never) & (y != never), infinite, reverse_kl);
    }
    if constexpr (has_js) block.js += js_terms<Arch>(p, q, d);
  }

  /// y - x minus its float: what two roundings lost, exactly (Knuth, The Art of Computer Programming 2, 4.2.2); 0 at
  /// infinities.
  [[nodiscard]] static vector rounding_of(const vector& difference, const vector& x, const vector& y) noexcept {
    const vector of_x = y - difference;
    const vector of_y = difference + of_x;
    const vector rest = (y - of_y) - (x - of_x);
    return xsimd::select(xsimd::abs(difference) <= vector(std::numeric_limits<float>::max()), rest, vector(0.0f));
  }

  /// Only the block that holds the top token is looked at again.
  [[nodiscard]] bool keeps_top(std::span<const float> y) const noexcept {
    if (largest_of<Arch>(before_top_) >= y[top_] || largest_of<Arch>(from_top_) > y[top_]) return false;
    const auto block = y.subspan(seen_before_top_, top_ - seen_before_top_);
    return find_first<Arch>(block, y[top_]) == block.size();
  }

  vector x_top_, y_from_, scale_, shift_, shift_rest_;
  std::size_t top_;
  std::size_t seen_before_top_ = 0;
  vector before_top_ = vector(minus_infinity), from_top_ = before_top_;
  wide_sum<Arch> drift_, change_, kl_, reverse_kl_, squared_error_, js_;
};

template <row_sums Needs, care Care, class Arch>
[[nodiscard]] pair_sums compare_as(std::span<const float> x, std::span<const float> y, const anchor& from,
                                   std::size_t top) noexcept {
  divergence_step<Needs, Care, Arch> step{from, top};
  sweep<Arch>(step, x, y);
  return step.sums(y);
}

}  // namespace klens::detail
