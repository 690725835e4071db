#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "architecture.hpp"
#include "attention.hpp"
#include "checkpoint.hpp"
#include "config.hpp"
#include "mamba2.hpp"

// What several model types read from a config in the same way.

namespace programs {

/// Embedding and output head, <prefix>embed_tokens.weight and lm_head.weight: two tensors, or one where tie_word_embeddings
/// says so.
[[nodiscard]] architecture take_ends(const config& fields, checkpoint& tensors, const std::string& embedding,
                                     std::size_t vocabulary, std::size_t width, bool tied_by_default);

/// Heads and their width: head_dim, or else `head_width`, where 0 stands for width / heads. A null num_key_value_heads means as
/// many as heads, and so does a missing one where 0 is the default.
[[nodiscard]] attention_shape attention_of(const config& fields, std::size_t width, std::size_t kv_heads_by_default,
                                           std::size_t head_width = 0);

/// The kind of each layer, layer_types: "full_attention", "sliding_attention", "linear_attention", ...; the older names
/// "attention" and "mamba" are translated. Empty where the config does not say; refused where it does not say it of each layer.
[[nodiscard]] std::vector<std::string> layer_kinds(const config& fields, std::size_t layers,
                                                   std::string_view field = "layer_types");

/// What each layer's queries see, as Qwen's configs say it: sliding_window where use_sliding_window is true, in the layers whose
/// kind is "sliding_attention".
[[nodiscard]] std::vector<attention_mask> windows_of(const config& fields, const std::vector<std::string>& kinds);

/// Heads of a Mamba-2 mixer under the names that later model types share (mamba_n_heads, mamba_d_head, mamba_n_groups, ...).
[[nodiscard]] mamba2_shape mamba2_of(const config& fields, std::size_t width, std::size_t inner, double epsilon);

/// Refuses heads that do not fill the inner width or do not fall into groups.
void check_heads(const config& fields, const mamba2_shape& shape, std::string_view heads, std::size_t head_width,
                 std::string_view groups);

/// The bounds of a Mamba-2 mixer's step: time_step_limit.
[[nodiscard]] std::array<float, 2> step_limits_of(const config& fields);

/// A step rank; "auto" means width / 16, rounded up.
[[nodiscard]] std::size_t rank_of(const config& fields, std::string_view field, std::size_t width);

/// width times the factor in `field` (2 where it is missing), rounded down.
[[nodiscard]] std::size_t expanded(const config& fields, std::string_view field, std::size_t width);

/// The name of the embedding in models of nothing but Mamba mixers; the first ones said "embedding".
[[nodiscard]] std::string embedding_of(const checkpoint& tensors);

/// What configs of such models say of their training and of kernels, and the activation.
void ignore_mamba_training(const config& fields);

/// Refuses another activation than silu.
void require_silu(const config& fields);

}  // namespace programs
