"""A build backend that builds nothing: the metadata of a source distribution are those that lie in it.

Those of vllm-ascend compile C++ when they are asked, and need CANN for it; those of vLLM need packages for Rust.
"""

from __future__ import annotations

import shutil
from email.parser import HeaderParser
from pathlib import Path


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: object = None) -> str:
    """Write ``PKG-INFO`` of the current folder where pip looks for it: the name of that folder."""
    told = HeaderParser().parsestr(Path("PKG-INFO").read_text(encoding="utf-8"))
    folder = Path(metadata_directory) / f"{told['Name'].replace('-', '_')}-{told['Version']}.dist-info"
    folder.mkdir()
    shutil.copy("PKG-INFO", folder / "METADATA")
    return folder.name
