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

SCRIPT = Path(__file__).with_name("emulated_modes.py")
LAYERS = 2
DTYPES = ("bfloat16", "float32")
MODES = ["NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"]
# A PIECEWISE size is one graph for each piece between attention operators, a FULL size is one.
PIECES = LAYERS + 1
# What people run, in every mode; the type with bits to spare, in the modes that have all kinds of graphs between them.
COMPILED_MODE = "FULL_DECODE_ONLY+npugraph_ex"
STARTS = [
    *(("bfloat16", mode) for mode in (*MODES, COMPILED_MODE)),
    *(("float32", mode) for mode in ("FULL_AND_PIECEWISE", COMPILED_MODE)),
]
GRAPHS_PER_SIZE = {
    "NONE": 0,
    "PIECEWISE": PIECES,
    "FULL": 1,
    "FULL_DECODE_ONLY": 1,
    "FULL_AND_PIECEWISE": PIECES + 1,
    COMPILED_MODE: 1,
}
# Inductor fuses what eager mode rounds to bfloat16 in between, so there what it compiles is compared with each other.
STOCK = {("bfloat16", COMPILED_MODE): "compiled"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_model(tmp_path_factory.mktemp("models") / "demo", layers=LAYERS)


def _run(model: Path, dtype: str, modes: list[str], *, emulated: bool) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != ENABLE_ENV_VAR}
    environment |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "OMP_NUM_THREADS": "1",
        **({ENABLE_ENV_VAR: "1"} if emulated else {}),
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(model), dtype, *modes],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def stock(model: Path) -> dict[tuple[str, str], dict[str, list[list[int]]]]:
    by_dtype = {"bfloat16": ["stock", "compiled"], "float32": ["stock"]}
    return {
        (dtype, mode): result["tokens"]
        for dtype, modes in by_dtype.items()
        for mode, result in _run(model, dtype, modes, emulated=False).items()
    }


@pytest.fixture(scope="module")
def emulated(model: Path) -> dict[tuple[str, str], Any]:
    by_dtype = {dtype: [mode for of, mode in STARTS if of == dtype] for dtype in DTYPES}
    return {
        (dtype, mode): result
        for dtype, modes in by_dtype.items()
        for mode, result in _run(model, dtype, modes, emulated=True).items()
    }


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("start", STARTS, ids=" ".join)
def test_greedy_tokens_are_those_of_stock_vllm(
    start: tuple[str, str], batch: int, emulated: dict[tuple[str, str], Any], stock: dict[tuple[str, str], Any]
) -> None:
    expected = stock[start[0], STOCK.get(start, "stock")]
    assert emulated[start]["tokens"][str(batch)] == expected[str(batch)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_texts_say_something(dtype: str, stock: dict[tuple[str, str], Any]) -> None:
    texts = stock[dtype, "stock"][str(max(BATCHES))]
    assert len({tuple(text) for text in texts}) == len(texts)
    assert min(len(set(text)) for text in texts) > 5


@pytest.mark.parametrize("start", STARTS, ids=" ".join)
def test_captured_graphs_and_their_streams(start: tuple[str, str], emulated: dict[tuple[str, str], Any]) -> None:
    expected = GRAPHS_PER_SIZE[start[1]] * len(CAPTURE_SIZES)
    assert (emulated[start]["graphs"], emulated[start]["streams"]) == (expected, expected)


@pytest.mark.parametrize("start", STARTS, ids=" ".join)
def test_decoding_replays(start: tuple[str, str], emulated: dict[tuple[str, str], Any]) -> None:
    assert (emulated[start]["replays"] > 0) == (start[1] != "NONE")


@pytest.mark.parametrize("start", [start for start in STARTS if start[0] == "float32"], ids=" ".join)
def test_the_scheduler_goes_on_beside_a_device_that_takes_time(
    start: tuple[str, str], emulated: dict[tuple[str, str], Any]
) -> None:
    assert emulated[start]["async_scheduling"]
