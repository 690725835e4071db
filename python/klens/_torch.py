"""A PyTorch module as a forward in stages: the embedding, each of its blocks, and what comes after them.

Nothing of the module's code is known here. Its blocks are the longest list of modules; while it runs with stubs in the blocks'
places, the stubs see what each block would be given, and hand on what is put in. That the stages give the module's own logits is
checked once a scan; where they do not, the whole module runs for every candidate."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch

from klens import _core
from klens._device_metrics import DeviceMetrics
from klens._inputs import NOTHING, gather
from klens._layers import chosen, layer_of, weights_of


class _Reached(Exception):
    """Ends a run of the module once the last block has been reached."""


@dataclass
class _Call:
    """What a block is given beside the hidden state, and how it answers."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    name: str | None  # of the keyword that is the hidden state; None: the first argument

    @classmethod
    def of(cls, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Any, _Call]:
        keywords = {name: None if _is_cache(name, value) else value for name, value in keywords.items()}
        if arguments and isinstance(arguments[0], torch.Tensor):
            return arguments[0], cls(arguments[1:], dict(keywords), None)
        for name in ("hidden_states", "x", "input", "inputs"):
            if isinstance(keywords.get(name), torch.Tensor):
                return keywords[name], cls(arguments, {k: v for k, v in keywords.items() if k != name}, name)
        raise _CannotStage("a block is not given a tensor")

    def __call__(self, block: Any, hidden: Any) -> Any:
        if self.name is None:
            return block(hidden, *self.arguments, **self.keywords)
        return block(*self.arguments, **{self.name: hidden}, **self.keywords)


class _CannotStage(Exception):
    """Why the module cannot run in stages: a half sentence."""


def _is_cache(name: str, value: Any) -> bool:
    """Whether a block would remember in it what it saw, so that it answers otherwise the next time."""
    return ("past_key_value" in name or "cache" in name) and not isinstance(value, (bool, int, torch.Tensor, type(None)))


def _hidden_of(output: Any) -> Any:
    return output[0] if isinstance(output, (tuple, list)) else output


@dataclass(frozen=True)
class _State:
    batch: int
    hidden: Any
    calls: tuple[_Call, ...]


def find_blocks(model: Any, name: str | None) -> tuple[str, list[Any]]:
    """The module list that holds the model's blocks: the one whose modules have the most parameters. Raises ValueError where
    the name given is none."""
    if name is not None:
        found = dict(model.named_modules()).get(name)
        if not isinstance(found, (torch.nn.ModuleList, torch.nn.Sequential)):
            raise ValueError(f"blocks: {name!r} is no ModuleList of the model")
        return name, list(found)
    best: tuple[str, list[Any]] = ("", [])
    most = 0
    for each, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) > 1:
            size = sum(p.numel() for p in module.parameters())
            inside = best[0] and each.startswith(best[0] + ".")
            if size > most and not inside:
                best, most = (each, list(module)), size
    return best


