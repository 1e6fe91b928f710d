"""The reader of the results: plain sqlite3, read-only, and quick to start."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.results.record import SCHEMA, JobResult, database_path, result_of

__all__ = ["Reader", "find_query"]

_NAMES = tuple(field.name for field in msgspec.structs.fields(JobResult))
# Each word a user may know a job by, one index each. A raw id that is a task's or a part's own is never shown
# to users, but hooks and logs carry it.
_BY = ("job_id", "raw_id", "array_id", "het_id")
_RUNS = """
SELECT raw_id, json_extract(told.value, '$.start_s'),
  (SELECT sum(json_extract(value, '$.energy_j')) FROM json_each(told.value, '$.domains'))
FROM job_result, json_each(energy, '$.nodes') told
WHERE raw_id IN (SELECT value FROM json_each(?)) AND told.key = ? AND json_extract(told.value, '$.start_s') IS NOT NULL
"""
_NEW_4 = frozenset({"time_limit_s", "labels"})
_NEW = {1: _NEW_4 | {"exclusive", "off_books"}, 2: _NEW_4 | {"off_books"}, 3: _NEW_4}
"""Columns that a file of an earlier schema has not."""


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
    def db(self) -> sqlite3.Connection | None:
        """For other queries of the results, read-only; None: nothing was ever accounted here."""
        return self._db

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of a result that this file has: one of an earlier release has not all."""
        return self._names

    @property
    def path(self) -> Path:
        """The file, for messages."""
        return self._path

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
        if self._db is None:
            return []
        with self._errors():
            rows = self._db.execute(find_query(self._names), {"id": job}).fetchall()
            found = [result_of(dict(zip(self._names, row, strict=True))) for row in rows]
        return sorted(_narrowed(job, found), key=lambda one: (_order(one.job_id), one.submit_s or 0))

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

    def _check(self, db: sqlite3.Connection) -> None:
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if found > SCHEMA:
            raise SchemaTooNewError(
                f"{self._path}: written by a newer release (schema {found}, this one knows {SCHEMA})"
            )
        if found == 0:
            raise StoreError(f"{self._path}: not a database of results")
        self._names = tuple(name for name in _NAMES if name not in _NEW.get(found, ()))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
            raise StoreError(f"{self._path}: {error}") from error


def find_query(names: tuple[str, ...]) -> str:
    """The SQL that finds some columns of the rows that `:id` may mean."""
    each = (f"SELECT {', '.join(names)} FROM job_result WHERE {column} = :id" for column in _BY)  # noqa: S608 (ours)
    return " UNION ".join(each)


def _narrowed(job: str, found: list[JobResult]) -> list[JobResult]:
    """A raw id counts only where nobody is shown it: the last task of array 6 has the raw id 6 as well."""
    shown = [one for one in found if one.job_id == job or one.job_id.startswith((f"{job}_", f"{job}+"))]
    return shown or found


def _order(job_id: str) -> tuple[int, str]:
    tail = job_id.replace("+", "_").rpartition("_")[2]
    return (int(tail), job_id) if tail.isascii() and tail.isdigit() else (0, job_id)
