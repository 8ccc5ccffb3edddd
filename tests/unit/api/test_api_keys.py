from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve.api.api_keys import api_keys
from ascend_serve.errors import ConfigError


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)


def secrets(file: Path | None) -> list[str]:
    return [key.get_secret_value() for key in api_keys(str(file) if file else None)]


def test_without_file_and_variable_there_is_none() -> None:
    assert secrets(None) == []


def test_the_variable_holds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "from-the-environment")
    assert secrets(None) == ["from-the-environment"]


def test_a_file_holds_several_and_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "from-the-environment")
    (tmp_path / "keys").write_text("one\n\n  two \n")
    assert secrets(tmp_path / "keys") == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "holds no key", id="empty"),
        pytest.param(b" \n\n", "holds no key", id="blank"),
        pytest.param(b"good\nhunter two\n", "key 2 has a character", id="a space"),
        pytest.param("hüntér".encode(), "key 1 has a character", id="not ASCII"),
        pytest.param(b"\xff\xfe", "not a text file", id="binary"),
    ],
)
def test_a_file_without_keys_never_leaves_the_door_open(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=problem) as caught:
        api_keys(str(file))
    assert "hunter" not in str(caught.value)


def test_a_key_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("hunter2")
    keys = api_keys(str(tmp_path / "keys"))
    assert "hunter2" not in f"{keys!r} {keys[0]} {keys[0]!r}"
