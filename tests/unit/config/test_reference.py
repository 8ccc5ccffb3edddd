"""The reference of all keys."""

from __future__ import annotations

from pathlib import Path

from ascend_serve.config.key_names import fields, section_of
from ascend_serve.config.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_page_is_in_step_with_the_schema() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run: ascend-serve config --reference > docs/configuration.md"
    )


def test_every_key_says_what_it_means() -> None:
    undescribed = [key for key, field in fields() if section_of(field) is None and not field.description]
    assert undescribed == []


def test_every_section_has_its_table() -> None:
    sections = [key for key, field in fields() if section_of(field) is not None]
    missing = [key for key in sections if f"\n## {key}\n" not in reference() and f"\n## {key}[]\n" not in reference()]
    assert missing == []