class StagedModel:
    """The module, as klens._core.rank asks for it. Stage 0 is all before the first block."""

    def __init__(self, model: Any, run: Callable[[int], Any], name: str, blocks: list[Any]) -> None:
        self._model, self._run, self._name, self._blocks = model, run, name, blocks
        self._used: dict[str, set[bool]] = {}  # modules outside the blocks: whether they run after the last one
        self._tuples: list[tuple[Any, ...] | None] = [None] * len(blocks)
        self.finish: Callable[[int, Any], Any] = lambda _, output: as_logits(output)
        self.stages = len(blocks) + 1
        sizes = [float(sum(p.numel() for p in block.parameters())) for block in blocks]
        head = max(sum(p.numel() for p in model.parameters()) - sum(sizes), 1.0)
        self.costs = [0.0, *sizes, head]

    @contextlib.contextmanager
    def _stubs(self, make: Callable[[int], Callable[..., Any]]) -> Iterator[None]:
        before = [block.__dict__.get("forward") for block in self._blocks]
        try:
            for index, block in enumerate(self._blocks):
                block.forward = make(index)
            yield
        finally:
            for block, forward in zip(self._blocks, before):
                if forward is None:
                    block.__dict__.pop("forward", None)
                else:
                    block.forward = forward

    def _as_block(self, index: int, hidden: Any) -> Any:
        rest = self._tuples[index]
        return hidden if rest is None else (hidden, *rest)

    def learn(self, batch: int) -> Any:
        """Runs the untouched module once; gives its logits. Raises _CannotStage."""
        order: list[int] = []
        kept: list[Any] = [None]
        hooks = []

        def watch(index: int) -> None:
            def hook(_: Any, arguments: Any, keywords: Any, output: Any) -> None:
                entered, _call = _Call.of(arguments, keywords)
                order.append(index)
                hidden = _hidden_of(output)
                if not isinstance(hidden, torch.Tensor) or hidden.shape != entered.shape or not hidden.is_floating_point():
                    raise _CannotStage("a block's output is not a hidden state of its input's shape")
                if kept[0] is not None and entered is not kept[0] and not torch.equal(entered, kept[0]):
                    raise _CannotStage("something happens to the hidden states between the blocks")
                kept[0] = hidden
                self._tuples[index] = tuple(output[1:]) if isinstance(output, (tuple, list)) else None

            hooks.append(self._blocks[index].register_forward_hook(hook, with_kwargs=True))

        for index in range(len(self._blocks)):
            watch(index)
        for name, module in self._model.named_modules():
            if next(module.parameters(recurse=False), None) is None or self._block_of(name) is not None:
                continue

            def note(*_: Any, name: str = name) -> None:
                self._used.setdefault(name, set()).add(len(order) == len(self._blocks))

            hooks.append(module.register_forward_hook(note))
        try:
            logits = self._run(batch)
        finally:
            for hook in hooks:
                hook.remove()
        if order != list(range(len(self._blocks))):
            raise _CannotStage("the blocks do not run one after the other")
        return logits

    def _block_of(self, module: str) -> int | None:
        """Which block holds a module of that name."""
        prefix = self._name + "."
        return int(module[len(prefix) :].split(".")[0]) if module.startswith(prefix) else None

    def stages_of(self, weight: Any) -> tuple[int, int]:
        """The first and the last stage that uses a weight. What learn() has not seen at work counts as used from the start."""
        stages: set[int] = set()
        for module in weight.modules:
            block = self._block_of(module)
            if block is not None:
                stages.add(block + 1)
            else:
                stages |= {self.stages if late else 0 for late in self._used.get(module, {False})}
        return min(stages), max(stages)

    def begin(self, batch: int) -> _State:
        return _State(batch, None, ())

    def advance(self, state: _State, stage: int) -> _State:
        if stage == 0:
            return self._embed(state.batch)
        call = state.calls[stage - 1]
        hidden = _hidden_of(call(self._blocks[stage - 1], state.hidden))
        return _State(state.batch, hidden, state.calls)

    def _embed(self, batch: int) -> _State:
        entered: list[Any] = []
        calls: list[_Call] = []

        def make(index: int) -> Callable[..., Any]:
            def stub(*arguments: Any, **keywords: Any) -> Any:
                hidden, call = _Call.of(arguments, keywords)
                entered.append(hidden)
                calls.append(call)
                if index + 1 == len(self._blocks):
                    raise _Reached
                return self._as_block(index, hidden)

            return stub

        with self._stubs(make), contextlib.suppress(_Reached):
            self._run(batch)
        if len(calls) != len(self._blocks):
            raise RuntimeError("the module did not reach its blocks")
        return _State(batch, entered[0], tuple(calls))

    def logits(self, state: _State) -> Any:
        def make(index: int) -> Callable[..., Any]:
            def stub(*arguments: Any, **keywords: Any) -> Any:
                hidden = _Call.of(arguments, keywords)[0] if index + 1 < len(self._blocks) else state.hidden
                return self._as_block(index, hidden)

            return stub

        with self._stubs(make):
            return self.finish(state.batch, self._run(state.batch))

    def residual(self, state: _State) -> Any:
        hidden = state.hidden
        return hidden.detach().reshape(-1, hidden.shape[-1]).float().cpu().contiguous()

    def with_residual(self, state: _State, stream: numpy.ndarray) -> _State:
        hidden = torch.from_numpy(stream).reshape(state.hidden.shape).to(state.hidden.device, state.hidden.dtype)
        return _State(state.batch, hidden, state.calls)


def as_logits(output: Any) -> Any:
    """What a module or a forward_step returned, as float32 [positions, vocabulary] on the CPU."""
    return logits_of(output).float().cpu().contiguous()


def logits_of(output: Any) -> Any:
    """The same as it is, where it is."""
    logits = getattr(output, "logits", output)
    if isinstance(logits, (tuple, list)):
        logits = logits[0]
    if not isinstance(logits, torch.Tensor):
        raise TypeError(f"the model returned {type(output).__name__}, which holds no logits; give forward_step= to say where they are")
    if logits.ndim < 2:
        raise ValueError(f"the model returned logits of shape {tuple(logits.shape)}; they must be [..., vocabulary]")
    return logits.detach().reshape(-1, logits.shape[-1])


@dataclass
class Scan:
    """A module, ready to be ranked."""

    forward: Any
    staged: bool
    layers: list[Any]
    batches: int
    local_batches: int = 1
    sequence_length: int = 0
    tokens: list[int] = field(default_factory=list)
    counted: list[bool] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    computed: bool = False  # the forward gives values of the metrics


