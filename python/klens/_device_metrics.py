"""The metrics of klens in PyTorch, for logits that stay on their device: the same forms, which lose no digits where the rows are
nearly equal, in float64, some positions at a time. Only one value and one weight a position leave the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_ELEMENTS_AT_ONCE = 1 << 24


def _small(t: Any, exact: Any, series: Sequence[float]) -> Any:
    """A function of t with a double zero at 0: its series t^2 (s[0] + s[1] t + ...) near 0, `exact` elsewhere."""
    value = torch.full_like(t, series[-1])
    for factor in reversed(series[:-1]):
        value = value * t + factor
    return torch.where(t.abs() < 0.05, t * t * value, exact)


def _rows(metric: str, x: Any, y: Any, next_tokens: Any) -> tuple[Any, Any]:
    """Values and weights, [positions], of float64 rows x (reference) and y (observed)."""
    one = torch.ones(x.shape[0], dtype=x.dtype, device=x.device)
    if metric == "top1":
        return (x.argmax(-1) == y.argmax(-1)).to(x.dtype), one
    masked = torch.isneginf(x) & torch.isneginf(y)
    change = torch.where(masked, 0.0, y - x)
    if metric in ("mse", "sqnr"):
        noise = (change * change).sum(-1)
        if metric == "mse":
            return noise / x.shape[-1], one
        return noise, torch.where(torch.isneginf(x), 0.0, x * x).sum(-1)
    log_p = x.log_softmax(-1)
    p = log_p.exp()
    mean = torch.where(p > 0, p * change, 0.0).sum(-1, keepdim=True)
    t = torch.where(torch.isfinite(change), change - mean, change)
    t = torch.where(torch.isfinite(mean), t, change)
    # sum p e^t - 1, without the part that is linear in t and adds up to 0
    grown = _weighted(p, _small(t, t.exp() - 1 - t, (1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040)))
    log_grown = torch.log1p(grown)
    if metric == "kl":
        lost = torch.isneginf(y) & ~torch.isneginf(x)
        return torch.where(lost.any(-1), torch.inf, log_grown), one
    if metric == "delta_ce":
        has = next_tokens >= 0
        moved = t.gather(-1, next_tokens.clamp(min=0)[:, None])[:, 0]
        return torch.where(has, log_grown - moved, 0.0), has.to(x.dtype)
    if metric == "reverse_kl":
        turned = _small(t, t * t.exp() - t.exp() + 1, (1 / 2, 1 / 3, 1 / 8, 1 / 30, 1 / 144, 1 / 840))
        return (_weighted(p, turned) + grown - (1 + grown) * log_grown) / (1 + grown), one
    # Jensen-Shannon: e^s = Q / P, a = s / 2
    s = t - log_grown[:, None]
    a = s / 2
    grown_by = torch.expm1(s)
    term = a * grown_by - torch.log1p(2 * torch.sinh(a / 2) ** 2) * (grown_by + 2)
    return _weighted(p, term) / 2, one


def _weighted(p: Any, term: Any) -> Any:
    return torch.where(p > 0, p * term, 0.0).sum(-1)


class DeviceMetrics:
    """Compares logits with those of the untouched model, batch by batch; the first logits of a batch are the reference."""

    def __init__(self, metrics: Sequence[str], next_tokens: Any, keep_all: bool) -> None:
        self._metrics, self._next_tokens, self._keep_all = list(metrics), next_tokens, keep_all
        self._references: dict[int, Any] = {}

    def columns(self, batch: int, logits: Any) -> Any:
        """[positions, 2 values a metric and one that tells whether anything moved], float32 on the CPU: the reference's are those
        of any logits that are the same."""
        width = 2 * len(self._metrics) + 1
        reference = self._references.get(batch)
        bad = torch.isnan(logits) | torch.isposinf(logits)
        if bool(bad.any()):
            position, token = (int(each) for each in bad.nonzero()[0])
            whose = "reference" if reference is None else "observed"
            raise FloatingPointError(f"batch {batch}, position {position} of the batch: {whose} logit {token} of {logits.shape[1]} is {float(logits[position, token])}; logits must be finite, or -inf where masked")  # fmt: skip
        if reference is None:
            if not self._keep_all:
                self._references.clear()
            reference = self._references[batch] = logits.clone()
        result = torch.empty(logits.shape[0], width, dtype=torch.float64, device=logits.device)
        at_once = max(1, _ELEMENTS_AT_ONCE // logits.shape[1])
        for first in range(0, logits.shape[0], at_once):
            rows = slice(first, first + at_once)
            x, y = reference[rows].double(), logits[rows].double()
            following = None if self._next_tokens is None else self._next_tokens[batch][rows].to(logits.device)
            for m, metric in enumerate(self._metrics):
                result[rows, 2 * m], result[rows, 2 * m + 1] = _rows(metric, x, y, following)
            result[rows, width - 1] = (reference[rows] != logits[rows]).any(-1).double()
        return result.float().cpu()
