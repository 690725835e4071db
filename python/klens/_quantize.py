"""What storage does to a weight matrix [out, in]. A scheme is int<2..8>[-signed|-asym]-<channel|g<columns>>[-f32], fp16, bf16,
f32, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k to q6_k, fp8-<e4m3|e5m2>-channel, mxfp4, nvfp4 or nf4-<channel|g<columns>>; an int name may end
in -imp or -gptq. An unknown one is a ValueError, weights that a scheme cannot hold a FloatingPointError that names the row."""

from __future__ import annotations

from typing import Any

import numpy

from klens import _core
from klens._arrays import is_tensor, like, weights
from klens._inputs import of_array


def _known(scheme: str, inputs: Any) -> Any:
    return None if inputs is None else of_array(inputs, _core.needs([scheme]))


def quantize(weight: Any, scheme: str, *, threads: int = 1, inputs: Any = None) -> Any:
    """What storage would give back: float32 [out, in], a tensor where a tensor was given. `inputs` [positions, in] for schemes
    that look at them."""
    kept, _ = _core.quantize(weights(weight), scheme, threads, _known(scheme, inputs))
    return like(kept, weight)


def pack(weight: Any, scheme: str, *, threads: int = 1, inputs: Any = None) -> numpy.ndarray:
    """The stored bytes, uint8 [out, bytes of a row]."""
    return _core.pack(weights(weight), scheme, threads, _known(scheme, inputs))


def unpack(packed: Any, scheme: str, columns: int, *, threads: int = 1) -> numpy.ndarray:
    """What pack stored: float32 [out, columns], the same bits as quantize gives."""
    if is_tensor(packed):
        packed = packed.cpu().numpy()
    packed = numpy.ascontiguousarray(packed)
    if packed.dtype != numpy.uint8 or packed.ndim != 2:
        raise ValueError(f"unpack: packed is {packed.dtype} with {packed.ndim} dimensions; give uint8 [out, bytes of a row]")
    return _core.unpack(packed, scheme, columns, threads)


def size_in_bytes(shape: Any, scheme: str) -> int:
    """The exact stored size of a weight matrix; `shape` is (out, in) or the matrix itself."""
    rows, columns = getattr(shape, "shape", shape)
    return _core.size_in_bytes(int(rows), int(columns), scheme)
