"""Records what the releases of the matrix ask for, and what their requirements resolve to.

    python -m tests.install.record FOLDER

``FOLDER`` holds the source distributions of vLLM and vllm-ascend of each row (``vllm-VERSION.tar.gz``,
``vllm_ascend-VERSION.tar.gz``). pip downloads them anywhere: with these variables their metadata steps want no CANN,
but torch and the packages of ``BUILD_TOOLS``:

    VLLM_TARGET_DEVICE=empty COMPILE_CUSTOM_KERNELS=0 SOC_VERSION=ascend910b1 \\
        pip download --no-deps --no-binary :all: --no-build-isolation vllm==VERSION vllm-ascend==VERSION

What is recorded already is not asked for again; without ``resolution.json`` all of it is, in a quarter of an hour.
Written are ``requirements/npu-VLLM.lock``, one for all processors and Pythons of a row, and ``resolution.json``: what
upstream asks for, and what each pinned package asks for on each processor, as far as it counts there.
``test_resolution.py`` holds both against each other without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ascend_serve.install.packages import BUILD_TOOLS, OVERRIDES, SOURCE_ONLY, lock_of
from ascend_serve.releases import ARCHITECTURES, RELEASES, Release
from tests.install.resolution import OURS, PLACED_APART, PYTHONS, RECORDED, Pins, needs_of

UV = Path(__file__).parents[2] / ".cache" / "lock" / "bin" / "uv"
TORCH_NEEDS = ("filelock", "fsspec", "jinja2", "networkx", "sympy", "typing-extensions")
"""What torch's builds for the CPU ask for."""

_PLATFORMS = ("manylinux_2_34", "manylinux_2_31", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


def upstream(folder: Path, row: Release) -> dict[str, list[str]]:
    """What vLLM asks for without a device, and what vllm-ascend asks for."""
    return {
        "vllm": _lines(folder / f"vllm-{row.vllm}.tar.gz", "requirements/common.txt"),
        "vllm-ascend": _lines(folder / f"vllm_ascend-{row.vllm_ascend}.tar.gz", "requirements.txt"),
    }


def _lines(archive: Path, name: str) -> list[str]:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{name}")
        assert file is not None
        lines = [line.partition("#")[0].strip() for line in file.read().decode().splitlines()]
    return [line for line in lines if line]


def lock(row: Release, asked: dict[str, list[str]]) -> None:
    """Resolve for the oldest Python and the first processor; `packages` then asks the same for the others."""
    with tempfile.TemporaryDirectory() as name:
        wanted, overrides = Path(name) / "in", Path(name) / "overrides"
        wanted.write_text("\n".join([*asked["vllm"], *asked["vllm-ascend"], *OURS, *BUILD_TOOLS, *TORCH_NEEDS]))
        never = [f"{package} ; sys_platform == 'never'" for package in PLACED_APART]
        overrides.write_text("\n".join([*never, *(wanted for wanted, _ in OVERRIDES.values())]))
        options = ["--overrides", str(overrides), "--python-version", PYTHONS[0], "--no-header"]
        platform = f"{ARCHITECTURES[0]}-manylinux_2_34"
        command = [str(UV), "pip", "compile", "--quiet", "--no-annotate", *options, "--python-platform", platform]
        subprocess.run([*command, str(wanted), "--output-file", str(lock_of(row))], check=True)


def packages(processor: str, python: str, pins: Mapping[str, str]) -> dict[str, list[str]]:
    """What each pinned package asks for, by name; pip fails where one has no wheel for the processor and the Python."""
    wanted = [f"{name}=={version}" for name, version in pins.items() if name not in SOURCE_ONLY]
    with tempfile.TemporaryDirectory() as name:
        report, target = Path(name) / "report.json", Path(name) / "target"
        where = [word for tag in _PLATFORMS for word in ("--platform", f"{tag}_{processor}")]
        only = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", *where]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, *only, "--target", str(target), "--report", str(report), *wanted], check=True)
        found: list[Any] = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {item["metadata"]["name"]: item["metadata"].get("requires_dist", []) for item in found}


def main() -> None:
    """Record all rows."""
    folder = Path(sys.argv[1])
    before = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    recorded: dict[str, Any] = {"upstream": {}, "packages": {processor: {} for processor in ARCHITECTURES}}
    for row in RELEASES[1:]:
        print(f"record: vllm-ascend {row.vllm_ascend}", flush=True)
        asked = upstream(folder, row)
        recorded["upstream"][row.vllm_ascend] = asked
        lock(row, asked)
        for processor in ARCHITECTURES:
            for python in PYTHONS:
                pins = Pins.of(row, processor)
                known = before.get("packages", {}).get(processor, {})
                new = {name: version for name, version in pins.on_index.items() if pins.key(name) not in known}
                found = {name: known[pins.key(name)] for name in pins.on_index if name not in new}
                found |= packages(processor, python, new) if new else {}
                recorded["packages"][processor] |= needs_of(asked, pins, found, processor)
    RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
