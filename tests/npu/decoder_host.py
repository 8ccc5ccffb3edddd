"""The decoder as graph runtimes and the capture session see it: what ``engine/`` makes of vLLM's runner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import torch

from ascend_serve.engine.runner import CANARY_TOKENS, CaptureWatch
from ascend_serve.graph.keys import GraphKey, capture_keys
from ascend_serve.graph.modes import GraphMode
from tests.npu.decoder import MAX_LENGTH, MAX_REQUESTS, VOCABULARY, Decoder

Capture = Callable[[GraphKey, Callable[[], None]], None]


class DecoderHost:
    """Graphs of one rank's decoder. Implements ``GraphHost`` and what the session asks of the runner."""

    def __init__(self, decoder: Decoder) -> None:
        # As far as a runtime asks which one the model was loaded for: for none.
        self.runner = SimpleNamespace(vllm_config=SimpleNamespace(additional_config={}))
        self._decoder = decoder
        self._graphs: dict[GraphKey, tuple[torch.npu.NPUGraph, torch.Tensor]] = {}
        self._dispatched: tuple[GraphKey, ...] = ()
        self._capture: Capture | None = None
        self._watch = CaptureWatch()
        self._pool = torch.npu.graph_pool_handle()

    def check(self) -> None:
        """There is no vLLM whose names could be others."""

    def dispatch(self, mode: GraphMode, capture_sizes: tuple[int, ...]) -> None:
        self._dispatched = capture_keys(mode, capture_sizes, max_num_seqs=MAX_REQUESTS)

    def held(self) -> frozenset[GraphKey]:
        return frozenset(self._graphs)

    def release(self, keys: Iterable[GraphKey]) -> None:
        for key in list(keys):
            if key in self._graphs:
                self._graphs.pop(key)[0].reset()

    @contextmanager
    def hooked(self, capture: Capture) -> Iterator[None]:
        self._capture = capture
        yield
        self._capture = None

    @contextmanager
    def watch_capture(self) -> Iterator[CaptureWatch]:
        self._watch = CaptureWatch()
        yield self._watch

    def change_pool(self) -> None:
        self._pool = torch.npu.graph_pool_handle()

    def capture_model(self) -> None:
        """What vLLM's capture loop does: every graph that is dispatched goes through the hook."""
        assert self._capture is not None
        for key in self._dispatched:
            self._capture(key, lambda key=key: self._warm_up_and_capture(key))  # type: ignore[misc]

    def _warm_up_and_capture(self, key: GraphKey) -> None:
        self._decoder.forward(key.num_tokens)
        torch.npu.synchronize()
        self._watch.capturing = True
        graph = torch.npu.NPUGraph()
        with torch.npu.graph(graph, pool=self._pool):
            logits = self._decoder.forward(key.num_tokens)
        self._graphs[key] = (graph, logits)

    def padded(self, batch: int) -> int:
        """The smallest captured size for ``batch`` requests, or ``batch`` where it runs eager."""
        return min((key.num_tokens for key in self._graphs if key.num_tokens >= batch), default=batch)

    def logits(self, size: int, *, replay: bool) -> torch.Tensor:
        """The logits of ``size`` requests, replayed where that size was captured and ``replay`` is set."""
        graphs = {key.num_tokens: graph for key, graph in self._graphs.items()}
        if not replay or size not in graphs:
            return self._decoder.forward(size)
        graph, output = graphs[size]
        graph.replay()
        return output

    def generate(self, batch: int, steps: int, *, replay: bool) -> list[list[int]]:
        """Greedy tokens of ``batch`` requests, one list per step; padded alike with and without replay."""
        decoder, size = self._decoder, self.padded(batch)
        decoder.clear()
        decoder.positions.zero_()
        decoder.tokens.copy_(torch.arange(1, MAX_REQUESTS + 1) % VOCABULARY)
        told = []
        for _ in range(min(steps, MAX_LENGTH)):
            tokens = self.logits(size, replay=replay).argmax(-1)
            decoder.tokens[:size].copy_(tokens)
            decoder.positions[:size].add_(1)
            told.append(tokens[:batch].tolist())
        return told


def fixed_batch(decoder: Decoder) -> tuple[torch.Tensor]:
    """The logits of a fixed eager batch, as ``RunnerSeam.fixed_batch`` gets them of vLLM's."""
    decoder.clear()
    decoder.positions.zero_()
    decoder.tokens.copy_(torch.arange(MAX_REQUESTS))
    return (decoder.forward(CANARY_TOKENS),)
