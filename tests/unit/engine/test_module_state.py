"""What loading does to modules besides their weights is noticed, and what it does not do is not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ascend_serve.engine.module_state import difference, held_tensors, module_state


class Layer(torch.nn.Module):
    """A layer with what layers of vLLM have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2, 3), requires_grad=False)
        self.weight.loaded_shards = []
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.number = 1.0
        self.names = ["q", "k"]
        self.loose = torch.zeros(2)
        self.quant_method = SimpleNamespace(kind="none")
        self.other = object()


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([Layer(), Layer()])
        self.head = Layer()
        self.head.weight = self.layers[0].weight


def fill(layer: Any) -> None:
    layer.weight.data.copy_(torch.ones(2, 3))
    layer.scale.fill_(2.0)


def register_anew(layer: Any) -> None:
    layer.weight = torch.nn.Parameter(torch.zeros(2, 3, dtype=torch.int8), requires_grad=False)


def change(name: str, value: Any) -> Callable[[Any], None]:
    return lambda layer: setattr(layer, name, value)


@pytest.mark.parametrize(
    ("load", "changed"),
    [
        pytest.param(fill, "", id="weights-alone"),
        pytest.param(lambda layer: None, "", id="nothing"),
        pytest.param(change("number", 2.0), "layers.1.number", id="a-number"),
        pytest.param(change("has_own_head", True), "layers.1.has_own_head", id="a-flag-that-was-not-there"),
        pytest.param(lambda layer: delattr(layer, "number"), "layers.1.number", id="a-number-that-is-gone"),
        pytest.param(lambda layer: layer.names.append("v"), "layers.1.names", id="a-list"),
        pytest.param(lambda layer: layer.loose.add_(1), "layers.1.loose", id="a-tensor-that-is-no-buffer"),
        pytest.param(change("other", object()), "layers.1.other", id="another-object"),
        pytest.param(
            lambda layer: vars(layer.quant_method).update(kind="x"), "layers.1.quant_method.*", id="its-method"
        ),
        pytest.param(register_anew, "layers.1.weight", id="another-type"),
        pytest.param(
            lambda layer: layer.weight.loaded_shards.append(1),
            "layers.1.weight.loaded_shards",
            id="what-a-weight-notes",
        ),
        pytest.param(lambda layer: layer.register_parameter("bias", None), "", id="a-parameter-that-is-none"),
        pytest.param(lambda layer: layer.add_module("inner", Layer()), "layers.1", id="a-module"),
    ],
)
def test_what_else_loading_does_is_noticed(load: Callable[[Any], None], changed: str) -> None:
    model = Model()
    before = module_state(model)
    load(model.layers[1])
    found = difference(before, module_state(model))
    assert found.startswith(changed)
    assert bool(found) == bool(changed)


def test_what_is_shared_is_held_once() -> None:
    model = Model()
    assert set(held_tensors(model)) == {
        "layers.0.weight",
        "layers.1.weight",
        "layers.0.scale",
        "layers.1.scale",
        "head.scale",
    }
