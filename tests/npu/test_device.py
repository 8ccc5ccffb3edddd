"""The simulated device: memory, streams, events, captures of several streams, scripted faults."""

from __future__ import annotations

import ctypes

import pytest
import torch

from tests.cann_sim import control
from tests.npu.programs import run


def test_memory_is_poisoned_before_its_first_use() -> None:
    torch.npu.empty_cache()
    assert torch.empty(1 << 20, device="npu").cpu().isnan().all()
    assert torch.empty(1 << 20, dtype=torch.bfloat16, device="npu").cpu().isnan().all()


def test_memory_has_a_limit() -> None:
    _, total = torch.npu.mem_get_info()
    with pytest.raises(torch.OutOfMemoryError, match=r"NPU out of memory\. Tried to allocate"):
        torch.empty(total, dtype=torch.int8, device="npu")
    assert torch.ones(2, device="npu").cpu().tolist() == [1.0, 1.0]


def test_streams_run_beside_each_other_and_wait_for_events() -> None:
    x = torch.zeros(4).npu()
    side, start, end = torch.npu.Stream(), torch.npu.Event(enable_timing=True), torch.npu.Event(enable_timing=True)
    start.record()
    with torch.npu.stream(side):
        start.wait()
        x.add_(1)
        end.record()
    end.wait()
    x.mul_(3)
    torch.npu.synchronize()
    assert x.cpu().tolist() == [3.0] * 4
    assert end.query()
    assert start.elapsed_time(end) >= 0


def test_a_device_has_a_quota_of_streams() -> None:
    # torch_npu takes streams from a pool of its own, so the device is asked itself.
    acl, stream = ctypes.CDLL("libascendcl.so"), ctypes.c_void_p()
    before = control.streams_taken()
    with control.streams_left(1):
        assert acl.aclrtCreateStream(ctypes.byref(stream)) == 0
        assert control.streams_taken() == before + 1
        assert acl.aclrtCreateStream(ctypes.byref(ctypes.c_void_p())) == 207008
    assert acl.aclrtDestroyStream(stream) == 0
    assert control.streams_taken() == before


def test_a_graph_holds_a_stream_for_every_stream_of_its_capture() -> None:
    x, side, graph = torch.ones(4).npu(), torch.npu.Stream(), torch.npu.NPUGraph()
    before = control.streams_taken()
    with torch.npu.graph(graph):
        y = x * 2
        side.wait_stream(torch.npu.current_stream())
        with torch.npu.stream(side):
            z = y + 1
        torch.npu.current_stream().wait_stream(side)
        total = y + z
    assert control.streams_taken() == before + 2
    x.fill_(5)
    graph.replay()
    assert total.cpu().tolist() == [21.0] * 4
    graph.reset()
    assert control.streams_taken() == before


def test_a_stream_that_was_drawn_into_a_capture_has_to_be_joined() -> None:
    ended = run("""
        side, graph = torch.npu.Stream(), torch.npu.NPUGraph()
        try:
            with torch.npu.graph(graph):
                side.wait_stream(torch.npu.current_stream())
                with torch.npu.stream(side):
                    y = x + 1
        except RuntimeError as error:
            print(str(error).splitlines()[0])
    """)
    assert ended.stdout.strip().endswith("error code is 107025")


def test_a_task_group_is_updated_between_replays() -> None:
    x, out = torch.ones(4).npu(), torch.zeros(4).npu()
    graph, event, update = torch.npu.NPUGraph(), torch.npu.ExternalEvent(), torch.npu.Stream()
    with torch.npu.graph(graph):
        stream = torch.npu.current_stream()
        event.wait(stream)
        event.reset(stream)
        torch.npu.graph_task_group_begin(stream)
        torch.add(x, 1.0, out=out)
        handle = torch.npu.graph_task_group_end(stream)
        result = out * 10
    for value in (1.0, 5.0, 7.0):
        graph.replay()
        with torch.npu.stream(update):
            torch.npu.graph_task_update_begin(update, handle)
            torch.add(x, value, out=out)
            torch.npu.graph_task_update_end(update)
            event.record(update)
        torch.npu.synchronize()
        assert result.cpu().tolist() == [(1 + value) * 10] * 4


def test_an_update_with_another_operator_is_refused() -> None:
    ended = run("""
        out, graph = torch.zeros(4).npu(), torch.npu.NPUGraph()
        with torch.npu.graph(graph):
            stream = torch.npu.current_stream()
            torch.npu.graph_task_group_begin(stream)
            torch.add(x, 1.0, out=out)
            handle = torch.npu.graph_task_group_end(stream)
        update = torch.npu.Stream()
        with torch.npu.stream(update):
            torch.npu.graph_task_update_begin(update, handle)
            torch.mul(x, x, out=out)
            torch.npu.synchronize()
    """)
    assert ended.exit_code != 0
    assert "aclnnAdds cannot become aclnnMul" in ended.stderr


FAULTS = {
    "aclmdlRICaptureBegin@1=207005": ("torch.npu.graph(torch.npu.NPUGraph()).__enter__()", "Alloc sq cq fail"),
    # torch_npu tries once more after it has given its cache back.
    "aclrtMalloc@1=207001;aclrtMalloc@2=207001": ("torch.empty(1 << 24, device='npu')", "NPU out of memory"),
    "aclrtSynchronizeStreamWithTimeout@1=507054": ("x.cpu()", "507054"),
    "aclnnMuls@2=507015": ("x * 2; (x * 2).cpu()", "507015"),
    # The device stays broken: it takes no more work.
    "aclnnMuls@1=0": ("(x * 2).cpu()", "The process exits for this inner error"),
}


def test_scripted_faults_strike_the_call_that_they_name() -> None:
    ended = run(f"""
        from tests.cann_sim import control
        for script, (statement, _) in {FAULTS}.items():
            with control.faults(script):
                try:
                    exec(statement)
                except RuntimeError as error:
                    print(script, repr(str(error)))
    """)
    told = dict(line.split(" ", 1) for line in ended.stdout.splitlines() if "@" in line)
    assert told.keys() == FAULTS.keys()
    for script, (_, says) in FAULTS.items():
        assert says in told[script]


def test_a_script_that_cannot_be_read_is_refused() -> None:
    ended = run("", CANN_SIM_FAULTS="aclnnMuls=never")
    assert "aclnnMuls=never is no fault: write CALL@NUMBER=CODE" in ended.stderr


def test_a_corrupting_call_spoils_numbers_and_nothing_else() -> None:
    ended = run("print((x * 2).tolist(), x.tolist())", CANN_SIM_FAULTS="aclnnMuls@1=corrupt")
    ulp = 2.0**-23
    assert ended.stdout.split("\n")[-2] == f"{[2 + 2 * ulp, 2.0] * 2} {[1 + ulp, 1.0] * 2}"
