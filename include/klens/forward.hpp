#pragma once

#include <concepts>
#include <cstddef>
#include <klens/matrix.hpp>
#include <span>
#include <type_traits>
#include <utility>

namespace klens {

/// Strength 1: forward() gives the logits of the whole calibration set, [positions x vocabulary].
template <class F>
concept forward_pass = std::invocable<F&> && std::convertible_to<std::invoke_result_t<F&>, matrix<float>>;

/// Strength 2: forward(batch_index) gives the logits of one batch.
template <class F>
concept batched_forward =
    std::invocable<F&, std::size_t> && std::convertible_to<std::invoke_result_t<F&, std::size_t>, matrix<float>>;

/// What a staged forward's begin(batch) gives.
template <class F>
using state_of = std::remove_cvref_t<decltype(std::declval<F&>().begin(std::size_t{}))>;

/// Strength 3: the forward can stop between stages (embedding, block 0, block 1, ...) and go on from a copy of its state.
///   begin(batch)           the state before stage 0
///   advance(state, stage)  carries out one stage, in place
///   logits(state)          the head, after the last stage; leaves the state as it is
/// stages() counts what advance() takes: the head comes after them. advance and logits must give the same bits for the same
/// state.
template <class F>
concept staged_forward = std::copyable<state_of<F>> && requires(F& f, state_of<F>& state, std::size_t stage) {
  { f.stages() } -> std::convertible_to<std::size_t>;
  f.advance(state, stage);
  { f.logits(state) } -> std::convertible_to<matrix<float>>;
};

/// A staged forward whose state shows its residual stream, [positions x width], to be read and changed between stages.
template <class F>
concept residual_forward = staged_forward<F> && requires(F& f, state_of<F>& state) {
  { f.residual(state) } -> std::convertible_to<matrix_ref<float>>;
};

/// A staged forward that also gives the logits of chosen positions alone, so that those of a whole batch never lie in memory at
/// once and a scan can measure at some positions only.
///   positions(state)       how many rows logits(state) has
///   logits(state, rows)    those rows, in that order; callable from several threads at once
template <class F>
concept positioned_forward = staged_forward<F> && requires(F& f, const state_of<F>& state, std::span<const std::size_t> rows) {
  { f.positions(state) } -> std::convertible_to<std::size_t>;
  { f.logits(state, rows) } -> std::convertible_to<matrix<float>>;
};

}  // namespace klens