def _in_windows(seed: int, ids: Any, *others: Any) -> Iterator[Any]:
    """Ids [n, length] and what belongs to them (or None), in shorter sequences, as the methods local and refine take them."""
    length, order = _core.windows(*ids.shape, seed)
    for each in (ids, *others):
        yield None if each is None else torch.stack([each[sequence, first : first + length] for sequence, first in order])


def _token_batches(model: Any, tokens: Any, counted: Any, batch_size: int, windows: int | None) -> tuple[list[dict[str, Any]], Any, Any]:
    """Batches of the module's keyword arguments; the ids [n, length] and which count. `windows`: a seed, for shorter sequences."""
    mask = None
    if isinstance(tokens, Mapping) or hasattr(tokens, "keys"):
        unknown = set(tokens.keys()) - {"input_ids", "attention_mask", "token_type_ids"}
        if "input_ids" not in tokens or unknown:
            raise ValueError("tokens: give input_ids and, where there is padding, attention_mask" + (f"; {', '.join(sorted(unknown))} is not taken" if unknown else ""))  # fmt: skip
        mask, tokens = tokens.get("attention_mask"), tokens["input_ids"]
    given = tokens if isinstance(tokens, torch.Tensor) else numpy.asarray(tokens)
    if not isinstance(given, torch.Tensor) and given.dtype.kind not in "iuf":
        raise TypeError("tokens are text or objects; give token ids [n, length], e.g. tokenizer(text, return_tensors='pt')")
    ids = torch.as_tensor(given)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"tokens are {ids.dtype}; give whole numbers [n, length], or batches with forward_step=")
    if ids.ndim == 1:
        ids = ids[None]
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(f"tokens have the shape {tuple(ids.shape)}; give [n, length]")
    ids = ids.to("cpu", torch.int64)
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", None)
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or (isinstance(vocabulary, int) and high >= vocabulary):
        raise ValueError(f"tokens: id {low if low < 0 else high} is outside the vocabulary of {vocabulary}")
    if mask is not None:
        mask = torch.as_tensor(mask).to("cpu").bool()
        if mask.shape != ids.shape:
            raise ValueError(f"attention_mask has the shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}")
        if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            raise ValueError("attention_mask: padding must stand on the right; left padding would move the positions")
        counted = mask if counted is None else mask & torch.as_tensor(numpy.asarray(counted)).bool()
    elif counted is not None:
        counted = torch.as_tensor(numpy.asarray(counted)).bool()
    if counted is not None and tuple(counted.shape) != tuple(ids.shape):
        raise ValueError(f"counted has the shape {tuple(counted.shape)}, the tokens {tuple(ids.shape)}")
    if counted is not None and not bool(counted.any()):
        raise ValueError("counted, or attention_mask, lets no position count")
    if windows is not None:
        ids, mask, counted = _in_windows(windows, ids, mask, counted)
        if counted is not None:  # windows of padding alone tell nothing
            some = counted.any(1)
            ids, counted, mask = ids[some], counted[some], mask if mask is None else mask[some]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    accepted = inspect.signature(model.forward).parameters
    batches = []
    for first in range(0, len(ids), batch_size):
        inputs: dict[str, Any] = {"input_ids": ids[first : first + batch_size].to(device)}
        if mask is not None and not bool(mask.all()):
            inputs["attention_mask"] = mask[first : first + batch_size].to(device)
        if "use_cache" in accepted:
            inputs["use_cache"] = False
        batches.append(inputs)
    if "input_ids" not in accepted:
        batches = [{"": each["input_ids"]} for each in batches]
    return batches, ids, counted


