#pragma once

#include <ggml.h>

#include <span>
#include <vector>

namespace llama_adapter {

/// Those of a graph's nodes, in their order, that `to` needs where the value of `from` is known (null: nothing is known): what it
/// is computed from, and what writes memory that these read, such as a cache of keys or a recurrent state. `from` itself is not
/// among them. All of it where `to` can be had without `from`.
[[nodiscard]] std::vector<ggml_tensor*> needed_nodes(std::span<ggml_tensor* const> nodes, const ggml_tensor* from,
                                                     const ggml_tensor* to);

/// The tensor whose memory this one views, or itself.
[[nodiscard]] const ggml_tensor* memory_of(const ggml_tensor* tensor) noexcept;

}  // namespace llama_adapter
