"""What Ray is told of the metrics of a replica."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from ascend_serve.replica import ray_metrics
from ascend_serve.replica.ray_metrics import RayMetrics

Told = dict[tuple[str, ...], float]


async def nothing() -> None:
    """Nothing has to be brought up to date."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What Ray's counters have come to, and what its gauges are set to, by name and labels."""
    values: Told = {}

    class Metric:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self.name, self.keys = name, tag_keys
            assert ":" not in name

        def inc(self, value: float, tags: Mapping[str, str]) -> None:
            assert value > 0
            assert tuple(tags) == self.keys
            values[(self.name, *tags.values())] = values.get((self.name, *tags.values()), 0.0) + value

        def set(self, value: float, tags: Mapping[str, str]) -> None:
            assert tuple(tags) == self.keys
            values[(self.name, *tags.values())] = value

    monkeypatch.setattr(ray_metrics, "Counter", Metric)
    monkeypatch.setattr(ray_metrics, "Gauge", Metric)
    return values


async def test_what_the_registry_has_is_what_ray_comes_to(told: Told) -> None:
    registry = CollectorRegistry()
    steps = Counter("ascend_serve_steps", "Steps.", ["replay"], registry=registry)
    running = Gauge("vllm:num_requests_running", "Requests.", registry=registry)
    seconds = Histogram("vllm:time_to_first_token_seconds", "Seconds.", buckets=(1, 2), registry=registry)
    Gauge("python_gc", "Another's.", registry=registry).set(1)
    Info("vllm:cache_config", "Texts.", registry=registry).info({"block_size": "16"})
    metrics = RayMetrics(nothing, registry)
    try:
        steps.labels("exact").inc(3)
        steps.labels("eager")
        running.set(2)
        seconds.observe(1.5)
        metrics.copy()
        metrics.copy()
        steps.labels("exact").inc(4)
        running.set(1)
        metrics.copy()
    finally:
        metrics.stop()
    assert told == {
        ("ascend_serve_steps_total", "exact"): 7,
        ("vllm_num_requests_running",): 1,
        ("vllm_time_to_first_token_seconds_bucket", "1.0"): 0,
        ("vllm_time_to_first_token_seconds_bucket", "2.0"): 1,
        ("vllm_time_to_first_token_seconds_bucket", "+Inf"): 1,
        ("vllm_time_to_first_token_seconds_count",): 1,
        ("vllm_time_to_first_token_seconds_sum",): 1.5,
    }
