"""Metrics over raw logits: reference and observed, [positions, vocabulary] or [..., vocabulary], NumPy arrays or tensors of
float32, float16 or bfloat16. Shapes must agree (ValueError); NaN and +inf are refused (FloatingPointError names the position)."""

from __future__ import annotations

from typing import Any

import numpy

from klens import _core
from klens._arrays import is_tensor, matrix


def _measure(metric: str, reference: Any, observed: Any, threads: int, next_tokens: Any = None) -> float:
    if next_tokens is not None:
        if is_tensor(next_tokens):
            next_tokens = next_tokens.cpu().numpy()
        next_tokens = [int(token) for token in numpy.asarray(next_tokens).reshape(-1)]
    return _core.measure(metric, matrix(reference, "reference"), matrix(observed, "observed"), next_tokens, threads)


def kl(reference: Any, observed: Any, *, threads: int = 1) -> float:
    """KL(P || Q) in nats a position, P = softmax(reference), Q = softmax(observed): higher is worse, 0 where they agree."""
    return _measure("kl", reference, observed, threads)


def reverse_kl(reference: Any, observed: Any, *, threads: int = 1) -> float:
    """KL(Q || P) in nats a position: higher is worse."""
    return _measure("reverse_kl", reference, observed, threads)


def js(reference: Any, observed: Any, *, threads: int = 1) -> float:
    """Jensen-Shannon divergence in nats a position, at most ln 2: higher is worse."""
    return _measure("js", reference, observed, threads)


def mse(reference: Any, observed: Any, *, threads: int = 1) -> float:
    """Mean squared error of the logits: higher is worse."""
    return _measure("mse", reference, observed, threads)


def sqnr(reference: Any, observed: Any, *, threads: int = 1) -> float:
    """Signal to quantization noise of the logits in dB: lower is worse, inf where they agree."""
    return _measure("sqnr", reference, observed, threads)


def top1(reference: Any, observed: Any, *, threads: int = 1) -> float:
    """Share of positions where both are largest at the same token: lower is worse."""
    return _measure("top1", reference, observed, threads)


def delta_ce(reference: Any, observed: Any, next_tokens: Any, *, threads: int = 1) -> float:
    """ln P - ln Q of the token that follows each position (-1: none does), in nats: higher is worse."""
    return _measure("delta_ce", reference, observed, threads, next_tokens)
