"""The books of a time (a day, a month) from a node's points: measured = jobs + idle + system between two cuts.

About once a minute the daemon writes, in one commit, where each domain stands and what of it is idle's, system's and
each open run's. A time is cut at such commits, the last until its edge: nothing is interpolated, what jobs have is the
rest, and days that follow each other are cut at the same commit, so that they join. That rest must be what the runs'
own points say. Where a run has none there (an earlier release wrote its file, or its energy was still to come when it
ended), it has at least what its last point before says, and at most what the next one does. What jobs have must lie
within; by how much it does not is the difference.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from jobimpact.core.records import IDLE, PAST, SYSTEM, DomainKind
from jobimpact.core.units import NS

__all__ = ["NodeSpan", "RunPart", "SpanLine", "SpanMeter", "Sums", "span_books"]

MARGIN_S = 60.0
"""A point of `idle` is due when the clock is this far from the last: so far a point's stamp may be out of order."""
YOUNG_NS = 300 * NS
"""A domain of which a point knows no more than this has all its points; else those of before are gone."""
HEALED_S = 25 * 3600.0
"""A counter that cannot be read is waited for a day: so late energy may come, and what was unknown be known."""
GROWTHS = 2
"""The first energy that is booked after a run's end may be of the time before it, the second is not."""
MANY_POINTS = 20_000
"""Two days of them: no energy is waited for so long."""

_DOMAINS = """
SELECT d.name, d.kind, d.method, d.measured_uj, d.unknown_ns, d.known_ns, d.reason,
  coalesce(i.uj, 0), coalesce(s.uj, 0),
  (SELECT max(wall_s) FROM node_power p WHERE p.domain = d.name)
FROM domain d
LEFT JOIN ledger i ON i.domain = d.name AND i.holder = ? LEFT JOIN ledger s ON s.domain = d.name AND s.holder = ?
ORDER BY d.kind, d.name
"""
_COMMITS = """
SELECT i.wall_s, p.measured_uj, i.uj, coalesce(s.uj, 0), i.known_ns
FROM job_energy i
CROSS JOIN node_power p ON p.domain = i.domain AND p.wall_s = i.wall_s
LEFT JOIN job_energy s ON s.run = :system AND s.domain = i.domain AND s.wall_s = i.wall_s
WHERE i.run = :idle AND i.domain = :domain AND i.wall_s <= :at
"""
_LAST = _COMMITS + "ORDER BY i.wall_s DESC LIMIT 1"
# What a domain knows only grows: it tells the order in which the daemon wrote, whatever the clock said.
_LATEST = _COMMITS + "ORDER BY i.known_ns DESC, i.uj DESC, i.wall_s DESC LIMIT 1"
_OUT_OF_ORDER = """
SELECT 1 FROM job_energy WHERE run = ? AND domain = ?
AND ((wall_s < ? AND known_ns > ?) OR (wall_s > ? AND known_ns < ?)) LIMIT 1
"""
_KNOWN = "SELECT known_ns FROM job_energy WHERE run = ? AND domain = ? AND wall_s = ?"
_FIRST = "SELECT min(wall_s), min(known_ns) FROM job_energy WHERE run = ? AND domain = ?"
_NEXT = "SELECT wall_s FROM job_energy WHERE run = ? AND domain = ? AND wall_s > ? ORDER BY wall_s LIMIT 1"
_UNKNOWN = "SELECT min(unknown_ns) FROM node_power WHERE domain = ? AND wall_s >= ? AND wall_s <= ?"
_BEFORE = "SELECT wall_s, measured_uj FROM node_power WHERE domain = ? AND wall_s < ? ORDER BY wall_s DESC"
_METERED = "SELECT measured_uj FROM node_power WHERE domain = ? AND wall_s = ?"
_METERED_FIRST = "SELECT min(wall_s) FROM node_power WHERE domain = ?"
_RUNS = """
SELECT run, job, start_s, end_s, state FROM run WHERE start_s <= :until AND (end_s IS NULL OR end_s > :final)
"""
_FINALS = """
SELECT l.holder, l.domain, l.uj FROM run r JOIN ledger l ON l.holder = r.run
WHERE r.start_s <= :until AND (r.end_s IS NULL OR r.end_s > :final)
"""
_EARLIER = """
SELECT l.domain, sum(l.uj) FROM run r JOIN ledger l ON l.holder = r.run WHERE r.end_s <= :final GROUP BY l.domain
UNION ALL SELECT domain, uj FROM ledger WHERE holder = :past
"""
_ALL_JOBS = "SELECT domain, sum(uj) FROM ledger WHERE holder NOT IN (?, ?) GROUP BY domain"
_POINT_AT = "SELECT uj FROM job_energy WHERE run = ? AND domain = ? AND wall_s = ?"
_POINT_BEFORE = """
SELECT uj FROM job_energy WHERE run = ? AND domain = ? AND wall_s <= ? AND wall_s < ? ORDER BY wall_s DESC LIMIT 1
"""
_POINT_AFTER = "SELECT uj FROM job_energy WHERE run = ? AND domain = ? AND wall_s >= ? ORDER BY wall_s LIMIT 1"

