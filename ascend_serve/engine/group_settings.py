"""What our executor and workers need to know, carried in vLLM's ``additional_config``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from ascend_serve.capture.deadlines import Deadlines, default_deadlines
from ascend_serve.config.instance_id import InstanceId
from ascend_serve.config.translate import SECTION
from ascend_serve.engine.runtimes.loading import load_for
from ascend_serve.errors import EngineError
from ascend_serve.graph.plan import CapturePlan, GraphRequest

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class GroupSettings(BaseModel):
    """The section ``ascend_serve`` of ``additional_config``, and what the instance id says.

    Attributes:
        group: Name of the capture group; unique per start.
        incarnation: How many sets of workers the group had before.
        data_parallel_size: Engines in the capture group.
        request: What the group is asked for; the mode is the one before vLLM narrows it.
        static_kernel: Whether static kernels compile during capture.
        deadlines: Seconds per meeting point that the user set.
        holds_weights: Whether ranks hold their weights in the memory of the host, for those that take their places.
        plan_directory: Where plans that worked are kept, or ``None``.
        hardware: What the configuration says of the machines.
        emulated: What it says of the emulated NPU; with ``hardware`` part of the fingerprint of a plan.
    """

    model_config = ConfigDict(extra="ignore")

    group: str
    incarnation: int = 0
    data_parallel_size: int = 1
    request: GraphRequest
    static_kernel: bool = False
    deadlines: dict[str, float] = {}
    holds_weights: bool = False
    plan_directory: str | None = None
    hardware: dict[str, Any] = {}
    emulated: dict[str, Any] = {}

    @property
    def stream_quota(self) -> int | None:
        """Streams of the container on a soft-partitioned NPU, or ``None`` on a whole one."""
        quota: int | None = self.hardware.get("stream_quota")
        return quota


def read_settings(vllm_config: VllmConfig) -> GroupSettings:
    """Read our section.

    Raises:
        EngineError: There is none: the engine was not started with the arguments of a plan.
    """
    section: dict[str, Any] = dict(vllm_config.additional_config.get(SECTION, {}))
    if "request" not in section:
        raise EngineError(
            f"additional_config.{SECTION}.request is missing: nothing says what the capture group is asked for",
            "Start the engine with `ascend-serve`, or with the arguments that `ascend-serve plan --json` prints.",
        )
    instance = InstanceId.parse(vllm_config.instance_id)
    section |= {"group": instance.group, "incarnation": instance.incarnation}
    section.setdefault("data_parallel_size", vllm_config.parallel_config.data_parallel_size)
    return GroupSettings(**section)


def capture_deadlines(vllm_config: VllmConfig, settings: GroupSettings) -> Deadlines:
    """Derive the deadlines of the group from the size of the model's weights on disk and the user's settings."""
    weights = sum(file.stat().st_size for file in Path(vllm_config.model_config.model).glob("*.safetensors"))
    return default_deadlines(
        weights // vllm_config.parallel_config.world_size,
        static_kernel=settings.static_kernel,
        overrides=settings.deadlines,
    )


def prepare_fresh_workers(vllm_config: VllmConfig, incarnation: int, plan: CapturePlan | None) -> None:
    """Let the next workers know how many there were before them, and load for the plan they start from.

    Args:
        vllm_config: The configuration that they get.
        incarnation: Their incarnation.
        plan: The most that they will do; ``None`` leaves what was asked for.
    """
    # Actor names hold the instance id, and Ray frees the name of a killed actor only some time after the kill.
    vllm_config.instance_id = str(replace(InstanceId.parse(vllm_config.instance_id), incarnation=incarnation))
    if plan is not None:
        _narrow(vllm_config, plan)


def _narrow(vllm_config: VllmConfig, plan: CapturePlan) -> None:
    from vllm.config import CompilationMode

    section = vllm_config.additional_config[SECTION]
    request = {**section["request"], "runtime": plan.runtime.value, "mode": plan.mode.value}
    vllm_config.additional_config = {**vllm_config.additional_config, SECTION: {**section, "request": request}}
    load_for(vllm_config, plan.runtime, plan.mode, plan.capture_sizes)
    if plan.is_eager:
        # As vLLM does on ``enforce_eager``: nothing is compiled that nobody will replay.
        vllm_config.compilation_config.mode = CompilationMode.NONE
