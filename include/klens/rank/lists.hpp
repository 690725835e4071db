#pragma once
// What rank_layers takes: one thing or several, with braces or without.

#include <array>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <klens/layer.hpp>
#include <klens/metric/any_metric.hpp>
#include <klens/quant/scheme.hpp>
#include <span>
#include <utility>
#include <vector>

namespace klens::inline KLENS_INSTRUCTION_SET {

/// One scheme or several: klens::int4{.group_size = 64}, "int8-channel", {"int4-g64", klens::fp16{}}, a std::vector<scheme>.
class scheme_list {
 public:
  scheme_list(std::initializer_list<scheme> several) : schemes_{several} {}   // NOLINT: implicit
  scheme_list(std::vector<scheme> several) : schemes_{std::move(several)} {}  // NOLINT: implicit
  template <class One>
    requires(!std::same_as<One, scheme_list> && std::constructible_from<scheme, const One&>)
  scheme_list(const One& one) : schemes_{scheme{one}} {}  // NOLINT: implicit
  [[nodiscard]] const std::vector<scheme>& all() const noexcept { return schemes_; }

 private:
  std::vector<scheme> schemes_;
};

/// One metric or several: klens::kl{}, {klens::kl{}, klens::sqnr{}}, a std::vector<any_metric>.
class metric_list {
 public:
  metric_list(std::initializer_list<any_metric> several) : metrics_{several} {}   // NOLINT: implicit
  metric_list(std::vector<any_metric> several) : metrics_{std::move(several)} {}  // NOLINT: implicit
  template <class One>
    requires(!std::same_as<One, metric_list> && std::constructible_from<any_metric, const One&>)
  metric_list(const One& one) : metrics_{any_metric{one}} {}  // NOLINT: implicit
  [[nodiscard]] const std::vector<any_metric>& all() const noexcept { return metrics_; }

 private:
  std::vector<any_metric> metrics_;
};

/// One layer or several: a vector, array or span of them, or {{"up", up}, {"down", down}}. Layers are views of weights; the list
/// must not outlive the call that it is written for.
class layer_list {
 public:
  layer_list(std::span<layer> several) : layers_{several} {}                             // NOLINT: implicit
  layer_list(std::vector<layer>& several) : layers_{several} {}                          // NOLINT: implicit
  layer_list(layer& one) : layers_{&one, 1} {}                                           // NOLINT: implicit
  layer_list(std::initializer_list<layer> several) : own_{several}, layers_{own_} {}     // NOLINT: implicit
  layer_list(std::vector<layer>&& several) : own_{std::move(several)}, layers_{own_} {}  // NOLINT: implicit
  template <std::size_t Count>
  layer_list(layer (&several)[Count]) : layers_{several} {}  // NOLINT: implicit
  template <std::size_t Count>
  layer_list(std::array<layer, Count>& several) : layers_{several} {}  // NOLINT: implicit
  layer_list(const layer_list&) = delete;
  layer_list& operator=(const layer_list&) = delete;
  [[nodiscard]] std::span<layer> all() const noexcept { return layers_; }

 private:
  std::vector<layer> own_;
  std::span<layer> layers_;
};

}  // namespace klens
