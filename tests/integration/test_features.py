"""Features times modes on real engines: a covering subset; `make features` runs all of the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.feature_engines import run
from tests.integration.feature_models import make_models
from tests.integration.feature_requests import Feature
from tests.integration.features import Start, foreseen, starts

# What a mode may break in its own way, once: adapters where pieces are compiled, a draft model in whole graphs, a model
# that pools.
COVERING = (
    "lora-FULL_AND_PIECEWISE-TP-1",
    "draft-FULL-TP-1",
    "score-FULL-TP-1",
)
MORE = (
    "lora-FULL_AND_PIECEWISE-TP-2",
    "requests-FULL_AND_PIECEWISE-TP-2",
    "requests-Xlite-TP-2",
    "lora-FULL-TP-1",
    "draft-FULL_AND_PIECEWISE-TP-2",
    "ngram-FULL_DECODE_ONLY-TP-2",
    "embeddings-PIECEWISE-TP-2",
    "encoder-FULL-TP-1",
)


def _cells(names: tuple[str, ...], folder: Path) -> dict[tuple[Start, Feature], str]:
    chosen = [start for start in starts() if start.name in names]
    assert len(chosen) == len(names)
    return {(start, feature): what for start, feature, what in run(chosen, make_models(folder))}


@pytest.mark.parametrize(
    "names", [pytest.param(COVERING, id="covering"), pytest.param(MORE, id="more", marks=pytest.mark.slow)]
)
def test_cells_are_as_planned(names: tuple[str, ...], tmp_path: Path) -> None:
    found = _cells(names, tmp_path)
    assert {start.name for start, _ in found} == set(names)
    assert found == {(start, feature): foreseen(start) for start, feature in found}
