#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/quant/detail/quantizer_signature.hpp>
#include <klens/quant/detail/round_trip_row.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme_names.hpp>
#include <klens/quant/scheme_parts.hpp>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {
namespace detail {

/// Packing apart from its type, for klens::packer.
struct any_packer {
  virtual ~any_packer() = default;
  virtual void pack(std::span<const float> weights, std::span<std::byte> packed) const = 0;
  virtual void unpack(std::span<const std::byte> packed, std::span<float> kept) const = 0;
};

template <class Quantizer>
struct packer_of final : any_packer {
  Quantizer policy;

  explicit packer_of(Quantizer of) : policy(std::move(of)) {}
  void pack(std::span<const float> weights, std::span<std::byte> packed) const override { policy.pack(weights, packed); }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const override { policy.unpack(packed, kept); }
};

}  // namespace detail

/// Any quantizer, klens' own or a user's, as a value. Made from a policy (klens::int4{.group_size = 64}, your_quantizer{}) or
/// from its name:
///   int<2..8>[-signed|-asym]-<channel|g<columns>>[-f32], f32, fp16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k to q6_k,
///   fp8-<e4m3|e5m2>-channel, mxfp4, nvfp4, nf4-<channel|g<columns>>
/// where -f32 stores the scales in float32 instead of fp16. Two schemes are equal when their names are. Copies share the policy,
/// which stays as it was made. For the stored form see packing.hpp.
class scheme {
 public:
  template <class Quantizer>
    requires(!std::same_as<Quantizer, scheme> && detail::meant_as_quantizer<Quantizer>)
  scheme(Quantizer policy) {  // NOLINT: implicit
    detail::expect_quantizer<Quantizer>();
    if constexpr (quantizer<Quantizer>) hold(detail::run_time_form(std::move(policy)));
  }

  /// Throws argument_error for an unknown name.
  template <class Text>
    requires(std::convertible_to<const Text&, std::string_view> && !detail::meant_as_quantizer<Text>)
  scheme(const Text& name) {  // NOLINT: implicit. A template: who names no scheme compiles none
    const auto found = [&](const auto& policy) { hold(policy); };
    if (!detail::built_in_quantizers::find(std::string_view{name}, found)) refuse(std::string_view{name});
  }

  [[nodiscard]] std::string name() const { return policy_->name(); }

  /// Bits, group size, grid and so on.
  [[nodiscard]] scheme_parts parts() const { return policy_->parts(); }

  /// Exact size when stored, in bytes.
  [[nodiscard]] std::size_t bytes(std::size_t columns) const { return policy_->bytes(columns); }
  [[nodiscard]] std::size_t bytes(std::size_t rows, std::size_t columns) const { return rows * bytes(columns); }

  /// False where rows of that length cannot be stored.
  [[nodiscard]] bool stores(std::size_t columns) const { return policy_->stores(columns); }

  /// Writes what storage would give back of one row into `kept`, which may be the row itself. Throws what the policy throws.
  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return policy_->round_trip(weights, kept);
  }

  friend bool operator==(const scheme& a, const scheme& b) { return a.policy_ == b.policy_ || a.name() == b.name(); }

 private:
  friend class packer;

  struct any_policy {
    virtual ~any_policy() = default;
    [[nodiscard]] virtual std::string name() const = 0;
    [[nodiscard]] virtual scheme_parts parts() const = 0;
    [[nodiscard]] virtual std::size_t bytes(std::size_t columns) const = 0;
    [[nodiscard]] virtual bool stores(std::size_t columns) const = 0;
    virtual weight_error round_trip(std::span<const float> weights, std::span<float> kept) const = 0;
    [[nodiscard]] virtual bool is_built_in() const noexcept = 0;
    [[nodiscard]] virtual std::shared_ptr<const detail::any_packer> packer() const = 0;  // null where there is none
  };

  template <class Quantizer>
  struct holder final : any_policy {
    static constexpr bool built_in = detail::built_in_quantizers::contains<Quantizer>;
    Quantizer policy;

    explicit holder(Quantizer of) : policy(std::move(of)) {}
    std::string name() const override { return policy.name(); }
    std::size_t bytes(std::size_t columns) const override { return policy.bytes(columns); }
    bool is_built_in() const noexcept override { return built_in; }

    scheme_parts parts() const override {
      if constexpr (detail::has_parts<Quantizer>)
        return policy.parts();
      else
        return {};
    }
    bool stores(std::size_t columns) const override {
      if constexpr (detail::has_stores<Quantizer>)
        return policy.stores(columns);
      else
        return true;
    }
    weight_error round_trip(std::span<const float> weights, std::span<float> kept) const override {
      return detail::round_trip_row(policy, weights, kept);
    }
    std::shared_ptr<const detail::any_packer> packer() const override {  // built-in ones: packing.hpp finds them by name
      if constexpr (packing_quantizer<Quantizer> && !built_in)
        return std::make_shared<const detail::packer_of<Quantizer>>(policy);
      else
        return nullptr;
    }
  };

  template <class Quantizer>
  void hold(Quantizer policy) {
    policy_ = std::make_shared<const holder<Quantizer>>(std::move(policy));
  }

  [[noreturn]] static void refuse(std::string_view name) {
    detail::refuse<argument_error>(
        {"unknown scheme ", detail::name_text(name), "; a scheme is ", detail::built_in_quantizers::grammar()});
  }

  std::shared_ptr<const any_policy> policy_;
};

/// Schemes from a list such as "int4-channel,int8-channel", in that order. Throws argument_error for a list without a name, an
/// unknown name and a scheme that is named twice.
[[nodiscard]] std::vector<scheme> parse_schemes(const std::convertible_to<std::string_view> auto& text) {
  const std::string_view list{text};
  std::vector<scheme> schemes;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    scheme next{list.substr(begin, end - begin)};
    if (std::find(schemes.begin(), schemes.end(), next) != schemes.end())
      detail::refuse<argument_error>(
          {"the scheme ", next.name(), " is named twice in ", detail::name_text(list), "; name it once"});
    schemes.push_back(std::move(next));
    begin = end + 1;
  }
  return schemes;
}

}  // namespace klens
