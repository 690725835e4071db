#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <klens/detail/elementwise.hpp>
#include <klens/detail/simd.hpp>
#include <klens/matrix.hpp>
#include <vector>

namespace klens::detail {

/// What is local to one run of a scan over one batch of channels; [length x lanes] each, filled by the caller.
template <class Arch>
struct scan_panels {
  static constexpr std::size_t width = lanes<float, Arch>;
  std::vector<float> decay, input, output;  // `decay`: what the decay callable reads; input: what enters the state

  explicit scan_panels(std::size_t length) : decay(length * width), input(length * width), output(length * width) {}
};

/// Runs `States` of the recurrences h_n <- decay(t, n) h_n + input(t) b(t, n) of one batch of channels over the whole length,
/// the states in registers, and adds sum_n h_n c(t, n) to the output.
template <class Arch, std::size_t States, class Decay>
void scan_some_states(scan_panels<Arch>& panels, const const_matrix_ref<float>& b, const const_matrix_ref<float>& c,
                      Eigen::Index first, const Decay& decay) {
  using wide = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  std::array<wide, States> h;
  h.fill(wide(0.f));
  for (Eigen::Index t = 0; t < b.rows(); ++t) {
    const float* const bt = b.data() + t * b.outerStride() + first;
    const float* const ct = c.data() + t * c.outerStride() + first;
    const auto at = static_cast<std::size_t>(t) * width;
    const wide step = wide::load_unaligned(panels.decay.data() + at);
    const wide input = wide::load_unaligned(panels.input.data() + at);
    wide output = wide::load_unaligned(panels.output.data() + at);
    for (std::size_t n = 0; n < States; ++n) {
      h[n] = xsimd::fma(h[n], decay(step, static_cast<std::size_t>(first) + n), input * wide(bt[n]));
      output = xsimd::fma(h[n], wide(ct[n]), output);
    }
    output.store_unaligned(panels.output.data() + at);
  }
}

/// The same for all states, as many at once as the registers hold.
template <class Arch, class Decay>
void scan_states(scan_panels<Arch>& panels, const const_matrix_ref<float>& b, const const_matrix_ref<float>& c,
                 const Decay& decay) {
  constexpr Eigen::Index many = lanes<float, Arch> >= 16 ? 8 : 4;
  Eigen::Index first = 0;
  for (; first + many <= b.cols(); first += many) scan_some_states<Arch, many>(panels, b, c, first, decay);
  for (; first < b.cols(); ++first) scan_some_states<Arch, 1>(panels, b, c, first, decay);
}

/// The selective scan of Mamba, for one sequence:
///   h(t, d, n) = exp(step(t, d) A(d, n)) h(t-1, d, n) + step(t, d) b(t, n) x(t, d),   out(t, d) = sum_n c(t, n) h(t, d, n) +
///   skip(d) x(t, d)
/// Shapes     step, x, out [length x channels]; rates = A log2(e), transposed: [states x channels]; b, c [length x states];
///            skip [channels]. out may be x.
/// Edges      step A must not be positive.
/// Source     Gu and Dao, arXiv:2312.00752, section 3; zero-order hold for A, Euler for B.
template <class Arch = best_arch>
void selective_scan(const const_matrix_ref<float>& step, const const_matrix_ref<float>& x, const const_matrix_ref<float>& rates,
                    const const_matrix_ref<float>& b, const const_matrix_ref<float>& c, std::span<const float> skip,
                    matrix_ref<float> out) {
  using wide = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  const auto length = static_cast<std::size_t>(x.rows()), channels = static_cast<std::size_t>(x.cols());
  const auto states = static_cast<std::size_t>(b.cols());
  scan_panels<Arch> panels(length);
  std::vector<float> rate(states * width);
  for (std::size_t first = 0; first < channels; first += width) {
    const std::size_t count = std::min(width, channels - first);
    for (std::size_t n = 0; n < states; ++n)
      std::copy_n(rates.data() + static_cast<Eigen::Index>(n) * rates.outerStride() + first, count, rate.data() + n * width);
    for (std::size_t t = 0; t < length; ++t) {
      const float* const step_row = step.data() + static_cast<Eigen::Index>(t) * step.outerStride() + first;
      const float* const x_row = x.data() + static_cast<Eigen::Index>(t) * x.outerStride() + first;
      for (std::size_t i = 0; i < count; ++i) {
        panels.decay[t * width + i] = step_row[i];
        panels.input[t * width + i] = step_row[i] * x_row[i];
        panels.output[t * width + i] = skip[first + i] * x_row[i];
      }
    }
    scan_states<Arch>(panels, b, c, [&](const wide& at, std::size_t n) {
      return exp2_small(at * wide::load_unaligned(rate.data() + n * width));
    });
    for (std::size_t t = 0; t < length; ++t)
      std::copy_n(panels.output.data() + t * width, count,
                  out.data() + static_cast<Eigen::Index>(t) * out.outerStride() + first);
  }
}

/// The scan of Mamba-2, for one sequence and one group of heads: one decay for each head,
///   h(t, d, n) = decay(t, head) h(t-1, d, n) + step(t, head) b(t, n) x(t, d),   out(t, d) = sum_n c(t, n) h(t, d, n) +
///   skip(head) x(t, d)
/// Shapes     decay, step [length x heads]; x, out [length x heads * head width]; b, c [length x states]; skip [heads]. out may
/// be x. Source     Dao and Gu, arXiv:2405.21060, section 3, as a recurrence.
template <class Arch = best_arch>
void state_space_scan(const const_matrix_ref<float>& decay, const const_matrix_ref<float>& step,
                      const const_matrix_ref<float>& x, const const_matrix_ref<float>& b, const const_matrix_ref<float>& c,
                      std::span<const float> skip, matrix_ref<float> out) {
  using wide = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  const auto length = static_cast<std::size_t>(x.rows()), channels = static_cast<std::size_t>(x.cols());
  const std::size_t head_width = channels / static_cast<std::size_t>(step.cols());
  scan_panels<Arch> panels(length);
  for (std::size_t first = 0; first < channels; first += width) {
    const std::size_t count = std::min(width, channels - first);
    for (std::size_t t = 0; t < length; ++t) {
      const float* const decay_row = decay.data() + static_cast<Eigen::Index>(t) * decay.outerStride();
      const float* const step_row = step.data() + static_cast<Eigen::Index>(t) * step.outerStride();
      const float* const x_row = x.data() + static_cast<Eigen::Index>(t) * x.outerStride() + first;
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t head = (first + i) / head_width;
        panels.decay[t * width + i] = decay_row[head];
        panels.input[t * width + i] = step_row[head] * x_row[i];
        panels.output[t * width + i] = skip[head] * x_row[i];
      }
    }
    scan_states<Arch>(panels, b, c, [](const wide& at, std::size_t) { return at; });
    for (std::size_t t = 0; t < length; ++t)
      std::copy_n(panels.output.data() + t * width, count,
                  out.data() + static_cast<Eigen::Index>(t) * out.outerStride() + first);
  }
}

}  // namespace klens::detail
