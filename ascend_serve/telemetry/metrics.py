"""The report as Prometheus metrics, beside vLLM's own in ``GET /metrics``."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from ascend_serve.telemetry.report import GraphReport, Outcome


class GraphMetrics:
    """Gauges of one capture group.

    Args:
        registry: Where they are collected; that of ``GET /metrics`` when not given.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._outcome = Gauge(
            "ascend_serve_graph_outcome", "1 for the outcome that holds.", ["outcome"], registry=registry
        )
        self._graphs = Gauge("ascend_serve_graphs", "Graphs that a rank holds.", ["rank"], registry=registry)
        self._capture = Gauge(
            "ascend_serve_capture_seconds", "Time of warm-up and capture on a rank.", ["rank"], registry=registry
        )
        self._start = Gauge(
            "ascend_serve_start_seconds", "Time of a phase of the start-up.", ["phase"], registry=registry
        )

    def show(self, report: GraphReport) -> None:
        """Set the gauges to what ``report`` says."""
        for outcome in Outcome:
            self._outcome.labels(outcome.value).set(outcome is report.outcome)
        for rank in report.ranks:
            self._graphs.labels(str(rank.rank)).set(rank.graphs)
            self._capture.labels(str(rank.rank)).set(rank.capture_seconds)
        for phase, seconds in report.seconds.items():
            self._start.labels(phase).set(seconds)
