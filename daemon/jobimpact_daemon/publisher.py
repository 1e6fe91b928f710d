"""Brings the outbox to the server: look at the oldest points, send them, and only then delete them.

A server that takes points into its memory alone (VictoriaMetrics) may lose them with it: what it was sent stays here
for some seconds more, and goes again when the server was away or its connection is another one.

A thread of its own with a connection of its own to the node's file: whatever a server or a network does, the sampler
goes on. What the server will not have is found line by line and set aside with its words; all else waits.
"""

from __future__ import annotations

import logging
import random
import re
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobimpact.core.line import line, parse
from jobimpact.core.series import BOOKS, PROFILE, Retained
from jobimpact_daemon.outbox import OTHERS, Delivery, unpack

if TYPE_CHECKING:
    from jobimpact.core.server import Outcome, Server

__all__ = ["Publisher"]

log = logging.getLogger(__name__)

KEPT = (BOOKS, PROFILE)
"""What accounting needs comes first."""
PERIOD_S = 10.0
"""A request costs the server more than the lines in it: so seldom, and all nodes at other times."""
BATCH_LINES = 5000
PACE_S = 0.5
"""After an outage there are many batches, of many nodes: between two it waits for up to this long."""
BACKOFF_S = 2.0
BACKOFF_MAX_S = 60.0
LAST_S = 2.0
"""At the end of the daemon one more attempt may take this long, and is not waited for much longer."""
STOP_S = 3.0
BUSY_S = 2.0
"""For how long the ledger's transaction is waited for."""
REQUESTS = 1000
"""At one time no more requests are spent on finding what the server will not have."""
REFUSED_KEPT = 1000
LINE_IN_LOG = 200
TELL_AGAIN_S = 3600.0
TELL_ASIDE_S = 600.0
"""What is set aside is told in one line in this time: a field of the wrong type comes again with each commit."""

_COUNTS = re.compile(r'[0-9]+|"[^"]*"')
"""What differs in a server's words although they say the same again."""

CONFIRM_S = 20.0
"""For so long VictoriaMetrics may have points in its memory alone; it writes them within ten seconds."""

Row = tuple[int, int, bytes]
"""Of the outbox: id, how many lines, packed."""
Refusal = tuple[str, str]
"""A line, and what the server said of it."""


