"""API keys: from a file or from the environment, and kept out of all that is printed."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from ascend_serve.errors import ConfigError

VARIABLE = "VLLM_API_KEY"


def api_keys(file: str | None, name: str = "serving.api_key_file") -> tuple[SecretStr, ...]:
    """The keys that clients may use; empty where everybody may ask.

    Args:
        file: One key a line; when not given, ``VLLM_API_KEY`` is the key.
        name: What names the file, for errors.

    Raises:
        ConfigError: The file cannot be read, or holds no key, or what no client can send as a key.
    """
    if file is None:
        key = os.environ.get(VARIABLE, "").strip()
        return _checked([key] if key else [], f"the environment variable {VARIABLE}")
    path = Path(file).expanduser()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        problem = f"{name}: {path.absolute()}: {getattr(error, 'strerror', None) or 'not a text file'}"
        raise ConfigError(problem, "Write one key a line, and let nobody else read the file.") from error
    keys = [line for line in lines if line]
    if not keys:
        raise ConfigError(
            f"{name}: {path.absolute()} holds no key",
            "Write one key a line, for example from `openssl rand -hex 32`.",
        )
    return _checked(keys, f"{name}: {path.absolute()}")


def _checked(keys: list[str], source: str) -> tuple[SecretStr, ...]:
    for number, key in enumerate(keys, start=1):
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError(
                f"{source}: key {number} has a character that no client can send",
                "Use letters, digits and punctuation without spaces.",
            )
    return tuple(map(SecretStr, keys))
