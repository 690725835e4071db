#include "known_fields.hpp"

#include <algorithm>
#include <iterator>

namespace programs {
namespace {

/// Sorted by topic: provenance, caching and kernels, what a model returns, classification heads, training, text generation.
constexpr std::string_view passed_over[] = {
    "architectures",
    "transformers_version",
    "name_or_path",
    "auto_map",
    "dtype",
    "torch_dtype",
    "is_llama_config",
    "finetuned",
    "unsloth_version",
    "unsloth_fixed",
    "max_position_embeddings",
    "n_ctx",
    "use_cache",
    "cache_implementation",
    "attn_implementation",
    "num_logits_to_keep",
    "calc_logits_for_entire_prompt",
    "torchscript",
    "use_bfloat16",
    "tf_legacy_loss",
    "chunk_size_feed_forward",
    "is_decoder",
    "pruned_heads",
    "return_dict",
    "output_hidden_states",
    "output_attentions",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "classifier_dropout",
    "task_specific_params",
    "finetuning_task",
    "initializer_range",
    "initializer_factor",
    "attention_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "cls_token_id",
    "unk_token_id",
    "mask_token_id",
    "decoder_start_token_id",
    "tokenizer_class",
    "prefix",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "num_beams",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "early_stopping",
    "num_return_sequences",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "bad_words_ids",
    "typical_p",
    "num_beam_groups",
    "diversity_penalty",
    "encoder_no_repeat_ngram_size",
    "output_scores",
    "return_dict_in_generate",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
};

struct telling_field {
  std::string_view name;
  const char* harmless;  ///< values that change nothing, as a JSON list
};

constexpr telling_field refused[] = {
    // another graph
    {"is_encoder_decoder", "[false]"},
    {"add_cross_attention", "[false]"},
    {"cross_attention_hidden_size", "[]"},
    {"tie_encoder_decoder", "[false]"},
    {"use_parallel_residual", "[false]"},
    {"parallel_attn", "[false]"},
    {"num_experts", "[0, 1]"},
    {"num_local_experts", "[0, 1]"},
    {"n_routed_experts", "[0]"},
    {"n_shared_experts", "[0]"},
    {"num_memory_tokens", "[0]"},
    {"memory_tokens_interspersed_every", "[0]"},
    {"kv_reuse_group", "[]"},
    {"kv_reuse_every_i_layer", "[-1]"},
    {"num_kv_shared_layers", "[0]"},
    {"attn_layer_idx", "[]"},
    {"attn_cfg", "[{}]"},
    {"ssm_cfg", "[{}]"},
    // attention
    {"sliding_window", "[]"},
    {"use_sliding_window", "[false]"},
    {"sliding_window_pattern", "[]"},
    {"attention_chunk_size", "[]"},
    {"layer_types", "[\"full_attention\"]"},
    {"is_causal", "[true]"},
    {"use_bidirectional_attention", "[false]"},
    {"attention_bias", "[false]"},
    {"attention_sink", "[false]"},
    {"attn_logit_softcapping", "[]"},
    {"clip_qkv", "[]"},
    {"query_pre_attn_scalar", "[]"},
    {"qk_layernorm", "[false]"},
    {"qk_norm", "[false]"},
    {"use_qk_norm", "[false]"},
    {"kq_norm", "[\"none\"]"},
    // positions
    {"alibi", "[false]"},
    {"use_alibi", "[false]"},
    {"position_embedding_type", "[\"rope\", \"rotary\", \"absolute\"]"},
    {"no_rope_layers", "[1]"},
    {"rope_interleaved", "[false]"},
    {"rope_pct", "[1]"},
    {"rotary_pct", "[1]"},
    {"partial_rotary_factor", "[1]"},
    {"mrope_section", "[]"},
    {"mrope_interleaved", "[false]"},
    // factors, activations, norms
    {"attention_multiplier", "[]"},
    {"embedding_multiplier", "[1]"},
    {"residual_multiplier", "[1]"},
    {"lm_head_multiplier", "[1]"},
    {"logits_scaling", "[1]"},
    {"logit_scale", "[1]"},
    {"scale_emb", "[1]"},
    {"scale_depth", "[]"},
    {"final_logit_softcapping", "[]"},
    {"hidden_activation", "[\"silu\", \"swish\"]"},
    {"mlp_bias", "[false]"},
    {"rms_norm", "[true]"},
    {"norm_after", "[false]"},
    // weights in another form than this engine reads
    {"quantization", "[]"},
    {"compression_config", "[]"},
};

}  // namespace

field_kind kind_of_field(std::string_view name, const nlohmann::json& value) {
  if (name.starts_with('_') || std::ranges::find(passed_over, name) != std::end(passed_over)) return field_kind::passed_over;
  const auto at = std::ranges::find(refused, name, &telling_field::name);
  if (at == std::end(refused)) return field_kind::unknown;
  const nlohmann::json harmless = nlohmann::json::parse(at->harmless);
  const auto passes = [&](const nlohmann::json& each) {
    return each.is_null() || std::ranges::find(harmless, each) != harmless.end();
  };
  const bool all = value.is_array() ? std::ranges::all_of(value, passes) : passes(value);
  return all ? field_kind::passed_over : field_kind::refused;
}

}  // namespace programs
