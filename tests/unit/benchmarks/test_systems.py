"""How the systems under test are started: alike, and none with what is meant for another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.serving import systems
from benchmarks.serving.launch import last_words
from benchmarks.serving.systems import SYSTEMS, Start, Unavailable, environment


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(systems, "provide", lambda: tmp_path / "model")
    monkeypatch.setattr(systems, "BENCH", tmp_path)
    monkeypatch.setattr(systems, "RAY_LLM", systems.ROOT / "no-such-environment")


def test_nothing_of_the_callers_environment_sends_a_system_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASCEND_SERVE_EMULATED_NPU", "RAY_ADDRESS", "VLLM_API_KEY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("KEPT", "1")
    found = environment(Start(("x",), {"VLLM_API_KEY": "its own"}))
    assert "ASCEND_SERVE_EMULATED_NPU" not in found
    assert "RAY_ADDRESS" not in found
    assert (found["KEPT"], found["VLLM_API_KEY"]) == ("1", "its own")


@pytest.mark.parametrize("name", ["stock-eager-tp1", "stock-compiled-tp2", "stock-emulated-tp2"])
def test_stock_gets_what_the_demo_asks_of_vllm(name: str) -> None:
    start = SYSTEMS[name].start(8000, 0)
    assert {"--dtype=bfloat16", "--max-model-len=1024", "--max-num-seqs=16", "--kv-cache-memory-bytes=67108864"} <= set(
        start.command
    )
    assert f"--tensor-parallel-size={SYSTEMS[name].npus}" in start.command
    assert ("ASCEND_SERVE_EMULATED_NPU" in start.environment) is ("emulated" in name)


def test_the_vllm_command_finds_its_metadata() -> None:
    path = SYSTEMS["stock-eager-tp1"].start(8000, 0).environment["PYTHONPATH"].split(":")[0]
    (found,) = Path(path).glob("vllm-*+cpu.dist-info/METADATA")
    assert "Name: vllm\n" in found.read_text()


def test_a_device_time_is_given_to_ours() -> None:
    assert "emulated.device_time.fixed=15.0" in SYSTEMS["ours-tp2"].start(8000, 15.0).command
    assert not any("device_time" in word for word in SYSTEMS["ours-tp2"].start(8000, 0).command)


def test_a_device_time_is_given_to_stock_on_the_same_platform() -> None:
    command = SYSTEMS["stock-emulated-tp2"].start(8000, 15.0).command
    told = json.loads(command[command.index("--additional-config") + 1])
    assert told == {"ascend_serve": {"emulated": {"device_time": {"fixed": 15.0}}}}


@pytest.mark.parametrize(
    ("name", "device_time", "taken"),
    [
        ("ours-tp1", 0.0, True),
        ("ours-tp1", 15.0, True),
        ("stock-eager-tp1", 0.0, True),
        ("stock-eager-tp1", 15.0, False),
        ("ours-tp1-x4", 0.0, False),
        ("ours-tp1-x4", 15.0, True),
    ],
)
def test_only_an_emulated_device_takes_time(name: str, device_time: float, taken: bool) -> None:
    assert SYSTEMS[name].takes(device_time) is taken


def test_a_peer_without_its_environment_says_how_to_make_it() -> None:
    with pytest.raises(Unavailable, match="make bench-peers"):
        SYSTEMS["ray-llm-eager-tp1"].start(8000, 0)


@pytest.mark.parametrize(
    ("cores", "npus", "shares"),
    [([0, 1], 2, ["0", "1"]), ([0, 1, 2, 3, 4], 2, ["0,1", "2,3"]), ([3], 2, ["3", "3"])],
    ids=["a core each", "an odd one is left", "one for all"],
)
def test_workers_of_stock_share_the_cores(cores: list[int], npus: int, shares: list[str]) -> None:
    assert systems._shares(cores, npus) == shares


@pytest.mark.parametrize(
    ("output", "words"),
    [("a\nValueError: b\nc\n", "ValueError: b"), ("a\nb\n\n", "b"), ("", "no output")],
    ids=["an error", "no error", "nothing"],
)
def test_why_a_start_failed(output: str, words: str) -> None:
    assert last_words(output) == words
