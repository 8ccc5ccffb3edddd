"""Ranks of a replacement have the weights that their spares hold, also where no file is there; files that changed are
read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from ascend_serve.emulated.demo_model import make_demo_model
from tests.integration.replacements import WEIGHTS, run

pytestmark = pytest.mark.slow  # Three engines for each row; `tests/unit` has vLLM's loader on its own.


def tied(folder: Path) -> Path:
    """Let the model have one matrix for embeddings and head."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    tensors = load_file(folder / WEIGHTS)
    del tensors["lm_head.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("ranks", "architecture", "is_tied"),
    [
        pytest.param(1, "qwen3", True, id="one rank, tied embeddings"),
        pytest.param(2, "qwen3", False, id="two ranks"),
        pytest.param(2, "qwen3_moe", False, id="two ranks, experts"),
    ],
)
def test_weights_come_from_the_memory_of_the_host(ranks: int, architecture: str, is_tied: bool, tmp_path: Path) -> None:
    folder = make_demo_model(tmp_path / "model", architecture=architecture)
    if is_tied:
        tied(folder)
    first, away, changed = run(folder, f"parallel.tensor_parallel_size={ranks}", f"emulated.npus={ranks}")
    assert [outcome.from_host for outcome in (first, away, changed)] == [
        [False] * ranks,
        [True] * ranks,
        [False] * ranks,
    ]
    assert away.tokens == first.tokens
    assert changed.tokens == first.tokens
    assert first.bytes == away.bytes == changed.bytes
    assert min(first.bytes) > 0
    assert {outcome.held_by_spares for outcome in (first, away, changed)} == {sum(first.bytes)}