class Publisher:
    """One node's way to the server.

    Args:
        path: the node's file.
        server: the way to it, this thread's alone.
        period_s: between two deliveries, when all goes well.
        backoff_s: after the first failure it waits for up to twice this, and doubles.
        confirm_s: for how long a server that has them in memory alone may lose points.
    """

    def __init__(
        self,
        path: Path,
        server: Server,
        *,
        period_s: float = PERIOD_S,
        backoff_s: float = BACKOFF_S,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        self._path = path
        self._server = server
        self._period_s = period_s
        self._backoff_s = backoff_s
        self._now = Delivery()
        self._stopping = threading.Event()
        self._failed = 0
        """How often in a row."""
        self._most = BATCH_LINES
        self._others = 0
        """The last row that may have been written for another engine."""
        self._told: tuple[str, float] | None = None
        self._aside = 0
        """Lines that were set aside and not told of."""
        self._aside_told_s: float | None = None
        self._confirm_s = confirm_s if server.words_as_tags else 0.0
        self._taken: deque[tuple[float, int]] = deque()
        """When rows were taken that the server may yet lose, and which."""
        self._opened = 0
        self._again_s = -confirm_s
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    @property
    def delivery(self) -> Delivery:
        """How it does."""
        return self._now

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Deliver what can be delivered at once, and end; it is not waited for longer than `STOP_S`."""
        self._stopping.set()
        self._thread.join(STOP_S)

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        # Nodes that were switched on together do not come together.
        wait_s = random.uniform(0, self._period_s)  # noqa: S311 (not a secret)
        while not self._stopping.wait(wait_s):
            try:
                wait_s = self._round()
            except Exception as error:
                # A fault in here must not end deliveries for the daemon's life.
                log.debug("publisher", exc_info=True)
                wait_s = self._trouble(f"{type(error).__name__}: {error}", None)
        self._last()
        self._server.close()

    def _round(self) -> float:
        """Deliver until nothing is left or something is wrong; for how long to wait then."""
        wrong = None
        try:
            with closing(self._open()) as db:
                self._forget_confirmed(db)
                for kept in KEPT:
                    bad = self._deliver(db, kept)
                    wrong = wrong or bad
                    if bad is not None and bad.kind == "later":
                        break
        except sqlite3.Error as error:
            return self._trouble(f"{self._path}: {error}", None)
        if wrong is not None:
            return self._trouble(wrong.said, wrong.retry_after_s)
        if self._failed:
            log.info("the server has all points again")
        self._failed, self._told = 0, None
        self._now = msgspec.structs.replace(self._now, problem=None)
        return self._period_s * random.uniform(0.9, 1.1)  # noqa: S311

    def _last(self) -> None:
        """What the last commit has written; where the server is away, one look is enough."""
        try:
            with closing(self._open()) as db:
                until = time.monotonic() + LAST_S
                for kept in KEPT:
                    while (rows := self._oldest(db, kept)) and time.monotonic() < until:
                        if self._send(db, kept, rows, until) is not None:
                            return
        except Exception:  # the daemon ends: what is left is delivered after its next start
            log.debug("publisher", exc_info=True)

    def _trouble(self, said: str, retry_after_s: float | None) -> float:
        """Something is wrong: tell it once, and wait longer each time, up to a minute."""
        self._failed += 1
        self._now = msgspec.structs.replace(self._now, failures=self._now.failures + 1, problem=said)
        now_s, gist = time.monotonic(), _COUNTS.sub("", said)
        if self._told is None or (gist != self._told[0] and self._failed > 1) or now_s - self._told[1] > TELL_AGAIN_S:
            log.warning("%s: points are kept, and tried again", said)
            self._told = gist, now_s
        limit_s = min(BACKOFF_MAX_S, self._backoff_s * 2 ** min(self._failed, 16))
        return max(random.uniform(0, limit_s), retry_after_s or 0.0)  # noqa: S311

    def _open(self) -> sqlite3.Connection:
        """Opened for each round: a file that was moved or mended is found again."""
        db = sqlite3.connect(
            f"{self._path.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None
        )
        db.execute("PRAGMA synchronous=NORMAL")
        [others] = db.execute("SELECT max(value) FROM meta WHERE key = ?", (OTHERS,)).fetchone()
        self._others = int(others or 0)
        return db

    # -- one batch -------------------------------------------------------------------------------------------------

    def _deliver(self, db: sqlite3.Connection, kept: Retained) -> Outcome | None:
        """All that is kept alike, the oldest first; what went wrong, if anything did."""
        while rows := self._oldest(db, kept):
            bad = self._send(db, kept, rows, None)
            if bad is not None or self._stopping.is_set():
                return bad
            if sum(row[1] for row in rows) > self._most // 2:
                self._stopping.wait(random.uniform(0, PACE_S))  # noqa: S311
        return None

    def _oldest(self, db: sqlite3.Connection, kept: Retained) -> list[Row]:
        rows: list[Row] = []
        lines = 0
        taken = {id_ for _, id_ in self._taken}
        for row in db.execute("SELECT id, n, lines FROM outbox WHERE kept = ? ORDER BY id", (kept,)):
            if row[0] in taken:
                continue
            if rows and lines + row[1] > self._most:
                break
            rows.append(row)
            lines += row[1]
        return rows

    def _send(
        self, db: sqlite3.Connection, kept: Retained, rows: Sequence[Row], until: float | None
    ) -> Outcome | None:
        """Send these, and delete those of which each line is delivered or set aside; what went wrong, if anything.

        Lines go in their order, in pieces: one that is refused is tried in halves until a single line is, and a piece
        after one that was taken may be twice as long.
        """
        by_row = [(row[0], self._lines(row)) for row in rows]
        lines = [text for _, ones in by_row for text in ones]
        done, size, bad = 0, min(self._most, len(lines)), None
        refused: list[tuple[int, Refusal]] = []
        for _ in range(max(REQUESTS, 3 * len(by_row[0][1]))):
            piece = lines[done : done + size]
            if not piece:
                break
            outcome = self._write(kept, piece, until)
            if self._may_have_lost(outcome):
                done, bad = 0, outcome if outcome.kind == "later" else None  # nothing of these is sure either
                break
            if outcome.kind == "delivered":
                size = min(2 * size, self._most)
                self._most = min(2 * self._most, BATCH_LINES) if len(piece) == self._most else self._most
            elif outcome.kind in ("refused", "smaller") and len(piece) > 1 and outcome.dropped != len(piece):
                size = len(piece) // 2
                self._most = size if outcome.kind == "smaller" else self._most
                continue
            elif outcome.kind in ("refused", "smaller"):
                refused += [(done + number, (text, outcome.said)) for number, text in enumerate(piece)]
            else:
                bad = outcome
                break
            done += len(piece)
        self._settle(db, kept, by_row, done, refused)
        return bad

    def _may_have_lost(self, outcome: Outcome) -> bool:
        """What the server has in memory alone may be gone: all of that goes again.

        A proxy may have a new connection for each request: that alone counts once in a while.
        """
        renewed, self._opened = self._server.opened > max(self._opened, 1), self._server.opened
        now_s = time.monotonic()
        if not self._confirm_s or not (
            outcome.kind == "later" or (renewed and now_s - self._again_s > self._confirm_s)
        ):
            return False
        self._taken.clear()
        self._again_s = now_s
        return True

    def _forget_confirmed(self, db: sqlite3.Connection) -> None:
        until_s = time.monotonic() - self._confirm_s
        sure = [(id_,) for at_s, id_ in self._taken if at_s <= until_s]
        if sure:
            db.executemany("DELETE FROM outbox WHERE id = ?", sure)
            while self._taken and self._taken[0][0] <= until_s:
                self._taken.popleft()

    def _lines(self, row: Row) -> list[str]:
        """A row's lines; none of one that is damaged, which would stand before all others for ever."""
        try:
            lines = unpack(row[2]).decode().split("\n")
        except (zlib.error, UnicodeDecodeError) as error:
            log.warning("%s: the outbox's row %d is damaged (%s): left out", self._path, row[0], error)
            return []
        if row[0] > self._others:
            return lines
        return [_rewritten(text, words_as_tags=self._server.words_as_tags) for text in lines]

    def _write(self, kept: Retained, lines: Sequence[str], until: float | None) -> Outcome:
        start_ns = time.monotonic_ns()
        outcome = self._server.write(kept, lines, None if until is None else max(0.0, until - time.monotonic()))
        took_ns = time.monotonic_ns() - start_ns
        one = self._now
        batches = one.batches + (outcome.kind == "delivered")
        self._now = Delivery(batches, one.failures, took_ns, one.busy_ns + took_ns, one.problem)
        return outcome

    def _settle(
        self,
        db: sqlite3.Connection,
        kept: Retained,
        rows: Sequence[tuple[int, Sequence[str]]],
        done: int,
        refused: Sequence[tuple[int, Refusal]],
    ) -> None:
        """Delete the rows whose lines are all done; what was refused of them is set aside in the same transaction."""
        settled: list[tuple[int]] = []
        lines = 0
        for id_, ones in rows:
            if lines + len(ones) > done:
                break
            lines += len(ones)
            settled.append((id_,))
        if not settled:
            return
        aside = [one for number, one in refused if number < lines]
        if self._confirm_s and not aside:
            self._taken += [(time.monotonic(), id_) for (id_,) in settled]
            return
        wall_s = time.time()
        db.execute("BEGIN IMMEDIATE")
        try:
            put = "INSERT INTO refused (wall_s, kept, line, said) VALUES (?, ?, ?, ?)"
            db.executemany(put, [(wall_s, kept, text, said) for text, said in aside])
            db.execute("DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?", (REFUSED_KEPT,))
            db.executemany("DELETE FROM outbox WHERE id = ?", settled)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        if aside:
            self._now = msgspec.structs.replace(self._now, failures=self._now.failures + 1)
            self._tell_aside(*aside[0], len(aside))

    def _tell_aside(self, text: str, said: str, count: int) -> None:
        self._aside += count
        now_s = time.monotonic()
        if self._aside_told_s is None or now_s - self._aside_told_s >= TELL_ASIDE_S:
            shown = ascii(text[:LINE_IN_LOG])[1:-1]
            more = f" and {self._aside - 1} more" if self._aside > 1 else ""
            log.warning("%s: set aside: %s%s", said, shown, more)
            self._aside, self._aside_told_s = 0, now_s


def _rewritten(text: str, *, words_as_tags: bool) -> str:
    """A line as this server takes it; one that is none of ours is left to the server's judgement."""
    try:
        point = parse(text)
        return text if point is None else line(point, words_as_tags=words_as_tags)
    except (KeyError, ValueError, OverflowError):
        return text
