"""What the inputs of layers are like, for schemes that look at them (int4-g64-imp, int4-g64-gptq)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy

NOTHING, MEAN_SQUARES, SECOND_MOMENTS = range(3)


class _Sums:
    """Of the inputs of one layer, where the layer computes."""

    def __init__(self, needs: int) -> None:
        self._needs, self.positions = needs, 0
        self._squares: Any = None
        self._products: Any = None

    def add(self, inputs: Any) -> None:
        rows = inputs.detach().reshape(-1, inputs.shape[-1]).float()
        squares = rows.double().square().sum(0) if rows.device.type != "mps" else rows.square().sum(0)
        self._squares = squares if self._squares is None else self._squares + squares
        if self._needs == SECOND_MOMENTS:
            products = rows.T @ rows
            self._products = products if self._products is None else self._products + products
        self.positions += rows.shape[0]

    def tell(self, layer: Any) -> None:
        """Gives a layer of the core what is known. A layer that nothing came into knows of no positions."""
        nothing = numpy.zeros((0, 0), numpy.float32)
        if self.positions == 0:
            layer.set_inputs(0, nothing, nothing)
            return
        squares = (self._squares / self.positions).float().cpu().numpy()[None]
        products = nothing if self._products is None else (self._products / self.positions).cpu().numpy()
        layer.set_inputs(self.positions, numpy.ascontiguousarray(squares), numpy.ascontiguousarray(products))


def gather(model: Any, run: Callable[[int], Any], batches: int, layers: Sequence[Any], weights: Sequence[Any], needs: int) -> None:
    """Runs the module once over its batches, and tells each layer what came into the modules that use its weight. (Padding is
    looked at, too. An embedding's rows are looked up: of it the linear layer that shares them is seen.)"""
    import torch

    modules = dict(model.named_modules(remove_duplicate=False))
    with contextlib.ExitStack() as hooks:
        sums = []
        for weight in weights:
            own = _Sums(needs)
            sums.append(own)
            for name in weight.modules:
                module = modules[name]
                if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D":
                    hook = module.register_forward_pre_hook(lambda _, arguments, own=own: own.add(arguments[0]))
                    hooks.callback(hook.remove)
        for batch in range(batches):
            run(batch)
    for layer, own in zip(layers, sums):
        own.tell(layer)


def of_array(inputs: Any, needs: int) -> tuple[int, numpy.ndarray, numpy.ndarray]:
    """The same of inputs [positions, in] that are at hand."""
    rows = numpy.asarray(inputs, dtype=numpy.float32)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"inputs have the shape {rows.shape}; give those of the layer, [positions, in]")
    squares = numpy.square(rows, dtype=numpy.float64).mean(0, keepdims=True).astype(numpy.float32)
    products = rows.T @ rows / numpy.float32(len(rows)) if needs == SECOND_MOMENTS else numpy.zeros((0, 0), numpy.float32)
    return len(rows), squares, numpy.ascontiguousarray(products)


def tell_arrays(layers: Sequence[Any], inputs: Mapping[str, Any] | None, needs: int) -> None:
    """Gives layers of arrays their inputs. Raises ValueError for a layer without."""
    for layer in layers:
        if inputs is None or layer.name not in inputs:
            raise ValueError(f"{layer.name}: a scheme looks at its inputs; give inputs={{name: [positions, in], ...}}")
        layer.set_inputs(*of_array(inputs[layer.name], needs))
