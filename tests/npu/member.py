"""One rank of a capture group: the worker's own session, on the decoder instead of vLLM's runner."""

from __future__ import annotations

import math
import os
from multiprocessing.connection import Connection
from typing import Any

import torch

from ascend_serve.capture.messages import Compiling, Phase, Question, Verdict
from ascend_serve.capture.participant import Participant
from ascend_serve.engine.canary import Canary
from ascend_serve.engine.standstill import StandstillWatch
from ascend_serve.engine.worker_extension import WorkerSession
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Proposal
from tests.cann_sim import control
from tests.npu import ranks
from tests.npu.decoder import Decoder
from tests.npu.decoder_host import DecoderHost, fixed_batch
from tests.npu.group import SIZES, Trouble

BATCHES = (1, 3, 4, 7, 16)
STEPS = 6


class PipeLink:
    """A rank's line to its driver."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def ask(self, question: Question) -> Verdict:
        self._pipe.send(question)
        verdict: Verdict = self._pipe.recv()
        return verdict

    def tell(self, message: Compiling) -> None:
        raise AssertionError(f"nothing compiles here: {message}")


class DecoderSession(WorkerSession):
    """The worker's own session, on the decoder instead of vLLM's runner."""

    def __init__(self, participant: Participant, host: DecoderHost, canary: Canary) -> None:
        self._participant = participant
        self._seam: Any = host
        self._canary = canary
        self._worker: Any = self
        self._phase = Phase.JOIN
        # A rank that stands still tells its driver, which has a line of its own here and is not told.
        self._watch = StandstillWatch(lambda place: None)
        self._patience = math.inf

    def compile_or_warm_up_model(self) -> str:
        """What vLLM's worker has of this name."""
        self._seam.capture_model()
        return "warm"

    def _proposal(self) -> Proposal:
        return Proposal((RuntimeName.ACLGRAPH, RuntimeName.EAGER), GraphMode.FULL_DECODE_ONLY, SIZES)


def run(rank: int, incarnation: int, link: Connection, trouble: Trouble) -> dict[str, Any]:
    """One rank from its first step to its last: session, then the same tokens with replay and without."""
    decoder = Decoder(rank, ranks.RANKS)
    host, canary = DecoderHost(decoder), Canary(lambda: fixed_batch(decoder))
    canary.take()
    _take_own_streams()
    participant = Participant(PipeLink(link), rank, incarnation, "here", os.getpid())
    if rank == 1 and trouble.graphs is not None:
        control.library().cann_sim_set_stream_quota(control.streams_taken(rank) + trouble.graphs)
    if rank == 1 and incarnation == 0:
        control.library().cann_sim_set_faults(trouble.script.encode())
    result = DecoderSession(participant, host, canary).run(())
    if participant.has_ended:
        return {}
    return {
        "result": result,
        "held": sorted(key.num_tokens for key in host.held()),
        "replayed": [host.generate(batch, STEPS, replay=True) for batch in BATCHES],
        "eager": [host.generate(batch, STEPS, replay=False) for batch in BATCHES],
    }


def _take_own_streams() -> None:
    """Let torch_npu take the streams that it takes once: for HCCL, for captures."""
    graph, x = torch.npu.NPUGraph(), torch.ones(1).npu()
    with torch.npu.graph(graph):
        x.add_(1)
    graph.reset()
