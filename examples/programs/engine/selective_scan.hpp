#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <klens/matrix.hpp>
#include <span>
#include <vector>

#include "elementwise.hpp"

namespace programs::kernels {

/// What one batch of channels brings into a scan, [length x lanes] each: what decays follow from, what enters the state (step
/// times x), and the output, which begins as the skip connection and to which the states add.
template <class Arch>
struct scan_panels {
  std::vector<float> decay, input, output;
  explicit scan_panels(std::size_t length)
      : decay(length * lanes<float, Arch>), input(length * lanes<float, Arch>), output(length * lanes<float, Arch>) {}
};

/// Runs states first .. first + Count - 1, kept in registers, over the whole length:
///   h_n <- decay(t, n) h_n + input(t) b(t, n),   output(t) += sum_n c(t, n) h_n
/// `carried` [states x lanes] is what they begin with, and what they end with.
template <class Arch, std::size_t Count, class Decay>
void scan_some_states(scan_panels<Arch>& panels, const klens::const_matrix_ref<float>& b,
                      const klens::const_matrix_ref<float>& c, Eigen::Index first, float* carried, const Decay& decay) {
  using wide = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>;
  std::array<wide, Count> h;
  for (std::size_t n = 0; n < Count; ++n) h[n] = wide::load_unaligned(carried + (static_cast<std::size_t>(first) + n) * width);
  for (Eigen::Index t = 0; t < b.rows(); ++t) {
    const float *const bt = b.data() + t * b.outerStride() + first, *const ct = c.data() + t * c.outerStride() + first;
    const auto at = static_cast<std::size_t>(t) * width;
    const wide step = wide::load_unaligned(panels.decay.data() + at), input = wide::load_unaligned(panels.input.data() + at);
    wide output = wide::load_unaligned(panels.output.data() + at);
    for (std::size_t n = 0; n < Count; ++n) {
      h[n] = xsimd::fma(h[n], decay(step, static_cast<std::size_t>(first) + n), input * wide(bt[n]));
      output = xsimd::fma(h[n], wide(ct[n]), output);
    }
    output.store_unaligned(panels.output.data() + at);
  }
  for (std::size_t n = 0; n < Count; ++n) h[n].store_unaligned(carried + (static_cast<std::size_t>(first) + n) * width);
}

/// The same for all states, as many at once as there are registers for.
template <class Arch, std::size_t Most, class Decay>
void scan_states(scan_panels<Arch>& panels, const klens::const_matrix_ref<float>& b, const klens::const_matrix_ref<float>& c,
                 float* carried, const Decay& decay) {
  Eigen::Index first = 0;
  for (; first + static_cast<Eigen::Index>(Most) <= b.cols(); first += Most)
    scan_some_states<Arch, Most>(panels, b, c, first, carried, decay);
  for (; first + 4 <= b.cols(); first += 4) scan_some_states<Arch, 4>(panels, b, c, first, carried, decay);
  for (; first < b.cols(); ++first) scan_some_states<Arch, 1>(panels, b, c, first, carried, decay);
}

/// What `carried` [states x lanes] begins with: so many channels of `state` [states x channels], or zeros.
template <class Arch>
void load_states(const klens::matrix_ref<float>* state, std::size_t first, std::size_t count, std::vector<float>& carried) {
  if (state == nullptr) std::ranges::fill(carried, 0.f);
  for (Eigen::Index n = 0; state != nullptr && n < state->rows(); ++n)
    load_first<Arch>(state->row(n).data() + first, count)
        .store_unaligned(carried.data() + static_cast<std::size_t>(n) * lanes<float, Arch>);
}

template <class Arch>
void store_states(const std::vector<float>& carried, std::size_t first, std::size_t count, klens::matrix_ref<float>* state) {
  for (Eigen::Index n = 0; state != nullptr && n < state->rows(); ++n)
    store_first<Arch>(batch<float, Arch>::load_unaligned(carried.data() + static_cast<std::size_t>(n) * lanes<float, Arch>),
                      state->row(n).data() + first, count);
}

/// The selective scan of Mamba, for one sequence:
///   h(t, d, n) = exp(step(t, d) A(d, n)) h(t-1, d, n) + step(t, d) b(t, n) x(t, d),   out(t, d) = sum_n c(t, n) h(t, d, n) +
///   skip(d) x(t, d)
/// Shapes     step, x, out [length x channels]; rates = A log2(e), transposed: [states x channels]; b, c [length x states];
///            skip [channels]. out may be x. `state` [states x channels], where it is given: h(-1), and then the last h.
/// Edges      step A must not be positive.
/// Source     Gu and Dao, arXiv:2312.00752, section 3; zero-order hold for A, Euler for B.
template <class Arch = best_arch>
void selective_scan(const klens::const_matrix_ref<float>& step, const klens::const_matrix_ref<float>& x,
                    const klens::const_matrix_ref<float>& rates, const klens::const_matrix_ref<float>& b,
                    const klens::const_matrix_ref<float>& c, std::span<const float> skip, klens::matrix_ref<float> out,
                    klens::matrix_ref<float>* state = nullptr) {
  using wide = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>, at_once = width >= 16 ? 8 : 4;
  const auto length = static_cast<std::size_t>(x.rows()), channels = static_cast<std::size_t>(x.cols());
  const auto states = static_cast<std::size_t>(b.cols());
  scan_panels<Arch> panels(length);
  std::vector<float> rate(states * width), carried(states * width);
  for (std::size_t first = 0; first < channels; first += width) {
    const std::size_t count = std::min(width, channels - first);
    const auto row_of = [first](auto& of, std::size_t r) {
      return of.data() + static_cast<Eigen::Index>(r) * of.outerStride() + first;
    };
    for (std::size_t n = 0; n < states; ++n) load_first<Arch>(row_of(rates, n), count).store_unaligned(rate.data() + n * width);
    const wide passed = load_first<Arch>(skip.data() + first, count);
    for (std::size_t t = 0; t < length; ++t) {
      const wide by = load_first<Arch>(row_of(step, t), count), in = load_first<Arch>(row_of(x, t), count);
      by.store_unaligned(panels.decay.data() + t * width);
      (by * in).store_unaligned(panels.input.data() + t * width);
      (passed * in).store_unaligned(panels.output.data() + t * width);
    }
    load_states<Arch>(state, first, count, carried);
    scan_states<Arch, at_once>(panels, b, c, carried.data(), [&](const wide& by, std::size_t n) {
      return exp2_of(by * wide::load_unaligned(rate.data() + n * width));
    });
    store_states<Arch>(carried, first, count, state);
    for (std::size_t t = 0; t < length; ++t)
      store_first<Arch>(wide::load_unaligned(panels.output.data() + t * width), row_of(out, t), count);
  }
}

/// The scan of Mamba-2, for one sequence and one group of heads: one decay for each head,
///   h(t, d, n) = decay(t, head) h(t-1, d, n) + step(t, head) b(t, n) x(t, d),   out(t, d) = sum_n c(t, n) h(t, d, n) +
///   skip(head) x(t, d)
/// Shapes     decay, step [length x heads]; x, out [length x heads * head width]; b, c [length x states]; skip [heads]. out may
///            be x. `state` as above.
/// Source     Dao and Gu, arXiv:2405.21060, section 3, as a recurrence.
template <class Arch = best_arch>
void state_space_scan(const klens::const_matrix_ref<float>& decay, const klens::const_matrix_ref<float>& step,
                      const klens::const_matrix_ref<float>& x, const klens::const_matrix_ref<float>& b,
                      const klens::const_matrix_ref<float>& c, std::span<const float> skip, klens::matrix_ref<float> out,
                      klens::matrix_ref<float>* state = nullptr) {
  using wide = batch<float, Arch>;
  constexpr std::size_t width = lanes<float, Arch>, at_once = width >= 16 ? 16 : 8;
  const auto length = static_cast<std::size_t>(x.rows()), channels = static_cast<std::size_t>(x.cols());
  const std::size_t head_width = channels / static_cast<std::size_t>(step.cols());
  scan_panels<Arch> panels(length);
  std::vector<float> carried(static_cast<std::size_t>(b.cols()) * width);
  for (std::size_t first = 0; first < channels; first += width) {
    const std::size_t count = std::min(width, channels - first);
    const auto row_of = [](auto& of, std::size_t r) { return of.data() + static_cast<Eigen::Index>(r) * of.outerStride(); };
    std::array<std::size_t, width> head;  // of each lane
    for (std::size_t i = 0; i < width; ++i) head[i] = (first + std::min(i, count - 1)) / head_width;
    const auto of_heads = [&, one = head.front() == head.back()](const float* values) {
      if (one) return wide(values[head.front()]);
      std::array<float, width> each;
      for (std::size_t i = 0; i < width; ++i) each[i] = values[head[i]];
      return wide::load_unaligned(each.data());
    };
    const wide passed = of_heads(skip.data());
    for (std::size_t t = 0; t < length; ++t) {
      const wide in = load_first<Arch>(row_of(x, t) + first, count);
      of_heads(row_of(decay, t)).store_unaligned(panels.decay.data() + t * width);
      (of_heads(row_of(step, t)) * in).store_unaligned(panels.input.data() + t * width);
      (passed * in).store_unaligned(panels.output.data() + t * width);
    }
    load_states<Arch>(state, first, count, carried);
    scan_states<Arch, at_once>(panels, b, c, carried.data(), [](const wide& by, std::size_t) { return by; });
    store_states<Arch>(carried, first, count, state);
    for (std::size_t t = 0; t < length; ++t)
      store_first<Arch>(wide::load_unaligned(panels.output.data() + t * width), row_of(out, t) + first, count);
  }
}

}  // namespace programs::kernels
