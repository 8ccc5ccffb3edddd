"""What is known of the errors of devices, HCCL, drivers, vLLM and the host: how to tell one, and what it means.

Codes count only where a code stands (``error code is 507015``, ``errno:361001``, ``runtime result = 507048``,
``Resource_Busy(EL0005)``): logs are full of other numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ascend_serve.graph.failure import TREATMENTS, FailureKind


class Origin(StrEnum):
    """Where a code or a text is defined."""

    RUNTIME = "CANN's rt_error_codes.h, and torch_npu's NPUErrorCodes.h"
    DRIVER = "CANN's error reports and the driver"
    HCCL = "HCCL's error reports and hccl_types.h"
    TORCH_NPU = "torch_npu"
    ASCEND = "vllm-ascend 0.23.0"
    VLLM = "vLLM 0.23.0 and 0.32.0"
    TORCH = "torch, with gloo, Inductor and Triton"
    RAY = "Ray 2.60.0"
    HOST = "Linux and Python"
    OURS = "ascend_serve.engine.expected"


@dataclass(frozen=True, slots=True)
class KnownError:
    """One error.

    Attributes:
        kind: Its class, which says how the group goes on.
        signs: What an error text has all of: codes of six digits (``x`` for any digit), identifiers such as ``EI0002``,
            words in lower case.
        origin: Where it is defined.
        meaning: What it says, in short.
        advice: What a person can do, where that is more than what its class calls for.
    """

    kind: FailureKind
    signs: tuple[str, ...]
    origin: Origin
    meaning: str
    advice: str = ""


_K, _O = FailureKind, Origin

_DEVICE_LOG = "the device's own log (plog) and `npu-smi info` of that node tell more; take it out of use if it repeats."
_PEER = (
    "A rank waited for another: look at the other ranks' errors first, then at the links with `ascend-serve doctor`."
)
_LINKS = (
    "Check the links between the nodes with `ascend-serve doctor`; on one node, that every rank's process still runs."
)

ERRORS: tuple[KnownError, ...] = (
    # A fault of the device outweighs everything: its process never goes on.
    KnownError(_K.DEVICE_FAULT, ("507000",), _O.RUNTIME, "internal error of the runtime on the host"),
    KnownError(_K.DEVICE_FAULT, ("507001",), _O.RUNTIME, "internal error of the task scheduler"),
    KnownError(_K.DEVICE_FAULT, ("507010",), _O.RUNTIME, "heartbeat of the task scheduler lost"),
    KnownError(_K.DEVICE_FAULT, ("507011",), _O.RUNTIME, "a model failed to run"),
    KnownError(_K.DEVICE_FAULT, ("507012",), _O.RUNTIME, "no message from the task scheduler"),
    KnownError(_K.DEVICE_FAULT, ("507013",), _O.RUNTIME, "error of the DMA hardware"),
    KnownError(_K.DEVICE_FAULT, ("507014",), _O.RUNTIME, "AI core timeout"),
    KnownError(_K.DEVICE_FAULT, ("507015",), _O.RUNTIME, "AI core exception"),
    KnownError(_K.DEVICE_FAULT, ("507016",), _O.RUNTIME, "AI core trap"),
    KnownError(_K.DEVICE_FAULT, ("507017",), _O.RUNTIME, "AI CPU timeout"),
    KnownError(_K.DEVICE_FAULT, ("507018",), _O.RUNTIME, "AI CPU exception"),
    KnownError(_K.DEVICE_FAULT, ("507022",), _O.RUNTIME, "processes on the device cannot talk"),
    KnownError(_K.DEVICE_FAULT, ("507033",), _O.RUNTIME, "the device did not start"),
    KnownError(_K.DEVICE_FAULT, ("507034",), _O.RUNTIME, "vector core timeout"),
    KnownError(_K.DEVICE_FAULT, ("507035",), _O.RUNTIME, "vector core exception"),
    KnownError(_K.DEVICE_FAULT, ("507036",), _O.RUNTIME, "vector core trap"),
    KnownError(_K.DEVICE_FAULT, ("507053",), _O.RUNTIME, "error of the device's memory"),
    KnownError(_K.DEVICE_FAULT, ("507054",), _O.RUNTIME, "multi-bit ECC error of HBM"),
    KnownError(_K.DEVICE_FAULT, ("EI0012",), _O.HCCL, "SDMA error in a collective"),
    KnownError(_K.DEVICE_BUSY, ("EL0005",), _O.DRIVER, "the device is taken, or being reset"),
    KnownError(_K.DEVICE_BUSY, ("EJ0001",), _O.HCCL, "HCCP did not start, as where an earlier process still ends"),
    KnownError(_K.OLD_HDK, ("alloc sq cq fail",), _O.DRIVER, "no queue for a stream"),
    KnownError(_K.OLD_HDK, ("207005", "remaining storage space"), _O.RUNTIME, "the same, called a lack of storage"),
    KnownError(_K.STREAM_EXHAUSTED, ("insufficient_stream_resources",), _O.DRIVER, "no stream left"),
    KnownError(_K.STREAM_EXHAUSTED, ("stream resources are insufficient",), _O.RUNTIME, "no stream left"),
    KnownError(_K.STREAM_EXHAUSTED, ("207008", "stream resource"), _O.RUNTIME, "no stream left"),
    KnownError(_K.STREAM_EXHAUSTED, ("insufficient available streams to capture",), _O.ASCEND, "its words for it"),
    # Who waits for a rank that has gone, or for one that does not come.
    KnownError(_K.LOST, ("heartbeat lost occurred",), _O.HCCL, "a peer ended; in its EI0002"),
    KnownError(_K.COLLECTIVE_TIMEOUT, ("EI0002",), _O.HCCL, "no notification from a peer"),
    KnownError(_K.COLLECTIVE_TIMEOUT, ("notify register times out",), _O.HCCL, "no notification from a peer"),
    KnownError(_K.COLLECTIVE_TIMEOUT, ("hccl fftsplus task timeout",), _O.DRIVER, "a collective did not end"),
    KnownError(_K.COLLECTIVE_TIMEOUT, ("watchdog caught collective operation timeout",), _O.TORCH, "torch.distributed"),
    KnownError(_K.COLLECTIVE_TIMEOUT, ("timed out waiting", "operation to complete"), _O.TORCH, "gloo"),
    # Setting up a communicator.
    KnownError(
        _K.PORT_IN_USE,
        ("EI0019",),
        _O.HCCL,
        "a port could not be bound",
        "A port that HCCL wants is taken there, as by a process that was left over: `ss -ltnp` shows it; end it, or "
        "set HCCL_IF_BASE_PORT to the first of 32 free ports before Ray starts.",
    ),
    KnownError(_K.PORT_IN_USE, ("EJ0003",), _O.HCCL, "address and port are bound already"),
    KnownError(_K.PORT_IN_USE, ("address already in use",), _O.HOST, "a port is taken"),
    KnownError(
        _K.NETWORK,
        ("EI0006",),
        _O.HCCL,
        "no connection from a peer in time",
        "A peer did not connect in time: look at the other ranks' errors first. Where all ranks say so, raise "
        "HCCL_CONNECT_TIMEOUT (seconds, 120 by default) before Ray starts; `ascend-serve doctor` checks the links.",
    ),
    KnownError(_K.NETWORK, ("EI0009",), _O.HCCL, "the link to a peer could not be made"),
    KnownError(_K.NETWORK, ("EI0013",), _O.HCCL, "RoCE gave up sending again"),
    KnownError(_K.NETWORK, ("EI0015",), _O.HCCL, "ranks did not find each other in time"),
    KnownError(_K.NETWORK, ("hccl function error", "error code is 11"), _O.HCCL, "TCP connect"),
    KnownError(_K.NETWORK, ("hccl function error", "error code is 12"), _O.HCCL, "RoCE connect"),
    KnownError(_K.NETWORK, ("hccl function error", "error code is 19"), _O.HCCL, "network"),
    KnownError(_K.NETWORK, ("gloo connectfullmesh failed",), _O.TORCH, "gloo does not reach a peer"),
    KnownError(
        _K.HCCL_CONFIG,
        ("EI0001",),
        _O.HCCL,
        "an environment variable has a wrong value",
        "An HCCL_ variable has a value that HCCL does not take: the message names it; correct it before Ray starts.",
    ),
    KnownError(_K.HCCL_CONFIG, ("EI0003",), _O.HCCL, "a collective's arguments are wrong"),
    KnownError(_K.HCCL_CONFIG, ("EI0004",), _O.HCCL, "the rank table cannot be read"),
    KnownError(_K.HCCL_CONFIG, ("EI0005",), _O.HCCL, "ranks disagree on a collective's arguments"),
    KnownError(
        _K.HCCL_CONFIG,
        ("EI0008",),
        _O.HCCL,
        "ranks have different versions of HCCL",
        "The nodes have different CANN: install the same on all of them; `ascend-serve doctor` shows which.",
    ),
    KnownError(_K.HCCL_CONFIG, ("EI0014",), _O.HCCL, "the rank table or the cluster's description is wrong"),
    # Memory.
    KnownError(_K.KV_CACHE, ("no available memory for the cache blocks",), _O.VLLM, "no room for a KV cache"),
    KnownError(
        _K.KV_CACHE, ("to serve at least one request with the model's max seq len",), _O.VLLM, "too small a one"
    ),
    KnownError(
        _K.OUT_OF_MEMORY,
        ("is less than desired gpu memory utilization",),
        _O.VLLM,
        "less memory is free than vLLM is to use",
        "Another process may hold memory of the device (`npu-smi info` lists them): end it, or lower "
        "vllm.gpu_memory_utilization.",
    ),
    KnownError(_K.OUT_OF_MEMORY, ("out of memory",), _O.TORCH, "no memory on the device"),
    KnownError(_K.OUT_OF_MEMORY, ("outofmemoryerror",), _O.TORCH, "no memory on the device"),
    KnownError(_K.OUT_OF_MEMORY, ("EL0004",), _O.DRIVER, "no memory on the device"),
    KnownError(_K.OUT_OF_MEMORY, ("207001",), _O.RUNTIME, "no memory on the device"),
    KnownError(_K.OUT_OF_MEMORY, ("207018",), _O.RUNTIME, "no memory on the device"),
    KnownError(
        _K.OUT_OF_MEMORY,
        ("EI0011",),
        _O.HCCL,
        "no memory for a queue pair",
        "HCCL's buffers found no memory: lower HCCL_BUFFSIZE (MB for each communicator), or "
        "vllm.gpu_memory_utilization.",
    ),
    # Peers that went away, as gloo and Ray see it.
    KnownError(_K.LOST, ("connection closed by peer",), _O.TORCH, "gloo: a peer ended"),
    KnownError(_K.LOST, ("connection reset by peer",), _O.TORCH, "gloo: a peer ended"),
    KnownError(_K.LOST, ("actordiederror",), _O.RAY, "a worker ended"),
    # Work that did not end, and nothing says whose.
    KnownError(_K.DEVICE_TIMEOUT, ("107019",), _O.RUNTIME, "a task did not end in time"),
    KnownError(_K.DEVICE_TIMEOUT, ("107020",), _O.RUNTIME, "a wait did not end in time"),
    KnownError(_K.DEVICE_TIMEOUT, ("507046",), _O.RUNTIME, "a stream did not end in time"),
    KnownError(_K.DEVICE_TIMEOUT, ("507048",), _O.RUNTIME, "an internal task did not end in time"),
    # Every failure inside a capture ends in one of these, so what caused it comes first.
    KnownError(_K.NOT_CAPTURABLE, ("107025",), _O.RUNTIME, "a stream was not joined back"),
    KnownError(_K.NOT_CAPTURABLE, ("107027",), _O.RUNTIME, "the stream is being captured"),
    KnownError(_K.NOT_CAPTURABLE, ("107030",), _O.RUNTIME, "the operation is not allowed in this capture mode"),
    KnownError(_K.NOT_CAPTURABLE, ("107033",), _O.RUNTIME, "state of a task group"),
    KnownError(_K.NOT_CAPTURABLE, ("507903",), _O.RUNTIME, "spoilt by an operation that captures forbid"),
    # An operator failed after its call had returned: torch_npu writes the code to its log, and may raise without it.
    KnownError(_K.DEVICE_FAULT, ("inner error is reported as above",), _O.TORCH_NPU, "an operator failed"),
    KnownError(_K.DEVICE_FAULT, ("5070xx",), _O.RUNTIME, "any other internal error of runtime or device"),
    KnownError(_K.DEVICE_FAULT, ("207004",), _O.RUNTIME, "the device is not available"),
    KnownError(_K.DEVICE_FAULT, ("EI9999",), _O.HCCL, "internal error of HCCL"),
    KnownError(_K.DEVICE_FAULT, ("361001",), _O.HCCL, "an operator of a collective could not be launched"),
    # What hangs, as vLLM sees it.
    KnownError(
        _K.DEADLINE,
        ("rpc call to", "timed out"),
        _O.VLLM,
        "workers did not answer the engine core",
        "A worker hangs, or works longer than vLLM waits: see the logs of all ranks for the first error; if it was "
        "only slow, raise VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS.",
    ),
    KnownError(_K.DEADLINE, ("no available shared memory broadcast block found",), _O.VLLM, "a reader does not read"),
    # The host.
    KnownError(
        _K.INSTALLATION,
        ("cannot open shared object file", "libascend"),
        _O.DRIVER,
        "CANN or the driver is not found",
        "CANN or the driver is not found there: `source` CANN's set_env.sh before Ray starts, and give the container "
        "the driver (/usr/local/Ascend/driver).",
    ),
    KnownError(_K.INSTALLATION, ("cannot open shared object file", "libhccl"), _O.DRIVER, "CANN is not found"),
    KnownError(_K.INSTALLATION, ("no module named 'torch_npu'",), _O.TORCH_NPU, "torch_npu is missing"),
    KnownError(_K.INSTALLATION, ("no module named 'vllm_ascend'",), _O.ASCEND, "vllm-ascend is missing"),
    KnownError(_K.INSTALLATION, ("undefined symbol",), _O.HOST, "packages of different builds"),
    KnownError(
        _K.INSTALLATION, ("which this version of ascend_serve uses",), _O.OURS, "a release with other private names"
    ),
    # A compiler fails on a full disk, too.
    KnownError(_K.SHARED_MEMORY, ("insufficient space in /dev/shm",), _O.VLLM, "no room in /dev/shm"),
    KnownError(_K.SHARED_MEMORY, ("insufficient shared memory",), _O.TORCH, "no room in /dev/shm"),
    KnownError(_K.SHARED_MEMORY, ("unable to allocate shared memory",), _O.TORCH, "no room in /dev/shm"),
    KnownError(_K.SHARED_MEMORY, ("no space left on device", "/dev/shm"), _O.HOST, "no room in /dev/shm"),
    KnownError(_K.DISK_FULL, ("no space left on device",), _O.HOST, "ENOSPC"),
    KnownError(_K.DISK_FULL, ("disk quota exceeded",), _O.HOST, "EDQUOT"),
    KnownError(
        _K.DISK_FULL, ("ld terminated with signal 7",), _O.HOST, "the linker maps a file for which there is no room"
    ),
    KnownError(_K.NO_COMPILER, ("invalidcxxcompiler",), _O.TORCH, "Inductor"),
    KnownError(_K.NO_COMPILER, ("no working c++ compiler found",), _O.TORCH, "Inductor"),
    KnownError(_K.NO_COMPILER, ("failed to find c compiler",), _O.TORCH, "Triton"),
    KnownError(_K.COMPILER_FAILED, ("cppcompileerror",), _O.TORCH, "Inductor"),
    KnownError(_K.COMPILER_FAILED, ("c++ compile error",), _O.TORCH, "Inductor"),
    KnownError(_K.PATH_TOO_LONG, ("af_unix path too long",), _O.HOST, "Python's socket"),
    KnownError(_K.PATH_TOO_LONG, ("sockaddr_un.sun_path",), _O.HOST, "ZeroMQ's socket"),
    KnownError(_K.PATH_TOO_LONG, ("file name too long",), _O.HOST, "ENAMETOOLONG"),
    KnownError(_K.FILE_ACCESS, ("permissionerror",), _O.HOST, "EACCES"),
    KnownError(_K.FILE_ACCESS, ("filenotfounderror",), _O.HOST, "ENOENT"),
    KnownError(_K.FILE_ACCESS, ("permission denied",), _O.HOST, "EACCES"),
    KnownError(_K.FILE_ACCESS, ("read-only file system",), _O.HOST, "EROFS"),
    KnownError(_K.FILE_ACCESS, ("no such file or directory",), _O.HOST, "ENOENT"),
)
"""All that is known. The first that a text has all signs of counts: a cause comes before what follows from it."""

_CODE = re.compile(r"(?:code|errno|result|ret|retcode|failed)\b[\s:=,(\[]*(?:is\b)?[\s:=]*(\d{6})(?!\d)")
_IDENTIFIER = re.compile(r"(?<![a-z0-9])e[a-z]\d{4}(?![a-z0-9])")
_CODE_SIGN = re.compile(r"[\dx]{6}")

_ERROR_LINE = re.compile(r"error code|errcode|error\b.*:|(?<!\d)[125]07\d{3}(?!\d)|e[a-z]\d{4}", re.IGNORECASE)
_STAMP = re.compile(r"\[ERROR\] \d{4}-\d\d-\d\d-")
"""Begins torch_npu's own line in a report, with time, process and a code that says no more than "call failed"."""


