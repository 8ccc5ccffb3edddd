"""The items of a request for a response, a few at a time.

vLLM (0.32.0) holds each item against some thirty kinds at once, and tells of 2,000 that are none in half a million
errors, which takes ten seconds of its event loop. So the first that is none ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from fastapi import FastAPI

_PATH = "/v1/responses"
_AT_ONCE = 8
"""Items whose errors take no time to speak of."""


class ResponseItems:
    """Looks at items as the application does.

    Args:
        app: vLLM's application.
    """

    def __init__(self, app: FastAPI) -> None:
        routes = (route for route in app.routes if isinstance(route, APIRoute))
        endpoints = (route.endpoint for route in routes if route.path == _PATH)
        hints = (hint for endpoint in endpoints for hint in get_type_hints(endpoint).values())
        self._model = next((h for h in hints if isinstance(h, type) and issubclass(h, BaseModel)), None)

    def refusal(self, items: list[Any]) -> str | None:
        """Which item is none; of a few items the application itself tells."""
        if self._model is None or len(items) <= _AT_ONCE:
            return None
        for start in range(0, len(items), _AT_ONCE):
            if self._is_refused(items[start : start + _AT_ONCE]):
                return f"input: one of the items {start} to {start + _AT_ONCE - 1} is none that a response can have"
        return None

    def _is_refused(self, items: list[Any]) -> bool:
        assert self._model is not None
        try:
            self._model.model_validate({"input": items})
        except ValidationError:
            return True
        except Exception:
            # The application has its own words for it.
            return False
        return False
