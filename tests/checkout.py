"""A copy of the tree in which command lines run as the documents have them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.documents import ROOT

BIN = Path(sys.executable).parent
COPIED = (".gitignore", "Makefile", "README.md", "ascend_serve", "configs", "launch", "pyproject.toml", "requirements")
UNSET = ("RAY_ADDRESS", "VLLM_API_KEY", "MAKEFLAGS", "MAKELEVEL")


@dataclass(frozen=True)
class Checkout:
    """A copy of the tree, with the environment of this process.

    Attributes:
        folder: Where it is.
        replaced: What stands in command lines, and what a test has in its place: ports and paths of the machine.
        env: Environment of its command lines; ``PATH`` has the installed commands.
    """

    folder: Path
    replaced: dict[str, str]
    env: dict[str, str]

    def written(self, line: str) -> str:
        """A line of a document as it runs here."""
        for there, here in self.replaced.items():
            line = line.replace(there, here)
        return line

    def run(self, line: str) -> str:
        """Run a line to its end and return its output.

        Raises:
            AssertionError: It failed; the message has its output.
        """
        done = subprocess.run(
            ["bash", "-c", self.written(line)],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    def python(self, program: str) -> str:
        """Run a program to its end and return its output."""
        (self.folder / "program.py").write_text(self.written(program))
        return self.run("python program.py")

    @contextmanager
    def running(self, line: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
        """Start a line in a process group of its own, as a shell does, with a file for its output."""
        # Not in the tree: a job's working directory must not change while it is sent.
        output = self.folder.with_name(f"{self.folder.name}.output")
        with output.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", self.written(line)],
                cwd=self.folder,
                env=self.env,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
                text=True,
            )
        yield process, output


def checkout(folder: Path, replaced: dict[str, str] | None = None, env: dict[str, str] | None = None) -> Checkout:
    """Copy the tree, without what it does not have in version control."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    _virtual_environment(folder / ".venv")
    kept = {name: value for name, value in (env or os.environ).items() if name not in UNSET}
    return Checkout(folder, replaced or {}, kept | {"PATH": f"{BIN}:{kept['PATH']}"})


def _virtual_environment(folder: Path) -> None:
    """As ``make setup`` leaves it, with the packages and commands of this one; what a line installs stays in it."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    for command in set(os.listdir(BIN)) - set(os.listdir(folder / "bin")):
        (folder / "bin" / command).symlink_to(BIN / command)
    (folder / ".runtime").touch()
