"""Which cores compute for which emulated NPU. Checked against vLLM 0.32.0.

vLLM's multiprocessing executor gives each rank threads that are bound to cores, and leaves cores to the engine core
(``OMPProcessManager``). Under Ray nothing does: threads of a rank on all cores wait for whatever else runs there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from vllm.utils.cpu_resource_utils import get_allowed_cpu_list

BINDING = "VLLM_CPU_OMP_THREADS_BIND"
"""vLLM's own variable: ``auto``, ``nobind``, or the CPUs of each rank."""


def bind_threads(device_id: int, devices: int) -> None:
    """Let this process compute for a device on the device's cores, with one thread on each.

    Threads that exist already stay where they are. Does nothing where ``VLLM_CPU_OMP_THREADS_BIND`` is ``nobind``.

    Args:
        device_id: Number of the device on this node, from 0.
        devices: Devices on this node.
    """
    if os.environ.get(BINDING) == "nobind":
        return
    cores = cores_of_device(_one_cpu_of_each_core(), device_id, devices)
    torch.set_num_threads(len(cores))
    os.sched_setaffinity(0, cores)


def cores_of_device(cores: Sequence[int], device_id: int, devices: int) -> list[int]:
    """The cores that compute for a device.

    As in vLLM, a core beside those of each device is left to what schedules and answers; with fewer cores than twice
    the devices none is, with fewer than the devices they share.

    Args:
        cores: What this process may run on.
        device_id: Number of the device on this node, from 0.
        devices: Devices on this node.
    """
    count = max(1, len(cores) // devices - 1)
    first = device_id * count
    return [cores[index % len(cores)] for index in range(first, first + count)]


def _one_cpu_of_each_core() -> list[int]:
    first_of = {cpu.physical_core: cpu.id for cpu in sorted(get_allowed_cpu_list(), key=lambda cpu: -cpu.id)}
    return sorted(first_of.values())
