"""What is to go to the server: points of each commit, kept in the ledger's own file and written in its transaction.

So the books and what is told of them are of the same instant: a kill loses no point, and a point that is sent twice
replaces itself. Energies are cumulative: where the server is away for so long that points must be thinned, those that
are left tell every total.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from math import floor
from typing import Literal

import msgspec

from jobimpact.core import series
from jobimpact.core.config import InfluxStore, VictoriaStore
from jobimpact.core.line import line, parse
from jobimpact.core.nodefile import SCHEMA
from jobimpact.core.records import IDLE, SYSTEM
from jobimpact.core.series import Point
from jobimpact.core.units import NS, joules
from jobimpact_daemon.bookkeeper import Bookkeeper
from jobimpact_daemon.books import Account, DomainBook
from jobimpact_daemon.holdings import Run

__all__ = ["LATE_S", "OTHERS", "Delivery", "HealthRow", "Outbox", "RunRow", "unpack"]

PUBLISHER = "publisher"
"""The name among the sources of the way to the server."""
PACKED = 1
"""zlib's level: lines of a commit are alike, and more work saves little."""
PARTS = 8
"""A full outbox is made smaller by one part of this, so that it is seldom looked through."""
AT_ONCE = 4 << 20
"""Bytes of which one commit frees no more: the sampler waits for it."""
LATE_S = 600.0
"""Points that wait for longer than this have something in their way."""
LOOK_BACK = 20
"""Rows in which the last points of a class are looked for at a start."""
OTHERS = "outbox_others"
"""The key in `meta` of the last row that may have been written for another engine."""
FREE = (IDLE, SYSTEM)

Class = Literal["profile", "minute", "edge"]
Rows = dict[Class, list[Point]]
HealthRow = tuple[str, float, int, int, int, int, float | None, str | None]
"""As in the table `source_health`: source, wall_s, reads, failures, took_ns, busy_ns, age_s, problem."""
RunRow = tuple[object, ...]
"""As in the table `run`."""
_Series = frozenset[tuple[str | None, ...]]


class Delivery(msgspec.Struct, frozen=True):
    """How the publisher has done since it started."""

    batches: int = 0
    failures: int = 0
    took_ns: int = 0
    busy_ns: int = 0
    problem: str | None = None


class _Stood(msgspec.Struct, frozen=True):
    """A domain at its last power point."""

    measured_uj: int
    known_ns: int


class _After(msgspec.Struct):
    """What holds once the transaction is on disk."""

    begun: set[str]
    stood: dict[str, _Stood]
    owed: set[tuple[str, str]]
    closed: dict[str, RunRow]
    last: dict[tuple[Class, str], tuple[int, _Series]]
    thinned: dict[Class, int]
    try_above: int


