"""Energies from the nodes' own SQLite files: a folder with one `<node>.sqlite` each."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self, TypeVar

import msgspec

from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import node_file, open_for_reading
from jobimpact.core.records import (
    IDLE,
    SYSTEM,
    DomainKind,
    HourShares,
    JobEnergy,
    JobRecord,
    RunEnergy,
    RunUse,
    run_key,
)
from jobimpact.energy.books import NodeSpan, span_books
from jobimpact.energy.hours import free_hours, run_hours
from jobimpact.energy.node_hours import NodeHours, node_hours
from jobimpact.energy.profile import SPANS, Point, Track, end_of, tracks_of
from jobimpact.energy.progress import points_of

__all__ = ["EARLY_S", "NO_RUN", "TAKEN", "DomainBooks", "EndedRun", "LocalEnergy", "MeterBooks", "in_time"]

NO_RUN = "the node's books have no run of this job at that time"
TAKEN = "the node's only run of that job and time is another incarnation's"

T = TypeVar("T")

MATCHES_KEPT = 256

EARLY_S = 5.0
"""How far a node's clock and the controller's whole seconds may part, at either edge."""

_NODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\Z", re.ASCII)
_RUNS = """
SELECT run, job, restart, start_s, end_s, elapsed_ns, state, cpus, mem_bytes, gpus, flags, uid, {held}, {used}
FROM run WHERE job = ? AND (start_s <= ? OR typeof(start_s) = 'text') AND (end_s IS NULL OR end_s >= ?)
ORDER BY start_s
"""
"""A start that is no number is of a damaged file: it is an error, and not left out."""
_ENDED = """
SELECT r.job, r.start_s, r.end_s,
  (SELECT sum(l.uj) FROM ledger l JOIN domain d ON d.name = l.domain WHERE l.holder = r.run AND d.kind != 'node')
FROM run r WHERE r.end_s >= ? AND r.end_s < ? ORDER BY r.end_s
"""
_COLUMNS = "SELECT name FROM pragma_table_info('run')"
_LABELS = "SELECT name, value FROM label WHERE run = ? ORDER BY name"
_PROGRESS = "SELECT wall_s, metric, step, value, uj FROM progress WHERE run = ? ORDER BY wall_s, metric"
# Of each short part of the run's time its last point: a long run has more than a profile can show.
_POINTS = """
SELECT domain, max(wall_s), uj, known_ns FROM job_energy WHERE run = :run
GROUP BY domain, CAST((wall_s - :start) / :width AS INTEGER) ORDER BY domain, 2
"""
# A domain of which the ledger says nothing for this run is one that could not be read: unknown, and listed. The meters
# of the whole node have no part of their own in a job: their energy is that of the parts and the rest.
_DOMAINS = """
SELECT d.name, d.kind, d.method, coalesce(l.uj, 0), coalesce(l.known_ns, 0), d.reason, d.source,
  (SELECT min(wall_s) FROM node_power p WHERE p.domain = d.name)
FROM domain d LEFT JOIN ledger l ON l.domain = d.name AND l.holder = ? WHERE d.kind != 'node' ORDER BY d.kind, d.name
"""
_BOOKS = """
SELECT d.name, d.kind, d.method, d.measured_uj,
  coalesce(sum(CASE WHEN l.holder NOT IN (?, ?) THEN l.uj END), 0),
  coalesce(sum(CASE WHEN l.holder = ? THEN l.uj END), 0),
  coalesce(sum(CASE WHEN l.holder = ? THEN l.uj END), 0),
  d.unknown_ns / 1e9, d.known_ns / 1e9, d.reason
FROM domain d LEFT JOIN ledger l ON l.domain = d.name WHERE d.kind != 'node'
GROUP BY d.name ORDER BY d.kind, d.name
"""
_METERS = """
SELECT name, method, measured_uj, unknown_ns / 1e9, known_ns / 1e9, reason
FROM domain WHERE kind = 'node' ORDER BY name
"""
_WHOLE = """
SELECT w.meter, w.meter_uj, w.parts_uj, coalesce(d.measured_uj, 0), w.deficit_uj,
  (SELECT coalesce(sum(measured_uj), 0) FROM domain WHERE kind = 'node'),
  (SELECT coalesce(sum(measured_uj), 0) FROM domain WHERE kind NOT IN ('node', 'rest'))
