"""One rank of vLLM with vllm-ascend on the simulated CANN, with our capture session in its start.

Each rank is an engine in a process of its own, all of which schedule alike (vLLM's "external launcher").
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

import torch
from pydantic import TypeAdapter
from vllm import LLM, SamplingParams
from vllm.plugins import load_general_plugins
from vllm.v1.executor import abstract
from vllm.v1.executor.uniproc_executor import ExecutorWithExternalLauncher
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm_ascend.utils import adapt_patch

from ascend_serve.capture.outcome import IncarnationOutcome
from ascend_serve.capture.participant import Participant
from ascend_serve.engine.group_settings import prepare_fresh_workers
from ascend_serve.engine.runner_choice import seam_of
from ascend_serve.engine.standstill import StandstillWatch
from ascend_serve.engine.worker_extension import CaptureWorkerExtension, WorkerSession
from ascend_serve.graph.plan import GraphRequest
from tests.cann_sim import control
from tests.npu.member import PipeLink
from tests.npu.start import BATCHES, MAX_REQUESTS, PROMPTS, TOKENS, Start

# Once, before ranks are forked, in the order of a start: models are imported after what vllm-ascend changes for them,
# and the plugins bring kernels, which the worker's modules look for when they are imported.
adapt_patch(is_global_patch=True)
load_general_plugins()
import vllm_ascend.worker.worker  # noqa: E402, F401


class _Here:
    """What executor and extension need to know of their rank: there is one engine per process."""

    rank: int
    link: PipeLink
    graphs: int | None
    before: Sequence[IncarnationOutcome]


class PipedCapture(CaptureWorkerExtension):
    """The worker's extension as it is, with a pipe for Ray's line to the driver."""

    def run_capture_session(self, other_sizes: Any = ()) -> Any:
        worker: Any = self
        participant = Participant(_Here.link, _Here.rank, len(_Here.before), "here", os.getpid())
        watch = StandstillWatch(lambda place: None)
        with (
            patch("ascend_serve.engine.worker_extension._participant", lambda *_: participant),
            patch("ascend_serve.engine.worker_extension._standstill_watch", lambda _: watch),
        ):
            session = WorkerSession(worker)
        if _Here.graphs is not None:
            device = worker.local_rank
            control.library().cann_sim_set_stream_quota(control.streams_taken(device) + _Here.graphs)
        return session.run(other_sizes)


class LockstepLauncher(ExecutorWithExternalLauncher):
    """Has the session where ``LockstepRayExecutor`` has it, and prepares fresh workers as it does."""

    def _init_executor(self) -> None:
        if _Here.before:
            prepare_fresh_workers(self.vllm_config, len(_Here.before), _Here.before[-1].plan)
        super()._init_executor()

    def initialize_from_config(self, kv_cache_configs: list[KVCacheConfig]) -> None:
        self.collective_rpc("initialize_from_config", args=(kv_cache_configs,))
        self.collective_rpc("run_capture_session")


def engine(start: Start) -> LLM:
    """Start vLLM on this rank, in this process."""
    eager = start.mode == "NONE"
    graphs: dict[str, Any] = {
        "compilation_config": {"cudagraph_mode": start.mode, "cudagraph_capture_sizes": list(start.sizes)},
        "worker_extension_cls": f"{__name__}.{PipedCapture.__name__}",
    }
    if not eager:
        # VLLM asks whether its own launcher was named, so another class cannot be given in its place.
        abstract.ExecutorWithExternalLauncher = LockstepLauncher
    return LLM(
        start.model,
        dtype=start.dtype,
        seed=0,
        tensor_parallel_size=start.tensor,
        pipeline_parallel_size=start.pipeline,
        data_parallel_size=start.data,
        distributed_executor_backend="external_launcher",
        enforce_eager=eager,
        additional_config={
            "ascend_compilation_config": {"enable_npugraph_ex": start.npugraph_ex},
            # The format FRACTAL_NZ, for weights in bfloat16, is not simulated.
            "weight_nz_mode": 0,
            "ascend_serve": {"request": TypeAdapter(GraphRequest).dump_python(start.request, mode="json")},
        },
        max_model_len=256,
        max_num_seqs=MAX_REQUESTS,
        max_num_batched_tokens=256,
        kv_cache_memory_bytes=64 << 20,
        enable_prefix_caching=False,
        disable_log_stats=True,
        **({} if eager else graphs),
        **start.arguments,
    )


def answers(llm: LLM, batch: int) -> list[list[int]]:
    """Greedy tokens of the first ``batch`` prompts, answered together."""
    parameters = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True)
    return [list(done.outputs[0].token_ids) for done in llm.generate(PROMPTS[:batch], parameters, use_tqdm=False)]


def run(start: Start, rank: int, before: Sequence[IncarnationOutcome], link: Connection | None) -> dict[str, Any]:
    """One rank from its first step to its last.

    Args:
        start: What to start.
        rank: This rank.
        before: What came of the incarnations before this one.
        link: The line to the driver, where there is one.
    """
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(start.ranks))
    _Here.rank = rank
    if link is not None:
        _Here.link = PipeLink(link)
    _Here.before = before
    _Here.graphs = start.graphs if rank == start.ranks - 1 else None
    llm = engine(start)
    core: Any = llm.llm_engine.engine_core
    runner = core.engine_core.model_executor.driver_worker.worker.model_runner
    replays = _count_replays()
    return {
        "held": sorted(f"{key.kind.value} {key.num_tokens}" for key in seam_of(runner).held()),
        "tokens": [answers(llm, batch) for batch in BATCHES],
        "replays": len(replays),
        "launched": sorted(control.launched()),
    }


def _count_replays() -> list[None]:
    replays: list[None] = []
    original = torch.npu.NPUGraph.replay

    def replay(graph: Any) -> None:
        replays.append(None)
        original(graph)

    torch.npu.NPUGraph.replay = replay
    return replays
