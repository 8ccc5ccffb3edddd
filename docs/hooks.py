"""For MkDocs: pages of the site that stand in the root of the tree, where readers of a repository look for them."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Where each of them is on the site."""

_LINK = re.compile(r"\[([^\]\n]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_moved(text, PurePosixPath())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links out of ``docs`` lead to where their targets are on the site."""
    source = page.file.src_uri
    return markdown if source in PAGES.values() else _moved(markdown, PurePosixPath("docs", source).parent)


def _moved(text: str, folder: PurePosixPath) -> str:
    """The text of a page that stands in ``folder`` of the tree."""

    def replaced(found: re.Match[str]) -> str:
        words, target, anchor = found.group(1), found.group(2), found.group(3) or ""
        path = os.path.normpath(folder / target)
        if path in PAGES:
            place = PAGES[path]
        elif path.startswith("docs/"):
            place = path.removeprefix("docs/")
        else:
            return words if words.startswith("`") else f"`{path}`"
        return f"[{words}]({'../' * len(folder.parts[1:])}{place}{anchor})"

    return _LINK.sub(replaced, text)
