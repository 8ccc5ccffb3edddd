"""What ``ascend-serve profile`` prints, against a server that writes what the profilers of NPUs and CPUs write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from ascend_serve.capture.roster import RankState
from ascend_serve.cli.profile import profile
from tests.reports import REPORT

NPU_TRACE = "dp0_pp0_tp{rank}_20260101_ascend_pt/ASCEND_PROFILER_OUTPUT/op_statistic.csv"
CPU_TRACE = "rank{rank}.1.pt.trace.json.gz"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts a deployment of two ranks whose traces are ``trace`` and tells its address."""
    servers: list[HTTPServer] = []

    def start(trace: str) -> str:
        ranks = tuple(RankState(rank=rank, node="node-a") for rank in (0, 1))
        report = REPORT.model_copy(update={"ranks": ranks, "profiler_dir": str(tmp_path)})

        class Deployment(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(report.model_dump_json().encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path == "/stop_profile" and trace:
                    for rank in (0, 1):
                        path = tmp_path / trace.format(rank=rank)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.touch()
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        servers.append(HTTPServer(("127.0.0.1", 0), Deployment))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(profile)
    return CliRunner().invoke(app, arguments)


def test_traces_of_npus_are_read_by_the_next_command(serve: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "of_yesterday_ascend_pt").mkdir()
    answer = run("--url", serve(NPU_TRACE))
    folders = [tmp_path / NPU_TRACE.format(rank=rank).partition("/")[0] for rank in (0, 1)]
    assert answer.exit_code == 0
    assert f"ranks 0, 1 wrote to {tmp_path} on node-a" in answer.stdout
    assert f"next: ascend-serve static-kernels {folders[0]} {folders[1]}\n" in answer.stdout
    assert "yesterday" not in answer.stdout


def test_traces_of_the_emulated_npu_are_opened_in_a_viewer(serve: Callable[[str], str], tmp_path: Path) -> None:
    answer = run("--url", serve(CPU_TRACE), "--seconds", "0.1")
    assert f"  {tmp_path / CPU_TRACE.format(rank=1)}\n" in answer.stdout
    assert "https://ui.perfetto.dev" in answer.stdout


def test_traces_on_other_machines_are_named_by_node_and_folder(serve: Callable[[str], str], tmp_path: Path) -> None:
    answer = run("--url", serve(""))
    assert f"ranks 0, 1 wrote to {tmp_path} on node-a" in answer.stdout
    assert "None of the traces is on this machine" in answer.stderr
