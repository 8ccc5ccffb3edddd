"""One line of a diagnosis: what was found and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Status(StrEnum):
    """How a finding counts, from harmless to fatal."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(BaseModel):
    """What a check found.

    Attributes:
        status: How it counts.
        text: What is there, in one sentence.
        fix: What to do; empty where nothing has to be done.
    """

    model_config = ConfigDict(frozen=True)

    status: Status
    text: str
    fix: str = ""


def ok(text: str) -> Finding:
    """A check that passed."""
    return Finding(status=Status.OK, text=text)


def warn(text: str, fix: str) -> Finding:
    """Something that works but may hurt."""
    return Finding(status=Status.WARN, text=text, fix=fix)


def fail(text: str, fix: str) -> Finding:
    """Something that keeps a deployment from working."""
    return Finding(status=Status.FAIL, text=text, fix=fix)


def worst(statuses: Iterable[Status]) -> Status:
    """The most serious of ``statuses``; ``ok`` when there are none."""
    order = list(Status)
    return max(statuses, key=order.index, default=Status.OK)


def merge(findings: Iterable[Finding], otherwise: Finding) -> Finding:
    """Join several findings of one check into one line, or answer ``otherwise`` when there are none."""
    found = list(findings)
    if not found:
        return otherwise
    return Finding(
        status=worst(finding.status for finding in found),
        text="; ".join(dict.fromkeys(finding.text for finding in found)),
        fix="; ".join(dict.fromkeys(finding.fix for finding in found if finding.fix)),
    )
