"""Arrays of whatever library, as the core takes them."""

from __future__ import annotations

import sys
from typing import Any

import numpy


def is_tensor(value: Any) -> bool:
    """Whether it is a PyTorch tensor; does not import PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def matrix(value: Any, what: str) -> Any:
    """A view of it as a matrix [.., last dimension] that the core can read: on the CPU, detached, rows contiguous."""
    if is_tensor(value):
        tensor = value.detach()
        if tensor.device.type != "cpu":
            tensor = tensor.cpu()
        if tensor.ndim < 1:
            raise ValueError(f"{what} is a single number; give rows of logits")
        tensor = tensor.reshape(-1, tensor.shape[-1])
        return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()
    array = value if hasattr(value, "__dlpack__") and not isinstance(value, numpy.ndarray) else numpy.asarray(value)
    if isinstance(array, numpy.ndarray):
        if array.ndim < 1:
            raise ValueError(f"{what} is a single number; give rows of logits")
        return numpy.ascontiguousarray(array.reshape(-1, array.shape[-1]))
    return array


def weights(value: Any) -> Any:
    """A weight matrix [out, in], as the core can read it."""
    if getattr(value, "ndim", 2) != 2:
        raise ValueError(f"weight has {value.ndim} dimensions; give a matrix [out, in]")
    return matrix(value, "weight")


def like(result: numpy.ndarray, given: Any) -> Any:
    """A new NumPy array as a tensor where a tensor was given."""
    if is_tensor(given):
        return sys.modules["torch"].from_numpy(result).to(given.device)
    return result
