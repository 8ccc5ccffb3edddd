"""How an error travels from a replica's constructor to the command: Serve passes on text only."""

from __future__ import annotations

import base64
import json
import re

from ascend_serve import errors
from ascend_serve.errors import AscendServeError, EngineError

_MARK = "ascend_serve_error:"
_TRACEBACK = "Traceback (most recent call last)"
_MARKED = re.compile(re.escape(_MARK) + r"([\w=-]+)")


def marked(error: AscendServeError) -> RuntimeError:
    """Wrap ``error`` so that `unmarked` finds it again in the text of a traceback."""
    kind = type(error).__name__
    fields = {"type": kind, "problem": error.problem, "remedy": error.remedy, "record": error.record}
    # Base64, because quoting on the way, as by repr(), would change anything else.
    return RuntimeError(_MARK + base64.urlsafe_b64encode(json.dumps(fields).encode()).decode())


def unmarked(text: str) -> AscendServeError:
    """The error that was wrapped by `marked`; an `EngineError` with the last line of ``text`` when there is none."""
    found = _MARKED.search(text)
    if found is None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return EngineError(f"The replica did not start: {lines[-1] if lines else 'no reason was given'}")
    fields = json.loads(base64.urlsafe_b64decode(found.group(1)))
    error: AscendServeError = getattr(errors, fields["type"])(fields["problem"], fields["remedy"])
    error.record = fields["record"]
    return error


def said(text: str) -> str:
    """What a person reads of a message of Ray Serve's: without the frames of a traceback, ours as we word it."""
    if _MARKED.search(text):
        return str(unmarked(text))
    if _TRACEBACK not in text:
        return text.strip()
    lines = text.rstrip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith((" ", _TRACEBACK))]
    return "\n".join(lines[frames[-1] + 1 :]) or lines[-1].strip()
