"""A node's own file that was begun anew, and clocks that were ahead: what the mirror makes of sums that fall.

A node whose own file was begun anew counts from nothing again. Its mirror goes on: what the file before had is added.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import msgspec

from jobimpact.core.records import IDLE, PAST, SYSTEM
from jobimpact.mirror.memory import Memory, OwnFile
from jobimpact.mirror.points import drop, drop_later, falls, knows_more, raw_of
from jobimpact.mirror.rows import AHEAD, Arrived

__all__ = ["NotWholeError", "OwnFiles", "add_past"]

BEGUN_ANEW = "its node's books were begun anew while it ran"


class NotWholeError(Exception):
    """By the first and last points of hours alone it does not come out."""


class OwnFiles:
    """The files of the node's own that its points are of, one after the other.

    Args:
        db: the node's mirror, in a transaction.
        memory: what it knows of itself; changed.
        say: tells a person.
    """

    def __init__(self, db: sqlite3.Connection, memory: Memory, say: Callable[[str], None]) -> None:
        self._db = db
        self._memory = memory
        self._say = say

    def come_back(self, arrived: Arrived, now_ms: int) -> bool:
        """Where clocks were ahead, here too, what comes now is later than where the mirror stands."""
        memory = self._memory
        if memory.last_ms is None or memory.last_ms <= now_ms:
            return False
        if not any(at <= now_ms and knows_more(raw_of(cut), memory.last) for at, cut in arrived.domains.items()):
            return False
        memory.last_ms, memory.last = None, {}
        if memory.first_ms is not None and memory.first_ms > now_ms:
            memory.first_ms, memory.first = None, {}
        for table in ("job_energy", "node_power"):
            self._db.execute(f"DELETE FROM {table} WHERE wall_s > ?", (now_ms / 1000,))  # noqa: S608 (our own words)
        self._say("clocks were ahead, and the mirror with them: the hours of that time are not told apart any more")
        return True

    def begins(self, arrived: Arrived, *, everything: bool) -> list[int]:
        """When the files of the node's own begin that these rows are of; what the mirror cannot join is dropped.

        Raises:
            NotWholeError: that cannot be told by the first and last points of hours.
        """
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
        for at in falls(sorted(cuts.items())):
            if at in known:
                continue
            if not everything:
                raise NotWholeError
            if self._is_of_before(arrived, at):
                drop_later(arrived, at)
                self._say("its clock was ahead: what it said then comes again, and is left out")
                break
            if memory.first_ms is not None and at <= memory.first_ms:
                least = at
                self._say("its books were begun anew before its mirror was: what they said before is not mirrored")
            elif memory.last_ms is None or at > memory.last_ms:
                begins.add(at)
                self._say("its books were begun anew: what they had before is added to what they say now")
            else:
                self._say("its books were begun anew, and nobody can tell when: make its mirror anew (docs: mirror)")
        if least:
            drop(arrived, least)
        return sorted(begins)

    def _is_of_before(self, arrived: Arrived, at_ms: int) -> bool:
        """Sums fall, and it is the file of before: not the file is another one, the stamps are of another time."""
        own = None if at_ms not in arrived.books else arrived.books[at_ms].books
        earlier = {one.books for at, one in arrived.books.items() if at < at_ms}
        if self._memory.last_ms is not None and self._memory.last_ms < at_ms:
            earlier.add(self._memory.last_books)
        return own is not None and own in earlier

    def begin_anew(self, at_ms: int) -> None:
        """What a file of the node's own had at its end is added to all that the next one says."""
        db, last_s = self._db, (self._memory.last_ms or 0) / 1000
        begun = OwnFile(at_ms)
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
            add_past(db, domain, uj)
        db.execute("DELETE FROM ledger WHERE holder = ?", (AHEAD,))
        for run, flags in db.execute("SELECT run, flags FROM run WHERE state = 'open'").fetchall():
            told = msgspec.json.encode([*msgspec.json.decode(flags), BEGUN_ANEW]).decode()
            db.execute(
                "UPDATE run SET state = 'lost', end_s = max(start_s, ?), flags = ? WHERE run = ?", (last_s, told, run)
            )
        self._memory.files.append(begun)


def add_past(db: sqlite3.Connection, domain: str, uj: int) -> None:
    """What jobs had that are not there themselves is more now."""
    put = "INSERT INTO ledger VALUES (?, ?, ?, 0) ON CONFLICT (holder, domain) DO UPDATE SET uj = uj + excluded.uj"
    db.execute(put, (domain, PAST, uj))
    db.execute("DELETE FROM ledger WHERE holder = ? AND domain = ? AND uj = 0", (PAST, domain))
