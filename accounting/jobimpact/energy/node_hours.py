"""Who a node's energy belonged to, by kind of part and full hour (UTC), from its points.

About once a minute a node writes, in one commit, where each domain stands and what of it is idle's and system's; the
rest is jobs'. What a domain's commit has more than the one before it came evenly over the time by which the known time
grew, as for the hours of jobs (`hours.py`): an outage that a counter has bridged is spread over the outage. Hours
join: their sums are the differences of the commits' own, to the microjoule.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from math import ceil, floor

import msgspec

from jobimpact.core.records import IDLE, SYSTEM, DomainKind
from jobimpact.core.units import NS

__all__ = ["Commit", "KindHour", "NodeHours", "node_hours", "spread"]

HOUR_S = 3600
YOUNG_NS = 300 * NS
"""A domain of which its first commit knows no more than this began then; else it had something before."""

_DOMAINS = "SELECT name, kind, reason FROM domain WHERE kind != 'node' ORDER BY name"
_COMMITS = """
SELECT i.wall_s, p.measured_uj - i.uj - coalesce(s.uj, 0), i.uj, coalesce(s.uj, 0), i.known_ns
FROM job_energy i
CROSS JOIN node_power p ON p.domain = i.domain AND p.wall_s = i.wall_s
LEFT JOIN job_energy s ON s.run = :system AND s.domain = i.domain AND s.wall_s = i.wall_s
WHERE i.run = :idle AND i.domain = :domain AND i.wall_s >= coalesce(
  (SELECT max(wall_s) FROM job_energy WHERE run = :idle AND domain = :domain AND wall_s <= :from), :from)
ORDER BY i.wall_s
"""
_FIRST = "SELECT min(wall_s) FROM job_energy WHERE run = ? AND domain = ?"

Sums = tuple[int, int, int]
"""Jobs, idle, system, in microjoules."""


class Commit(msgspec.Struct, frozen=True):
    """Where a domain stands, cumulative."""

    at_s: float
    sums: Sums
    known_ns: int


class KindHour(msgspec.Struct, frozen=True):
    """All a node's domains of one kind in one hour."""

    node: str
    kind: DomainKind
    start_s: int
    """Epoch seconds, a full hour."""
    sums: Sums | None
    """Of the part that is known; None: none is."""
    known_part: float
    """The known time of the kind's domains by the hour of each, 0 to 1."""


class NodeHours(msgspec.Struct, frozen=True):
    """A node's hours, and how far its points go (epoch seconds); None: there are none."""

    node: str
    to_s: float | None
    hours: tuple[KindHour, ...]


class _Hour(msgspec.Struct):
    jobs_uj: int = 0
    idle_uj: int = 0
    system_uj: int = 0
    known_ns: int = 0


def node_hours(node: str, db: sqlite3.Connection, from_s: float, to_s: float) -> NodeHours:
    """A node's energy by kind and hour.

    Args:
        node: its name.
        db: its file.
        from_s: the hours begin at or after this, epoch seconds.
        to_s: they are over by then.

    Returns:
        Hours of which anything was written; of an hour that its points do not reach to the end, what they tell.
    """
    begin, end = ceil(from_s / HOUR_S) * HOUR_S, floor(to_s / HOUR_S) * HOUR_S
    found: dict[tuple[DomainKind, int], list[_Hour]] = {}
    written: set[int] = set()
    reach_s: float | None = None
    for name, kind, reason in db.execute(_DOMAINS).fetchall():
        asked = {"idle": IDLE, "system": SYSTEM, "domain": name, "from": begin}
        commits = [
            Commit(at_s, (jobs, idle, system), known)
            for at_s, jobs, idle, system, known in db.execute(_COMMITS, asked)
        ]
        if not commits:
            continue
        [first_s] = db.execute(_FIRST, (IDLE, name)).fetchone()
        first, last = commits[0], commits[-1]
        reach_s = last.at_s if reach_s is None else max(reach_s, last.at_s)
        if first.at_s == first_s and first.known_ns <= YOUNG_NS:
            commits.insert(0, Commit(first_s - first.known_ns / NS, (0, 0, 0), 0))
        hours = spread(commits, begin, end)
        # A commit is of the hour that it ends.
        written |= {ceil(one.at_s / HOUR_S) * HOUR_S - HOUR_S for one in commits} | set(hours)
        # One that cannot be read is still there; one that is absent is not.
        gone_s = end if reason is not None and not reason.startswith("absent") else last.at_s
        for hour in range(max(begin, floor(commits[0].at_s / HOUR_S) * HOUR_S), end, HOUR_S):
            if hour < gone_s:
                found.setdefault((kind, hour), []).append(hours.get(hour, _Hour()))
    return NodeHours(
        node,
        reach_s,
        tuple(_kind(node, kind, hour, some) for (kind, hour), some in sorted(found.items()) if hour in written),
    )


def spread(commits: Iterable[Commit], begin: int, end: int) -> dict[int, _Hour]:
    """What came between a domain's commits, by full hour.

    Args:
        commits: in the order of their stamps; one that knows less than one before it (the clock was set back) is left
            out.
        begin: the first hour.
        end: where the last hour ends.

    Returns:
        Hours in which anything came, or became known. All of them from the first commit to the last sum to the
        difference of the two.
    """
    found: dict[int, _Hour] = {}
    before: Commit | None = None
    for one in commits:
        if before is None:
            before = one
        elif _has_grown(before, one):
            _add(found, before, one, begin, end)
            before = one
    return found


def _has_grown(before: Commit, after: Commit) -> bool:
    steps = [now - then for then, now in zip(_each(before), _each(after), strict=True)]
    return min(steps) >= 0 and max(steps) > 0


def _each(one: Commit) -> tuple[int, int, int, int]:
    return (*one.sums, one.known_ns)


def _add(found: dict[int, _Hour], before: Commit, after: Commit, begin: int, end: int) -> None:
    lasted_s = after.at_s - before.at_s
    grown_s = (after.known_ns - before.known_ns) / NS
    span_s = min(grown_s, lasted_s) if grown_s > 0 else lasted_s
    from_s = after.at_s - span_s
    steps = [now - then for then, now in zip(_each(before), _each(after), strict=True)]

    def until(at_s: float) -> list[int]:
        if at_s >= after.at_s:
            return steps
        return [int(step * (at_s - from_s) / span_s) if at_s > from_s else 0 for step in steps]

    hour = max(begin, floor(from_s / HOUR_S) * HOUR_S)
    done = until(hour)
    while hour < min(end, after.at_s):
        now = until(hour + HOUR_S)
        one = found.setdefault(hour, _Hour())
        jobs, idle, system, known = (more - less for less, more in zip(done, now, strict=True))
        one.jobs_uj += jobs
        one.idle_uj += idle
        one.system_uj += system
        one.known_ns += known
        hour, done = hour + HOUR_S, now


def _kind(node: str, kind: DomainKind, hour: int, some: list[_Hour]) -> KindHour:
    known_ns = sum(one.known_ns for one in some)
    sums = tuple(sum(getattr(one, name) for one in some) for name in ("jobs_uj", "idle_uj", "system_uj"))
    known = known_ns > 0 or any(sums)
    part = min(known_ns / (len(some) * HOUR_S * NS), 1.0)
    return KindHour(node, kind, hour, (sums[0], sums[1], sums[2]) if known else None, part)
