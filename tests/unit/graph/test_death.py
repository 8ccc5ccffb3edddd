"""How the end of a worker process is read from what Ray says and from its log. Texts are of Ray 2.60.0, Python 3.11."""

from __future__ import annotations

import pytest

from ascend_serve.graph.death import (
    MOST_COLUMNS,
    MOST_LINES,
    SILENT,
    WorkerLog,
    death_by_exit_code,
    failed_loop,
    last_words,
    read_death,
)

CLOSED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: NodeWorkerProc\n\tpid: 8706\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was "
    "killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed "
    "unexpectedly due to SIGSEGV or another unexpected error."
)
EXITED = (
    "Worker exit type: SYSTEM_ERROR Worker exit detail: Worker exits unexpectedly. Worker exits with an exit code 4."
)
TERMINATED = f"{EXITED[:-2]}1. The process receives a SIGTERM."
NODE = "The actor died because its node has died. Node Id: 5f, Ip: 10.0.0.2"
GONE = "The actor ad69 is unavailable: The actor is temporarily unavailable: RpcError: RPC error: Socket closed"
MEMORY = "Worker exit detail: Task was killed due to the node running low on memory."
KILLED = "The actor is dead because it was killed by `ray.kill`."


PID = 8706


def crash(
    signal: str, words: str, stack: str = "Stack (most recent call first):", *, pid: int = PID, time: int = 1795811465
) -> tuple[str, ...]:
    return f"""
:job_id:01000000
:actor_name:NodeWorkerProc
Loading safetensors checkpoint shards: 100% Completed | 1/1 [00:00<00:00,  8.53it/s]
*** {signal} received at time={time} on cpu 1 ***
PC: @     0x7f49d625a267  (unknown)  cpu_attention::AttentionMainLoop<>::operator()()
    @     0x7f49d625a050  (unknown)  (unknown)
[2026-11-27 20:31:05,483 E {pid} {pid}] logging.cc:474: *** {signal} received at time={time} on cpu 1 ***
[2026-11-27 20:31:05,483 E {pid} {pid}] logging.cc:474: PC: @     0x7f49d625a267  (unknown)  cpu_attention
Fatal Python error: {words}

{stack}
  File "/site-packages/vllm/_custom_ops.py", line 12 in cpu_attention
  File "/site-packages/vllm/attention.py", line 340 in forward
  File "/site-packages/torch/module.py", line 1 in __call__
  File "/site-packages/vllm/qwen3.py", line 99 in forward
  File "/site-packages/vllm/runner.py", line 5 in _dummy_run

Extension modules: msgpack._cmsgpack, ray._raylet (total: 2)
""".split("\n")  # type: ignore[return-value]


def log(*lines: str) -> WorkerLog:
    return WorkerLog(f"/tmp/ray/worker-1-2-{PID}.err", lines, pid=PID)


NOTHING = log(":job_id:01000000", ":actor_name:NodeWorkerProc", "")

# What Ray says, the log, the cause, a part of the text and one of the advice.
DEATHS = [
    pytest.param(
        CLOSED,
        log(*crash("SIGILL", "Illegal instruction")),
        "SIGILL",
        "(illegal instruction)",
        "processor",
        id="SIGILL",
    ),
    pytest.param(CLOSED, log(*crash("SIGBUS", "Bus error")), "SIGBUS", "(bus error)", "--shm-size", id="SIGBUS"),
    pytest.param(
        CLOSED, log(*crash("SIGSEGV", "Segmentation fault")), "SIGSEGV", "(segmentation fault)", "report", id="SIGSEGV"
    ),
    pytest.param(CLOSED, log(*crash("SIGABRT", "Aborted")), "SIGABRT", "(aborted)", "report", id="SIGABRT"),
    pytest.param(CLOSED, NOTHING, SILENT, "without a trace, as by SIGKILL", "dmesg", id="nothing in the log: SIGKILL"),
    pytest.param(CLOSED, None, "", "its worker process ended", "See its log", id="no log: nothing is claimed"),
    pytest.param(EXITED, NOTHING, "exit code 4", "exit code 4", "log", id="exit code"),
    pytest.param(TERMINATED, None, "SIGTERM", "SIGTERM (terminated)", "ray stop", id="SIGTERM, which Ray tells"),
    pytest.param(NODE, None, "its node has died", "its node is gone", "ray status", id="the node is gone"),
    pytest.param(GONE, None, "temporarily unavailable", "nor its node answers", "ray status", id="nobody answers"),
    pytest.param(MEMORY, NOTHING, "running low on memory", "low on memory", "memory", id="Ray's memory monitor"),
    pytest.param(KILLED, None, "killed by `ray.kill`", "ray.kill", "driver's log", id="ray.kill"),
    pytest.param("", None, "", "its worker process ended", "See its log", id="nothing is said"),
]


