"""Do two scores.json of one model in two formats agree?   compare_scores.py KLENS.json KLENS-LLAMA.json

For every scheme Kendall's tau of the two rankings by KL, at least 0.97, and the largest difference of a candidate's KL. Layers are
paired by the names that llama.cpp's converter gives to those of a Hugging Face folder.
"""

import json
import re
import sys

LEAST_TAU = 0.97
KINDS = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
    "in_proj": "ssm_in", "x_proj": "ssm_x", "dt_proj": "ssm_dt", "out_proj": "ssm_out",
}


def gguf_name(name):
    if name in ("model.embed_tokens.weight", "lm_head.weight"):
        return "token_embd.weight"
    block, kind = re.fullmatch(r"model\.layers\.(\d+)\.(?:.*\.)?(\w+)\.weight", name).groups()
    return f"blk.{block}.{KINDS[kind]}.weight"


def read(path):
    with open(path, encoding="utf-8") as file:
        return {(each["layer"], each["scheme"]): each["metrics"]["kl"]["mean"] for each in json.load(file)["candidates"]}


def tau(pairs):
    agreeing = sum((a - c) * (b - d) > 0 for i, (a, b) in enumerate(pairs) for c, d in pairs[:i])
    return 2 * agreeing / (len(pairs) * (len(pairs) - 1) / 2) - 1


def main():
    reference = {(gguf_name(layer), scheme): kl for (layer, scheme), kl in read(sys.argv[1]).items()}
    observed = read(sys.argv[2])
    if reference.keys() != observed.keys():
        print("scored by one of the two only:", sorted(reference.keys() ^ observed.keys()))
        return 1
    failed = not reference
    for scheme in sorted({scheme for _, scheme in reference}):
        pairs = [(kl, observed[key]) for key, kl in reference.items() if key[1] == scheme]
        difference = max(abs(b / a - 1) for a, b in pairs)
        print(f"{scheme}: {len(pairs)} layers, tau {tau(pairs):.4f}, kl differs by {100 * difference:.3g} % at most")
        failed = failed or tau(pairs) < LEAST_TAU
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
