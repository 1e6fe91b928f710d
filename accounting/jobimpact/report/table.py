"""Many jobs as a table: a line each and the sums, within the terminal's width. What was spent for nothing is first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from jobimpact.report.columns import width_of, wrap
from jobimpact.report.job import tone_of
from jobimpact.report.numbers import duration, energy, grams, kwh, percent, rounded
from jobimpact.report.words import clean, moment
from jobimpact.results.record import JobResult
from jobimpact.results.sums import Sums

__all__ = ["Line", "Units", "job_line", "sums_line", "table"]

NARROW = 80
_NAME_MOST = 60
_COLOURS = {"bad": "31", "good": "32", "plain": "33"}


class Units(msgspec.Struct, frozen=True):
    """How quantities are written: by their size, or all in one unit so that they compare and can be copied."""

    energy: str = "auto"
    mass: str = "auto"

    def joules(self, value: float | None) -> str:
        """Energy, from joules."""
        if value is None:
            return "-"
        if self.energy == "auto":
            return energy(value)
        return f"{rounded(value)} J" if self.energy == "J" else kwh(value / 3.6e6)

    def kilograms(self, value: float | None) -> str:
        """A mass, from kilograms."""
        if value is None:
            return "-"
        if self.mass == "auto":
            return grams(value)
        return f"{rounded(value)} kg" if self.mass == "kg" else f"{rounded(value * 1e3)} g"


class Line(msgspec.Struct, frozen=True):
    """A row: a job, or a group of which there are only sums. Texts are clean."""

    job: str
    name: str
    state: str
    elapsed: str
    energy_j: float | None
    coverage: float | None
    gwp_kg: float | None
    failed: bool = False
    user: str = ""


def job_line(one: JobResult) -> Line:
    """A job."""
    gwp = one.impacts["gwp_kgco2e"]["total"]
    return Line(
        job=clean(one.job_id),
        name=clean(one.name),
        state=clean(one.state).partition(",")[0],
        elapsed="-" if one.elapsed_s is None else duration(one.elapsed_s),
        energy_j=one.energy_j,
        coverage=None if one.energy_j is None else one.coverage,
        gwp_kg=None if gwp is None else gwp["central"],
        failed=tone_of(one.state) == "bad",
        user=clean(one.user),
    )


def sums_line(asked: str, sums: Sums) -> Line:
    """An array of which no task is told by itself."""
    gwp = sums.impacts["gwp_kgco2e"].total
    return Line(
        job=clean(asked),
        name=f"{sums.jobs:,} tasks",
        state=f"{sums.failed:,} failed" if sums.failed else "",
        elapsed="",
        energy_j=sums.energy_j,
        coverage=None if sums.energy_j is None else sums.coverage,
        gwp_kg=None if gwp is None else gwp[1],
        failed=bool(sums.failed),
    )


def table(
    title: str,
    lines: Sequence[Line],
    sums: Sums | None,
    *,
    units: Units | None = None,
    width: int = NARROW,
    colour: bool = False,
    header: bool = True,
) -> str:
    """A line for each, and the sums.

    Args:
        title: of what, clean; empty: none.
        lines: in the order in which they are shown; empty with sums: there are too many for lines.
        sums: over all of them; None: there are none.
        units: how quantities are written.
        width: of the terminal, in columns.
        colour: for a terminal.
        header: with title and headings.
    """
    units = units or Units()
    out = [*(_bold(line, colour=colour) for line in wrap(title, width)), ""] if title and header else []
    if sums is None:
        return "\n".join([*out, "  No job."]) + "\n"
    out += _lost(sums, units)
    total = Line(
        job="sum",
        name=f"{sums.jobs:,} {'job' if sums.jobs == 1 else 'jobs'}",
        state="",
        elapsed="",
        energy_j=sums.energy_j,
        coverage=None if sums.energy_j is None else sums.coverage,
        gwp_kg=_gwp(sums),
    )
    columns = _columns([*lines, total], units, width)
    if header and lines:
        out.append(_laid([(name, size) for name, size, _ in columns]))
    for line in lines:
        laid = _laid([(cell(line), size) for _, size, cell in columns])
        out.append(_painted(laid, "bad") if colour and line.failed else laid)
    out.append(_bold(_laid([(cell(total), size) for _, size, cell in columns]), colour=colour))
    return "\n".join([*out, "", *_notes(sums, units)]) + "\n"


def _lost(sums: Sums, units: Units) -> list[str]:
    """What can be acted on."""
    if not sums.failed_energy_j:
        return []
    of = f"{sums.failed:,} of {sums.jobs:,}"
    return [f"  {units.joules(sums.failed_energy_j)} spent on jobs that did not complete ({of}).", ""]


def _notes(sums: Sums, units: Units) -> list[str]:
    known = sums.impacts["gwp_kgco2e"].known
    said = []
    for number, what in ((sums.measured, "energy"), (known, "GWP")):
        if number < sums.ran:
            said.append(f"  The sum of {what} lacks {sums.ran - number:,} of {sums.ran:,} that ran: not known.")
    if sums.energy_j is not None and sums.coverage is not None and sums.coverage < 1:
        said.append(f"  Energy is known for {percent(sums.coverage)} of what they held: the sum is of that part.")
    if sums.energy_j is not None and units.energy == "auto":
        said.append(f"  Energy in all: {kwh(sums.energy_j / 3.6e6)}.")
    said.append("  GWP (climate): use + embodied, in CO2e. One job in full: jobimpact ID.")
    if sums.accounted_s is not None:
        said.append(f"  Accounted {moment(sums.accounted_s)} UTC; jobs that ended later are not among them.")
    return said


def _gwp(sums: Sums) -> float | None:
    total = sums.impacts["gwp_kgco2e"].total
    return None if total is None else total[1]


# -- laying out ------------------------------------------------------------------------------------------------------

_Column = tuple[str, int, Callable[[Line], str]]
"""Heading, columns on the screen (below zero: set to the right), and a line's text."""


