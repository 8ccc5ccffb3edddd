"""Models and layouts that people run, on each release and model runner, and what came of them on the simulated CANN.

The criterion: every rank holds and replays the graphs of all sizes, and its greedy tokens are, batch for batch, those
of an eager start of the same release in the same layout. What the simulated CANN or a release lacks stops both starts
or the one with graphs, by name.

    python -m tests.npu.cases

prints the table of docs/simulator.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.npu.models import DENSE, EXPERTS, LATENT
from tests.npu.vllm_ascend import STACKS, Stack


@dataclass(frozen=True)
class Case:
    """A model and how it runs.

    Attributes:
        model: Name of the model.
        options: Fields of a ``Start``.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)


def _with(**arguments: Any) -> dict[str, Any]:
    return {"arguments": arguments}


NGRAM = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_min": 1, "prompt_lookup_max": 3}
MTP = {"method": "mtp", "num_speculative_tokens": 1}

CASES = {
    "Qwen3 in bfloat16": Case(DENSE, {"dtype": "bfloat16"}),
    "Qwen3 in bfloat16, TP 2": Case(DENSE, {"dtype": "bfloat16", "ranks": 2}),
    "Qwen3-MoE": Case(EXPERTS),
    "Qwen3-MoE, TP 2, expert parallel": Case(EXPERTS, {"ranks": 2, **_with(enable_expert_parallel=True)}),
    "Qwen3-MoE, DP 2, expert parallel": Case(EXPERTS, {"ranks": 2, "data": 2, **_with(enable_expert_parallel=True)}),
    "DeepSeek-V3 (MLA)": Case(LATENT),
    "DeepSeek-V3 (MLA), TP 2": Case(LATENT, {"ranks": 2}),
    "DeepSeek-V3, MTP": Case(LATENT, {"sizes": (2, 4, 8, 16), "query_len": 2, **_with(speculative_config=MTP)}),
    "Qwen3, ngram": Case(DENSE, {"sizes": (3, 6, 12, 24), "query_len": 3, **_with(speculative_config=NGRAM)}),
    "Qwen3, PP 2": Case(DENSE, {"ranks": 2, "pipeline": 2}),
}

HOLDS = "graphs, tokens"
"""The criterion holds."""

_EVERYWHERE = {stack.name: HOLDS for stack in STACKS}
_V2_LACKS = "Model Runner V2 does not yet support: "

OUTCOMES: dict[str, dict[str, str]] = {
    **dict.fromkeys(CASES, _EVERYWHERE),
    "Qwen3, ngram": _EVERYWHERE | {"0.26.0rc1 V2": f"{_V2_LACKS}ngram/ngram_gpu speculative decoding"},
    "Qwen3, PP 2": {"0.26.0rc1 V1": HOLDS, "0.26.0rc1 V2": f"{_V2_LACKS}pipeline parallelism with external_launcher"},
}
"""What the tests ask for, by case and stack: the criterion, or what stops the start. Of what is not here, nothing."""


def seen(stack: Stack) -> list[str]:
    """The cases that were seen on ``stack``."""
    return [case for case in CASES if stack.name in OUTCOMES.get(case, {})]


def table() -> Iterator[str]:
    """The table as lines of Markdown."""
    yield "| model and layout | " + " | ".join(stack.name for stack in STACKS) + " |"
    yield "|---" * (len(STACKS) + 1) + "|"
    for case in CASES:
        told = [OUTCOMES.get(case, {}).get(stack.name, "not seen") for stack in STACKS]
        yield f"| {case} | " + " | ".join(told) + " |"


if __name__ == "__main__":
    print("\n".join(table()))
