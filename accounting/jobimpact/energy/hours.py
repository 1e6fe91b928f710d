"""Energy by full hour (UTC) from the cumulative points of a node's file.

A point says what a holder has of a domain so far, and for how long that is known. Between two points energy came
evenly over the time by which the known time grew: after an outage that a counter has bridged it is spread over the
outage, after one that it has not, it is that of the last minute. So each hour's energy is the difference of two
cumulative values, and the hours sum exactly to the whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from math import ceil, floor

import msgspec

from jobimpact.core.records import IDLE, SYSTEM, DomainKind, HourShares, RunEnergy
from jobimpact.core.units import NS

__all__ = ["HOUR_S", "free_hours", "run_hours"]

HOUR_S = 3600
STEP_S = 3600.0
"""A run whose wall clock time differs this much from its boot clock's has hours that nobody knows."""
LATE_S = 3600.0
"""A run whose first point comes this long after its start has lost those of before."""
REACH_S = 600.0
"""How near to an hour's edges a point must be."""

# At each full hour, the last point until then and the next one. Looked up, not read through: it costs by hours, and
# not by points.
_EDGES = """
WITH RECURSIVE edge(at) AS (SELECT :first UNION ALL SELECT at + 3600 FROM edge WHERE at + 3600 <= :last)
SELECT edge.at, a.wall_s, a.uj, a.known_ns, b.wall_s, b.uj, b.known_ns
FROM edge
LEFT JOIN job_energy a ON a.run = :run AND a.domain = :domain AND a.wall_s = (
  SELECT wall_s FROM job_energy WHERE run = :run AND domain = :domain AND wall_s <= edge.at
  ORDER BY wall_s DESC LIMIT 1)
LEFT JOIN job_energy b ON b.run = :run AND b.domain = :domain AND b.wall_s = (
  SELECT wall_s FROM job_energy WHERE run = :run AND domain = :domain AND wall_s > edge.at
  ORDER BY wall_s LIMIT 1)
"""
_GROWN = """
SELECT wall_s, uj, known_ns FROM job_energy
WHERE run = ? AND domain = ? AND wall_s > ? AND (uj > ? OR known_ns > ?) ORDER BY wall_s LIMIT 1
"""
_SPANS = """
SELECT name, kind, (SELECT min(wall_s) FROM job_energy WHERE run = :run AND domain = name),
  (SELECT max(wall_s) FROM job_energy WHERE run = :run AND domain = name)
FROM domain WHERE kind != 'node' ORDER BY name
"""
_FROM = """
SELECT wall_s, uj, known_ns FROM job_energy WHERE run = ? AND domain = ? AND wall_s >= ? ORDER BY wall_s LIMIT 1
"""
_BEFORE = """
SELECT wall_s, 0, known_ns FROM job_energy WHERE run = ? AND domain = ? AND wall_s < ? ORDER BY wall_s DESC LIMIT 1
"""


class Point(msgspec.Struct, frozen=True):
    """What a holder has of a domain so far."""

    wall_s: float
    uj: int
    known_ns: int


class Standing(msgspec.Struct, frozen=True):
    """What a holder has of a domain at a full hour; `near`: a point is near enough to tell."""

    uj: int
    known_ns: int
    near: bool


def run_hours(db: sqlite3.Connection, key: str, run: RunEnergy) -> tuple[tuple[int, int], ...]:
    """A run's energy by hour.

    Args:
        db: the node's file.
        key: the run's.
        run: what else the file says of it.

    Returns:
        Each full hour's start (epoch seconds) and microjoules, which sum to those of its domains that are known.
        Empty: not known, for nothing was measured, its points are gone, or the wall clock stepped in mid-run.
    """
    start_s, lasted_s = run.start_s, run.elapsed_ns / NS
    end_s = start_s + lasted_s if run.end_s is None else run.end_s
    totals = {one.domain: one.uj for one in run.domains if one.known_ns}
    if not totals or not abs(end_s - start_s - lasted_s) <= STEP_S:
        return ()
    first = floor(start_s / HOUR_S) * HOUR_S
    edges = range(first + HOUR_S, ceil(end_s / HOUR_S) * HOUR_S, HOUR_S)
    if not edges:
        return ((first, sum(totals.values())),)
    spans = [row for row in db.execute(_SPANS, {"run": key}) if row[0] in totals and row[2] is not None]
    if not spans or min(row[2] for row in spans) > start_s + LATE_S:
        return ()
    by_hour = [0, *(0 for _ in edges), 0]
    for domain, *_ in spans:
        standings = _standings(db, key, domain, edges, Point(start_s, 0, 0))
        for number, one in enumerate(standings, 1):
            by_hour[number] += min(one.uj, totals[domain])
    by_hour[-1] = sum(totals.values())
    return tuple((hour, now - then) for hour, (then, now) in zip((first, *edges), pairwise(by_hour), strict=True))


