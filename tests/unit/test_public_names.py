"""What ``import ascend_serve`` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ascend_serve


@pytest.mark.parametrize("name", ascend_serve.__all__)
def test_a_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(ascend_serve, name)
    assert name in dir(ascend_serve)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'ascend_serve' has no attribute 'engine_of_mine'"):
        _ = ascend_serve.engine_of_mine


def test_the_package_alone_imports_no_ray() -> None:
    code = "import sys, ascend_serve; dir(ascend_serve); ascend_serve.load; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
