"""What sets a graph runtime apart from the others, for all that decides about graphs."""

from __future__ import annotations

from dataclasses import dataclass

from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.rule import Rule
from ascend_serve.graph.situation import Situation


@dataclass(frozen=True, slots=True)
class RuntimeTraits:
    """One row of ``RUNTIMES``.

    Attributes:
        title: As a person writes it.
        captures: Whether it replays graphs that are captured, which takes streams.
        modes: Modes in which it replays anything. In all but ``NONE`` batches are padded to the capture sizes.
        lower: What the group goes on with where it cannot run; ``None`` at the end of the ladder.
        lower_mode: The mode that goes with ``lower``, where the runtime has modes of its own.
        rules: What it cannot do, and the mode that it brings; they hold as long as it is the runtime.
        pipelines: Whether it takes a model in several stages.
        loaded_by: Section of vLLM's ``additional_config`` whose ``enabled`` lets models be loaded for it, beside the
            options of its section in the schema; empty where it takes any model as it is.
        package: Wheel that has to be on every node; empty where it needs none.
        install: Command that installs the wheel.
    """

    title: str
    captures: bool = False
    modes: frozenset[GraphMode] = frozenset()
    lower: RuntimeName | None = None
    lower_mode: GraphMode | None = None
    rules: tuple[Rule[Situation], ...] = ()
    pipelines: bool = True
    loaded_by: str = ""
    package: str = ""
    install: str = ""

    @property
    def brings_mode(self) -> bool:
        """Whether it has modes of its own, instead of the one that was asked for."""
        return self.lower_mode is not None
