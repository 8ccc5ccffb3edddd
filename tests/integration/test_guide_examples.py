"""Every example of the Graph Mode Guide runs on the emulated NPU, those that ask the same of vLLM once."""

from __future__ import annotations

import pytest

from ascend_serve.config import load
from ascend_serve.graph.modes import RuntimeName
from tests.guide_examples import Example, examples
from tests.integration.engines import ROOT, Result, Scenario, arguments, run

EXAMPLES = list(examples())
EMULATED = ("graph.capture_sizes=[1,4]", "parallel.tensor_parallel_size=1")
"""The demo model on one emulated NPU; examples with several ranks have two."""

EXPECTED = {
    "a mode": "aclgraph PIECEWISE",
    "on": "aclgraph FULL_DECODE_ONLY",
    "static kernels": "aclgraph FULL_DECODE_ONLY",
    "Xlite": "xlite NONE",
    "eager": "eager NONE",
    "eager (Chinese)": "eager NONE",
}
"""Runtime and mode by example; all others are the default."""


def overrides(example: Example) -> tuple[str, ...]:
    size = tuple(key.replace("=8", "=2") for key in example.overrides)
    mode = () if any(key.startswith("graph.mode") for key in size) else ("graph.mode=FULL_AND_PIECEWISE",)
    return (*EMULATED, *mode, *size)


def asked(example: Example) -> str:
    """What reaches vLLM, for comparison."""
    return repr(arguments(load(ROOT / "configs" / "demo.yaml", overrides(example))))


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    """By what reaches vLLM."""
    different = {asked(example): Scenario(example.name, overrides(example), (2,), 8) for example in EXAMPLES}
    return dict(zip(different, run(list(different.values())), strict=True))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_it_generates_in_the_mode_it_names(example: Example, results: dict[str, Result]) -> None:
    result = results[asked(example)]
    assert result.error == ""
    assert [len(answer) for answer in result.tokens["2"]] == [8, 8]
    name = example.name.rpartition(", ")[0]
    assert f"{result.plan.runtime} {result.plan.mode}" == EXPECTED.get(name, "aclgraph FULL_AND_PIECEWISE")
    assert (min(result.replays) > 0) == (result.plan.runtime is RuntimeName.ACLGRAPH)
