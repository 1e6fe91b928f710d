"""One node's mirror: a file of the schema of the node's own, from points that came through a server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path

import msgspec

from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import RUN_DAYS, fold_old, open_for_reading, open_for_writing
from jobimpact.mirror.anew import NotWholeError
from jobimpact.mirror.memory import Memory
from jobimpact.mirror.points import DAY_MS, since
from jobimpact.mirror.rows import Arrived
from jobimpact.mirror.taking import Taking

__all__ = ["FileError", "NodeMirror", "last_of"]

_MORE = """
CREATE TABLE IF NOT EXISTS mirrored (run TEXT PRIMARY KEY, stamp_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_energy_at ON job_energy (wall_s);
"""
"""Beside the schema of the node's file: which row each run is of; and hours are read again by time."""
_OF_ALL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}


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
            try:
                with self._transaction():
                    memory = self._load()
                    taking = Taking(self._db, self._node, memory, (from_ms, to_ms), everything=everything)
                    taking.run(since(arrived, memory.pruned_ms - RUN_DAYS * DAY_MS), now_ms, came_back=self._came_back)
                    self._put_meta("mirror", msgspec.json.encode(memory).decode())
            except NotWholeError:
                return False
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
            with self._transaction():
                fold_old(self._db, now_ms / 1000)
                for table in ("mirrored", "label"):
                    self._db.execute(f"DELETE FROM {table} WHERE run NOT IN (SELECT run FROM run)")  # noqa: S608 (ours)
                self._put_meta("mirror", msgspec.json.encode(memory).decode())

    def _load(self) -> Memory:
        text = self._meta("mirror")
        return Memory() if text is None else msgspec.json.decode(text, type=Memory)

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
        return msgspec.json.decode(meta["mirror"], type=Memory).last_ms
    except (sqlite3.Error, msgspec.MsgspecError):
        return None  # told when something of it comes
    finally:
        db.close()
