"""Does NNCF store what a plan says? nncf_check.py KLENS MODEL CALIBRATION HELD_OUT

Plans a mix of schemes that NNCF has, exports it, lets NNCF carry it out on an OpenVINO model with the layers of MODEL, and
compares the type in which each weight then lies with the plan. Ends with exit code 77 (skipped) where nncf or openvino is
missing: pip install nncf==3.4.0 openvino==2026.4.1.
"""
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import nncf  # noqa: F401
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops
except ImportError as missing:
    print(f"skipped: {missing}; pip install nncf==3.4.0 openvino==2026.4.1 and set KLENS_PYTHON to that python3")
    sys.exit(77)

BITS = {"nf4": 4, "f4e2m1": 4, "i4": 4, "u4": 4, "i8": 8, "u8": 8, "f16": 16, "f32": 16}


def run(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def model_with(layers):
    """One product for each layer, named as in models that were made from PyTorch."""
    random = np.random.default_rng(1)
    parameters, results = [], []
    for layer in layers:
        rows, columns = layer["shape"]
        module = layer["name"].removesuffix(".weight")
        x = ops.parameter([1, columns], np.float32, name="x_" + module)
        weight = ops.constant(random.standard_normal((rows, columns)).astype(np.float32))
        weight.set_friendly_name(f"self.{module}.weight")
        product = ops.matmul(x, weight, False, True)
        product.set_friendly_name(f"__module.{module}/aten::linear/MatMul")
        parameters.append(x)
        results.append(ops.result(product))
    return ov.Model(results, parameters)


def stored_type(product):
    """The type of the constant behind a product's weight, past what brings it back to float."""
    node = product.input_value(1).get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node.get_element_type().get_type_name()


def main(klens, model, calibration, held_out):
    layers = json.loads(run(klens, "layers", model, "--json"))["layers"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        cut = ["--sequences", 1, "--length", 64]
        run(klens, "rank", model, "--tokens", calibration, *cut, "--metrics", "kl", "--output", folder / "scores.json",
            "--schemes", "int4-signed-g64,int4-asym-channel,int8-signed-channel,int8-asym-channel,nf4-g64,mxfp4")
        run(klens, "plan", model, "--scores", folder / "scores.json", "--held-out", held_out, *cut, "--budget", "6bpw",
            "--pin", "dt_proj=int8-asym-channel", "--pin", r"layers\.1\..*out_proj=fp16", "--pin", r"layers\.3\..*x_proj=int4-asym-channel",
            "--pin", r"layers\.5\..*down_proj=int8-signed-channel", "--pin", r"layers\.6\..*down_proj=int4-signed-g64",
            "--pin", r"layers\.2\..*down_proj=nf4-g64", "--pin", r"layers\.0\..*out_proj=mxfp4",
            "--output", folder / "plan.json", "--export", f"nncf={folder / 'exported.py'}")
        plan = json.loads((folder / "plan.json").read_text())["layers"]
        spec = importlib.util.spec_from_file_location("exported", folder / "exported.py")
        exported = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(exported)
        compressed = exported.compress(model_with(layers))

    products = {op.get_friendly_name(): op for op in compressed.get_ops() if op.get_type_name() == "MatMul"}
    wrong, counts = 0, {}
    for layer in layers:
        name = layer["name"]
        kind = stored_type(products[f"__module.{name.removesuffix('.weight')}/aten::linear/MatMul"])
        scheme = plan[name]
        counts[scheme] = counts.get(scheme, 0) + 1
        wanted = {"fp16": 16, "bf16": 16, "mxfp4": 4, "nf4-g64": 4}.get(scheme) or int(scheme[3])
        if scheme in ("mxfp4", "nf4-g64") and kind != {"mxfp4": "f4e2m1", "nf4-g64": "nf4"}[scheme]:
            print(f"{name}: the plan says {scheme}, NNCF stored {kind}")
            wrong += 1
        unsigned = "asym" in scheme
        if BITS[kind] != wanted or (wanted < 16 and kind.startswith("u") != unsigned):
            print(f"{name}: the plan says {scheme}, NNCF stored {kind}")
            wrong += 1
    print(f"{len(layers)} layers, " + ", ".join(f"{count} {scheme}" for scheme, count in sorted(counts.items())))
    assert len(counts) >= 4, "the plan is no mix"
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
