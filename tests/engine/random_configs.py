# Random small configurations of every model type: klens' logits beside those of transformers, in float64 where it computes so.
#   python3 random_configs.py KLENS_PROGRAM [--count 20] [--types qwen3,...] [--seed 1]
# Needs torch, transformers 5.24 and safetensors; without them it says so and ends with code 77, which ctest takes for skipped.
# In ctest it is engine_random_configs, with the python3 of -D KLENS_PYTHON=...
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers as hf
    from safetensors.torch import load_file, save_file
except ImportError as missing:
    print("skipped:", missing)
    sys.exit(77)

if len(sys.argv) > 1 and not sys.argv[1].startswith("-") and not os.path.exists(sys.argv[1]):
    print("skipped: there is no", sys.argv[1])
    sys.exit(77)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../data/golden/make"))
hf.utils.logging.disable_progress_bar()
hf.utils.logging.set_verbosity_error()
torch.set_num_threads(1)


def attention(r, heads_divide_width=True):
    kv = r.choice([1, 2])
    heads = kv * r.choice([1, 2, 3])
    return dict(num_attention_heads=heads, num_key_value_heads=kv, hidden_size=heads * 4 * r.choice([1, 2, 3]),
                intermediate_size=r.randint(5, 40), num_hidden_layers=r.randint(1, 4))


def kinds(r, layers, names):
    return [r.choice(names) for _ in range(layers)]


def windows(r):
    return dict(use_sliding_window=True, sliding_window=r.randint(1, 40), max_window_layers=r.randint(0, 3)) if r.random() < 0.5 else {}


def rope(r):
    theta = r.choice([50.0, 1e4, 1e6])
    return r.choice([dict(rope_type="default", rope_theta=theta), dict(rope_type="linear", factor=r.choice([2.0, 5.0]), rope_theta=theta),
                     dict(rope_type="yarn", factor=4.0, rope_theta=theta, original_max_position_embeddings=16)])


