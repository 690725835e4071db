"""Do two scores.json of one model in two formats agree?   compare_scores.py KLENS.json OPENVINO.json

KL of every candidate within 1 %, and the same order wherever neighbours differ by more. Layers are paired by name: an IR's names
end in those of the Hugging Face folder, and a tied head goes by the name of its embedding there.
"""

import json
import sys

TOLERANCE = 0.01
IR_NAMES = {"lm_head.weight": "model.embed_tokens.weight"}


def read(path):
    with open(path, encoding="utf-8") as file:
        return {(each["layer"], each["scheme"]): each["metrics"]["kl"]["mean"] for each in json.load(file)["candidates"]}


def main():
    reference, observed = read(sys.argv[1]), read(sys.argv[2])
    schemes = sorted({scheme for _, scheme in reference})
    problems, paired, worst = [], 0, 0.0
    for wanted in schemes:
        pairs = []
        for (layer, scheme), kl in reference.items():
            if scheme != wanted:
                continue
            ending = "." + IR_NAMES.get(layer, layer)
            same = [value for (name, of), value in observed.items() if of == scheme and ("." + name).endswith(ending)]
            if len(same) != 1:
                problems.append(f"{layer} as {scheme}: {len(same)} such candidates in the IR")
                continue
            paired += 1
            difference = abs(same[0] / kl - 1)
            worst = max(worst, difference)
            if not difference <= TOLERANCE:
                problems.append(f"{layer} as {scheme}: kl {kl:.6g} by klens, {same[0]:.6g} by klens-openvino")
            pairs.append((kl, same[0], layer))
        pairs.sort(reverse=True)
        for (kl, own, layer), (next_kl, next_own, next_layer) in zip(pairs, pairs[1:]):
            if kl > next_kl * (1 + TOLERANCE) and own <= next_own:
                problems.append(f"{wanted}: {layer} and {next_layer} change places")
    if len(observed) != len(reference):
        problems.append(f"{len(reference)} candidates by klens, {len(observed)} by klens-openvino")
    for each in problems:
        print(each)
    print(f"{paired} candidates compared: kl differs by {100 * worst:.3g} % at most, {len(problems)} problems")
    return 1 if problems or not paired else 0


if __name__ == "__main__":
    sys.exit(main())
