#pragma once

#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/quant/detail/round_trip_row.hpp>
#include <klens/quant/float16.hpp>
#include <klens/quant/gguf.hpp>
#include <klens/quant/integer.hpp>
#include <klens/quant/quantizer.hpp>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens {

/// Any quantizer, klens' own or a user's, as a value. Made from a policy (klens::int4{.group_size = 64}, your_quantizer{}) or
/// from its name:
///   int<2..8>[-signed|-asym]-<channel|g<columns>>[-s32], fp16, bf16, q4_0, q8_0
/// Names are canonical: scheme(text).name() gives the same scheme again, and two schemes are equal when their names are.
/// Copies share the policy, which stays as it was made.
class scheme {
 public:
  template <class Quantizer>
    requires(!std::same_as<Quantizer, scheme> && quantizer<Quantizer>)
  scheme(Quantizer policy) : policy_{std::make_shared<const holder<Quantizer>>(std::move(policy))} {}  // NOLINT: implicit

  /// Throws argument_error for an unknown name; the message shows the nearest valid ones.
  scheme(std::string_view name);                                       // NOLINT: implicit
  scheme(const char* name) : scheme(std::string_view{name}) {}         // NOLINT: implicit
  scheme(const std::string& name) : scheme(std::string_view{name}) {}  // NOLINT: implicit

  [[nodiscard]] std::string name() const { return policy_->name(); }

  /// Exact size when stored, in bytes.
  [[nodiscard]] std::size_t bytes(std::size_t columns) const { return policy_->bytes(columns); }
  [[nodiscard]] std::size_t bytes(std::size_t rows, std::size_t columns) const { return rows * bytes(columns); }

  /// False where rows of that length cannot be stored.
  [[nodiscard]] bool stores(std::size_t columns) const { return policy_->stores(columns); }

  /// Writes what storage would give back of one row into `kept`, which may be the row itself. Throws what the policy throws.
  weight_error round_trip(std::span<const float> weights, std::span<float> kept, bool streaming = false) const {
    return policy_->round_trip(weights, kept, streaming);
  }

  /// Whether there is a stored form; pack and unpack throw argument_error where not.
  [[nodiscard]] bool can_pack() const noexcept { return policy_->can_pack(); }
  void pack(std::span<const float> weights, std::span<std::byte> packed) const { policy_->pack(weights, packed); }
  void unpack(std::span<const std::byte> packed, std::span<float> kept, bool streaming = false) const {
    policy_->unpack(packed, kept, streaming);
  }

  friend bool operator==(const scheme& a, const scheme& b) { return a.policy_ == b.policy_ || a.name() == b.name(); }

 private:
  struct any_policy {
    virtual ~any_policy() = default;
    [[nodiscard]] virtual std::string name() const = 0;
    [[nodiscard]] virtual std::size_t bytes(std::size_t columns) const = 0;
    [[nodiscard]] virtual bool stores(std::size_t columns) const = 0;
    virtual weight_error round_trip(std::span<const float> weights, std::span<float> kept, bool streaming) const = 0;
    [[nodiscard]] virtual bool can_pack() const noexcept = 0;
    virtual void pack(std::span<const float> weights, std::span<std::byte> packed) const = 0;
    virtual void unpack(std::span<const std::byte> packed, std::span<float> kept, bool streaming) const = 0;
  };

  template <class Quantizer>
  struct holder final : any_policy {
    Quantizer policy;

    explicit holder(Quantizer of) : policy(std::move(of)) {}
    std::string name() const override { return policy.name(); }
    std::size_t bytes(std::size_t columns) const override { return policy.bytes(columns); }
    bool can_pack() const noexcept override { return packing_quantizer<Quantizer>; }

    bool stores(std::size_t columns) const override {
      if constexpr (requires {
                      { policy.stores(columns) } -> std::convertible_to<bool>;
                    })
        return policy.stores(columns);
      return true;
    }
    weight_error round_trip(std::span<const float> weights, std::span<float> kept, bool streaming) const override {
      return detail::round_trip_row(policy, weights, kept, streaming);
    }
    void pack(std::span<const float> weights, std::span<std::byte> packed) const override {
      if constexpr (packing_quantizer<Quantizer>) return policy.pack(weights, packed);
      throw argument_error{name() + " has no stored form: give it pack() and unpack()"};
    }
    void unpack(std::span<const std::byte> packed, std::span<float> kept, bool streaming) const override {
      if constexpr (packing_quantizer<Quantizer>) return detail::unpack_row(policy, packed, kept, streaming);
      throw argument_error{name() + " has no stored form: give it pack() and unpack()"};
    }
  };