@contextlib.contextmanager
def prepare(
    model: Any,
    tokens: Any,
    counted: Any,
    forward_step: Callable[[Any, Any], Any] | None,
    batch_size: int,
    blocks: str | None,
    layers: Any,
    exclude: Any,
    metrics: Sequence[str],
    on_device: bool | None,
    few: bool,
    seed: int,
    needs: int,
) -> Iterator[Scan]:
    """The module in evaluation mode and without gradients, for as long as the scan goes on. `few`: for a method that looks at a
    part of the batches, and may come back to one."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1")
    weights = {each.name: each for each in weights_of(model)}
    names = chosen(weights, layers, exclude)
    views = [layer_of(weights[name]) for name in names]
    ids = None
    if forward_step is not None:
        batches: Sequence[Any] = list(tokens)
        if counted is not None:
            counted = torch.as_tensor(numpy.asarray(counted)).bool()
        run = lambda batch: forward_step(model, batches[batch])  # noqa: E731
    else:
        batches, ids, counted = _token_batches(model, tokens, counted, batch_size, seed if few else None)
        run = lambda batch: model(**batches[batch]) if "" not in batches[batch] else model(batches[batch][""])  # noqa: E731
    if not batches:
        raise ValueError("tokens: there is no batch")
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode(False), torch.no_grad():
            scan = _staged_or_whole(model, run, blocks, views, [weights[name] for name in names], len(batches))
            if needs != NOTHING:
                gather(model, run, len(batches), views, [weights[name] for name in names], needs)
            rows = torch.ones(len(batches), 1) if ids is None else torch.ones(ids.shape) if counted is None else counted
            look_at = _core.windows_to_look_at(rows.sum(1).int().tolist())
            scan.local_batches = look_at if ids is None else -(-look_at // batch_size)
            if ids is not None:
                scan.sequence_length = ids.shape[1]
                scan.tokens = ids.reshape(-1).tolist()
            if counted is not None:
                scan.counted = counted.reshape(-1).tolist()
            elsewhere = any(p.device.type != "cpu" for p in model.parameters())
            if elsewhere if on_device is None else on_device:
                _compute_on_device(scan, run, metrics, ids, counted, batch_size, few)
            yield scan
    finally:
        for module in training:
            module.training = True


def _staged_or_whole(model: Any, run: Callable[[int], Any], blocks: str | None, views: list[Any], weights: list[Any], batches: int) -> Scan:  # fmt: skip
    name, found = find_blocks(model, blocks)
    try:
        if len(found) < 2:
            raise _CannotStage("no list of blocks was found (name it with blocks=)")
        staged = StagedModel(model, run, name, found)
        _prove(model, staged, run)
        for view, weight in zip(views, weights):
            view.stage, view.last_stage = staged.stages_of(weight)
        return Scan(staged, True, views, batches)
    except _CannotStage as reason:
        remark = f"{type(model).__name__} does not run in stages: {reason}. Every candidate costs a whole forward."
        return Scan(lambda batch: as_logits(run(batch)), False, views, batches, remarks=[remark])


def _prove(model: Any, staged: StagedModel, run: Callable[[int], Any]) -> None:
    """The stages give the module's own logits, and going on from the first block gives them too when its weights have changed.
    Raises _CannotStage where they do not. Costs four forwards over the first batch."""

    def through(state: _State, first: int) -> Any:
        for stage in range(first, staged.stages):
            state = staged.advance(state, stage)
        return staged.logits(state)

    def differ(a: Any, b: Any) -> bool:
        return a.shape != b.shape or not torch.allclose(a, b, rtol=0, atol=_rounding(model) * float(b.abs().max()))

    whole = as_logits(staged.learn(0))
    if not bool(torch.isfinite(whole).all()):
        raise _CannotStage("its logits are not finite")
    entry = staged.advance(staged.begin(0), 0)
    if differ(through(entry, 1), whole):
        raise _CannotStage("its blocks one after the other do not give its logits")
    weight = max(staged._blocks[0].parameters(), key=lambda p: p.numel() if p.is_floating_point() else 0)
    kept = weight.detach().clone()
    try:
        weight.detach().mul_(0.75)
        if differ(through(entry, 1), as_logits(run(0))):
            raise _CannotStage("its blocks do not give the same when they run again")
    finally:
        weight.detach().copy_(kept)


def _compute_on_device(scan: Scan, run: Callable[[int], Any], metrics: Sequence[str], ids: Any, counted: Any, batch_size: int, keep_all: bool) -> None:  # fmt: skip
    """Lets the scan's forward give values of the metrics. The core then knows no tokens: perplexity is left out."""
    following = None
    if ids is not None:
        following = torch.full_like(ids, -1)
        following[:, :-1] = ids[:, 1:]
        if counted is not None:
            following[:, :-1][~counted[:, 1:]] = -1
        following = [following[first : first + batch_size].reshape(-1) for first in range(0, len(ids), batch_size)]
    elif "delta_ce" in metrics:
        raise ValueError("delta_ce looks at the tokens that follow; it needs tokens as ids [n, length]")
    device = DeviceMetrics(metrics, following, keep_all)
    if scan.staged:
        scan.forward.finish = lambda batch, output: device.columns(batch, logits_of(output))
    else:
        scan.forward = lambda batch: device.columns(batch, logits_of(run(batch)))
    scan.tokens, scan.computed = [], True


def _rounding(model: Any) -> float:
    """How far two runs of the same sums may be apart, as a share of the largest logit."""
    kinds = {p.dtype for p in model.parameters()}
    return 100 * max((torch.finfo(kind).eps for kind in kinds if kind.is_floating_point), default=1e-7)
