#include "model_types.hpp"

#include <string>
#include <string_view>

namespace programs {
namespace {

struct model_type {
  std::string_view name;
  architecture (*build)(const config&, checkpoint&);
};

constexpr model_type known[] = {{"bamba", build_bamba}, {"falcon_h1", build_falcon_h1}, {"jamba", build_jamba},
                                {"llama", build_llama}, {"mamba", build_mamba},         {"mamba2", build_mamba2}};

/// Fields that any config may have and that change no logit: how the file came about, training, text generation, caching.
void ignore_common(const config& fields) {
  fields.ignore({"architectures",
                 "transformers_version",
                 "_name_or_path",
                 "name_or_path",
                 "auto_map",
                 "_commit_hash",
                 "dtype",
                 "torch_dtype",
                 "initializer_range",
                 "attention_dropout",
                 "use_cache",
                 "cache_implementation",
                 "_attn_implementation",
                 "_attn_implementation_autoset",
                 "attn_implementation",
                 "bos_token_id",
                 "eos_token_id",
                 "pad_token_id",
                 "sep_token_id",
                 "decoder_start_token_id",
                 "num_logits_to_keep",
                 "calc_logits_for_entire_prompt",
                 "max_position_embeddings",
                 "return_dict",
                 "output_hidden_states",
                 "output_attentions",
                 "torchscript",
                 "id2label",
                 "label2id",
                 "problem_type",
                 "task_specific_params",
                 "finetuning_task",
                 "tokenizer_class",
                 "prefix",
                 "max_length",
                 "min_length",
                 "do_sample",
                 "temperature",
                 "top_k",
                 "top_p",
                 "num_beams",
                 "repetition_penalty",
                 "length_penalty",
                 "no_repeat_ngram_size",
                 "early_stopping",
                 "num_return_sequences",
                 "use_bfloat16",
                 "tf_legacy_loss",
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
                 "unsloth_version",
                 "unsloth_fixed"});
  for (const char* const unsupported : {"is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder"})
    fields.require(unsupported, false);
  if (fields.has("quantization_config"))
    fields.refuse("quantization_config", "is there; name the folder of the unquantized weights");
}

}  // namespace

architecture build_model(const config& fields, checkpoint& tensors) {
  const std::string name = fields.text("model_type", "");
  for (const model_type& each : known) {
    if (each.name != name) continue;
    ignore_common(fields);
    architecture built = each.build(fields, tensors);
    fields.refuse_rest();
    return built;
  }
  std::string all;
  for (const model_type& each : known) all += (all.empty() ? "" : ", ") + std::string(each.name);
  fields.refuse("model_type", "is " + klens::detail::name_text(name) + "; klens knows " + all);
}

}  // namespace programs