class Outbox:
    """One node's points that the server does not have yet.

    Args:
        store: the server's section of the configuration.
        cluster: the cluster's name.
        node: the node's.
        cap_bytes: how large it may be, packed; None: as the store says.
    """

    def __init__(
        self, store: InfluxStore | VictoriaStore, cluster: str, node: str, cap_bytes: int | None = None
    ) -> None:
        self.delivery: Callable[[], Delivery] = Delivery
        """Tells how the publisher does."""
        self.late: str | None = None
        """Since when points wait, and for what, where that is long; as of the last `health`."""
        self._words_as_tags = isinstance(store, VictoriaStore)
        self._engine = "victoriametrics" if self._words_as_tags else "influxdb"
        self._where = (cluster, node)
        self._cap = store.outbox_mb << 20 if cap_bytes is None else cap_bytes
        self._now = _After(set(), {}, set(), {}, {}, {}, self._cap)
        self._next = self._now
        self._whole = True
        """Since the start no minute has been written: all is told once, whether it has changed or not."""
        self._thinned_s: float | None = None

    def load(self, db: sqlite3.Connection) -> None:
        """Go on with what is in the file.

        Raises:
            sqlite3.Error: it cannot be read.
        """
        last: dict[tuple[Class, str], tuple[int, _Series]] = {}
        for class_ in ("profile", "minute"):
            asked = "SELECT id, lines FROM outbox WHERE class = ? ORDER BY id DESC LIMIT ?"
            for id_, packed in db.execute(asked, (class_, LOOK_BACK)):
                try:
                    text = unpack(packed).decode()
                except (zlib.error, UnicodeDecodeError):
                    continue  # the publisher tells of it, and leaves it out
                points = [point for point in map(parse, text.split("\n")) if point is not None]
                for name, found in _series_of(points).items():
                    last.setdefault((class_, name), (id_, found))
        self._now.last = last
        self._mark_others(db)

    def _mark_others(self, db: sqlite3.Connection) -> None:
        """What waits may have been written for another engine: the publisher is told up to where."""
        [before] = db.execute("SELECT max(value) FROM meta WHERE key = 'outbox'").fetchone()
        if before is not None and before != self._engine:
            [last] = db.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (OTHERS, str(last)))
        db.execute("INSERT OR REPLACE INTO meta VALUES ('outbox', ?)", (self._engine,))

    def go_on(self, runs: Collection[str]) -> None:
        """These runs are in the file: they have had their start."""
        self._now.begun = set(runs)

    # -- in the ledger's transaction -------------------------------------------------------------------------------

    def health(self, db: sqlite3.Connection, wall_s: float) -> HealthRow:
        """How the way to the server is: the age is that of the oldest point that waits."""
        row = db.execute("SELECT stamp_ms FROM outbox ORDER BY id LIMIT 1").fetchone()
        age_s = 0.0 if row is None else max(0.0, wall_s - row[0] / 1000)
        one = self.delivery()
        self.late = None
        if row is not None and age_s > LATE_S:
            self.late = f"points wait since {_stamp(row[0] / 1000)}: {one.problem or 'they are on their way'}"
        said = [one.problem] if one.problem else []
        if self._now.thinned and self._thinned_s is not None:
            said.append(f"it was full: {_told(self._now.thinned)} were thinned, last at {_stamp(self._thinned_s)}")
        if self._now.try_above > self._cap:
            said.append("starts and ends of jobs alone are more than outbox_mb")
        counts = (one.batches, one.failures, one.took_ns, one.busy_ns)
        return PUBLISHER, wall_s, *counts, age_s, "; ".join(said) or None

    def put(
        self,
        db: sqlite3.Connection,
        books: Bookkeeper,
        runs: Sequence[tuple[Run, RunRow]],
        *,
        minute: bool,
        power: bool,
        health: Iterable[HealthRow],
    ) -> None:
        """Add the points of this commit.

        Args:
            db: in the transaction, after the books.
            books: the bookkeeper.
            runs: those that are open or have closed, with their rows.
            minute: all holders have a point now.
            power: all domains have one.
            health: the sources' points, where they have one now.

        Raises:
            sqlite3.Error: it cannot be written.
        """
        now = self._now
        after = self._next = msgspec.structs.replace(
            now, begun=set(now.begun), closed=dict(now.closed), owed=set(now.owed), last=dict(now.last)
        )
        stamp_ms = floor(books.state.wall_s * 1000)
        rows: Rows = {"edge": [], "minute": [], "profile": []}
        after.owed |= {key for key in books.touched if key[1] in FREE}
        self._add_runs(rows, books, runs, stamp_ms, after, minute=minute)
        rows["edge"] += self._words(books)
        if minute:
            owed = {key for key in books.accounts if key[1] in FREE} if self._whole else after.owed
            rows["minute"] += self._free(books, stamp_ms, owed)
            rows["minute"] += self._domains(db, books, stamp_ms)
            after.owed = set()
        if power:
            rows["profile"] += self._power(books, stamp_ms, after)
        rows["profile"] += self._health(health, stamp_ms)
        for class_, points in rows.items():
            self._insert(db, class_, points, stamp_ms, after)
        self._thin(db, books.state.wall_s, after)

    def committed(self, wall_s: float, *, minute: bool) -> None:
        """What was put is on disk."""
        if self._next.thinned != self._now.thinned:
            self._thinned_s = wall_s
        self._now = self._next
        if minute:
            self._whole = False

    # -- points ----------------------------------------------------------------------------------------------------

    def _add_runs(
        self,
        rows: Rows,
        books: Bookkeeper,
        runs: Sequence[tuple[Run, RunRow]],
        stamp_ms: int,
        after: _After,
        *,
        minute: bool,
    ) -> None:
        """Starts and ends are edges; those between are of the minute. An end is told again when it has changed."""
        due: dict[str, Class] = {}
        fresh: dict[str, Run] = {}
        touched = {holder for _, holder in books.touched}
        for run, row in runs:
            if run.key not in after.begun:
                due[run.key], fresh[run.key] = "edge", run
            elif run.state == "open" and minute:
                due[run.key] = "minute"
            if run.state != "open" and (run.key in touched or after.closed.get(run.key) != row):
                due[run.key] = "edge"
                after.closed[run.key] = row
            if run.key in due:
                rows[due[run.key]].append(self._run(row, stamp_ms))
        if due:
            domains = books.state.domains
            for run in fresh.values():
                rows["edge"] += self._zeros(run, books, min(stamp_ms, floor(run.start_s * 1000)), stamp_ms)
            for (domain, key), account in books.accounts.items():
                if key in due:
                    rows[due[key]].append(self._energy(key, domain, domains, account.uj, account.known_ns, stamp_ms))
        held = books.state.holdings.runs
        after.begun = set(held)
        after.closed = {key: row for key, row in after.closed.items() if key in held}

    def _words(self, books: Bookkeeper) -> Iterator[Point]:
        """What runs have said of themselves: what is said once cannot be had again."""
        for (key, wall_s, metric), (step, value, uj) in books.words.rows.items():
            at = floor(wall_s * 1000)
            told: dict[str, series.Value | None] = {"stamp_ms": at, "step": step, "energy_uj": uj, "value": value}
            yield Point(series.JOB_PROGRESS, (*self._where, key, metric or None), at, told)
        for (key, name), (text, wall_s) in books.words.labels.items():
            at = floor(wall_s * 1000)
            yield Point(series.JOB_LABEL, (*self._where, key, name), at, {"stamp_ms": at, "value": text})

    def _zeros(self, run: Run, books: Bookkeeper, start_ms: int, stamp_ms: int) -> Iterator[Point]:
        """It had nothing when it began; of GPUs in those that it holds."""
        slices = books.state.holdings.node.slices
        held = {slices[device].gpu if device in slices else device for device in run.gpus}
        for name, book in books.state.domains.items():
            kind = book.domain.kind
            may = kind in ("cpu", "dram", "rest") or (kind == "gpu" and name.partition(":")[2] in held)
            if may and not (start_ms == stamp_ms and (name, run.key) in books.accounts):
                yield self._energy(run.key, name, books.state.domains, 0, 0, start_ms)

    def _run(self, row: RunRow, stamp_ms: int) -> Point:
        key, job, restart, uid, cpus, mem_bytes, gpus, start_s, end_s, elapsed_ns, state, flags, held, used = row
        fields = {"stamp_ms": stamp_ms, "restart": restart, "uid": uid, "cpus": cpus, "mem_bytes": mem_bytes}
        fields |= {"start_ms": _ms(start_s), "end_ms": _ms(end_s), "elapsed_ns": elapsed_ns}
        fields |= {
            "job": job,
            "state": state,
            "gpus": gpus,
            "flags": flags,
            "held": held,
            "used": None if used == "{}" else used,
        }
        return Point(series.JOB_RUN, (*self._where, str(key)), stamp_ms, fields)  # type: ignore[arg-type]

    def _energy(
        self, key: str, domain: str, domains: Mapping[str, DomainBook], uj: int, known_ns: int, stamp_ms: int
    ) -> Point:
        kind = domains[domain].domain.kind if domain in domains else None
        fields: dict[str, series.Value | None] = {"stamp_ms": stamp_ms, "energy_uj": uj, "known_ns": known_ns}
        return Point(series.JOB_ENERGY, (*self._where, key, domain, kind), stamp_ms, fields)

    def _free(self, books: Bookkeeper, stamp_ms: int, owed: Collection[tuple[str, str]]) -> Iterator[Point]:
        """`idle` and `system` where the file has points of them, and where they have grown without one."""
        domains = books.state.domains
        for name, book in domains.items():
            if book.domain.kind == "node":
                continue
            for holder in FREE:
                account = books.accounts.get((name, holder))
                read = book.since_ns is not None and bool(book.known_ns or book.reason is None)
                if (read and (holder == IDLE or account)) or (name, holder) in owed:
                    uj = (account or Account()).uj
                    yield self._energy(holder, name, domains, uj, book.known_ns, stamp_ms)

    def _domains(self, db: sqlite3.Connection, books: Bookkeeper, stamp_ms: int) -> Iterator[Point]:
        """Where each domain stands, whether it is read or not, and the node's own meter."""
        t_ns = books.state.holdings.t_ns
        for name, book in books.state.domains.items():
            known: dict[str, series.Value | None] = {"stamp_ms": stamp_ms, "energy_uj": book.measured_uj}
            known |= {"known_ns": book.known_ns, "unknown_ns": book.unknown_by(t_ns)}
            known |= {"source": book.domain.source, "method": book.domain.method, "reason": book.reason}
            yield Point(series.NODE_DOMAIN, (*self._where, name, book.domain.kind), stamp_ms, known)
        fields: dict[str, series.Value | None] = {"stamp_ms": stamp_ms, "schema": SCHEMA}
        fields["release"] = version("jobimpact")
        if row := db.execute("SELECT meter, meter_uj, parts_uj, deficit_uj FROM whole").fetchone():
            fields |= dict(zip(("meter", "meter_uj", "parts_uj", "deficit_uj"), row, strict=True))
        fields |= dict(db.execute("SELECT key, value FROM meta WHERE key IN ('excludes', 'books')"))
        yield Point(series.NODE_BOOKS, self._where, stamp_ms, fields)

    def _power(self, books: Bookkeeper, stamp_ms: int, after: _After) -> Iterator[Point]:
        """Each domain's energy, and its mean power over what became known since its point before."""
        t_ns = books.state.holdings.t_ns
        stood = {name: _Stood(book.measured_uj, book.known_ns) for name, book in books.state.domains.items()}
        for name, book in books.state.domains.items():
            watts = _watts(after.stood.get(name), stood[name])
            fields: dict[str, series.Value | None] = {"energy_uj": book.measured_uj, "watts": watts}
            fields["unknown_ns"] = book.unknown_by(t_ns)
            yield Point(series.NODE_POWER, (*self._where, name, book.domain.kind), stamp_ms, fields)
        after.stood = stood

    def _health(self, rows: Iterable[HealthRow], stamp_ms: int) -> Iterator[Point]:
        for source, _, reads, failures, took_ns, busy_ns, age_s, problem in rows:
            fields: dict[str, series.Value | None] = {"reads": reads, "failures": failures, "took_ns": took_ns}
            fields |= {"busy_ns": busy_ns, "age_s": age_s, "problem": problem}
            yield Point(series.SOURCE_HEALTH, (*self._where, source), stamp_ms, fields)

    # -- rows ------------------------------------------------------------------------------------------------------

    def _insert(
        self, db: sqlite3.Connection, class_: Class, points: Sequence[Point], stamp_ms: int, after: _After
    ) -> None:
        if not points:
            return
        lines = [line(point, words_as_tags=self._words_as_tags) for point in points]
        packed = zlib.compress("\n".join(lines).encode(), PACKED)
        row = (stamp_ms, class_, points[0].of.kept, len(lines), packed)
        put = "INSERT INTO outbox (stamp_ms, class, kept, n, lines) VALUES (?, ?, ?, ?, ?)"
        id_ = db.execute(put, row).lastrowid or 0
        if class_ == "edge":
            return
        # The last point of a series is never thinned: where this row has none of one, that before becomes an edge.
        for name, found in _series_of(points).items():
            before_id, before = after.last.get((class_, name), (0, frozenset()))
            if not before <= found:
                db.execute("UPDATE outbox SET class = 'edge' WHERE id = ?", (before_id,))
            after.last[class_, name] = id_, found

    def _thin(self, db: sqlite3.Connection, wall_s: float, after: _After) -> None:
        """Make room in a full outbox: every other one of the profile goes, the oldest first, then of the minutes."""
        [total] = db.execute("SELECT sum(bytes) FROM outbox_size").fetchone()
        if total <= after.try_above:
            if total <= self._cap:
                after.try_above = self._cap
            return
        room = min(self._cap // PARTS, AT_ONCE)
        goal = excess = min(total - self._cap + room, AT_ONCE)
        gone: dict[Class, int] = {}
        for class_ in ("profile", "minute"):
            newest = [id_ for (of, _), (id_, _) in after.last.items() if of == class_]
            while excess > 0:
                n, size = _every_other(db, class_, newest, excess)
                if not n:
                    break
                gone[class_] = gone.get(class_, 0) + n
                excess -= size
        left = total - goal + excess
        # Where nothing more is to be found, it is not looked through again at each commit.
        after.try_above = left + room if excess > 0 and left > self._cap else self._cap
        if gone:
            after.thinned = {of: after.thinned.get(of, 0) + gone.get(of, 0) for of in {**after.thinned, **gone}}
            text = f"{_told(gone)} were thinned to make room: the server has been away for too long for outbox_mb"
            row = (wall_s, "points thinned", "outbox", f"{text}; energies are cumulative, so no total is lost")
            db.execute("INSERT INTO finding (wall_s, kind, subject, text) VALUES (?, ?, ?, ?)", row)


def unpack(packed: bytes) -> bytes:
    """A row's lines, with a line feed between.

    Raises:
        zlib.error: it is damaged.
    """
    return zlib.decompress(packed)


def _every_other(db: sqlite3.Connection, class_: str, newest: Collection[int], excess: int) -> tuple[int, int]:
    """Delete every other row of a class, the oldest first, until enough is freed: how many lines and bytes."""
    kept, lines, size = set(newest), 0, 0
    doomed: list[tuple[int]] = []
    asked = "SELECT id, n, length(lines) FROM outbox WHERE class = ? ORDER BY id"
    spare = (row for row in db.execute(asked, (class_,)) if row[0] not in kept)
    for number, (id_, n, bytes_) in enumerate(spare):
        if size >= excess:
            break
        if number % 2 == 0:
            doomed.append((id_,))
            lines, size = lines + n, size + bytes_
    db.executemany("DELETE FROM outbox WHERE id = ?", doomed)
    return lines, size


def _watts(before: _Stood | None, now: _Stood) -> float | None:
    known_ns = 0 if before is None else now.known_ns - before.known_ns
    if before is None or known_ns <= 0:
        return None
    return joules(now.measured_uj - before.measured_uj) / (known_ns / NS)


def _series_of(points: Iterable[Point]) -> dict[str, _Series]:
    """The series of a row by measurement; runs end with an edge, so that theirs are left out."""
    found: dict[str, set[tuple[str | None, ...]]] = {}
    for point in points:
        if not _is_of_run(point.of.name, point.tags):
            found.setdefault(point.of.name, set()).add(point.tags)
    return {name: frozenset(ones) for name, ones in found.items()}


def _is_of_run(name: str, tags: Sequence[str | None]) -> bool:
    return name in (series.JOB_RUN.name, series.JOB_ENERGY.name) and tags[2] not in FREE


def _ms(wall_s: object) -> int | None:
    return floor(wall_s * 1000) if isinstance(wall_s, float) else None


def _told(gone: Mapping[Class, int]) -> str:
    names: dict[Class, str] = {"profile": "of power and health", "minute": "of the minutes"}
    return " and ".join(f"{gone[of]} points {name}" for of, name in names.items() if gone.get(of))


def _stamp(wall_s: float) -> str:
    try:
        return f"{datetime.fromtimestamp(wall_s, UTC):%Y-%m-%d %H:%MZ}"
    except (ValueError, OverflowError, OSError):
        return f"{wall_s:.0f} s of the epoch"
