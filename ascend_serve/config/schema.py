"""The typed configuration: one small model per component, defaults included."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ascend_serve.graph.hardware import Soc
from ascend_serve.graph.modes import GraphMode, OnFailure, Replan, RuntimeName
from ascend_serve.graph.stream_costs import ExpansionMode

BUILT_IN_MODEL = "demo"
"""The ``model.path`` of the emulated NPU's small model with random weights, made on each node that needs it."""


_LONGEST_NAME = 255
_LONGEST_PATH = 4096
"""Bytes of a file's name and of its path on Linux (``NAME_MAX``, ``PATH_MAX``)."""


class Section(BaseModel):
    """Base of all sections: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Section):
    """The model to serve."""

    path: str = Field(
        description="Folder with the model's config.json, tokenizer and safetensors, or the id of a model: what is not "
        "in the cache of Hugging Face or ModelScope is downloaded; `demo` on emulated NPUs: a small model with random "
        "weights, made on each node in the user's cache folder."
    )
    served_name: str | None = Field(None, description="Name clients use; the folder's name when not set.")
    trust_remote_code: bool = Field(False, description="Run code that the model folder brings.")

    @field_validator("path")
    @classmethod
    def _home(cls, path: str) -> str:
        if len(os.fsencode(path)) >= _LONGEST_PATH or any(
            len(os.fsencode(name)) > _LONGEST_NAME for name in path.split("/")
        ):
            raise ValueError(f"no file can be named so: a name has at most {_LONGEST_NAME} bytes")
        return str(Path(path).expanduser()) if path.startswith("~") else path

    @property
    def is_built_in(self) -> bool:
        """Whether it is the small model of the emulated NPU, and no folder."""
        return self.path == BUILT_IN_MODEL

    @property
    def name(self) -> str:
        """The name clients use."""
        return self.served_name or Path(self.path).name


class ParallelConfig(Section):
    """How the model is spread over NPUs."""

    tensor_parallel_size: int = Field(1, ge=1, description="NPUs that share each layer.")
    pipeline_parallel_size: int = Field(1, ge=1, description="Stages of layers.")
    data_parallel_size: int = Field(1, ge=1, description="Engines that share one capture group.")
    enable_expert_parallel: bool = Field(False, description="Spread experts over the TP and DP ranks.")

    @property
    def world_size(self) -> int:
        """NPUs of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size


class XliteConfig(Section):
    """Options of the Xlite runtime."""

    full_mode: bool = Field(False, description="Prefill through Xlite too, not only decode.")


class NpugraphExConfig(Section):
    """Compile-time optimisation of the FX graph before ACLGraph captures it."""

    enabled: bool | None = Field(
        None, description="Default: on exactly in FULL and FULL_DECODE_ONLY; on emulated NPUs off."
    )
    static_kernel: bool = Field(False, description="Compile kernels for fixed shapes; costs minutes at start-up.")


class DeadlinesConfig(Section):
    """Seconds that the driver waits at each meeting point before it takes a rank for lost.

    Unset ones are derived from the model's size and from whether static kernels compile.
    """

    join: float | None = Field(None, gt=0, description="All workers loaded the model.")
    propose: float | None = Field(None, gt=0, description="All ranks said what they can do.")
    capture: float | None = Field(None, gt=0, description="One size warmed up and captured on all ranks.")
    seal: float | None = Field(None, gt=0, description="All ranks verified their graphs.")


class WorkloadConfig(Section):
    """What the deployment will be asked to do, for the choice of capture sizes. At most one of the first three."""

    histogram: str | None = Field(None, description="JSON file: steps per decode batch size in tokens.")
    trace: str | None = Field(
        None, description="CSV or JSON lines: arrival, input_tokens, output_tokens of each request."
    )
    concurrency: int | None = Field(None, ge=1, description="Number of clients that wait for their answers.")
    step_ms: float = Field(30.0, gt=0, description="Milliseconds of a decode step, for the simulation of a trace.")

    @model_validator(mode="after")
    def _one_source(self) -> WorkloadConfig:
        given = [name for name in ("histogram", "trace", "concurrency") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} contradict each other: give one of them")
        return self


