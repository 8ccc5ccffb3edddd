"""How a worker process ended: its signal or exit code, what its log ends with, and what a person can do about it.

Ray (2.60.0) tells of a worker that ended no more than that its connection closed, or its exit code. A fatal signal
stands in the worker's log: Ray's handler writes ``*** SIGILL received ...`` with the native calls, and Python's
faulthandler ``Fatal Python error: ...`` with its own, innermost first. SIGKILL leaves nothing there, nor does a process
that ends itself at once (``os._exit``); but its children write to the same file, and may die of its end. Ray's handler
writes its lines twice, and stamps the second ones with the process.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

MOST_LINES = 5
"""Lines of a log that are shown."""

MOST_COLUMNS = 160
"""Characters of a line that are shown."""

SILENT = "no trace"
"""The cause of a death that left nothing in a log that is there."""


@dataclass(frozen=True, slots=True)
class WorkerLog:
    """The end of a worker's log.

    Attributes:
        path: The file with its standard error, on the node of the worker.
        errors: The last lines there, with what crashes write.
        output: The last lines of its standard output.
        pid: The process; 0 where all that is written there is taken for its own.
    """

    path: str
    errors: tuple[str, ...]
    output: tuple[str, ...] = ()
    pid: int = 0

    @property
    def crashes(self) -> tuple[int, ...]:
        """Where in ``errors`` crashes of the process itself begin."""
        stamps = [(int(found[1]), found[2]) for line in self.errors if (found := _STAMPED.match(line))]
        own = {text for pid, text in stamps if pid == self.pid}
        foreign = {text for _, text in stamps} - own if self.pid else set()
        return tuple(n for n, line in enumerate(self.errors) if _DUMP.match(line) and line.rstrip() not in foreign)


@dataclass(frozen=True, slots=True)
class Death:
    """The end of one worker process.

    Attributes:
        cause: What two deaths have in common when they are the same; empty when nothing is known.
        text: How it ended, for a person.
        advice: What a person can do about it.
        last_words: The innermost calls, or the last lines of its log.
        log: The log, on the node of the worker; empty when it could not be read.
    """

    cause: str
    text: str
    advice: str
    last_words: tuple[str, ...] = ()
    log: str = ""

    @property
    def story(self) -> str:
        """What its log says, one indented line each; empty when there is none."""
        if not self.log:
            return ""
        lines = [f"    {line}" for line in self.last_words or ("(nothing)",)]
        return "\n".join([f"  its log on that node, {self.log}, says:", *lines])


_REPORT = "It crashed in native code: report it, with the calls above and the versions."
_SEE_LOG = "See its log on that node"

_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "SIGILL": (
            "The processor of that node lacks an instruction that this build of torch or vLLM uses, or Linux does not "
            "allow it: compare its flags (`lscpu`) with those of a node on which it works, and take a build for them."
        ),
        "SIGBUS": (
            "Most likely the shared memory of that node is full (`df /dev/shm`): give it more "
            "(a container: --shm-size=1g; Kubernetes: an emptyDir with medium Memory at /dev/shm)."
        ),
        "SIGKILL": (
            "It was killed from outside, most likely by the kernel for lack of host memory: `dmesg` on that node "
            "tells, in a container the oom_kill of its cgroup's memory.events. Give the node more memory."
        ),
        "SIGTERM": "It was told to end: by `ray stop`, by whoever shuts that node down, or by a person.",
        "SIGSEGV": _REPORT,
        "SIGABRT": _REPORT,
        "SIGFPE": _REPORT,
    }
)
"""What to do by signal; SIGKILL's also holds for what looks like it."""

# By a part of what Ray says: how it ended, and what to do.
_OTHER_ENDS: tuple[tuple[str, str, str], ...] = (
    (
        "its node has died",
        "its node is gone",
        "`ray status` shows which nodes are left; bring it back, or add another.",
    ),
    (
        "temporarily unavailable",
        "neither its worker process nor its node answers",
        "`ray status` shows whether the node is gone; if it is there, see the worker's log on it.",
    ),
    (
        "running low on memory",
        "Ray ended it, because its node ran low on memory",
        "Give that node more memory, or less to do; Ray ends workers above RAY_memory_usage_threshold.",
    ),
    (
        "killed by `ray.kill`",
        "another program ended it with ray.kill",
        "See which one, in the driver's log: nothing of this deployment ends a worker that way while it is needed.",
    ),
)

_DUMP = re.compile(r"^\*\*\* (SIG[A-Z]+) received")
_STAMPED = re.compile(r"^\[.* E (\d+) \d+\] logging\.cc:\d+: (\*\*\* SIG[A-Z]+ received.*\S)\s*$")
_TOLD_SIGNAL = re.compile(r"receives a (SIG[A-Z]+)")
_EXIT_CODE = re.compile(r"exit code (\d+)")
_NATIVE_CALL = re.compile(r"^(?:PC: )?\s*@\s+0x[0-9a-f]+\s+\S+\s+(?!\(unknown\))(\S.*)$")
_PYTHON_CALL = re.compile(r'^\s+File "(.+)", line (\d+) in (.+)$')
_PACKAGES = re.compile(r"^.*/(site|dist)-packages/")
_NOISE = re.compile(
    r"^(:(job_id|actor_name|task_name):|Extension modules:|\[.* E \d+ \d+\] logging\.cc|.*\bresource_tracker\b|"
    r"\*\*\* SIG|(PC: )?@ +(0x|\.\.\.)|$)"
)
_MOST_NATIVE_CALLS = 2
_MOST_OUTPUT = 2


