"""What loading weights did to the modules of a model besides writing into their parameters and buffers.

Weights can be copied back later exactly where that is nothing. It is not nothing where a quantization registers its
parameters anew, a draft model notes which of its layers it has, or a scale is kept as a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

_REGISTERED = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
_METHODS = ("quant_method", "scheme")
"""Attributes of vLLM's layers that hold what does not belong to a module, but to its weights."""
_DEEPEST = 3


@dataclass(frozen=True, eq=False)
class _Itself:
    """A value that is equal to nothing but itself, and is there as long as it is compared."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def held_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers by name, those that are shared once; what they point to, apart from autograd."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.data for name, tensor in named.items()}


def obstacle(tensors: Mapping[str, torch.Tensor]) -> str:
    """Why tensors cannot be copied and copied back; empty where they can."""
    for name, tensor in tensors.items():
        if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
            return f"{name} is no plain tensor"
        if tensor.is_meta:
            return f"{name} has no memory yet"
        if any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
            return f"elements of {name} share their memory"
    return ""


def module_state(model: torch.nn.Module) -> dict[str, Any]:
    """What can be compared before and after of modules, parameters and buffers, by their names and attributes."""
    state: dict[str, Any] = {}
    for prefix, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute not in _REGISTERED:
                state[f"{prefix}.{attribute}"] = _comparable(value)
            if attribute in _METHODS and hasattr(value, "__dict__"):
                state[f"{prefix}.{attribute}.*"] = _comparable(vars(value))
        state[f"{prefix}."] = [child for child, _ in module.named_children()]
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        data = tensor.data
        state[name] = (id(tensor), type(data), data.dtype, data.shape, data.stride(), data.device)
        for attribute, value in vars(tensor).items():
            state[f"{name}.{attribute}"] = _comparable(value)
    return state


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The first name under which something is not as it was; empty where all is."""
    for name in (*before, *after):
        if name not in before or name not in after or before[name] != after[name]:
            return name.removeprefix(".")
    return ""


def _comparable(value: Any, depth: int = 0) -> Any:
    """Plain values as they are, collections by what is in them, tensors by how often they were written; else itself."""
    match value:
        case _ if isinstance(value, _PLAIN):
            return (type(value), repr(value))
        case torch.Tensor():
            # Kept would be the memory of one that is replaced.
            return (id(value), 0 if value.is_inference() else value._version)
        case list() | tuple() if depth < _DEEPEST:
            return [_comparable(item, depth + 1) for item in value]
        case dict() if depth < _DEEPEST:
            return [(_comparable(key, _DEEPEST), _comparable(item, depth + 1)) for key, item in value.items()]
        case set():
            return set(value)
    return _Itself(value)
