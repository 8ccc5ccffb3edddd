"""How many of the machine's cores compute for an emulated NPU. Checked against vLLM 0.32.0.

vLLM's multiprocessing executor gives each rank threads by the cores there are, and leaves cores to the engine core
(``OMPProcessManager``). Under Ray nothing does: threads of a rank on all cores wait for whatever else runs there.
"""

from __future__ import annotations

import os

from vllm.utils.cpu_resource_utils import get_allowed_cpu_list


def threads_of_device(cores: int, devices: int) -> int:
    """Threads that compute for a device.

    As in vLLM, a core beside those of each device is left to what schedules and answers; with fewer cores than twice
    the devices none is.

    Args:
        cores: Cores that this process may run on.
        devices: Devices on this node.
    """
    return max(1, cores // devices - 1)


def cores_here() -> int:
    """Cores that this process may run on; two hardware threads of one core are one."""
    return len({cpu.physical_core for cpu in get_allowed_cpu_list()})


def have_cores_beside(ranks: int) -> bool:
    """Whether the host has a core to go on with while ranks compute, and wait for each other, on one each."""
    return len(os.sched_getaffinity(0)) > ranks
