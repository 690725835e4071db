#pragma once

#include <klens/quant/quantizer.hpp>
#include <type_traits>

namespace klens::inline KLENS_INSTRUCTION_SET::detail {

template <class Member>
inline constexpr bool is_function =
    std::is_member_function_pointer_v<Member> || std::is_function_v<std::remove_pointer_t<Member>>;

// Whether Q has a function of that name, whatever its signature. (One that is overloaded or a template has no address; the
// signatures below find it.)
template <class Q>
concept names_round_trip = requires {
  requires is_function<decltype(&Q::round_trip)>;
};
template <class Q>
concept names_bytes = requires {
  requires is_function<decltype(&Q::bytes)>;
};
template <class Q>
concept names_stores = requires {
  requires is_function<decltype(&Q::stores)>;
};
template <class Q>
concept names_parts = requires {
  requires is_function<decltype(&Q::parts)>;
};
template <class Q>
concept names_kept_as = requires {
  requires is_function<decltype(&Q::kept_as)>;
};
template <class Q>
concept names_pack = requires {
  requires is_function<decltype(&Q::pack)>;
};
template <class Q>
concept names_unpack = requires {
  requires is_function<decltype(&Q::unpack)>;
};

template <class Q>
concept has_stores = requires(const Q& q) {
  { q.stores(std::size_t{}) } -> std::convertible_to<bool>;
};
template <class Q>
concept has_kept_as = requires(const Q& q) {
  { q.kept_as(std::size_t{}) } -> std::convertible_to<std::string>;
};
template <class Q>
concept has_parts = requires(const Q& q) {
  { q.parts() } -> std::same_as<scheme_parts>;
};
template <class Q>
concept has_round_trip = requires(const Q& q, std::span<const float> weights, std::span<float> kept) {
  q.round_trip(weights, kept);
};
template <class Q>
concept has_bytes = requires(const Q& q) {
  { q.bytes(std::size_t{}) } -> std::convertible_to<std::size_t>;
};
template <class Q>
concept has_name = requires(const Q& q) {
  { q.name() } -> std::convertible_to<std::string>;
};

/// A type that somebody means to be a quantizer.
template <class Q>
concept meant_as_quantizer = quantizer<Q> || names_round_trip<Q> || names_bytes<Q> || has_round_trip<Q>;

/// Refuses, in a sentence, a type whose members have other signatures than quantizer.hpp asks for.
template <class Q>
consteval void expect_quantizer() {
  static_assert(std::copyable<Q>, "a quantizer must be copyable");
  static_assert(has_name<Q>, "a quantizer needs: std::string name() const");
  static_assert(has_bytes<Q>, "a quantizer needs: std::size_t bytes(std::size_t columns) const");
  static_assert(has_round_trip<Q>,
                "a quantizer needs: void round_trip(std::span<const float> weights, std::span<float> kept) const");
  static_assert(has_stores<Q> || !names_stores<Q>, "a quantizer's stores must be: bool stores(std::size_t columns) const");
  static_assert(has_kept_as<Q> || !names_kept_as<Q>,
                "a quantizer's kept_as must be: std::string kept_as(std::size_t columns) const");
  static_assert(has_parts<Q> || !names_parts<Q>, "a quantizer's parts must be: klens::scheme_parts parts() const");
  static_assert(
      packing_quantizer<Q> || !(names_pack<Q> || names_unpack<Q>),
      "a quantizer that packs needs both: void pack(std::span<const float> weights, std::span<std::byte> packed) const, "
      "void unpack(std::span<const std::byte> packed, std::span<float> kept) const");
}

}  // namespace klens::detail
