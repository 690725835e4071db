#pragma once
// Arrays that come from Python and go there. Nothing is converted on the way: what has another type or layout is refused, with
// what to do about it.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <klens/error.hpp>
#include <klens/matrix.hpp>
#include <memory>
#include <string>
#include <utility>

namespace python {

namespace nb = nanobind;

/// Any array on the CPU, whoever owns it (NumPy, PyTorch or another library that speaks DLPack).
using any_array = nb::ndarray<nb::device::cpu>;

enum class scalar { f32, f16, bf16, other };

[[nodiscard]] inline scalar scalar_of(const any_array& array) {
  const nb::dlpack::dtype type = array.dtype();
  const auto code = static_cast<nb::dlpack::dtype_code>(type.code);
  if (type.lanes != 1) return scalar::other;
  if (code == nb::dlpack::dtype_code::Float && type.bits == 32) return scalar::f32;
  if (code == nb::dlpack::dtype_code::Float && type.bits == 16) return scalar::f16;
  if (code == nb::dlpack::dtype_code::Bfloat && type.bits == 16) return scalar::bf16;
  return scalar::other;
}

[[nodiscard]] inline std::string type_name(const any_array& array) {
  const nb::dlpack::dtype type = array.dtype();
  const auto code = static_cast<nb::dlpack::dtype_code>(type.code);
  const std::string bits = std::to_string(static_cast<unsigned>(type.bits));
  if (code == nb::dlpack::dtype_code::Float) return "float" + bits;
  if (code == nb::dlpack::dtype_code::Bfloat) return "bfloat" + bits;
  if (code == nb::dlpack::dtype_code::Int) return "int" + bits;
  if (code == nb::dlpack::dtype_code::UInt) return "uint" + bits;
  if (code == nb::dlpack::dtype_code::Bool) return "bool";
  return "neither float nor integer";
}

/// Throws klens::shape_error unless the array is a matrix whose rows lie contiguously, and nb::type_error unless it holds
/// float32, float16 or bfloat16.
inline void expect_matrix(const any_array& array, const char* what) {
  if (array.ndim() != 2)
    throw klens::shape_error{std::string{what} + " has " + std::to_string(array.ndim()) + " dimensions; give a matrix"};
  if (scalar_of(array) == scalar::other) {
    const std::string message = std::string{what} + " holds " + type_name(array) +
                                "; klens takes float32, float16 and bfloat16, so convert it first, e.g. with "
                                ".astype('float32') or .float()";
    throw nb::type_error(message.c_str());
  }
  const bool contiguous = array.shape(1) <= 1 || array.stride(1) == 1;
  const bool ordered = array.shape(0) <= 1 || array.stride(0) >= static_cast<std::int64_t>(array.shape(1));
  if (!contiguous || !ordered)
    throw klens::shape_error{std::string{what} +
                             " is not row-major; give a contiguous array, e.g. with numpy.ascontiguousarray or .contiguous()"};
}

/// Calls use(map) with the matrix as it lies in memory: an Eigen map of float, klens::half or klens::bfloat16. For an array that
/// passed expect_matrix.
template <class Use>
decltype(auto) with_matrix(const any_array& array, Use&& use) {
  const auto map = [&]<class Scalar>(Scalar*) {
    return Eigen::Map<const klens::matrix<Scalar>, 0, Eigen::OuterStride<>>{
        static_cast<const Scalar*>(array.data()), static_cast<Eigen::Index>(array.shape(0)),
        static_cast<Eigen::Index>(array.shape(1)),
        Eigen::OuterStride<>{array.shape(0) > 1 ? static_cast<Eigen::Index>(array.stride(0))
                                                : static_cast<Eigen::Index>(array.shape(1))}};
  };
  switch (scalar_of(array)) {
    case scalar::f16:
      return use(map(static_cast<klens::half*>(nullptr)));
    case scalar::bf16:
      return use(map(static_cast<klens::bfloat16*>(nullptr)));
    default:
      return use(map(static_cast<float*>(nullptr)));
  }
}

template <class Scalar>
using new_array = nb::ndarray<nb::numpy, Scalar, nb::ndim<2>, nb::c_contig>;

/// A NumPy array [rows x columns] of its own, not initialized.
template <class Scalar>
[[nodiscard]] new_array<Scalar> make_array(std::size_t rows, std::size_t columns) {
  auto memory = std::make_unique<Scalar[]>(rows * columns);
  Scalar* const data = memory.get();
  nb::capsule owner{data, [](void* held) noexcept { delete[] static_cast<Scalar*>(held); }};
  (void)memory.release();
  return new_array<Scalar>{data, {rows, columns}, owner};
}

/// A NumPy array that holds a copy of a matrix.
[[nodiscard]] inline new_array<float> copy_of(klens::const_matrix_ref<float> matrix) {
  const new_array<float> copy =
      make_array<float>(static_cast<std::size_t>(matrix.rows()), static_cast<std::size_t>(matrix.cols()));
  Eigen::Map<klens::matrix<float>>{copy.data(), matrix.rows(), matrix.cols()} = matrix;
  return copy;
}

}  // namespace python
