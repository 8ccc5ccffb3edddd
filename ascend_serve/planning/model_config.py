"""Reading what planning needs to know of a model: from its ``config.json``, or from an architecture card.

A card is a YAML file in ``configs/architectures``, named as the model's folder, with the fields of the published
``config.json`` that matter here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ascend_serve.config.model_cache import cached_model, how_to_download, is_model_id
from ascend_serve.config.passthrough import merge
from ascend_serve.errors import ModelError
from ascend_serve.graph.architecture import Architecture

CARDS = Path("configs") / "architectures"
"""Where cards are, below the current directory; those that are shipped are below the package."""


def read_architecture(path: str, key: str = "model.path", overrides: Mapping[str, Any] | None = None) -> Architecture:
    """Read the architecture of the model in folder ``path``, or the card of its name where the folder is missing.

    Args:
        path: The model's folder.
        key: The option it comes from, for messages.
        overrides: What is laid over its ``config.json``: vLLM's ``hf_overrides``.

    Raises:
        ModelError: There is neither, or what is there cannot be read.
    """
    file = (cached_model(path) or Path(path).expanduser()) / "config.json"
    if file.is_file():
        return Architecture.of(merge(_read_json(file), overrides or {}), str(file))
    if Path(path).expanduser().exists():
        raise ModelError(f"{key}: {path} has no config.json", "Give the folder that holds the model's config.json.")
    return read_card(path, key)


def read_card(path: str, key: str = "model.path") -> Architecture:
    """Read the architecture card that has the name of folder ``path``.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    card = find_card(Path(path).name)
    if card is None:
        download = f" {how_to_download(path)}" if is_model_id(path) else ""
        raise ModelError(
            f"{key}: {path} does not exist, and there is no architecture card of that name",
            f"Give the model's folder, or one of the cards: {', '.join(card_names()) or 'none found'}.{download}",
        )
    return Architecture.of(yaml.safe_load(card.read_text(encoding="utf-8")), f"card {card.parent.name}/{card.name}")


def find_card(name: str) -> Path | None:
    """Find the architecture card of a model by its name, upper and lower case alike."""
    found = (card for folder in _card_folders() for card in folder.glob("*.yaml") if card.stem.lower() == name.lower())
    return next(found, None)


def card_names() -> tuple[str, ...]:
    """Names of all architecture cards."""
    return tuple(sorted({card.stem for folder in _card_folders() for card in folder.glob("*.yaml")}))


def _card_folders() -> tuple[Path, ...]:
    package = Path(__file__).resolve().parents[1]
    return tuple(base / CARDS for base in (Path.cwd(), package) if (base / CARDS).is_dir())


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read as JSON: {error}", "Copy the model again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: not a model's configuration", "Copy the model again.")
    return content | _parameters(file.parent)


def _parameters(folder: Path) -> dict[str, float]:
    """The size of the weights, and the parameters counted from it, two bytes each."""
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return {"parameters": weights / 2, "weight_bytes": float(weights)} if weights else {}
