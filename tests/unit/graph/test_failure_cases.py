"""Error texts as reported: the class of each, whether its process may go on; noise around them changes nothing."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_serve.graph.error_knowledge import ERRORS, KnownError, recognize
from ascend_serve.graph.failure import TREATMENTS, FailureKind

FOLDER = Path(__file__).parents[2] / "cases" / "errors"
TEXTS = {file.stem: file.read_text() for file in sorted(FOLDER.glob("*.txt"))}
KIND = FailureKind

# The class, a part of the line that is shown, and why.
EXPECTED: dict[str, tuple[FailureKind, str, str]] = {
    "e01_507048_internal_task_timeout": (KIND.DEVICE_TIMEOUT, "507048", "a task did not end; nothing says whose"),
    "e03_507018_aicpu": (KIND.DEVICE_FAULT, "507018", "an AI CPU exception"),
    "e04_107020_event_wait_timeout": (KIND.DEVICE_TIMEOUT, "107020", "an event that never came"),
    "e05_EI0006_get_socket_timeout": (KIND.NETWORK, "EI0006", "a peer did not connect"),
    "e06_EI0006_old_wording": (KIND.NETWORK, "EI0006", "the same; torch_npu's own code, 6, says nothing"),
    "e07_EI0009_transport_init": (KIND.NETWORK, "EI0009", "the link could not be made"),
    "e08_507046_stream_sync_timeout": (KIND.DEVICE_TIMEOUT, "507046", "a stream that did not end"),
    "e09_107020_wrapped_as_oom": (KIND.DEVICE_TIMEOUT, "107020", "whatever class it is wrapped in"),
    "e10_507001_task_scheduler": (KIND.DEVICE_FAULT, "507001", "the task scheduler"),
    "e11_507034_vector_core_timeout": (KIND.DEVICE_FAULT, "507034", "a warning carries the code"),
    "e12_stream_is_captured_item": (KIND.NOT_CAPTURABLE, "107027", "an operator reads back in a capture"),
    "e13_507035_short_form": (KIND.DEVICE_FAULT, "507035", "`error code:` without `is`"),
    "e14_hccl_init_root_info_11": (KIND.NETWORK, "error code is 11", "HCCL_E_TCP_CONNECT"),
    "e16_310p_allreduce_event": (KIND.DEVICE_FAULT, "Inner error", "an operator failed after its call"),
    "e17_EI0002_507048_notify": (KIND.COLLECTIVE_TIMEOUT, "EI0002", "HCCL says what timed out"),
    "e18_EI9999_hccl_fftsplus_task_timeout": (KIND.COLLECTIVE_TIMEOUT, "hccl fftsplus", "a collective of HCCL"),
    "e19_resource_busy_EL0005": (KIND.DEVICE_BUSY, "EL0005", "the device is held by another process"),
    "e20_vllm_ascend_rewritten_capture_message": (KIND.STREAM_EXHAUSTED, "insufficient", "vllm-ascend's words"),
    "e21_errno_361001_slice": (KIND.DEVICE_FAULT, "361001", "an operator could not be launched"),
    "e22_EI0014_ranktable": (KIND.HCCL_CONFIG, "EI0014", "the description of the cluster is wrong"),
    "e25_hang_words_of_vllm": (KIND.DEADLINE, "RPC call", "a worker hangs or is slow"),
    "e26_oom_torch_npu_graph_private_pool": (KIND.OUT_OF_MEMORY, "out of memory", "torch_npu's allocator"),
    "e27_507015_microseconds_only": (KIND.UNKNOWN, "stride", "507015 is a part of the time"),
    "e28_507000_task_update_at_replay": (KIND.DEVICE_FAULT, "507000", "the runtime on the host"),
}
MAY_GO_ON = {KIND.NOT_CAPTURABLE, KIND.OUT_OF_MEMORY, KIND.STREAM_EXHAUSTED, KIND.UNKNOWN}


def test_the_table_holds_every_text() -> None:
    assert set(EXPECTED) == set(TEXTS)


@pytest.mark.parametrize("error_type", ["RuntimeError", "OutOfMemoryError"])
@pytest.mark.parametrize("name", EXPECTED)
def test_a_reported_text(name: str, error_type: str) -> None:
    kind, part, why = EXPECTED[name]
    found = recognize(error_type, TEXTS[name])
    if kind is KIND.UNKNOWN and error_type == "OutOfMemoryError":
        kind = KIND.OUT_OF_MEMORY  # Where the text has no sign, the type has.
    assert (found.kind, part in found.line) == (kind, True), f"{why}: {found}"


@pytest.mark.parametrize("name", EXPECTED)
def test_after_a_fault_no_process_goes_on(name: str) -> None:
    kind, _, _ = EXPECTED[name]
    treatment = TREATMENTS[kind]
    assert treatment.fresh or treatment.of_host or kind in MAY_GO_ON


NUMBERS = st.one_of(
    st.integers(0, 9_999_999).map(str),
    st.sampled_from(["507015", "107027", "207001", "507903", "507048"]),
)
NOISE = st.one_of(
    NUMBERS.map(lambda n: f"(EngineCore pid={n}) INFO 11-23 06:14:02 [core.py:12] step done"),
    NUMBERS.map(lambda n: f"2026-09-17 06:14:02.{n} worker 3: loaded"),
    NUMBERS.map(lambda n: f"[PID: {n}] stream_id:{n}, sq_id:5, task_id:{n}"),
    NUMBERS.map(lambda n: f'  File "/usr/lib/python3.11/x.py", line {n}, in forward'),
    NUMBERS.map(lambda n: f"tensor of {n} bytes at 0x{n}, shape [{n}, 4096]"),
    st.binary(max_size=8).map(lambda data: f"handle 0xe{data.hex()}ei0002ff, id {data.hex()}"),
    st.sampled_from(["", "The above exception was the direct cause of the following exception:", "TraceBack:"]),
)


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(sorted(TEXTS)), before=st.lists(NOISE, max_size=4), after=st.lists(NOISE, max_size=4))
def test_noise_around_a_text_does_not_change_its_class(name: str, before: list[str], after: list[str]) -> None:
    text = "\n".join([*before, TEXTS[name], *after])
    assert recognize("RuntimeError", text).kind is EXPECTED[name][0]


@settings(deadline=None)
@given(lines=st.lists(NOISE, max_size=8))
def test_noise_alone_is_no_error_that_is_known(lines: list[str]) -> None:
    assert recognize("RuntimeError", "\n".join(lines)).kind is KIND.UNKNOWN


@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(TEXTS)),
    prefix=st.sampled_from(["(RayWorker pid=507015, ip=192.0.2.1) ", "ERROR 11-23 [core.py:507] ", "\x1b[36m> "]),
)
def test_a_prefix_on_each_line_does_not_change_the_class(name: str, prefix: str) -> None:
    text = "\n".join(prefix + line for line in TEXTS[name].splitlines())
    assert recognize("RuntimeError", text).kind is EXPECTED[name][0]


@pytest.mark.parametrize("known", ERRORS, ids=lambda known: " & ".join(known.signs))
def test_every_sign_is_told(known: KnownError) -> None:
    written = [f"error code is {sign.replace('x', '9')}" if sign[0].isdigit() else sign for sign in known.signs]
    found = recognize("", " ".join(written))
    assert found.kind is known.kind
    assert found.advice.endswith(".")
