"""The vLLM platform of the emulated NPU. Checked against vLLM 0.32.0, whose CPU backend it runs on."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.platforms.cpu import CpuPlatform

from ascend_serve.emulated.cores import have_cores_beside
from ascend_serve.emulated.device import asks_for_npugraph_ex, current_device, device_time
from ascend_serve.emulated.processor import instruction_set

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from vllm.config import VllmConfig

# vLLM reads these before it calls any hook of a platform, but after it imported the platform.
# Model Runner V2 is there for who asks for it: its kernels run in Python here, which takes time.
os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
# With the backend "eager" vLLM compiles nothing ahead of time, but would hash its whole configuration before each step.
os.environ.setdefault("VLLM_USE_AOT_COMPILE", "0")

_COMPILER = "ascend_serve.emulated.npugraph_ex.compile_graph"
_CPU_ATTENTION = "vllm.v1.attention.backends.cpu_attn.CPUAttentionBackend"


class EmulatedNPUPlatform(CpuPlatform):
    """An NPU made of a CPU: real vLLM, real Ray resources, real capture and replay."""

    ray_device_key = "NPU"
    # As on Ascend (vllm-ascend 0.23.0): small functions of vLLM's run as they are, and no start waits for a compiler.
    simple_compile_backend = "eager"
    ray_noset_device_env_vars = ("RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES",)
    device_control_env_var = "ASCEND_RT_VISIBLE_DEVICES"

    @classmethod
    def device_control_id_to_physical_device_id(cls, device_id: str) -> int:
        """Devices are numbered; there is no other name for one."""
        return int(device_id)

    @classmethod
    def support_static_graph_mode(cls) -> bool:
        """Graphs are what this platform is for."""
        return True

    @classmethod
    def get_static_graph_wrapper_cls(cls) -> str:
        """What vLLM's piecewise backend wraps each piece in."""
        return "ascend_serve.emulated.acl_graph.ACLGraphWrapper"

    @classmethod
    def get_compile_backend(cls) -> str:
        """What compiles a whole model, where `check_and_update_config` has nothing else to say: the CPU platform's."""
        return CpuPlatform.simple_compile_backend

    @classmethod
    def graph_pool_handle(cls) -> Any:
        """A new memory pool for graphs."""
        from ascend_serve.emulated.npu_graph import graph_pool_handle

        return graph_pool_handle()

    @classmethod
    def get_punica_wrapper(cls) -> str:
        """What adds LoRA adapters to layers."""
        return "ascend_serve.emulated.lora.EmulatedNPUPunicaWrapper"

    @classmethod
    def register_triton_kernel_overrides(cls) -> None:
        """Let vLLM's kernels for a CPU stand in for Triton's, and ours for one that is wrong."""
        super().register_triton_kernel_overrides()
        from vllm import envs
        from vllm.triton_utils import HAS_TRITON
        from vllm.triton_utils.dispatcher import register_kernels

        from ascend_serve.emulated import speculation, triton_language

        if not HAS_TRITON:
            register_kernels({speculation.EXPAND: speculation.expand})
            speculation.sample_without_drafts()
            if envs.VLLM_USE_V2_MODEL_RUNNER:
                triton_language.install()

    @classmethod
    def get_attn_backend_cls(cls, *args: Any, **kwargs: Any) -> str:
        """vLLM's choice; where that is the plain CPU attention, the same with graph support declared."""
        backend = super().get_attn_backend_cls(*args, **kwargs)
        if backend == _CPU_ATTENTION:
            return "ascend_serve.emulated.attention.EmulatedNPUAttentionBackend"
        return backend

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        """Let the CPU platform adapt the configuration, then bring back what graph mode needs."""
        if vllm_config.use_v2_model_runner:
            _have_kernels()
        asked = _DeviceSettings.of(vllm_config)
        if vllm_config.parallel_config.worker_cls == "auto":
            vllm_config.parallel_config.worker_cls = "ascend_serve.emulated.worker.EmulatedNPUWorker"
        super().check_and_update_config(vllm_config)
        _spread_threads(vllm_config.parallel_config.local_world_size)
        if vllm_config.model_config is not None:
            asked.restore(vllm_config)

    @classmethod
    def scripted_fault(cls, phase: str, size: int | None = None) -> None:
        """Let a scripted fault of this rank strike, if one waits for ``phase`` (and capture size ``size``).

        Raises:
            RuntimeError: As the device would.
            torch.OutOfMemoryError: As the device would.
        """
        current_device().faults.strike(phase, size)

    @classmethod
    def instruction_set(cls) -> str:
        """The widest instruction set of the processor that this rank computes with."""
        return instruction_set()

    @classmethod
    def streams_left(cls) -> int:
        """Streams that captures can still take on this device."""
        return current_device().streams.left


