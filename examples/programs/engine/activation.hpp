#pragma once

#include <klens/error.hpp>
#include <span>
#include <string>

#include "config.hpp"
#include "engine/elementwise.hpp"

namespace programs {

enum class activation { silu, gelu, gelu_tanh, squared_relu };

/// x[i] = f(in_scale * x[i]); times with[i] where `with` is not empty.
inline void activate(activation f, std::span<float> x, std::span<const float> with = {}, float in_scale = 1) {
  const auto carry_out = [&](const auto& of) {
    if (with.empty())
      kernels::map_elements(
          x, [&](auto v) { return of(v * in_scale); }, x);
    else
      kernels::map_elements(
          x, [&](auto v, auto w) { return of(v * in_scale) * w; }, x, with);
  };
  switch (f) {
    case activation::silu:
      return carry_out([](auto v) { return kernels::silu(v); });
    case activation::gelu:
      return carry_out([](auto v) { return kernels::gelu(v); });
    case activation::gelu_tanh:
      return carry_out([](auto v) { return kernels::gelu_tanh(v); });
    case activation::squared_relu:
      return carry_out([](auto v) { return kernels::squared_relu(v); });
  }
}

/// The activation that a field names. Throws klens::file_error for one that is not carried out.
[[nodiscard]] inline activation activation_of(const config& fields, std::string_view field, std::string_view by_default) {
  const std::string name = fields.text(field, by_default);
  if (name == "silu" || name == "swish") return activation::silu;
  if (name == "gelu") return activation::gelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return activation::gelu_tanh;
  if (name == "relu2") return activation::squared_relu;
  fields.refuse(field, "is " + klens::detail::name_text(name) + "; klens carries out silu, gelu, gelu_pytorch_tanh and relu2");
}

}  // namespace programs
