"""The weight matrices of a PyTorch module or of a dict of NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy

from klens import _core
from klens._patterns import listed, matches


@dataclass
class Weight:
    """A weight matrix of a module: a tensor [out, in] that shares the parameter's memory."""

    name: str
    tensor: Any
    transposed: bool = False  # the module keeps [in, out]
    modules: list[str] = field(default_factory=list)  # all that use this memory, by name


def chosen(names: Iterable[str], layers: str | Iterable[str], exclude: str | Iterable[str] | None) -> list[str]:
    """Those names that a pattern of `layers` matches and none of `exclude`. Raises ValueError for a pattern without effect."""
    names = list(names)
    wanted, unwanted = listed(layers), listed(exclude)
    for pattern in wanted:
        if not any(matches(name, pattern) for name in names):
            some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise ValueError(f"layers: {pattern!r} matches no layer; their names are {some or 'none: the model has no weight matrix'}")
    found = [n for n in names if any(matches(n, p) for p in wanted) and not any(matches(n, p) for p in unwanted)]
    if not found:
        raise ValueError("layers and exclude leave no layer")
    return found


def weights_of(model: Any) -> list[Weight]:
    """Every matrix of a module that a product uses: of linear layers, and of experts that are stacked in one parameter. Those
    that share memory are one."""
    import torch

    found: dict[tuple[int, int, tuple[int, ...]], Weight] = {}

    def add(name: str, tensor: Any, module: str, transposed: bool = False) -> None:
        key = (tensor.data_ptr() if tensor.device.type != "meta" else id(tensor), tensor.storage_offset(), tuple(tensor.shape))
        if key in found:
            if module not in found[key].modules:
                found[key].modules.append(module)
        else:
            found[key] = Weight(name, tensor, transposed, [module])

    for module_name, module in model.named_modules(remove_duplicate=False):
        prefix = module_name + "." if module_name else ""
        if isinstance(module, torch.nn.Linear):
            add(prefix + "weight", module.weight.detach(), module_name)
        elif type(module).__name__ == "Conv1D" and getattr(module, "weight", None) is not None and module.weight.ndim == 2:
            add(prefix + "weight", module.weight.detach(), module_name, transposed=True)  # GPT-2's
        else:
            for parameter_name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim == 3 and "expert" in (prefix + parameter_name).lower():
                    for expert in range(parameter.shape[0]):
                        add(f"{prefix}{parameter_name}[{expert}]", parameter.detach()[expert], module_name)
    embeddings = {m.weight.data_ptr(): n for n, m in model.named_modules() if isinstance(m, torch.nn.Embedding) and m.weight.device.type != "meta"}
    for weight in found.values():
        tied = embeddings.get(weight.tensor.data_ptr()) if weight.tensor.device.type != "meta" else None
        if tied is not None:
            weight.modules.append(tied)
    return list(found.values())


def layer_of(weight: Weight) -> Any:
    """The core's view of it. Raises TypeError, ValueError for what cannot be changed in place."""
    import torch

    tensor = weight.tensor
    if tensor.device.type == "meta":
        raise ValueError(f"{weight.name} has no data here (meta or offloaded); load the whole model first")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or not tensor.is_floating_point():
        kind = type(tensor).__name__ if type(tensor) is not torch.Tensor else str(tensor.dtype)
        raise TypeError(f"{weight.name} is quantized already ({kind}); load the model in float32, float16 or bfloat16")
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise TypeError(f"{weight.name} is {tensor.dtype}; convert the model, e.g. with model.float()")
    if tensor.device.type == "cpu" and not weight.transposed and tensor.is_contiguous():
        layer = _core.Layer(weight.name, tensor)
    else:
        view = tensor.T if weight.transposed else tensor

        def load() -> numpy.ndarray:
            return numpy.ascontiguousarray(view.float().cpu().numpy())

        def store(array: numpy.ndarray) -> None:
            view.copy_(torch.from_numpy(array))

        layer = _core.Layer.called(weight.name, view.shape[0], view.shape[1], load, store)
    if len(weight.modules) > 1:
        layer.note = "shared with " + ", ".join(weight.modules[1:]) + ": the perturbation reaches all of its uses"
    return layer


def layers_of_model(model: Any) -> list[Any]:
    """The core's views of all weights of a module."""
    return [layer_of(each) for each in weights_of(model)]


def layers_of_arrays(arrays: Mapping[str, Any]) -> list[Any]:
    """Views of NumPy arrays [out, in]. Raises ValueError for those that cannot be written."""
    layers = []
    for name, array in arrays.items():
        if isinstance(array, numpy.ndarray):
            if array.dtype not in (numpy.float32, numpy.float16):
                raise TypeError(f"{name} is {array.dtype}; give float32 or float16, e.g. array.astype('float32')")
            if not array.flags.writeable:
                raise ValueError(f"{name} cannot be written; klens changes weights in place and puts them back: give a copy")
        layers.append(_core.Layer(name, array))
    return layers
