"""A time as text: 80 columns, plain characters, what can be acted on first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jobimpact.report.columns import fitted, wrap
from jobimpact.report.period import Bar, JobLine, PeriodView, Split
from jobimpact.report.view import EnergyRow, ImpactRow

__all__ = ["WIDTH", "impact_lines", "period_text", "wrapped"]

WIDTH = 80
_BAR = 40
_NAME = 20
ROWS = 10
"""So many lines of a split are shown, unless all are asked for."""
_DIM, _BOLD, _RED, _OFF = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"


def period_text(view: PeriodView, *, colour: bool = False, every: bool = False) -> str:
    """A report that ends with a newline.

    Args:
        view: what it says.
        colour: for a terminal.
        every: all users, labs, partitions and models, and not the ten with the most energy.
    """
    parts: list[list[str]] = [
        [*_head(view, colour=colour)],
        [line for text in view.lead for line in wrapped(text)],
        [*_advice(view)],
        [*_energy(view)],
        [*_impacts(view)],
        [*_beside(view)],
        [*_days(view)],
        *([*_split(split, every=every)] for split in view.splits),
        [*_jobs("Jobs that did not complete, the most energy first", view.worst, of_many=view.of_many)],
        [*_jobs("Jobs with the most energy", view.most, of_many=view.of_many)],
        [*wrapped(view.accounted), *wrapped(view.method)],
    ]
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def wrapped(text: str, indent: str = "  ") -> list[str]:
    """Lines of 80 columns."""
    return wrap(text, WIDTH, indent, indent)


def _head(view: PeriodView, *, colour: bool) -> Iterator[str]:
    title = fitted(view.title, WIDTH).rstrip()
    yield f"{_BOLD}{title}{_OFF}" if colour else title
    yield from wrapped(view.time if view.between.startswith(view.time) else f"{view.time}: {view.between}")
    for fact in view.facts:
        yield from wrapped(fact)


def _advice(view: PeriodView) -> Iterator[str]:
    for one in view.advice:
        yield from wrapped(one.title)
        for text in (one.measured, one.cost, one.do):
            yield from wrapped(text, "    ")
    yield from wrapped(view.advice_of)


def _energy(view: PeriodView) -> Iterator[str]:
    if not view.total:
        return
    yield f"  {'Energy':<10} {view.total:>10}  {view.total_kwh}"
    for row in view.energy:
        yield from _energy_row(row)


def _energy_row(row: EnergyRow) -> list[str]:
    start = f"    {row.label:<8} {row.amount:>10}  "
    return wrap(", ".join(row.said), WIDTH, start, " " * len(start))


def _impacts(view: PeriodView) -> Iterator[str]:
    yield from impact_lines(view.impacts)
    for text in (view.not_known, *view.equivalents):
        yield from wrapped(text)


def impact_lines(rows: Iterable[ImpactRow]) -> Iterator[str]:
    """The indicators as a table, its head only if there are any."""
    head = f"  {'Impact':<18} {'use':>10} {'embodied':>10} {'total':>10}  range"
    for row in rows:
        if head:
            yield head
            head = ""
        cells = " ".join(f"{cell:>10}" for cell in (row.use, row.embodied, row.total))
        yield f"    {row.label:<16} {cells}  {row.span} {row.unit if row.span else ''}".rstrip()


def _beside(view: PeriodView) -> Iterator[str]:
    for text in view.trend:
        yield from wrapped(text)
    if len(view.past) > 1:
        most = max((one.joules or 0.0 for one in view.past), default=0.0)
        for one in view.past:
            said = f"  {one.said}" if one.said else ""
            yield f"    {one.label:<24} {_bar(one.joules, 0.0, most, 24):<24} {one.amount:>9}{said}"
    yield from wrapped(view.median)


def _days(view: PeriodView) -> Iterator[str]:
    if len(view.days) < 2:
        return
    failed = "; x: jobs that did not complete" if any(one.failed_j for one in view.days) else ""
    yield f"  {view.days_label}, when jobs ended (UTC){failed}"
    most = max((one.joules or 0.0 for one in view.days), default=0.0)
    for one in view.days:
        yield f"    {one.label:<10}  {_bar(one.joules, one.failed_j, most, _BAR):<{_BAR}} {_amount(one):>9}".rstrip()
    yield from wrapped(view.days_note, "    ")


def _amount(one: Bar) -> str:
    return one.amount if one.jobs else ""


def _bar(joules: float | None, failed_j: float, most: float, width: int) -> str:
    if not joules or most <= 0:
        return ""
    length = max(round(width * joules / most), 1)
    bad = min(round(length * failed_j / joules), length)
    return "#" * (length - bad) + "x" * bad


def _split(split: Split, *, every: bool) -> Iterator[str]:
    hours = any(row.gpu_hours for row in split.rows)
    gpu = f" {'GPU-hours':>10}" if hours else ""
    yield f"  {split.label:<{_NAME + 2}} {'jobs':>7} {'energy':>9} {'share':>7} {'not done':>9}{gpu} {'GWP':>8}"
    shown = split.rows if every else split.rows[:ROWS]
    for row in shown:
        gpu = f" {row.gpu_hours:>10}" if hours else ""
        cells = f"{row.jobs:>7} {row.energy:>9} {row.share:>7} {row.failed:>9}"
        yield f"    {fitted(row.name, _NAME)} {cells}{gpu} {row.gwp:>8}"
    if len(split.rows) > len(shown):
        yield f"    and {len(split.rows) - len(shown)} more: --all"
    yield from wrapped(split.note, "    ")


def _jobs(heading: str, jobs: tuple[JobLine, ...], *, of_many: bool) -> Iterator[str]:
    if not jobs:
        return
    yield f"  {heading}"
    for one in jobs:
        whose = f" {fitted(one.user, 10)}" if of_many else ""
        room = 24 - len(whose)
        head = f"    {fitted(one.job, 16)} {one.energy:>9} {one.ended:<10} {fitted(one.state, 13)}{whose}"
        yield f"{head} {fitted(one.name, room)}".rstrip()