FROM whole w LEFT JOIN domain d ON d.name = 'rest'
"""


class DomainBooks(msgspec.Struct, frozen=True, array_like=True):
    """One domain of one node: what was measured, and who it belongs to, in microjoules."""

    node: str
    domain: str
    kind: DomainKind
    method: str
    measured_uj: int
    jobs_uj: int
    idle_uj: int
    system_uj: int
    unknown_s: float
    known_s: float
    reason: str | None
    """Why it is not read now, where it is not."""

    @property
    def known(self) -> bool:
        """Anything was ever measured here: without, the sums are not zero but unknown."""
        return self.known_s > 0 or any((self.measured_uj, self.jobs_uj, self.idle_uj, self.system_uj))

    @property
    def difference_uj(self) -> int:
        """What the books are out by: 0, or something is wrong."""
        return self.measured_uj - self.jobs_uj - self.idle_uj - self.system_uj


class Settled(msgspec.Struct, frozen=True, array_like=True):
    """A node's meter against its parts, over the windows that are settled, in microjoules."""

    meter: str | None
    """The domain that the next window is of; windows of before may have been another meter's."""
    meter_uj: int
    parts_uj: int
    rest_uj: int
    deficit_uj: int
    """What the parts have measured more than the meter, and which later windows pay back."""
    all_meters_uj: int
    all_parts_uj: int
    """What the node's meters and its parts have ever measured, in settled windows or not."""

    @property
    def difference_uj(self) -> int:
        """By how much meter = parts + rest - deficit is out: 0, or something is wrong."""
        return self.meter_uj - self.parts_uj - self.rest_uj + self.deficit_uj

    @property
    def more_uj(self) -> int:
        """What was settled and never measured: 0, or something is wrong."""
        return max(0, self.meter_uj - self.all_meters_uj, self.parts_uj - self.all_parts_uj)


class MeterBooks(msgspec.Struct, frozen=True):
    """One meter of a whole node, in microjoules."""

    node: str
    meter: str
    method: str
    measured_uj: int
    unknown_s: float
    known_s: float
    reason: str | None
    """Why it is not read now, where it is not."""
    settled: Settled | None = None
    """What the rest of the node was found from; only of the meter that is in use."""
    alone: bool = True
    """The node has no other: all windows were this one's."""

    @property
    def known(self) -> bool:
        """Anything was ever measured by it."""
        return self.known_s > 0 or self.measured_uj > 0

    @property
    def open_uj(self) -> int | None:
        """What it has measured outside settled windows; None: not known."""
        return self.measured_uj - self.settled.meter_uj if self.settled and self.alone else None


class EndedRun(msgspec.Struct, frozen=True):
    """A run that is over, as one node's books have it. Times are epoch seconds, UTC."""

    node: str
    job: str
    start_s: float
    end_s: float
    uj: int | None
    """None: nothing is known of it."""


class Held(msgspec.Struct, frozen=True):
    """What a run held: its part of the node's GPUs x ns; None: not known."""

    gpu: Annotated[int, msgspec.Meta(ge=0)] | None = None


