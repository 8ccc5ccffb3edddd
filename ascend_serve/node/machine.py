"""What a start needs of the machine it runs on, found without starting anything. Imports neither Ray nor vLLM."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ascend_serve.node.finding import Finding, fail, ok, warn
from ascend_serve.node.user_files import (
    CACHE_VARIABLE,
    LONGEST_PLACE,
    compiler_cache,
    home,
    home_is_usable,
    temporary_folder,
    temporary_places,
    usable_place,
)

MIB = 1 << 20

BROADCAST_SHM = 160 * MIB
"""Shared memory of vLLM's broadcast queue: 10 chunks of VLLM_MQ_MAX_CHUNK_BYTES_MB = 16 MiB (vLLM 0.32.0)."""

RESPONSE_SHM = 240 * MIB
"""Shared memory of one worker's response queue: 10 chunks of 24 MiB (vLLM 0.32.0)."""

TOUCHED_SHM = 4 * MIB
"""What one rank's part of the queues takes of it when nothing large goes through (measured with vLLM 0.32.0).

vLLM wants to see the whole of a queue free when it makes it, but what nobody has written to stays free for the next.
"""

_COMPILER_VARIABLE = "CXX"
_COMPILER = "g++"

_LONGEST_TEMPORARY = 70
"""Characters of the folder for temporary files: vLLM appends a UUID, and a socket's path has at most 107."""


class MachineFacts(BaseModel):
    """What a start needs of one machine.

    Attributes:
        shm_bytes: Size of ``/dev/shm``.
        shm_free_bytes: How much of it is free.
        compiler: The C++ compiler that Inductor would call.
        compiler_path: Where it is, or ``None`` where it is not.
        python_header: Python's header for C++, or ``None`` where it is not.
        compiled: Whether Inductor has compiled for this user before.
        places: Where temporary files may go.
        place: The first of these that can be used, or ``None``.
        temporary: Where Python and vLLM put temporary files, or ``None`` where nothing can be written.
        home: The user's home folder.
        home_is_usable: Whether Ray's token and caches can be written there.
    """

    model_config = ConfigDict(frozen=True)

    shm_bytes: int = 0
    shm_free_bytes: int = 0
    compiler: str = _COMPILER
    compiler_path: str | None = None
    python_header: str | None = None
    compiled: bool = False
    places: tuple[str, ...] = ()
    place: str | None = None
    temporary: str | None = "/tmp"
    home: str = ""
    home_is_usable: bool = True


@dataclass(frozen=True, slots=True)
class Need:
    """What is to be started on the machine.

    Attributes:
        ranks: Worker processes.
        compiles: Whether Inductor compiles the model, as it does for npugraph_ex on emulated NPUs.
        local: Whether a local cluster is started there for it.
    """

    ranks: int
    compiles: bool
    local: bool = False


@dataclass(frozen=True, slots=True)
class MachineCheck:
    """One check of a machine: its name and the function that runs it."""

    name: str
    run: Callable[[MachineFacts, Need], Finding]


def machine_facts() -> MachineFacts:
    """Look at this machine."""
    shm = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None
    compiler = os.environ.get(_COMPILER_VARIABLE, _COMPILER)
    header = Path(sysconfig.get_path("include"), "Python.h")
    places = temporary_places()
    return MachineFacts(
        shm_bytes=shm.total if shm else 0,
        shm_free_bytes=shm.free if shm else 0,
        compiler=compiler,
        compiler_path=shutil.which(compiler),
        python_header=str(header) if header.is_file() else None,
        compiled=_has_compiled(),
        places=tuple(map(str, places)),
        place=str(place) if (place := usable_place(places)) else None,
        temporary=str(folder) if (folder := temporary_folder()) else None,
        home=str(home()),
        home_is_usable=home_is_usable(),
    )