@dataclass(frozen=True, slots=True)
class Recognized:
    """What an error text says.

    Attributes:
        kind: Its class.
        line: The line that names the cause, as it was written; later ones follow from it.
        advice: What a person can do; empty where the class is unknown.
    """

    kind: FailureKind
    line: str
    advice: str


def recognize(error_type: str, error_text: str) -> Recognized:
    """Tell what an error is from its text, and from its type where the text has no sign; letters' case is equal.

    The text comes first: a wrapper may call any error out of memory.

    Args:
        error_type: The name of the exception's class; empty where there is none.
        error_text: Its text, or a part of a log.
    """
    found = _find(error_text) or _find(error_type)
    kind = found.kind if found is not None else FailureKind.UNKNOWN
    advice = "" if found is None else found.advice or TREATMENTS[kind].advice
    return Recognized(kind, _line(error_text, kind), advice)


def _find(text: str) -> KnownError | None:
    lowered = text.lower()
    codes = set(_CODE.findall(lowered))
    identifiers = set(_IDENTIFIER.findall(lowered))
    return next((known for known in ERRORS if _has_all(known, lowered, codes, identifiers)), None)


def _has_all(known: KnownError, text: str, codes: set[str], identifiers: set[str]) -> bool:
    return all(_has(sign, text, codes, identifiers) for sign in known.signs)


def _has(sign: str, text: str, codes: set[str], identifiers: set[str]) -> bool:
    if _CODE_SIGN.fullmatch(sign):
        return any(all(want in ("x", digit) for want, digit in zip(sign, code, strict=True)) for code in codes)
    if sign[0].isupper():
        return sign.lower() in identifiers
    return re.search(re.escape(sign) + r"(?!\d)", text) is not None if sign[-1].isdigit() else sign in text


def _line(text: str, kind: FailureKind) -> str:
    """The first line of that class, else the first that looks like an error, else the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if kind is not FailureKind.UNKNOWN and _kind_of(line) is kind]
    return next(iter((*telling, *_errors(lines), *lines)), "")


def _kind_of(line: str) -> FailureKind | None:
    found = _find(line)
    return None if found is None else found.kind


def _errors(lines: list[str]) -> Iterator[str]:
    """Lines that name an error, those of the device before torch_npu's stamp."""
    errors = [line for line in lines if _ERROR_LINE.search(line)]
    yield from (line for line in errors if not _STAMP.match(line))
    yield from errors
