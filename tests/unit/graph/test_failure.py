"""Failure classes from the errors that the device, HCCL, gloo and Ray raise."""

import pytest

from ascend_serve.graph.error_knowledge import recognize
from ascend_serve.graph.failure import TREATMENTS, Failure, FailureKind, Step
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode

STREAMS = """NPUGraph.cpp:230 NPU function error: AclmdlRICaptureBegin(capture_stream_, mode), error code is 207008
[ERROR] 2026-02-05-11:23:25 (PID:1802934, Device:0, RankID:-1) ERR00100 PTA call acl api failed
[Error]: Stream resources are insufficient.
[PID: 1802934] Insufficient_Stream_Resources(EL0009): The stream resources are insufficient."""

OLD_HDK = """NPUGraph.cpp:156 NPU function error: AclmdlRICaptureBegin(capture_stream_, mode), error code is 207005
[Error]: Failed to apply for memory.
        Check the remaining storage space in the hardware environment.
EE9999[PID: 1802934] (EE9999):  [SqCqManage]Alloc sq cq fail, stream_id=1984, retCode=0x7020023."""

HCCL = (
    "EI0002: [PID: 7277] The wait execution of the Notify register times out. Reason: no Notify record from rank [1]."
)

CASES = [
    pytest.param("RuntimeError", STREAMS, FailureKind.STREAM_EXHAUSTED, id="stream exhaustion, whole text"),
    pytest.param("RuntimeError", "INSUFFICIENT_STREAM_RESOURCES", FailureKind.STREAM_EXHAUSTED, id="only its name"),
    pytest.param("RuntimeError", "the Stream Resources Are Insufficient", FailureKind.STREAM_EXHAUSTED, id="any case"),
    pytest.param("RuntimeError", "code 207008: no stream resource", FailureKind.STREAM_EXHAUSTED, id="207008 and text"),
    pytest.param("RuntimeError", "error code is 207008", FailureKind.UNKNOWN, id="207008 alone is not enough"),
    pytest.param("RuntimeError", OLD_HDK, FailureKind.OLD_HDK, id="old HDK, whole text"),
    pytest.param("RuntimeError", "Alloc SQ CQ fail", FailureKind.OLD_HDK, id="old HDK, its mark"),
    pytest.param(
        "RuntimeError",
        "error code is 207005. Check the remaining storage space",
        FailureKind.OLD_HDK,
        id="old HDK, misleading storage message",
    ),
    pytest.param("RuntimeError", "error code is 207005", FailureKind.UNKNOWN, id="207005 alone is not enough"),
    pytest.param("RuntimeError", "error code is 107025", FailureKind.NOT_CAPTURABLE, id="stream not joined"),
    pytest.param("RuntimeError", "error code is 107027", FailureKind.NOT_CAPTURABLE, id="stream is captured"),
    pytest.param("RuntimeError", "rtMemcpy:ErrCode=107030", FailureKind.NOT_CAPTURABLE, id="operation not allowed"),
    pytest.param("RuntimeError", "error code is 107033", FailureKind.NOT_CAPTURABLE, id="task group"),
    pytest.param("RuntimeError", "error code is 507903", FailureKind.NOT_CAPTURABLE, id="spoilt capture"),
    pytest.param(
        "RuntimeError",
        "NPU out of memory. Tried to allocate 52.00 MiB\ncapture_end: error code is 107025",
        FailureKind.OUT_OF_MEMORY,
        id="1070xx only follows from the first error",
    ),
    pytest.param(
        "RuntimeError",
        "The Inner error is reported as above. The process exits for this inner error.\n"
        "[ERROR] 2026-11-23-00:13:58 (PID:7329, Device:1, RankID:-1) ERR00100 PTA call acl api failed.",
        FailureKind.DEVICE_FAULT,
        id="an operator that failed after its call, with the code in the log alone",
    ),
    pytest.param(
        "RuntimeError",
        "The Inner error is reported as above.\nInsufficient_Stream_Resources(EL0009)",
        FailureKind.STREAM_EXHAUSTED,
        id="an operator that failed after its call, with its reason",
    ),
    pytest.param("OutOfMemoryError", "", FailureKind.OUT_OF_MEMORY, id="torch's out of memory by type"),
    pytest.param("RuntimeError", "EL0004: Failed to allocate memory.", FailureKind.OUT_OF_MEMORY, id="EL0004"),
    pytest.param("RuntimeError", "error code is 207001", FailureKind.OUT_OF_MEMORY, id="207001"),
    pytest.param("RuntimeError", "error code is 507014", FailureKind.DEVICE_FAULT, id="AI core timeout"),
    pytest.param("RuntimeError", "error code is 507015", FailureKind.DEVICE_FAULT, id="AI core exception"),
    pytest.param(
        "RuntimeError",
        "out of memory, then error code is 507015",
        FailureKind.DEVICE_FAULT,
        id="a device fault outweighs everything",
    ),
    pytest.param("RuntimeError", HCCL, FailureKind.COLLECTIVE_TIMEOUT, id="HCCL timeout"),
    pytest.param(
        "RuntimeError",
        "Timed out waiting 1800000ms for recv operation to complete",
        FailureKind.COLLECTIVE_TIMEOUT,
        id="gloo timeout",
    ),
    pytest.param("RuntimeError", f"{HCCL} ExceptionType:[Heartbeat Lost Occurred]", FailureKind.LOST, id="HCCL peer"),
    pytest.param("RuntimeError", "[pair.cc:534] Connection closed by peer [::1]:9", FailureKind.LOST, id="gloo peer"),
    pytest.param("ActorDiedError", "The actor died unexpectedly", FailureKind.LOST, id="Ray actor"),
    pytest.param(
        "InductorError",
        "InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'g++')",
        FailureKind.NO_COMPILER,
        id="Inductor finds no compiler",
    ),
    pytest.param(
        "RuntimeError",
        "Failed to find C compiler. Please specify via CC environment variable",
        FailureKind.NO_COMPILER,
        id="Triton finds no compiler",
    ),
    pytest.param(
        "InductorError",
        "CppCompileError: C++ compile error\n\nCommand:\ng++ /tmp/with space/x.cpp\n\nOutput:\n"
        "g++: error: /tmp/with: No such file or directory",
        FailureKind.COMPILER_FAILED,
        id="the compiler fails",
    ),
    pytest.param(
        "RuntimeError",
        "Insufficient space in /dev/shm for shared-memory allocation: 240 MiB required, 61 MiB free.",
        FailureKind.SHARED_MEMORY,
        id="vLLM finds too little shared memory",
    ),
    pytest.param(
        "RuntimeError",
        "unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)",
        FailureKind.SHARED_MEMORY,
        id="torch finds too little shared memory",
    ),
    pytest.param("OSError", "[Errno 28] No space left on device: '/tmp/x'", FailureKind.DISK_FULL, id="disk full"),
    pytest.param(
        "InductorError",
        "CppCompileError: C++ compile error\n\nOutput:\n<built-in>: fatal error: when writing output to /c/header.i: "
        "No space left on device\ncompilation terminated.",
        FailureKind.DISK_FULL,
        id="a compiler on a full disk",
    ),
    pytest.param(
        "InductorError",
        "CppCompileError: C++ compile error\n\nOutput:\ncollect2: fatal error: ld terminated with signal 7 [Bus error]",
        FailureKind.DISK_FULL,
        id="a linker on a full disk",
    ),
    pytest.param("OSError", "AF_UNIX path too long", FailureKind.PATH_TOO_LONG, id="path of a socket"),
    pytest.param(
        "ZMQError",
        'ipc path "/tmp/x" is longer than 107 characters (sizeof(sockaddr_un.sun_path)).',
        FailureKind.PATH_TOO_LONG,
        id="path of a ZeroMQ socket",
    ),
    pytest.param(
        "FileNotFoundError", "No such file or directory: m.safetensors", FailureKind.FILE_ACCESS, id="weights missing"
    ),
    pytest.param("PermissionError", "[Errno 13] Permission denied: 'm'", FailureKind.FILE_ACCESS, id="not readable"),
    pytest.param(
        "RuntimeError", f"{STREAMS}\nNo such file or directory", FailureKind.STREAM_EXHAUSTED, id="the device first"
    ),
    pytest.param("RuntimeError", "device says no", FailureKind.UNKNOWN, id="no signature"),
    pytest.param("RuntimeError", "[PID: 507015] device says no", FailureKind.UNKNOWN, id="process id is no code"),
    pytest.param("RuntimeError", "pid=107027: device says no", FailureKind.UNKNOWN, id="process id, other form"),
    pytest.param("RuntimeError", "stream 1507015 and 2070018", FailureKind.UNKNOWN, id="part of a longer number"),
]


