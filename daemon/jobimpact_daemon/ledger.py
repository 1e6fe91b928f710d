"""The durable books: one SQLite file per node, written in one transaction at a time.

After a kill, the state and the accounts are those of the same instant, so that what the counters and cgroups still
hold is added exactly once. A full or read-only disk keeps everything in memory until it can be written.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.core.nodefile import SERIES_DAYS, fold_old, open_for_writing
from jobimpact.core.records import IDLE, SYSTEM, Domain, DomainKind, NodeFacts, SourceHealth
from jobimpact.core.units import NS
from jobimpact_daemon.bookkeeper import Account, Bookkeeper, State
from jobimpact_daemon.books import Finding
from jobimpact_daemon.holdings import Holdings, Run
from jobimpact_daemon.outbox import HealthRow, Outbox, RunRow
from jobimpact_daemon.run_use import used
from jobimpact_daemon.words import MAX_ROWS

__all__ = ["Ledger"]

log = logging.getLogger(__name__)

STATE_VERSION = 2
JOB_POINT_S = 60.0
POWER_POINT_S = 10.0
HEALTH_POINT_S = 60.0
DAY_S = 86400
STEP_S = 3600.0
"""A wall clock that differs this much from the boot clock within a day has stepped."""
TOLD_STEP_S = 60.0
"""A step of the wall clock that is longer than this is told: points are a minute apart."""
FINDINGS = 10_000
"""More findings than this nobody reads."""
NOTHING = Account()
_EVERY_OTHER = """
DELETE FROM progress WHERE run = :run AND wall_s IN (
  SELECT wall_s FROM (
    SELECT wall_s, row_number() OVER (ORDER BY wall_s DESC) AS n
    FROM (SELECT DISTINCT wall_s FROM progress WHERE run = :run)
  ) WHERE n % 2 = 0
)"""
"""The last point stays."""


class _Saved(msgspec.Struct):
    """The state blob: the bookkeeper's state, and the marks of this transaction, which may still lie about."""

    state: State
    marks: list[str]


