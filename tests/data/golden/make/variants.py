# Tiny random models of every type in the variants that change what is computed, with the logits of Hugging Face transformers
# (made with transformers 5.23, PyTorch 2.15, float32; those of LATER with transformers 5.24, in float64).
#   python3 variants.py OUTPUT_FOLDER [NAME...]
import os
import sys

import torch
import transformers as hf
from safetensors.torch import save_file

torch.set_num_threads(1)
hf.utils.logging.disable_progress_bar()
MAMBA = dict(hidden_size=20, num_hidden_layers=2, state_size=6)
MAMBA2 = dict(hidden_size=24, num_hidden_layers=2, state_size=10, head_dim=8, num_heads=6, n_groups=3, chunk_size=8)
JAMBA = dict(hidden_size=24, intermediate_size=28, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, num_experts=1,
             num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=5)
LLAMA = dict(hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             max_position_embeddings=24)
FALCON = dict(hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, mamba_d_ssm=32,
              mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=6, mamba_chunk_size=8)
BAMBA = dict(hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
             attn_layer_indices=[1], mamba_n_heads=6, mamba_d_head=8, mamba_n_groups=3, mamba_d_state=6, mamba_chunk_size=8)
PAIRS = 6  # of a Llama head here
VARIANTS = {
    "mamba_biases": ("Mamba", MAMBA, dict(use_bias=True, use_conv_bias=False, expand=3, conv_kernel=3, tie_word_embeddings=False)),
    "mamba_inner_width": ("Mamba", MAMBA, dict(intermediate_size=34, time_step_rank=7, layer_norm_epsilon=1e-2)),
    "mamba2_biases_tied": ("Mamba2", MAMBA2, dict(use_bias=True, use_conv_bias=False, tie_word_embeddings=True)),
    "mamba2_step_limit": ("Mamba2", MAMBA2, dict(n_groups=1, time_step_limit=(0.1, 0.6), conv_kernel=2)),
    "jamba_biases_tied": ("Jamba", JAMBA, dict(mamba_proj_bias=True, mamba_conv_bias=False, tie_word_embeddings=True)),
    "jamba_experts": ("Jamba", JAMBA, dict(num_experts=5, num_experts_per_tok=3, expert_layer_period=1, expert_layer_offset=0)),
    "llama_biases_tied": ("Llama", LLAMA, dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=8)),
    "llama_linear": ("Llama", LLAMA, dict(rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=500.0))),
    "llama_dynamic": ("Llama", LLAMA, dict(rope_parameters=dict(rope_type="dynamic", factor=3.0, rope_theta=500.0))),
    "llama_yarn": ("Llama", LLAMA, dict(rope_parameters=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=8, rope_theta=500.0, beta_fast=4, beta_slow=0.5))),
    "llama_yarn_mscale": ("Llama", LLAMA, dict(rope_parameters=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=12, rope_theta=500.0, truncate=False, mscale=1.3,
        mscale_all_dim=0.7))),
    "llama_longrope_short": ("Llama", LLAMA, dict(rope_parameters=dict(
        rope_type="longrope", short_factor=[1 + i / 9 for i in range(PAIRS)], long_factor=[2 + i / 5 for i in range(PAIRS)],
        original_max_position_embeddings=64, factor=4.0, rope_theta=500.0))),
    "llama_longrope_long": ("Llama", LLAMA, dict(rope_parameters=dict(
        rope_type="longrope", short_factor=[1 + i / 9 for i in range(PAIRS)], long_factor=[2 + i / 5 for i in range(PAIRS)],
        original_max_position_embeddings=16, rope_theta=500.0))),
    "llama_llama3": ("Llama", LLAMA, dict(rope_parameters=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=24,
        rope_theta=500.0))),
    "falcon_h1_norm_then_gate": ("FalconH1", FALCON, dict(mamba_rms_norm=True, mamba_norm_before_gate=True, mamba_d_ssm=None)
                                 | dict(mamba_n_heads=6, mamba_d_head="auto", ssm_multipliers=[.5, 1.5, .7, 1.2, .9])),
    "falcon_h1_gate_then_norm": ("FalconH1", FALCON, dict(mamba_rms_norm=True, mamba_norm_before_gate=False,
                                                          time_step_limit=(0.2, 0.9), key_multiplier=0.4)),
    "falcon_h1_biases_tied": ("FalconH1", FALCON, dict(attention_bias=True, mlp_bias=True, mamba_proj_bias=True, projectors_bias=True,
                                                       mamba_conv_bias=False, tie_word_embeddings=True, lm_head_multiplier=0.5,
                                                       embedding_multiplier=2.0, mlp_multipliers=[.7, 1.4])),
    "bamba_biases_tied": ("Bamba", BAMBA, dict(mamba_proj_bias=True, attention_bias=True, mlp_bias=True, mamba_conv_bias=False,
                                               tie_word_embeddings=True)),
    "bamba_quarter_turn": ("Bamba", BAMBA, dict(attn_layer_indices=[0, 1], rope_parameters=dict(
        rope_type="default", rope_theta=100.0, partial_rotary_factor=0.25))),
    "mamba_one_tap": ("Mamba", MAMBA, dict(hidden_size=33, conv_kernel=1, expand=1, state_size=17)),
    "mamba2_odd_heads": ("Mamba2", MAMBA2, dict(hidden_size=30, expand=1, num_heads=10, head_dim=3, n_groups=5, state_size=5)),
    "jamba_head_width": ("Jamba", JAMBA, dict(num_attention_heads=3, num_key_value_heads=1, head_dim=16, num_experts=4,
                                              num_experts_per_tok=1, expert_layer_period=3, expert_layer_offset=2, mamba_expand=1)),
    "llama_longrope_shrunk": ("Llama", LLAMA, dict(rope_parameters=dict(
        rope_type="longrope", short_factor=[1 + i / 9 for i in range(PAIRS)], long_factor=[2 + i / 5 for i in range(PAIRS)],
        original_max_position_embeddings=16, factor=0.5, attention_factor=1.2, rope_theta=1e6))),
    "falcon_h1_every_factor": ("FalconH1", FALCON, dict(
        num_attention_heads=6, head_dim=6, attention_in_multiplier=0.6, attention_out_multiplier=1.7, ssm_in_multiplier=1.4,
        ssm_out_multiplier=0.5, key_multiplier=1.3, lm_head_multiplier=0.8, embedding_multiplier=2.5, mlp_multipliers=[.5, 1.8],
        ssm_multipliers=[1.3, .6, 1.8, .4, 1.1], rope_parameters=dict(rope_type="linear", factor=3.0, rope_theta=200.0))),
    "bamba_no_attention": ("Bamba", BAMBA, dict(attn_layer_indices=None, mamba_n_groups=1, mamba_d_conv=2, time_step_limit=(0.1, 0.5))),
}
PLAIN = dict(hidden_size=24, intermediate_size=28, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1)
GRANITE = PLAIN | dict(shared_intermediate_size=20, layer_types=["mamba", "attention", "mamba"], mamba_n_heads=6, mamba_d_head=8,
                       mamba_n_groups=2, mamba_d_state=6, mamba_chunk_size=8, num_local_experts=0, num_experts_per_tok=0)
