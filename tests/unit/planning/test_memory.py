"""What fits on an NPU, by hand: figures of published models."""

import json
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.config import load
from ascend_serve.planning import plan_deployment
from ascend_serve.planning.memory import MemoryFigures

SHIPPED = "qwen3-32b"
"""64 layers, 64 heads of 128, 8 of keys and values, 32.8e9 parameters, on 8 NPUs with 64 GiB."""


def memory(name: str, *overrides: str) -> MemoryFigures:
    return plan_deployment(load(name, overrides), environment={}).memory


@pytest.mark.parametrize(
    ("name", "overrides", "weights", "token"),
    [
        pytest.param(SHIPPED, [], 32.8e9 * 2 / 8, 2 * 1 * 128 * 2 * 64, id="8 ranks, a head each"),
        pytest.param(SHIPPED, ["parallel.tensor_parallel_size=4"], 32.8e9 * 2 / 4, 2 * 2 * 128 * 2 * 64, id="4 ranks"),
        pytest.param(
            SHIPPED,
            ["parallel.tensor_parallel_size=16", "hardware.npus_per_node=16"],
            32.8e9 * 2 / 16,
            2 * 1 * 128 * 2 * 64,
            id="16 ranks: a head of keys on two of them",
        ),
        pytest.param(
            SHIPPED,
            ["parallel.tensor_parallel_size=4", "parallel.pipeline_parallel_size=2"],
            32.8e9 * 2 / 8,
            2 * 2 * 128 * 2 * 32,
            id="two stages have half the layers",
        ),
        pytest.param(SHIPPED, ["vllm.kv_cache_dtype=fp8"], 32.8e9 * 2 / 8, 2 * 1 * 128 * 64, id="a byte for a number"),
        pytest.param(SHIPPED, ["vllm.dtype=float32"], 32.8e9 * 4 / 8, 2 * 1 * 128 * 4 * 64, id="full precision"),
        pytest.param(
            SHIPPED,
            ["vllm.quantization=int8_per_channel_weight_only"],
            32.8e9 / 8,
            2 * 1 * 128 * 2 * 64,
            id="quantized weights",
        ),
        pytest.param("deepseek-v3", [], None, (512 + 64) * 2 * 61, id="latent attention: on every rank"),
    ],
)
def test_weights_and_tokens(name: str, overrides: list[str], weights: float | None, token: int) -> None:
    found = memory(name, *overrides)
    assert found.kv_bytes_per_token == token
    if weights is not None:
        assert found.weights_gib == pytest.approx(weights / 2**30, abs=0.01)


def test_experts_are_over_all_ranks_and_the_rest_is_in_each_engine() -> None:
    experts = 58 * 256 * 3 * 7168 * 2048
    expected = (experts / 32 + (671e9 - experts) / 8) * 2
    assert memory("deepseek-v3").weights_gib == pytest.approx(expected / 2**30, abs=0.01)


def test_what_is_left_is_for_the_cache() -> None:
    found = memory(SHIPPED, "vllm.gpu_memory_utilization=0.9")
    assert found.kv_cache_gib == pytest.approx(64 * 0.9 - (found.weights_gib or 0) - (found.graphs_gib or 0), abs=0.02)
    assert found.kv_tokens == pytest.approx(
        (found.kv_cache_gib or 0) * 2**30 / (found.kv_bytes_per_token or 1), rel=0.001
    )
    assert found.requests_at_once == pytest.approx((found.kv_tokens or 0) / 32768, abs=0.01)
    assert found.fits


@pytest.mark.parametrize(
    ("overrides", "gib"),
    [
        pytest.param(["hardware.npu_memory_gib=32"], 32, id="said"),
        pytest.param(["hardware.soc=950"], 112, id="of its kind"),
        pytest.param(["vllm.kv_cache_memory_bytes=1073741824"], 64, id="a cache that is said"),
    ],
)
def test_memory_of_the_device(overrides: list[str], gib: float) -> None:
    found = memory(SHIPPED, *overrides)
    assert found.device_gib == gib
    if "kv_cache_memory_bytes" in overrides[0]:
        assert (found.kv_cache_gib, found.kv_tokens) == (1, 32768)


def test_what_does_not_fit_is_told() -> None:
    plan = plan_deployment(load(SHIPPED, ["parallel.tensor_parallel_size=1"]), environment={})
    assert (plan.memory.fits, plan.memory.kv_tokens) == (False, 0)
    assert any("does not fit" in note for note in plan.notes)


def test_the_demo_is_exact_as_its_cache_is_said() -> None:
    found = memory("demo")
    assert (found.device_gib, found.kv_bytes_per_token, found.kv_tokens) == (None, 2 * 1 * 64 * 2 * 4, 65536)


@pytest.mark.parametrize(
    ("npus", "replicas"), [pytest.param(8, 1, id="one"), pytest.param(16, 2, id="two"), pytest.param(20, 2, id="rest")]
)
def test_replicas(npus: int, replicas: int) -> None:
    assert memory(SHIPPED, f"hardware.npus_per_node={npus}").replicas == replicas


def test_weights_are_those_of_the_files(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    (tmp_path / "model.safetensors").write_bytes(bytes(2**20 * 64))
    assert memory(str(tmp_path), "vllm.quantization=int8_per_channel_weight_only").weights_gib == pytest.approx(
        64 / 1024, abs=0.01
    )


def test_layers_without_keys_and_values_take_none(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"num_hidden_layers": 8, "num_attention_heads": 2, "hidden_size": 8, "head_dim": 4}
    (tmp_path / "config.json").write_text(json.dumps({**fields, "full_attention_interval": 4}))
    assert memory(str(tmp_path)).kv_bytes_per_token == 2 * 2 * 4 * 2 * 2
