"""Ray's token is for its user alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ascend_serve.cluster.token import prefer_token_authentication
from ascend_serve.cluster.umask import files_for_this_user


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("secret")
    return file


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604], ids=oct)
def test_one_that_others_can_read_is_closed_and_its_user_is_told(
    token: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    token.chmod(mode)
    prefer_token_authentication()
    assert token.stat().st_mode & 0o777 == 0o600
    assert str(token) in caplog.text
    assert "secret" not in caplog.text


def test_one_that_is_closed_is_not_spoken_of(token: Path, caplog: pytest.LogCaptureFixture) -> None:
    token.chmod(0o400)
    prefer_token_authentication()
    assert token.stat().st_mode & 0o777 == 0o400
    assert caplog.text == ""


def test_none_is_no_problem(token: Path, caplog: pytest.LogCaptureFixture) -> None:
    token.unlink()
    prefer_token_authentication()
    assert caplog.text == ""


def test_files_of_a_process_that_is_started_meanwhile_are_its_users_alone(tmp_path: Path) -> None:
    with files_for_this_user():
        subprocess.run(["touch", tmp_path / "inside"], check=True)
    subprocess.run(["touch", tmp_path / "outside"], check=True)
    assert (tmp_path / "inside").stat().st_mode & 0o077 == 0
    assert (tmp_path / "outside").stat().st_mode & 0o044
