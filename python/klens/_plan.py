"""A scheme for each layer."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from klens import _core


class Plan:
    """A scheme for each layer, with its size and the damage that it adds up to."""

    def __init__(self, core: Any, shapes: Mapping[str, Any] | None = None) -> None:
        self._core, self._shapes = core, dict(shapes or {})
        self._json = json.loads(core.json())

    @property
    def layers(self) -> dict[str, str]:
        """The scheme of each layer."""
        return self._json["layers"]

    @property
    def bytes(self) -> int:
        """The exact stored size of the planned layers."""
        return self._json["bytes"]

    @property
    def bits_per_weight(self) -> float:
        return self._json["bits_per_weight"]

    @property
    def predicted(self) -> dict[str, float]:
        """The sum of single-layer damages, by metric."""
        return {name: float(value) for name, value in self._json["predicted"].items()}

    @property
    def unknown(self) -> list[dict[str, Any]]:
        """Candidates that nobody knows the damage of, and why: none of them is in the plan unless it was assumed harmless."""
        return self._json.get("unknown", [])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes plan.json, whole or not at all; the program klens reads it too."""
        self._core.write(os.fspath(path))

    def apply_(self, model: Any) -> None:
        """Leaves in the model's weights what storage under the plan gives back. `model` is the module, or the dict of arrays."""
        for layer in self._layers_of(model):
            _core.store_as(layer, self.layers[layer.name])

    @contextlib.contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """The same for the length of a with statement; then the weights are back, bit for bit."""
        kept = []
        try:
            for layer in self._layers_of(model):
                kept.append((layer, layer.load()))
                _core.store_as(layer, self.layers[layer.name])
            yield
        finally:
            for layer, weights in kept:
                layer.put_back(weights)

    def _layers_of(self, model: Any) -> list[Any]:
        from klens._layers import layer_of, layers_of_arrays, weights_of

        if isinstance(model, Mapping):
            known = {each: model[each] for each in self.layers if each in model}
            layers = layers_of_arrays(known)
        else:
            known = {each.name: each for each in weights_of(model)}
            layers = [layer_of(known[name]) for name in self.layers if name in known]
        missing = [name for name in self.layers if name not in known]
        if missing:
            raise ValueError(f"the plan has a layer {missing[0]!r}, the model has not")
        return layers

    def export(self, target: str, path: str | os.PathLike[str], *, tied_head: bool = False) -> str:
        """Writes the plan for another tool: nncf, modelopt, auto-round, mlx-lm, llama-quantize, compressed-tensors, olive.
        Gives how the file is used.
        Raises ValueError for a scheme that the target cannot store."""
        if not self._shapes:
            raise ValueError("export: the layers' shapes are not known; make the plan from scores")
        text, usage = self._core.export(target, {name: list(shape) for name, shape in self._shapes.items()}, tied_head)
        file = Path(path)
        file.write_text(text, encoding="utf-8")
        return usage.replace("FILE", str(file)).replace("MODULE", file.stem)

    def __repr__(self) -> str:
        count: dict[str, int] = {}
        for scheme in self.layers.values():
            count[scheme] = count.get(scheme, 0) + 1
        damage = ", ".join(f"{name} {value:.3g}" for name, value in self.predicted.items())
        lines = [f"{self.bits_per_weight:.3f} bits a weight, {self.bytes:,} bytes, predicted {damage}"]
        lines += [f"  {scheme:<16} {number:>4} layers" for scheme, number in sorted(count.items(), key=lambda each: -each[1])]
        if self.unknown:
            lines.append(f"  of unknown damage, and so not on offer: {len(self.unknown)} candidates, the first {self.unknown[0]['layer']} as {self.unknown[0]['scheme']}: {self.unknown[0]['why']}")
        return "\n".join(lines)


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Reads a plan.json, of Plan.save or of the program klens. Raises OSError."""
    return Plan(_core.Plan.read(os.fspath(path)))