def _columns(lines: Sequence[Line], units: Units, width: int) -> list[_Column]:
    several = len({line.user for line in lines if line.user}) > 1
    ids = max([12, *(min(len(line.job), 20) for line in lines)])
    fixed: list[_Column] = [
        ("state", 11, lambda line: line.state),
        ("elapsed", -11, lambda line: line.elapsed),
        ("energy", -10, lambda line: units.joules(line.energy_j)),
        ("known", -6, lambda line: "-" if line.coverage is None else percent(line.coverage)),
        ("GWP", -8, lambda line: units.kilograms(line.gwp_kg)),
    ]
    fixed = [(name, _fitting(size, name, cell, lines), cell) for name, size, cell in fixed]
    first: list[_Column] = [("job", ids, lambda line: line.job)]
    left = width - ids - sum(abs(size) + 1 for _, size, _ in fixed) - 1
    if several and left >= 30:
        first.append(("user", 12, lambda line: line.user))
        left -= 13
    longest = max([8, *(width_of(line.name) for line in lines)])
    name: _Column = ("name", max(min(left, longest, _NAME_MOST), 8), lambda line: line.name)
    return [*first, name, *fixed]


def _fitting(size: int, name: str, cell: Callable[[Line], str], lines: Sequence[Line]) -> int:
    """Numbers are never cut: a column of them is as wide as its widest."""
    if size > 0:
        return size
    return -max([-size, len(name), *(len(cell(line)) for line in lines)])


def _laid(cells: Sequence[tuple[str, int]]) -> str:
    return " ".join(_set(text, size) for text, size in cells).rstrip()


def _set(text: str, size: int) -> str:
    room = abs(size)
    if size > 0 and width_of(text) > room:
        while width_of(text) > room - 1:
            text = text[:-1]
        text += "+"  # as sacct marks what it cut
    pad = " " * (room - width_of(text))
    return text + pad if size > 0 else pad + text


def _bold(text: str, *, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text


def _painted(text: str, tone: str) -> str:
    return f"\x1b[{_COLOURS[tone]}m{text}\x1b[0m"
