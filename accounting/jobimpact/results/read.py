"""The reader of the results: plain sqlite3, read-only, and quick to start."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.core.records import Profile, Progress
from jobimpact.results.chosen import Chosen
from jobimpact.results.record import SCHEMA, JobResult, database_path, result_of
from jobimpact.results.select import NAMES, Seen, Selection, condition
from jobimpact.results.sums import Sums, sums_of

__all__ = ["Found", "Reader"]

_NAMES = tuple(field.name for field in msgspec.structs.fields(JobResult))
_RUNS = """
SELECT raw_id, json_extract(told.value, '$.start_s'),
  (SELECT sum(json_extract(value, '$.energy_j')) FROM json_each(told.value, '$.domains'))
FROM job_result, json_each(energy, '$.nodes') told
WHERE raw_id IN (SELECT value FROM json_each(?)) AND told.key = ? AND json_extract(told.value, '$.start_s') IS NOT NULL
"""
_NEW_4 = frozenset({"time_limit_s", "labels"})
_NEW = {1: _NEW_4 | {"exclusive", "off_books"}, 2: _NEW_4 | {"off_books"}, 3: _NEW_4}
"""Columns that a file of an earlier schema has not."""
_PROFILES_FROM = 4
"""The first schema with power over time."""
_PROFILE = """
SELECT profile, progress FROM job_profile
WHERE cluster = :cluster AND key = :key
  AND EXISTS (SELECT 1 FROM job_result WHERE cluster = :cluster AND key = :key AND {seen})
