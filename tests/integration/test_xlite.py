"""Xlite on the emulated NPU: the tokens of eager, and ACLGraph for all where a rank cannot have it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.emulated import ENABLE_ENV_VAR
from ascend_serve.emulated.demo_model import DemoArchitecture, make_demo_model
from tests.integration.engines import ROOT, Result, Scenario, configuration, planned, run
from tests.integration.xlite_modes import BATCHES, TOKENS

ARCHITECTURES = [architecture.value for architecture in DemoArchitecture]
# Xlite's program sums in other steps than the model's layers, which the last bit of bfloat16 shows.
ASKED = ("graph.runtime=xlite", "graph.capture_sizes=[1,2,4]", "vllm.dtype=float32")
FULL = "graph.xlite.full_mode=true"
MISTRAL = "model.path=MISTRAL"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [make_demo_model(folder / name, architecture=name, layers=2) for name in ARCHITECTURES]


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.slow, id="TP 1"), pytest.param(2, id="TP 2")])
def ways(request: pytest.FixtureRequest, models: list[Path]) -> dict[str, Any]:
    environment = os.environ | {
        ENABLE_ENV_VAR: "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # functions are sent to the workers
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "tests.integration.xlite_modes", str(request.param), *map(str, models)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    marked = [line.split("RESULT ", 1)[1] for line in done.stdout.splitlines() if "RESULT " in line]
    return {result.pop("model"): result for result in map(json.loads, marked)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("way", ["full", "decode"])
def test_tokens_equal_eager(ways: dict[str, Any], architecture: str, way: str) -> None:
    assert ways[architecture][way]["tokens"] == ways[architecture]["eager"]["tokens"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_xlite_takes_decode_steps_and_in_full_mode_prefill_too(ways: dict[str, Any], architecture: str) -> None:
    full, decode, eager = (set(ways[architecture][way]["forwards"]) for way in ("full", "decode", "eager"))
    assert eager == {0}
    assert min(decode) >= len(BATCHES) * (TOKENS - 1)
    assert min(full) >= min(decode) + len(BATCHES)
    assert len(full) == len(decode) == 1, "ranks differ"


PIPELINE = ("parallel.tensor_parallel_size=1", "parallel.pipeline_parallel_size=2")
BAD_SEAL = "emulated.faults=[{rank: 1, phase: seal, error: unknown}]"

# Overrides; runtime and mode in the end; incarnations; what the report says of the runtime.
ROWS = [
    pytest.param((), "xlite FULL_DECODE_ONLY", 0, "", id="decode only"),
    pytest.param((FULL,), "xlite NONE", 0, "", id="full mode"),
    pytest.param(
        (FULL, "emulated.xlite.missing_on=[1]"),
        "aclgraph FULL_DECODE_ONLY",
        0,
        "cannot run xlite: it is not installed; install it with `pip install --pre xlite`",
        id="missing on rank 1",
    ),
    pytest.param(
        ("emulated.xlite.versions={1: 0.1.0}",),
        "aclgraph FULL_DECODE_ONLY",
        0,
        "different versions of xlite",
        id="other version on rank 1",
    ),
    pytest.param(
        (MISTRAL,),
        "aclgraph FULL_DECODE_ONLY",
        0,
        "Xlite has no adapter for MistralForCausalLM",
        id="unknown architecture",
    ),
    pytest.param(PIPELINE, "aclgraph FULL_DECODE_ONLY", 0, "Xlite refuses pipeline parallelism", id="pipeline"),
    pytest.param((FULL, BAD_SEAL), "aclgraph FULL_DECODE_ONLY", 1, "in seal", id="failure: ACLGraph next"),
    pytest.param((BAD_SEAL, "graph.on_failure=eager"), "eager NONE", 1, "in seal", id="failure: eager next"),
]


@pytest.fixture(scope="module")
def mistral(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Llama model under the name of an architecture that computes the same and that Xlite does not know."""
    folder = tmp_path_factory.mktemp("mistral") / "mistral"
    shutil.copytree(models[ARCHITECTURES.index("llama")], folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def results(mistral: Path) -> dict[Any, Result]:
    """Results by overrides; those of eager by the model."""
    given: dict[str, Any] = {str(row.id): row.values[0] for row in ROWS}
    named = {overrides: Scenario(name, _overrides(overrides, mistral)) for name, overrides in given.items()}
    eager = {model: Scenario(model, _overrides((model, "graph.runtime=eager"), mistral)) for model in ("", MISTRAL)}
    return dict(zip([*named, *eager], run([*named.values(), *eager.values()]), strict=True))


def _overrides(given: tuple[str, ...], mistral: Path) -> tuple[str, ...]:
    return tuple(key.replace("MISTRAL", str(mistral)) for key in (*ASKED, *given) if key)


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "plan", "incarnations", "reason"), ROWS)
def test_the_group_ends_in_one_runtime_and_says_why(
    overrides: tuple[str, ...], plan: str, incarnations: int, reason: str, *, results: dict[Any, Result], mistral: Path
) -> None:
    result = results[overrides]
    assert result.error == ""
    assert result.tokens == results[MISTRAL if MISTRAL in overrides else ""].tokens
    assert f"{result.plan.runtime} {result.plan.mode}" == plan
    assert result.known.incarnation == incarnations
    before = planned(configuration(Scenario("", _overrides(overrides, mistral)))).adjustments
    told = [adjustment.reason for adjustment in (*before, *result.plan.adjustments)]
    assert any(reason in text for text in told) if reason else result.plan.adjustments == ()
    assert (result.replays[0] > 0, len(set(result.replays))) == (plan.startswith("aclgraph"), 1)
