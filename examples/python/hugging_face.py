"""Which matrices of a published checkpoint suffer from 4-bit weights, and what fits into 5 bits a weight?"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import klens

data = Path(__file__).resolve().parent.parent / "data"  # any folder or name that from_pretrained takes, and its tokens
model = AutoModelForCausalLM.from_pretrained(data / "wikitext-hybrid-4m", dtype=torch.float32)
tokens = load_file(data / "wikitext2-calibration.safetensors")["input_ids"][: 16 * 256].reshape(16, 256)

scores = klens.rank_layers(model, tokens, schemes=["int4-g32", "int8-channel"], method="local")
for each in scores.ranked("int4-g32")[:3]:
    print(f"{each['layer']:<45} {each['metrics']['kl']['mean']:.2g} nats/token")

plan = scores.plan("5bpw", together=["*q_proj", "*k_proj", "*v_proj"])
print(f"{plan.bits_per_weight:.2f} bits a weight; lm_head as {plan.layers['lm_head.weight']}")
plan.apply_(model)  # the weights are now what storage would give back