@pytest.mark.parametrize(("error_type", "text", "kind"), CASES)
def test_classify(error_type: str, text: str, kind: FailureKind) -> None:
    assert recognize(error_type, text).kind is kind


TREATED = [
    pytest.param(FailureKind.STREAM_EXHAUSTED, Step.SMALLER, False, id="fewer sizes"),
    pytest.param(FailureKind.OUT_OF_MEMORY, Step.SMALLER, False, id="fewer or smaller sizes"),
    pytest.param(FailureKind.NOT_CAPTURABLE, Step.CHEAPER, False, id="another mode may do without the operator"),
    pytest.param(FailureKind.OLD_HDK, Step.EAGER, False, id="no retry on an old HDK"),
    pytest.param(FailureKind.UNKNOWN, Step.EAGER, False, id="unknown goes eager"),
    pytest.param(FailureKind.LOST, Step.SAME, True, id="a loss says nothing about graphs"),
    pytest.param(FailureKind.DEVICE_FAULT, Step.EAGER, True, id="never carry on after a device fault"),
    pytest.param(FailureKind.COLLECTIVE_TIMEOUT, Step.EAGER, True, id="never carry on after a collective timeout"),
    pytest.param(FailureKind.DEADLINE, Step.EAGER, True, id="a hung process never serves"),
    pytest.param(FailureKind.WRONG_NUMBERS, Step.EAGER, True, id="wrong numbers never serve"),
    pytest.param(FailureKind.MISMATCH, Step.EAGER, True, id="different graphs never serve"),
]