class GraphConfig(Section):
    """Graph mode of the whole capture group."""

    runtime: RuntimeName = Field(RuntimeName.ACLGRAPH, description="What a rank replays with.")
    mode: GraphMode = Field(GraphMode.FULL_AND_PIECEWISE, description="vLLM's cudagraph_mode.")
    capture_sizes: tuple[int, ...] | None = Field(
        None, description="Padded batch sizes in tokens; chosen when not set."
    )
    on_failure: OnFailure = Field(OnFailure.DEGRADE, description="How far down the ladder a failed capture may go.")
    xlite: XliteConfig = Field(default_factory=XliteConfig)
    npugraph_ex: NpugraphExConfig = Field(default_factory=NpugraphExConfig)
    deadlines: DeadlinesConfig = Field(default_factory=DeadlinesConfig)
    workload: WorkloadConfig = Field(default_factory=WorkloadConfig)
    replan: Replan = Field(Replan.OFF, description="Whether capture sizes follow the load, at idle moments.")
    replan_saving: float = Field(
        0.1, gt=0, description="Padding waste (padded over real tokens, 0.1 is 10%) that other sizes must save."
    )

    @property
    def runtime_options(self) -> dict[RuntimeName, dict[str, Any]]:
        """What the sections that have the name of a runtime say, by runtime."""
        sections = {name: getattr(self, name.value, None) for name in RuntimeName}
        return {name: section.model_dump() for name, section in sections.items() if section is not None}

    @field_validator("capture_sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if sizes is not None and any(size < 1 for size in sizes):
            raise ValueError("capture sizes are numbers of tokens, 1 or more")
        if sizes == ():
            raise ValueError("at least one size; graph.mode=NONE is without graphs")
        return None if sizes is None else tuple(sorted(set(sizes)))


class HardwareConfig(Section):
    """The machines. On the emulated NPU only ``hccl_op_expansion_mode`` counts."""

    soc: Soc = Field(Soc.ATLAS_A2, description="Kind of NPU.")
    nodes: int = Field(1, ge=1, description="Machines of the cluster.")
    npus_per_node: int = Field(8, ge=1, description="NPUs of each machine.")
    npu_memory_gib: float | None = Field(
        None, gt=0, description="Memory of an NPU, for the plan; unset is 64 on 910B and 910C, 43 on 310P, 112 on 950."
    )
    stream_quota: int | None = Field(
        None, ge=1, description="Streams of the container on a soft-partitioned NPU (vNPU); unset on a whole one."
    )
    hccl_op_expansion_mode: ExpansionMode | None = Field(
        None, description="HCCL_OP_EXPANSION_MODE of every rank; unset is FFTS+."
    )


class FaultError(StrEnum):
    """What a scripted fault does on the emulated NPU."""

    STREAM_EXHAUSTED = "stream_exhausted"
    OLD_HDK = "old_hdk"
    NOT_CAPTURABLE = "not_capturable"
    OUT_OF_MEMORY = "out_of_memory"
    DEVICE_FAULT = "device_fault"
    UNKNOWN = "unknown"
    HANG = "hang"
    CRASH = "crash"
    SLOW = "slow"


class FaultConfig(Section):
    """One scripted fault of the emulated NPU. It strikes once in a process."""

    rank: int = Field(ge=0, description="Rank it strikes.")
    phase: Literal["join", "propose", "warmup", "capture", "seal", "serve"] = Field(description="When it strikes.")
    size: int | None = Field(
        None, ge=1, description="Capture size it strikes at, in `serve` the tokens of a step; any when not set."
    )
    error: FaultError = Field(description="What happens.")
    signal: Literal["SIGKILL", "SIGILL", "SIGBUS", "SIGSEGV", "SIGABRT", "SIGTERM"] = Field(
        "SIGKILL", description="Signal that ends the process in a `crash`."
    )
    processes: int = Field(1, ge=1, description="How many processes of the rank it strikes, one after the other.")
    incarnation: int = Field(
        0, ge=0, description="The first of them: 0 is that of the start, 1 the one that replaces it."
    )


class EmulatedRuntimeConfig(Section):
    """Where an emulated runtime is missing, and which version it is elsewhere."""

    missing_on: tuple[int, ...] = Field((), description="Ranks on whose node it is not installed.")
    versions: dict[int, str] = Field(default_factory=dict, description="Version on the node of a rank, by rank.")


class DeviceTimeConfig(Section):
    """How long each emulated NPU takes, in milliseconds. With nothing set, as long as the CPU computes."""

    fixed: float = Field(0.0, ge=0, description="Milliseconds of any step.")
    per_token: float = Field(0.0, ge=0, description="Milliseconds for each token of the padded batch.")
    launch: float = Field(
        0.0, ge=0, description="Milliseconds the host takes to launch an operator; a graph is launched as one."
    )
    operators: int = Field(0, ge=0, description="Operators of an eager step; 0 counts those of the model itself.")


class EmulatedConfig(Section):
    """The emulated NPU. With ``npus: 0`` the real device is used."""

    npus: int = Field(0, ge=0, description="Emulated NPUs that a local cluster offers.")
    stream_quota: int | tuple[int, ...] = Field(2048, description="Streams of each device, or one number per rank.")
    faults: tuple[FaultConfig, ...] = Field((), description="Scripted faults.")
    xlite: EmulatedRuntimeConfig = Field(default_factory=EmulatedRuntimeConfig)
    device_time: DeviceTimeConfig = Field(default_factory=DeviceTimeConfig)

    @field_validator("stream_quota")
    @classmethod
    def _countable(cls, quota: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if any(number < 0 for number in (quota if isinstance(quota, tuple) else (quota,))):
            raise ValueError("numbers of streams, 0 or more")
        return quota


class HealthConfig(Section):
    """When an engine that runs is taken for dead and replaced."""

    stall_seconds: float = Field(
        60.0, ge=1, description="Seconds within which a rank that answers no more is found; more than the longest step."
    )
    idle_decode_seconds: float = Field(
        60.0, gt=0, description="Seconds without a request after which one token is decoded to see that all ranks can."
    )


class LostRequests(StrEnum):
    """What becomes of requests under way when their engine is lost."""

    CONTINUE = "continue"
    FAIL = "fail"


class StreamsOutlive(StrEnum):
    """What a stream that has begun can lose without being cut."""

    ENGINE = "engine"
    REPLICA = "replica"


class WeightsFrom(StrEnum):
    """Where the ranks of a replacement have their weights from."""

    HOST = "host"
    DISK = "disk"


class RecoveryConfig(Section):
    """What happens while a lost engine is replaced."""

    requests: LostRequests = Field(
        LostRequests.CONTINUE,
        description="Requests under way `continue` where they were, on the engine that replaces theirs, or `fail`.",
    )
    streams: StreamsOutlive = Field(
        StreamsOutlive.ENGINE,
        description="What streams of chats and completions outlive: their `engine`, or their `replica` too, on another "
        "one. For the latter a process beside HAProxy keeps them open, which costs some processor time for each token.",
    )
    spares: bool = Field(
        True,
        description="Keep a process with vLLM imported for each rank, which takes host memory (about 0.5 GiB on "
        "emulated NPUs), and no device before it takes the place of a lost one; where ranks are on several nodes, also "
        "for as many as one node has, on two others. No effect on data-parallel engines.",
    )
    weights: WeightsFrom = Field(
        WeightsFrom.HOST,
        description="Where ranks of a replacement have their weights from: the memory of their `host`, where spares "
        "hold a copy of what the ranks read at the start, or the files of the model on `disk`. The copy takes as much "
        "memory of each node as the weights of its ranks, and is not made where less than twice that is left.",
    )

    @property
    def holds_weights(self) -> bool:
        """Whether spares hold weights."""
        return self.spares and self.weights is WeightsFrom.HOST


class LimitsConfig(Section):
    """How much work one request may make; more is refused with 400, by the name of the limit."""

    sequences: int = Field(256, ge=1, description="Answers of one request: prompts x n.")
    tokens: int = Field(
        2**20, ge=1, description="Tokens of all answers of one request together: prompts x n x max_tokens."
    )
    text_bytes: int | None = Field(
        None,
        ge=1,
        description="Bytes of a body without its images and audio, all of which may have to be tokenized; when not "
        "set, 32 for each token of the model's longest prompt, and at least 65536.",
    )
    grammar_bytes: int = Field(
        2**16, ge=1, description="Bytes of JSON schemas, choices, grammars and tools, which have to be compiled."
    )
    logprobs: int = Field(
        100_000,
        ge=1,
        description="Log probabilities of one request together, of its prompts and of answers that are no stream: "
        "prompts x n x tokens x logprobs. Those of prompts count twice; of a text each character is a token.",
    )
    grammar_values: int = Field(1000, ge=1, description="Values of a choice or of an enumeration in a JSON schema.")


class Ingress(StrEnum):
    """What stands before the replicas."""

    HAPROXY = "haproxy"
    PROXY = "proxy"


class ServingConfig(Section):
    """The HTTP server and its replicas."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    ingress: Ingress = Field(
        Ingress.HAPROXY,
        description="What stands before the replicas: HAProxy, which lets them answer clients themselves, or Ray "
        "Serve's `proxy`, which also answers where HAProxy cannot run.",
    )
    route_prefix: str = Field("/", description="Where the model's URLs begin, one prefix for each model.")
    api_key_file: str | None = Field(
        None, description="File with API keys, one a line; when not set, the environment's VLLM_API_KEY is the key."
    )
    max_body_bytes: int = Field(
        8 * 2**20, ge=1, description="Largest body of a request; larger ones are answered with 413."
    )
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    deployment: dict[str, Any] = Field(
        default_factory=dict, description="Options of Ray Serve's deployment, spelled as Serve does."
    )
    http_options: dict[str, Any] = Field(
        default_factory=dict, description="Ray Serve's HTTP options, spelled as Serve does."
    )
    health: HealthConfig = Field(default_factory=HealthConfig)
    recovery: RecoveryConfig = Field(default_factory=RecoveryConfig)

    @field_validator("route_prefix")
    @classmethod
    def _as_serve_wants_it(cls, prefix: str) -> str:
        if not re.fullmatch(r"/|(/[^/\s{}?#]+)+", prefix):
            raise ValueError("a path that begins with / and does not end with it, for example /demo, or / itself")
        return prefix


class AscendServeConfig(Section):
    """The whole configuration."""

    model: ModelConfig
    parallel: ParallelConfig = Field(default_factory=ParallelConfig)
    graph: GraphConfig = Field(default_factory=GraphConfig)
    hardware: HardwareConfig = Field(default_factory=HardwareConfig)
    emulated: EmulatedConfig = Field(default_factory=EmulatedConfig)
    serving: ServingConfig = Field(default_factory=ServingConfig)
    vllm: dict[str, Any] = Field(
        default_factory=dict,
        description="Any argument of `vllm serve`, of its engine or of its API server, spelled with underscores.",
    )