class LocalEnergy:
    """Reads node files, and keeps them open until it is closed.

    Args:
        folder: one `<node>.sqlite` each.
        cluster: whose nodes alone are asked where all are; None: every node's.
    """

    def __init__(self, folder: Path, cluster: str | None = None) -> None:
        self._folder = folder
        self._cluster = cluster
        self._open: dict[str, sqlite3.Connection | StoreError] = {}
        self._matches: dict[tuple[str, str], tuple[tuple[object, ...], dict[str, RunEnergy]]] = {}
        """Whose runs are whose, by node and raw id, with the records that it was found for."""

    def close(self) -> None:
        """Let go of every file."""
        for db in self._open.values():
            if isinstance(db, sqlite3.Connection):
                db.close()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def nodes(self) -> list[str]:
        """The nodes that have a file.

        Raises:
            StoreError: the folder cannot be read.
        """
        try:
            return sorted(path.stem for path in self._folder.iterdir() if path.suffix == ".sqlite")
        except OSError as error:
            raise StoreError(f"{self._folder}: {error.strerror}") from error

    def job_energy(self, record: JobRecord, rivals: Sequence[JobRecord] = ()) -> JobEnergy:
        """What the nodes' books say of one incarnation of a job.

        Args:
            record: the scheduler's words.
            rivals: the incarnations under the same raw id: each has one run of a node at most, and each run is one's.

        Returns:
            At most one run a node; a node without one is in `missing`, with the reason.
        """
        if record.off_books is not None:
            return JobEnergy((), dict.fromkeys(record.nodes, record.off_books))
        runs, missing = [], {}
        for node in record.nodes:
            try:
                with self._reading(node) as db:
                    if self._cluster is not None and _cluster_of(db) != self._cluster:
                        raise StoreError(f"the store's file of node {node} is of another cluster")
                    there = [run for run in _runs(node, db, record.raw_id, *_reach(record)) if in_time(run, record)]
                    if there and any(other.key != record.key and node in other.nodes for other in rivals):
                        run = self._matched(node, db, record, rivals).get(record.key)
                    else:
                        run = max(there, key=lambda run: _fit(run, record), default=None)
            except StoreError as error:
                missing[node] = str(error)
                continue
            if run is None:
                missing[node] = TAKEN if there else NO_RUN
            else:
                runs.append(run)
        return JobEnergy(tuple(runs), missing)

    def _matched(
        self, node: str, db: sqlite3.Connection, record: JobRecord, rivals: Sequence[JobRecord]
    ) -> dict[str, RunEnergy]:
        """Whose each run of one raw id is, by the records' keys; asked for record by record, and found out once."""
        some = {one.key: one for one in (*rivals, record) if node in one.nodes}
        known = tuple(sorted((key, one.start_s, one.end_s) for key, one in some.items()))
        where = node, record.raw_id
        if where not in self._matches or self._matches[where][0] != known:
            if len(self._matches) >= MATCHES_KEPT:
                self._matches.clear()
            reaches = [_reach(one) for one in some.values()]
            runs = _runs(node, db, record.raw_id, min(low for low, _ in reaches), max(high for _, high in reaches))
            self._matches[where] = known, _match(runs, some.values())
        return self._matches[where][1]

    def runs_of(self, raw_id: str) -> tuple[list[RunEnergy], list[str]]:
        """Every run of a raw job id, on all nodes, by start; and why a node's file could not be asked.

        Raises:
            StoreError: the folder cannot be read.
        """
        found, unread = self._ask_all(lambda node, db: _runs(node, db, raw_id))
        return sorted(found, key=lambda run: run.start_s), unread

    def tracks(self, run: RunEnergy) -> list[Track] | None:
        """A run's domains over time, by the points that its node's file has of it; None: it does not tell.

        Raises:
            StoreError: the node's file cannot be read.
        """
        asked = {
            "run": run_key(run.job, run.restart),
            "start": run.start_s,
            "width": max((end_of(run) - run.start_s) / (2 * SPANS), 1e-3),
        }
        points: dict[str, list[Point]] = {}
        with self._reading(run.node) as db:
            for domain, *row in db.execute(_POINTS, asked):
                points.setdefault(domain, []).append(msgspec.convert(row, Point))
        return tracks_of(run, points)

    def ended(self, from_s: float, to_s: float) -> tuple[list[EndedRun], list[str]]:
        """Runs that ended within [from_s, to_s), and why a node's file could not be asked.

        Raises:
            StoreError: the folder cannot be read.
        """
        return self._ask_all(lambda node, db: _ended(node, db, from_s, to_s))

    def books(self, nodes: Sequence[str] | None = None) -> tuple[list[DomainBooks], list[str]]:
        """Every node's domains (of `nodes`, where they are given), and why a node's file could not be asked.

        Raises:
            StoreError: the folder cannot be read.
        """
        return self._ask_all(_books, nodes)

    def meters(self, nodes: Sequence[str] | None = None) -> tuple[list[MeterBooks], list[str]]:
        """Every meter of a whole node (of `nodes`, where they are given), and why a node's file could not be asked.

        Raises:
            StoreError: the folder cannot be read.
        """
        return self._ask_all(_meters, nodes)

    def span(self, from_s: float, to_s: float, nodes: Sequence[str] | None = None) -> tuple[list[NodeSpan], list[str]]:
        """Nodes' books over a time, and why a node's file could not be asked.

        Args:
            from_s: where the time begins, epoch seconds.
            to_s: where it ends.
            nodes: their names; None: all.

        Raises:
            StoreError: the folder cannot be read.
        """
        return self._ask_all(lambda node, db: [span_books(node, db, from_s, to_s)], nodes)

    def idle_hours(self, from_s: float, to_s: float) -> tuple[list[HourShares], list[str]]:
        """What no job had of each node, by full hour, and why a node's file could not be asked.

        Args:
            from_s: the first moment of the time, epoch seconds.
            to_s: where it ends: an hour that goes on after it is left out, and so is one that the points do not reach.

        Raises:
            StoreError: the folder cannot be read.
        """
        return self._ask_all(lambda node, db: free_hours(node, db, from_s, to_s))

    def node_hours(
        self, from_s: Callable[[str], float], to_s: float, nodes: Sequence[str] | None = None
    ) -> tuple[list[NodeHours], list[str]]:
        """Who a node's energy belonged to, by kind and full hour, and why a node's file could not be asked.

        Args:
            from_s: of a node, where its hours begin, epoch seconds.
            to_s: they are over by then.
            nodes: their names; None: all.

        Raises:
            StoreError: the folder cannot be read.
        """
        return self._ask_all(lambda node, db: [node_hours(node, db, from_s(node), to_s)], nodes)

    def _ask_all(
        self, question: Callable[[str, sqlite3.Connection], list[T]], nodes: Sequence[str] | None = None
    ) -> tuple[list[T], list[str]]:
        """Every node's answer, and why a node's file could not be asked."""
        found: list[T] = []
        unread = []
        for node in self.nodes() if nodes is None else nodes:
            try:
                with self._reading(node) as db:
                    if self._cluster is None or _cluster_of(db) == self._cluster:
                        found += question(node, db)
            except StoreError as error:
                unread.append(str(error))
        return found, unread

    @contextmanager
    def _reading(self, node: str) -> Iterator[sqlite3.Connection]:
        """A node's file in one read transaction, so that its rows fit each other; every error a StoreError."""
        db = self._connection(node)
        try:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("ROLLBACK")
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise StoreError(f"{node_file(self._folder, node)}: {error}") from error

    def _connection(self, node: str) -> sqlite3.Connection:
        if node not in self._open:
            self._open[node] = self._connect(node)
        found = self._open[node]
        if isinstance(found, StoreError):
            raise found
        return found

    def _connect(self, node: str) -> sqlite3.Connection | StoreError:
        path = node_file(self._folder, node)
        if not _NODE.match(node):
            return StoreError(f"{node!r:.80} is not a node's name")
        if not path.exists():
            return StoreError("no file of this node in the store")
        try:
            db = open_for_reading(path)
        except StoreError as error:
            return error
        db.isolation_level = None
        return db


