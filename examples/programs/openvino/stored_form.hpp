#pragma once

#include <klens/matrix.hpp>
#include <openvino/openvino.hpp>
#include <string>

#include "exporters/exported.hpp"

namespace openvino_adapter {

/// Why the pattern below cannot hold a layer under its scheme; empty where it can.
[[nodiscard]] std::string storage_problem(const klens::stored_layer& layer);

/// Weights [out x in] as they lie in a file, and what makes them float32 again, which the kernels of OpenVINO's devices take
/// apart:
///   fp16, bf16   f16 or bf16 [out, in] -> Convert f32
///   int4, int8   i4 or i8, for asym u4 or u8 -> Convert f16 -> for asym Subtract(zero points -> Convert f16)
///                -> Multiply(scales f16) -> for groups Reshape -> Convert f32
/// Shapes     codes [out, in], scales and zero points [out, 1]; in groups [out, in / g, g] and [out, in / g, 1].
/// Precision  codes and scales are those of klens::packer, so a kernel that multiplies them in float32 computes with
///            exactly what klens' round trip keeps.
/// Throws     klens::numeric_error for weights that the scheme cannot store. `scheme` is storable, and not f32.
/// Source     the pattern in which NNCF stores INT4_SYM, INT4_ASYM, INT8_SYM and INT8_ASYM.
[[nodiscard]] ov::Output<ov::Node> stored_form(const std::string& name, klens::const_matrix_ref<float> weights,
                                               const std::string& scheme);

}  // namespace openvino_adapter
