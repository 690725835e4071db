"""Is what cannot work refused?   check_bad_input.py KLENS-OPENVINO DATA-FOLDER

Each command line below must end with exit code 2 and one line on stderr that says what is wrong, and write nothing.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

COLUMNS = 64


def matrix(rows):
    return ops.constant(np.eye(rows, COLUMNS, dtype=np.float32), name=f"matrix{rows}")


def save(path, results, inputs):
    ov.save_model(ov.Model(results, inputs), path, compress_to_fp16=False)


def make_models(folder):
    ids = ops.parameter([-1, -1], np.int64, name="ids")
    hidden = ops.gather(ops.constant(np.ones((16, COLUMNS), np.float32)), ids, np.int32(0))
    logits = ops.matmul(hidden, matrix(16), False, True)
    save(folder / "good.xml", [logits], [ids])
    save(folder / "pooled.xml", [ops.reduce_mean(logits, np.array([1]), False)], [ids])
    mask = ops.parameter([-1, -1, 16], np.float32, name="mask")
    save(folder / "masked.xml", [ops.add(logits, mask)], [ids, mask])
    save(folder / "larger.xml", [ops.matmul(hidden, matrix(17), False, True)], [ids])
    turned = ops.transpose(ops.constant(np.ones((COLUMNS, 16), np.float32)), np.array([1, 0]))
    save(folder / "turned.xml", [ops.matmul(hidden, turned, False, True)], [ids])


def write_plan(path, layer, scheme, size):
    path.write_text(json.dumps({"format": "klens-plan", "version": 1, "allocator": "test", "budget_bytes": size, "bytes": size,
                                "bits_per_weight": 8, "layers": {layer: scheme}, "predicted": {}}), encoding="utf-8")


def main(program, data):
    program, data = (str(Path(each).resolve()) for each in (program, data))
    calibration, held_out = (f"{data}/wikitext2-{name}.safetensors" for name in ("calibration", "held-out"))
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_models(folder)
        size = 16 * (COLUMNS + 2)
        write_plan(folder / "good.json", "matrix16", "int8-channel", size)
        write_plan(folder / "int3.json", "matrix16", "int3-channel", 16 * (24 + 2))
        write_plan(folder / "other.json", "q_proj.weight", "int8-channel", size)
        write_plan(folder / "bytes.json", "matrix16", "int8-channel", size + 1)
        (folder / "torn.json").write_text('{"format": "klens-plan"', encoding="utf-8")

        def run(*words):
            return subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, check=False)

        done = run("compress", "good.xml", "--plan", "good.json", "--output", "small.xml")
        assert done.returncode == 0 and "1 of 1 matrices are read compressed" in done.stdout, done
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

        def compress(model="good.xml", plan="good.json", output="out.xml"):
            return ["compress", model, "--plan", plan, "--output", output]

        def demo(*words):
            return ["demo", *words, "--output", "made"]

        texts = ["--tokens", calibration, "--held-out", held_out]
        for words, said in [
            (compress("small.xml"), "compressed already: 'matrix16' holds i8"),
            (compress("pooled.xml"), "has no logits output"),
            (compress("masked.xml"), "has 2 inputs (ids, mask)"),
            (compress("turned.xml"), "weights of unknown layout"),
            (compress("none.xml"), "there is no such file"),
            (compress("good.json"), "good.json: is no IR"),
            (compress(plan="int3.json"), "cannot store int3-channel, which the plan gives to matrix16"),
            (compress(plan="other.json"), "other.json: has a layer q_proj.weight"),
            (compress(plan="bytes.json"), f"bytes.json: counts {size + 1} bytes"),
            (compress(plan="torn.json"), "torn.json: is not JSON"),
            (compress(output="out.bin"), "an IR is called NAME.xml"),
            (compress(output="none/out.xml"), "none/out.xml"),
            (["rank", "small.xml", "--tokens", calibration, "--output", "s.json"], "compressed already"),
            (["rank", "masked.xml", "--tokens", calibration, "--output", "s.json"], "has 2 inputs"),
            (["rank", "good.xml", "--output", "s.json"], "there are no tokens; name their file (--tokens"),
            (["rank", "good.xml", "--generate", "64", "--tokens", calibration], "--tokens excludes --generate"),
            (["rank", "good.xml", "--generate", "64", "--sequences", "2"], "--sequences excludes --generate"),
            (["rank", "good.xml", "--generate", "64", "--first", "2"], "--first excludes --generate"),
            (["rank", "good.xml", "--generated", "own.safetensors"], "--generated requires --generate"),
            (["profile", "good.xml", "--device", "TPU", "--output", "p.json"], "--device TPU: is not there; there are AUTO, CPU"),
            (["profile", "good.xml", "larger.xml", "--html", "p.html"], "larger.xml: has a vocabulary of 17"),
            (["profile", "good.xml", "--tokens", held_out, "--output", "p.json"], "outside the model's vocabulary of 16"),
            (["profile", "good.xml", "--length", "1", "--tokens", held_out], "no token has a next one"),
            (["profile", "pooled.xml"], "has no logits output"),
            (["profile", "good.xml", "--output", "none/p.json"], "none/p.json"),
            (demo(), "give an IR, or --synthetic"),
            (demo("good.xml", "--synthetic", "llama-130m"), "give an IR, or --synthetic"),
            (demo("--synthetic", "mamba3"), "--synthetic mamba3 is not known"),
            (demo("good.xml"), "an IR needs --tokens"),
            (demo("small.xml", *texts), "compressed already"),
            (demo("good.xml", *texts), "outside the model's vocabulary of 16"),
            (demo("--synthetic", "llama-130m", "--schemes", "int3-g64"), "OpenVINO cannot store int3-g64"),
            (demo("--synthetic", "llama-130m", "--budgets", "many"), "budget 'many' does not start with a number"),
            (demo(f"{data}/wikitext-parallel-2m/ov/model.xml", "--tokens", calibration, "--held-out", calibration),
             "is also calibration text"),
        ]:
            done = run(*words)
            now = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            lines = done.stderr.splitlines()
            if done.returncode != 2 or len(lines) != 1 or said not in lines[0] or now != before or (folder / "made").exists():
                print(f"{' '.join(words)}: exit code {done.returncode}, {done.stderr!r}, "
                      f"{'something' if now != before else 'nothing'} written")
                wrong += 1
    print("bad input: " + (f"{wrong} not refused as they should be" if wrong else "all of it refused"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
