"""Log handlers that outlive a library which configures logging.

``logging.config.dictConfig`` closes every handler of the process before it adds its own. vLLM calls it when it is
imported (0.23.0) or configured (0.32.0), and Ray Serve (2.60.0) has a handler in each replica that writes nothing once
it is closed and whose file Serve asks for when its controller comes back: a replica that cannot answer is stopped.
"""

from __future__ import annotations

import logging
import logging.config
from typing import Any

_HANDLERS: list[Any] = logging._handlerList  # type: ignore[attr-defined]  # As in Python 3.11 to 3.13.
"""Weak references to all handlers of this process, which ``dictConfig`` goes through."""


class AddingConfigurator(logging.config.DictConfigurator):
    """What ``dictConfig`` does, but for closing the handlers that are there."""

    def configure(self) -> None:
        """Put the configuration into effect."""
        others = _HANDLERS[:]
        _HANDLERS.clear()
        try:
            super().configure()
        finally:
            _HANDLERS[:0] = others


def keep_handlers() -> None:
    """Let no ``dictConfig`` close the handlers of this process from now on."""
    logging.config.dictConfigClass = AddingConfigurator