DELTA = PLAIN | dict(head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=6, linear_value_head_dim=5,
                     linear_conv_kernel_dim=3, layer_types=["linear_attention", "full_attention", "linear_attention"])
ZAMBA = PLAIN | dict(num_attention_heads=2, num_key_value_heads=2, num_hidden_layers=5, mamba_d_state=6, n_mamba_heads=6,
                     mamba_ngroups=2, mamba_headdim=8, chunk_size=8, adapter_rank=3,
                     layers_block_type=["mamba", "hybrid", "hybrid", "mamba", "hybrid"])
LATER = {
    "qwen2_windows": ("Qwen2", PLAIN, dict(use_sliding_window=True, sliding_window=7, max_window_layers=1)),
    "qwen3_biases_tied": ("Qwen3", PLAIN, dict(head_dim=8, attention_bias=True, tie_word_embeddings=True)),
    "mistral_window": ("Mistral", PLAIN, dict(sliding_window=9)),
    "smollm3_windows": ("SmolLM3", PLAIN, dict(no_rope_layer_interval=2, use_sliding_window=True, sliding_window=5,
                                               tie_word_embeddings=False)),
    "gemma3_linear": ("Gemma3", PLAIN, dict(head_dim=8, sliding_window=6, query_pre_attn_scalar=10, layer_types=[
        "sliding_attention", "full_attention", "sliding_attention"], rope_parameters=dict(
            sliding_attention=dict(rope_type="default", rope_theta=100.0),
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=5000.0)))),
    "falcon_mamba_biases": ("FalconMamba", MAMBA, dict(use_bias=True, use_conv_bias=False, mixer_rms_eps=1e-3,
                                                       tie_word_embeddings=False)),
    "granitemoehybrid_dense": ("GraniteMoeHybrid", GRANITE, dict(position_embedding_type="rope", embedding_multiplier=2.0,
                                                                 logits_scaling=3.0, residual_multiplier=0.6,
                                                                 attention_multiplier=0.2, attention_bias=True)),
    "granitemoehybrid_moe": ("GraniteMoeHybrid", GRANITE, dict(num_local_experts=3, num_experts_per_tok=2,
                                                               tie_word_embeddings=True)),
    "lfm2_biases": ("Lfm2", PLAIN, dict(conv_bias=True, conv_L_cache=4, layer_types=["conv", "full_attention", "conv"],
                                        block_multiple_of=8, intermediate_size=40)),
    "nemotron_h_biases": ("NemotronH", {k: v for k, v in PLAIN.items() if k != "num_hidden_layers"}, dict(
        layers_block_type=["linear_attention", "mlp", "full_attention"], head_dim=8, mamba_num_heads=4, mamba_head_dim=6,
        n_groups=2, ssm_state_size=5, chunk_size=8, use_bias=True, mlp_bias=True, time_step_min=0.2)),
    "qwen3_next_experts": ("Qwen3Next", DELTA, dict(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=12,
                                                    shared_expert_intermediate_size=10, mlp_only_layers=[1])),
    "qwen3_5_tied": ("Qwen3_5", DELTA, dict(tie_word_embeddings=True, attention_bias=True)),
    "olmo_hybrid_positive": ("OlmoHybrid", DELTA, dict(linear_num_value_heads=2, linear_value_head_dim=6,
                                                       linear_allow_neg_eigval=False)),
    "zamba2_two_blocks": ("Zamba2", ZAMBA, dict(num_mem_blocks=2, mamba_ngroups=3, use_shared_attention_adapter=True, use_mem_rope=True)),
    "nemotron_h_experts": ("NemotronH", {k: v for k, v in PLAIN.items() if k != "num_hidden_layers"}, dict(
        layers_block_type=["moe", "linear_attention", "moe"], head_dim=8, mamba_num_heads=4, mamba_head_dim=6, n_groups=2,
        ssm_state_size=5, chunk_size=8, n_routed_experts=6, n_group=3, topk_group=2, num_experts_per_tok=3, moe_intermediate_size=7,
        moe_shared_expert_intermediate_size=9, moe_latent_size=10, routed_scaling_factor=2.5, mlp_bias=True)),
}
CONFIGS = {"Gemma3": "Gemma3TextConfig", "Qwen3_5": "Qwen3_5TextConfig"}


