"""Errors that were raised during others."""

from __future__ import annotations

import pytest

from ascend_serve.errors import chain_of


def raise_during(*errors: BaseException) -> None:
    """Raise the last of ``errors`` while the one before it is handled, and so on."""
    *before, last = errors
    try:
        if before:
            raise_during(*before)
    finally:
        raise last


def test_a_chain_begins_with_the_first_error() -> None:
    errors = (ValueError("first"), KeyError("second"), RuntimeError("last"))
    with pytest.raises(RuntimeError) as raised:
        raise_during(*errors)
    assert chain_of(raised.value) == list(errors)


def test_an_error_that_hides_its_context_is_a_chain_of_its_own() -> None:
    error = RuntimeError("told")
    error.__context__, error.__suppress_context__ = ValueError(), True
    assert chain_of(error) == [error]


def test_a_cause_counts_before_a_context() -> None:
    error, cause = RuntimeError("told"), KeyError("cause")
    error.__context__, error.__cause__ = ValueError(), cause
    assert chain_of(error) == [cause, error]
