"""One node's mirror: a file of the schema of the node's own, from points that came through a server.

What is there of each holder and domain are the first and the last point of each full hour, and all near midnights.
Where domains and holders stand is said as of one commit of the node, the last that came whole: there its books can be
proven. What runs are told to have had since is theirs already, and stands as `ahead` beside it.

A node whose own file was begun anew counts from nothing again. Its mirror goes on: what the file before had is added.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC, EROFS
from math import ulp
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import open_for_reading, open_for_writing
from jobimpact.core.records import IDLE, SYSTEM
from jobimpact.core.units import NS
from jobimpact.energy.books import PAST
from jobimpact.energy.mirror_rows import AHEAD, Arrived, BooksRow, DomainRow, RunRow
from jobimpact.energy.series import HOUR_MS

__all__ = ["MARGIN_MS", "FileError", "NodeMirror", "last_of", "write_job"]

DAY_MS = 24 * HOUR_MS
MARGIN_MS = 300_000
"""So far from a midnight every point is kept: there the books of a day are cut."""
RECENT_MS = 600_000
"""So far before the last commit another one is taken, where the last has not come whole."""
EXACT = 1 << 53
SLACK_NS = 120 * NS
SERIES_DAYS, RUN_DAYS = 90, 400
"""As the daemon keeps them."""

_MORE = """
CREATE TABLE IF NOT EXISTS mirrored (run TEXT PRIMARY KEY, stamp_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_energy_at ON job_energy (wall_s);
"""
"""Beside the schema of the node's file: which row each run is of; and hours are read again by time."""
_WINDOW = "SELECT run, domain, wall_s, uj, known_ns FROM job_energy WHERE wall_s >= ? AND wall_s < ?"
_METERED = "SELECT domain, wall_s FROM node_power WHERE wall_s >= ? AND wall_s < ?"
_UNTIL = "SELECT uj FROM job_energy WHERE run = ? AND domain = ? AND wall_s <= ? ORDER BY wall_s DESC LIMIT 1"
_SINCE = "SELECT run, domain, max(uj) FROM job_energy WHERE wall_s > ? GROUP BY run, domain"
_PUT = "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?)"
_PUT_RUN = "INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_OF_ALL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}
BEGUN_ANEW = "its node's books were begun anew while it ran"

Key = tuple[str, str]
"""Holder and domain."""
Points = dict[int, tuple[int, int]]
"""By stamp: microjoules, and for how many ns they are known."""
Raw = dict[str, tuple[int, int]]
"""By domain, as the node says it: microjoules measured, and for how many ns they are known."""


class _Began(Struct):
    """A domain's first commit that is mirrored, and what jobs had by then that are not."""

    stamp_ms: int
    uj: int
    sure: bool
    """What nobody had was known, too."""


class _File(Struct):
    """A file of the node's own: from when on, and what those before it had, which is added to what it says."""

    since_ms: int = 0
    domains: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Measured, known, unknown."""
    holders: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """Of `idle`, `system`, and runs that may go on in it: by domain, microjoules and known ns."""
    elapsed_ns: dict[str, int] = field(default_factory=dict)
    whole: tuple[int, int, int] = (0, 0, 0)


class _Memory(Struct):
    """What the mirror must know of itself from one time to the next."""

    first_ms: int | None = None
    first: Raw = field(default_factory=dict)
    """The first commit that is mirrored, as the node said it, and the last."""
    last_ms: int | None = None
    last: Raw = field(default_factory=dict)
    began: dict[str, _Began] = field(default_factory=dict)
    files: list[_File] = field(default_factory=lambda: [_File()])
    pruned_ms: int = 0


class _Standings:
    """Where holders stand at a time: by the points of some hours, and by what is there of the others."""

    def __init__(self, db: sqlite3.Connection, points: Mapping[Key, Points]) -> None:
        self._db = db
        self._points = points
        rows = db.execute("SELECT holder, domain, uj, known_ns FROM ledger")
        self._ledger: dict[Key, tuple[int, int]] = {(one[0], one[1]): (one[2], one[3]) for one in rows}
        self._others: dict[str, int] = {}
        """By domain, what all have that is a job's, and none of these hours'."""
        for (holder, domain), (uj, _) in self._ledger.items():
            if holder not in (IDLE, SYSTEM, AHEAD) and (holder, domain) not in points:
                self._others[domain] = self._others.get(domain, 0) + uj
        self._runs: dict[str, list[str]] = {}
        for holder, domain in points:
            if holder not in (IDLE, SYSTEM):
                self._runs.setdefault(domain, []).append(holder)

    def has(self, holder: str, domain: str, at: int) -> bool:
        """There is a point of this very time."""
        return at in self._points.get((holder, domain), {})

    def last(self, holder: str, domain: str, at: int) -> tuple[int, int] | None:
        """The last point until then, of these hours."""
        points = self._points.get((holder, domain), {})
        stamp = max((one for one in points if one <= at), default=None)
        return None if stamp is None else points[stamp]

    def at(self, holder: str, domain: str, at: int) -> int:
        """Microjoules until then."""
        if found := self.last(holder, domain, at):
            return found[0]
        if holder in (IDLE, SYSTEM):
            return self._ledger.get((holder, domain), (0, 0))[0]
        row = self._db.execute(_UNTIL, (holder, domain, at / 1000)).fetchone()
        return int(row[0]) if row else 0

    def best(self, run: str, domain: str) -> tuple[int, int]:
        """All that is known of a run: never less than before."""
        values = [*self._points[run, domain].values(), self._ledger.get((run, domain), (0, 0))]
        return max(uj for uj, _ in values), max(known_ns for _, known_ns in values)

    def jobs(self, domain: str, at: int, *, others: bool = True) -> int:
        """Jobs' microjoules until then; without the others: those alone that have points in these hours."""
        mine = sum(self.at(run, domain, at) for run in self._runs.get(domain, ()))
        return mine + (self._others.get(domain, 0) if others else 0)

    def add_past(self, domain: str, uj: int) -> None:
        """The past has more now."""
        self._others[domain] = self._others.get(domain, 0) + uj


class _NotWholeError(Exception):
    """By the first and last points of hours alone it does not come out."""


class FileError(StoreError):
    """A node's file cannot be read or written.

    Args:
        text: for people.
        of_all: so can no other on this disk.
    """

    def __init__(self, text: str, *, of_all: bool = False) -> None:
        super().__init__(text)
        self.of_all = of_all


class NodeMirror:
    """One node's file.

    Args:
        path: where it is; made if it is not there.
        node: the node's name.
        cluster: its cluster's.

    Raises:
        FileError: it cannot be written, or is another cluster's.
    """

    def __init__(self, path: Path, node: str, cluster: str) -> None:
        self._path = path
        self._node = node
        self.problems: list[str] = []
        """What a person should know of it."""
        self._came_back = False
        with self._errors():
            self._db = open_for_writing(path)
            try:
                self._db.executescript(_MORE)
                # Another process may begin the same file at this moment.
                mine = [("node", node), ("cluster", cluster)]
                self._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", mine)
                found = self._meta("cluster")
                if found != cluster:
                    whose = f"mirrors a node {node} of cluster {found!r:.80}: {cluster}'s has no place there"
                    raise FileError(f"{path}: {whose}")
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def take(self, arrived: Arrived, from_ms: int, to_ms: int, now_ms: int, *, everything: bool) -> bool:
        """Take in what came of a time, in one transaction.

        Args:
            arrived: rows with stamps within the time.
            from_ms: where it begins, a full hour.
            to_ms: where it ends, within one day.
            now_ms: the time.
            everything: all rows of the time are there, not the first and last of its hours alone.

        Returns:
            Whether it is in; else everything is needed, and nothing was changed.

        Raises:
            FileError: the file cannot be read or written.
        """
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                memory = self._load()
                taking = _Taking(self._db, self._node, memory, (from_ms, to_ms), everything=everything)
                taking.run(_since(arrived, memory.pruned_ms - RUN_DAYS * DAY_MS), now_ms, came_back=self._came_back)
                self._put_meta("mirror", msgspec.json.encode(memory).decode())
                self._db.execute("COMMIT")
            except _NotWholeError:
                return False
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        self.problems += taking.problems
        self._came_back = taking.came_back
        return True

    def prune(self, now_ms: int) -> None:
        """Once a day: points have a retention, and the runs of long ago become one sum per domain.

        Raises:
            FileError: the file cannot be written.
        """
        with self._errors():
            memory = self._load()
            # Never on the word of one clock alone.
            now_ms = min(now_ms, memory.last_ms or 0)
            if abs(now_ms - memory.pruned_ms) < DAY_MS:
                return
            memory.pruned_ms = now_ms
            when = {
                "series": now_ms / 1000 - SERIES_DAYS * 86400,
                "run": now_ms / 1000 - RUN_DAYS * 86400,
                "past": PAST,
            }
            old = "(SELECT run FROM run WHERE end_s < :run AND state != 'open')"
            with self._transaction():
                for statement in (
                    "DELETE FROM job_energy WHERE wall_s < :series",
                    "DELETE FROM node_power WHERE wall_s < :series",
                    f"""INSERT INTO ledger SELECT domain, :past, sum(uj), sum(known_ns) FROM ledger
                    WHERE holder IN {old} GROUP BY domain ON CONFLICT (holder, domain) DO UPDATE
                    SET uj = uj + excluded.uj, known_ns = known_ns + excluded.known_ns""",  # noqa: S608 (our own words, as below)
                    f"DELETE FROM ledger WHERE holder IN {old}",  # noqa: S608
                    f"DELETE FROM mirrored WHERE run IN {old}",  # noqa: S608
                    f"DELETE FROM run WHERE run IN {old}",  # noqa: S608
                ):
                    self._db.execute(statement, when)
                self._put_meta("mirror", msgspec.json.encode(memory).decode())

    def _load(self) -> _Memory:
        text = self._meta("mirror")
        return _Memory() if text is None else msgspec.json.decode(text, type=_Memory)

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _put_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileError:
            raise
        except StoreError as error:
            raise FileError(str(error), of_all=_is_of_all(error.__cause__)) from error
        except (sqlite3.Error, msgspec.MsgspecError, OverflowError) as error:
            raise FileError(f"{self._path}: {error}", of_all=_is_of_all(error)) from error


def _is_of_all(error: BaseException | None) -> bool:
    """The disk is full, or may not be written: no other node's file can be, either."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_ALL
    return isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT, EROFS)


def last_of(path: Path, cluster: str | None) -> int | None:
    """The commit at which a mirrored node stands; None: another cluster's, or no mirror that can be read."""
    try:
        db = open_for_reading(path)
    except StoreError:
        return None
    try:
        meta = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('cluster', 'mirror')"))
        if "mirror" not in meta or cluster not in (None, meta.get("cluster")):
            return None
        return msgspec.json.decode(meta["mirror"], type=_Memory).last_ms
    except (sqlite3.Error, msgspec.MsgspecError):
        return None  # told when something of it comes
    finally:
        db.close()


class _Taking:
    """The taking in of a time of one node."""

    def __init__(
        self, db: sqlite3.Connection, node: str, memory: _Memory, span: tuple[int, int], *, everything: bool
    ) -> None:
        self._db = db
        self._node = node
        self._memory = memory
        self._span = span
        self._everything = everything
        self.problems: list[str] = []
        self.came_back = False

    def run(self, arrived: Arrived, now_ms: int, *, came_back: bool = False) -> None:
        """All of it, file by file of the node's own."""
        self.came_back = came_back or self._come_back(arrived, now_ms)
        if self.came_back:
            arrived = _part(arrived, 0, now_ms + 1)  # what is of later has a time that will come
        begins = self._begins(arrived)
        for from_ms, to_ms in zip(begins, [*begins[1:], None], strict=True):
            part = _part(arrived, from_ms, to_ms)
            if from_ms not in {one.since_ms for one in self._memory.files}:
                self._begin_anew(from_ms)
            number = sum(one.since_ms <= from_ms for one in self._memory.files) - 1
            self._take(part, self._memory.files[number], number)

    def _come_back(self, arrived: Arrived, now_ms: int) -> bool:
        """Where clocks were ahead, here too, what comes now is later than where the mirror stands."""
        memory = self._memory
        if memory.last_ms is None or memory.last_ms <= now_ms:
            return False
        if not any(at <= now_ms and _knows_more(_raw(cut), memory.last) for at, cut in arrived.domains.items()):
            return False
        memory.last_ms, memory.last = None, {}
        if memory.first_ms is not None and memory.first_ms > now_ms:
            memory.first_ms, memory.first = None, {}
        for table in ("job_energy", "node_power"):
            self._db.execute(f"DELETE FROM {table} WHERE wall_s > ?", (now_ms / 1000,))  # noqa: S608 (our own words)
        self._say("clocks were ahead, and the mirror with them: the hours of that time are not told apart any more")
        return True

    # -- a node's own files ----------------------------------------------------------------------------------------

    def _begins(self, arrived: Arrived) -> list[int]:
        """When the files of the node's own begin that these rows are of; what the mirror cannot join is dropped."""
        memory = self._memory
        cuts = {
            at: {one.domain: (one.energy_uj, one.known_ns) for one in cut.values()}
            for at, cut in arrived.domains.items()
        }
        for at, raw in ((memory.first_ms, memory.first), (memory.last_ms, memory.last)):
            if at is not None:
                cuts.setdefault(at, raw)
        known = {one.since_ms for one in memory.files}
        begins = set(known)
        least = 0
        for at in _falls(sorted(cuts.items())):
            if at in known:
                continue
            if not self._everything:
                raise _NotWholeError
            if memory.first_ms is not None and at <= memory.first_ms:
                least = at
                self._say("its books were begun anew before its mirror was: what they said before is not mirrored")
            elif memory.last_ms is None or at > memory.last_ms:
                begins.add(at)
                self._say("its books were begun anew: what they had before is added to what they say now")
            else:
                self._say("its books were begun anew, and nobody can tell when: make its mirror anew (docs: mirror)")
        if least:
            _drop(arrived, least)
        return sorted(begins)

    def _begin_anew(self, at_ms: int) -> None:
        """What a file of the node's own had at its end is added to all that the next one says."""
        db, last_s = self._db, (self._memory.last_ms or 0) / 1000
        begun = _File(at_ms)
        for name, *sums in db.execute("SELECT name, measured_uj, known_ns, unknown_ns FROM domain"):
            begun.domains[name] = (sums[0], sums[1], sums[2])
        # A job may go on under the new file, or have ended a moment before.
        rows = db.execute("SELECT run, elapsed_ns FROM run WHERE state = 'open' OR end_s >= ?", (last_s - 3600,))
        begun.elapsed_ns = dict(rows.fetchall())
        for holder in (IDLE, SYSTEM, *begun.elapsed_ns):
            rows = db.execute("SELECT domain, uj, known_ns FROM ledger WHERE holder = ?", (holder,))
            begun.holders[holder] = {domain: (uj, known_ns) for domain, uj, known_ns in rows}
        row = db.execute("SELECT meter_uj, parts_uj, deficit_uj FROM whole").fetchone()
        begun.whole = row or (0, 0, 0)
        # No commit of all holders comes any more that has what the last runs had.
        ahead = db.execute("SELECT domain, uj FROM ledger WHERE holder = ?", (AHEAD,)).fetchall()
        for domain, uj in ahead:
            self._add_past(domain, uj)
        db.execute("DELETE FROM ledger WHERE holder = ?", (AHEAD,))
        for run, flags in db.execute("SELECT run, flags FROM run WHERE state = 'open'").fetchall():
            told = msgspec.json.encode([*msgspec.json.decode(flags), BEGUN_ANEW]).decode()
            db.execute(
                "UPDATE run SET state = 'lost', end_s = max(start_s, ?), flags = ? WHERE run = ?", (last_s, told, run)
            )
        self._memory.files.append(begun)

    # -- one file's rows -------------------------------------------------------------------------------------------

    def _take(self, part: Arrived, file: _File, number: int) -> None:
        later = self._memory.files[number + 1 :]
        stored = self._stored(file.since_ms, later[0].since_ms if later else None)
        points = _joined(part.energy, file)
        merged = _merged(stored, points)
        self._put_runs(part.runs, file)
        standing = _Standings(self._db, merged)
        at_ms = self._choose(part, file, standing, latest=not later)
        rows = [(domain, run, *standing.best(run, domain)) for run, domain in merged if run not in (IDLE, SYSTEM)]
        self._db.executemany(_PUT, rows)
        self._put_points(stored, merged, at_ms if not later else None)
        self._put_metered(part, file, at_ms if not later else None)

    def _stored(self, since_ms: int, until_ms: int | None) -> dict[Key, Points]:
        """Its points of these hours."""
        begin = max(self._span[0], since_ms)
        end = -(-self._span[1] // HOUR_MS) * HOUR_MS
        end = end if until_ms is None else min(end, until_ms)
        found: dict[Key, Points] = {}
        for run, domain, wall_s, uj, known_ns in self._db.execute(_WINDOW, (begin / 1000, end / 1000)):
            found.setdefault((run, domain), {})[_ms(wall_s)] = uj, known_ns
        return found

    def _choose(self, part: Arrived, file: _File, standing: _Standings, *, latest: bool) -> int | None:
        """The commit at which domains and holders are said to stand, and what they are then; None: there is none."""
        memory = self._memory
        commits = sorted(part.domains.keys() & part.books.keys(), reverse=True)
        if part.books and not self._everything and not (commits and _is_whole(part, commits[0])):
            raise _NotWholeError  # of the newest only a part is here: an earlier one will do
        commits = [at for at in commits if _is_whole(part, at)]
        if not commits:
            return memory.last_ms
        self._begin_domains(part, file, standing, commits[-1])
        if not latest or (memory.last_ms is not None and commits[0] < memory.last_ms):
            return memory.last_ms
        recent = [at for at in commits if at > commits[0] - RECENT_MS and at >= (memory.last_ms or 0)]
        if not self._everything:
            recent = recent[:1]
        out = {at: self._out(part, file, standing, at) for at in recent}
        at = next((at for at in recent if not out[at]), recent[0])
        if out[at]:
            if not self._everything:
                raise _NotWholeError
            told = ", ".join(f"{domain} by {uj} uJ" for domain, uj in sorted(out[at].items()))
            self._say(f"what came of it does not balance: {told}")
        self._stand(part, file, standing, at)
        return at

    def _begin_domains(self, part: Arrived, file: _File, standing: _Standings, first_ms: int) -> None:
        """What jobs had by the first commit that is mirrored, and are not themselves, is the past's."""
        memory = self._memory
        if memory.first_ms is None or first_ms < memory.first_ms:
            memory.first_ms, memory.first = first_ms, _raw(part.domains[first_ms])
        earliest: dict[str, int] = {}
        names: dict[str, int] = {}
        for at, cut in part.domains.items():
            for name, one in cut.items():
                if one.kind != "node":
                    names[name] = max(names.get(name, 0), at)
                    if one.reason is None and standing.has(IDLE, name, at):
                        earliest[name] = min(earliest.get(name, at), at)
        for name, last_ms in names.items():
            was = memory.began.get(name)
            at, sure = earliest.get(name, last_ms), name in earliest
            if was is not None and was.sure and not (sure and at < was.stamp_ms):
                continue
            earlier = was is not None and at < was.stamp_ms
            measured_uj = part.domains[at][name].energy_uj + file.domains.get(name, (0, 0, 0))[0]
            jobs_uj = standing.jobs(name, at, others=not earlier) - (0 if was is None or earlier else was.uj)
            free_uj = sum(standing.at(holder, name, at) for holder in (IDLE, SYSTEM))
            uj = max(measured_uj - free_uj - jobs_uj, 0)
            memory.began[name] = _Began(at, uj, sure)
            self._add_past(name, uj - (was.uj if was else 0))
            standing.add_past(name, uj - (was.uj if was else 0))

    def _add_past(self, domain: str, uj: int) -> None:
        put = "INSERT INTO ledger VALUES (?, ?, ?, 0) ON CONFLICT (holder, domain) DO UPDATE SET uj = uj + excluded.uj"
        self._db.execute(put, (domain, PAST, uj))
        self._db.execute("DELETE FROM ledger WHERE holder = ? AND domain = ? AND uj = 0", (PAST, domain))

    def _out(self, part: Arrived, file: _File, standing: _Standings, at: int) -> dict[str, int]:
        """By domain, what the books of a commit are out by."""
        found: dict[str, int] = {}
        for name, one in part.domains[at].items():
            if one.kind != "node":
                measured_uj = one.energy_uj + file.domains.get(name, (0, 0, 0))[0]
                free_uj = sum(standing.at(holder, name, at) for holder in (IDLE, SYSTEM))
                out_uj = measured_uj - free_uj - standing.jobs(name, at)
                # A server that keeps floats rounds what is beyond 2^53: that is no energy that did not arrive.
                if abs(out_uj) > (0 if measured_uj < EXACT else 4 * ulp(measured_uj)):
                    found[name] = out_uj
        return found

    def _stand(self, part: Arrived, file: _File, standing: _Standings, at: int) -> None:
        """Domains, what nobody had of them, and the meter of the whole, as of one commit."""
        cut, db = part.domains[at], self._db
        rows = [_domain(one, file) for one in cut.values()]
        db.executemany("INSERT OR REPLACE INTO domain VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        free = [
            (name, holder, *found)
            for name in cut
            for holder in (IDLE, SYSTEM)
            if (found := standing.last(holder, name, at))
        ]
        db.executemany(_PUT, free)
        self._put_whole(part.books[at], file)
        self._memory.last_ms, self._memory.last = at, _raw(cut)

    def _put_whole(self, one: BooksRow, file: _File) -> None:
        if one.excludes is not None:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('excludes', ?)", (one.excludes,))
        sums = (one.meter_uj, one.parts_uj, one.deficit_uj)
        if one.meter is not None and None not in sums:
            whole = [now + then for now, then in zip(sums, file.whole, strict=True) if now is not None]
            self._db.execute("INSERT OR REPLACE INTO whole VALUES (1, ?, ?, ?, ?)", (one.meter, *whole))

    def _put_runs(self, runs: Mapping[str, tuple[int, RunRow]], file: _File) -> None:
        for stamp_ms, one in runs.values():
            was = self._db.execute(
                "SELECT r.state != 'open', r.elapsed_ns, coalesce(m.stamp_ms, 0), r.start_s FROM run r "
                "LEFT JOIN mirrored m ON m.run = r.run WHERE r.run = ?",
                (one.run,),
            ).fetchone()
            elapsed_ns = one.elapsed_ns + file.elapsed_ns.get(one.run, 0)
            if (
                was
                and was[2] >= file.since_ms
                and (one.state != "open", elapsed_ns, stamp_ms) < (bool(was[0]), *was[1:3])
            ):
                continue
            row = _run(one, elapsed_ns)
            if was and was[2] < file.since_ms:
                row[7] = min(row[7], was[3])
            self._db.execute(_PUT_RUN, row)
            self._db.execute("INSERT OR REPLACE INTO mirrored VALUES (?, ?)", (one.run, stamp_ms))

    def _put_points(self, stored: Mapping[Key, Points], merged: Mapping[Key, Points], at: int | None) -> None:
        gone, new = [], []
        for key, points in merged.items():
            free = key[0] in (IDLE, SYSTEM)
            stamps = [one for one in points if not free or at is None or one <= at]
            keep = _kept(stamps)
            if not free and at is not None and at in points and max(points) > at:
                keep.add(at)  # by it is known what came after it
            was = stored.get(key, {})
            gone += [(*key, one / 1000) for one in was if one not in keep]
            new += [(*key, one / 1000, *points[one]) for one in keep if was.get(one) != points[one]]
        self._db.executemany("DELETE FROM job_energy WHERE run = ? AND domain = ? AND wall_s = ?", gone)
        self._db.executemany("INSERT OR REPLACE INTO job_energy VALUES (?, ?, ?, ?, ?)", new)
        if at is not None:
            self._put_ahead(at)

    def _put_ahead(self, at: int) -> None:
        more: dict[str, int] = {}
        for run, domain, uj in self._db.execute(_SINCE, (at / 1000,)).fetchall():
            row = self._db.execute(_UNTIL, (run, domain, at / 1000)).fetchone()
            more[domain] = more.get(domain, 0) + uj - (row[0] if row else 0)
        self._db.execute("DELETE FROM ledger WHERE holder = ?", (AHEAD,))
        self._db.executemany(_PUT, [(domain, AHEAD, -uj, 0) for domain, uj in more.items() if uj])

    def _put_metered(self, part: Arrived, file: _File, at: int | None) -> None:
        begin = max(self._span[0], file.since_ms)
        end = -(-self._span[1] // HOUR_MS) * HOUR_MS
        stamps: dict[str, set[int]] = {}
        new: dict[tuple[str, int], DomainRow] = {}
        for domain, wall_s in self._db.execute(_METERED, (begin / 1000, end / 1000)):
            stamps.setdefault(domain, set()).add(_ms(wall_s))
        for stamp, cut in part.domains.items():
            if at is None or stamp <= at:
                for name, one in cut.items():
                    stamps.setdefault(name, set()).add(stamp)
                    new[name, stamp] = one
        for name, found in stamps.items():
            keep = _kept(found)
            gone = [(name, one / 1000) for one in found - keep]
            self._db.executemany("DELETE FROM node_power WHERE domain = ? AND wall_s = ?", gone)
            rows = [(name, one / 1000, *_metered(new[name, one], file)) for one in keep if (name, one) in new]
            self._db.executemany("INSERT OR REPLACE INTO node_power VALUES (?, ?, ?, ?)", rows)

    def _say(self, text: str) -> None:
        self.problems.append(f"{self._node}: {text}")


def write_job(path: Path, node: str, cluster: str, arrived: Arrived) -> None:
    """Write what came of one job on one node, in a file of its own.

    Raises:
        StoreError: it cannot be written.
    """
    db = open_for_writing(path)
    nothing = _File()
    try:
        with db:
            db.executemany("INSERT INTO meta VALUES (?, ?)", [("node", node), ("cluster", cluster)])
            latest = {name: one for _, cut in sorted(arrived.domains.items()) for name, one in cut.items()}
            rows = [_domain(one, nothing) for one in latest.values()]
            db.executemany("INSERT INTO domain VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            runs = [_run(one, one.elapsed_ns) for _, one in arrived.runs.values()]
            db.executemany(_PUT_RUN, runs)
            for (run, domain), points in arrived.energy.items():
                best = max(uj for uj, _ in points.values()), max(known_ns for _, known_ns in points.values())
                db.execute(_PUT, (domain, run, *best))
                each = [(run, domain, at / 1000, *found) for at, found in points.items()]
                db.executemany("INSERT INTO job_energy VALUES (?, ?, ?, ?, ?)", each)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    finally:
        db.close()


def _knows_more(now: Raw, then: Raw) -> bool:
    """Nothing of it is less, and something more: it is later, whatever the stamps say."""
    common = now.keys() & then.keys()
    return all(now[one] >= then[one] and now[one][1] >= then[one][1] for one in common) and any(
        now[one] > then[one] for one in common
    )


def _since(arrived: Arrived, before_ms: int) -> Arrived:
    """What runs that ended before this had is in one sum, and not to be had twice."""
    if before_ms <= 0:
        return arrived
    rest = _part(arrived, before_ms, None)
    gone = {run for run, (_, one) in rest.runs.items() if one.end_ms is not None and one.end_ms < before_ms}
    rest.runs = {run: one for run, one in rest.runs.items() if run not in gone}
    rest.energy = {key: points for key, points in rest.energy.items() if key[0] not in gone}
    return rest


def _is_whole(part: Arrived, at: int) -> bool:
    """A commit has all domains that were there before it."""
    before = {name for stamp, cut in part.domains.items() if stamp <= at for name in cut}
    return before == part.domains[at].keys()


def _falls(cuts: list[tuple[int, Raw]]) -> Iterator[int]:
    """When a node's own file was begun anew: its sums fall, and nothing since knows more than the time since.

    Where the clock was set back, sums fall by their stamps, too, but what they know is of a longer time.
    """
    for number in range(1, len(cuts)):
        (then, before), (at, now) = cuts[number - 1 : number + 1]
        common = before.keys() & now.keys()
        if sum(now[one][0] for one in common) < sum(before[one][0] for one in common) and all(
            max((known_ns for _, known_ns in raw.values()), default=0) <= (stamp - then) * 1_000_000 + SLACK_NS
            for stamp, raw in cuts[number:]
        ):
            yield at


def _part(arrived: Arrived, from_ms: int, to_ms: int | None) -> Arrived:
    """What is of a time."""

    def within(stamp: int) -> bool:
        return from_ms <= stamp and (to_ms is None or stamp < to_ms)

    return Arrived(
        domains={at: cut for at, cut in arrived.domains.items() if within(at)},
        energy={
            key: some
            for key, points in arrived.energy.items()
            if (some := {at: point for at, point in points.items() if within(at)})
        },
        runs={run: (at, one) for run, (at, one) in arrived.runs.items() if within(at)},
        books={at: one for at, one in arrived.books.items() if within(at)},
    )


def _drop(arrived: Arrived, before_ms: int) -> None:
    """Forget what is earlier."""
    rest = _part(arrived, before_ms, None)
    arrived.domains, arrived.energy, arrived.runs, arrived.books = rest.domains, rest.energy, rest.runs, rest.books


def _joined(energy: Mapping[Key, Points], file: _File) -> dict[Key, Points]:
    """Points with what the files before had."""
    found = {}
    for (holder, domain), points in energy.items():
        uj, known_ns = file.holders.get(holder, {}).get(domain, (0, 0))
        found[holder, domain] = {at: (one[0] + uj, one[1] + known_ns) for at, one in points.items()}
    return found


def _merged(stored: Mapping[Key, Points], new: Mapping[Key, Points]) -> dict[Key, Points]:
    """Both; a point that is there twice is the one that knows more."""
    found = {key: dict(points) for key, points in stored.items()}
    for key, points in new.items():
        mine = found.setdefault(key, {})
        for at, (uj, known_ns) in points.items():
            was = mine.get(at, (0, 0))
            mine[at] = max(uj, was[0]), max(known_ns, was[1])
    return found


def _kept(stamps: Iterable[int]) -> set[int]:
    """Of each full hour the first and the last, and all near a midnight."""
    hours: dict[int, tuple[int, int]] = {}
    keep = set()
    for at in stamps:
        first, last = hours.get(at // HOUR_MS, (at, at))
        hours[at // HOUR_MS] = min(first, at), max(last, at)
        if min(at % DAY_MS, DAY_MS - at % DAY_MS) <= MARGIN_MS:
            keep.add(at)
    return keep.union(*hours.values())


def _raw(cut: Mapping[str, DomainRow]) -> Raw:
    return {name: (one.energy_uj, one.known_ns) for name, one in cut.items()}


def _domain(one: DomainRow, file: _File) -> tuple[object, ...]:
    more = file.domains.get(one.domain, (0, 0, 0))
    sums = one.energy_uj + more[0], one.unknown_ns + more[2], one.known_ns + more[1]
    return (one.domain, one.kind, one.source, one.method, *sums, one.reason)


def _metered(one: DomainRow, file: _File) -> tuple[int, int]:
    more = file.domains.get(one.domain, (0, 0, 0))
    return one.energy_uj + more[0], one.unknown_ns + more[2]


def _run(one: RunRow, elapsed_ns: int) -> list[Any]:
    end_s = None if one.end_ms is None else one.end_ms / 1000
    return [
        *(one.run, one.job, one.restart, one.uid, one.cpus, one.mem_bytes, one.gpus),
        *(one.start_ms / 1000, end_s, elapsed_ns, one.state, one.flags, one.held),
    ]


def _ms(wall_s: float) -> int:
    return round(wall_s * 1000)
