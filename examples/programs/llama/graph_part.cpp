#include "graph_part.hpp"

#include <algorithm>
#include <cstddef>
#include <unordered_set>

namespace llama_adapter {
namespace {

// Those that only name memory which another node fills.
bool is_only_view(ggml_op op) {
  return op == GGML_OP_NONE || op == GGML_OP_VIEW || op == GGML_OP_RESHAPE || op == GGML_OP_PERMUTE || op == GGML_OP_TRANSPOSE;
}

}  // namespace

const ggml_tensor* memory_of(const ggml_tensor* tensor) noexcept {
  while (tensor->view_src) tensor = tensor->view_src;
  return tensor;
}

std::vector<ggml_tensor*> needed_nodes(std::span<ggml_tensor* const> nodes, const ggml_tensor* from, const ggml_tensor* to) {
  std::unordered_set<const ggml_tensor*> wanted{to}, memory{memory_of(to)};
  std::vector<ggml_tensor*> needed;
  const auto last = std::ranges::find(nodes, to);
  for (auto at = last == nodes.end() ? last : last + 1; at != nodes.begin();) {
    ggml_tensor* const node = *--at;
    if (node == from) continue;
    if (!wanted.contains(node) && (is_only_view(node->op) || !memory.contains(memory_of(node)))) continue;
    needed.push_back(node);
    const auto read = [&](const ggml_tensor* source) {
      if (!source) return;
      wanted.insert(source);
      memory.insert(memory_of(source));
    };
    for (const ggml_tensor* source : node->src) read(source);
    read(node->view_src);
  }
  std::ranges::reverse(needed);
  return needed;
}

}  // namespace llama_adapter