"""
_MAPPED = 1 << 30
"""Sums of many rows read most of the file: mapped, that takes two thirds of the time."""
_CHUNK = 500


class Found(msgspec.Struct, frozen=True):
    """Rows that were selected."""

    jobs: tuple[JobResult, ...]
    """Empty: there are more than were asked for in full."""
    sums: Sums
    shared: dict[str, str] = {}
    """Of more than were asked for in full what all have: of `cluster`, `user`, `account`, `partition` and `name`."""


class Reader:
    """Answers from a results database; one that is not there yet has no rows.

    Raises:
        SchemaTooNewError: a newer release wrote it.
        StoreError: it cannot be read, or is not such a database.
    """

    def __init__(self, url: str) -> None:
        self._path = Path(database_path(url))
        self._db: sqlite3.Connection | None = None
        self._names = _NAMES
        if not self._path.parent.is_dir():
            raise StoreError(f"{self._path}: no such folder")
        if self._path.exists():
            with self._errors():
                self._db = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)
                self._check(self._db)

    @property
    def empty(self) -> bool:
        """Nothing was ever accounted here."""
        return self._db is None

    @property
    def schema(self) -> int:
        """The version of its tables; 0: there are none yet."""
        return 0 if self._db is None else int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of a result that this file has: one of an earlier release has not all."""
        return self._names

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()

    def find(self, job: str) -> list[JobResult]:
        """Every incarnation of a job, every task of an array, every part of a heterogeneous job; by start.

        Args:
            job: `6`, `6_3`, `10+1`, or a raw id.

        Raises:
            StoreError: the database cannot be read.
        """
        found = self.select(Selection(job=job), rows=None)
        return [] if found is None else list(found.jobs)

    def select(self, asked: Selection, rows: int | None) -> Found | None:
        """Rows and what they come to; None: there are none.

        Of one job, array or heterogeneous job they are in order of their ids, else by start.

        Args:
            asked: which.
            rows: so many at most in full; None: all of them.

        Raises:
            StoreError: the database cannot be read.
        """
        if self._db is None:
            return None
        with self.moment() as db:
            where, parameters = self._narrowed(db, asked)
            limit = -1 if rows is None else rows + 1
            query = f"SELECT rowid FROM job_result WHERE {where} LIMIT {limit}"  # noqa: S608 (ours)
            ids = [rowid for (rowid,) in db.execute(query, parameters)]
            if rows is not None and len(ids) > rows:
                self.map()
                chosen = Chosen(db, where, parameters)
                return Found((), chosen.with_kinds(chosen.sums()[()]), chosen.shared())
            jobs = self.in_full(db, ids)
        sums = sums_of(jobs)
        if sums is None:
            return None
        by_id = asked.job is not None
        jobs.sort(key=_order if by_id else lambda one: (one.start_s or one.submit_s or 0, *_order(one)))
        return Found(tuple(jobs), sums)

    def details(self, cluster: str, key: str, seen_by: Seen | None) -> tuple[Profile | None, tuple[Progress, ...]]:
        """Power over time and progress of one incarnation, if there are any and its row may be seen.

        Raises:
            StoreError: the database cannot be read.
        """
        if self._db is None or self.schema < _PROFILES_FROM:
            return None, ()
        seen, parameters = condition(Selection(seen_by=seen_by))
        with self._errors():
            asked = parameters | {"cluster": cluster, "key": key}
            row = self._db.execute(_PROFILE.format(seen=seen), asked).fetchone()
            if row is None:
                return None, ()
            profile = None if row[0] is None else msgspec.json.decode(row[0], type=Profile)
            return profile, msgspec.json.decode(row[1], type=tuple[Progress, ...])

    def runs_of(self, node: str, raw_ids: Collection[str]) -> dict[tuple[str, float], float | None]:
        """A node's runs of which a result tells.

        Args:
            node: its name.
            raw_ids: of the jobs that are asked for.

        Returns:
            Joules by raw id and start (epoch seconds), as the node told them; None: not known.

        Raises:
            StoreError: the database cannot be read.
        """
        if self._db is None:
            return {}
        with self._errors():
            asked = (msgspec.json.encode(sorted(raw_ids)).decode(), node)
            return {(raw_id, start_s): joules for raw_id, start_s, joules in self._db.execute(_RUNS, asked)}

    def in_full(self, db: sqlite3.Connection, ids: Sequence[int]) -> list[JobResult]:
        """Rows, in no order.

        Args:
            db: the file, as of one moment.
            ids: their rowids.

        Raises:
            sqlite3.Error, msgspec.MsgspecError: they cannot be read.
        """
        found = []
        for at in range(0, len(ids), _CHUNK):
            some = ", ".join(map(str, ids[at : at + _CHUNK]))
            query = f"SELECT {', '.join(self._names)} FROM job_result WHERE rowid IN ({some})"  # noqa: S608 (ours)
            found += [result_of(dict(zip(self._names, row, strict=True))) for row in db.execute(query)]
        return found

    @contextmanager
    def moment(self) -> Iterator[sqlite3.Connection]:
        """What is read in several statements is of one state of the file. Not where there is none yet.

        Raises:
            StoreError: the database cannot be read, or a row is damaged.
        """
        if self._db is None:
            raise StoreError(f"{self._path}: nothing is accounted yet")
        with self._errors():
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._db.rollback()

    def map(self) -> None:
        """Before sums of many rows."""
        if self._db is not None:
            self._db.execute(f"PRAGMA mmap_size = {_MAPPED}")
            self._db.execute("PRAGMA temp_store = memory")

    def _check(self, db: sqlite3.Connection) -> None:
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if found > SCHEMA:
            raise SchemaTooNewError(
                f"{self._path}: written by a newer release (schema {found}, this one knows {SCHEMA})"
            )
        if found == 0:
            raise StoreError(f"{self._path}: not a database of results")
        self._names = tuple(name for name in _NAMES if name not in _NEW.get(found, ()))

    @staticmethod
    def _narrowed(db: sqlite3.Connection, asked: Selection) -> tuple[str, dict[str, Any]]:
        """A raw id counts only where nobody is shown it: the last task of array 6 has the raw id 6 as well."""
        if asked.job is None:
            return condition(asked)
        parameters = condition(asked)[1]
        once = "SELECT 1 FROM job_result WHERE {} LIMIT 1"
        names = tuple(name for name in NAMES if db.execute(once.format(f"{name} = :job"), parameters).fetchone())
        shown = condition(asked, names=names or NAMES, shown=True)
        return (
            shown
            if db.execute(once.format(shown[0]), parameters).fetchone()
            else condition(asked, names=names or NAMES)
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
            raise StoreError(f"{self._path}: {_why(error)}") from error


def _why(error: Exception) -> str:
    if getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK":
        return "the accounting was killed while it wrote; the next one (`jobimpact account`) puts it right"
    return str(error)


def _order(one: JobResult) -> tuple[float, ...]:
    """By number: a task of an array after the task before it, not after all that begin with the same digit."""
    head, _, tail = one.job_id.replace("+", "_").partition("_")
    return _number(head), _number(tail), one.submit_s or 0


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1
