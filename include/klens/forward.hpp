#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// Logits that lie in somebody's memory, row-major, [positions x vocabulary]. A scan reads them without a copy; they must stay
/// as they are until the forward is called again.
///   return klens::logits_view{engine.logits(), positions, vocabulary};   // from a float*, or from a std::span<const float>
struct logits_view {
  const float* data = nullptr;
  std::size_t positions = 0;
  std::size_t vocabulary = 0;
  std::size_t stride = 0;  ///< floats from one row to the next; vocabulary where rows follow one another

  logits_view(const float* first, std::size_t rows, std::size_t columns) : logits_view{first, rows, columns, columns} {}
  logits_view(const float* first, std::size_t rows, std::size_t columns, std::size_t from_row_to_row)
      : data{first}, positions{rows}, vocabulary{columns}, stride{from_row_to_row} {
    if (stride < vocabulary)
      detail::refuse<shape_error>({"logits_view: rows of ", vocabulary, " logits cannot lie ", stride,
                                   " floats apart; the stride counts floats from one row to the next"});
  }
  /// Throws shape_error unless the span holds exactly that many logits.
  logits_view(std::span<const float> all, std::size_t rows, std::size_t columns) : logits_view{all.data(), rows, columns} {
    if (all.size() != rows * columns)
      detail::refuse<shape_error>(
          {"logits_view: a span of ", all.size(), " floats is not ",
           detail::shape_text(static_cast<std::ptrdiff_t>(rows), static_cast<std::ptrdiff_t>(columns))});
  }
};

namespace detail {
template <class T>
inline constexpr bool holds_logits = false;
template <>
inline constexpr bool holds_logits<logits_view> = true;
template <int Rows, int Columns, int Options, int MaxRows, int MaxColumns>
inline constexpr bool holds_logits<Eigen::Matrix<float, Rows, Columns, Options, MaxRows, MaxColumns>> = true;
template <class Matrix, int Options, class Stride>
inline constexpr bool holds_logits<Eigen::Map<Matrix, Options, Stride>> = holds_logits<std::remove_const_t<Matrix>>;
template <class Matrix, int Options, class Stride>
inline constexpr bool holds_logits<Eigen::Ref<Matrix, Options, Stride>> = holds_logits<std::remove_const_t<Matrix>>;
}  // namespace detail

/// What a forward may return: a float matrix of Eigen's, a Map or Ref of one, or a logits_view. No expression (what it refers
/// to may be gone when it is read), no double. Row-major views are read without a copy.
template <class L>
concept logits_matrix = detail::holds_logits<std::remove_cvref_t<L>>;

namespace detail {
/// Logits as a matrix of their own, in whatever form a forward returned them. Moves what can be moved.
template <logits_matrix Logits>
[[nodiscard]] matrix<float> matrix_of(Logits&& from) {
  if constexpr (std::is_same_v<std::remove_cvref_t<Logits>, logits_view>)
    return Eigen::Map<const matrix<float>, 0, Eigen::OuterStride<>>(
        from.data, static_cast<Eigen::Index>(from.positions), static_cast<Eigen::Index>(from.vocabulary),
        Eigen::OuterStride<>(static_cast<Eigen::Index>(from.stride)));
  else
    return matrix<float>(std::forward<Logits>(from));
}
}  // namespace detail

/// Strength 1: forward() gives the logits of the whole calibration set, [positions x vocabulary].
template <class F>
concept forward_pass = std::invocable<F&> && logits_matrix<std::invoke_result_t<F&>>;

/// Strength 2: forward(batch_index) gives the logits of one batch.
template <class F>
concept batched_forward = std::invocable<F&, std::size_t> && logits_matrix<std::invoke_result_t<F&, std::size_t>>;

/// What a staged forward's begin(batch) gives.
template <class F>
using state_of = std::remove_cvref_t<decltype(std::declval<F&>().begin(std::size_t{}))>;

/// Strength 3: the forward can stop between stages (embedding, block 0, block 1, ...) and go on from a copy of its state.
///   stages()               how many stages there are; the head comes after them and is not counted
///   begin(batch)           the state before stage 0; must be copyable
///   advance(state, stage)  carries out one stage, in place
///   logits(state)          the head, after the last stage; leaves the state as it is
/// advance and logits must give the same bits for the same state and weights. Optional:
///   double cost(stage)     what the stage costs, in any unit; stages() stands for the head. Without it all cost the same
template <class F>
concept staged_forward = std::copyable<state_of<F>> && requires(F& f, state_of<F>& state, std::size_t stage) {
  { f.stages() } -> std::convertible_to<std::size_t>;
  f.advance(state, stage);
  { f.logits(state) } -> logits_matrix;
};

