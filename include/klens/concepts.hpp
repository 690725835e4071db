#pragma once
// All that a user may plug in: metrics, quantizers and forward callables. klens' own satisfy the same concepts.

#include <concepts>
#include <cstddef>
#include <klens/matrix.hpp>
#include <klens/metric/position.hpp>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace klens {

/// Measures one position at a time. What a metric returns for a position is a `contribution`, a value with a weight (a plain
/// double has weight 1); its mean over many positions is sum of values / sum of weights. Optional members:
///   static constexpr row_sums needs = ...;   what the shared sweep over both rows has to compute for it
///   double finish(double mean) const;        from the mean to what is reported (SQNR: to decibels); monotone
///   static constexpr double least = ...;     what no mean can be below (0 for a divergence): intervals end there
template <class M>
concept metric = requires(const M& m, const position& at) {
  { M::name } -> std::convertible_to<std::string_view>;
  { M::unit } -> std::convertible_to<std::string_view>;
  { M::higher_is_worse } -> std::convertible_to<bool>;
  { m(at) } -> std::convertible_to<contribution>;
}
&&std::copyable<M>;

/// Stores rows of weights with fewer bits. round_trip writes into `kept` what storage would give back; both spans have the
/// row's length and may be the same memory. bytes is the exact size of one stored row, scales, zero points and padding
/// included. Optional members:
///   bool stores(std::size_t columns) const;  false where rows of that length cannot be stored (GGUF blocks of 32)
///   pack, unpack: see packing_quantizer
template <class Q>
concept quantizer = requires(const Q& q, std::span<const float> weights, std::span<float> kept) {
  q.round_trip(weights, kept);
  { q.bytes(weights.size()) } -> std::convertible_to<std::size_t>;
  { q.name() } -> std::convertible_to<std::string>;
}
&&std::copyable<Q>;

/// A quantizer that also writes the stored form: pack fills exactly bytes(columns) bytes, unpack gives back, bit for bit, what
/// round_trip gives.
template <class Q>
concept packing_quantizer = quantizer<Q> && requires(const Q& q, std::span<const float> weights, std::span<float> kept,
                                                     std::span<std::byte> packed, std::span<const std::byte> stored) {
  q.pack(weights, packed);
  q.unpack(stored, kept);
};

/// Strength 1: forward() gives the logits of the whole calibration set, [positions x vocabulary].
template <class F>
concept forward_pass = std::invocable<F&> && std::convertible_to<std::invoke_result_t<F&>, matrix<float>>;

/// Strength 2: forward(batch_index) gives the logits of one batch.
template <class F>
concept batched_forward =
    std::invocable<F&, std::size_t> && std::convertible_to<std::invoke_result_t<F&, std::size_t>, matrix<float>>;

/// Strength 3: the forward can stop between stages (embedding, block 0, block 1, ...) and go on from a copy of its state.
///   begin(batch)           the state before stage 0
///   advance(state, stage)  carries out one stage, in place
///   logits(state)          the head, after the last stage; leaves the state as it is
/// stages() counts what advance() takes: the head comes after them. advance and logits must give the same bits for the same
/// state.
template <class F>
concept staged_forward = requires(F& f, std::size_t index) {
  { f.stages() } -> std::convertible_to<std::size_t>;
  { f.begin(index) } -> std::copyable;
}
&&requires(F& f, std::remove_cvref_t<decltype(f.begin(std::size_t{}))>& state, std::size_t stage) {
  f.advance(state, stage);
  { f.logits(state) } -> std::convertible_to<matrix<float>>;
};

/// A staged forward whose state shows its residual stream, [positions x width], to be read and changed between stages.
template <class F>
concept residual_forward = staged_forward<F> && requires(F& f, std::remove_cvref_t<decltype(f.begin(std::size_t{}))>& state) {
  { f.residual(state) } -> std::convertible_to<matrix_ref<float>>;
};

/// A staged forward that also gives the logits of chosen positions alone, so that those of a whole batch never lie in memory at
/// once and a scan can measure at some positions only.
///   positions(state)       how many rows logits(state) has
///   logits(state, rows)    those rows, in that order; callable from several threads at once
template <class F>
concept positioned_forward = staged_forward<F> &&
    requires(F& f, const std::remove_cvref_t<decltype(f.begin(std::size_t{}))>& state, std::span<const std::size_t> rows) {
  { f.positions(state) } -> std::convertible_to<std::size_t>;
  { f.logits(state, rows) } -> std::convertible_to<matrix<float>>;
};

}  // namespace klens