  std::shared_ptr<const any_policy> policy_;
};

namespace detail {

inline constexpr const char* scheme_grammar =
    "int<2 to 8>[-signed|-asym]-<channel|g<columns>>[-s32] (int4-g64, int8-channel, int4-asym-g128), fp16, bf16, q4_0, q8_0";

/// Takes `prefix` off the front of `text` and says whether it was there.
[[nodiscard]] inline bool take(std::string_view& text, std::string_view prefix) noexcept {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// The scheme of that name, if it is one.
[[nodiscard]] inline std::optional<scheme> find_scheme(std::string_view name) {
  if (name == fp16::name()) return fp16{};
  if (name == bf16::name()) return bf16{};
  if (name == q4_0::name()) return q4_0{};
  if (name == q8_0::name()) return q8_0{};
  if (!take(name, "int") || name.empty() || name[0] < '2' || name[0] > '8') return std::nullopt;
  const int bits = name[0] - '0';
  name.remove_prefix(1);
  const grid where = take(name, "-signed") ? grid::signed_ : take(name, "-asym") ? grid::asym : grid::absmax;
  std::size_t group_size = 0;
  if (!take(name, "-channel")) {
    if (!take(name, "-g")) return std::nullopt;
    if (name.starts_with('0')) return std::nullopt;  // neither an empty group nor a second spelling of the same
    const auto number = std::from_chars(name.data(), name.data() + name.size(), group_size);
    if (number.ec != std::errc{}) return std::nullopt;
    name.remove_prefix(static_cast<std::size_t>(number.ptr - name.data()));
  }
  const scale_kind scale = take(name, "-s32") ? scale_kind::f32 : scale_kind::f16;
  if (!name.empty()) return std::nullopt;
  if (where == grid::signed_) return integer_rows<grid::signed_>{bits, group_size, scale};
  if (where == grid::asym) return integer_rows<grid::asym>{bits, group_size, scale};
  return integer_rows<grid::absmax>{bits, group_size, scale};
}

/// Single-character edits from one text to the other.
[[nodiscard]] inline std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < to.size(); ++j)
      diagonal = std::exchange(row[j + 1], std::min({row[j] + 1, row[j + 1] + 1, diagonal + (from[i] != to[j])}));
  }
  return row.back();
}

/// The valid name that looks most like `text`.
[[nodiscard, gnu::cold]] inline std::string nearest_scheme_name(std::string text) {
  text.resize(std::min<std::size_t>(text.size(), 40));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  std::string group;  // the number behind the last 'g', where that makes a group
  for (std::size_t i = text.rfind('g') + 1; i != 0 && i < text.size() && '0' <= text[i] && text[i] <= '9'; ++i)
    group += text[i];
  if (!find_scheme("int4-g" + group)) group = "64";
  std::vector<std::string> names{fp16::name(), bf16::name(), q4_0::name(), q8_0::name()};
  for (const char* bits : {"4", "8", "2", "3", "5", "6", "7"})
    for (const char* kind : {"", "-signed", "-asym"})
      for (const std::string& columns : {std::string{"-channel"}, "-g" + group})
        for (const char* scale : {"", "-s32"}) names.push_back(std::string{"int"} + bits + kind + columns + scale);
  if (const std::size_t at = text.find("-sym"); at != std::string::npos) text.replace(at, 4, "-signed");
  const auto distance = [&](const std::string& name) { return name.starts_with(text) ? 0 : edit_distance(text, name); };
  return *std::min_element(names.begin(), names.end(),
                           [&](const std::string& a, const std::string& b) { return distance(a) < distance(b); });
}

}  // namespace detail

inline scheme::scheme(std::string_view name) {
  const auto found = detail::find_scheme(name);
  if (!found)
    throw argument_error{"unknown scheme " + detail::name_text(name) + "; did you mean " +
                         detail::nearest_scheme_name(std::string{name}) + "? A scheme is " + detail::scheme_grammar};
  policy_ = found->policy_;
}

/// Schemes from a list such as "int4-channel,int8-channel", in that order. Throws argument_error for a list without a name, an
/// unknown name and a scheme that is named twice.
[[nodiscard]] inline std::vector<scheme> parse_schemes(std::string_view list) {
  std::vector<scheme> schemes;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    scheme next{list.substr(begin, end - begin)};
    if (std::find(schemes.begin(), schemes.end(), next) != schemes.end())
      throw argument_error{"the scheme " + next.name() + " is named twice in " + detail::name_text(list) + "; name it once"};
    schemes.push_back(std::move(next));
    begin = end + 1;
  }
  return schemes;
}

}  // namespace klens