def _cluster_of(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = 'cluster'").fetchone()
    return None if row is None else str(row[0])


def _ended(node: str, db: sqlite3.Connection, from_s: float, to_s: float) -> list[EndedRun]:
    rows = db.execute(_ENDED, (from_s, to_s)).fetchall()
    return [EndedRun(node, *row) for row in rows]


def _books(node: str, db: sqlite3.Connection) -> list[DomainBooks]:
    rows = db.execute(_BOOKS, (IDLE, SYSTEM, IDLE, SYSTEM)).fetchall()
    return [msgspec.convert((node, *row), DomainBooks) for row in rows]


def _meters(node: str, db: sqlite3.Connection) -> list[MeterBooks]:
    rows = db.execute(_METERS).fetchall()
    settled = _settled(db)
    found = []
    for name, method, measured_uj, unknown_s, known_s, reason in rows:
        mine = settled if settled and settled.meter == name else None
        found.append(MeterBooks(node, name, method, measured_uj, unknown_s, known_s, reason, mine, len(rows) == 1))
    return found


def _settled(db: sqlite3.Connection) -> Settled | None:
    # A file of an earlier schema has no such table, and no such meter.
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'whole'").fetchone():
        return None
    row = db.execute(_WHOLE).fetchone()
    return None if row is None else msgspec.convert(row, Settled)


def _runs(
    node: str, db: sqlite3.Connection, raw_id: str, from_s: float = -math.inf, to_s: float = math.inf
) -> list[RunEnergy]:
    # A file of an earlier schema does not tell what its runs held, or used.
    there = {name for (name,) in db.execute(_COLUMNS)}
    more = {name: name if name in there else "'{}'" for name in ("held", "used")}
    rows = db.execute(_RUNS.format(**more), (raw_id, to_s, from_s)).fetchall()
    return [_run(node, db, row, says="used" in there) for row in rows]


def _run(node: str, db: sqlite3.Connection, row: tuple[object, ...], *, says: bool) -> RunEnergy:
    names = ("job", "restart", "start_s", "end_s", "elapsed_ns", "state", "cpus", "mem_bytes")
    fields = dict(zip(names, row[1:9], strict=True))
    gpus, flags = (msgspec.json.decode(str(text)) for text in row[9:11])
    held = {f"gpu:{gpu}" for gpu in gpus}
    found = db.execute(_DOMAINS, (row[0],)).fetchall()
    sources = {(kind, source) for _, kind, _, _, known_ns, _, source, _ in found if known_ns}
    domains = []
    for name, kind, method, uj, known_ns, reason, source, first_s in found:
        if not known_ns and (
            (kind == "gpu" and name not in held)
            or _is_replaced(kind, source, reason, sources)
            or _is_newer(first_s, fields["end_s"])
        ):
            continue
        domains.append(
            {"domain": name, "kind": kind, "method": method, "uj": uj, "known_ns": known_ns, "reason": reason}
        )
    more = {"node": node, "gpus": gpus, "flags": flags, "domains": domains, "uid": row[11]}
    run = msgspec.convert(fields | more, RunEnergy)
    share = _gpu_share(str(row[12]), run.elapsed_ns)
    run = msgspec.structs.replace(run, gpu_share=share, hours=run_hours(db, str(row[0]), run), use=_use(str(row[13])))
    if not says:
        return run
    labels = {str(name): str(value) for name, value in db.execute(_LABELS, (row[0],))}
    return msgspec.structs.replace(run, labels=labels, progress=points_of(db.execute(_PROGRESS, (row[0],))))


def _use(used: str) -> RunUse | None:
    """None: the books tell nothing of it."""
    found = msgspec.json.decode(used, type=dict[str, Annotated[int, msgspec.Meta(ge=0)]])
    return msgspec.convert(found, RunUse) if found else None


def _gpu_share(held: str, elapsed_ns: int) -> float | None:
    """Its mean part of the node's GPUs; None: the books do not tell."""
    gpu_ns = msgspec.json.decode(held, type=Held).gpu
    return None if gpu_ns is None or elapsed_ns <= 0 else min(gpu_ns / elapsed_ns, 1.0)


def _is_replaced(kind: str, source: str, reason: str | None, known: set[tuple[str, str]]) -> bool:
    """Another source has measured this part, which that of the domain cannot read any more."""
    absent = reason is not None and reason.startswith("absent")
    return absent and any(other_kind == kind and other != source for other_kind, other in known)


def _is_newer(first_s: float | None, end_s: object) -> bool:
    """The meter came when the run was over: it was none of its parts."""
    return first_s is not None and isinstance(end_s, float) and first_s > end_s


def _match(runs: Sequence[RunEnergy], records: Iterable[JobRecord]) -> dict[str, RunEnergy]:
    """Runs and records, one of each together, those that fit best first; of two that fit alike always the same."""
    pairs = [
        (_fit(run, one), one.key, -number) for number, run in enumerate(runs) for one in records if in_time(run, one)
    ]
    found: dict[str, RunEnergy] = {}
    free = set(range(len(runs)))
    for _, key, number in sorted(pairs, reverse=True):
        if key not in found and -number in free:
            found[key] = runs[-number]
            free.remove(-number)
    return found


def in_time(run: RunEnergy, record: JobRecord) -> bool:
    """The run overlaps the record's time.

    It may end long after it (a late epilog, a lost job), but a run that begins after it is another incarnation's.
    """
    from_s, to_s = _reach(record)
    return run.start_s <= to_s and (run.end_s is None or run.end_s >= from_s)


def _reach(record: JobRecord) -> tuple[float, float]:
    """A run of it ends after the one, and begins before the other."""
    begin_s = _begin_s(record)
    if begin_s is None:
        return math.inf, -math.inf
    return begin_s - EARLY_S, math.inf if record.end_s is None else record.end_s + EARLY_S


def _fit(run: RunEnergy, record: JobRecord) -> tuple[float, float]:
    """How well a run and a record agree: the seconds they share, then how near their starts are."""
    begin_s = _begin_s(record)
    if begin_s is None:
        return (-1.0, 0.0)
    run_end = run.end_s if run.end_s is not None else float("inf")
    record_end = record.end_s if record.end_s is not None else float("inf")
    shared = min(run_end, record_end) - max(run.start_s, begin_s)
    return (max(shared, 0.0), -abs(run.start_s - begin_s))


def _begin_s(record: JobRecord) -> float | None:
    """From when on it may have run. Slurm forgets the start of a job that is requeued in its first seconds."""
    return record.submit_s if record.start_s is None else record.start_s
