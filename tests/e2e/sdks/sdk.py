"""The SDKs that people have, each in an environment of its own, and calls by them.

A program of this folder gets its calls as JSON, says ``ready``, and begins when a line comes in: no clock runs while an
interpreter starts. Environments are made in ``.cache/sdks`` when they are first asked for.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
CACHE = Path(__file__).parents[3] / ".cache" / "sdks"


@dataclass(frozen=True)
class Call:
    """One call of an SDK.

    Attributes:
        url: Of the deployment.
        delay: Seconds after the beginning.
        tries: What the SDK is told about further tries; its own default when 0.
    """

    url: str
    delay: float
    tries: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        seconds: How long it took.
        tokens: Of the answer.
        error: What the SDK raised.
    """

    seconds: float
    tokens: int = 0
    error: str = ""


@dataclass(frozen=True)
class Sdk:
    """One release of an SDK.

    Attributes:
        program: Of this folder.
        packages: What it needs, pinned; nothing for what the development environment has.
        major: Its major version, which the Python programs make sure of.
    """

    program: str
    packages: tuple[str, ...] = ()
    major: str = ""

    @property
    def name(self) -> str:
        """For a person."""
        return " ".join(self.packages) or f"{self.program.removeprefix('ask_').removesuffix('.py')} {self.major}"

    def begin(self, calls: Sequence[Call]) -> Calling:
        """Start the program, and wait until it could begin."""
        told = [{key: value for key, value in asdict(call).items() if key != "tries" or value} for call in calls]
        command = [*self._command(), json.dumps(told), self.major]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return Calling(process)

    def _command(self) -> list[str]:
        if not self.packages:
            return [sys.executable, str(FOLDER / self.program)]
        home = CACHE / self.name.replace(" ", "+").replace("/", "-")
        is_python = self.program.endswith(".py")
        if not (home / "installed").exists():
            shutil.rmtree(home, ignore_errors=True)
            (_install_python if is_python else _install_node)(home, self.packages)
            (home / "installed").touch()
        if is_python:
            return [str(home / "bin" / "python"), str(FOLDER / self.program)]
        # Node looks for packages beside the program.
        return ["node", str(shutil.copy(FOLDER / self.program, home))]


@dataclass
class Calling:
    """Calls that wait for their beginning, or are under way."""

    process: subprocess.Popen[str]

    def go(self) -> None:
        """Begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def outcomes(self) -> list[Outcome]:
        """Wait for the ends of all calls."""
        out, _ = self.process.communicate()
        return [Outcome(**outcome) for outcome in json.loads(out)]


def _install_python(home: Path, packages: tuple[str, ...]) -> None:
    venv.create(home, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", *packages], check=True)


def _install_node(home: Path, packages: tuple[str, ...]) -> None:
    home.mkdir(parents=True)
    quiet = ["--silent", "--no-audit", "--no-fund"]
    subprocess.run(["npm", "install", *quiet, "--prefix", str(home), *packages], check=True)


OPENAI = Sdk("ask_openai.py", major="3")
ANTHROPIC = Sdk("ask_anthropic.py", major="2")
INSTALLED = (OPENAI, ANTHROPIC)
"""Those that the development environment has."""

ALL = (
    *INSTALLED,
    Sdk("ask_openai.py", ("openai==2.54.0",), "2"),
    Sdk("ask_openai.py", ("openai==1.109.1",), "1"),
    Sdk("ask_anthropic.py", ("anthropic==0.59.0",), "0"),
    Sdk("ask_openai.mjs", ("openai@6.30.1",)),
    Sdk("ask_ai.mjs", ("ai@6.0.325", "@ai-sdk/openai-compatible@2.0.92")),
)
