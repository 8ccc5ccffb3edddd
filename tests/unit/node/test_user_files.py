"""Where a deployment keeps what outlives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve.node.user_files import (
    CACHE_VARIABLE,
    TOKEN_VARIABLE,
    can_be_made,
    compiler_cache,
    home_in,
    home_is_usable,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (CACHE_VARIABLE, TOKEN_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_a_home_that_can_be_written_stays(home: Path, tmp_path: Path) -> None:
    assert home_is_usable()
    assert home_in(tmp_path) == {}


@pytest.mark.parametrize(
    "in_the_way",
    [
        pytest.param("home", id="no folder"),
        pytest.param("home/.ray", id="token cannot be written"),
        pytest.param("home/.cache", id="caches cannot be written"),
    ],
)
def test_a_home_that_cannot_be_written_is_replaced(home: Path, tmp_path: Path, in_the_way: str) -> None:
    """A file where a folder should be stops root, too, whom no mode stops."""
    path = tmp_path / in_the_way
    if path == home:
        home.rmdir()
    path.write_text("")
    assert not home_is_usable()
    assert home_in(tmp_path / "workspace") == {
        "HOME": str(tmp_path / "workspace"),
        "XDG_CACHE_HOME": str(tmp_path / "workspace" / ".cache"),
    }


def test_a_token_that_is_there_stays_in_use(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("token")
    (home / ".cache").write_text("")
    assert home_in(tmp_path)[TOKEN_VARIABLE] == str(token)
    monkeypatch.setenv(TOKEN_VARIABLE, "/mine")
    assert home_in(tmp_path)[TOKEN_VARIABLE] == "/mine"


def test_a_user_without_name_and_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """``expanduser`` leaves the tilde where nobody knows a home."""
    monkeypatch.setenv("HOME", "~")
    assert not home_is_usable()


def test_what_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert can_be_made(tmp_path)
    assert can_be_made(tmp_path / "new" / "newer")
    assert not can_be_made(tmp_path / "file" / "new")


def test_the_compiler_cache_is_in_the_first_folder_without_a_space(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "a b"
    spaced.mkdir()
    assert Path(compiler_cache([spaced, tmp_path])[CACHE_VARIABLE]).parent == tmp_path
    assert compiler_cache([spaced]) == {}
    monkeypatch.setenv(CACHE_VARIABLE, "/mine")
    assert compiler_cache([tmp_path]) == {}


@pytest.mark.parametrize("mode", [0o777, 0o770], ids=["everybody", "a group"])
def test_where_others_could_leave_compiled_code_is_none_of_ours(home: Path, tmp_path: Path, mode: int) -> None:
    cache = Path(compiler_cache([tmp_path])[CACHE_VARIABLE])
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(mode)
    assert compiler_cache([tmp_path]) == {}


def test_a_link_in_place_of_the_compiler_cache_is_not_followed(home: Path, tmp_path: Path) -> None:
    cache = Path(compiler_cache([tmp_path])[CACHE_VARIABLE])
    cache.rename(tmp_path / "elsewhere")
    cache.symlink_to(tmp_path / "elsewhere")
    assert compiler_cache([tmp_path]) == {}


def test_a_file_system_that_takes_no_files_stops_root_too() -> None:
    assert not can_be_made(Path("/proc/new"))
