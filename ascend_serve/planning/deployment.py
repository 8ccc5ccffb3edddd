"""The plan of a deployment: what ``ascend-serve plan --json`` prints. Fields are added, never renamed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ascend_serve.graph.ladder import Rung
from ascend_serve.graph.modes import GraphMode, OnFailure, RuntimeName
from ascend_serve.graph.plan import Adjustment, Switch
from ascend_serve.planning.estimate import Range
from ascend_serve.planning.memory import MemoryFigures
from ascend_serve.planning.planned_placement import PlannedPlacement


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelFigures(_Part):
    """The model.

    Attributes:
        path: ``model.path``.
        source: Where the figures come from: a file, or an architecture card.
        architecture: Class name.
        num_hidden_layers: Decoder layers.
        parameters: Number of parameters, or ``None`` when unknown.
        attention_backend: The backends of its layers, joined by plus signs.
        graph_support: What the weakest of them declares.
    """

    path: str
    source: str
    architecture: str
    num_hidden_layers: int
    parameters: float | None
    attention_backend: str
    graph_support: str


class CaptureFigures(_Part):
    """What is captured on each rank, against what there is room for.

    Attributes:
        sizes: Capture sizes, ascending, in tokens.
        multiple_of: What sizes have to be multiples of.
        largest_batch: Largest decode batch that a graph could serve, in tokens; 0 where there is none.
        graphs: Graphs per rank.
        streams: Streams that they take.
        streams_per_size: Streams of one size, all its graphs together.
        stream_budget: Streams there are for graphs.
        budget_source: ``prior``, ``container quota`` or ``measured``.
        workload: Where the distribution of batch sizes comes from.
        padding_waste: Padded minus real tokens, over real tokens, expected for that workload.
        eager_share: Share of decode steps above the largest size.
        seconds: Estimated time of capture; ``None`` where nothing is known.
        memory_gib: Estimated device memory of all graphs; ``None`` where nothing is known.
    """

    sizes: tuple[int, ...]
    multiple_of: int
    largest_batch: int
    graphs: int
    streams: int
    streams_per_size: int
    stream_budget: int
    budget_source: str
    workload: str
    padding_waste: float
    eager_share: float
    seconds: Range | None
    memory_gib: Range | None


class DeploymentPlan(_Part):
    """What a deployment will do, and why.

    Attributes:
        format: Version of this structure.
        release: Release of vllm-ascend that it is planned for; empty on emulated NPUs.
        memory: What each NPU has room for.
        adjustments: Every narrowing of what was asked for, in the order of the rules.
        rule_sources: Source of each rule in ``adjustments``.
        no_effect: Options that were set and have no effect.
        notes: What else a person should know.
        weights: Share of decode steps per batch size in tokens, by which sizes were chosen.
        ladder: Steps down that the group would take if capture fails, in order.
        vllm_arguments: Keyword arguments of vLLM's ``AsyncEngineArgs``.
    """

    format: Literal[1] = 1
    release: str = ""
    model: ModelFigures
    requested_runtime: RuntimeName
    runtime: RuntimeName
    requested_mode: GraphMode
    mode: GraphMode
    npugraph_ex: Switch
    static_kernel: Switch
    max_num_seqs: int
    decode_query_len: int
    lora_cases: tuple[int, ...]
    on_failure: OnFailure
    capture: CaptureFigures
    memory: MemoryFigures
    adjustments: tuple[Adjustment, ...]
    rule_sources: dict[str, str]
    no_effect: tuple[str, ...]
    notes: tuple[str, ...]
    placement: PlannedPlacement
    ladder: tuple[Rung, ...]
    weights: dict[int, float]
    vllm_arguments: dict[str, Any]

    @property
    def capture_sizes(self) -> tuple[int, ...]:
        """Capture sizes, ascending, in tokens."""
        return self.capture.sizes

    def options(self) -> dict[str, Switch]:
        """What was decided about optimisations of the compiler, by name."""
        return {"npugraph_ex": self.npugraph_ex, "static_kernel": self.static_kernel}
