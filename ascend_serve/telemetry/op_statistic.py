"""Reading the profiler's operator statistics: whether static kernels are active, and for which operators.

The sign is the one that vllm-ascend's guide to graph mode names: rows whose operator type or name contains
``static_kernel``. Columns are those of ``torch_npu.profiler`` (``op_statistic.csv``, and ``kernel_details.csv`` with a
row for each call) and of CANN's ``msprof`` (``op_statistic_<time>.csv``), as they are or saved again by a spreadsheet.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ascend_serve.errors import ProfileError

STATISTIC = "op_statistic.csv"
"""The file of operator statistics in a folder of ``torch_npu.profiler``."""

MARK = "static_kernel"
"""What the type or name of an operator contains that runs from a static kernel."""

_DURATION = "duration"
"""The column of a file with a row for each call."""

_NOT_MEASURED = ("N/A", "NA")
_UNIT = re.compile(r"\(.*?\)")
_PROFILE = (
    "Collect a profile with `ascend-serve profile` or torch_npu.profiler, and give its op_statistic.csv or its folder."
)


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the statistics.

    Attributes:
        name: Operator type, or name where there is no type.
        static: Whether it ran from a static kernel.
        calls: How often it ran.
        time: Microseconds it ran in total.
    """

    name: str
    static: bool
    calls: int
    time: float


@dataclass(frozen=True, slots=True)
class OpStatistic:
    """The operators of one profile, which is of one rank."""

    path: Path
    operators: tuple[Operator, ...]

    @property
    def static(self) -> tuple[Operator, ...]:
        """Operators that ran from static kernels, those that took longest first."""
        return tuple(sorted((entry for entry in self.operators if entry.static), key=lambda entry: -entry.time))

    @property
    def share_of_calls(self) -> float:
        """Calls of static kernels over all calls, 0 to 1."""
        return _share((entry.calls for entry in self.static), (entry.calls for entry in self.operators))

    @property
    def share_of_time(self) -> float:
        """Time in static kernels over the time of all operators, 0 to 1."""
        return _share((entry.time for entry in self.static), (entry.time for entry in self.operators))


def _share(part: Iterable[float], whole: Iterable[float]) -> float:
    total = sum(whole)
    return sum(part) / total if total else 0.0


def find_statistics(paths: Sequence[Path]) -> list[Path]:
    """The statistics files among ``paths``; folders are searched.

    A profiler folder holds the same numbers twice: where ``op_statistic.csv`` is, files of ``msprof`` are left out.

    Raises:
        ProfileError: A path does not exist, or a folder holds no statistics.
    """
    return [file for path in paths for file in ([path] if path.is_file() else _search(path))]


def _search(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ProfileError(f"{folder} does not exist.", _PROFILE)
    files = sorted(folder.rglob(STATISTIC)) or sorted(folder.rglob("op_statistic_*.csv"))
    if not files:
        raise ProfileError(f"{folder} holds no {STATISTIC} at any depth.", _PROFILE)
    return files


def read_statistic(path: Path) -> OpStatistic:
    """Read one statistics file.

    Raises:
        ProfileError: It cannot be read, lacks a column or has a value that is not a number.
    """
    rows = _rows(path)
    if not rows:
        raise ProfileError(f"{path} has no rows.", "Profile while requests are served. " + _PROFILE)
    columns = {_plain(name): name for name in rows[0] if name}
    named = [columns[name] for name in ("op_type", "name", "op_name") if name in columns]
    _require(path, columns, bool(named))
    return OpStatistic(path, _summed(_operator(path, row, columns, named) for row in rows))


def _rows(path: Path) -> list[dict[str, str]]:
    """A spreadsheet may have put tabs or semicolons between the columns."""
    try:
        lines = _decoded(path.read_bytes()).splitlines()
        delimiter = max(",\t;", key=lines[0].count) if lines else ","
        return list(csv.DictReader(lines, delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProfileError(f"{path} cannot be read: {error}", _PROFILE) from None


def _decoded(data: bytes) -> str:
    """In UTF-8, or as a Chinese spreadsheet saves it."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030")


def _summed(rows: Iterable[Operator]) -> tuple[Operator, ...]:
    """One operator for all rows of its name: a file may have a row for each core type, or for each call."""
    found: dict[tuple[str, bool], Operator] = {}
    for row in rows:
        before = found.get((row.name, row.static), replace(row, calls=0, time=0.0))
        found[row.name, row.static] = replace(row, calls=before.calls + row.calls, time=before.time + row.time)
    return tuple(found.values())


def _plain(column: str) -> str:
    """``Total Time(us)`` is ``total_time``."""
    return _UNIT.sub("", column).strip().lower().replace(" ", "_")


def _require(path: Path, columns: Mapping[str, str], named: bool) -> None:
    missing = [] if named else ["OP Type"]
    if _DURATION not in columns:
        missing += [name for name in ("Count", "Total Time(us)") if _plain(name) not in columns]
    if missing:
        there = ", ".join(columns.values()) or "none"
        raise ProfileError(f"{path} lacks the column {', '.join(missing)} (it has {there}).", _PROFILE)


def _operator(path: Path, row: Mapping[str, str], columns: Mapping[str, str], named: Sequence[str]) -> Operator:
    names = [row[column] or "" for column in named]
    each_call = _DURATION in columns
    counted = "1" if each_call else row[columns["count"]]
    timed = row[columns[_DURATION if each_call else "total_time"]]
    try:
        calls, time = int(_figure(counted)), _figure(timed)
    except (TypeError, ValueError):
        raise ProfileError(f"{path}: the row of {names[0]!r} has a value that is not a number.", _PROFILE) from None
    return Operator(name=names[0], static=any(MARK in name.lower() for name in names), calls=calls, time=time)


def _figure(text: str) -> float:
    """What was not measured, as for communication, counts nothing."""
    return 0.0 if text and text.strip().upper() in _NOT_MEASURED else float(text)