def gated_delta_rule(query, key, value, g, beta, **_):
    """The recurrence in float64; transformers' own rounds to float32 within, which costs up to 5e-5 of the largest logit."""
    heads = value.shape[2] // key.shape[2]
    query, key = (x.repeat_interleave(heads, 2) / (x.repeat_interleave(heads, 2).square().sum(-1, keepdim=True) + 1e-6).sqrt()
                  for x in (query, key))
    memory = torch.zeros(key.shape[0], key.shape[2], key.shape[3], value.shape[-1], dtype=torch.float64)
    out = torch.zeros_like(value)
    for t in range(value.shape[1]):
        memory = memory * g[:, t, :, None, None].exp()
        learned = beta[:, t, :, None] * (value[:, t] - (memory * key[:, t, :, :, None]).sum(-2))
        memory = memory + key[:, t, :, :, None] * learned[:, :, None, :]
        out[:, t] = (memory * query[:, t, :, :, None]).sum(-2) / key.shape[-1] ** 0.5
    return out, None


def randomize(model, generator):
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.dim() == 1 or "A_log" in name:
            weight.data += 0.12 * noise
        else:
            weight.data = noise * 1.2 / weight.shape[-1] ** 0.5
    for name, buffer in model.named_buffers():
        if "correction" in name:
            buffer += 0.2 * torch.randn(buffer.shape, generator=generator)


def main():
    for seed, (name, (kind, base, change)) in enumerate((VARIANTS | LATER).items()):
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        fields = base | change | dict(vocab_size=53, pad_token_id=None, bos_token_id=0, eos_token_id=0)
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model = getattr(hf, kind + "ForCausalLM")(getattr(hf, CONFIGS.get(kind, kind + "Config"))(**fields)).eval()
        randomize(model, generator)
        ids = torch.randint(0, 53, (1, 30), generator=generator)
        folder = os.path.join(sys.argv[1], name)
        model.save_pretrained(folder)
        with torch.no_grad():
            if name in LATER:
                model.double().set_experts_implementation("eager")
                module = sys.modules[type(model).__module__]
                if hasattr(module, "torch_chunk_gated_delta_rule"):
                    module.torch_chunk_gated_delta_rule = gated_delta_rule
            logits = model(ids, use_cache=False).logits.float()
        os.remove(os.path.join(folder, "generation_config.json"))
        save_file({"input_ids": ids, "logits": logits.contiguous()}, os.path.join(folder, "golden.safetensors"))


if __name__ == "__main__":
    main()
