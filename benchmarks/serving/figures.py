"""The figures that the request path is held against: pairs of systems, and the bound of each."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.serving.pairs import Spread, differences, ratios, spread
from benchmarks.serving.results import Results


@dataclass(frozen=True)
class Point:
    """A metric of a system under a load; see `Results.values`."""

    system: str
    metric: str
    clients: int = 0
    device_time: float = 0.0

    def values(self, results: Results) -> dict[int, float]:
        """Its values by round."""
        return results.values(self.system, self.device_time, self.metric, self.clients)


@dataclass(frozen=True)
class Figure:
    """One figure: a point against another of the same round, or against a constant.

    Attributes:
        title: What is compared.
        point: What is held against the bound.
        against: Another point, or a constant.
        bound: Of the median.
        at_least: Whether the bound is the least or the most that it may be.
        scale: What ``against`` is multiplied with.
        difference: Whether the two are subtracted instead of divided.
    """

    title: str
    point: Point
    against: Point | float
    bound: float
    at_least: bool
    scale: float = 1.0
    difference: bool = False

    def measure(self, results: Results) -> Spread | None:
        """What it came to over the rounds; ``None`` where no round has both sides."""
        ours = self.point.values(results)
        if isinstance(self.against, Point):
            theirs = {number: value * self.scale for number, value in self.against.values(results).items()}
            return (differences if self.difference else ratios)(ours, theirs)
        return spread([value / (self.against * self.scale) for value in ours.values()])

    def holds(self, measured: Spread) -> bool:
        """Whether the median keeps the bound."""
        return measured.median >= self.bound if self.at_least else measured.median <= self.bound


_SPEED = "tokens_per_second"
_COMPILED = "ours-npugraph-ex-tp1"


def _speed(title: str, ours: str, theirs: str, bound: float, clients: int = 8) -> Figure:
    return Figure(title, Point(ours, _SPEED, clients), Point(theirs, _SPEED, clients), bound, at_least=True)


def _most(title: str, metric: str, bound: float, clients: int = 0, systems: tuple[str, str] | None = None) -> Figure:
    ours, theirs = systems or ("ours-tp1", "stock-eager-tp1")
    return Figure(title, Point(ours, metric, clients), Point(theirs, metric, clients), bound, at_least=False)


def _of_ideal(title: str, system: str, batch: int, device_time: float, bound: float) -> Figure:
    """Tokens/s over those of a device that never waits: a batch for each step."""
    ideal = batch / (device_time / 1e3)
    return Figure(title, Point(system, _SPEED, batch, device_time), ideal, bound, at_least=True)


FIGURES: tuple[Figure, ...] = (
    _speed("tokens/s, 8 clients, TP 1: ours graph / stock eager", "ours-tp1", "stock-eager-tp1", 1.15),
    _speed("tokens/s, 8 clients, TP 1: ours npugraph_ex / stock compiled", _COMPILED, "stock-compiled-tp1", 0.9),
    _speed("tokens/s, 8 clients, TP 2: ours graph / stock eager", "ours-tp2", "stock-eager-tp2", 1.15),
    _most("TTFT p50, 1 client, TP 1: ours / stock eager", "ttft_p50_ms", 1.1, 1),
    _most("TTFT p50, 8 clients, TP 1: ours / stock eager", "ttft_p50_ms", 1.1, 8),
    _most("TPOT p50, 1 client, TP 1: ours / stock eager", "tpot_p50_ms", 0.95, 1),
    _most("processor time per token, 8 clients, TP 1: ours / stock eager", "processor_total_ms", 1.1, 8),
    _of_ideal("device 15 ms, TP 2, batch 16: ours / ideal", "ours-tp2", 16, 15.0, 0.95),
    Figure(
        "device 15 ms, TP 2, batch 16: tokens/s ours / stock",
        Point("ours-tp2", _SPEED, 16, 15.0),
        Point("stock-emulated-tp2", _SPEED, 16, 15.0),
        1.0,
        at_least=True,
    ),
    Figure(
        "device 15 ms, TP 1, 64 clients: four replicas / 4 x one",
        Point("ours-tp1-x4", _SPEED, 64, 15.0),
        Point("ours-tp1", _SPEED, 16, 15.0),
        0.95,
        at_least=True,
        scale=4.0,
    ),
    _speed("tokens/s, 8 clients, TP 1: ours graph / Ray Serve LLM eager", "ours-tp1", "ray-llm-eager-tp1", 1.2),
    _speed("tokens/s, 8 clients, TP 2: ours graph / Ray Serve LLM eager", "ours-tp2", "ray-llm-eager-tp2", 1.2),
    _speed(
        "tokens/s, 8 clients, TP 1: ours npugraph_ex / Ray Serve LLM compiled", _COMPILED, "ray-llm-compiled-tp1", 1.2
    ),
    _speed(
        "tokens/s, 8 clients, TP 2: ours npugraph_ex / Ray Serve LLM compiled",
        "ours-npugraph-ex-tp2",
        "ray-llm-compiled-tp2",
        1.2,
    ),
    Figure(
        "added to TTFT p50, 1 client, TP 1: ours - engine asked directly, ms",
        Point("ours-tp1", "ttft_p50_ms", 1),
        Point("engine-tp1", "ttft_p50_ms", 1),
        2.0,
        at_least=False,
        difference=True,
    ),
    Figure(
        "added to each token (TPOT p50), 1 client, TP 1: ours - engine asked directly, ms",
        Point("ours-tp1", "tpot_p50_ms", 1),
        Point("engine-tp1", "tpot_p50_ms", 1),
        0.2,
        at_least=False,
        difference=True,
    ),
    _most(
        "from the command to the first token, TP 2: ours / stock eager",
        "start_seconds",
        1.0,
        systems=("ours-tp2", "stock-eager-tp2"),
    ),
)
