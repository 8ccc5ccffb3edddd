"""vLLM's CPU worker as the owner of an emulated NPU. Checked against vLLM 0.32.0."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import torch
from vllm.config import CUDAGraphMode
from vllm.distributed.parallel_state import get_pp_group
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.worker import cpu_worker
from vllm.v1.worker.cpu_worker import CPUWorker
from vllm.v1.worker.worker_base import CompilationTimes

from ascend_serve.emulated.built_in_model import provide
from ascend_serve.emulated.cores import cores_here, threads_of_device
from ascend_serve.emulated.device import (
    ascend_serve_options,
    current_device,
    device_of_config,
    emulated_options,
    initialize_device,
)
from ascend_serve.emulated.model_runner import EmulatedNPUModelRunner

# vLLM's multiprocessing executor binds threads itself, and says so with one of these.
_THREAD_BINDINGS = ("OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


_OWN_SHARED_MEMORY = re.compile(r" (/dev/shm/\S*-cpushm_\d+)$", re.MULTILINE)

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps shared memory by name."""


def _forget_killed_ranks(init_method: str) -> None:
    """Remove the shared memory of killed ranks that met at the same port: vLLM's collectives do not start over it.

    vLLM 0.32.0 names it ``<port>-<group>-<ranks>-cpushm_<rank>``; the port is ours now, so nobody alive uses it. Ranks
    that meet at a file (``file://``) name it after that file, which is new for every engine: nothing is left of others.
    """
    port = urlsplit(init_method).port
    if port is not None:
        for file in SHARED_MEMORY.glob(f"{port}-*cpushm_*"):
            file.unlink(missing_ok=True)


def _forget_names() -> None:
    """Remove the names of this rank's shared memory, which it keeps: a rank that is killed leaves nothing behind then.

    All ranks of a group have it open when one is past its making, which ends with a barrier (``_init_cpu_shm``).
    """
    for name in _OWN_SHARED_MEMORY.findall(Path("/proc/self/maps").read_text()):
        Path(name).unlink(missing_ok=True)


def _emulated_runner(v2: bool) -> AbstractContextManager[Any]:
    """Let CPUWorker make a model runner of ours, whose class it names in a module only."""
    if not v2:
        return patch.object(cpu_worker, "CPUModelRunner", EmulatedNPUModelRunner)
    # Not before, since kernels are defined when it is imported, in the language that there is then.
    from vllm.v1.worker.cpu import model_runner

    from ascend_serve.emulated.model_runner_v2 import EmulatedNPUModelRunnerV2

    return patch.object(model_runner, "CPUModelRunner", EmulatedNPUModelRunnerV2)


class EmulatedNPUWorker(CPUWorker):
    """One rank on one emulated NPU."""

    def init_device(self) -> None:
        """Open the device and make the model runner."""
        if ascend_serve_options(self.vllm_config).get("built_in_model"):
            # The path that came from another node means nothing here.
            self.model_config.model = str(provide())
        parallel = self.parallel_config
        rank = parallel.data_parallel_index * parallel.world_size + self.rank
        if self.rank == 0:
            _forget_killed_ranks(self.distributed_init_method)
        initialize_device(device_of_config(self.vllm_config, rank))
        if not any(name in os.environ for name in _THREAD_BINDINGS):
            devices = emulated_options(self.vllm_config).get("npus", parallel.local_world_size)
            torch.set_num_threads(threads_of_device(cores_here(), devices))
        with _emulated_runner(self.use_v2_model_runner):
            super().init_device()
        _forget_names()

    def compile_or_warm_up_model(self) -> CompilationTimes:
        """Capture the graphs, warm the sampler, and reset the seed last, as vLLM's workers do."""
        if not self.model_config.enforce_eager:
            self.model_runner.capture_model()
        self._warm_up_sampler()
        return super().compile_or_warm_up_model()

    @torch.inference_mode()
    def execute_model(self, scheduler_output: SchedulerOutput) -> Any:
        """Run one step; a scripted fault of the phase ``serve`` strikes here, its size is the step's in tokens."""
        current_device().faults.strike("serve", scheduler_output.total_num_scheduled_tokens)
        return super().execute_model(scheduler_output)

    def _warm_up_sampler(self) -> None:
        """Sample once: else the first request that samples waits for seconds until a sampler is compiled.

        That of Model Runner V2 is not compiled.
        """
        if self.use_v2_model_runner or not get_pp_group().is_last_rank or self.model_runner.is_pooling_model:
            return
        scheduler = self.scheduler_config
        _, last_hidden_states = self.model_runner._dummy_run(
            min(scheduler.max_num_seqs, scheduler.max_num_batched_tokens),
            cudagraph_runtime_mode=CUDAGraphMode.NONE,
            skip_eplb=True,
        )
        self.model_runner._dummy_sampler_run(hidden_states=last_hidden_states)
