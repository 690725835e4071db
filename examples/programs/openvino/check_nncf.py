"""Does NNCF store what compress stores?   check_nncf.py KLENS-OPENVINO MODEL.xml TOKENS.safetensors

Plans a mix of all schemes that both have, one after the other over the layers; compresses the model by klens-openvino, and by one
pass of NNCF for each scheme over the layers that the plan gives it; and compares the files' sizes, the type in which each matrix
lies, and the logits. Needs nncf==3.4.0.
"""

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import nncf
import numpy as np
import openvino as ov

SCHEMES = {
    "int4-signed-g64": dict(mode=nncf.CompressWeightsMode.INT4_SYM, group_size=64),
    "int8-signed-channel": dict(mode=nncf.CompressWeightsMode.INT8_SYM),
    "int4-asym-channel": dict(mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=-1),
    "int8-asym-channel": dict(mode=nncf.CompressWeightsMode.INT8_ASYM),
}
FOUR_BITS = dict(ratio=1.0, all_layers=True, backup_mode=nncf.BackupMode.NONE)
LENGTH = 128


def stored_bytes(scheme, rows, columns):
    bits = 4 if scheme.startswith("int4") else 8
    groups = columns // 64 if scheme.endswith("g64") else 1
    zeros = (groups * bits + 7) // 8 if "asym" in scheme else 0
    return rows * ((columns * bits + 7) // 8 + 2 * groups + zeros)


def users_past_conversions(output):
    for port in output.get_target_inputs():
        node = port.get_node()
        if node.get_type_name() == "Convert":
            yield from users_past_conversions(node.output(0))
        else:
            yield node


def matrices(model):
    """Name and shape of each weight matrix [out x in], and the nodes that use it."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or len(node.shape) != 2 or 1 in node.shape:
            continue
        users = list(users_past_conversions(node.output(0)))
        if any(user.get_type_name() == "MatMul" for user in users):
            yield node.get_friendly_name().removesuffix("_compressed"), node.shape, [user.get_friendly_name() for user in users]


def by_nncf(model, plan):
    users = {name: used_by for name, _, used_by in matrices(model)}
    for scheme, options in SCHEMES.items():
        wanted = {user for name, used_by in users.items() if plan[name] == scheme for user in used_by}
        others = [op.get_friendly_name() for op in model.get_ordered_ops()
                  if op.get_type_name() in ("MatMul", "Gather", "Convolution", "GroupConvolution")
                  and op.get_friendly_name() not in wanted]
        model = nncf.compress_weights(model, ignored_scope=nncf.IgnoredScope(names=others, validate=False), **options,
                                      **(FOUR_BITS if scheme.startswith("int4") else {}))
    return model


def compressed_types(model):
    """How many constants there are of each type that compression makes."""
    counts = {}
    for node in model.get_ordered_ops():
        kind = node.get_element_type().get_type_name() if node.get_type_name() == "Constant" else ""
        if kind in ("i4", "u4", "i8", "u8"):
            counts[kind] = counts.get(kind, 0) + int(np.prod(node.shape))
    return counts


def logits(core, model, tokens):
    settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    return core.compile_model(model, "CPU", settings)(tokens)[0]


def tokens_of(path):
    raw = Path(path).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8:8 + size])["input_ids"]
    begin, end = entry["data_offsets"]
    kind = {"I64": np.int64, "I32": np.int32}[entry["dtype"]]
    return np.frombuffer(raw[8 + size + begin:8 + size + end], kind).reshape(-1)[:2 * LENGTH].astype(np.int64).reshape(2, LENGTH)


def main(program, model_path, tokens_path):
    nncf.set_log_level(logging.ERROR)
    core = ov.Core()
    original = core.read_model(model_path)
    tokens = tokens_of(tokens_path)
    plan, size = {}, 0
    for index, (name, (rows, columns), _) in enumerate(matrices(original)):
        plan[name] = list(SCHEMES)[index % len(SCHEMES)]
        size += stored_bytes(plan[name], rows, columns)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        document = {"format": "klens-plan", "version": 1, "allocator": "turns", "budget_bytes": size, "bytes": size,
                    "bits_per_weight": 0, "layers": plan, "predicted": {}}
        (folder / "plan.json").write_text(json.dumps(document), encoding="utf-8")
        subprocess.run([program, "compress", model_path, "--plan", folder / "plan.json", "--output", folder / "klens.xml"],
                       check=True, stdout=subprocess.DEVNULL)
        ov.save_model(by_nncf(core.read_model(model_path), plan), folder / "nncf.xml", compress_to_fp16=False)
        sizes = [(folder / f"{by}.bin").stat().st_size for by in ("klens", "nncf")]
        ours, theirs = (core.read_model(folder / f"{by}.xml") for by in ("klens", "nncf"))
        types = [compressed_types(each) for each in (ours, theirs)]
        untouched, own, other = (logits(core, each, tokens) for each in (original, ours, theirs))
    effect, difference = np.abs(own - untouched).max(), np.abs(own - other).max()
    print(f"{len(plan)} matrices in {len(SCHEMES)} schemes: {sizes[0]} bytes by klens-openvino, {sizes[1]} by NNCF; logits differ by "
          f"{difference:.3g} at most, from the untouched model's by {effect:.3g}")
    print(f"weights and zero points by type: {types[0]} and {types[1]}")
    # Rounding errors of products over as many columns as there are in all, in units of the largest logit.
    columns = sum(shape[1] for _, shape, _ in matrices(original))
    bound = columns * 2.0**-24 * np.abs(own).max()
    small = abs(sizes[0] - sizes[1]) <= 16 * len(plan)  # shapes of groups, and equal constants that are written once
    return 0 if plan and small and types[0] == types[1] and difference <= bound < effect else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
