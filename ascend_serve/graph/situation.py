"""What the rules of graph mode look at, and what they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ascend_serve.graph.architecture import AttentionBackend
from ascend_serve.graph.hardware import Soc
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.narrowing import without_piecewise
from ascend_serve.releases import DEFAULT, Release

COMPILED = "VLLM_COMPILE"
NOT_COMPILED = "NONE"
"""The two of vLLM's compilation modes that vllm-ascend knows."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the rules look at, and what they change.

    Attributes:
        runtime: Graph runtime.
        mode: Graph mode.
        requested_mode: The mode the user asked for.
        architecture: Class name of the model.
        backend: Attention backend that vllm-ascend chooses for it.
        encoder_decoder: Whether the model has an encoder of its own.
        pooling: Whether the model pools prompts, to embeddings or scores, and generates nothing.
        lora: Whether requests may bring LoRA adapters.
        soc: Kind of NPU.
        release: The row of the release matrix that the deployment runs on; the emulated NPU is like `DEFAULT`.
        emulated: Whether the NPU is emulated.
        soft_partitioned: Whether the NPU is a soft partition (vNPU), which shares the device's streams.
        tensor_parallel_size: Ranks that share each layer.
        pipeline_parallel_size: Stages of layers.
        data_parallel_size: Engines in the capture group.
        prefill_context_parallel_size: Ranks that share the prefill's context.
        decode_context_parallel_size: Ranks that share the decode's context.
        sequence_parallel: Whether sizes have to be multiples of the tensor-parallel size.
        num_speculative_tokens: Draft tokens per step; 0 without speculative decoding.
        multi_token_prediction: Whether the drafts come from the model's own prediction layers.
        compilation_mode: vLLM's compilation mode, by name.
        runtime_options: Options of the runtimes that have a section of their own in the schema, by runtime.
        npugraph_ex: Whether npugraph_ex optimises the FX graph.
        static_kernel: Whether kernels are compiled for fixed shapes.
        launch_blocking: Whether ``ASCEND_LAUNCH_BLOCKING=1`` is set.
        v1_engine: Whether vLLM's V1 engine runs.
        v2_model_runner: Whether vLLM is told to run its Model Runner V2.
        max_sizes: Most capture sizes that the device takes; ``None`` for any number.
    """

    runtime: RuntimeName
    mode: GraphMode
    requested_mode: GraphMode
    architecture: str
    backend: AttentionBackend = AttentionBackend.ATTENTION_V1
    encoder_decoder: bool = False
    pooling: bool = False
    lora: bool = False
    soc: Soc = Soc.ATLAS_A2
    release: Release = DEFAULT
    emulated: bool = False
    soft_partitioned: bool = False
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    prefill_context_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    sequence_parallel: bool = False
    num_speculative_tokens: int = 0
    multi_token_prediction: bool = False
    compilation_mode: str = COMPILED
    runtime_options: Mapping[RuntimeName, Mapping[str, Any]] = field(default_factory=dict)
    npugraph_ex: bool = True
    static_kernel: bool = False
    launch_blocking: bool = False
    v1_engine: bool = True
    v2_model_runner: bool = False
    max_sizes: int | None = None

    @property
    def decode_query_len(self) -> int:
        """Tokens per request in a decode step."""
        return 1 + self.num_speculative_tokens

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the runtime that holds now."""
        return self.runtime_options.get(self.runtime, {})

    @property
    def has_pieces(self) -> bool:
        """Whether the mode has piecewise graphs."""
        return without_piecewise(self.mode) is not self.mode

    @property
    def context_parallel(self) -> bool:
        """Whether the context of a request is spread over ranks."""
        return self.prefill_context_parallel_size * self.decode_context_parallel_size > 1
