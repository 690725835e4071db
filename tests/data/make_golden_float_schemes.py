# Writes golden-float-schemes.safetensors beside itself: what schemes of small floats store of the rows of
# golden-quantizers.safetensors, by definitions that share no code with klens. Needs numpy and torch:
#   python3 tests/data/make_golden_float_schemes.py
# A tensor `kind.scheme` holds the bytes of each row; `kind.scheme_kept`, for the smaller kinds, the values that come back.
import json
import pathlib
import struct

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
KINDS = ["plain", "outlier", "skew", "edge", "tail"]


def read(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    weights = {}
    for kind in KINDS:
        entry = header[kind + ".weight"]
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        weights[kind] = np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"])
    return weights


def write(path, tensors):
    header, blobs, at = {}, [], 0
    for name, values in tensors.items():
        blob = values.tobytes()
        kind = {"uint8": "U8", "float32": "F32"}[values.dtype.name]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def fp8(weights, dtype):
    """Channel-wise, as compressed-tensors does it: PyTorch's own rounding to float8."""
    w = torch.from_numpy(weights.copy())
    largest = torch.finfo(dtype).max
    scale = w.abs().amax(1, keepdim=True) / largest
    steps = torch.where(scale == 0, torch.zeros_like(w), w / scale)
    codes = steps.clamp(-largest, largest).to(dtype)
    packed = np.concatenate([codes.view(torch.uint8).numpy(), scale.numpy().view(np.uint8)], 1)
    return packed, (codes.float() * scale).numpy()


SCHEMES = {
    "fp8-e4m3-channel": lambda w: fp8(w, torch.float8_e4m3fn),
    "fp8-e5m2-channel": lambda w: fp8(w, torch.float8_e5m2),
}

if __name__ == "__main__":
    tensors = {}
    for kind, weights in read(HERE / "golden-quantizers.safetensors").items():
        for name, scheme in SCHEMES.items():
            packed, kept = scheme(weights)
            tensors[f"{kind}.{name}"] = np.ascontiguousarray(packed)
            if kind in ("edge", "tail"):
                tensors[f"{kind}.{name}_kept"] = kept.astype(np.float32)
    write(HERE / "golden-float-schemes.safetensors", tensors)
