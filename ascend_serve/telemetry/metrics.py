"""The report as Prometheus metrics, beside vLLM's own in ``GET /metrics``."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary

from ascend_serve.telemetry.report import GraphReport, Outcome

_GAP_SECONDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256)
"""Buckets: a restart takes some seconds where everything is warm, minutes where a large model is loaded."""


class LostRequest(StrEnum):
    """What became of a request whose engine was lost."""

    CONTINUED = "continued"
    RETRIED = "retried"
    FAILED = "failed"
    GIVEN_UP = "given_up"


class ReplicaMetrics:
    """What one replica tells of its capture group and its engine.

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
        self._restarts = Counter(
            "ascend_serve_engine_restarts", "Engines that were replaced.", ["reason"], registry=registry
        )
        self._down = Summary(
            "ascend_serve_engine_restart_seconds", "From a dead engine to serving again.", registry=registry
        )
        self._lost = Counter(
            "ascend_serve_lost_engine_requests",
            "Requests under way on an engine that was lost, by what became of them: continued after what the client "
            "had got, retried from the beginning, failed, given_up because they may have been the cause.",
            ["outcome"],
            registry=registry,
        )
        for outcome in LostRequest:
            self._lost.labels(outcome.value)
        self._gap = Histogram(
            "ascend_serve_lost_engine_gap_seconds",
            "From the loss of an engine to the next token of a request that was under way.",
            buckets=_GAP_SECONDS,
            registry=registry,
        )
        self._decodes = Counter(
            "ascend_serve_idle_decodes",
            "Decode steps that a replica ran by itself on an idle engine; vLLM's metrics leave them out.",
            registry=registry,
        )

    def decoded(self) -> None:
        """Count a decode of the replica's own."""
        self._decodes.inc()

    def restarted(self, reason: str, seconds: float) -> None:
        """Count an engine that was replaced because it ``died`` or ``stalled``, and was away for ``seconds``."""
        self._restarts.labels(reason).inc()
        self._down.observe(seconds)

    def lost(self, outcome: LostRequest, number: int = 1) -> None:
        """Count requests whose engine was lost."""
        self._lost.labels(outcome.value).inc(number)

    def went_on(self, seconds: float) -> None:
        """Note after how many seconds a request went on."""
        self._gap.observe(seconds)

    def show(self, report: GraphReport) -> None:
        """Set the gauges to what ``report`` says."""
        for outcome in Outcome:
            self._outcome.labels(outcome.value).set(outcome is report.outcome)
        for rank in report.ranks:
            self._graphs.labels(str(rank.rank)).set(rank.graphs)
            self._capture.labels(str(rank.rank)).set(rank.capture_seconds)
        for phase, seconds in report.seconds.items():
            self._start.labels(phase).set(seconds)
