"""Does another engine score a model as klens rank does?   compare_scores.py KLENS.json OTHER.json [TOLERANCE]

KL of every candidate must agree within 1 %, or that share, and the order wherever neighbours differ by more; for every scheme it
prints Kendall's tau and the largest difference. What a candidate does to its own stage (local_energy, of the methods local and
refine) must agree within 0.1 %; what is predicted of it is a mean over random draws, and differs by about one per cent where last bits do.
Layers are paired by name: klens-llama's are those that llama.cpp's converter gives, klens-openvino's
end in those of the Hugging Face folder; a tied head goes by the name of its embedding in both.
"""

import json
import re
import sys

ENERGY_TOLERANCE = 0.001
TOLERANCE = float(sys.argv[3]) if len(sys.argv) > 3 else 0.01
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
GGUF_KINDS = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
    "in_proj": "ssm_in", "x_proj": "ssm_x", "dt_proj": "ssm_dt", "out_proj": "ssm_out",
}


def gguf_name(name):
    if name in (HEAD, EMBEDDING):
        return "token_embd.weight"
    block, kind = re.fullmatch(r"model\.layers\.(\d+)\.(?:.*\.)?(\w+)\.weight", name).groups()
    return f"blk.{block}.{GGUF_KINDS[kind]}.weight"


def is_same_layer(name, other):
    """Whether another engine's layer is the one of this name in the Hugging Face folder."""
    if other == "token_embd.weight" or other.startswith("blk."):
        return gguf_name(name) == other
    return ("." + other).endswith("." + (EMBEDDING if name == HEAD else name))


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)["candidates"]


def kl_of(candidates):
    return {(each["layer"], each["scheme"]): each["metrics"]["kl"]["mean"] for each in candidates}


def energies_of(candidates):
    return {(each["layer"], each["scheme"]): each["local_energy"] for each in candidates if each.get("local_energy")}


def kendall_tau(pairs):
    agreeing = sum((a - c) * (b - d) > 0 for i, (a, b, _) in enumerate(pairs) for c, d, _ in pairs[:i])
    return 2 * agreeing / (len(pairs) * (len(pairs) - 1) / 2) - 1


def main():
    of_klens, of_other = read(sys.argv[1]), read(sys.argv[2])
    reference, observed, energies = kl_of(of_klens), kl_of(of_other), energies_of(of_other)
    problems = []
    if len(observed) != len(reference) or not reference:
        problems.append(f"{len(reference)} candidates by klens, {len(observed)} by the other")
    for wanted in sorted({scheme for _, scheme in reference}):
        for (layer, scheme), energy in energies_of(of_klens).items():
            same = [value for (name, of), value in energies.items() if of == scheme and is_same_layer(layer, name)]
            if scheme == wanted and (len(same) != 1 or not abs(same[0] / energy - 1) <= ENERGY_TOLERANCE):
                problems.append(f"{layer} as {scheme}: local energy {energy:.6g} by klens, {same} by the other")
        pairs = []  # klens, the other, layer
        for (layer, scheme), kl in reference.items():
            if scheme != wanted:
                continue
            same = [value for (name, of), value in observed.items() if of == scheme and is_same_layer(layer, name)]
            if len(same) != 1:
                problems.append(f"{layer} as {scheme}: {len(same)} such candidates by the other")
                continue
            if not abs(same[0] / kl - 1) <= TOLERANCE:
                problems.append(f"{layer} as {scheme}: kl {kl:.6g} by klens, {same[0]:.6g} by the other")
            pairs.append((kl, same[0], layer))
        pairs.sort(reverse=True)
        for (kl, own, layer), (next_kl, next_own, next_layer) in zip(pairs, pairs[1:]):
            if kl > next_kl * (1 + TOLERANCE) and own <= next_own:
                problems.append(f"{wanted}: {layer} and {next_layer} change places")
        if len(pairs) > 1:
            difference = max(abs(own / kl - 1) for kl, own, _ in pairs)
            print(f"{wanted}: {len(pairs)} layers, tau {kendall_tau(pairs):.4f}, kl differs by {100 * difference:.3g} % at most")
    for each in problems:
        print(each)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
