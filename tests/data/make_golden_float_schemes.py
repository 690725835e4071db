# Writes golden-float-schemes.safetensors beside itself: what schemes of small floats store of the rows of
# golden-quantizers.safetensors, by definitions that share no code with klens. Needs numpy and torch:
#   python3 tests/data/make_golden_float_schemes.py
# A tensor `kind.scheme` holds the bytes of each row; `kind.scheme_kept`, for the smaller kinds, the values that come back.
import json
import pathlib
import struct
import sys

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


def e2m1(magnitudes):
    """The nearest of the eight magnitudes of E2M1, in double: of equally near ones the even code; above 6 it is 6."""
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    codes = np.arange(8)
    distance = np.abs(magnitudes[..., None] - values)
    nearest = distance == distance.min(-1, keepdims=True)
    ties = nearest.sum(-1) > 1
    codes = np.where(ties, (nearest & (codes % 2 == 0)).argmax(-1), nearest.argmax(-1))
    return codes, values[codes]


def nibbles(codes):
    """Two codes in a byte, the first in the lower half."""
    return (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8)


def mxfp4(weights):
    """OCP MX v1.0, section 6.3. (torchao 0.18.0's to_mx gives the same bytes; --torchao compares them.)"""
    w = weights.astype(np.float64).reshape(len(weights), -1, 32)
    largest = np.abs(w).max(-1, keepdims=True)
    exponent = np.frexp(largest)[1] - 1 - 2  # frexp gives a fraction from 1/2 to 1
    exponent = np.maximum(np.where(largest == 0, -127, exponent), -127)
    codes, values = e2m1(np.abs(w) * 2.0**-exponent)
    codes = codes | np.signbit(w) * 8
    kept = np.copysign(values * 2.0**exponent, w)
    scales = (exponent + 127).astype(np.uint8).reshape(len(weights), -1)
    return np.concatenate([nibbles(codes.reshape(weights.shape)), scales], 1), kept.reshape(weights.shape)


SCHEMES = {
    "fp8-e4m3-channel": lambda w: fp8(w, torch.float8_e4m3fn),
    "fp8-e5m2-channel": lambda w: fp8(w, torch.float8_e5m2),
    "mxfp4": mxfp4,
}

def compare_with_torchao(tensors):
    from torchao.prototype.mx_formats.mx_tensor import to_mx

    for kind, weights in read(HERE / "golden-quantizers.safetensors").items():
        scales, codes = to_mx(torch.from_numpy(weights.copy()), torch.float4_e2m1fn_x2, 32)
        theirs = np.concatenate([codes.view(torch.uint8).numpy(), scales.view(torch.uint8).numpy()], 1)
        print(f"{kind}.mxfp4: {(theirs != tensors[kind + '.mxfp4']).sum()} of {theirs.size} bytes differ from torchao's")


if __name__ == "__main__":
    tensors = {}
    for kind, weights in read(HERE / "golden-quantizers.safetensors").items():
        for name, scheme in SCHEMES.items():
            packed, kept = scheme(weights)
            tensors[f"{kind}.{name}"] = np.ascontiguousarray(packed)
            if kind in ("edge", "tail"):
                tensors[f"{kind}.{name}_kept"] = kept.astype(np.float32)
    if "--torchao" in sys.argv:
        compare_with_torchao(tensors)
    write(HERE / "golden-float-schemes.safetensors", tensors)