def free_hours(node: str, db: sqlite3.Connection, from_s: float, to_s: float) -> list[HourShares]:
    """What no job had of a node, for each full hour within a time of which the points tell.

    Args:
        node: its name.
        db: its file.
        from_s: where the time begins, epoch seconds.
        to_s: where it ends.

    Returns:
        By hour; one without points near both of its edges is left out, and in an hour a kind that was not metered.
    """
    spans = [row for row in db.execute(_SPANS, {"run": IDLE}) if row[2] is not None]
    if not spans or not from_s < to_s:
        return []
    from_s = max(from_s, min(row[2] for row in spans) - REACH_S)
    to_s = min(to_s, max(row[3] for row in spans) + REACH_S)
    edges = range(ceil(from_s / HOUR_S) * HOUR_S, floor(to_s / HOUR_S) * HOUR_S + 1, HOUR_S)
    if len(edges) < 2:
        return []
    reached = [False for _ in edges]
    found = [HourShares(node, hour, {}, {}) for hour in edges[:-1]]
    for domain, kind, begin_s, _ in spans:
        idle = list(_standings(db, IDLE, domain, edges, _first(db, IDLE, domain, begin_s)))
        system = _standings(db, SYSTEM, domain, edges, _first(db, SYSTEM, domain, begin_s))
        reached = [there or one.near for there, one in zip(reached, idle, strict=True)]
        for hour, (then, now), (system_then, system_now) in zip(found, pairwise(idle), pairwise(system), strict=True):
            if now.known_ns > then.known_ns:
                _add(hour.idle_uj, kind, now.uj - then.uj)
                _add(hour.system_uj, kind, system_now.uj - system_then.uj)
    return [hour for hour, (begins, ends) in zip(found, pairwise(reached), strict=True) if begins and ends]


def _add(sums: dict[DomainKind, int], kind: DomainKind, uj: int) -> None:
    sums[kind] = sums.get(kind, 0) + uj


def _first(db: sqlite3.Connection, holder: str, domain: str, begin_s: float) -> Point:
    """Where a holder's points begin: what it had before is of a time that nobody knows."""
    row = db.execute(_FROM, (holder, domain, begin_s)).fetchone()
    if row is None:
        return Point(begin_s, 0, 0)
    # Of `system` there are points since it first had something: before, it had nothing.
    return Point(*(db.execute(_BEFORE, (IDLE, domain, row[0])).fetchone() or row))


def _standings(db: sqlite3.Connection, holder: str, domain: str, edges: range, origin: Point) -> Iterator[Standing]:
    """What a holder has of a domain at each of these hours: never less than at the one before."""
    asked = {"run": holder, "domain": domain, "first": edges[0], "last": edges[-1]}
    uj = known_ns = 0
    flat: tuple[Point, Point | None] | None = None
    for at, *found in db.execute(_EDGES, asked):
        before = origin if found[0] is None else Point(*found[:3])
        after = None if found[3] is None else Point(*found[3:])
        near = any(one is not None and abs(at - one) <= REACH_S for one in (found[0], found[3]))
        if after is not None and not _has_grown(before, after):
            # Nothing new was known then: what comes next tells, and is looked for once for all hours until then.
            if flat is None or _has_grown(flat[0], before):
                row = db.execute(_GROWN, (holder, domain, after.wall_s, before.uj, before.known_ns)).fetchone()
                flat = before, None if row is None else Point(*row)
            after = flat[1]
        now_uj, now_ns = (before.uj, before.known_ns) if after is None else _between(before, after, at)
        uj, known_ns = max(uj, now_uj), max(known_ns, now_ns)
        yield Standing(uj, known_ns, near)


def _has_grown(before: Point, after: Point) -> bool:
    return after.uj > before.uj or after.known_ns > before.known_ns


def _between(before: Point, after: Point, at: int) -> tuple[int, int]:
    """Energy and known time at an hour between two points: even over the time that became known."""
    grown_ns = after.known_ns - before.known_ns
    span_s = grown_ns / NS if grown_ns > 0 else after.wall_s - before.wall_s
    part = min(max((at - after.wall_s) / span_s + 1, 0.0), 1.0)
    return before.uj + int((after.uj - before.uj) * part), before.known_ns + int(grown_ns * part)
