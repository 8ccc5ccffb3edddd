"""Failure classes: what an error means for the group, and what a person can do about it.

Which error is of which class is in `ascend_serve.graph.error_knowledge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType

from ascend_serve.graph.death import Death
from ascend_serve.graph.keys import GraphKey
from ascend_serve.releases import MINIMUM_HDK


class FailureKind(StrEnum):
    """What went wrong, as far as the error tells."""

    STREAM_EXHAUSTED = "stream_exhausted"
    OLD_HDK = "old_hdk"
    NOT_CAPTURABLE = "not_capturable"
    OUT_OF_MEMORY = "out_of_memory"
    COLLECTIVE_TIMEOUT = "collective_timeout"
    DEVICE_FAULT = "device_fault"
    DEVICE_TIMEOUT = "device_timeout"
    DEVICE_BUSY = "device_busy"
    NETWORK = "network"
    HCCL_CONFIG = "hccl_config"
    PORT_IN_USE = "port_in_use"
    KV_CACHE = "kv_cache"
    INSTALLATION = "installation"
    LOST = "lost"
    DEADLINE = "deadline"
    WRONG_NUMBERS = "wrong_numbers"
    MISMATCH = "mismatch"
    NO_COMPILER = "no_compiler"
    COMPILER_FAILED = "compiler_failed"
    SHARED_MEMORY = "shared_memory"
    DISK_FULL = "disk_full"
    PATH_TOO_LONG = "path_too_long"
    FILE_ACCESS = "file_access"
    UNKNOWN = "unknown"


class Step(IntEnum):
    """How the group goes on, gentlest first."""

    SAME = 0
    SMALLER = 1
    CHEAPER = 2
    EAGER = 3


@dataclass(frozen=True, slots=True)
class Treatment:
    """What a failure class calls for.

    Attributes:
        step: How the group goes on.
        fresh: Whether the processes must be replaced whatever had been recorded.
        advice: What a person can do.
        of_host: Whether the host is the cause, so that neither other processes nor, outside of a graph, another plan
            get any further.
    """

    step: Step
    fresh: bool
    advice: str
    of_host: bool = False


def _of_host(advice: str) -> Treatment:
    """A failure within a graph may still not be one without graphs."""
    return Treatment(Step.EAGER, False, advice, of_host=True)


UNKNOWN_OUTSIDE = "It did not come from a capture: the log of that rank, on its node, holds the whole error."
"""The advice for an error without a known signature that did not strike a graph."""


_FEWER = (
    "reduce graph.capture_sizes, or set graph.mode=FULL_DECODE_ONLY, which needs fewer graphs, "
    "or upgrade the HDK and CANN: newer ones capture more graphs"
)

TREATMENTS: Mapping[FailureKind, Treatment] = MappingProxyType(
    {
        FailureKind.STREAM_EXHAUSTED: Treatment(Step.SMALLER, False, f"The device has no streams left: {_FEWER}."),
        FailureKind.OLD_HDK: Treatment(
            Step.EAGER,
            False,
            "The HDK is too old to capture graphs (the device calls it a lack of storage): "
            f"upgrade to HDK {MINIMUM_HDK} or later with the CANN that belongs to it. Fewer sizes do not help.",
        ),
        FailureKind.NOT_CAPTURABLE: Treatment(
            Step.CHEAPER,
            False,
            "An operator of the model cannot be captured (it reads back to the host, synchronises or allocates): "
            "look at the first error inside the graph, later ones follow from it; "
            "or set graph.mode=PIECEWISE, which keeps attention out of the graphs, or graph.mode=NONE.",
        ),
        FailureKind.OUT_OF_MEMORY: Treatment(
            Step.SMALLER,
            False,
            "The device has no memory left: lower vllm.gpu_memory_utilization or the largest of graph.capture_sizes.",
        ),
        FailureKind.COLLECTIVE_TIMEOUT: Treatment(
            Step.EAGER,
            True,
            "A collective waited for a rank that never came: look at the other ranks' errors first, "
            "then check the links with `ascend-serve doctor`.",
        ),
        FailureKind.DEVICE_FAULT: Treatment(
            Step.EAGER,
            True,
            "The device reported a fault: check it with `npu-smi info` and its plog before you trust it again.",
        ),
        FailureKind.DEVICE_TIMEOUT: Treatment(
            Step.EAGER,
            True,
            "Work on the device did not end in time, most often because a collective waits for a rank that never came: "
            "look at the other ranks' errors first, then at the device's own log (plog).",
        ),
        FailureKind.DEVICE_BUSY: _of_host(
            "The device is held by another process, or is being reset: `npu-smi info` lists its processes; end what "
            "was left over, wait a minute, and try again."
        ),
        FailureKind.NETWORK: Treatment(
            Step.EAGER,
            True,
            "Ranks could not connect to each other: look at the other ranks' errors first, then check the links with "
            "`ascend-serve doctor`.",
        ),
        FailureKind.HCCL_CONFIG: _of_host(
            "HCCL refuses what it was told of the cluster: unset RANK_TABLE_FILE and HCCL_ variables that nobody "
            "needs, and let `ascend-serve doctor` compare the nodes."
        ),
        FailureKind.PORT_IN_USE: Treatment(
            Step.EAGER,
            True,
            "A port is taken on that node, as by a process that was left over: `ss -ltnp` shows which; end it.",
        ),
        FailureKind.KV_CACHE: _of_host(
            "The KV cache does not fit beside the model: `ascend-serve plan` shows the memory of each NPU. Raise "
            "vllm.gpu_memory_utilization, lower vllm.max_model_len, or spread the model over more NPUs."
        ),
        FailureKind.INSTALLATION: _of_host(
            "Packages are missing on that node, or do not fit each other: `ascend-serve doctor` compares them with the "
            "release that works."
        ),
        FailureKind.LOST: Treatment(
            Step.SAME,
            True,
            "A worker process ended: see its log and the kernel's (dmesg) for a kill for lack of host memory.",
        ),
        FailureKind.DEADLINE: Treatment(
            Step.EAGER,
            True,
            "A rank hangs, or is slower than graph.deadlines allow: raise them if it was only slow.",
        ),
        FailureKind.WRONG_NUMBERS: Treatment(
            Step.EAGER,
            True,
            "Graphs gave other numbers than the model without them: report the model, the mode and the versions.",
        ),
        FailureKind.MISMATCH: Treatment(
            Step.EAGER,
            True,
            "Ranks hold different graphs: report the plan and the events, this must not happen.",
        ),
        FailureKind.NO_COMPILER: _of_host(
            "A C++ compiler is needed on every node, as torch compiles a part of the model: install g++ there "
            "(`apt-get install g++`), or set CXX to the one that is there before Ray starts."
        ),
        FailureKind.COMPILER_FAILED: _of_host(
            "The C++ compiler failed; the log of that rank has its command and its own words. It fails on a temporary "
            "folder whose name has a space (TMPDIR, TORCHINDUCTOR_CACHE_DIR), on a full one, and when it is too old."
        ),
        FailureKind.SHARED_MEMORY: _of_host(
            "The shared memory (/dev/shm) of that node is too small or full: give it more (a container: --shm-size=1g; "
            "Kubernetes: an emptyDir with medium Memory at /dev/shm), or remove what killed processes left there."
        ),
        FailureKind.DISK_FULL: _of_host(
            "A disk of that node is full: `df -h` there; compiled code goes to TMPDIR and ~/.cache, logs of Ray to its "
            "temporary folder. Free some space, or set these to another disk."
        ),
        FailureKind.PATH_TOO_LONG: _of_host(
            "Sockets have a path of at most 107 characters, and the temporary folder makes it longer: set TMPDIR to a "
            "short one, such as /tmp, before Ray starts."
        ),
        FailureKind.FILE_ACCESS: _of_host(
            "A file or folder is missing on that node, or the user that Ray runs as there may not use it: look at it "
            "as that user (`ls -l`); for a model's files, `chmod -R a+rX` its folder."
        ),
        FailureKind.UNKNOWN: Treatment(
            Step.EAGER,
            False,
            "An error without a known signature: set graph.mode=NONE to confirm that it comes from the capture.",
        ),
    }
)
"""The treatment of each class."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure of one rank.

    Attributes:
        kind: Its class.
        where: Rank, node and phase, for a person: ``rank 1 (node-b) in capture of FULL/8``.
        error: The first error, as the device gave it.
        key: The graph that failed, if it was one.
        recorded: Whether something had been recorded, so that the process may be polluted.
        death: How the process of the rank ended, if it did and that is known.
        hint: What a person can do about this very error, where that is more than its class calls for.
    """

    kind: FailureKind
    where: str
    error: str = ""
    key: GraphKey | None = None
    recorded: bool = False
    death: Death | None = None
    hint: str = ""

    @property
    def treatment(self) -> Treatment:
        """What the failure calls for."""
        return TREATMENTS[self.kind]

    @property
    def needs_fresh_process(self) -> bool:
        """Whether the group cannot go on in the processes it has."""
        return self.recorded or self.treatment.fresh

    @property
    def is_final(self) -> bool:
        """Whether neither fresh processes nor another plan can get any further."""
        return self.treatment.of_host and self.key is None

    @property
    def is_hearsay(self) -> bool:
        """Whether a rank only tells that another one is gone."""
        return self.kind is FailureKind.LOST and self.death is None

    @property
    def advice(self) -> str:
        """What a person can do about it."""
        if self.death is not None:
            return self.death.advice
        if self.kind is FailureKind.UNKNOWN and self.key is None:
            return UNKNOWN_OUTSIDE
        return self.hint or self.treatment.advice

    @property
    def evidence(self) -> str:
        """What the log of a process that died says, on lines of its own; empty when there is none."""
        return f"\n{self.death.story}" if self.death is not None and self.death.story else ""

    @property
    def account(self) -> str:
        """All that is known, for a person."""
        return self.reason + self.evidence

    @property
    def reason(self) -> str:
        """One sentence for a person."""
        said = f": {self.error}" if self.error else ""
        return f"{self.where}: {self.kind.value.replace('_', ' ')}{said}"
