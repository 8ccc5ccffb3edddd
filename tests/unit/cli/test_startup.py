from __future__ import annotations

import io
import shlex
from dataclasses import replace

import pytest
from rich.console import Console

from ascend_serve.capture.messages import Phase
from ascend_serve.capture.outcome import IncarnationOutcome, OutcomeKind
from ascend_serve.capture.roster import RankState
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.cli.startup import StartupProgress, session_detail, session_phase
from ascend_serve.cli.summary import curl_line, print_summary
from ascend_serve.events import CompilingKernels, Warming
from ascend_serve.graph.keys import capture_keys
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, CapturePlan
from ascend_serve.telemetry import report


def known(phase: str, *graphs: int, sizes: tuple[int, ...] = (1, 2), ended: OutcomeKind | None = None) -> Snapshot:
    keys = capture_keys(GraphMode.FULL, sizes, max_num_seqs=2)
    return Snapshot(
        Phase(phase),
        plan=CapturePlan(1, RuntimeName.ACLGRAPH, GraphMode.FULL, sizes, keys),
        outcome=None if ended is None else IncarnationOutcome(ended, 0, None),
        ranks=tuple(RankState(rank, graphs=count) for rank, count in enumerate(graphs)),
    )


@pytest.mark.parametrize(
    ("snapshot", "phase", "detail"),
    [
        pytest.param(None, "load", "", id="no driver yet"),
        pytest.param(known("join"), "load", "", id="workers load the model"),
        pytest.param(known("propose", 0, 0), "agree", "", id="ranks propose"),
        pytest.param(known("capture", 2, 1), "capture", "1 of 2 graphs on 2 ranks", id="the slowest rank counts"),
        pytest.param(known("seal", 0, 0, sizes=()), "capture", "nothing to capture", id="Xlite captures nothing"),
        pytest.param(known("seal", 2, 2), "capture", "2 of 2 graphs on 2 ranks", id="graphs are verified"),
        pytest.param(
            known("capture", 1, 0, ended=OutcomeKind.REPLACE), "capture", "replacing all workers", id="fresh workers"
        ),
        pytest.param(
            known("join", ended=OutcomeKind.REPLACE), "load", "replacing all workers", id="fresh workers load the model"
        ),
        pytest.param(known("serve", 2, 2), "warm-up", "", id="sealed"),
        pytest.param(known("aborted", 2, 1, ended=OutcomeKind.ABORT), "aborted", "", id="given up"),
    ],
)
def test_shows_where_a_session_is(snapshot: Snapshot | None, phase: str, detail: str) -> None:
    assert (session_phase(snapshot), session_detail(snapshot)) == (phase, detail)


def test_each_phase_is_a_plain_line_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with StartupProgress(Console(file=out)) as progress:
        progress.enter("cluster")
        for snapshot in (known("join"), known("propose"), known("capture", 1, 1), known("capture", 2, 2)):
            progress.follow(snapshot)
    lines = [line.split(":")[0] for line in out.getvalue().splitlines()]
    assert lines == ["cluster", "load", "agree", "capture"]
    assert out.getvalue().splitlines()[-1].endswith("2 of 2 graphs on 2 ranks")


def test_each_rank_that_compiles_static_kernels_is_a_line_once() -> None:
    out = io.StringIO()
    (key,) = capture_keys(GraphMode.FULL, (8,), max_num_seqs=8)
    events = [
        CompilingKernels(time=1.0, text=f"static kernels compile in /tmp/{rank}", rank=rank, key=key.label)
        for rank in (0, 1)
    ]
    with StartupProgress(Console(file=out, width=200)) as progress:
        for count in (1, 1, 2, 2):
            seen = (Warming(time=0.0, key=key.label), *events[:count])
            progress.follow(replace(known("capture", 0, 0), events=seen))
    lines = [line for line in out.getvalue().splitlines() if "static kernels" in line]
    assert lines == [f"rank {rank} for FULL/8: static kernels compile in /tmp/{rank}" for rank in (0, 1)]


def test_the_summary_says_what_holds_and_why() -> None:
    out = io.StringIO()
    why = Adjustment("stream-budget", "1 2 4", "2", "Rank 1 has room for one graph.")
    told = report.GraphReport(
        outcome=report.Outcome.DEGRADED,
        requested_mode=GraphMode.FULL,
        effective_mode=GraphMode.FULL_DECODE_ONLY,
        requested_runtime=RuntimeName.ACLGRAPH,
        runtime=RuntimeName.ACLGRAPH,
        capture_sizes=(2,),
        adjustments=(why,),
        ranks=(RankState(0, "10.0.0.1", 77, graphs=1, capture_seconds=0.4, streams_left=3),),
    )
    print_summary(Console(file=out, width=200), told)
    text = out.getvalue()
    for part in ("degraded", "FULL_DECODE_ONLY (requested: FULL)", "Rank 1 has room for one graph.", "10.0.0.1", "77"):
        assert part in text


PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


@pytest.mark.parametrize(
    ("variables", "past"),
    [
        pytest.param({}, False, id="no proxy"),
        pytest.param({"http_proxy": "http://proxy:3128"}, True, id="http_proxy"),
        pytest.param({"https_proxy": "http://proxy:3128"}, False, id="a proxy for https alone"),
        pytest.param({"ALL_PROXY": "http://proxy:3128"}, True, id="a proxy for all"),
        pytest.param({"http_proxy": "http://proxy:3128", "no_proxy": "localhost,127.0.0.1"}, False, id="no_proxy"),
    ],
)
def test_the_curl_line_asks_no_proxy(variables: dict[str, str], past: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("--noproxy '*'" in curl_line("http://127.0.0.1:8000", "demo")) is past


def test_the_curl_line_can_be_pasted() -> None:
    words = shlex.split(curl_line("http://127.0.0.1:8000", "it's a model"))
    assert words[:2] == ["curl", "http://127.0.0.1:8000/v1/chat/completions"]
    assert '"model": "it\'s a model"' in words[-1]
