"""Medians, ratios within rounds and the bounds that they are held against."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ascend_serve.bench.vllm_bench import Measured
from benchmarks.serving.figures import FIGURES, Figure, Point
from benchmarks.serving.measure import Shape
from benchmarks.serving.page import write_page
from benchmarks.serving.pairs import Spread, differences, ratios
from benchmarks.serving.results import LoadResult, Results, StartResult
from benchmarks.serving.systems import SYSTEMS


def load(clients: int, speed: float, *, failed: int = 0) -> LoadResult:
    measured = Measured(clients, speed, 10.0, 20.0, 5.0, 6.0, requests=8, failed=failed, tokens=64, seconds=1.0)
    return LoadResult(
        measured=measured,
        processor_ms={"worker": 2.0, "replica": 0.5},
        client_processor_ms=0.1,
        load_average=1.0,
        steal_percent=0.0,
        busy_percent=50.0,
    )


def start(number: int, system: str, *loads: LoadResult, seconds: float | None = 30.0, device: float = 0) -> StartResult:
    return StartResult(
        round=number, system=system, device_time=device, start_seconds=seconds, loads=list(loads), load_average=0.5
    )


def results(*starts: StartResult) -> Results:
    return Results(machine={}, options={}, starts=list(starts))


def test_ratios_are_taken_within_a_round() -> None:
    assert ratios({0: 10.0, 1: 30.0, 2: 5.0}, {0: 5.0, 1: 10.0, 3: 1.0}) == Spread(2.5, 2.0, 3.0, (2.0, 3.0))


def test_nothing_in_common_is_no_ratio() -> None:
    assert ratios({0: 1.0}, {1: 1.0}) is None


def test_differences_are_taken_within_a_round() -> None:
    assert differences({0: 3.0, 1: 5.0}, {0: 1.0, 1: 4.5}) == Spread(1.25, 0.5, 2.0, (2.0, 0.5))


def test_a_load_with_failed_requests_is_not_measured() -> None:
    run = results(start(0, "a", load(8, 100.0, failed=1)), start(1, "a", load(8, 90.0), load(1, 10.0)))
    assert run.values("a", 0, "tokens_per_second", 8) == {1: 90.0}


def test_processor_time_of_a_system_is_that_of_all_its_processes() -> None:
    assert results(start(0, "a", load(8, 100.0))).values("a", 0, "processor_total_ms", 8) == {0: 2.5}


def test_a_start_that_failed_has_no_time() -> None:
    run = results(start(0, "a", seconds=None), start(1, "a", seconds=20.0))
    assert run.values("a", 0, "start_seconds") == {1: 20.0}


def test_a_device_time_is_a_system_of_its_own() -> None:
    run = results(start(0, "a", load(8, 100.0)), start(0, "a", load(8, 50.0), device=15.0))
    assert run.measured_systems() == [("a", 0.0), ("a", 15.0)]
    assert run.values("a", 15.0, "tokens_per_second", 8) == {0: 50.0}


@pytest.mark.parametrize(("speed", "holds"), [(1013.4, True), (1013.2, False)])
def test_an_ideal_device_gives_a_batch_for_each_step(speed: float, holds: bool) -> None:
    figure = next(figure for figure in FIGURES if figure.title == "device 15 ms, TP 2, batch 16: ours / ideal")
    measured = figure.measure(results(start(0, "ours-tp2", load(16, speed), device=15.0)))
    assert measured is not None
    assert figure.holds(measured) is holds


def test_four_replicas_are_held_against_four_times_one() -> None:
    figure = next(figure for figure in FIGURES if "four replicas" in figure.title)
    one, four = (
        start(0, "ours-tp1", load(16, 100.0), device=15.0),
        start(0, "ours-tp1-x4", load(64, 390.0), device=15.0),
    )
    measured = figure.measure(results(one, four))
    assert measured is not None
    assert measured.median == pytest.approx(0.975)


def test_a_most_is_no_least() -> None:
    figure = Figure("t", Point("a", "start_seconds"), Point("b", "start_seconds"), 1.0, at_least=False)
    measured = figure.measure(results(start(0, "a", seconds=11.0), start(0, "b", seconds=10.0)))
    assert measured is not None
    assert not figure.holds(measured)


def test_every_client_asks_several_times() -> None:
    assert [Shape().load(clients, seed=0).requests for clients in (1, 8, 32)] == [16, 48, 192]


def test_names_of_systems_fit() -> None:
    assert all(name == system.name for name, system in SYSTEMS.items())


def test_the_page_shows_figures_plots_and_failures(tmp_path: Path) -> None:
    failed = StartResult(round=0, system="stock-eager-tp2", device_time=0, error="<no token>", load_average=1.0)
    run = results(start(0, "ours-tp1", load(8, 300.0)), start(0, "stock-eager-tp1", load(8, 200.0)), failed)
    write_page(run, tmp_path / "results.html")
    page = (tmp_path / "results.html").read_text()
    row = page.partition("<td>tokens/s, 8 clients, TP 1: ours graph / stock eager</td>")[2].partition("</tr>")[0]
    assert re.findall(r">([^<>\n]+)<", row) == ["≥ 1.15", "1.50", "1.50", "1.50", "1", "yes"]
    assert "not measured in this run" in page
    assert "&lt;no token&gt;" in page
    assert re.search(r">ours-tp1</text>\s*<rect [^>]*width=\"500.0\"", page)
    assert "http" not in page
