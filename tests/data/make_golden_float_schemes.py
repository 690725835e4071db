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



def nvfp4(weights):
    """ModelOpt's arithmetic (qtensor/nvfp4_tensor.py, float32) with each row as a tensor of its own; E4M3 is PyTorch's. A row of
    zeros, of which ModelOpt makes NaN, has block scales of 1. The sign of zero is kept."""
    f = np.float32
    w = weights.reshape(len(weights), -1, 16)
    of_row = np.abs(weights).max(1)[:, None, None] / f(6 * 448)
    of_row_or_one = np.where(of_row == 0, f(1), of_row)
    of_block = np.abs(w).max(-1, keepdims=True) / (f(6) * of_row_or_one)
    of_block = torch.from_numpy(np.where((of_block == 0) | (of_row == 0), f(1), of_block)).to(torch.float8_e4m3fn)
    scale = of_block.float().numpy() * of_row
    steps = np.divide(w, scale, out=np.zeros_like(w), where=scale != 0)
    codes, values = e2m1(np.abs(steps).astype(np.float64))
    codes = codes | np.signbit(w) * 8
    kept = np.copysign(values.astype(f), w) * scale
    scales = of_block.view(torch.uint8).numpy().reshape(len(weights), -1)
    rows = of_row.reshape(-1, 1).view(np.uint8)
    return np.concatenate([nibbles(codes.reshape(weights.shape)), scales, rows], 1), kept.reshape(weights.shape)


# bitsandbytes' table (functional.create_quantized_map), from QLoRA, arXiv 2305.14314.
NF4 = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], np.float32)  # fmt: skip


def nf4(weights, group):
    """The nearest of the values in double. (bitsandbytes 0.50.2 gives the same bytes; --bitsandbytes compares them.)"""
    f = np.float32
    codes, scales = [], []
    for first in range(0, weights.shape[1], group):
        part = weights[:, first : first + group]
        largest = np.abs(part).max(1, keepdims=True)
        steps = part * (f(1) / np.maximum(largest, f(1e-38)))
        codes.append(np.abs(steps.astype(np.float64)[..., None] - NF4.astype(np.float64)).argmin(-1))
        scales.append(np.repeat(largest, part.shape[1], 1))
    codes, scales = np.concatenate(codes, 1), np.concatenate(scales, 1)
    packed = (codes[:, 0::2] << 4 | codes[:, 1::2]).astype(np.uint8)
    stored = np.ascontiguousarray(scales[:, ::group]).view(np.uint8)
    return np.concatenate([packed, stored], 1), NF4[codes] * scales


SCHEMES = {
    "fp8-e4m3-channel": lambda w: fp8(w, torch.float8_e4m3fn),
    "fp8-e5m2-channel": lambda w: fp8(w, torch.float8_e5m2),
    "mxfp4": mxfp4,
    "nvfp4": nvfp4,
    "nf4-g64": lambda w: nf4(w, 64),
    "nf4-g80": lambda w: nf4(w, 80),
}

def compare_with_torchao(tensors):
    from torchao.prototype.mx_formats.mx_tensor import to_mx

    for kind, weights in read(HERE / "golden-quantizers.safetensors").items():
        scales, codes = to_mx(torch.from_numpy(weights.copy()), torch.float4_e2m1fn_x2, 32)
        theirs = np.concatenate([codes.view(torch.uint8).numpy(), scales.view(torch.uint8).numpy()], 1)
        print(f"{kind}.mxfp4: {(theirs != tensors[kind + '.mxfp4']).sum()} of {theirs.size} bytes differ from torchao's")


def compare_with_bitsandbytes(tensors):
    from bitsandbytes.functional import quantize_4bit

    for kind, weights in read(HERE / "golden-quantizers.safetensors").items():
        codes, state = quantize_4bit(torch.from_numpy(weights.copy()), blocksize=64, quant_type="nf4")
        codes = codes.numpy().reshape(len(weights), -1)
        scales = state.absmax.numpy().reshape(len(weights), -1).view(np.uint8)
        theirs = np.concatenate([codes, scales], 1)
        print(f"{kind}.nf4-g64: {(theirs != tensors[kind + '.nf4-g64']).sum()} of {theirs.size} bytes differ from bitsandbytes'")


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
    if "--bitsandbytes" in sys.argv:
        compare_with_bitsandbytes(tensors)
    write(HERE / "golden-float-schemes.safetensors", tensors)
