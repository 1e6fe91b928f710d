"""Energies from the nodes' own SQLite files: a folder with one `<node>.sqlite` each."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import node_file, open_for_reading
from jobimpact.core.records import IDLE, SYSTEM, DomainKind, JobEnergy, JobRecord, RunEnergy

__all__ = ["DomainBooks", "LocalEnergy"]

T = TypeVar("T")

EARLY_S = 5.0
"""How far a node's clock and the controller's whole seconds may part, at either edge."""

_NODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\Z", re.ASCII)
_RUNS = """
SELECT run, job, restart, start_s, end_s, elapsed_ns, state, cpus, mem_bytes, gpus, flags, uid
FROM run WHERE job = ? ORDER BY start_s
"""
# A domain of which the ledger says nothing for this run is one that could not be read: unknown, and listed.
_DOMAINS = """
SELECT d.name, d.kind, d.method, coalesce(l.uj, 0), coalesce(l.known_ns, 0), d.reason
FROM domain d LEFT JOIN ledger l ON l.domain = d.name AND l.holder = ? ORDER BY d.kind, d.name
"""
_BOOKS = """
SELECT d.name, d.kind, d.method, d.measured_uj,
  coalesce(sum(CASE WHEN l.holder NOT IN (?, ?) THEN l.uj END), 0),
  coalesce(sum(CASE WHEN l.holder = ? THEN l.uj END), 0),
  coalesce(sum(CASE WHEN l.holder = ? THEN l.uj END), 0),
  d.unknown_ns / 1e9, d.known_ns / 1e9, d.reason
FROM domain d LEFT JOIN ledger l ON l.domain = d.name GROUP BY d.name ORDER BY d.kind, d.name
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


class LocalEnergy:
    """Reads node files, and keeps them open until it is closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, sqlite3.Connection | StoreError] = {}

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
            rivals: other incarnations under the same raw id: a run that fits one of them better is theirs.

        Returns:
            At most one run a node; a node without one is in `missing`, with the reason.
        """
        runs, missing = [], {}
        for node in record.nodes:
            try:
                with self._reading(node) as db:
                    run = _best_run(node, db, record, rivals)
            except StoreError as error:
                missing[node] = str(error)
                continue
            if run is None:
                missing[node] = "the node's books have no run of this job at that time"
            else:
                runs.append(run)
        return JobEnergy(tuple(runs), missing)

    def runs_of(self, raw_id: str) -> tuple[list[RunEnergy], list[str]]:
        """Every run of a raw job id, on all nodes, by start; and why a node's file could not be asked.

        Raises:
            StoreError: the folder cannot be read.
        """
        found, unread = self._ask_all(lambda node, db: _runs(node, db, raw_id))
        return sorted(found, key=lambda run: run.start_s), unread

    def books(self) -> tuple[list[DomainBooks], list[str]]:
        """Every node's domains, and why a node's file could not be asked.

        Raises:
            StoreError: the folder cannot be read.
        """
        return self._ask_all(_books)

    def _ask_all(self, question: Callable[[str, sqlite3.Connection], list[T]]) -> tuple[list[T], list[str]]:
        """Every node's answer, and why a node's file could not be asked."""
        found: list[T] = []
        unread = []
        for node in self.nodes():
            try:
                with self._reading(node) as db:
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


def _books(node: str, db: sqlite3.Connection) -> list[DomainBooks]:
    rows = db.execute(_BOOKS, (IDLE, SYSTEM, IDLE, SYSTEM)).fetchall()
    return [msgspec.convert((node, *row), DomainBooks) for row in rows]


def _runs(node: str, db: sqlite3.Connection, raw_id: str) -> list[RunEnergy]:
    return [_run(node, db, row) for row in db.execute(_RUNS, (raw_id,)).fetchall()]


def _run(node: str, db: sqlite3.Connection, row: tuple[object, ...]) -> RunEnergy:
    names = ("job", "restart", "start_s", "end_s", "elapsed_ns", "state", "cpus", "mem_bytes")
    fields = dict(zip(names, row[1:9], strict=True))
    gpus, flags = (msgspec.json.decode(str(text)) for text in row[9:11])
    held = {f"gpu:{gpu}" for gpu in gpus}
    domains = []
    for name, kind, method, uj, known_ns, reason in db.execute(_DOMAINS, (row[0],)):
        if kind != "gpu" or known_ns or name in held:
            domains.append(
                {"domain": name, "kind": kind, "method": method, "uj": uj, "known_ns": known_ns, "reason": reason}
            )
    more = {"node": node, "gpus": gpus, "flags": flags, "domains": domains, "uid": row[11]}
    return msgspec.convert(fields | more, RunEnergy)


def _best_run(node: str, db: sqlite3.Connection, record: JobRecord, rivals: Sequence[JobRecord]) -> RunEnergy | None:
    """The run that is this record's: the best of those in its time that are not better a rival's."""
    mine = [
        run
        for run in _runs(node, db, record.raw_id)
        if _in_time(run, record)
        and not any(_fit(run, other) > _fit(run, record) for other in rivals if other.key != record.key)
    ]
    return max(mine, key=lambda run: _fit(run, record), default=None)


def _in_time(run: RunEnergy, record: JobRecord) -> bool:
    """The run overlaps the record's time.

    It may end long after it (a late epilog, a lost job), but a run that begins after it is another incarnation's.
    """
    if record.start_s is None:
        return False
    if run.end_s is not None and run.end_s < record.start_s - EARLY_S:
        return False
    return record.end_s is None or run.start_s <= record.end_s + EARLY_S


def _fit(run: RunEnergy, record: JobRecord) -> tuple[float, float]:
    """How well a run and a record agree: the seconds they share, then how near their starts are."""
    if record.start_s is None:
        return (-1.0, 0.0)
    run_end = run.end_s if run.end_s is not None else float("inf")
    record_end = record.end_s if record.end_s is not None else float("inf")
    shared = min(run_end, record_end) - max(run.start_s, record.start_s)
    return (max(shared, 0.0), -abs(run.start_s - record.start_s))
