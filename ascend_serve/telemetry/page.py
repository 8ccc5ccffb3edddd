"""The page at ``/graph`` as HTML: one document with all that it needs, and its parts for a page that follows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from ascend_serve.telemetry.page_view import PageView

_TEMPLATES = files("ascend_serve.telemetry") / "templates"

PARTS: Mapping[str, str] = MappingProxyType(
    {
        "state": "",
        "now": "Now",
        "matrix": "Ranks and graphs",
        "batches": "Batch sizes",
        "timeline": "Last start",
        "ladder": "Ladder",
        "steps": "What happened",
        "facts": "Options and versions",
    }
)
"""Parts of the page that change while it is looked at, by the ids of their places, with their headings."""


class GraphPage:
    """Renders the page; everything that it shows is escaped."""

    def __init__(self) -> None:
        self._template = _template("graph.html")
        self._style, self._script = _text("graph.css"), _text("graph.js")

    @property
    def policy(self) -> str:
        """The content security policy: nothing from elsewhere, and no script but the page's own."""
        return (
            f"default-src 'none'; style-src {_digest(self._style)}; script-src {_digest(self._script)}; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'"
        )

    def whole(self, view: PageView) -> str:
        """The document."""
        titles = {part: title for part, title in PARTS.items() if title and (view.tiles or part != "now")}
        return self._template.render(
            view=view,
            titles=titles,
            # Ours, and not to be escaped.
            style=Markup(self._style),
            script=Markup(self._script),
            policy=self.policy,
        )

    def parts(self, view: PageView) -> dict[str, str]:
        """What stands in each place of the document."""
        context = self._template.new_context({"view": view})
        return {part: "".join(self._template.blocks[part](context)) for part in PARTS}


def still_page(template: str, view: object) -> str:
    """A document in the style of the page that has no script and never changes; all that it shows is escaped.

    Args:
        template: Name of its template.
        view: What that shows.
    """
    style = _text("graph.css")
    policy = f"default-src 'none'; style-src {_digest(style)}; base-uri 'none'; form-action 'none'"
    return _template(template).render(view=view, style=Markup(style), policy=policy)


def _template(name: str) -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_text(name))


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """How a content security policy names an inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
