# Writes golden-gguf.safetensors beside itself: what ggml stores of the weights of golden-quantizers.safetensors in the types that
# file lacks. Needs numpy, gguf and ggml's library (of llama-cpp-python or llama.cpp), whose ggml_quantize_chunk it calls:
#   python3 tests/data/make_golden_gguf.py libggml-base.so
# Weights of a kind stand one after the other, cut into rows of 256. A tensor `kind.type` holds the bytes of each row;
# `kind.type_kept`, for the smallest kind, the values that gguf's own dequantization gives.
import ctypes
import sys

import gguf
import numpy as np
from make_golden_float_schemes import HERE, read, write

TYPES = ["Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


def quantize(library, weights, kind):
    size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    packed = np.zeros((len(weights), 256 // size * block_bytes), np.uint8)
    library.ggml_quantize_chunk(kind.value, weights.ctypes.data, packed.ctypes.data, 0, len(weights), 256, None)
    return packed


if __name__ == "__main__":
    library = ctypes.CDLL(sys.argv[1])
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    tensors = {}
    for name, weights in read(HERE / "golden-quantizers.safetensors").items():
        rows = np.ascontiguousarray(weights.reshape(-1)[: weights.size // 256 * 256].reshape(-1, 256))
        for each in TYPES:
            kind = gguf.GGMLQuantizationType[each]
            tensors[f"{name}.{each.lower()}"] = packed = quantize(library, rows, kind)
            if name == "tail":
                tensors[f"{name}.{each.lower()}_kept"] = gguf.quants.dequantize(packed, kind).astype(np.float32)
    write(HERE / "golden-gguf.safetensors", tensors)
