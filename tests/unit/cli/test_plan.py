"""``ascend-serve plan``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ascend_serve.cli.main import app
from ascend_serve.cli.plan_page import plan_view
from ascend_serve.config import load
from ascend_serve.errors import AscendServeError, OutputFileError
from ascend_serve.planning import plan_deployment
from tests.unit.telemetry.test_page import Document

CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def run(name: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", str(CONFIGS / f"{name}.yaml"), *arguments], env={"COLUMNS": "120"})


def as_json(name: str, *arguments: str) -> dict[str, Any]:
    result = run(name, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", SHIPPED)
def test_tables(name: str) -> None:
    result = run(name, "--compare")
    assert result.exit_code == 0
    for part in ("mode", "npugraph_ex", "padding waste", "Placement", "Steps down", '"cudagraph_mode"', "ours"):
        assert part in result.stdout


def test_the_tables_say_what_was_narrowed_and_why() -> None:
    text = " ".join(run("deepseek-v3", "graph.mode=FULL").stdout.split())
    assert "mode FULL_DECODE_ONLY (requested: FULL)" in text
    assert "backend-uniform-batches-only: FULL -> FULL_DECODE_ONLY" in text
    assert "Attention backend mla_v1 declares UNIFORM_BATCH" in text
    assert "CompilationConfig.resolve_cudagraph_mode_and_sizes" in text


def test_json_is_the_plan() -> None:
    plan = as_json("qwen3-32b")
    assert plan["format"] == 1
    assert plan["mode"] == "FULL_AND_PIECEWISE"
    assert plan["capture"]["sizes"][-1] == 256
    assert "comparison" not in plan


def test_the_comparison_is_at_the_same_number_of_sizes() -> None:
    plan = as_json("qwen3-32b", "--compare", "--concurrency", "40")
    ours, *others = plan["comparison"]
    assert ours["sizes"] == plan["capture"]["sizes"]
    subsamples = [entry for entry in others if entry["name"].endswith("subsample")]
    assert [len(entry["sizes"]) for entry in subsamples] == [len(ours["sizes"])] * 3
    assert all(ours["padding_waste"] < entry["padding_waste"] for entry in subsamples)
    default, fewest = others[-2:]
    assert fewest["padding_waste"] <= default["padding_waste"]
    assert fewest["graphs"] < default["graphs"]


def test_nothing_captured_is_nothing_compared() -> None:
    assert as_json("qwen3-32b", "graph.runtime=eager", "--compare")["comparison"] == []


@pytest.mark.parametrize(
    ("option", "content", "source"),
    [
        pytest.param("--histogram", '{"5": 10}', "histogram", id="histogram"),
        pytest.param("--trace", "arrival,input_tokens,output_tokens\n0,10,5\n", "trace", id="trace"),
    ],
)
def test_a_workload_on_the_command_line_replaces_that_of_the_file(
    tmp_path: Path, option: str, content: str, source: str
) -> None:
    file = tmp_path / "a load"
    file.write_text(content)
    plan = as_json("qwen3-32b", "graph.workload.concurrency=9", option, str(file))
    assert plan["capture"]["workload"].startswith(f"{source} {file}")


def test_a_measured_budget_on_the_command_line() -> None:
    plan = as_json("qwen3-32b", "--stream-budget", "660")
    assert len(plan["capture"]["sizes"]) == 5
    assert plan["capture"]["budget_source"] == "measured"


@pytest.mark.parametrize(
    ("name", "arguments", "part"),
    [
        pytest.param("qwen3-8b-vnpu", ["graph.mode=PIECEWISE"], "vNPU", id="refused by a rule"),
        pytest.param("qwen3-32b", ["parallel.tensor_parallel_size=16"], "16", id="does not fit"),
        pytest.param("qwen3-32b", ["model.path=/nowhere/else"], "/nowhere/else", id="no model"),
        pytest.param("qwen3-32b", ["--histogram", "/nowhere"], "/nowhere", id="no histogram"),
    ],
)
def test_what_cannot_work(name: str, arguments: list[str], part: str) -> None:
    result = run(name, *arguments)
    assert isinstance(result.exception, AscendServeError)
    assert result.exception.exit_code == 2
    assert part in result.exception.problem
    assert result.exception.remedy


def test_the_command_exits_with_2_and_no_traceback() -> None:
    command = [sys.executable, "-m", "ascend_serve.cli.main", "plan", str(CONFIGS / "qwen3-8b-vnpu.yaml")]
    result = subprocess.run([*command, "graph.mode=PIECEWISE"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "vNPU" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["--json"], ["--compare"]], ids=lambda arguments: "".join(arguments) or "table"
)
def test_no_engine_is_imported(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom ascend_serve.cli.main import app\n"
        f"app(['plan', {str(CONFIGS / 'deepseek-v3.yaml')!r}, *{arguments!r}], standalone_mode=False)\n"
        "heavy = {'torch', 'ray', 'vllm', 'transformers', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def page_of(name: str, folder: Path, *arguments: str) -> str:
    """The page that the command writes."""
    file = folder / "plan.html"
    result = run(name, *arguments, "--html", str(file))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{file} has the plan\n"
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_page_has_what_the_tables_have_and_needs_nothing(name: str, tmp_path: Path) -> None:
    text = page_of(name, tmp_path)
    document = Document(text)
    words = " ".join(" ".join(document.words).split())
    plan = as_json(name)
    for part in (plan["mode"], plan["runtime"], plan["model"]["architecture"], "Placement", "cudagraph_mode"):
        assert part in words
    for adjustment in plan["adjustments"]:
        assert adjustment["reason"] in words
    assert not {tag for tag, _ in document.tags} & {"script", "link", "img", "iframe", "object"}
    assert "http:" not in text
    assert "https:" not in text


def test_the_plots_show_each_batch_and_each_captured_size(tmp_path: Path) -> None:
    arguments = ("graph.capture_sizes=[8, 16]", "vllm.max_num_seqs=20", "graph.mode=FULL")
    view = plan_view(plan_deployment(load(CONFIGS / "qwen3-32b.yaml", arguments)), ())
    assert view.batches is not None
    styles = [bar.style for bar in view.batches.shares]
    assert styles == [*["padded"] * 7, "exact", *["padded"] * 7, "exact", *["eager"] * 4]
    assert [(bar.x, bar.height) for bar in view.batches.padding][:2] == [(0.0, 100.0), (5.0, 42.857)]
    assert [row.cells[:2] for row in view.batches.rows] == [("8", "1 to 8"), ("16", "9 to 16")]
    assert view.batches.marks == (37.5, 77.5)


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        pytest.param(("graph.mode=FULL",), "graph", id="all that was asked for"),
        pytest.param((), "degraded", id="narrowed"),
        pytest.param(("graph.runtime=eager",), "eager", id="eager"),
    ],
)
def test_the_page_begins_with_the_outcome(arguments: tuple[str, ...], outcome: str) -> None:
    assert plan_view(plan_deployment(load(CONFIGS / "qwen3-32b.yaml", arguments)), ()).outcome == outcome


def test_the_page_escapes_what_it_shows(tmp_path: Path) -> None:
    served = "<script>alert(1)</script>"
    text = page_of("qwen3-32b", tmp_path, f"model.served_name='{served}'")
    assert served not in text
    assert "&lt;script&gt;" in text


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    result = run("demo", "--html", str(tmp_path / "no" / "plan.html"))
    assert isinstance(result.exception, OutputFileError)
    assert "--html" in result.exception.problem
