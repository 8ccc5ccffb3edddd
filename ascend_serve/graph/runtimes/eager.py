"""Eager: nothing is replayed, and nothing can be missing."""

from __future__ import annotations

from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.rule import Rule
from ascend_serve.graph.runtimes.traits import RuntimeTraits

EAGER = RuntimeTraits(
    "eager",
    rules=(
        Rule(
            "eager-runtime",
            "vLLM Ascend Graph Mode Guide, Fallback to Eager Mode",
            when=lambda s: True,
            changes="mode",
            to=lambda s: GraphMode.NONE,
            reason="Runtime eager captures nothing.",
        ),
    ),
)