def mamba2(r, width, expand, names):
    groups = r.choice([1, 2])
    heads = groups * r.choice([1, 2])
    while expand * width % heads:
        heads = groups = 1
    return dict(zip(names, (heads, expand * width // heads, groups, r.randint(1, 20), r.randint(2, 4))))


def delta(r, fields):
    keys = r.choice([1, 2, 3])
    return fields | dict(head_dim=8, linear_num_key_heads=keys, linear_num_value_heads=keys * r.choice([1, 2]),
                         linear_key_head_dim=r.randint(2, 20), linear_value_head_dim=r.randint(2, 20), linear_conv_kernel_dim=r.randint(2, 4))


def both_kinds(r, fields):
    layers = kinds(r, max(2, fields["num_hidden_layers"]), ["linear_attention", "full_attention"])
    layers[:2] = ["linear_attention", "full_attention"]
    return fields | dict(layer_types=layers, num_hidden_layers=len(layers))


def qwen2(r):
    return attention(r) | windows(r) | dict(rope_parameters=rope(r))


def qwen3(r):
    return attention(r) | windows(r) | dict(head_dim=r.choice([4, 6, 10]), attention_bias=r.random() < 0.3, rope_parameters=rope(r))


def mistral(r):
    return attention(r) | dict(sliding_window=r.choice([None, 1, 7, 40]), rope_parameters=rope(r))


def smollm3(r):
    return attention(r) | windows(r) | dict(no_rope_layer_interval=r.randint(1, 4), mlp_bias=r.random() < 0.3)


def gemma3(r):
    fields = attention(r) | dict(head_dim=r.choice([4, 8]), sliding_window=r.randint(1, 40), query_pre_attn_scalar=r.choice([3, 16]))
    return fields | dict(layer_types=kinds(r, fields["num_hidden_layers"], ["sliding_attention", "full_attention"]))


def falcon_mamba(r):
    return dict(hidden_size=r.randint(4, 40), num_hidden_layers=r.randint(1, 3), state_size=r.randint(1, 20), expand=r.randint(1, 3),
                conv_kernel=r.randint(2, 4), use_bias=r.random() < 0.3, time_step_rank=r.choice(["auto", 1, 5]))


def granitemoehybrid(r):
    fields = attention(r)
    experts = r.choice([0, 0, 2, 5])
    fields |= mamba2(r, fields["hidden_size"], 2, ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv"))
    return fields | dict(layer_types=kinds(r, fields["num_hidden_layers"], ["mamba", "attention"]), mamba_expand=2, mamba_chunk_size=8,
                         num_local_experts=experts, num_experts_per_tok=min(experts, 2), shared_intermediate_size=r.randint(3, 30),
                         position_embedding_type=r.choice(["rope", "nope"]), embedding_multiplier=r.choice([1.0, 3.0]),
                         logits_scaling=r.choice([1.0, 4.0]), residual_multiplier=r.choice([1.0, 0.4]), attention_multiplier=0.3)


def lfm2(r):
    fields = attention(r) | dict(conv_L_cache=r.randint(2, 5), block_auto_adjust_ff_dim=r.random() < 0.5, block_multiple_of=4)
    return fields | dict(layer_types=kinds(r, fields["num_hidden_layers"], ["conv", "full_attention"]), conv_bias=r.random() < 0.3)


def nemotron_h(r):
    fields = attention(r)
    layers = kinds(r, fields.pop("num_hidden_layers") + 1, ["linear_attention", "mlp", "full_attention", "moe"])
    fields |= mamba2(r, 24, 1, ("mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel"))
    groups = r.choice([1, 2, 3])
    fields |= dict(n_group=groups, n_routed_experts=groups * r.randint(2, 4), topk_group=r.randint(1, groups), num_experts_per_tok=r.randint(1, 2),
                   moe_intermediate_size=r.randint(3, 20), moe_shared_expert_intermediate_size=r.randint(3, 20),
                   moe_latent_size=r.choice([None, None, 5]), norm_topk_prob=r.random() < 0.7, routed_scaling_factor=r.choice([1.0, 2.5]))
    return fields | dict(layers_block_type=layers, head_dim=r.choice([4, 6]), chunk_size=8, use_bias=r.random() < 0.3,
                         mlp_bias=r.random() < 0.3)


def zamba2(r):
    heads = r.choice([1, 2])
    layers = ["linear_attention"] + kinds(r, r.randint(1, 4), ["linear_attention", "hybrid"]) + ["hybrid"]
    fields = dict(num_attention_heads=heads, num_key_value_heads=heads, hidden_size=24, intermediate_size=r.randint(5, 40))
    fields |= mamba2(r, 24, 2, ("n_mamba_heads", "mamba_headdim", "mamba_ngroups", "mamba_d_state", "mamba_d_conv"))
    # without tied embeddings transformers does not tie the shared blocks either
    return fields | dict(tie_word_embeddings=True, layers_block_type=layers, num_hidden_layers=len(layers), chunk_size=8,
                         adapter_rank=r.randint(1, 5),
                         num_mem_blocks=r.choice([1, 2]), use_shared_attention_adapter=r.random() < 0.5, use_mem_rope=r.random() < 0.5)


def qwen3_next(r):
    experts = r.choice([2, 5])
    return both_kinds(r, delta(r, attention(r))) | dict(num_experts=experts, num_experts_per_tok=r.randint(1, 2), moe_intermediate_size=7,
                                                        shared_expert_intermediate_size=9, norm_topk_prob=r.random() < 0.7)


def qwen3_5(r):
    return both_kinds(r, delta(r, attention(r)))


def olmo_hybrid(r):
    return both_kinds(r, delta(r, attention(r))) | dict(linear_allow_neg_eigval=r.random() < 0.5)


TYPES = {"qwen2": ("Qwen2", qwen2), "qwen3": ("Qwen3", qwen3), "mistral": ("Mistral", mistral), "smollm3": ("SmolLM3", smollm3),
         "gemma3": ("Gemma3", gemma3), "falcon_mamba": ("FalconMamba", falcon_mamba),
         "granitemoehybrid": ("GraniteMoeHybrid", granitemoehybrid), "lfm2": ("Lfm2", lfm2), "nemotron_h": ("NemotronH", nemotron_h),
         "zamba2": ("Zamba2", zamba2), "qwen3_next": ("Qwen3Next", qwen3_next), "qwen3_5": ("Qwen3_5", qwen3_5),
         "olmo_hybrid": ("OlmoHybrid", olmo_hybrid)}


def cost_of_rounding(model, ids, exact, rule, module, generator):
    """What moving every weight by up to one float32 rounding does to the logits of the float64 model, the most of ten draws: a model
    on which transformers' float32 happened to be lucky is no better known than that."""
    weights = [(each, each.data.clone()) for each in model.parameters()]
    if rule:
        module.torch_chunk_gated_delta_rule, rule = rule, module.torch_chunk_gated_delta_rule
    most = 0.0
    for _ in range(10):
        for each, own in weights:
            each.data = own * (1 + (2 * torch.rand(own.shape, generator=generator, dtype=torch.float64) - 1) * 2.0**-24)
        with torch.no_grad():
            most = max(most, float((model(ids, use_cache=False).logits - exact).abs().max() / exact.abs().max()))
    if rule:
        module.torch_chunk_gated_delta_rule = rule
    return most


def main():
    from variants import CONFIGS, gated_delta_rule, randomize
    options = argparse.ArgumentParser()
    options.add_argument("program")
    options.add_argument("--count", type=int, default=20)
    options.add_argument("--types", default=",".join(TYPES))
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    failed = 0
    for name in options.types.split(","):
        kind, fields_of = TYPES[name]
        for i in range(options.count):
            seed = f"{options.seed} {name} {i}"
            r = random.Random(seed)
            fields = dict(vocab_size=r.randint(11, 60), tie_word_embeddings=r.random() < 0.5, pad_token_id=None, bos_token_id=0,
                          eos_token_id=0) | fields_of(r)
            generator = torch.Generator().manual_seed(r.randint(0, 1 << 30))
            torch.manual_seed(r.randint(0, 1 << 30))
            model = getattr(hf, kind + "ForCausalLM")(getattr(hf, CONFIGS.get(kind, kind + "Config"))(**fields)).eval()
            randomize(model, generator)
            ids = torch.randint(0, fields["vocab_size"], (2, r.choice([1, 2, 17, 45])), generator=generator)
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                model.set_experts_implementation("eager")  # the others want aligned widths, or no float64
                with torch.no_grad():
                    rounded = model(ids, use_cache=False).logits.double()
                    module = sys.modules[type(model).__module__]
                    own_rule = getattr(module, "torch_chunk_gated_delta_rule", None)
                    module.torch_chunk_gated_delta_rule = gated_delta_rule
                    exact = model.double()(ids, use_cache=False).logits
                    module.torch_chunk_gated_delta_rule = own_rule
                save_file({"input_ids": ids}, os.path.join(folder, "tokens.safetensors"))
                out = os.path.join(folder, "logits.safetensors")
                run = subprocess.run([options.program, "logits", folder, "--tokens", os.path.join(folder, "tokens.safetensors"),
                                      "--output", out, "--strict"], capture_output=True, text=True)
                if run.returncode != 0:
                    failed += 1
                    print(f"{seed}: {run.stderr.strip()}\n  {json.dumps(fields)}")
                    continue
                found = load_file(out)["logits"].double()
            largest = exact.abs().max()
            error, own = (float((x - exact).abs().max() / largest) for x in (found, rounded))
            # as for the golden values: 2e-5, or twice what float32 costs transformers where that is more
            if not error <= max(2e-5, 2 * own):
                own = max(own, cost_of_rounding(model, ids, exact, own_rule and gated_delta_rule, module, generator))
            if not error <= max(2e-5, 2 * own):
                failed += 1
                print(f"{seed}: apart by {error:.1e} of the largest logit, float32 by {own:.1e}\n  {json.dumps(fields)}")
        print(f"{name}: {options.count} tried")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
