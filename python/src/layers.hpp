#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <klens/layer.hpp>
#include <string>

#include "arrays.hpp"

namespace python {

/// A layer whose weights lie in a Python array, which lives as long as this.
struct held_layer {
  klens::layer layer;
  nb::object owner;
};

/// A view of a writable matrix of float32, float16 or bfloat16 on the CPU.
[[nodiscard]] inline held_layer view_layer(const std::string& name, nb::object array) {
  const auto weights = nb::cast<nb::ndarray<nb::device::cpu>>(array, false);
  expect_matrix(weights, name.c_str());
  const std::size_t rows = weights.shape(0), columns = weights.shape(1);
  const std::size_t stride = rows > 1 ? static_cast<std::size_t>(weights.stride(0)) : columns;
  switch (scalar_of(weights)) {
    case scalar::f16:
      return {klens::layer{name, static_cast<klens::half*>(weights.data()), rows, columns, stride}, std::move(array)};
    case scalar::bf16:
      return {klens::layer{name, static_cast<klens::bfloat16*>(weights.data()), rows, columns, stride}, std::move(array)};
    default:
      return {klens::layer{name, static_cast<float*>(weights.data()), rows, columns, stride}, std::move(array)};
  }
}

/// A layer that Python reaches its own way: load() gives its weights as a float32 matrix [rows, columns], store(array) puts
/// such a matrix back.
[[nodiscard]] inline held_layer called_layer(const std::string& name, std::size_t rows, std::size_t columns,
                                             const nb::callable& load, const nb::callable& store) {
  const auto load_into = [load, name](klens::matrix_ref<float> into) {
    const nb::object given = load();
    const auto weights = nb::cast<any_array>(given, false);
    expect_matrix(weights, name.c_str());
    if (static_cast<Eigen::Index>(weights.shape(0)) != into.rows() ||
        static_cast<Eigen::Index>(weights.shape(1)) != into.cols())
      throw klens::shape_error{name + ": load gave [" + std::to_string(weights.shape(0)) + ", " +
                               std::to_string(weights.shape(1)) + "], not [" + std::to_string(into.rows()) + ", " +
                               std::to_string(into.cols()) + "]"};
    with_matrix(weights, [&](const auto& from) { into = from.template cast<float>(); });
  };
  const auto store_from = [store](klens::const_matrix_ref<float> from) { store(copy_of(from)); };
  return {klens::layer{name, rows, columns, load_into, store_from}, nb::none()};
}

}  // namespace python
