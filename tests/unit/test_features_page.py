"""The page of features and graph modes is what the code says: every cell is planned so, and none is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ascend_serve.graph.rules import RULES
from tests.integration.feature_requests import ASKED, Feature
from tests.integration.features import KINDS, MODES, RAN, RANKS, Start, cell, foreseen, page, starts

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


@pytest.fixture(scope="module")
def planned() -> dict[tuple[Feature, str], str]:
    found = {start: foreseen(start) for start in starts()}
    return {
        (feature, mode): cell([found[Start(kind, mode, ranks)] for ranks in RANKS])
        for kind in KINDS
        for feature in kind.features
        for mode in MODES
    }


def test_the_page_says_what_is_planned(planned: dict[tuple[Feature, str], str]) -> None:
    written = PAGE.read_text()
    ran = written.partition(RAN)[2].partition("\n\n")[0]
    assert ran
    assert written == page(planned, ran), "write it anew: make features"


def test_every_feature_is_asked_of_some_engine() -> None:
    assert [feature for kind in KINDS for feature in kind.features] == list(Feature)
    assert ASKED.keys() == set(Feature) - {Feature.SLEEP}


def test_every_rule_that_is_named_is_one(planned: dict[tuple[Feature, str], str]) -> None:
    named = {name for what in planned.values() for name in re.findall("`(.*?)`", what)}
    assert named
    assert named <= {rule.name for rule in RULES}
