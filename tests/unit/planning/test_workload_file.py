"""The file of a workload."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve.errors import ConfigError
from ascend_serve.planning.workload_file import read_workload


def test_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "load").write_text("{}")
    assert read_workload(str(tmp_path / "load")) == "{}"


@pytest.mark.parametrize("content", [None, b"\xff"], ids=["missing", "no text"])
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "load"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="load: cannot be read"):
        read_workload(str(file))
