#pragma once

#include <cstddef>
#include <klens/metric/detail/divergence_terms.hpp>
#include <klens/metric/detail/sweep.hpp>
#include <klens/metric/metric.hpp>
#include <limits>
#include <span>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

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

/// The sums of one sweep over two rows. Only those that were asked for hold.
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

/// Totals in double, which the float lanes of each block are added to; one type for every loop, so that it is compiled once.
template <class Arch>
struct pair_totals {
  using vector = batch<float, Arch>;
  wide_sum<Arch> drift, change, kl, reverse_kl, squared_error, js;
  std::size_t top;  // the reference's
  std::size_t seen_before_top = 0;
  vector before_top = vector(minus_infinity), from_top = before_top;

  explicit pair_totals(std::size_t of_top) noexcept : top(of_top) {}

  void take_largest(const vector& of_block, std::size_t end) noexcept {
    vector& side = end <= top ? before_top : from_top;
    side = xsimd::max(side, of_block);
    if (end <= top) seen_before_top = end;
  }

  [[nodiscard, gnu::noinline]] pair_sums sums(care how, row_sums needs, std::span<const float> y) const noexcept {
    pair_sums all{drift.total(), change.total(), kl.total(), reverse_kl.total(), js.total(), squared_error.total()};
    if (how == care::exact)
      all.drift = all.change - all.kl;
    else
      all.change = all.drift + all.kl;
    all.largest = largest_of<Arch>(xsimd::max(before_top, from_top));
    if (contains(needs, row_sums::same_top)) all.keeps_top = keeps_top(y);
    return all;
  }

 private:
  /// Only the block that holds the top token is looked at again.
  [[nodiscard]] bool keeps_top(std::span<const float> y) const noexcept {
    if (largest_of<Arch>(before_top) >= y[top] || largest_of<Arch>(from_top) > y[top]) return false;
    const auto block = y.subspan(seen_before_top, top - seen_before_top);
    return find_first<Arch>(block, y[top]) == block.size();
  }
};

/// `Needs` are the sums that this loop is compiled for; js comes alone.
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
      : totals(top),
        filling{Care == care::plain ? from.x_top : minus_infinity, Care == care::plain ? from.y_from : minus_infinity},
        x_top_(from.x_top),
        y_from_(from.y_from),
        scale_(from.scale),
        shift_(static_cast<float>(from.shift)),
        shift_rest_(static_cast<float>(from.shift - static_cast<double>(static_cast<float>(from.shift)))) {}

  struct lanes {
    vector drift = vector(0.0f), change = drift, kl = drift, reverse_kl = drift, js = drift, squared_error = drift;
    vector largest = vector(minus_infinity);
  };

  void add(lanes& block, const vector& x, const vector& y) const noexcept {
    vector difference = y - x;
    vector d = difference - shift_;
    if constexpr (Care == care::exact) d += rounding_of(difference, x, y) - shift_rest_;
    if constexpr (Care != care::plain) {
      const auto masked = (x == y) & (x == vector(minus_infinity));
      difference = xsimd::select(masked, vector(0.0f), difference);
      d = xsimd::select(masked, vector(0.0f), d);
    }
    if constexpr (has_squared_error) block.squared_error = xsimd::fma(difference, difference, block.squared_error);
    if constexpr (has_top) block.largest = xsimd::max(block.largest, y);
    if constexpr (Care == care::exact)
      add_exact_terms(block, x, y, d);
    else if constexpr (has_kl)
      add_terms(block, x, y, d);
  }

  void leave_out(lanes& block, std::size_t from) const noexcept {
    if constexpr (Care == care::plain && has_squared_error) {
      alignas(vector) float kept[klens::detail::lanes<float, Arch>];
      block.squared_error.store_aligned(kept);
      for (std::size_t i = from; i < klens::detail::lanes<float, Arch>; ++i) kept[i] = 0;
      block.squared_error = vector::load_aligned(kept);
    }
  }
  void take(const lanes& block, std::size_t end) noexcept {
    if constexpr (has_kl) totals.kl.add(block.kl);
    if constexpr (has_kl && Care == care::exact) totals.change.add(block.change);
    if constexpr (has_kl && Care != care::exact) totals.drift.add(block.drift);
    if constexpr (has_reverse_kl) totals.reverse_kl.add(block.reverse_kl);
    if constexpr (has_squared_error) totals.squared_error.add(block.squared_error);
    if constexpr (has_js) totals.js.add(block.js);
    totals.take_largest(block.largest, end);
  }

  pair_totals<Arch> totals;
  /// Filling adds nothing to any sum. It is masked in both rows, or where care::plain knows no masks the reference's top token
  /// once more, whose difference is the shift itself: only squared_error has to leave it out.
  float filling[2];

 private:
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
    const vector d = xsimd::max(-limit, xsimd::min(limit, exact_d));  // where a token is masked p or q is 0, and so is its term
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

  vector x_top_, y_from_, scale_, shift_, shift_rest_;
};

template <row_sums Needs, care Care, class Arch>
[[nodiscard]] pair_sums compare_as(std::span<const float> x, std::span<const float> y, const anchor& from,
                                   std::size_t top) noexcept {
  divergence_step<Needs, Care, Arch> step{from, top};
  sweep<Arch>(step, x, y);
  return step.totals.sums(Care, Needs, y);
}

}  // namespace klens::detail
