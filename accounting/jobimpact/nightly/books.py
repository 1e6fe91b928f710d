"""A year's books of manufacture: hardware = jobs + idle shares + true-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from jobimpact.core.config import Config
from jobimpact.core.records import Triple
from jobimpact.impact.idle import MonthIdle, Three
from jobimpact.impact.ranges import total
from jobimpact.nightly.closing import SHARED, Months
from jobimpact.nightly.extra import opened
from jobimpact.results.read import Reader
from jobimpact.results.record import SCHEMA

if TYPE_CHECKING:
    from jobimpact.results.write import Results, Sums

__all__ = ["BookLine", "YearBooks", "books_of", "true_up", "year_books"]

NOTHING: Triple = (0.0, 0.0, 0.0)


class BookLine(Struct, frozen=True):
    """One component of one type of nodes over a time: kgCO2e, kgSbe and MJ, central values; None: not known."""

    node_type: str
    component: str
    available_h: float
    """Hours in which they were in their life."""
    held_h: float
    """Of these, hours of the whole component that jobs held."""
    hardware: Three
    """What its manufacture comes to over the time: its whole, times the time in its life, over its lifetime."""
    jobs: Three
    idle: Three
    """What jobs were told as their idle share."""
    true_up: Three
    """What closes the books: hardware - jobs - idle shares."""
    idle_use: Three = (None, None, None)
    """What the electricity cost that no job had, in closed months; PUE included."""
    idle_use_told: Three = (0.0, 0.0, 0.0)
    """What jobs were told of it as their idle share."""
    idle_use_true_up: Three = (None, None, None)
    """What closes those books."""
    reason: str | None = None
    """Why something is None."""


def year_books(
    sums: Mapping[tuple[str, str], Sums], months: Mapping[tuple[str, str], list[MonthIdle]]
) -> list[BookLine]:
    """The books of closed months.

    Args:
        sums: what was booked of jobs in these months, by type of nodes and component.
        months: what these months came to when they were closed, likewise.

    Returns:
        A line for each component of each type, also of one that the inventory has no more.
    """
    booked = dict(sums)
    for name in {component for _, component in sums if component.startswith("shared.")}:
        some = [booked.pop(key) for key in sorted(sums) if key[1] == name]
        booked[SHARED, name.removeprefix("shared.")] = _added(some)
    closed = {key: some for key, some in months.items() if some}
    return [_line(*key, closed.get(key, []), booked.get(key)) for key in sorted({*closed, *booked})]


def _added(sums: list[Sums]) -> Sums:
    first, *others = sums
    for one in others:
        own, idle, use = (_plus(getattr(first, n), getattr(one, n)) for n in ("own", "idle", "idle_use"))
        hours, in_life_h = first.hours + one.hours, first.in_life_h + one.in_life_h
        first = replace(first, hours=hours, in_life_h=in_life_h, own=own, idle=idle, idle_use=use)
    return first


def _plus(one: Triple, other: Triple) -> Triple:
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2])


def _minus(one: Three, *others: Three) -> Three:
    a, b, c = (
        None if value is None else value - sum(other[at] or 0.0 for other in others) for at, value in enumerate(one)
    )
    return (a, b, c)


def _line(kind: str, component: str, months: list[MonthIdle], sums: Sums | None) -> BookLine:
    own, idle, told = (sums.own, sums.idle, sums.idle_use) if sums else (NOTHING, NOTHING, NOTHING)
    hardware = _known(months)
    uses = [one.use for one in months if one.use is not None]
    use: Three = total(uses).central if uses else (None, None, None)
    return BookLine(
        node_type=kind,
        component=component,
        available_h=sum(one.available_h for one in months),
        held_h=sums.in_life_h if sums else 0.0,
        hardware=hardware,
        jobs=own,
        idle=idle,
        true_up=_minus(hardware, own, idle),
        idle_use=use,
        idle_use_told=told,
        idle_use_true_up=_minus(use, told),
        reason="; ".join(_reasons(kind, hardware, use)) or None,
    )


def _reasons(kind: str, hardware: Three, use: Three) -> Iterator[str]:
    if None in hardware:
        yield "the inventory does not tell what making it cost"
    if use[0] is None:
        yield "it has no idle electricity of its own" if kind == SHARED else "its idle electricity is not known"


def _known(months: list[MonthIdle]) -> Three:
    """The hardware of all months; None where one's is not known."""
    each = zip(*(one.hardware for one in months), strict=True) if months else ([0.0], [0.0], [0.0])
    gwp, adp, pe = (None if None in some else sum(one or 0.0 for one in some) for some in each)
    return (gwp, adp, pe)


class YearBooks(Struct, frozen=True):
    """One line for each component of each type of nodes, and for what serves several nodes."""

    year: str
    months: list[str]
    """Its months that are closed: the lines are of these."""
    closed: bool
    """Its December is: its true-up is written."""
    lines: list[dict[str, Any]]
    made_with: list[str] = []
    """Factor sets and inventories that its months were closed with: several do not fit each other."""


def true_up(results: Results, months: Months, cluster: str, year: str) -> list[dict[str, Any]]:
    """The lines of a year's closed months, as they stand."""
    closed = sorted(month for month in months.closed if month[:4] == year)
    sums = results.charged(cluster, closed)
    return [to_builtins(line) for line in year_books(sums, months.of_year(year))]


def books_of(config: Config, year: str) -> YearBooks:
    """The books of a year: as they were closed, else as far as its months are.

    Raises:
        StoreError: the results cannot be read.
    """
    reader = Reader(config.results)
    try:
        if reader.schema < SCHEMA:  # a question migrates nothing
            return YearBooks(year, [], closed=False, lines=[])
    finally:
        reader.close()
    with opened(config) as results:
        months = Months(config, results)
        closed = sorted(month for month in months.closed if month[:4] == year)
        written = results.true_ups(config.cluster, year)
        lines = written or (true_up(results, months, config.cluster, year) if closed else [])
        return YearBooks(year, closed, closed=bool(written), lines=lines, made_with=months.made_with(year))
