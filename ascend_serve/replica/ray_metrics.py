"""A replica's metrics among Ray's own: what ``GET /metrics`` says is told to Ray too, and nothing is counted twice.

Ray's metrics agent of a node has them with the tags that Ray Serve gives its own: application, deployment and replica.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry
from ray.serve.metrics import Counter, Gauge

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.samples import Sample

logger = logging.getLogger(__name__)

_PERIOD_SECONDS = 10.0
"""How often Ray (2.60.0) reports metrics unless it is told otherwise (``metrics_report_interval_ms``)."""
_OURS = ("ascend_serve_", "vllm:")
_LEFT_OUT = ("_created", "_info")
_TOTAL = "_total"


class RayMetrics:
    """Tells Ray what is counted, every few seconds.

    Args:
        refresh: Brings the metrics up to date.
        registry: Where they are collected.
    """

    def __init__(self, refresh: Callable[[], Awaitable[None]], registry: CollectorRegistry = REGISTRY) -> None:
        self._refresh = refresh
        self._registry = registry
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._told: dict[tuple[str, tuple[str, ...]], float] = {}
        self._telling = asyncio.create_task(self._tell())

    def stop(self) -> None:
        """Tell no more."""
        self._telling.cancel()

    def copy(self) -> None:
        """Tell Ray what the registry has now.

        Counters grow by what was added since the last time. All else is set, the parts of a histogram too, which Ray
        would only observe one by one.
        """
        for metric in self._registry.collect():
            if metric.name.startswith(_OURS):
                for sample in metric.samples:
                    if not sample.name.endswith(_LEFT_OUT):
                        self._copy(metric, sample)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            try:
                await self._refresh()
                self.copy()
            except Exception as error:
                # An engine that is lost meanwhile tells nothing; it is told next time.
                logger.debug("Ray is not told what is counted: %s", error)

    def _copy(self, metric: Metric, sample: Sample) -> None:
        # Ray allows no colon.
        name = sample.name.replace(":", "_")
        labels = tuple(sample.labels)
        if not name.endswith(_TOTAL):
            gauge = self._gauges.get(name) or Gauge(name, description=metric.documentation, tag_keys=labels)
            self._gauges[name] = gauge
            gauge.set(sample.value, tags=sample.labels)
            return
        counter = self._counters.get(name) or Counter(name, description=metric.documentation, tag_keys=labels)
        self._counters[name] = counter
        key = (name, tuple(sample.labels.values()))
        added = sample.value - self._told.get(key, 0.0)
        if added > 0:
            counter.inc(added, tags=sample.labels)
            self._told[key] = sample.value
