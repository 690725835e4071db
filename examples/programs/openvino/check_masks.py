"""Does padding change nothing, and does an unmeasured layer stay as it is?   check_masks.py KLENS-OPENVINO IR TOKENS

Ranks and profiles the IR on rows of 64 tokens, and on the same rows with 64 tokens of padding behind each that an attention_mask
leaves out: scores, KL and perplexity must agree, and the positions that count must be said. Then stores a plan of the scores as
if no logit had moved for one matrix.
"""

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS, WIDE, MORE = 4, 64, 64  # the shipped IR wants multiples of 64


def read_ids(path):
    raw = Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    entry = json.loads(raw[8:8 + size])["input_ids"]
    first, end = entry["data_offsets"]
    of_type = {"I32": "i", "I64": "q"}[entry["dtype"]]
    body = raw[8 + size + first:8 + size + end]
    return struct.unpack(f"<{len(body) // struct.calcsize('<' + of_type)}{of_type}", body)


def write(path, wide, **columns):
    header, body = {}, b""
    for name, values in columns.items():
        data = struct.pack(f"<{len(values)}q", *values)
        header[name] = {"dtype": "I64", "shape": [len(values) // wide, wide], "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def write_both(folder, name, ids):
    rows = [list(ids[r * WIDE:(r + 1) * WIDE]) for r in range(ROWS)]
    write(folder / f"{name}-plain", WIDE, input_ids=sum(rows, []))
    write(folder / f"{name}-padded", WIDE + MORE, input_ids=sum((row + [3] * MORE for row in rows), []),
          attention_mask=sum(([1] * WIDE + [0] * MORE for _ in rows), []))


def main(program, model, tokens):
    program, model = str(Path(program).resolve()), str(Path(model).resolve())
    ids = read_ids(tokens)
    said = f"{ROWS} sequences of {WIDE + MORE} tokens, {ROWS * MORE} of them padding"
    wrong = []

    def alike(what, one, other):
        if not abs(one - other) <= 1e-3 * abs(one):
            wrong.append(f"{what}: {one} without padding, {other} with it")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_both(folder, "calibration", ids)
        write_both(folder, "held-out", ids[ROWS * WIDE:])

        def run(*words):
            done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (words, done.stderr)
            return done.stdout

        scores = {}
        for kind in ("plain", "padded"):
            text = run("rank", model, "--tokens", f"calibration-{kind}", "--metrics", "kl", "--schemes",
                       "int4-signed-g64,int8-signed-channel", "--layers", r"layers\.0\.", "--output", f"{kind}.json")
            scores[kind] = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
            if kind == "padded" and f"{said} ({ROWS * WIDE} positions)" not in text:
                wrong.append("rank does not say how many positions count")
        for one, other in zip(scores["plain"]["candidates"], scores["padded"]["candidates"]):
            alike(f"{one['layer']} as {one['scheme']}", one["metrics"]["kl"]["mean"], other["metrics"]["kl"]["mean"])

        # A plan with one layer in 8 bits, and one of which nothing is known.
        first, second = sorted({each["layer"] for each in scores["plain"]["candidates"]})[:2]
        sizes = {(each["layer"], each["scheme"]): each["bytes"] for each in scores["plain"]["candidates"]}
        shape = next(each["shape"] for each in scores["plain"]["candidates"] if each["layer"] == second)
        size = sizes[first, "int8-signed-channel"] + 4 * shape[0] * shape[1]
        why = "its change reached no logit"
        (folder / "plan.json").write_text(json.dumps({
            "format": "klens-plan", "version": 1, "allocator": "test", "budget_bytes": size, "bytes": size, "bits_per_weight": 8,
            "layers": {first: "int8-signed-channel", second: "f32"}, "predicted": {},
            "unknown": [{"layer": second, "scheme": "int8-signed-channel", "why": why, "assumed_harmless": False}]}), encoding="utf-8")
        text = run("compress", model, "--plan", "plan.json", "--output", "small.xml")
        if f"{second} gets f32: as int8-signed-channel {why}" not in text:
            wrong.append(f"compress does not say that nothing is known of {second}")

        profiles = {}
        for kind, length in (("plain", WIDE), ("padded", WIDE + MORE)):
            text = run("profile", model, "small.xml", "--runs", "4", "--length", str(length), "--tokens", f"held-out-{kind}", "--output",
                       f"profile-{kind}.json")
            profiles[kind] = json.loads((folder / f"profile-{kind}.json").read_text(encoding="utf-8"))
            if profiles[kind]["tokens"]["positions"] != ROWS * WIDE:
                wrong.append(f"profile counts {profiles[kind]['tokens']['positions']} positions")
            if kind == "padded" and said not in text:
                wrong.append("profile does not say that tokens are padding")
        for one, other in zip(profiles["plain"]["models"], profiles["padded"]["models"]):
            alike(f"perplexity of {one['name']}", one["perplexity"], other["perplexity"])
            alike(f"kl of {one['name']}", one["kl"], other["kl"])
    for each in wrong:
        print(each)
    print("masks: " + (f"{len(wrong)} wrong" if wrong else "padding changes nothing, and what nobody measured stays as it is"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