@dataclass(frozen=True, slots=True)
class _DeviceSettings:
    """What ``CpuPlatform`` wipes: a CPU alone has no graphs, and no device beside which the host could go on."""

    capture_sizes: list[int]
    splitting_ops: list[str] | None
    async_scheduling: bool | None

    @classmethod
    def of(cls, vllm_config: VllmConfig) -> _DeviceSettings:
        config = vllm_config.compilation_config
        return cls(
            async_scheduling=_schedules_ahead(vllm_config),
            capture_sizes=list(config.cudagraph_capture_sizes or ()),
            splitting_ops=config.splitting_ops,
        )

    def restore(self, vllm_config: VllmConfig) -> None:
        from vllm.config import CompilationMode

        vllm_config.scheduler_config.async_scheduling = self.async_scheduling
        config = vllm_config.compilation_config
        config.cudagraph_capture_sizes = self.capture_sizes
        if config.cudagraph_mode.requires_piecewise_compilation():
            # vLLM splits the model at attention and wraps each piece, as on Ascend. The pieces run as they were traced:
            # Inductor would fuse operators, and graph and eager would no longer be equal bit for bit.
            config.mode = CompilationMode.VLLM_COMPILE
            config.backend = "eager"
            config.splitting_ops = self.splitting_ops
        elif _compiles(vllm_config):
            # As the CPU platform compiles, layers included, but that captures know of the compiled graph.
            config.mode = CompilationMode.DYNAMO_TRACE_ONCE
            config.backend = _COMPILER
            config.splitting_ops = []
            return
        else:
            config.mode = CompilationMode.NONE
            config.splitting_ops = []
        # Without compilation vLLM takes its custom operators, with it native layers: other numbers.
        config.custom_ops = ["all"]


def _have_kernels() -> None:
    """Let vLLM take the kernels of Model Runner V2 for there, whose language `triton_language` has."""
    from vllm.config import vllm as configuration

    configuration.HAS_TRITON = True


def _compiles(vllm_config: VllmConfig) -> bool:
    """Whether npugraph_ex takes the model; like vLLM on a CPU it takes none with LoRA."""
    mode = vllm_config.compilation_config.cudagraph_mode
    if not (mode.has_full_cudagraphs() and asks_for_npugraph_ex(vllm_config)):
        return False
    if vllm_config.lora_config is not None:
        logger.warning("npugraph_ex has no effect with LoRA on emulated NPUs: vLLM compiles no such model for a CPU")
    return vllm_config.lora_config is None


def _schedules_ahead(vllm_config: VllmConfig) -> bool | None:
    """As vLLM decided, unless the ranks' computing takes every core: then nothing could go on beside it."""
    asked = vllm_config.scheduler_config.async_scheduling
    computes = not device_time(vllm_config)
    return asked and (not computes or have_cores_beside(vllm_config.parallel_config.local_world_size))


def _spread_threads(local_world_size: int) -> None:
    """Give each local rank its share of the CPUs: vLLM binds on its own only one rank per NUMA node."""
    cpus = sorted(os.sched_getaffinity(0))
    if local_world_size == 1 or os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto") != "auto":
        return
    shares = [cpus[rank::local_world_size] or cpus for rank in range(local_world_size)]
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(",".join(map(str, share)) for share in shares)
