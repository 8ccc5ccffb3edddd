"""The command line as a user meets it: help, errors, exit codes, and how little a command imports."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from ascend_serve import __version__
from ascend_serve.cli import main as cli
from ascend_serve.cli.version import version_text
from ascend_serve.errors import AscendServeError, CaptureError, ConfigError

ROOT = Path(__file__).parents[3]
DEMO = str(ROOT / "configs" / "demo.yaml")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ascend_serve.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_help_lists_every_command() -> None:
    result = run("--help")
    assert result.returncode == 0
    for command in cli.COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


def test_examples_of_the_help_load() -> None:
    """Each example names a command that is there and overrides that are allowed."""
    lines = [line.split() for line in run("--help").stdout.splitlines() if line.strip().startswith("ascend-serve ")]
    assert lines
    for _, command, *words in lines:
        assert command in cli.COMMANDS
        keys = [word for word in words[1:] if "=" in word and not word.startswith("--")]
        assert run("config", words[0] if words else command, *keys).returncode == 0


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        pytest.param("ascend-serve stat", ["static-kernels", "status"], id="a command"),
        pytest.param("ascend-serve plan --ht", ["--html"], id="an option"),
        pytest.param("ascend-serve plan qwen3-32", ["qwen3-32b", "qwen3-32b-xlite"], id="a shipped configuration"),
        pytest.param("ascend-serve plan ./my", [], id="a file, which is the shell's"),
    ],
)
def test_a_shell_completes(words: str, completed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ASCEND_SERVE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    command = str(Path(sys.executable).parent / "ascend-serve")
    told = subprocess.run([command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert sorted(told.stdout.split()) == completed


def test_version_is_the_package_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert run("--version").stdout.split()[:2] == [project["name"], __version__]


def test_a_clone_tells_its_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.com")
        line = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    assert version_text(tmp_path) == f"ascend-serve {__version__}"
    (tmp_path / "file").write_text("as committed")
    git("init")
    git("add", "file")
    git("commit", "--message", "A file", "--no-verify")
    commit = git("rev-parse", "--short", "HEAD")
    assert version_text(tmp_path) == f"ascend-serve {__version__} (commit {commit})"
    (tmp_path / "file").write_text("changed")
    assert version_text(tmp_path).endswith(f"{commit}-dirty)")


def test_misspelled_command_gets_a_suggestion() -> None:
    result = run("confg")
    assert result.returncode == 2
    assert "Did you mean 'config'?" in result.stderr


def test_error_is_problem_and_remedy_without_traceback() -> None:
    result = run("config", DEMO, "graph.mod=FULL")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "error: graph.mod: unknown key (override 'graph.mod=FULL')" in result.stderr
    assert "next:  Did you mean graph.mode?" in result.stderr
    assert "Traceback" not in result.stderr


def test_markup_in_a_users_value_is_printed_as_it_is() -> None:
    assert "[bold]x[/bold]" in run("config", DEMO, "[bold]x[/bold]").stderr


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        pytest.param(ConfigError("a", "b"), 2, id="config"),
        pytest.param(CaptureError("a", "b"), 1, id="capture"),
        pytest.param(AscendServeError("a"), 1, id="base-without-remedy"),
        pytest.param(KeyboardInterrupt(), 130, id="ctrl-c"),
    ],
)
def test_exit_code(monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code


def test_ctrl_c_inside_a_command_exits_with_130() -> None:
    interrupted = (
        "import os, signal, time; from ascend_serve.cli import config, main\n"
        # A shell starts commands in the background with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "config.described = lambda *_: (os.kill(os.getpid(), signal.SIGINT), time.sleep(60))\n"
        f"import sys; sys.argv = ['ascend-serve', 'config', {DEMO!r}]; main.main()"
    )
    result = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert result.returncode == 128 + signal.SIGINT
    assert "Traceback" not in result.stderr


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["config", DEMO], id="config"),
        pytest.param(["plan", DEMO, "model.path=Qwen3-32B"], id="plan"),
    ],
)
def test_commands_for_a_laptop_import_no_engine(arguments: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['ascend-serve', *{arguments!r}]\n"
        "from ascend_serve.cli import main\n"
        "try: main.main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'torch', 'vllm', 'ray'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


def test_config_prints_what_results() -> None:
    printed = yaml.safe_load(run("config", DEMO, "serving.port=9000").stdout)
    assert printed["serving"]["port"] == 9000
    assert printed["parallel"]["tensor_parallel_size"] == 2


def test_config_prints_json() -> None:
    printed = json.loads(run("config", DEMO, "--format", "json").stdout)
    assert printed["graph"]["mode"] == "FULL_DECODE_ONLY"


def test_config_that_was_printed_loads_again(tmp_path: Path) -> None:
    first = run("config", DEMO).stdout
    (tmp_path / "again.yaml").write_text(first, encoding="utf-8")
    assert run("config", str(tmp_path / "again.yaml")).stdout == first


def test_config_prints_origins() -> None:
    lines = run("config", DEMO, "serving.port=9000", "--origins").stdout.splitlines()
    assert "serving.port: override 'serving.port=9000'" in lines
    assert any(line.startswith("graph.capture_sizes: ") and "demo.yaml:" in line for line in lines)


def test_config_without_a_file_says_what_to_give() -> None:
    result = run("config")
    assert result.returncode == 2
    assert "--reference" in result.stderr


def test_warning_does_not_spoil_the_output() -> None:
    result = run("config", DEMO, "graph.xlite.full_mode=true", "--format", "json")
    assert json.loads(result.stdout)["graph"]["xlite"]["full_mode"] is True
    assert "warning: graph.xlite.full_mode has no effect" in result.stderr
