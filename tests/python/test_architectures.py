"""Small random models of the architectures that transformers has: each runs in stages, and its scores have the same bits as
those of whole forwards."""

import logging

import pytest

import klens

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch
torch.set_num_threads(1)

SIZES = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
MODELS = {
    "Llama": {},
    "Mistral": {"sliding_window": 8},
    "Qwen3": {"head_dim": 8},
    "Gemma2": {"head_dim": 8},
    "Gemma3Text": {"head_dim": 8},
    "SmolLM3": {},
    "GPT2": {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_positions": 64},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Mixtral": {"num_local_experts": 4},
    "Qwen3Moe": EXPERTS,
    "Mamba": {"state_size": 8},
    "Mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2, "expand": 2, "num_hidden_layers": 3},
    "FalconMamba": {"state_size": 8},
    "Jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
              "use_mamba_kernels": False, "mamba_d_state": 8, "mamba_dt_rank": 4},
    "FalconH1": {"head_dim": 8, "mamba_d_ssm": 64, "mamba_chunk_size": 16, **MAMBA2},
    "Bamba": {"attn_layer_indices": [1], **MAMBA2},
    "GraniteMoeHybrid": {"layer_types": ["mamba", "attention", "mamba", "attention"], "shared_intermediate_size": 48,
                         "num_local_experts": 0, **MAMBA2},
    "Qwen3Next": {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
                  "shared_expert_intermediate_size": 24, **EXPERTS},
    "Lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "block_multiple_of": 8},
    "Zamba2": {"mamba_d_state": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
               "num_mem_blocks": 1, "use_mem_rope": True, "attention_head_dim": 16, "attention_hidden_size": 64},
}  # fmt: skip


def compare(model, tokens, monkeypatch, local=True, **arguments):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    staged = klens.rank_layers(model, tokens, schemes="int4-channel", **arguments)
    assert staged.remarks == []
    with monkeypatch.context() as patch:
        patch.setattr("klens._torch.find_blocks", lambda *_: ("", []))
        whole = klens.rank_layers(model, tokens, schemes="int4-channel", **arguments)
    assert "does not run in stages" in whole.remarks[0]
    assert [each["metrics"] for each in staged.candidates] == [each["metrics"] for each in whole.candidates]
    assert staged.forwards < whole.forwards
    if local:
        predicted = klens.rank_layers(model, tokens, schemes="int4-channel", method="local", **arguments)
        assert len(predicted) == len(staged)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_it_runs_in_stages(name, monkeypatch):
    logging.disable(logging.INFO)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(8)
    config = getattr(transformers, name + "Config")(**{**SIZES, **MODELS[name]})
    model = transformers.AutoModelForCausalLM.from_config(config)
    compare(model, torch.randint(3, 97, (2, 20)), monkeypatch)


def test_a_vision_model_runs_in_stages(monkeypatch):
    torch.manual_seed(9)
    config = transformers.ViTConfig(image_size=16, patch_size=4, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                                    num_attention_heads=4, num_labels=10)  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    images = [torch.randn(8, 3, 16, 16) for _ in range(2)]
    # an image is one position, and its hidden states are many: the local methods refuse that
    compare(model, images, monkeypatch, local=False, forward_step=lambda m, batch: m(pixel_values=batch).logits)