@pytest.mark.parametrize(("kind", "step", "fresh"), TREATED)
def test_treatment(kind: FailureKind, step: Step, fresh: bool) -> None:
    assert (TREATMENTS[kind].step, TREATMENTS[kind].fresh) == (step, fresh)


def test_every_class_has_a_treatment_with_advice() -> None:
    assert set(TREATMENTS) == set(FailureKind)
    assert all(treatment.advice.endswith(".") for treatment in TREATMENTS.values())


def test_the_advice_for_an_old_hdk_names_the_version() -> None:
    assert "HDK 25.5.1" in TREATMENTS[FailureKind.OLD_HDK].advice


FIRST = [
    pytest.param(
        "Traceback (most recent call last):\n  File a.py\nerror code is 107030\nerror code is 107025",
        "error code is 107030",
        id="the first error line",
    ),
    pytest.param("\n  something broke\nand more", "something broke", id="the first line without any error line"),
    pytest.param("", "", id="nothing"),
    pytest.param(
        "The Inner error is reported as above.\n"
        "[ERROR] 2026-11-23-00:05:05 (PID:28716, Device:1, RankID:1) ERR00100 PTA call acl api failed.\n"
        "[PID: 28716] Insufficient_Stream_Resources(EL0009): The stream resources are insufficient.",
        "[PID: 28716] Insufficient_Stream_Resources(EL0009): The stream resources are insufficient.",
        id="the device's line before torch_npu's",
    ),
    pytest.param(
        "failed\n[ERROR] 2026-11-23-00:05:05 (PID:28716, Device:1, RankID:1) ERR00100 PTA call acl api failed.",
        "[ERROR] 2026-11-23-00:05:05 (PID:28716, Device:1, RankID:1) ERR00100 PTA call acl api failed.",
        id="torch_npu's line where the device says nothing",
    ),
]


@pytest.mark.parametrize(("text", "line"), FIRST)
def test_first_error(text: str, line: str) -> None:
    assert recognize("", text).line == line


ADVICE = [
    pytest.param(FailureKind.UNKNOWN, True, "graph.mode=NONE", id="unknown in a graph"),
    pytest.param(FailureKind.UNKNOWN, False, "did not come from a capture", id="unknown elsewhere"),
    pytest.param(FailureKind.NO_COMPILER, False, "g++", id="no compiler"),
    pytest.param(FailureKind.COMPILER_FAILED, False, "TMPDIR", id="compiler failed"),
    pytest.param(FailureKind.SHARED_MEMORY, False, "--shm-size", id="shared memory"),
    pytest.param(FailureKind.DISK_FULL, False, "df -h", id="disk full"),
    pytest.param(FailureKind.PATH_TOO_LONG, False, "TMPDIR", id="path too long"),
    pytest.param(FailureKind.FILE_ACCESS, False, "chmod", id="file access"),
]


@pytest.mark.parametrize(("kind", "in_graph", "advice"), ADVICE)
def test_advice(kind: FailureKind, in_graph: bool, advice: str) -> None:
    failure = Failure(kind, "rank 0 in propose", key=GraphKey(GraphMode.FULL, 8) if in_graph else None)
    assert advice in failure.advice
    assert in_graph or "graph.mode" not in failure.advice


def test_what_was_recorded_calls_for_fresh_processes() -> None:
    key = GraphKey(GraphMode.FULL, 8)
    clean = Failure(FailureKind.STREAM_EXHAUSTED, "rank 1 in capture of FULL/8", "no streams", key)
    polluted = Failure(FailureKind.STREAM_EXHAUSTED, "rank 1 in capture of FULL/8", "no streams", key, recorded=True)
    assert (clean.needs_fresh_process, polluted.needs_fresh_process) == (False, True)
    assert clean.reason == "rank 1 in capture of FULL/8: stream exhausted: no streams"