def check_shared_memory(facts: MachineFacts, need: Need) -> Finding:
    """Free space of ``/dev/shm`` against what vLLM's message queues take."""
    needed = RESPONSE_SHM + need.ranks * TOUCHED_SHM
    most = BROADCAST_SHM + need.ranks * RESPONSE_SHM
    found = f"/dev/shm has {facts.shm_bytes // MIB} MiB, {facts.shm_free_bytes // MIB} MiB of them free"
    fix = "start the container with --shm-size=16g, or mount a memory-backed emptyDir at /dev/shm"
    if facts.shm_free_bytes < needed:
        return fail(f"{found}; the queues of {need.ranks} workers need {needed // MIB} MiB", fix)
    if facts.shm_free_bytes < most:
        return warn(f"{found}; queues of {need.ranks} workers may take {most // MIB} MiB", fix)
    return ok(found)


def check_compiler(facts: MachineFacts, need: Need) -> Finding:
    """A C++ compiler, where something is compiled for the CPU."""
    if not need.compiles:
        return ok("not needed: nothing is compiled for the CPU")
    if facts.compiler_path and facts.python_header:
        return ok(facts.compiler_path)
    if facts.compiler_path:
        text, fix = "Python.h is missing, which Inductor's C++ includes", "install Python's headers (python3-dev)"
    else:
        text = f"no C++ compiler: {facts.compiler} is not on PATH, and npugraph_ex on emulated NPUs is Inductor"
        fix = f"install g++, or set {_COMPILER_VARIABLE} to a compiler"
    if facts.compiled:
        return warn(f"{text}; only what is in Inductor's cache can be used", fix)
    return fail(text, fix)


def check_temporary_folder(facts: MachineFacts, need: Need) -> Finding:
    """A folder for logs, sockets and temporary files: a local cluster looks for one, others take what is set."""
    if not need.local:
        return _check_given_temporary_folder(facts)
    if facts.place is None:
        return fail(
            f"no folder for temporary files: none of {', '.join(facts.places)} can be used",
            f"set TMPDIR to a folder that can be written, of at most {LONGEST_PLACE} characters and without spaces",
        )
    if facts.place != facts.places[0]:
        return ok(f"{facts.place}, since TMPDIR={facts.places[0]} is too long for sockets, or cannot be used")
    return ok(facts.place)


def _check_given_temporary_folder(facts: MachineFacts) -> Finding:
    if facts.temporary is None:
        return fail("no folder for temporary files can be written", "set TMPDIR to one before `ray start`")
    if len(facts.temporary) > _LONGEST_TEMPORARY:
        return fail(
            f"TMPDIR={facts.temporary} is too long for vLLM's sockets",
            f"set TMPDIR to a folder of at most {_LONGEST_TEMPORARY} characters before `ray start`",
        )
    return ok(facts.temporary)


def check_home(facts: MachineFacts, need: Need) -> Finding:
    """A home folder that can be written: Ray keeps its token there, vLLM and we what was learned."""
    if facts.home_is_usable:
        return ok(facts.home)
    return warn(
        f"{facts.home} (HOME) cannot be written: a local cluster keeps token and caches for its own lifetime only",
        "set HOME to a folder that can be written, to keep what was compiled and which graphs worked",
    )


MACHINE_CHECKS = (
    MachineCheck("shared memory", check_shared_memory),
    MachineCheck("compiler", check_compiler),
    MachineCheck("temporary folder", check_temporary_folder),
    MachineCheck("home", check_home),
)
"""What ``doctor`` and every start ask of a machine."""


def examine_machine(facts: MachineFacts, need: Need) -> list[Finding]:
    """What all checks find on a machine."""
    return [check.run(facts, need) for check in MACHINE_CHECKS]


def _has_compiled() -> bool:
    folder = os.environ.get(CACHE_VARIABLE) or compiler_cache(temporary_places()).get(CACHE_VARIABLE)
    return folder is not None and os.path.isdir(folder) and bool(os.listdir(folder))