class Ledger:
    """One node's file.

    Args:
        path: the file; made if it is not there.
        node: the node's name.
        cluster: the cluster's name.
        keep: never fold or drop what is old.
        outbox: takes what is to go to a server; None: this file is the store.

    Raises:
        StoreError: the file cannot be opened.
        SchemaTooNewError: a newer release wrote it.
    """

    def __init__(
        self, path: Path, node: str, cluster: str, *, keep: bool = False, outbox: Outbox | None = None
    ) -> None:
        self.path = path
        self._keep = keep
        self._outbox = outbox
        self._db = open_for_writing(path)
        self._begun: set[str] = set()
        """Runs that have a point of their start."""
        self._excludes: dict[str, tuple[DomainKind, ...]] = {}
        """By meter, what the file says that it does not see."""
        self._power_point = self._health_point = self._free_point = 0.0
        self._pruned = (0.0, -DAY_S * NS)
        self._ahead: tuple[str | None, float] = None, 0.0
        """The boot, and the wall clock's distance from its clock: it changes only where the wall clock steps."""
        self.trouble: str | None = None
        """Why the last commit failed; None: it did not."""
        try:
            with self._db:
                names = [("node", node), ("cluster", cluster)]
                self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", names)
                if outbox is not None:
                    outbox.load(self._db)
            self._tell_left(outbox)
        except sqlite3.Error as error:
            self.trouble = str(error)

    def load(self, facts: NodeFacts) -> tuple[State, set[str], bool]:
        """The state to go on with.

        Args:
            facts: the node's size, for a new file.

        Returns:
            The state, the names of the marks that it has taken in already, and whether it is an old one.

        Raises:
            SchemaTooNewError: a newer release wrote it.
            StoreError: it cannot be read.
        """
        row = self._db.execute("SELECT version, data FROM state").fetchone()
        if row is None:
            return State(Holdings(facts)), set(), False
        if row[0] > STATE_VERSION:
            raise SchemaTooNewError(f"{self.path}: state version {row[0]}, this release knows {STATE_VERSION}")
        try:
            saved = _of_version_1(row[1]) if row[0] == 1 else msgspec.json.decode(row[1], type=_Saved)
        except (msgspec.MsgspecError, KeyError) as error:
            raise StoreError(f"{self.path}: its state cannot be read: {error}") from error
        if self._outbox is not None:
            self._outbox.go_on(saved.state.holdings.runs)
        return saved.state, set(saved.marks), True

    def accounts(self, state: State) -> dict[tuple[str, str], Account]:
        """The accounts to which something can still be added."""
        open_holders = [IDLE, SYSTEM, *state.holdings.runs]
        marks = ",".join("?" * len(open_holders))
        rows = self._db.execute(
            f"SELECT domain, holder, uj, known_ns FROM ledger WHERE holder IN ({marks})",  # noqa: S608 (question marks)
            open_holders,
        )
        return {(domain, holder): Account(uj, known_ns) for domain, holder, uj, known_ns in rows}

    def taken(self, run: str) -> bool:
        """Whether a run of this key is in the file already."""
        return self._db.execute("SELECT 1 FROM run WHERE run = ?", (run,)).fetchone() is not None

    def commit(self, books: Bookkeeper, marks: Iterable[str] = (), health: Iterable[SourceHealth] = ()) -> bool:
        """Write everything since the last commit, and the names of the marks that it takes in.

        Returns:
            Whether it is on disk. If not, nothing is lost: it stays in memory, and `trouble` says why.
        """
        wall_s = books.state.wall_s
        minute = self._is_minute(wall_s)
        self._watch_clock(books)
        spoken = [(run.words, run.words.rows, run.words.gap_s) for run in books.words.full.values()]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            runs = self._write(books, list(marks), wall_s)
            points = self._write_health(list(health), books.state.holdings.t_ns, wall_s)
            if self._outbox is not None:
                power = self._is_power_due(wall_s)
                self._outbox.put(self._db, books, runs, minute=minute, power=power, health=points)
            self._db.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:
            self._roll_back()
            for words, rows, gap_s in spoken:
                words.rows, words.gap_s = rows, gap_s  # nothing was thinned
            if self.trouble is None:
                log.warning("%s: cannot write (%s): keeping the books in memory", self.path, error)
            self.trouble = str(error)
            return False
        if self.trouble is not None:
            log.warning("%s: writes again", self.path)
        self.trouble = None
        if self._outbox is not None:
            self._outbox.committed(wall_s, minute=minute)
        self._forget(books)
        return True

    @property
    def late(self) -> str | None:
        """Since when points wait for a server, and why, where that is long."""
        return self._outbox.late if self._outbox else None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _tell_left(self, outbox: Outbox | None) -> None:
        """Points that wait for a server which is no longer the store go nowhere."""
        [left] = self._db.execute("SELECT sum(n) FROM outbox_size").fetchone()
        if outbox is None and left:
            text = "%s: %d points wait for a server, and the store is local: they go when it is a server again"
            log.warning(text, self.path, left)

    def _watch_clock(self, books: Bookkeeper) -> None:
        """Points bear the wall clock's time: where it steps, a reader finds them elsewhere, or in another order."""
        wall_s, boot = books.state.wall_s, books.state.boot
        ahead_s = wall_s - books.state.holdings.t_ns / NS
        step_s = ahead_s - self._ahead[1] if boot == self._ahead[0] else 0.0
        self._ahead = boot, ahead_s
        if abs(step_s) > TOLD_STEP_S:
            text = f"by {step_s:+.0f} s: what was measured before and after it bears stamps that do not follow"
            books.findings.append(Finding(wall_s, "clock stepped", "wall clock", text))
            log.warning("the wall clock has stepped %s", text)

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _write(self, books: Bookkeeper, marks: list[str], wall_s: float) -> list[tuple[Run, RunRow]]:
        db, state, t_ns = self._db, books.state, books.state.holdings.t_ns
        self._write_words(books)
        data = msgspec.json.encode(_Saved(state, marks))
        db.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (STATE_VERSION, data))
        db.executemany(
            "INSERT OR REPLACE INTO domain VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*_identity(book.domain), book.measured_uj, book.unknown_by(t_ns), book.known_ns, book.reason)
                for book in state.domains.values()
            ],
        )
        runs = [*books.closed, *state.holdings.runs.values()]
        rows = [_row(run, state.holdings.shares(run)) for run in runs]
        db.executemany("INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.executemany(
            "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?)",
            [(*key, books.accounts[key].uj, books.accounts[key].known_ns) for key in books.touched],
        )
        db.executemany(
            "INSERT INTO finding (wall_s, kind, subject, text) VALUES (?, ?, ?, ?)",
            [(one.wall_s, one.kind, one.subject, one.text) for one in books.findings],
        )
        rest = state.rest
        if rest.meter is not None:
            whole = (rest.meter, rest.meter_uj, rest.parts_uj, rest.deficit_uj + rest.forgiven_uj)
            db.execute("INSERT OR REPLACE INTO whole VALUES (1, ?, ?, ?, ?)", whole)
        # A reader must not set parts against a meter that does not see them.
        excludes = _excludes(books)
        if excludes and excludes != self._excludes:
            names = ("excludes", msgspec.json.encode(excludes).decode())
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", names)
        self._write_points(books, runs, wall_s)
        return list(zip(runs, rows, strict=True))

    def _write_words(self, books: Bookkeeper) -> None:
        """What runs have said; of those that said too much, every other point goes, and they may say less often."""
        db, words = self._db, books.words
        db.executemany(
            "INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?, ?, ?)",
            [(*key, *row) for key, row in words.rows.items()],
        )
        db.executemany(
            "INSERT OR REPLACE INTO label VALUES (?, ?, ?, ?)", [(*key, *row) for key, row in words.labels.items()]
        )
        for key, run in words.full.items():
            [run.words.rows] = db.execute("SELECT count(*) FROM progress WHERE run = ?", (key,)).fetchone()
            if run.words.rows > MAX_ROWS:
                db.execute(_EVERY_OTHER, {"run": key})
                [run.words.rows] = db.execute("SELECT count(*) FROM progress WHERE run = ?", (key,)).fetchone()
                run.words.gap_s *= 2
                text = f"more than {MAX_ROWS} points: every other one is dropped, and others are merged within"
                books.find("progress thinned", key, f"{text} {run.words.gap_s:g} s")

    def _write_points(self, books: Bookkeeper, runs: list[Run], wall_s: float) -> None:
        due = {run.key: run for run in runs if self._is_due(run, wall_s)}
        points = [
            (key, domain, due[key].end_s or wall_s, account.uj, account.known_ns)
            for (domain, key), account in books.accounts.items()
            if key in due
        ]
        if self._is_minute(wall_s):
            points += _free(books, wall_s)
        self._db.executemany("INSERT OR REPLACE INTO job_energy VALUES (?, ?, ?, ?, ?)", points)
        if self._is_power_due(wall_s):
            self._db.executemany(
                "INSERT OR REPLACE INTO node_power VALUES (?, ?, ?, ?)",
                [
                    (name, wall_s, book.measured_uj, book.unknown_by(books.state.holdings.t_ns))
                    for name, book in books.state.domains.items()
                ],
            )

    def _write_health(self, health: list[SourceHealth], t_ns: int, wall_s: float) -> list[HealthRow]:
        """How the sources stand now, and once a minute a point of it: those that were written."""
        rows: list[HealthRow] = [
            (
                *(one.source, wall_s, one.reads, one.failures, one.took_ns, one.busy_ns),
                *(None if one.good_ns is None else (t_ns - one.good_ns) / NS, one.problem),
            )
            for one in health
        ]
        if self._outbox is not None:
            rows.append(self._outbox.health(self._db, wall_s))
        self._db.executemany("INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        if not rows or abs(wall_s - self._health_point) < HEALTH_POINT_S:
            return []
        self._health_point = wall_s
        self._db.executemany("INSERT OR REPLACE INTO source_health VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return rows

    def _is_due(self, run: Run, wall_s: float) -> bool:
        return run.state != "open" or run.key not in self._begun or self._is_minute(wall_s)

    def _is_minute(self, wall_s: float) -> bool:
        """It is time for points of all holders, in one commit: there the books can be cut."""
        return abs(wall_s - self._free_point) >= JOB_POINT_S

    def _is_power_due(self, wall_s: float) -> bool:
        """Marks commit at any time, so that the two rhythms part: a cut needs what was measured, too."""
        return self._is_minute(wall_s) or abs(wall_s - self._power_point) >= POWER_POINT_S

    def _forget(self, books: Bookkeeper) -> None:
        """What is on disk need not be kept here."""
        wall_s = books.state.wall_s
        self._begun.difference_update(run.key for run in books.closed)
        gone = {run.key for run in books.closed}
        if gone:
            books.accounts = {key: value for key, value in books.accounts.items() if key[1] not in gone}
        self._begun.update(books.state.holdings.runs)
        self._excludes = _excludes(books)
        if self._is_power_due(wall_s):
            self._power_point = wall_s
        if self._is_minute(wall_s):
            self._free_point = wall_s
        books.touched.clear()
        books.findings.clear()
        books.closed.clear()
        books.words.clear()
        if not self._keep:
            self._prune_daily(wall_s, books.state.holdings)

    def _prune_daily(self, wall_s: float, holdings: Holdings) -> None:
        """Once a day by the boot clock, and never on the word of a wall clock that has just stepped."""
        day_s = (holdings.t_ns - self._pruned[1]) / NS
        if 0 <= day_s < DAY_S:
            return
        stepped = abs(wall_s - self._pruned[0] - day_s) > STEP_S
        self._pruned = wall_s, holdings.t_ns
        if not stepped:
            self._prune(wall_s, list(holdings.runs))

    def _prune(self, wall_s: float, known: list[str]) -> None:
        """Points have a retention; the runs of long ago become one sum per domain: the books still balance."""
        when = {"series": wall_s - SERIES_DAYS * DAY_S, "findings": FINDINGS}
        try:
            self._db.execute("BEGIN IMMEDIATE")
            # A clock that steps by years must not fold a run that is still written.
            fold_old(self._db, wall_s, known)
            self._db.execute("DELETE FROM source_health WHERE wall_s < :series", when)
            self._db.execute(
                "DELETE FROM finding WHERE wall_s < :series OR id <= (SELECT max(id) FROM finding) - :findings", when
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            log.warning("%s: could not prune: %s", self.path, error)


def _of_version_1(data: bytes) -> _Saved:
    """What 0.1's first state becomes: its integrals were others, so what its counters held is begun anew."""
    found = msgspec.json.decode(data)
    for book in found["state"]["domains"].values():
        for name in ("base", "before", "suspect", "late"):
            book.pop(name, None)
    return msgspec.convert(found, _Saved)


def _identity(domain: Domain) -> tuple[str, str, str, str]:
    return domain.name, domain.kind, domain.source, domain.method


def _excludes(books: Bookkeeper) -> dict[str, tuple[DomainKind, ...]]:
    return {name: one.domain.excludes for name, one in books.state.domains.items() if one.domain.kind == "node"}


def _free(books: Bookkeeper, wall_s: float) -> Iterator[tuple[str, str, float, int, int]]:
    """A point of `idle` in every domain that is read, and of `system` where it ever had something."""
    for name, book in books.state.domains.items():
        if book.domain.kind != "node" and book.since_ns is not None and (book.known_ns or book.reason is None):
            yield IDLE, name, wall_s, books.accounts.get((name, IDLE), NOTHING).uj, book.known_ns
            if (name, SYSTEM) in books.accounts:
                yield SYSTEM, name, wall_s, books.accounts[name, SYSTEM].uj, book.known_ns


def _row(run: Run, shares: dict[str, int]) -> tuple[object, ...]:
    gpus = msgspec.json.encode(run.gpus).decode()
    flags = msgspec.json.encode(run.flags).decode()
    return (
        *(run.key, run.job, run.restart, run.uid, run.cpus, run.mem_bytes, gpus),
        *(run.start_s, run.end_s, run.time_ns, run.state, flags),
        msgspec.json.encode(shares).decode(),
        msgspec.json.encode(used(run)).decode(),
    )
