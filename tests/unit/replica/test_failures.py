from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve import errors
from ascend_serve.errors import AscendServeError
from ascend_serve.replica.root_cause import core_death, last_error, start_error
from ascend_serve.replica.start_failure import marked, said, unmarked

VLLM_LOG = """\
(VllmWorker pid=7) ERROR 11-22 16:09:55 [worker.py:953] Traceback (most recent call last):
(VllmWorker pid=7) ERROR 11-22 16:09:55 [worker.py:953] ValueError: Available memory (4.67/6.96 GiB) is too small
(EngineCore pid=1) ERROR 11-22 16:10:03 [core.py:1510] EngineCore failed to start.
(EngineCore pid=1) ERROR 11-22 16:10:03 [core.py:1510] Exception: Worker failed. See stack trace for root cause.
"""
RAY_LOG = """\
ray.exceptions.RayTaskError(RuntimeError): ray::RayWorkerProc.initialize_worker() (pid=7, ip=10.0.0.1)
  File "worker.py", line 83, in load_model
torch.cuda.OutOfMemoryError: NPU out of memory
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
EXECUTOR_LOG = """\
(EngineCore pid=1) ERROR 11-28 10:41:56 [core.py:1512]     raise RuntimeError(
(EngineCore pid=1) ERROR 11-28 10:41:56 [core.py:1512] RuntimeError: Worker failed with error \
'max(): Expected reduction dim', please check the stack trace above for the root cause
(MainProcess pid=3) ERROR 11-28 10:41:56 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore \
encountered an issue. See stack trace (above) for the root cause.
"""
LONG_LOG = """\
(EngineCore pid=1) ERROR 11-28 10:41:56 [core.py:9] RuntimeError: Worker failed with error 'OSError: [Errno 28] No \
space left on device
(EngineCore pid=1) ERROR 11-28 10:41:56 [core.py:9]
(EngineCore pid=1) ERROR 11-28 10:41:56 [core.py:9] Set TORCHDYNAMO_VERBOSE=1', please check the stack trace above
"""
COMPILER_LOG = """\
(EngineCore pid=1) ERROR 11-28 10:41 [core.py:9] torch._inductor.exc.InductorError: CppCompileError: C++ compile error
(EngineCore pid=1) ERROR 11-28 10:41 [core.py:9] Output:
(EngineCore pid=1) ERROR 11-28 10:41 [core.py:9] <built-in>: fatal error: when writing output to /c/a.i: No space \
left on device
(EngineCore pid=1) ERROR 11-28 10:41 [core.py:9] compilation terminated.
"""


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        pytest.param(VLLM_LOG, "ValueError: Available memory (4.67/6.96 GiB) is too small", id="worker process"),
        pytest.param(RAY_LOG, "torch.cuda.OutOfMemoryError: NPU out of memory", id="Ray actor"),
        pytest.param(EXECUTOR_LOG, "RuntimeError: max(): Expected reduction dim", id="a worker's error, passed on"),
        pytest.param(
            LONG_LOG, "RuntimeError: OSError: [Errno 28] No space left on device", id="the same, of several lines"
        ),
        pytest.param(
            COMPILER_LOG,
            "torch._inductor.exc.InductorError: CppCompileError: C++ compile error: <built-in>: fatal error: when "
            "writing output to /c/a.i: No space left on device",
            id="a compiler on a full disk",
        ),
        pytest.param("INFO all is well\n", None, id="no error"),
        pytest.param("", None, id="empty"),
    ],
)
def test_finds_the_cause_in_a_log(log: str, cause: str | None) -> None:
    assert last_error(log.splitlines(keepends=True)) == cause


CORE = "Engine core initialization failed. See root cause above. Failed core proc(s): "


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        pytest.param("{'EngineCore_DP0': -7}", "the engine core was ended by SIGBUS (bus error)", id="a signal"),
        pytest.param("{'EngineCore_DP0': 1, 'EngineCore_DP1': -9}", "the engine core was ended by SIGKILL", id="one"),
        pytest.param("{'EngineCore_DP0': 1}", "", id="an error, which the log has"),
        pytest.param("{}", "", id="none has ended"),
    ],
)
def test_an_engine_core_that_a_signal_ended_is_named(codes: str, text: str) -> None:
    death = core_death(CORE + codes)
    assert (death is not None) == bool(text)
    assert text in (death.text if death is not None else "")


@pytest.mark.parametrize(
    ("said", "log", "problem", "remedy"),
    [
        pytest.param(
            f"{CORE}{{'EngineCore_DP0': -7}}", "", "ended by SIGBUS", "--shm-size", id="shared memory ran out"
        ),
        pytest.param(
            CORE,
            "RuntimeError: Insufficient space in /dev/shm for a: 160 MiB required, 64 MiB free.",
            "160 MiB required",
            "--shm-size",
            id="shared memory is too small",
        ),
        pytest.param(
            CORE, "FileNotFoundError: No such file: /m/model.safetensors", "/m/model.safetensors", "chmod", id="weights"
        ),
        pytest.param(CORE, "ValueError: no such block size", "no such block size", "", id="vLLM's own words suffice"),
    ],
)
def test_an_engine_that_did_not_start_tells_what_to_do(said: str, log: str, problem: str, remedy: str) -> None:
    error = start_error(RuntimeError(said), last_error(log.splitlines()), [Path("/tmp/core.err")])
    assert problem in error.problem
    assert error.remedy.endswith("The whole log is in /tmp/core.err.")
    assert error.remedy.startswith("The whole log") == (not remedy)
    assert remedy in error.remedy


@pytest.mark.parametrize("kind", ["ConfigError", "CaptureError", "EngineError", "ModelError"])
def test_an_error_survives_serves_text(kind: str) -> None:
    error: AscendServeError = getattr(errors, kind)('rank 1: "EL0009"\n{streams}', "set graph.mode=FULL")
    error.record = "/cache/failures/x.txt"
    text = f"The deployment failed to start 1 times.\nError:\n  File x, line 3\n{marked(error)!r}\n{marked(error)}\nbye"
    found = unmarked(text)
    assert type(found) is type(error)
    assert (found.problem, found.remedy, found.record) == (error.problem, error.remedy, error.record)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("Error:\nray.exceptions.ActorDiedError: killed\n", "ActorDiedError: killed", id="a dead actor"),
        pytest.param("", "no reason was given", id="nothing at all"),
    ],
)
def test_text_of_others_becomes_an_engine_error(text: str, problem: str) -> None:
    found = unmarked(text)
    assert type(found) is errors.EngineError
    assert problem in found.problem


RAY_TASK = """\
Deploying app 'bad' failed with exception:
Traceback (most recent call last):
  File "worker.py", line 1053, in get_objects
    raise value.as_instanceof_cause()
ray.exceptions.RayTaskError(RuntimeError): ray::build_serve_application() (pid=9, ip=10.0.0.1)
RuntimeError: Traceback (most recent call last):
  File "load.py", line 72, in _validate
    raise ConfigError.of(written.name, refusals(error, written)) from None
ascend_serve.errors.ConfigError: graph.mdoe: unknown key (override 'graph.mdoe=FULL')
Did you mean graph.mode?
"""


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param(" 1 replica waits\nfor 2 NPUs\n", "1 replica waits\nfor 2 NPUs", id="no traceback"),
        pytest.param(
            RAY_TASK,
            "ascend_serve.errors.ConfigError: graph.mdoe: unknown key (override 'graph.mdoe=FULL')\n"
            "Did you mean graph.mode?",
            id="an application that Serve could not build",
        ),
        pytest.param(
            f"{RAY_TASK}{marked(errors.PlanError('It needs 8 NPUs', 'Take more.'))}\n",
            str(errors.PlanError("It needs 8 NPUs", "Take more.")),
            id="ours, from a replica",
        ),
        pytest.param("Traceback (most recent call last):\n  File 'x'\n    y()", "y()", id="a traceback that is cut"),
    ],
)
def test_a_message_of_serves_is_told_without_frames(message: str, text: str) -> None:
    assert said(message) == text
