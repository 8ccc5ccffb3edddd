"""The emulated NPU under real vLLM: graph mode gives the tokens of eager mode and of stock vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.emulated import ENABLE_ENV_VAR
from ascend_serve.emulated.demo_model import make_demo_model
from tests.integration.emulated_modes import BATCHES, CAPTURE_SIZES

# Two processes that start several engines each.
SCRIPT = Path(__file__).with_name("emulated_modes.py")
LAYERS = 2
MODES = ["NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"]
# A PIECEWISE size is one graph for each piece between attention operators, a FULL size is one.
PIECES = LAYERS + 1
GRAPHS_PER_SIZE = {"NONE": 0, "PIECEWISE": PIECES, "FULL": 1, "FULL_DECODE_ONLY": 1, "FULL_AND_PIECEWISE": PIECES + 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_model(tmp_path_factory.mktemp("models") / "demo", layers=LAYERS)


def _run(model: Path, modes: list[str], *, emulated: bool) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != ENABLE_ENV_VAR}
    environment |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "OMP_NUM_THREADS": "1",
        **({ENABLE_ENV_VAR: "1"} if emulated else {}),
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(model), *modes], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def stock(model: Path) -> dict[str, list[list[int]]]:
    return dict(_run(model, ["stock"], emulated=False)["stock"]["tokens"])


@pytest.fixture(scope="module")
def emulated(model: Path) -> dict[str, Any]:
    return _run(model, MODES, emulated=True)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("mode", MODES)
def test_greedy_tokens_are_those_of_stock_vllm(
    mode: str, batch: int, emulated: dict[str, Any], stock: dict[str, list[list[int]]]
) -> None:
    assert emulated[mode]["tokens"][str(batch)] == stock[str(batch)]


def test_texts_say_something(stock: dict[str, list[list[int]]]) -> None:
    texts = stock[str(max(BATCHES))]
    assert len({tuple(text) for text in texts}) == len(texts)
    assert min(len(set(text)) for text in texts) > 5


@pytest.mark.parametrize("mode", MODES)
def test_captured_graphs_and_their_streams(mode: str, emulated: dict[str, Any]) -> None:
    expected = GRAPHS_PER_SIZE[mode] * len(CAPTURE_SIZES)
    assert (emulated[mode]["graphs"], emulated[mode]["streams"]) == (expected, expected)


@pytest.mark.parametrize("mode", MODES)
def test_decoding_replays(mode: str, emulated: dict[str, Any]) -> None:
    assert (emulated[mode]["replays"] > 0) == (mode != "NONE")