/// A staged forward whose state shows its residual stream, to be read and changed between stages:
///   residual(state)        a view of it, [positions x width], float
template <class F>
concept residual_forward = staged_forward<F> && requires(F& f, state_of<F>& state) {
  { f.residual(state) } -> std::convertible_to<matrix_ref<float>>;
};

/// A staged forward that also gives the logits of chosen positions alone, so that those of a whole batch never lie in memory at
/// once and a scan can measure at some positions only.
///   positions(state)       how many rows logits(state) has
///   logits(state, rows)    those rows, in that order; callable from several threads at once, so a view that it returns must be
///                          of memory that no other call writes
template <class F>
concept positioned_forward = staged_forward<F> && requires(F& f, const state_of<F>& state, std::span<const std::size_t> rows) {
  { f.positions(state) } -> std::convertible_to<std::size_t>;
  { f.logits(state, rows) } -> logits_matrix;
};

/// Sees the inputs [positions x in] that are multiplied with the weights of a layer, W [out x in]. One call at a time.
using input_observer = std::function<void(std::string_view layer, const const_matrix_ref<float>& inputs)>;

/// A forward, of any strength, that shows what goes into its layers:
///   observe_inputs(observer)  from now on each product with a layer's weights calls observer(name, inputs), until an empty
///                             observer is given. Calls must come in the same order, and one at a time, whenever the forward runs
template <class F>
concept input_showing_forward = requires(F& f, const input_observer& observer) {
  f.observe_inputs(observer);
};

/// A forward of any strength.
template <class F>
concept any_forward = forward_pass<F> || batched_forward<F> || staged_forward<F>;

namespace detail {

/// Stops the compiler with a sentence where F is no forward, or has an optional member of another signature.
template <class F>
consteval void expect_forward() {
  constexpr bool staged_by_name = requires { &F::advance; }
  || requires { &F::begin; }
  || requires { &F::stages; };
  if constexpr (staged_forward<F>) {
    using state = std::remove_cvref_t<decltype(std::declval<F&>().begin(std::size_t{}))>;
    if constexpr (requires { &F::cost; })
      static_assert(
          requires(F & f, std::size_t stage) {
            { f.cost(stage) } -> std::convertible_to<double>;
          },
          "klens: the forward's cost must be: double cost(std::size_t stage), stages() standing for the head");
    if constexpr (requires { &F::residual; })
      static_assert(residual_forward<F>,
                    "klens: the forward's residual must be: klens::matrix_ref<float> residual(state&), a view of row-major "
                    "floats [positions x width]");
    if constexpr (requires { &F::observe_inputs; })
      static_assert(input_showing_forward<F>,
                    "klens: the forward's observe_inputs must be: void observe_inputs(const klens::input_observer&)");
    if constexpr (requires { &F::positions; })
      static_assert(positioned_forward<F>,
                    "klens: a forward with positions(const state&) also needs logits(const state&, std::span<const "
                    "std::size_t> rows), which returns a float matrix, Map or Ref");
    static_assert(std::copyable<state>, "klens: the state that begin() returns must be copyable");
  } else if constexpr (staged_by_name) {
    static_assert(
        requires(F & f) {
          { f.stages() } -> std::convertible_to<std::size_t>;
        },
        "klens: a staged forward needs: std::size_t stages()");
    static_assert(
        requires(F & f, std::size_t batch) {
          { f.begin(batch) } -> std::copyable;
        },
        "klens: a staged forward needs: state begin(std::size_t batch), where state can be copied");
    if constexpr (requires(F & f, std::size_t batch) { f.begin(batch); }) {
      using state = std::remove_cvref_t<decltype(std::declval<F&>().begin(std::size_t{}))>;
      static_assert(
          requires(F & f, state & at, std::size_t stage) { f.advance(at, stage); },
          "klens: a staged forward needs: void advance(state&, std::size_t stage)");
      static_assert(
          requires(F & f, state & at) {
            { f.logits(at) } -> logits_matrix;
          },
          "klens: a staged forward needs: klens::matrix<float> logits(const state&); a Map, a Ref or a klens::logits_view "
          "will do as well, an Eigen expression or doubles will not");
    }
  } else if constexpr (std::invocable<F&, std::size_t> || std::invocable<F&>) {
    static_assert(any_forward<F>,
                  "klens: a forward must return a plain float matrix, a Map or a Ref of one, or a klens::logits_view. An Eigen "
                  "expression may refer to what is gone when it is read, doubles and bare pointers are not taken: give the "
                  "lambda the return type -> klens::matrix<float>");
  } else {
    static_assert(any_forward<F>,
                  "klens: this is no forward: give something that can be called as forward() or forward(std::size_t batch), or "
                  "an object with stages, begin, advance and logits (klens/forward.hpp)");
  }
}

}  // namespace detail
}  // namespace klens
