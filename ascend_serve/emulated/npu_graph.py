"""``NPUGraph`` with torch_npu's interface, recorded and replayed on the CPU."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from types import TracebackType

import torch

from ascend_serve.emulated.device import current_device
from ascend_serve.emulated.device_errors import capture_spoilt, forbidden
from ascend_serve.emulated.memory_pool import MemoryPool
from ascend_serve.emulated.program import compile_program, trace
from ascend_serve.emulated.recorder import Recorder
from ascend_serve.emulated.stream_pool import StreamPool

PoolHandle = tuple[int, int]
"""Names a memory pool, as torch_npu's handle does."""

_pool_ids = itertools.count(1)
_pools: weakref.WeakValueDictionary[PoolHandle, MemoryPool] = weakref.WeakValueDictionary()
_recording: set[PoolHandle] = set()
_capturing: NPUGraph | None = None


def graph_pool_handle() -> PoolHandle:
    """A handle of a new memory pool."""
    return (0, next(_pool_ids))


def recorder_of_capture() -> Recorder | None:
    """What records the capture that is under way."""
    return _capturing._recorder if _capturing is not None else None


class NPUGraph:
    """A captured program that can be replayed on the tensors it was captured with.

    The capture changes nothing: what was there before holds what it held, what is new holds NaN. Replay reads the
    current contents of every tensor that was there before the capture, and rewrites in place every tensor of the
    capture that is still alive outside of it. Checked against ``torch_npu.npu.NPUGraph`` 2.13 on a simulated CANN
    (``tests/conformance``).
    """

    def __init__(self) -> None:
        self._recorder: Recorder | None = None
        self._program: Callable[[], None] | None = None
        self._handle: PoolHandle | None = None
        self._memory: MemoryPool | None = None
        self._give_back: weakref.finalize | None = None

    def capture_begin(self, pool: PoolHandle | None = None, capture_error_mode: str = "global") -> None:
        """Record all operators of this thread from here on.

        Args:
            pool: Memory pool to share with other graphs; a new one when not given.
            capture_error_mode: As torch_npu takes it. One thread records here, so all modes refuse the same operations.

        Raises:
            RuntimeError: Another capture is under way, which spoils it; this graph holds one already; the streams are
                exhausted, or were when a capture with this pool began before; or ``capture_error_mode`` is unknown.
        """
        global _capturing  # noqa: PLW0603 - the device has one capture at a time
        if capture_error_mode not in ("global", "thread_local", "relaxed"):
            raise RuntimeError(f"capture_error_mode is global, thread_local or relaxed, not {capture_error_mode!r}")
        if _capturing is not None and _capturing._recorder is not None:
            raise _capturing._recorder.spoil(forbidden(current_device().rank, "a nested capture"))
        if self._program is not None:
            raise RuntimeError("This NPUGraph instance already owns a captured graph. Call reset() first.")
        handle = pool or graph_pool_handle()
        if handle in _recording:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        # As with torch_npu, a pool goes on recording when the device refuses the streams.
        _recording.add(handle)
        self._take_streams()
        self._handle = handle
        self._memory = _pools.setdefault(self._handle, MemoryPool())
        self._recorder = Recorder()
        self._recorder.start()
        _capturing = self

    def capture_end(self) -> None:
        """Stop recording and make the graph ready to replay.

        Raises:
            RuntimeError: No capture of this graph is under way, or an operation in it was refused: then there is no
                graph, and another capture may begin.
        """
        recorder, memory = self._stop()
        spoilt = recorder.is_spoilt
        # Without the operators' references, whatever is still alive is alive outside.
        recording = trace(recorder.operators)
        recorder.undo()
        try:
            if spoilt:
                raise capture_spoilt(current_device().rank)
            with torch.inference_mode():
                self._program = compile_program(recording, memory)
        except BaseException:
            self._release_streams()
            raise
        recording.poison()

    def replay(self) -> None:
        """Run the captured program.

        Raises:
            RuntimeError: Nothing was captured.
        """
        if self._program is None:
            raise RuntimeError("Called NPUGraph::replay without a preceding successful capture.")
        with torch.inference_mode():
            self._program()

    def reset(self) -> None:
        """Forget the program and give the streams back. The graph can capture again.

        Raises:
            RuntimeError: Its capture is still under way.
        """
        if self._recorder is not None:
            raise RuntimeError("Called NPUGraph::reset while its capture is under way.")
        self._program = None
        self._memory = None
        self._handle = None
        self._release_streams()

    def pool(self) -> PoolHandle:
        """The handle of this graph's memory pool.

        Raises:
            RuntimeError: Nothing was captured.
        """
        if self._handle is None:
            raise RuntimeError("Called NPUGraph::pool() without a preceding successful capture.")
        return self._handle

    def _stop(self) -> tuple[Recorder, MemoryPool]:
        global _capturing  # noqa: PLW0603 - see capture_begin
        recorder, memory = self._recorder, self._memory
        if recorder is None or memory is None:
            raise RuntimeError("Called NPUGraph::capture_end without a preceding capture_begin.")
        recorder.stop()
        self._recorder = None
        _recording.discard(self.pool())
        _capturing = None
        return recorder, memory

    def _take_streams(self) -> None:
        device = current_device()
        device.streams.acquire(device.streams_per_graph)
        self._give_back = weakref.finalize(self, StreamPool.release, device.streams, device.streams_per_graph)

    def _release_streams(self) -> None:
        if self._give_back is not None:
            self._give_back()
            self._give_back = None


class graph:
    """Capture the body into ``npu_graph``.

    When the body raises, the capture ends as it always does, with what was recorded so far, and the error goes on: as
    the context of another one where the body did what a capture forbids.

    Args:
        npu_graph: The graph to capture into.
        pool: Memory pool to share, see ``graph_pool_handle``.
        stream: Taken for torch_npu's sake: a CPU has one.
        capture_error_mode: See ``NPUGraph.capture_begin``.
    """

    def __init__(
        self,
        npu_graph: NPUGraph,
        pool: PoolHandle | None = None,
        stream: object | None = None,
        capture_error_mode: str = "global",
    ) -> None:
        self._graph = npu_graph
        self._pool = pool
        self._capture_error_mode = capture_error_mode

    def __enter__(self) -> None:
        self._graph.capture_begin(self._pool, self._capture_error_mode)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._graph.capture_end()
