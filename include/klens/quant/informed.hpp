#pragma once

#include <concepts>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/detail/quantizer_signature.hpp>
#include <klens/quant/layer_inputs.hpp>
#include <klens/quant/quantizer.hpp>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

/// What round_trip of an informed quantizer takes: what its prepare() makes of the inputs, or the inputs.
template <class Q>
struct known_inputs {
  using type = layer_inputs;
};
template <class Q>
  requires requires(const Q& q, const layer_inputs& inputs) { q.prepare(inputs); }
struct known_inputs<Q> {
  using type = std::remove_cvref_t<decltype(std::declval<const Q&>().prepare(std::declval<const layer_inputs&>()))>;
};

}  // namespace detail

/// Stores rows of weights with fewer bits and looks at what the layer's inputs were like. As a quantizer, but
///   round_trip(std::span<const float> weights, std::span<float> kept, const layer_inputs& inputs) const
/// Optional, beside a quantizer's stores and parts:
///   static constexpr input_need needs     what it looks at; without it the mean squares of the columns
///   prepare(const layer_inputs&) const    called once a layer; round_trip and pack then take what it returns, not the inputs
///   pack(weights, packed, inputs) const, unpack(packed, kept) const
///   pack_rows(const_matrix_ref<float> weights, packed, inputs) const    several rows at once, one after the other, where that is
///                                         faster
///   std::string stored_as() const         the name of a plain scheme that unpacks what it packs
/// A scheme of one can be asked for as any other. It needs layers whose `inputs` are known: rank_layers takes them down on its own
/// where the forward shows them (input_showing_forward), gather_inputs does that for other uses.
template <class Q>
concept informed_quantizer =
    std::copyable<Q> && !quantizer<Q> && requires(const Q& q, std::span<const float> weights, std::span<float> kept,
                                                  const typename detail::known_inputs<Q>::type& inputs) {
  q.round_trip(weights, kept, inputs);
  { q.bytes(weights.size()) } -> std::convertible_to<std::size_t>;
  { q.name() } -> std::convertible_to<std::string>;
};

namespace detail {

template <class Q>
[[nodiscard]] constexpr input_need need_of() noexcept {
  if constexpr (requires { Q::needs; })
    return Q::needs;
  else
    return input_need::mean_squares;
}

/// An informed quantizer that has seen the inputs of a layer: a plain quantizer, for that layer.
template <informed_quantizer Q>
class informed {
 public:
  using known_type = typename known_inputs<Q>::type;

  /// Throws argument_error where the inputs lack what the policy needs; what its prepare() throws.
  informed(Q policy, std::shared_ptr<const layer_inputs> inputs)
      : policy_{std::move(policy)}, columns_{inputs->mean_squares.size()} {
    if (!inputs->have(need_of<Q>()))
      refuse<argument_error>({std::string{policy_.name()},
                              ": needs the second moments of the layer's inputs, only their mean squares are there; "
                              "gather them again for this scheme"});
    if constexpr (std::same_as<known_type, layer_inputs>)
      known_ = std::move(inputs);
    else
      known_ = std::make_shared<const known_type>(policy_.prepare(*inputs));
  }

  [[nodiscard]] std::string name() const { return policy_.name(); }
  [[nodiscard]] std::size_t bytes(std::size_t columns) const { return policy_.bytes(columns); }
  [[nodiscard]] bool stores(std::size_t columns) const {
    if constexpr (has_stores<Q>)
      return policy_.stores(columns);
    else
      return true;
  }
  [[nodiscard]] scheme_parts parts() const {
    if constexpr (has_parts<Q>)
      return policy_.parts();
    else
      return {};
  }
  [[nodiscard]] std::string stored_as() const {
    if constexpr (requires { policy_.stored_as(); })
      return policy_.stored_as();
    else
      return policy_.name();
  }

  auto round_trip(std::span<const float> weights, std::span<float> kept) const {
    expect_columns(weights.size());
    return policy_.round_trip(weights, kept, *known_);
  }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const requires
      requires(const Q& q, std::span<const float> w, std::span<std::byte> p, const known_type& k) {
    q.pack(w, p, k);
  }
  {
    expect_columns(weights.size());
    policy_.pack(weights, packed, *known_);
  }
  void pack_rows(const const_matrix_ref<float>& weights, std::span<std::byte> packed) const requires
      requires(const Q& q, const const_matrix_ref<float>& w, std::span<std::byte> p, const known_type& k) {
    q.pack_rows(w, p, k);
  }
  {
    expect_columns(static_cast<std::size_t>(weights.cols()));
    policy_.pack_rows(weights, packed, *known_);
  }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const requires
      requires(const Q& q, std::span<const std::byte> p, std::span<float> k) {
    q.unpack(p, k);
  }
  { policy_.unpack(packed, kept); }

 private:
  void expect_columns(std::size_t columns) const {
    if (columns != columns_) [[unlikely]]
      refuse<shape_error>(
          {std::string{policy_.name()}, ": knows the inputs of ", columns_, " columns, this row has ", columns});
  }

  Q policy_;
  std::size_t columns_;
  std::shared_ptr<const known_type> known_;
};

}  // namespace detail
}  // namespace klens
