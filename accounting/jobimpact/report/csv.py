"""Answers as rows for programs: RFC 4180, or parted by | as sacct does. Raw numbers; empty is not known."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jobimpact.core.records import DomainKind
from jobimpact.report.json import utc
from jobimpact.report.words import clean
from jobimpact.results.record import JobResult
from jobimpact.results.sums import INDICATORS

__all__ = ["COLUMNS", "comma_separated", "parsable"]

_KINDS: tuple[DomainKind, ...] = ("cpu", "dram", "gpu", "rest")
_FORMULA = ("=", "+", "-", "@")

Cell = str | float | int | None


def _kind(kind: str) -> Callable[[JobResult], Cell]:
    def joules(one: JobResult) -> Cell:
        found: Cell = one.energy["domains"].get(kind, {}).get("energy_j")
        return found

    return joules


def _impact(name: str, part: str, of: str) -> Callable[[JobResult], Cell]:
    def amount(one: JobResult) -> Cell:
        found: dict[str, Any] | None = one.impacts[name][part]
        return None if found is None else found[of]

    return amount


def _named(name: str, part: str) -> str:
    """`gwp_kgco2e` and `use` as `gwp_use_kgco2e`: the unit stays last."""
    indicator, _, unit = name.partition("_")
    return f"{indicator}_{part}_{unit}"


COLUMNS: dict[str, Callable[[JobResult], Cell]] = {
    "job": lambda one: one.job_id,
    "raw_id": lambda one: one.raw_id,
    "cluster": lambda one: one.cluster,
    "user": lambda one: one.user,
    "account": lambda one: one.account,
    "partition": lambda one: one.partition,
    "name": lambda one: one.name,
    "state": lambda one: one.state,
    "exit_code": lambda one: one.exit_code,
    "submit_utc": lambda one: utc(one.submit_s),
    "start_utc": lambda one: utc(one.start_s),
    "end_utc": lambda one: utc(one.end_s),
    "elapsed_s": lambda one: one.elapsed_s,
    "nodes": lambda one: len(one.nodes),
    "cpus": lambda one: one.cpus,
    "mem_bytes": lambda one: one.mem_bytes,
    "gpus": lambda one: one.gpus,
    "energy_j": lambda one: one.energy_j,
    "coverage": lambda one: one.coverage,
    **{f"{kind}_j": _kind(kind) for kind in _KINDS},
    **{
        _named(name, what): _impact(name, part, of)
        for name in INDICATORS
        for what, part, of in (
            ("use", "use", "central"),
            ("embodied", "embodied", "central"),
            ("total", "total", "central"),
            ("low", "total", "low"),
            ("high", "total", "high"),
        )
    },
    "factors": lambda one: one.factors.get("version"),
    "accounted_utc": lambda one: utc(one.accounted_s),
}
"""Each column, with its unit at the end of its name."""
_IDS = frozenset({"job", "raw_id", "exit_code", "submit_utc", "start_utc", "end_utc", "accounted_utc"})
"""Texts that no user can choose."""


def comma_separated(jobs: Iterable[JobResult], *, header: bool = True) -> Iterator[str]:
    """Lines that end with CR LF, quoted where they must be.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    if header:
        yield ",".join(COLUMNS) + "\r\n"
    for one in jobs:
        yield ",".join(_quoted(cell) for cell in _cells(one, guarded=True)) + "\r\n"


def parsable(jobs: Iterable[JobResult], *, header: bool = True) -> Iterator[str]:
    r"""Lines parted by |; one within a text is `\|`, and a backslash is `\\`."""
    if header:
        yield "|".join(COLUMNS) + "\n"
    for one in jobs:
        cells = (cell.replace("\\", "\\\\").replace("|", "\\|") for cell in _cells(one, guarded=False))
        yield "|".join(cells) + "\n"


def _cells(one: JobResult, *, guarded: bool) -> Iterator[str]:
    for name, of in COLUMNS.items():
        value = of(one)
        if value is None:
            yield ""
        elif isinstance(value, str):
            text = clean(value)
            yield f"'{text}" if guarded and name not in _IDS and _is_formula(text) else text
        else:
            yield repr(value)


def _is_formula(text: str) -> bool:
    """By its first character, which may be a wide one, and after blanks: some spreadsheets take these for the same."""
    return unicodedata.normalize("NFKC", text.lstrip()[:1]).startswith(_FORMULA)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(char in cell for char in ',"\r\n') else cell
