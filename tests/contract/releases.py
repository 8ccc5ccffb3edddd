"""What a release has of what our code uses: recorded for the rows of the release matrix, or read from its sources.

    python -m tests.contract.releases FOLDER ...

reads unpacked releases, before anybody installs them, and tells all that they would break, with the places of our code.
The name of a folder says what it holds: ``vllm-0.33.0``, ``vllm_ascend-0.30.0rc2``. With ``--record`` it also writes
what they have into ``tests/contract/recorded``, where the tests hold it against the tables.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.contract.interfaces import VLLM, VLLM_ASCEND, Table
from tests.contract.moved import VLLM_ASCEND_MOVED, VLLM_MOVED, Places, tables
from tests.contract.symbols import TEXT, Recording, Sources, Symbols, problem
from tests.contract.usage import places

RECORDED = Path(__file__).with_name("recorded")


@dataclass(frozen=True)
class Contract:
    """What is used of a package.

    Attributes:
        table: What every release has.
        moved: What is elsewhere from one release to the next.
    """

    table: Table
    moved: Mapping[str, Places]

    def needs(self) -> Table:
        """All of it, by module."""
        found: dict[str, tuple[str, ...]] = {}
        for table in (self.table, *tables(self.moved)):
            for module, needs in table.items():
                found[module] = tuple(dict.fromkeys((*found.get(module, ()), *needs)))
        return found


CONTRACTS: Mapping[str, Contract] = {
    "vllm": Contract(VLLM, VLLM_MOVED),
    "vllm_ascend": Contract(VLLM_ASCEND, VLLM_ASCEND_MOVED),
}


def broken(contract: Contract, release: Sources | Recording) -> list[str]:
    """What a release would break, each with the places of our code that use it."""
    lines = list(_missing(contract.table, release))
    for what, alternatives in contract.moved.items():
        if not any(has(release, table) for table in alternatives):
            lines += [f"{what}: {line}" for line in _missing(alternatives[-1], release)]
    return lines


def has(release: Sources | Recording, table: Table) -> bool:
    """Whether a release has all of a table."""
    return not any(problem(release.symbols(module), module, need) for module in table for need in table[module])


def _missing(table: Table, release: Sources | Recording) -> Iterator[str]:
    for module, needs in table.items():
        symbols = release.symbols(module)
        for need in needs:
            if what := problem(symbols, module, need):
                yield f"{release.release}: {what}; used in {', '.join(places(need, module)) or 'nothing of ours'}"


def recording(name: str) -> Recording:
    """What was recorded of a release, for example of ``vllm-0.30.0``."""
    return Recording(name, json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8")))


def record(contract: Contract, sources: Sources) -> None:
    """Write what a release has of what is used."""
    needs = contract.needs()
    modules = {module: _used(sources.symbols(module) or {}, needs[module]) for module in needs}
    text = json.dumps({module: used for module, used in modules.items() if used}, indent=1, sort_keys=True)
    (RECORDED / f"{sources.release}.json").write_text(text + "\n", encoding="utf-8")


def _used(symbols: Symbols, needs: tuple[str, ...]) -> Symbols:
    """Functions and whole classes that are used, and texts."""
    tops = {need.partition("(")[0].partition(".")[0] for need in needs if not need.startswith(TEXT)}
    return {
        name: parameters
        for name, parameters in symbols.items()
        if name in needs or (not name.startswith(TEXT) and name.partition(".")[0] in tops)
    }


def main(words: list[str]) -> int:
    """Report, and record where that is asked for; answers whether anything would break."""
    folders = [Path(word) for word in words if word != "--record"]
    found = 0
    for folder in folders:
        contract = CONTRACTS.get(folder.name.partition("-")[0])
        if contract is None or not folder.is_dir():
            print(f"{folder}: not the folder of an unpacked release; its name begins with {' or '.join(CONTRACTS)}")
            return 2
        release = Sources(folder.name, folder)
        lines = broken(contract, release)
        found += len(lines)
        print(f"{folder.name}: {len(lines)} broken", *lines, sep="\n  ")
        if "--record" in words:
            record(contract, release)
    if not folders:
        print(__doc__)
    return min(found, 1) if folders else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
