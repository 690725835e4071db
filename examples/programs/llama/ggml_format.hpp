#pragma once

#include <ggml.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <klens/error.hpp>
#include <klens/quant/quantizer.hpp>
#include <klens/quant/scheme.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama_adapter {

/// A type of ggml's as a quantizer of klens': packed and unpacked by ggml's own functions, and in another type where llama-quantize
/// takes another, so that what is kept is, bit for bit, what it writes.
class ggml_format {
 public:
  /// All that ggml can make of floats; some of them only with an importance matrix.
  static constexpr std::array<ggml_type, 27> known{
      GGML_TYPE_Q4_0,    GGML_TYPE_Q4_1,   GGML_TYPE_Q5_0,  GGML_TYPE_Q5_1,    GGML_TYPE_Q8_0,  GGML_TYPE_Q2_K,
      GGML_TYPE_Q3_K,    GGML_TYPE_Q4_K,   GGML_TYPE_Q5_K,  GGML_TYPE_Q6_K,    GGML_TYPE_IQ1_S, GGML_TYPE_IQ1_M,
      GGML_TYPE_IQ2_XXS, GGML_TYPE_IQ2_XS, GGML_TYPE_IQ2_S, GGML_TYPE_IQ3_XXS, GGML_TYPE_IQ3_S, GGML_TYPE_IQ4_NL,
      GGML_TYPE_IQ4_XS,  GGML_TYPE_TQ1_0,  GGML_TYPE_TQ2_0, GGML_TYPE_MXFP4,   GGML_TYPE_NVFP4, GGML_TYPE_Q1_0,
      GGML_TYPE_Q2_0,    GGML_TYPE_F16,    GGML_TYPE_BF16};

  explicit ggml_format(ggml_type type) : type_{type} {}
  /// By its name in any case. Throws klens::argument_error.
  explicit ggml_format(std::string_view name) : type_{find(name)} {}

  [[nodiscard]] ggml_type type() const noexcept { return type_; }
  [[nodiscard]] static std::string name_of(ggml_type type) { return lower(ggml_type_name(type)); }
  [[nodiscard]] std::string name() const { return name_of(type_); }

  /// Whether llama-quantize makes it of blocks' weights with an importance matrix only.
  [[nodiscard]] bool needs_importance() const noexcept {
    switch (type_) {
      case GGML_TYPE_IQ1_S:
      case GGML_TYPE_IQ1_M:
      case GGML_TYPE_IQ2_XXS:
      case GGML_TYPE_IQ2_XS:
      case GGML_TYPE_IQ2_S:
      case GGML_TYPE_IQ3_XXS:
        return true;
      default:
        return false;
    }
  }

  /// What llama-quantize stores rows of that length in when this type is asked for: a type of smaller blocks where this one's do
  /// not divide them, and f16 where no blocks do. Of types without such a stand-in: the type itself.
  [[nodiscard]] ggml_type stored_type(std::size_t columns) const noexcept {
    if (columns % block(type_) == 0) return type_;
    const ggml_type other = stand_in();
    if (other == type_ && block(type_) > 32) return type_;
    return columns % block(other) == 0 ? other : GGML_TYPE_F16;
  }

  /// False where llama-quantize has to take f16: that says nothing of this type.
  [[nodiscard]] bool stores(std::size_t columns) const noexcept {
    const ggml_type type = stored_type(columns);
    return columns % block(type) == 0 && (type == type_ || type != GGML_TYPE_F16);
  }
  [[nodiscard]] std::size_t bytes(std::size_t columns) const noexcept {
    const ggml_type type = stored_type(columns);
    return (columns + block(type) - 1) / block(type) * ggml_type_size(type);
  }

  [[nodiscard]] std::string kept_as(std::size_t columns) const { return name_of(stored_type(columns)); }

  void round_trip(std::span<const float> weights, std::span<float> kept) const {
    std::vector<std::byte> packed(bytes(weights.size()));
    pack(weights, packed);
    unpack(packed, kept);
  }
  /// `importance`: of each column; empty: none is known.
  void pack(std::span<const float> weights, std::span<std::byte> packed, std::span<const float> importance = {}) const {
    const auto columns = static_cast<std::int64_t>(weights.size());
    ggml_quantize_chunk(stored_type(weights.size()), weights.data(), packed.data(), 0, 1, columns,
                        importance.empty() ? nullptr : importance.data());
  }
  /// Throws klens::numeric_error where a scale was too large for its 16 bits.
  void unpack(std::span<const std::byte> packed, std::span<float> kept) const {
    ggml_get_type_traits(stored_type(kept.size()))
        ->to_float(packed.data(), kept.data(), static_cast<std::int64_t>(kept.size()));
    if (!std::ranges::all_of(kept, [](float each) { return std::isfinite(each); }))
      throw klens::numeric_error{name() + " cannot hold these weights: a scale is not finite; choose another type for them"};
  }

 private:
  [[nodiscard]] ggml_type stand_in() const noexcept {
    switch (type_) {
      case GGML_TYPE_Q2_0:
      case GGML_TYPE_Q2_K:
      case GGML_TYPE_Q3_K:
      case GGML_TYPE_TQ1_0:
      case GGML_TYPE_TQ2_0:
        return GGML_TYPE_Q4_0;
      case GGML_TYPE_Q4_K:
        return GGML_TYPE_Q5_0;
      case GGML_TYPE_Q5_K:
        return GGML_TYPE_Q5_1;
      case GGML_TYPE_Q6_K:
        return GGML_TYPE_Q8_0;
      case GGML_TYPE_IQ1_S:
      case GGML_TYPE_IQ1_M:
      case GGML_TYPE_IQ2_XXS:
      case GGML_TYPE_IQ2_XS:
      case GGML_TYPE_IQ2_S:
      case GGML_TYPE_IQ3_XXS:
      case GGML_TYPE_IQ3_S:
      case GGML_TYPE_IQ4_XS:
        return GGML_TYPE_IQ4_NL;
      default:
        return type_;
    }
  }
  [[nodiscard]] static std::size_t block(ggml_type type) noexcept { return static_cast<std::size_t>(ggml_blck_size(type)); }

  [[nodiscard]] static std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
  }
  [[nodiscard]] static ggml_type find(std::string_view name) {
    std::string names;
    for (const ggml_type each : known) {
      if (name_of(each) == lower(std::string{name})) return each;
      names += (names.empty() ? "" : ", ") + name_of(each);
    }
    throw klens::argument_error{"unknown type " + klens::detail::name_text(name) + "; known are " + names};
  }

  ggml_type type_;
};
static_assert(klens::packing_quantizer<ggml_format>);

/// From a list such as "q4_0,q6_k". Throws klens::argument_error for an unknown one, one that is named twice, and one that needs
/// an importance matrix where there is none.
[[nodiscard]] inline std::vector<klens::scheme> parse_types(std::string_view list, bool has_importance = false) {
  std::vector<klens::scheme> types;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const ggml_format format{list.substr(begin, end - begin)};
    if (format.needs_importance() && !has_importance)
      throw klens::argument_error{"the type " + format.name() + " needs an importance matrix; give one with --imatrix"};
    const klens::scheme next{format};
    if (std::ranges::find(types, next) != types.end())
      throw klens::argument_error{"the type " + next.name() + " is named twice in " + klens::detail::name_text(list)};
    types.push_back(next);
    begin = end + 1;
  }
  return types;
}

}  // namespace llama_adapter
