"""One interface for all graph runtimes: what one offers, how models are loaded for it, what a rank does with it.

A runtime keeps nothing of its own; what it needs it is given, or finds at the model runner.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ascend_serve.engine.npu import is_emulated
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan
from ascend_serve.graph.rule import apply_rules
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.graph.runtimes.traits import RuntimeTraits
from ascend_serve.graph.situation import Situation
from ascend_serve.releases import DEFAULT, installed_version, nearest

if TYPE_CHECKING:
    from vllm.config import VllmConfig


@dataclass(frozen=True, slots=True)
class RuntimeOffer:
    """Whether one rank can run a runtime.

    Attributes:
        version: Version of the runtime's package; empty where it has none, or cannot run.
        refusal: Why it cannot run, and what to do; empty where it can.
    """

    version: str = ""
    refusal: str = ""


class GraphHost(Protocol):
    """The model runner as a runtime sees it; ``engine/runner.py`` has it for both of vLLM's."""

    @property
    def runner(self) -> Any:
        """The platform's model runner, for what a runtime keeps there."""

    def dispatch(self, mode: GraphMode, capture_sizes: tuple[int, ...]) -> None:
        """Make the next steps replay graphs of ``mode``, padded to ``capture_sizes``."""

    def held(self) -> frozenset[GraphKey]:
        """Graphs that can be replayed."""

    def release(self, keys: Iterable[GraphKey]) -> None:
        """Give back graphs, and the streams and memory they hold."""


class GraphRuntime(ABC):
    """What a rank replays with."""

    name: ClassVar[RuntimeName]

    @property
    def traits(self) -> RuntimeTraits:
        """What decisions know of it."""
        return RUNTIMES[self.name]

    def refusal(self, vllm_config: VllmConfig) -> str:
        """Why it cannot run this model in this layout, by the rules that also plan a deployment; empty where it can."""
        speculative = vllm_config.speculative_config
        situation = Situation(
            runtime=self.name,
            mode=GraphMode.NONE,
            requested_mode=GraphMode.NONE,
            architecture=vllm_config.model_config.architectures[0],
            release=DEFAULT if is_emulated() else nearest(installed_version()),
            pooling=vllm_config.model_config.runner_type == "pooling",
            lora=vllm_config.lora_config is not None,
            emulated=is_emulated(),
            pipeline_parallel_size=vllm_config.parallel_config.pipeline_parallel_size,
            v2_model_runner=bool(vllm_config.use_v2_model_runner),
            num_speculative_tokens=0 if speculative is None else int(speculative.num_speculative_tokens or 0),
        )
        _, changes = apply_rules(self.traits.rules, situation)
        return next((change.adjustment.reason for change in changes if change.field == "runtime"), "")

    def offer(self) -> RuntimeOffer:
        """What this node offers. It is asked in a process of its own, before any model is loaded."""
        return RuntimeOffer()

    def emulated_offer(self, vllm_config: VllmConfig, rank: int) -> RuntimeOffer:
        """What the node of ``rank`` offers where NPUs are emulated, and with them the runtime's package."""
        return self.offer()

    def is_loaded(self, vllm_config: VllmConfig) -> bool:
        """Whether models are loaded for it; never for one that takes any model as it is."""
        return bool(vllm_config.additional_config.get(self.traits.loaded_by, {}).get("enabled"))

    def prepare(self, vllm_config: VllmConfig, *, on: bool) -> None:
        """Let the next workers load their model for it, or not."""
        section = self.traits.loaded_by
        if section:
            options = {**vllm_config.additional_config.get(section, {}), "enabled": on}
            vllm_config.additional_config = {**vllm_config.additional_config, section: options}

    @abstractmethod
    def apply(self, host: GraphHost, plan: CapturePlan, kept: frozenset[GraphKey]) -> None:
        """Follow ``plan`` from the next step on; graphs that are not in ``kept`` are released."""

    def leave(self, host: GraphHost) -> None:  # noqa: B027 - most change nothing that would have to be undone
        """Let forwards go past it from the next step on, where they went through it."""