def read_death(said: str, log: WorkerLog | None) -> Death:
    """Tell how a worker process ended.

    Args:
        said: What Ray says of its actor.
        log: The end of its log, or ``None`` when that could not be read.
    """
    for part, text, advice in _OTHER_ENDS:
        if part in said:
            return _with_log(Death(part, text, advice), log)
    number = _signal(said, log)
    if number:
        return _with_log(death_by_signal(number), log)
    code = _EXIT_CODE.search(said)
    if code is not None:
        return _with_log(death_by_exit_code(int(code[1])), log)
    if log is None:
        return Death("", "its worker process ended", f"{_SEE_LOG}, and the kernel's (dmesg) for a kill by it.")
    text = "its worker process ended without a trace, as by SIGKILL"
    return _with_log(Death(SILENT, text, _ADVICE["SIGKILL"]), log)


def death_by_signal(name: str, what: str = "its worker process") -> Death:
    """A death by the signal ``name`` of ``what``."""
    meaning = signal.strsignal(signal.Signals[name]) if name in signal.Signals.__members__ else None
    said = f" ({meaning.lower()})" if meaning else ""
    return Death(name, f"{what} was ended by {name}{said}", _ADVICE.get(name, f"{_SEE_LOG}."))


def death_by_exit_code(code: int, what: str = "its worker process") -> Death:
    """A death of ``what`` that ended itself with ``code``; below zero as `multiprocessing` names signals."""
    if code < 0:
        return death_by_signal(signal.Signals(-code).name, what)
    return Death(f"exit code {code}", f"{what} ended itself with exit code {code}", f"{_SEE_LOG}: it says why.")


def ended_loop() -> Death:
    """A worker whose main loop came to its end while it was needed."""
    return Death("main loop", "its main loop ended", f"{_SEE_LOG}: it says why.")


def failed_loop(error_type: str, error_text: str) -> Death:
    """A worker whose main loop ended with an error, which its process may have survived."""
    first = next((line.strip() for line in error_text.splitlines() if line.strip()), "")
    said = f"its main loop failed: {error_type}: {first}"[: 2 * MOST_COLUMNS]
    return Death(error_type, said, f"{_SEE_LOG}: it holds the whole error.")


def _signal(said: str, log: WorkerLog | None) -> str:
    told = _TOLD_SIGNAL.search(said)
    if told is not None:
        return told[1]
    found = _DUMP.match(log.errors[log.crashes[-1]]) if log is not None and log.crashes else None
    return "" if found is None else found[1]


def _with_log(death: Death, log: WorkerLog | None) -> Death:
    if log is None:
        return death
    return Death(death.cause, death.text, death.advice, last_words(log), log.path)


def last_words(log: WorkerLog) -> tuple[str, ...]:
    """The innermost calls of the last crash in ``log``, or its last lines when there was none."""
    calls = _calls(log.errors[log.crashes[-1] :]) if log.crashes else ()
    output, errors = _meaningful(log.output), _meaningful(log.errors)
    said = calls or output[-_MOST_OUTPUT:] + errors[_MOST_OUTPUT - MOST_LINES :]
    return tuple(line if len(line) <= MOST_COLUMNS else f"{line[: MOST_COLUMNS - 3]}..." for line in said)


def _meaningful(lines: Sequence[str]) -> tuple[str, ...]:
    # A progress bar overwrites its line.
    shown = [line.rstrip().rpartition("\r")[2].strip() for line in lines]
    return tuple(line for line in shown if not _NOISE.match(line))


def _calls(dump: Sequence[str]) -> tuple[str, ...]:
    native = [found[1].strip() for line in dump if (found := _NATIVE_CALL.match(line))]
    python = [found for line in _crashed_thread(dump) if (found := _PYTHON_CALL.match(line))]
    innermost = list(dict.fromkeys(native))[:_MOST_NATIVE_CALLS]
    return (*innermost, *(f"{call[3]} ({_PACKAGES.sub('', call[1])}:{call[2]})" for call in python))[:MOST_LINES]


def _crashed_thread(dump: Sequence[str]) -> Sequence[str]:
    """The lines of the thread that crashed: faulthandler may write others before it."""
    heads = ("Stack (most recent call first)", "Current thread")
    start = next((number for number, line in enumerate(dump) if line.startswith(heads)), 0)
    end = next((n for n, line in enumerate(dump[start + 1 :], start + 1) if line.startswith("Thread")), len(dump))
    return dump[start:end]
