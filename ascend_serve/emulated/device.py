"""The emulated device of this process: its streams, its time and its scripted faults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ascend_serve.config.instance_id import InstanceId
from ascend_serve.config.translate import SECTION
from ascend_serve.emulated.clock import DeviceClock, DeviceTime
from ascend_serve.emulated.faults import FaultScript
from ascend_serve.emulated.processor import allow_tiles
from ascend_serve.emulated.stream_pool import StreamPool, quota_of_rank
from ascend_serve.graph.stream_costs import DEVICE_STREAMS, StreamLayout, expansion_mode, streams_per_full


@dataclass(slots=True)
class EmulatedDevice:
    """One NPU made of a CPU.

    Attributes:
        rank: The rank that owns it.
        streams: Its stream pool.
        streams_per_graph: Streams that each captured graph takes.
        faults: What goes wrong on it.
        time: How long it takes; no time where nothing is said.
        clock: When it will have done what it was given.
    """

    rank: int = 0
    streams: StreamPool = field(default_factory=StreamPool)
    streams_per_graph: int = 1
    faults: FaultScript = field(default_factory=FaultScript)
    time: DeviceTime = field(default_factory=DeviceTime)
    clock: DeviceClock = field(default_factory=DeviceClock)


_device = EmulatedDevice()


def current_device() -> EmulatedDevice:
    """The device of this process; a healthy one with all streams until ``initialize_device`` was called."""
    return _device


def initialize_device(device: EmulatedDevice) -> None:
    """Make ``device`` the device of this process, with all that its processor has.

    Raises:
        RuntimeError: Linux does not let this process use what vLLM's kernels take for granted.
    """
    allow_tiles()
    global _device  # noqa: PLW0603 - a process has one device, as with torch.npu.set_device
    _device = device


def device_of_config(vllm_config: Any, rank: int) -> EmulatedDevice:
    """Build the device of ``rank`` from vLLM's configuration.

    Reads ``stream_quota``, ``device_time`` and ``faults`` of ``additional_config["ascend_serve"]["emulated"]``.
    """
    emulated = emulated_options(vllm_config)
    return EmulatedDevice(
        rank=rank,
        streams=StreamPool(quota_of_rank(emulated.get("stream_quota", DEVICE_STREAMS), rank), rank),
        streams_per_graph=streams_per_full(_layout(vllm_config.parallel_config)),
        faults=FaultScript(emulated.get("faults", ()), rank, InstanceId.parse(vllm_config.instance_id).incarnation),
        time=device_time(vllm_config),
    )


def _layout(parallel: Any) -> StreamLayout:
    """What the streams of one graph depend on; layers do not count, as every piece is a graph."""
    return StreamLayout(
        num_layers=0,
        tensor_parallel_size=parallel.tensor_parallel_size,
        data_parallel_size=parallel.data_parallel_size,
        expert_parallel=parallel.enable_expert_parallel,
        expansion_mode=expansion_mode(os.environ),
    )


def ascend_serve_options(vllm_config: Any) -> Mapping[str, Any]:
    """This project's part of vLLM's ``additional_config``; empty when there is none."""
    additional = vllm_config.additional_config
    return additional.get(SECTION, {}) if isinstance(additional, Mapping) else {}


def emulated_options(vllm_config: Any) -> Mapping[str, Any]:
    """What the configuration says of the emulated NPU; empty when it says nothing."""
    options: Mapping[str, Any] = ascend_serve_options(vllm_config).get("emulated", {})
    return options


def device_time(vllm_config: Any) -> DeviceTime:
    """How long the devices of an engine take."""
    return DeviceTime.of(emulated_options(vllm_config).get("device_time"))


def asks_for_npugraph_ex(vllm_config: Any) -> bool:
    """Whether npugraph_ex is to compile the model; said there where vllm-ascend reads it."""
    additional = vllm_config.additional_config
    options = additional.get("ascend_compilation_config", {}) if isinstance(additional, Mapping) else {}
    return bool(options.get("enable_npugraph_ex"))
