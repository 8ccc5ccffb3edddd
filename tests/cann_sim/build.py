"""Builds the simulated CANN: one library that stands in for all those that torch_npu links to.

Run by the Python that torch_npu is installed in: ``python tests/cann_sim/build.py OUT``. Prints the folder with the
library, OUT/<digest of sources and versions>, and builds nothing that is there already.

``CXX`` names another compiler than ``g++``, and a second argument another folder with torch and torch_npu than those of
this Python: that is how it is built for another processor.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

COMPILER = os.environ.get("CXX", "g++")

HERE = Path(__file__).parent
OPERATORS = HERE / "operators.txt"
SOURCES = sorted((HERE / "src").iterdir())

# The file names under which torch_npu and its parts look for CANN.
LIBRARIES = [
    "ascendcl",
    "acl_op_compiler",
    "acl_tdt_channel",
    "ascendalog",
    "atb",
    "ge_compiler",
    "ge_runner",
    "graph",
    "hccl",
    "msprofiler",
    "nnopbase",
    "opapi",
    "platform",
    "profapi",
    "register",
    "runtime",
    "tiling_api",
]

_CANN_NAME = re.compile(r"(acl|Msprof|rt[A-Z]|Hccl|_ZN3atb)")

_ARGUMENTS = {
    "Tensor": ("const aclTensor*", "to_tensor"),
    "Tensors": ("const aclTensorList*", "to_tensors"),
    "Scalar": ("const aclScalar*", "to_scalar"),
    "Bound": ("const aclScalar*", "to_bound"),
    "Ints": ("const aclIntArray*", "to_ints"),
    "String": ("const char*", "to_string"),
    "Dynamic": ("const aclTensor*", "to_dynamic"),
}


def operators(text: str) -> Iterator[tuple[str, list[tuple[str, str]], str]]:
    """Name, parameters as (type, name), and C++ statements of each operator in the table ``text``.

    Raises:
        ValueError: A line is no operator.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for entry in re.split(r"\n(?=\S)", "\n".join(lines)):
        match = re.fullmatch(r"(aclnn\w+)\(([^)]*)\):\s*(.+)", entry, re.DOTALL)
        if match is None:
            raise ValueError(f"{OPERATORS.name}: not an operator: {entry}")
        name, parameters, body = match.groups()
        yield name, [tuple(part.split()) for part in parameters.split(",")], body.strip()


def operator_source(name: str, parameters: list[tuple[str, str]], body: str) -> str:
    """The two functions that aclnn has for one operator."""
    given = [(_ARGUMENTS.get(kind, (kind, ""))[0], kind, word) for kind, word in parameters]
    signature = ", ".join(f"{abi} {word}" for abi, _, word in given)
    captured = ", ".join(
        f"{word} = {_ARGUMENTS[kind][1]}({word})" if kind in _ARGUMENTS else word for _, kind, word in given
    )
    return (
        f'extern "C" int {name}GetWorkspaceSize({signature}, uint64_t* workspace_, aclOpExecutor** executor_) {{\n'
        f'    return prepare("{name}", workspace_, executor_, [{captured}] {{\n        {body};\n    }});\n}}\n'
        f'extern "C" int {name}(void*, uint64_t, aclOpExecutor* executor_, aclrtStream stream_) {{\n'
        f"    return execute(executor_, stream_);\n}}\n"
    )


def operators_source(aten: Path) -> str:
    """All operators as C++; ``aten`` has ATen's headers, of which each operator has one."""
    text = OPERATORS.read_text(encoding="utf-8")
    used = sorted(set(re.findall(r"at::(\w+)\(", text)))
    headers = [f"#include <ATen/ops/{name}.h>\n" for name in used if (aten / f"ops/{name}.h").exists()]
    return "".join([*headers, *(operator_source(*entry) for entry in operators(text))])


def unimplemented_source(names: list[str]) -> str:
    """Functions that end the process with their name, for all that torch_npu links to and nobody implements."""
    declared = 'extern "C" void cann_sim_unimplemented(const char*);\n'
    return declared + "".join(f'extern "C" void {name}() {{ cann_sim_unimplemented("{name}"); }}\n' for name in names)


