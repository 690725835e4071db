#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <klens/quant/detail/quantizer_signature.hpp>
#include <klens/quant/detail/round_trip_row.hpp>
#include <klens/quant/informed.hpp>
#include <klens/quant/layer_inputs.hpp>
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

class informed_memory;

/// Packing apart from its type, for klens::packer.
struct any_packer {
  virtual ~any_packer() = default;
  virtual void pack(std::span<const float> weights, std::span<std::byte> packed) const = 0;
  virtual void pack_rows(const const_matrix_ref<float>& weights, std::span<std::byte> packed) const = 0;
  virtual void unpack(std::span<const std::byte> packed, std::span<float> kept) const = 0;
};

template <class Quantizer>
struct packer_of final : any_packer {
  Quantizer policy;

  explicit packer_of(Quantizer of) : policy(std::move(of)) {}
  void pack(std::span<const float> weights, std::span<std::byte> packed) const override { policy.pack(weights, packed); }
  void pack_rows(const const_matrix_ref<float>& weights, std::span<std::byte> packed) const override {
    if constexpr (requires { policy.pack_rows(weights, packed); })
      policy.pack_rows(weights, packed);
    else
      for (Eigen::Index r = 0; r < weights.rows(); ++r) {
        const std::size_t bytes = packed.size() / static_cast<std::size_t>(weights.rows());
        policy.pack(row(weights, r), packed.subspan(static_cast<std::size_t>(r) * bytes, bytes));
      }
  }
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const override { policy.unpack(packed, kept); }
};

}  // namespace detail

/// Any quantizer, klens' own or a user's, as a value. Made from a policy (klens::int4{.group_size = 64}, your_quantizer{}) or
/// from its name:
///   int<2..8>[-signed|-asym]-<channel|g<columns>>[-f32], f32, fp16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k to q6_k,
///   fp8-<e4m3|e5m2>-channel, mxfp4, nvfp4, nf4-<channel|g<columns>>; an int name may end in -imp
///   or -gptq (informed_integer.hpp)
/// where -f32 stores the scales in float32 instead of fp16. Two schemes are equal when their names are. Copies share the policy,
/// which stays as it was made. For the stored form see packing.hpp.
class scheme {
 public:
  template <class Quantizer>
    requires(!std::same_as<Quantizer, scheme> && detail::meant_as_quantizer<Quantizer>)
  scheme(Quantizer policy) {  // NOLINT: implicit
    if constexpr (!informed_quantizer<Quantizer>) detail::expect_quantizer<Quantizer>();
    if constexpr (quantizer<Quantizer> || informed_quantizer<Quantizer>) hold(detail::run_time_form(std::move(policy)));
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

  /// Schemes with the same answer keep the same of a row of that length, bit for bit.
  [[nodiscard]] std::string kept_as(std::size_t columns) const { return policy_->kept_as(columns); }

  /// What it has to know of a layer before it can store it: nothing, unless it is an informed_quantizer.
  [[nodiscard]] input_need needs() const { return policy_->needs(); }
  /// The scheme of a layer with these inputs: itself where it needs none. Throws argument_error where they lack what it needs.
  [[nodiscard]] scheme informed_by(const std::shared_ptr<const layer_inputs>& inputs) const {
    if (needs() == input_need::nothing) return *this;
    if (!inputs) refuse_uninformed(name());
    scheme informed{*this};
    informed.policy_ = policy_->informed_by(inputs);
    return informed;
  }
  /// The name of the scheme that unpacks what it packs: its own, or of an informed one the plain scheme's.
  [[nodiscard]] std::string stored_as() const { return policy_->stored_as(); }

  /// Writes what storage would give back of one row into `kept`, which may be the row itself. Throws what the policy throws;
  /// argument_error where the policy is informed and has not seen a layer's inputs.
  weight_error round_trip(std::span<const float> weights, std::span<float> kept) const {
    return policy_->round_trip(weights, kept);
  }

  friend bool operator==(const scheme& a, const scheme& b) { return a.policy_ == b.policy_ || a.name() == b.name(); }

 private:
  friend class packer;
  friend class detail::informed_memory;

  struct any_policy {
    virtual ~any_policy() = default;
    [[nodiscard]] virtual std::string name() const = 0;
    [[nodiscard]] virtual scheme_parts parts() const = 0;
    [[nodiscard]] virtual std::size_t bytes(std::size_t columns) const = 0;
    [[nodiscard]] virtual bool stores(std::size_t columns) const = 0;
    [[nodiscard]] virtual std::string kept_as(std::size_t columns) const = 0;
    virtual weight_error round_trip(std::span<const float> weights, std::span<float> kept) const = 0;
    [[nodiscard]] virtual bool is_built_in() const noexcept = 0;
    [[nodiscard]] virtual input_need needs() const noexcept { return input_need::nothing; }
    [[nodiscard]] virtual std::shared_ptr<const any_policy> informed_by(const std::shared_ptr<const layer_inputs>&) const {
      return nullptr;
    }
    [[nodiscard]] virtual std::string stored_as() const = 0;
    [[nodiscard]] virtual std::shared_ptr<const detail::any_packer> packer() const = 0;  // null where there is none
  };

  /// What policies of all kinds have in common.
  template <class Quantizer>
  struct describing : any_policy {
    Quantizer policy;

    explicit describing(Quantizer of) : policy(std::move(of)) {}
    std::string name() const override { return policy.name(); }
    std::size_t bytes(std::size_t columns) const override { return policy.bytes(columns); }
    std::string stored_as() const override {
      if constexpr (requires { policy.stored_as(); })
        return policy.stored_as();
      else
        return policy.name();
    }
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
    std::string kept_as(std::size_t columns) const override {
      if constexpr (detail::has_kept_as<Quantizer>)
        return policy.kept_as(columns);
      else
        return policy.name();
    }
  };

  template <class Quantizer>
  struct holder final : describing<Quantizer> {
    static constexpr bool built_in = detail::built_in_quantizers::contains<Quantizer>;
    using describing<Quantizer>::describing;
    using describing<Quantizer>::policy;

    bool is_built_in() const noexcept override { return built_in; }
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

  /// An informed quantizer that has not seen a layer yet.
  template <class Quantizer>
  struct informed_holder final : describing<Quantizer> {
    using describing<Quantizer>::describing;
    using describing<Quantizer>::policy;

    bool is_built_in() const noexcept override { return false; }
    input_need needs() const noexcept override { return detail::need_of<Quantizer>(); }
    std::shared_ptr<const any_policy> informed_by(const std::shared_ptr<const layer_inputs>& inputs) const override {
      return std::make_shared<const holder<detail::informed<Quantizer>>>(detail::informed<Quantizer>{policy, inputs});
    }
    weight_error round_trip(std::span<const float>, std::span<float>) const override { refuse_uninformed(policy.name()); }
    std::shared_ptr<const detail::any_packer> packer() const override { return nullptr; }
  };

  template <class Quantizer>
  void hold(Quantizer policy) {
    if constexpr (informed_quantizer<Quantizer>)
      policy_ = std::make_shared<const informed_holder<Quantizer>>(std::move(policy));
    else
      policy_ = std::make_shared<const holder<Quantizer>>(std::move(policy));
  }

  [[noreturn]] static void refuse_uninformed(const std::string& name) {
    detail::refuse<argument_error>(
        {name,
         ": looks at a layer's inputs, and they are not known here; gather them first (layer::inputs, gather_inputs; klens "
         "--statistics)"});
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