FOREVER = float("inf")

_Bounds = dict[str, tuple[int, int]]
"""Of runs: at least and at most so much."""


class Sums(msgspec.Struct, frozen=True):
    """Microjoules: what was measured, and who it belongs to."""

    measured_uj: int = 0
    jobs_uj: int = 0
    idle_uj: int = 0
    system_uj: int = 0

    @property
    def difference_uj(self) -> int:
        """What the books are out by: 0, or something is wrong."""
        return self.measured_uj - self.jobs_uj - self.idle_uj - self.system_uj

    def __add__(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(*(one + more for one, more in zip(self.each(), other.each(), strict=True)))

    def each(self) -> tuple[int, int, int, int]:
        """Measured, jobs, idle, system."""
        return self.measured_uj, self.jobs_uj, self.idle_uj, self.system_uj


class SpanLine(msgspec.Struct, frozen=True):
    """One domain of one node over a time. Stamps are epoch seconds, UTC."""

    node: str
    domain: str
    kind: DomainKind
    method: str
    from_s: float | None = None
    """Where it is really cut; None: its books begin within the time, or are not known at its begin."""
    to_s: float | None = None
    began_s: float | None = None
    """Its first point, where that lies within the time."""
    sums: Sums | None = None
    """None: not known, and `reason` says why."""
    reason: str | None = None
    unknown_s: float | None = None
    known_s: float | None = None
    jobs_low_uj: int | None = None
    """At least so much is jobs' by their own points, and at most `jobs_high_uj`; None: the clock was set back over
    an edge, so that nobody can tell, and what jobs have is what idle and system have not."""
    jobs_high_uj: int | None = None

    @property
    def slack_uj(self) -> int | None:
        """How far the bounds of jobs' energy are apart; None: there are none."""
        return None if self.jobs_low_uj is None or self.jobs_high_uj is None else self.jobs_high_uj - self.jobs_low_uj

    @property
    def silent_s(self) -> float:
        """For how long nothing is said: the node was off, or its daemon stopped."""
        if self.from_s is None or self.to_s is None or self.known_s is None or self.unknown_s is None:
            return 0.0
        return self.to_s - self.from_s - self.known_s - self.unknown_s


class SpanMeter(msgspec.Struct, frozen=True):
    """One meter of a whole node over a time: measured = parts (that it sees) + rest + open."""

    node: str
    meter: str
    method: str
    measured_uj: int | None
    unknown_s: float | None
    parts_uj: int | None = None
    rest_uj: int | None = None
    deficit_uj: int | None = None
    """What the parts have measured more than the meter and is not paid back, now; None where the time ended before."""
    reason: str | None = None

    @property
    def open_uj(self) -> int | None:
        """Measured in windows that were open at an edge, or beside gaps, less what deficits grew by."""
        if self.measured_uj is None or self.parts_uj is None or self.rest_uj is None:
            return None
        return self.measured_uj - self.parts_uj - self.rest_uj


class RunPart(msgspec.Struct, frozen=True):
    """What a run used of all domains of its node within a time."""

    node: str
    job: str
    start_s: float
    running: bool
    uj: int
    whole_uj: int
    """What it has used since it began."""


class NodeSpan(msgspec.Struct, frozen=True):
    """One node over a time."""

    node: str
    lines: tuple[SpanLine, ...]
    meters: tuple[SpanMeter, ...]
    runs: tuple[RunPart, ...] | None
    """None: what jobs have cannot be told one from the other, for the clock was set back over an edge."""


class _Domain(msgspec.Struct, frozen=True, array_like=True):
    """A domain as it stands now."""

    name: str
    kind: DomainKind
    method: str
    measured_uj: int
    unknown_ns: int
    known_ns: int
    reason: str | None
    idle_uj: int
    system_uj: int
    last_s: float | None
    """Its last point."""


class _Standing(msgspec.Struct, frozen=True):
    """A domain at a cut."""

    kind: Literal["began", "cut", "now"]
    at_s: float
    """Of `began`, its first point: it has nothing yet."""
    measured_uj: int = 0
    idle_uj: int = 0
    system_uj: int = 0
    known_ns: int = 0
    unknown_ns: int = 0
    final_s: float = -FOREVER
    """Nothing is booked after the cut for runs that ended until then."""
    in_order: bool = True
    """The clock was not set back over it."""


class _Jobs(msgspec.Struct, frozen=True):
    """What jobs have at a cut: in all, the bounds of that, and each run that is not final."""

    uj: int
    low_uj: int
    high_uj: int
    runs: dict[str, int]


class _Run(msgspec.Struct, frozen=True, array_like=True):
    run: str
    job: str
    start_s: float
    end_s: float | None
    state: str


def span_books(node: str, db: sqlite3.Connection, from_s: float, to_s: float) -> NodeSpan:
    """A node's books over a time.

    Args:
        node: its name.
        db: its file.
        from_s: where the time begins, epoch seconds.
        to_s: where it ends; after the last point: now.

    Returns:
        A line for each domain; times that follow each other add up to the whole.
    """
    rows = db.execute(_DOMAINS, (IDLE, SYSTEM)).fetchall()
    domains = [msgspec.convert(row, _Domain) for row in rows]
    parts = [one for one in domains if one.kind != "node"]
    order = _Order(db, [one.name for one in parts])
    edges = {one.name: (_standing(db, one, from_s, order), _standing(db, one, to_s, order)) for one in parts}
    runs = _Runs(db, [(begin, end) for begin, end in edges.values() if begin and end])
    grown: dict[str, int] | None = {}
    lines = []
    for one in parts:
        line, parted = _line(db, node, one, *edges[one.name], runs)
        lines.append(line)
        if parted is None or grown is None:
            grown = None
        else:
            for run, uj in parted.items():
                grown[run] = grown.get(run, 0) + uj
    meters = [_meter(db, node, one, domains, edges, lines) for one in domains if one.kind == "node"]
    return NodeSpan(node, tuple(lines), tuple(meters), None if grown is None else runs.parts(node, grown))


# -- cuts --------------------------------------------------------------------------------------------------------


class _Order:
    """Whether all that is stamped before a commit was written before it, and the rest after it: each asked once."""

    def __init__(self, db: sqlite3.Connection, domains: Sequence[str]) -> None:
        self._db = db
        self._domains = domains
        self._known: dict[tuple[str, float], bool] = {}

    def of(self, domain: str, at_s: float) -> bool:
        """By one domain's points."""
        if (domain, at_s) not in self._known:
            row = self._db.execute(_KNOWN, (IDLE, domain, at_s)).fetchone()
            asked = () if row is None else (IDLE, domain, at_s, row[0], at_s, row[0])
            self._known[domain, at_s] = row is None or self._db.execute(_OUT_OF_ORDER, asked).fetchone() is None
        return self._known[domain, at_s]

    def of_all(self, at_s: float) -> bool:
        """By all domains': one that came later does not tell of a clock that was set before."""
        return all(self.of(domain, at_s) for domain in self._domains)


def _standing(db: sqlite3.Connection, domain: _Domain, at_s: float, order: _Order) -> _Standing | None:
    """Where a domain stood at the last commit until a time that tells all of it; None: not known any more."""
    if domain.last_s is not None and at_s >= domain.last_s:
        return _Standing(
            *("now", domain.last_s, domain.measured_uj, domain.idle_uj, domain.system_uj),
            *(domain.known_ns, domain.unknown_ns, FOREVER),
        )
    asked = {"idle": IDLE, "system": SYSTEM, "domain": domain.name, "at": at_s}
    row = db.execute(_LAST, asked).fetchone()
    if row is None:
        return _began(db, domain, at_s)
    if not order.of(domain.name, row[0]):
        row = db.execute(_LATEST, asked).fetchone()
    cut_s, measured_uj, idle_uj, system_uj, known_ns = row
    unknown_ns, final_s = _unknown_ns(db, domain, cut_s), _final_s(db, domain.name, cut_s, measured_uj)
    in_order = order.of_all(cut_s)
    return _Standing("cut", cut_s, measured_uj, idle_uj, system_uj, known_ns, unknown_ns, final_s, in_order)


def _began(db: sqlite3.Connection, domain: _Domain, at_s: float) -> _Standing | None:
    """Before its first point a domain had nothing, if that is where it began."""
    [looked_s] = db.execute(_METERED_FIRST, (domain.name,)).fetchone()
    # Where the clock was set back since, the first by its stamp is not the first that was written.
    first_s, known_ns = db.execute(_FIRST, (IDLE, domain.name)).fetchone()
    if first_s is None:  # of one that came within the last minute there is no point of `idle` yet
        first_s, known_ns = looked_s, domain.known_ns
    if first_s is None or known_ns > YOUNG_NS:
        return None
    unknown_ns = 0 if looked_s is None or looked_s > at_s else _unknown_ns(db, domain, at_s)
    return _Standing("began", first_s, unknown_ns=unknown_ns)


def _unknown_ns(db: sqlite3.Connection, domain: _Domain, at_s: float) -> int:
    """For how long its energy until a cut is not known: an outage that a counter has bridged since was none."""
    [least] = db.execute(_UNKNOWN, (domain.name, at_s, at_s + HEALED_S)).fetchone()
    return domain.unknown_ns if least is None else min(least, domain.unknown_ns)


def _final_s(db: sqlite3.Connection, domain: str, at_s: float, measured_uj: int) -> float:
    """Until when a run must have ended for all its energy to be booked at a cut."""
    growths, before_s = 0, at_s
    for number, (before_s, uj) in enumerate(db.execute(_BEFORE, (domain, at_s)), 1):
        if uj < measured_uj:
            growths, measured_uj = growths + 1, uj
        if growths == GROWTHS or number == MANY_POINTS:
            return float(before_s) - MARGIN_S
    return before_s - HEALED_S  # no earlier points are there


# -- jobs at a cut -------------------------------------------------------------------------------------------------


class _Runs:
    """The runs that have something to do with a time, and what those of before have had."""

    def __init__(self, db: sqlite3.Connection, edges: list[tuple[_Standing, _Standing]]) -> None:
        self._db = db
        begins = [begin.final_s for begin, _ in edges if begin.kind != "began"]
        until_s = max((FOREVER if end.kind == "now" else end.at_s + MARGIN_S for _, end in edges), default=-FOREVER)
        asked = {"until": until_s, "final": min(begins, default=-FOREVER), "past": PAST}
        self._runs = [msgspec.convert(row, _Run) for row in db.execute(_RUNS, asked)] if edges else []
        self._finals: dict[str, dict[str, int]] = {}
        for run, domain, uj in db.execute(_FINALS, asked) if edges else ():
            self._finals.setdefault(domain, {})[run] = uj
        self._earlier: dict[str, int] = {}
        for domain, uj in db.execute(_EARLIER, asked) if edges else ():
            self._earlier[domain] = self._earlier.get(domain, 0) + uj
        self._all = dict(db.execute(_ALL_JOBS, (IDLE, SYSTEM))) if until_s == FOREVER else {}

    def jobs(self, domain: str, cut: _Standing) -> _Jobs:
        """What jobs have of a domain at a cut."""
        if cut.kind == "began":
            return _Jobs(0, 0, 0, {})
        if cut.kind == "now":
            uj = self._all.get(domain, 0)
            return _Jobs(uj, uj, uj, self._finals.get(domain, {}))
        finals = self._finals.get(domain, {})
        runs: dict[str, int] = {}
        begun: _Bounds = {}
        later: _Bounds = {}
        for one in self._runs:
            if one.end_s is not None and one.end_s <= cut.final_s:
                runs[one.run] = finals.get(one.run, 0)
            elif one.start_s <= cut.at_s + MARGIN_S and finals.get(one.run):
                there = begun if one.start_s <= cut.at_s else later
                there[one.run] = self._bounds(one, domain, cut.at_s, finals[one.run])
        sure_uj = self._earlier.get(domain, 0) + sum(runs.values())
        low_uj, high_uj = (sure_uj + _sum(begun, at) + _sum(later, at) for at in range(2))
        uj = cut.measured_uj - cut.idle_uj - cut.system_uj
        if not cut.in_order:
            return _Jobs(uj, low_uj, high_uj, {})
        uj = min(max(uj, low_uj), high_uj)
        # Who began later by the clock has something only where the others' bounds leave it.
        begun_uj = min(uj - sure_uj - _sum(later, 0), _sum(begun, 1))
        shares = _between(begun, begun_uj) | _between(later, uj - sure_uj - begun_uj)
        return _Jobs(uj, low_uj, high_uj, runs | shares)

    def _bounds(self, one: _Run, domain: str, at_s: float, final_uj: int) -> tuple[int, int]:
        """At least and at most so much a run has of a domain at a cut."""
        end_s = FOREVER if one.end_s is None else one.end_s
        if at_s < end_s:
            row = self._db.execute(_POINT_AT, (one.run, domain, at_s)).fetchone()
            if row is not None:
                return row[0], row[0]
        # A run's last point has its end's stamp, and what was booked for it later.
        before = self._db.execute(_POINT_BEFORE, (one.run, domain, at_s - MARGIN_S, end_s)).fetchone()
        after = self._db.execute(_POINT_AFTER, (one.run, domain, at_s + MARGIN_S)).fetchone()
        return before[0] if before else 0, after[0] if after else final_uj

    def parts(self, node: str, grown: Mapping[str, int]) -> tuple[RunPart, ...]:
        """What each run used."""
        known = {one.run: one for one in self._runs}
        wholes: dict[str, int] = {}
        for finals in self._finals.values():
            for run, uj in finals.items():
                wholes[run] = wholes.get(run, 0) + uj
        return tuple(
            RunPart(node, known[run].job, known[run].start_s, known[run].state == "open", uj, wholes[run])
            for run, uj in sorted(grown.items())
            if uj
        )


def _sum(bounds: _Bounds, at: int) -> int:
    """Of the lower bounds (0) or the upper (1)."""
    return sum(bound[at] for bound in bounds.values())


def _between(bounds: _Bounds, uj: int) -> dict[str, int]:
    """An energy shared out so that each has what lies between its bounds, all at the same part of the way."""
    widths = {run: high - low for run, (low, high) in bounds.items()}
    whole, over = sum(widths.values()), uj - sum(low for low, _ in bounds.values())
    if not whole:
        return {run: low for run, (low, _) in bounds.items()}
    shares = {run: over * width // whole for run, width in widths.items()}
    lacking = over - sum(shares.values())
    for run in sorted(widths, key=lambda one: (-(over * widths[one] % whole), one))[:lacking]:
        shares[run] += 1
    return {run: low + shares[run] for run, (low, _) in bounds.items()}


# -- lines ---------------------------------------------------------------------------------------------------------


def _line(
    db: sqlite3.Connection, node: str, one: _Domain, begin: _Standing | None, end: _Standing | None, runs: _Runs
) -> tuple[SpanLine, dict[str, int] | None]:
    """A domain's line, and what each run used of it; None: that cannot be told."""
    head = (node, one.name, one.kind, one.method)
    if begin is None or end is None:
        from_s, to_s = (cut.at_s if cut and cut.kind != "began" else None for cut in (begin, end))
        return SpanLine(*head, from_s, to_s, reason=_why_unknown(db, one)), {}
    if end.kind == "began":
        return SpanLine(*head, reason=f"its books begin at {_stamp(end.at_s)}", sums=None), {}
    began = begin.kind == "began"
    line = SpanLine(*head, None if began else begin.at_s, end.at_s, begin.at_s if began else None)
    if begin == end:
        return msgspec.structs.replace(line, reason=_why_silent(db, one, end)), {}
    unknown_s, known_s = (end.unknown_ns - begin.unknown_ns) / NS, (end.known_ns - begin.known_ns) / NS
    line = msgspec.structs.replace(line, unknown_s=unknown_s, known_s=known_s)
    jobs = [runs.jobs(one.name, cut) for cut in (begin, end)]
    then, now = jobs
    sums = Sums(
        end.measured_uj - begin.measured_uj,
        now.uj - then.uj,
        end.idle_uj - begin.idle_uj,
        end.system_uj - begin.system_uj,
    )
    if not any(sums.each()) and end.known_ns == begin.known_ns:
        unsettled = "no window was settled in this time" if one.kind == "rest" else "it was not read in this time"
        return msgspec.structs.replace(line, reason=one.reason or unsettled), {}
    line = msgspec.structs.replace(line, sums=sums)
    if not (begin.in_order and end.in_order):
        return line, None
    low_uj, high_uj = now.low_uj - then.high_uj, now.high_uj - then.low_uj
    grown = {run: now.runs.get(run, 0) - then.runs.get(run, 0) for run in {**then.runs, **now.runs}}
    return msgspec.structs.replace(line, jobs_low_uj=low_uj, jobs_high_uj=high_uj), grown


def _why_unknown(db: sqlite3.Connection, one: _Domain) -> str:
    if not one.known_ns:
        return one.reason or "nothing is known of it yet"
    [first_s] = db.execute(_FIRST, (IDLE, one.name)).fetchone()[:1]
    if first_s is None:
        return "its node wrote no points of it"
    return f"its points before {_stamp(first_s)} are not there any more"


def _why_silent(db: sqlite3.Connection, one: _Domain, cut: _Standing) -> str:
    if cut.kind == "now":
        return f"nothing was written since {_stamp(cut.at_s)}"
    row = db.execute(_NEXT, (IDLE, one.name, cut.at_s)).fetchone()
    if row is None:
        return one.reason or f"nothing was written of it since {_stamp(cut.at_s)}"
    return f"nothing was written from {_stamp(cut.at_s)} to {_stamp(row[0])}: what came then is booked there"


def _meter(
    db: sqlite3.Connection,
    node: str,
    one: _Domain,
    domains: Iterable[_Domain],
    edges: Mapping[str, tuple[_Standing | None, _Standing | None]],
    lines: Iterable[SpanLine],
) -> SpanMeter:
    """A meter of the whole node, cut where its parts are."""
    known = [(begin, end) for begin, end in edges.values() if begin and end and end.kind != "began" and begin != end]
    if not known:
        return SpanMeter(node, one.name, one.method, None, None, reason="no part of its node tells where to cut it")
    # A part that came within the time begins with nothing: the others tell where the time does.
    begin, end = min((edge for edge in known), key=lambda edge: (edge[0].kind == "began", -edge[1].at_s))
    then, now = (_metered(db, one, cut) for cut in (begin, end))
    if then is None or now is None:
        return SpanMeter(node, one.name, one.method, None, None, reason="its points are not there any more")
    found = SpanMeter(node, one.name, one.method, now[0] - then[0], (now[1] - then[1]) / NS)
    came_s = db.execute(_METERED_FIRST, (one.name,)).fetchone()[0]
    if begin.kind == "cut" and came_s is not None and came_s > begin.at_s:
        return msgspec.structs.replace(
            found, reason=f"it came at {_stamp(came_s)}: its parts' books are of a longer time"
        )
    if found.measured_uj == 0 and not one.measured_uj:
        return msgspec.structs.replace(found, measured_uj=None, reason=one.reason or "nothing is known of it yet")
    whole = _whole(db)
    if whole is None or whole[0] != one.name:
        return msgspec.structs.replace(found, reason="the rest is taken from another meter")
    if sum(other.kind == "node" for other in domains) > 1:
        return msgspec.structs.replace(found, reason="its node's windows were settled with several meters")
    cuts = {(begin.kind == "began", begin.at_s if begin.kind != "began" else 0.0, end.at_s)}
    others = [(b, e) for b, e in known if b.kind != "began"]
    if any((False, b.at_s, e.at_s) not in cuts for b, e in others):
        return msgspec.structs.replace(found, reason="its parts are cut at other moments")
    unseen = _excludes(db, one.name)
    sums = [(line.kind, line.sums.measured_uj) for line in lines if line.sums and line.kind not in unseen]
    return msgspec.structs.replace(
        found,
        parts_uj=sum(uj for kind, uj in sums if kind != "rest"),
        rest_uj=sum(uj for kind, uj in sums if kind == "rest"),
        deficit_uj=whole[1] if end.kind == "now" else None,
    )


def _metered(db: sqlite3.Connection, one: _Domain, cut: _Standing) -> tuple[int, int] | None:
    """What a meter has measured until a cut, and for how long that is not known."""
    if cut.kind == "now":
        return one.measured_uj, one.unknown_ns
    row = db.execute(_METERED, (one.name, cut.at_s)).fetchone()
    if cut.kind == "cut" and row is not None:
        return row[0], _unknown_ns(db, one, cut.at_s)
    [first_s] = db.execute(_METERED_FIRST, (one.name,)).fetchone()
    return (0, 0) if cut.kind == "began" or first_s is None or first_s > cut.at_s else None


def _excludes(db: sqlite3.Connection, meter: str) -> Sequence[str]:
    """The kinds of parts that a meter does not see; those of a file of an earlier release are not known."""
    row = db.execute("SELECT value FROM meta WHERE key = 'excludes'").fetchone()
    try:
        return msgspec.json.decode(row[0], type=dict[str, list[str]]).get(meter, []) if row else []
    except msgspec.MsgspecError:
        return []


def _whole(db: sqlite3.Connection) -> tuple[str | None, int] | None:
    # A file of an earlier schema has no such table, and no such meter.
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'whole'").fetchone():
        return None
    row = db.execute("SELECT meter, deficit_uj FROM whole").fetchone()
    return None if row is None else (row[0], row[1])


def _stamp(at_s: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{at_s:.0f} s of the epoch"