def package(name: str, path: list[str]) -> tuple[Path, str]:
    """Folder and version of a package that is installed on ``path``, without importing it.

    Raises:
        SystemExit: It is not installed.
    """
    found = next(iter(importlib.metadata.distributions(name=name, path=path)), None)
    if found is None:
        raise SystemExit(f"error: {name} is not installed for {sys.executable}, or not in {path}")
    return Path(str(found.locate_file(name))), found.version


def symbols(files: list[Path], which: str) -> set[str]:
    """Dynamic symbols of ``files``: ``--defined-only`` or ``--undefined-only``."""
    listed = subprocess.run(["nm", "-D", which, *files], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in listed.splitlines() if len(line.split()) > 1}


def linked_names(torch_npu: Path) -> list[str]:
    """CANN's functions that torch_npu links to."""
    files = [*torch_npu.glob("_C*.so"), *(torch_npu / "lib").glob("*.so")]
    return sorted(name for name in symbols(files, "--undefined-only") if _CANN_NAME.match(name))


def digest(*packages: tuple[Path, str]) -> str:
    """Changes with all that the library is made of."""
    parts = [path.read_bytes() for path in (Path(__file__), OPERATORS, *SOURCES)]
    words = (COMPILER, *(str(word) for package in packages for word in package))
    return hashlib.sha256(b"\0".join([*parts, *map(str.encode, words)])).hexdigest()[:16]


def build(folder: Path, torch: Path, torch_npu: Path) -> None:
    """Compile and link into ``folder``."""
    headers = torch_npu / "include"
    ours = [f"-I{path}" for path in (folder, HERE / "src")]
    # Those of others may warn.
    theirs = (headers / "third_party/acl/inc", headers / "third_party/hccl/inc", headers, torch / "include")
    include = [*ours, *(part for path in theirs for part in ("-isystem", path))]
    (folder / "operators_table.inc").write_text(operators_source(torch / "include/ATen"), encoding="utf-8")

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        # Not optimised: what takes time is ATen's.
        subprocess.run([COMPILER, "-std=c++20", "-Wall", "-c", "-fPIC", *include, source, "-o", target], check=True)
        return target

    # The longest first.
    sources = sorted((path for path in SOURCES if path.suffix == ".cpp"), key=lambda path: path.name != "operators.cpp")
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, sources))
    defined = {
        line.split()[-1]
        for line in subprocess.run(
            ["nm", "--defined-only", *objects], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        if len(line.split()) == 3
    }
    missing = folder / "unimplemented.cpp"
    missing.write_text(unimplemented_source([n for n in linked_names(torch_npu) if n not in defined]), encoding="utf-8")
    library = folder / "libascendcl.so"
    subprocess.run([COMPILER, "-c", "-fPIC", "-w", missing, "-o", folder / "unimplemented.o"], check=True)
    link = [f"-L{torch / 'lib'}", f"-Wl,-rpath,{torch / 'lib'}", "-ltorch_cpu", "-lc10", "-lpthread"]
    subprocess.run(
        [COMPILER, "-shared", *objects, folder / "unimplemented.o", "-o", library, "-Wl,-soname,libascendcl.so", *link],
        check=True,
    )
    for name in LIBRARIES[1:]:
        (folder / f"lib{name}.so").symlink_to(library.name)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process builds in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_once(folder: Path, torch: Path, torch_npu: Path) -> None:
    """Build into ``folder``, unless that was done; an interrupted build leaves nothing there."""
    with alone(folder.parent):
        if (folder / "libruntime.so").exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        scratch = folder.with_suffix(".part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        build(scratch, torch, torch_npu)
        scratch.rename(folder)


def main() -> None:
    """Build what is not there yet, and print where it is."""
    if shutil.which(COMPILER) is None:
        raise SystemExit(f"error: the simulated CANN needs a C++ compiler ({COMPILER})")
    path = sys.argv[2:] or sys.path
    torch, torch_npu = package("torch", path), package("torch_npu", path)
    folder = Path(sys.argv[1]) / digest(torch, torch_npu)
    build_once(folder, torch[0], torch_npu[0])
    print(folder.resolve())


if __name__ == "__main__":
    main()
