"""Do tokens that an IR made itself give the same scores out of a file?   check_generate.py KLENS-OPENVINO IR"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(program, model):
    program, model = str(Path(program).resolve()), str(Path(model).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def scores(*words):
            done = subprocess.run([program, "rank", model, "--schemes", "int4-g64", "--metrics", "kl", "--layers", r"layers\.0\.",
                                   "--output", "scores.json", *words], cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (words, done.stderr)
            candidates = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["candidates"]
            return [(each["layer"], each["metrics"]["kl"]["mean"]) for each in candidates]

        own = scores("--generate", "128", "--length", "64", "--generated", "own.safetensors")  # the shipped IR wants multiples of 64
        same = own == scores("--tokens", "own.safetensors")
    print("generated tokens: " + ("out of their file they give the same scores" if same else "out of their file they give other scores"))
    return 0 if same and own else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
