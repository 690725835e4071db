"""rank_layers."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy

from klens import _core
from klens._inputs import NOTHING, tell_arrays
from klens._layers import chosen, layers_of_arrays, layers_of_model
from klens._scores import Scores

log = logging.getLogger("klens")


class ScanError(RuntimeError):
    """A scan that failed in the middle. `scores` holds what had been measured until then; the weights are back."""

    def __init__(self, message: str, scores: Scores) -> None:
        super().__init__(message)
        self.scores = scores


def rank_layers(
    model: Any = None,
    tokens: Any = None,
    *,
    schemes: str | Sequence[str] = "int4-g64",
    layers: str | Iterable[str] | Mapping[str, Any] = "*",
    exclude: str | Iterable[str] | None = None,
    metrics: str | Sequence[str] = "kl",
    method: str = "exact",
    stop: str | None = None,
    confidence: float = 0.99,
    rank_by: str | None = None,
    forward: Callable[..., Any] | None = None,
    forward_step: Callable[[Any, Any], Any] | None = None,
    batch_size: int = 1,
    batches: int | None = None,
    counted: Any = None,
    blocks: str | None = None,
    from_quantized: bool = False,
    noise_floor: bool | None = None,
    positions: int = 0,
    seed: int = 1,
    local_batches: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    threads: int = 1,
    on_device: bool | None = None,
    inputs: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Scores:
    """Scores every layer under every scheme: what does the model's output lose when this layer alone is stored that way?

    model         a PyTorch module; or None, with `layers` as a dict of arrays [out, in] and `forward`
    tokens        token ids [n, length]; or a dict with input_ids and attention_mask (right padding does not count); with
                  `forward_step` any sequence of batches. For arrays it may be left out
    schemes       "int4-g64", ["int4-g64", "int8-channel"]; see klens.quantize
    layers, exclude   patterns of layer names, `*` for any text
    metrics       kl, reverse_kl, js, mse, sqnr, delta_ce, top1
    method        exact: every candidate is measured; local: all are predicted for about one forward; refine: local, then what
                  `stop` leaves in doubt is measured. Both take token ids in windows of 128 tokens or more, up to four out of a
                  sequence, in an order drawn by `seed`, so that the few which they look at see much of the text
    stop          klens.top(10), klens.split(0.5), klens.order(0.95), klens.budget(20), or their text
    forward       for arrays: forward() or, with `batches`, forward(batch) -> logits [positions, vocabulary], float32
    forward_step  for modules: forward_step(model, batch) -> logits; called with each of `tokens`
    counted       which positions count, bool [n, length]
    blocks        the name of the module list that holds the model's blocks; found where it is not given
    noise_floor   also measure what rounding alone does, for one forward over the first batch; None: for local and refine, which
                  learn nothing from candidates that drown in it
    local_batches how many batches local and refine look at before they measure; unless set those with a sixteenth of the tokens,
                  and two sequences at least
    checkpoint    a file that is written after every batch; a scan goes on from it where it exists
    on_device     metrics are computed by PyTorch where the logits are; None: where that is not the CPU. No perplexity then
    inputs        for arrays and schemes that look at a layer's inputs (int4-g64-imp, int4-g64-gptq): a dict of arrays [positions,
                  in]. A module's are seen by hooks, for one more forward over the tokens
    progress      a bar on stderr; None: where that is a terminal

    Weights are back, bit for bit, when it returns or raises. Ctrl-C returns what was measured, with `complete` False.
    Raises ValueError, TypeError for what is wrong from the start, FloatingPointError for weights that are not finite, ScanError
    once the scan is under way.
    """
    request = _core.Request()
    request.schemes = _names("schemes", schemes)
    request.metrics = _names("metrics", metrics)
    request.method = method
    request.stop = str(stop) if stop is not None else "exhaustive"
    request.rank_by = rank_by or ""
    request.confidence = confidence
    request.from_quantized = from_quantized
    request.noise_floor = method != "exact" if noise_floor is None else noise_floor
    request.positions = positions
    request.seed = seed
    request.threads = threads

    if model is None:
        if not isinstance(layers, Mapping) or forward is None:
            raise TypeError("rank_layers: give a model and its tokens, or layers as a dict of arrays with forward=")
        return _rank_arrays(layers, exclude, forward, tokens, batches, counted, request, checkpoint, progress, inputs)
    if inputs is not None:
        raise TypeError("rank_layers: inputs go with layers as a dict of arrays; those of a module's layers are seen by hooks")
    if forward is not None or batches is not None:
        raise TypeError("rank_layers: forward and batches go with layers as a dict of arrays; a model takes forward_step")
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        raise TypeError(f"rank_layers: the model is {type(model).__name__}; give a torch.nn.Module, or layers= and forward=")
    if tokens is None:
        raise TypeError("rank_layers: give tokens, ids [n, length], or batches with forward_step=")
    if isinstance(layers, Mapping):
        raise TypeError("rank_layers: a model's layers are chosen by patterns of their names")
    from klens._torch import prepare

    with prepare(model, tokens, counted, forward_step, batch_size, blocks, layers, exclude, request.metrics, on_device,
                 method != "exact", seed, _core.needs(request.schemes)) as scan:  # fmt: skip
        request.batches = scan.batches
        request.local_batches = local_batches or scan.local_batches
        request.sequence_length = scan.sequence_length
        request.tokens = scan.tokens
        request.counted = scan.counted
        request.computed = scan.computed
        owner = weakref.ref(model)
        return _run(scan.layers, scan.forward, scan.staged, request, checkpoint, progress, scan.remarks,
                    lambda: _again(owner), type(model).__name__)


def _names(what: str, given: Any) -> list[str]:
    """One name or several, as a list. Raises TypeError for what is no name: a quantizer of one's own has none that a plan, a size
    in bytes or another tool could know."""
    names = [given] if isinstance(given, str) or callable(given) else list(given)
    for each in names:
        if not isinstance(each, str):
            raise TypeError(f"{what}: {each!r} is no name; a quantizer or metric of your own is measured by a loop of your own, with klens.kl and the like, or in C++")  # fmt: skip
    return names


def _again(owner: Any) -> list[Any]:
    model = owner()
    return [] if model is None else layers_of_model(model)


def _rank_arrays(
    arrays: Mapping[str, Any],
    exclude: str | Iterable[str] | None,
    forward: Callable[..., Any],
    tokens: Any,
    batches: int | None,
    counted: Any,
    request: Any,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool | None,
    inputs: Mapping[str, Any] | None,
) -> Scores:
    wanted = chosen(arrays, "*", exclude)
    layers = layers_of_arrays({name: arrays[name] for name in wanted})
    needs = _core.needs(request.schemes)
    if needs != NOTHING:
        tell_arrays(layers, inputs, needs)
    if tokens is not None:
        ids = numpy.asarray(tokens)
        request.tokens = [int(each) for each in ids.reshape(-1)]
        request.sequence_length = int(ids.shape[-1]) if ids.ndim == 2 else 0
    if counted is not None:
        request.counted = [bool(each) for each in numpy.asarray(counted).reshape(-1)]
    request.batches = 1 if batches is None else int(batches)
    call = (lambda _: forward()) if batches is None else forward
    return _run(layers, call, False, request, checkpoint, progress, [], lambda: layers, "")


def _fingerprint(layers: Sequence[Any], request: Any) -> dict[str, str]:
    weights, tokens = hashlib.sha256(), hashlib.sha256(numpy.asarray(request.tokens, dtype=numpy.int32).tobytes())
    for layer in layers:
        weights.update(layer.name.encode() + b"\0" + layer.load().tobytes())
    tokens.update(bytes(request.counted))
    options = ("schemes", "metrics", "method", "stop", "rank_by", "confidence", "from_quantized", "batches", "sequence_length",
               "positions", "seed")  # fmt: skip
    return {"model": weights.hexdigest(), "tokens": tokens.hexdigest()} | {
        name: str(getattr(request, name)) for name in options
    }


class _Bar:
    """A bar that counts forwards; none where nobody looks."""

    def __init__(self, wanted: bool | None) -> None:
        self._bar: Any = None
        if wanted is False or (wanted is None and not sys.stderr.isatty()):
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=0.0, unit="forward", bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} forwards [{elapsed}<{remaining}] {postfix}")  # fmt: skip

    def __call__(self, forwards: float, expected: float, layer: str, scheme: str, seconds_left: float) -> None:
        if self._bar is None:
            return
        self._bar.total = expected
        self._bar.n = forwards
        self._bar.set_postfix_str(f"{layer} as {scheme}", refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _run(
    layers: Sequence[Any],
    forward: Any,
    staged: bool,
    request: Any,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool | None,
    remarks: Sequence[str],
    again: Callable[[], list[Any]],
    title: str,
) -> Scores:
    if checkpoint is not None:
        request.checkpoint = os.fspath(checkpoint)
        request.identity = _fingerprint(layers, request)
    bar = _Bar(progress)
    request.progress = bar
    try:
        found, failure, cause = _core.rank(list(layers), forward, staged, request)
    finally:
        bar.close()
    scores = Scores(found, rank_by=request.rank_by or request.metrics[0], length=request.sequence_length, model=title,
                    remarks=remarks, layers=again)  # fmt: skip
    for remark in scores.remarks:
        log.warning("%s", remark)
    if failure and not isinstance(cause, KeyboardInterrupt):
        raise ScanError(_with_cure(failure, cause), scores) from cause
    return scores


def _with_cure(failure: str, cause: BaseException | None) -> str:
    if cause is not None and ("OutOfMemory" in type(cause).__name__ or isinstance(cause, MemoryError)):
        return failure + "; give a smaller batch_size, or shorter sequences"
    return failure
