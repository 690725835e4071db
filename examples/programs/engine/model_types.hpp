#pragma once

#include "architecture.hpp"
#include "checkpoint.hpp"
#include "config.hpp"

// One function a model type, each in its file under models/: reads every field of the config that it knows, takes its tensors
// and arranges the parts. A further model type is one more file and one more line here and in model_types.cpp.

namespace programs {

[[nodiscard]] architecture build_bamba(const config& fields, checkpoint& tensors);
[[nodiscard]] architecture build_falcon_h1(const config& fields, checkpoint& tensors);
[[nodiscard]] architecture build_jamba(const config& fields, checkpoint& tensors);
[[nodiscard]] architecture build_llama(const config& fields, checkpoint& tensors);
[[nodiscard]] architecture build_mamba(const config& fields, checkpoint& tensors);
[[nodiscard]] architecture build_mamba2(const config& fields, checkpoint& tensors);

/// Builds what the field model_type names. Throws klens::file_error: an unknown type, with those that are known; a field that
/// changes the result and is not carried out.
[[nodiscard]] architecture build_model(const config& fields, checkpoint& tensors);

}  // namespace programs
