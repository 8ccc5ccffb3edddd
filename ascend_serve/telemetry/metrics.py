"""The report as Prometheus metrics, beside vLLM's own in ``GET /metrics``."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ascend_serve.events import EventKind
from ascend_serve.graph.failure import FailureKind
from ascend_serve.graph.modes import GraphMode
from ascend_serve.telemetry.report import GraphReport, Outcome
from ascend_serve.telemetry.step_meter import Replay, StepKind, StepMeter, StepTotal
from ascend_serve.telemetry.story import Story


class Passage(StrEnum):
    """What became of a request at the gate: ``passed``, ``refused`` while no engine was there, ``lost`` with one."""

    PASSED = "passed"
    REFUSED = "refused"
    LOST = "lost"


_GAP_SECONDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256)
"""Buckets: a restart takes some seconds where everything is warm, minutes where a large model is loaded."""


class LostRequest(StrEnum):
    """What became of a request whose engine was lost."""

    CONTINUED = "continued"
    RETRIED = "retried"
    FAILED = "failed"
    GIVEN_UP = "given_up"
    TAKEN_OVER = "taken_over"


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
            "had got, retried from the beginning, failed, given_up because they may have been the cause. Or taken_over "
            "from a replica that was lost.",
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
        self._spares = Gauge(
            "ascend_serve_spare_workers", "Spare worker processes that wait for the next engine.", registry=registry
        )
        self._held = Gauge(
            "ascend_serve_held_weights_bytes",
            "Weights that spare worker processes hold in the memory of their host for the next engine.",
            registry=registry,
        )
        self._beat = Gauge(
            "ascend_serve_heartbeat_timestamp_seconds",
            "When all ranks last answered a heartbeat, in seconds since the epoch.",
            registry=registry,
        )
        self._passages = Counter(
            "ascend_serve_gate_requests", "Requests by what became of them at the gate.", ["outcome"], registry=registry
        )
        self.beat()
        for passage in Passage:
            self._passages.labels(passage.value)
        for reason in ("died", "stalled"):
            self._restarts.labels(reason)

    def passed(self, passage: Passage) -> None:
        """Count a request at the gate."""
        self._passages.labels(passage.value).inc()

    def beat(self) -> None:
        """Take note that all ranks answered a heartbeat."""
        self._beat.set_to_current_time()

    def spares(self, number: int, held_bytes: int) -> None:
        """Take note of how many spare worker processes wait, and of the bytes of weights that they hold."""
        self._spares.set(number)
        self._held.set(held_bytes)

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

    def took_over(self) -> None:
        """Count a stream that goes on here, of a replica that was lost."""
        self.lost(LostRequest.TAKEN_OVER)

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


PLAN_CHANGES = (EventKind.REPLANNED, EventKind.REPLACED, EventKind.RECAPTURED)
"""Kinds of events that change the plan, or set out to."""

_RANK = ["rank"]
_STEP = ["kind", "replay", "mode", "size"]


class StoryCollector(Collector):
    """Makes metrics of what events and steps came to, whenever they are asked for.

    Args:
        story: What the events came to.
        meter: What steps replayed.
    """

    def __init__(self, story: Story, meter: StepMeter) -> None:
        self._story = story
        self._meter = meter

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield from self._streams()
        yield from self._steps()
        yield from self._events()

    def _streams(self) -> Iterator[Metric]:
        used = GaugeMetricFamily(
            "ascend_serve_streams_used", "Streams that a rank's graphs take, where the device tells.", labels=_RANK
        )
        left = GaugeMetricFamily(
            "ascend_serve_streams_left", "Streams that a rank has left, where the device tells.", labels=_RANK
        )
        memory = GaugeMetricFamily(
            "ascend_serve_graph_memory_bytes", "Device memory that a rank's captures took, on NPUs.", labels=_RANK
        )
        for rank in self._story.report().ranks:
            values = (rank.streams_used, rank.streams_left, rank.graph_memory)
            for family, value in zip((used, left, memory), values, strict=True):
                if value is not None:
                    family.add_metric([str(rank.rank)], value)
        yield from (used, left, memory)

    def _steps(self) -> Iterator[Metric]:
        steps = CounterMetricFamily(
            "ascend_serve_steps", "Steps of the engine: replayed at their size, padded, or eager.", labels=_STEP
        )
        tokens = CounterMetricFamily(
            "ascend_serve_step_tokens", "Tokens of these steps, without padding.", labels=_STEP
        )
        padding = CounterMetricFamily("ascend_serve_padding_tokens", "Tokens that padding added to them.", labels=_STEP)
        # What may come is there from the beginning with 0, or Prometheus would miss the first of it.
        eager = ((kind, Replay.EAGER, GraphMode.NONE, None) for kind in StepKind)
        for (kind, replay, mode, size), total in (dict.fromkeys(eager, StepTotal()) | self._meter.totals).items():
            values = [kind, replay, mode, "" if size is None else str(size)]
            steps.add_metric(values, total.steps)
            tokens.add_metric(values, total.tokens)
            padding.add_metric(values, total.padding)
        yield from (steps, tokens, padding)

    def _events(self) -> Iterator[Metric]:
        failures = CounterMetricFamily(
            "ascend_serve_capture_failures", "Failures of ranks by their class.", labels=["failure"]
        )
        for failure in FailureKind:
            failures.add_metric([failure], self._story.failures[failure])
        changes = CounterMetricFamily(
            "ascend_serve_plan_changes", "Changes of the plan: replanned, replaced, recaptured.", labels=["kind"]
        )
        for kind in PLAN_CHANGES:
            changes.add_metric([kind], self._story.kinds[kind])
        yield from (failures, changes)
