"""Taking in what came of a node: where it stands, and which points of it are kept.

What is there of each holder and domain are the first and the last point of each full hour, and all near midnights.
Where domains and holders stand is said as of one commit of the node, the last that came whole: there its books can be
proven. What runs are told to have had since is theirs already, and stands as `ahead` beside it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from math import ulp

from jobimpact.core.records import IDLE, SYSTEM
from jobimpact.mirror.anew import NotWholeError, OwnFiles, add_past
from jobimpact.mirror.memory import (
    PUT,
    PUT_RUN,
    Began,
    Memory,
    OwnFile,
    domain_row,
    joined,
    metered_row,
    put_said,
    run_row,
)
from jobimpact.mirror.points import Key, Points, is_whole, kept_stamps, merged_points, ms_of, part_of, raw_of
from jobimpact.mirror.rows import AHEAD, Arrived, BooksRow, DomainRow, RunRow
from jobimpact.store.series import HOUR_MS

__all__ = ["Taking"]

RECENT_MS = 600_000
"""So far before the last commit another one is taken, where the last has not come whole."""
EXACT = 1 << 53
_WINDOW = "SELECT run, domain, wall_s, uj, known_ns FROM job_energy WHERE wall_s >= ? AND wall_s < ?"
_METERED = "SELECT domain, wall_s FROM node_power WHERE wall_s >= ? AND wall_s < ?"
_UNTIL = "SELECT uj FROM job_energy WHERE run = ? AND domain = ? AND wall_s <= ? ORDER BY wall_s DESC LIMIT 1"
_SINCE = "SELECT run, domain, max(uj) FROM job_energy WHERE wall_s > ? GROUP BY run, domain"


class Standings:
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


class Taking:
    """The taking in of a time of one node."""

    def __init__(
        self, db: sqlite3.Connection, node: str, memory: Memory, span: tuple[int, int], *, everything: bool
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
        own = OwnFiles(self._db, self._memory, self._say)
        self.came_back = came_back or own.come_back(arrived, now_ms)
        if self.came_back:
            arrived = part_of(arrived, 0, now_ms + 1)  # what is of later has a time that will come
        begins = own.begins(arrived, everything=self._everything)
        for from_ms, to_ms in zip(begins, [*begins[1:], None], strict=True):
            part = part_of(arrived, from_ms, to_ms)
            if from_ms not in {one.since_ms for one in self._memory.files}:
                own.begin_anew(from_ms)
            number = sum(one.since_ms <= from_ms for one in self._memory.files) - 1
            self._take(part, self._memory.files[number], number)

    # -- one file's rows -------------------------------------------------------------------------------------------

    def _take(self, part: Arrived, file: OwnFile, number: int) -> None:
        later = self._memory.files[number + 1 :]
        stored = self._stored(file.since_ms, later[0].since_ms if later else None)
        points = joined(part.energy, file)
        merged = merged_points(stored, points)
        self._put_runs(part.runs, file)
        put_said(self._db, part, file)
        standing = Standings(self._db, merged)
        at_ms = self._choose(part, file, standing, latest=not later)
        rows = [(domain, run, *standing.best(run, domain)) for run, domain in merged if run not in (IDLE, SYSTEM)]
        self._db.executemany(PUT, rows)
        self._put_points(stored, merged, at_ms if not later else None)
        self._put_metered(part, file, at_ms if not later else None)

    def _stored(self, since_ms: int, until_ms: int | None) -> dict[Key, Points]:
        """Its points of these hours."""
        begin = max(self._span[0], since_ms)
        end = -(-self._span[1] // HOUR_MS) * HOUR_MS
        end = end if until_ms is None else min(end, until_ms)
        found: dict[Key, Points] = {}
        for run, domain, wall_s, uj, known_ns in self._db.execute(_WINDOW, (begin / 1000, end / 1000)):
            found.setdefault((run, domain), {})[ms_of(wall_s)] = uj, known_ns
        return found

    def _choose(self, part: Arrived, file: OwnFile, standing: Standings, *, latest: bool) -> int | None:
        """The commit at which domains and holders are said to stand, and what they are then; None: there is none."""
        memory = self._memory
        commits = sorted(part.domains.keys() & part.books.keys(), reverse=True)
        if part.books and not self._everything and not (commits and is_whole(part, commits[0])):
            raise NotWholeError  # of the newest only a part is here: an earlier one will do
        commits = [at for at in commits if is_whole(part, at)]
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
                raise NotWholeError
            told = ", ".join(f"{domain} by {uj} uJ" for domain, uj in sorted(out[at].items()))
            self._say(f"what came of it does not balance: {told}")
        self._stand(part, file, standing, at)
        return at

    def _begin_domains(self, part: Arrived, file: OwnFile, standing: Standings, first_ms: int) -> None:
        """What jobs had by the first commit that is mirrored, and are not themselves, is the past's."""
        memory = self._memory
        if memory.first_ms is None or first_ms < memory.first_ms:
            memory.first_ms, memory.first = first_ms, raw_of(part.domains[first_ms])
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
            memory.began[name] = Began(at, uj, sure)
            add_past(self._db, name, uj - (was.uj if was else 0))
            standing.add_past(name, uj - (was.uj if was else 0))

    def _out(self, part: Arrived, file: OwnFile, standing: Standings, at: int) -> dict[str, int]:
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

    def _stand(self, part: Arrived, file: OwnFile, standing: Standings, at: int) -> None:
        """Domains, what nobody had of them, and the meter of the whole, as of one commit."""
        cut, db = part.domains[at], self._db
        rows = [domain_row(one, file) for one in cut.values()]
        db.executemany("INSERT OR REPLACE INTO domain VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        free = [
            (name, holder, *found)
            for name in cut
            for holder in (IDLE, SYSTEM)
            if (found := standing.last(holder, name, at))
        ]
        db.executemany(PUT, free)
        self._put_whole(part.books[at], file)
        self._memory.last_ms, self._memory.last = at, raw_of(cut)
        self._memory.last_books = part.books[at].books

    def _put_whole(self, one: BooksRow, file: OwnFile) -> None:
        for name, value in (("excludes", one.excludes), ("books", one.books)):
            if value is not None:
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
        sums = (one.meter_uj, one.parts_uj, one.deficit_uj)
        if one.meter is not None and None not in sums:
            whole = [now + then for now, then in zip(sums, file.whole, strict=True) if now is not None]
            self._db.execute("INSERT OR REPLACE INTO whole VALUES (1, ?, ?, ?, ?)", (one.meter, *whole))

    def _put_runs(self, runs: Mapping[str, tuple[int, RunRow]], file: OwnFile) -> None:
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
            row = run_row(one, elapsed_ns)
            if was and was[2] < file.since_ms:
                row[7] = min(row[7], was[3])
            self._db.execute(PUT_RUN, row)
            self._db.execute("INSERT OR REPLACE INTO mirrored VALUES (?, ?)", (one.run, stamp_ms))

    def _put_points(self, stored: Mapping[Key, Points], merged: Mapping[Key, Points], at: int | None) -> None:
        gone, new = [], []
        for key, points in merged.items():
            free = key[0] in (IDLE, SYSTEM)
            stamps = [one for one in points if not free or at is None or one <= at]
            keep = kept_stamps(stamps)
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
            # Where a clock was ahead, a point of then may say less.
            more[domain] = more.get(domain, 0) + max(uj - (row[0] if row else 0), 0)
        self._db.execute("DELETE FROM ledger WHERE holder = ?", (AHEAD,))
        self._db.executemany(PUT, [(domain, AHEAD, -uj, 0) for domain, uj in more.items() if uj])

    def _put_metered(self, part: Arrived, file: OwnFile, at: int | None) -> None:
        begin = max(self._span[0], file.since_ms)
        end = -(-self._span[1] // HOUR_MS) * HOUR_MS
        stamps: dict[str, set[int]] = {}
        new: dict[tuple[str, int], DomainRow] = {}
        for domain, wall_s in self._db.execute(_METERED, (begin / 1000, end / 1000)):
            stamps.setdefault(domain, set()).add(ms_of(wall_s))
        for stamp, cut in part.domains.items():
            if at is None or stamp <= at:
                for name, one in cut.items():
                    stamps.setdefault(name, set()).add(stamp)
                    new[name, stamp] = one
        for name, found in stamps.items():
            keep = kept_stamps(found)
            gone = [(name, one / 1000) for one in found - keep]
            self._db.executemany("DELETE FROM node_power WHERE domain = ? AND wall_s = ?", gone)
            rows = [(name, one / 1000, *metered_row(new[name, one], file)) for one in keep if (name, one) in new]
            self._db.executemany("INSERT OR REPLACE INTO node_power VALUES (?, ?, ?, ?)", rows)

    def _say(self, text: str) -> None:
        self.problems.append(f"{self._node}: {text}")