@pytest.mark.parametrize(("said", "worker_log", "cause", "text", "advice"), DEATHS)
def test_read_death(said: str, worker_log: WorkerLog | None, cause: str, text: str, advice: str) -> None:
    death = read_death(said, worker_log)
    assert death.cause == cause
    assert text in death.text
    assert advice in death.advice
    assert death.log == ("" if worker_log is None else worker_log.path)


def test_a_crash_is_told_by_its_innermost_calls() -> None:
    death = read_death(CLOSED, log(*crash("SIGILL", "Illegal instruction")))
    assert death.story.splitlines() == [
        "  its log on that node, /tmp/ray/worker-1-2-8706.err, says:",
        "    cpu_attention::AttentionMainLoop<>::operator()()",
        "    cpu_attention (vllm/_custom_ops.py:12)",
        "    forward (vllm/attention.py:340)",
        "    __call__ (torch/module.py:1)",
        "    forward (vllm/qwen3.py:99)",
    ]


def test_the_thread_that_crashed_counts_whatever_stands_before_it() -> None:
    other = 'Thread 0x00007f1 (most recent call first):\n  File "idle.py", line 1 in wait\n\nCurrent thread 0x00007f2:'
    words = last_words(log(*crash("SIGSEGV", "Segmentation fault", other)))
    assert words[1] == "cpu_attention (vllm/_custom_ops.py:12)"
    assert not any("idle.py" in line for line in words)


def test_of_two_crashes_in_a_log_the_last_one_counts() -> None:
    assert read_death(CLOSED, log(*crash("SIGBUS", "Bus error"), *crash("SIGILL", "x"))).cause == "SIGILL"


def test_a_crash_of_a_child_that_writes_there_too_is_not_its_own() -> None:
    of_child = crash("SIGTERM", "Terminated", pid=PID + 1, time=1795811470)
    assert read_death(CLOSED, log(*of_child)).cause == SILENT
    assert not any("0x7f" in line for line in last_words(log(*of_child)))
    assert read_death(CLOSED, log(*crash("SIGBUS", "Bus error"), *of_child)).cause == "SIGBUS"
    assert read_death(CLOSED, WorkerLog("x.err", of_child)).cause == "SIGTERM"


def test_a_process_that_left_no_trace_is_told_by_the_last_lines_of_both_logs() -> None:
    errors = (
        ":actor_name:x",
        "one",
        "two",
        "Capturing: 0%\rCapturing: 50%",
        "python/resource_tracker.py:254: leaked",
        "",
    )
    story = last_words(WorkerLog("x.err", errors, ("first", "Loading weights took 0.1 s", "KV cache: 1 GiB", "")))
    assert story == ("Loading weights took 0.1 s", "KV cache: 1 GiB", "one", "two", "Capturing: 50%")


def test_what_is_shown_of_a_log_is_bounded() -> None:
    words = last_words(log(*(["x" * 10_000] * 100)))
    assert len(words) <= MOST_LINES
    assert {len(line) for line in words} == {MOST_COLUMNS}


def test_an_empty_log_is_said_to_be_empty() -> None:
    assert read_death(CLOSED, NOTHING).story.endswith("says:\n    (nothing)")


def test_exit_codes_below_zero_are_signals() -> None:
    death = death_by_exit_code(-7, "the engine core")
    assert (death.cause, death.text) == ("SIGBUS", "the engine core was ended by SIGBUS (bus error)")


def test_a_main_loop_that_failed_is_told_by_its_error() -> None:
    death = failed_loop("RuntimeError", "\nno streams\nand more")
    assert death.text == "its main loop failed: RuntimeError: no streams"
