"""The writer of the results: SQLAlchemy Core over SQLite with a rollback journal, so that a group may read it.

A row is written by one statement that does nothing where nothing changed: two nights at once, or one night
twice, leave the same rows and the same revisions. Nothing is ever deleted.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Column, Connection, Engine, Float, Integer, Text
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError

from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.results.record import JSON_COLUMNS, SCHEMA, JobResult, array_of, database_path, het_of

__all__ = ["Counts", "Results"]

BUSY_S = 60.0
"""How long one night waits for another's transaction."""

_METADATA = sa.MetaData()

job_result = sa.Table(
    "job_result",
    _METADATA,
    Column("cluster", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("raw_id", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("array_id", Text),
    Column("het_id", Text),
    *(Column(name, Text, nullable=name in {"account", "partition"}) for name in ("user", "account", "partition")),
    *(Column(name, Text, nullable=name == "exit_code") for name in ("name", "state", "exit_code")),
    Column("submit_s", Integer),
    *(Column(name, Float) for name in ("start_s", "end_s", "elapsed_s")),
    *(Column(name, Integer) for name in ("cpus", "mem_bytes", "gpus")),
    Column("energy_j", Float),
    Column("coverage", Float, nullable=False),
    *(Column(name, Text, nullable=False) for name in JSON_COLUMNS),
    Column("digest", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("accounted_s", Float, nullable=False),
    sa.Index("job_result_by_raw", "raw_id"),
    sa.Index("job_result_by_job", "job_id"),
    sa.Index("job_result_by_array", "array_id"),
    sa.Index("job_result_by_het", "het_id"),
    sa.Index("job_result_by_user", "user", "end_s"),
    sa.Index("job_result_by_end", "end_s"),
)

meta = sa.Table("meta", _METADATA, Column("key", Text, primary_key=True), Column("value", Float, nullable=False))


class Counts(msgspec.Struct, frozen=True):
    """What writing some rows came to."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0


class Results:
    """The results' database, made if it is not there.

    Raises:
        SchemaTooNewError: a newer release wrote it; it is left as it is.
        StoreError: it cannot be made, or is not such a database.
    """

    def __init__(self, url: str) -> None:
        self._path = database_path(url)
        self._engine = _engine(url)
        try:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        with self._transaction() as db:
            _migrate(db, self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def write(self, results: Iterable[JobResult], now_s: float) -> Counts:
        """Put rows in, replace those that changed, leave the others alone: one transaction.

        A row with measured energy is not replaced by one for which the nodes' books could not be read.
        """
        rows = [_row(result, now_s) for result in results]
        with self._transaction() as db:
            before = _size(db)
            touched = sum(max(db.execute(_upsert(), row).rowcount, 0) for row in rows)
            new = _size(db) - before
        return Counts(new, touched - new, len(rows) - touched)

    def watermark(self, cluster: str) -> float | None:
        """Up to when this cluster's jobs were all accounted for, in epoch seconds."""
        with self._transaction() as db:
            value: float | None = db.execute(sa.select(meta.c.value).where(meta.c.key == _mark(cluster))).scalar()
        return value

    def set_watermark(self, cluster: str, at_s: float) -> None:
        """Move the mark on; never back."""
        row = insert(meta).values(key=_mark(cluster), value=at_s)
        ahead = sa.func.max(meta.c.value, row.excluded.value)
        with self._transaction() as db:
            db.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": ahead}))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as db:
                yield db
        except DBAPIError as error:
            raise StoreError(f"{self._path}: {error.orig}") from error


def _mark(cluster: str) -> str:
    return f"accounted_to {cluster}"


def _size(db: Connection) -> int:
    return db.execute(sa.select(sa.func.count()).select_from(job_result)).scalar_one()


def _upsert() -> Any:
    row = insert(job_result)
    keys = {"cluster", "key"}
    values: dict[str, Any] = {c.name: row.excluded[c.name] for c in job_result.columns if c.name not in keys}
    values["revision"] = job_result.c.revision + 1
    changed = job_result.c.digest != row.excluded.digest
    no_worse = sa.or_(job_result.c.energy_j.is_(None), row.excluded.energy_j.is_not(None))
    return row.on_conflict_do_update(index_elements=sorted(keys), set_=values, where=changed & no_worse)


def _row(result: JobResult, now_s: float) -> dict[str, Any]:
    row = msgspec.structs.asdict(result)
    for name in JSON_COLUMNS:
        row[name] = msgspec.json.encode(row[name]).decode()
    more = {"array_id": array_of(result.job_id), "het_id": het_of(result.job_id), "digest": _digest(result)}
    return row | more | {"revision": 1, "accounted_s": now_s}


def _digest(result: JobResult) -> str:
    """A word that changes when anything in the row does, its revision and time of writing apart."""
    content = msgspec.structs.asdict(result)
    del content["accounted_s"], content["revision"]
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def _engine(url: str) -> Engine:
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _: object) -> None:
        # The driver must not open transactions of its own: ours take the write lock at once.
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _migrate(db: Connection, path: str) -> None:
    found = db.execute(sa.text("PRAGMA user_version")).scalar_one()
    if found > SCHEMA:
        raise SchemaTooNewError(f"{path}: written by a newer release (schema {found}, this one knows {SCHEMA})")
    if found == 0:
        if db.execute(sa.text("SELECT count(*) FROM sqlite_master")).scalar_one():
            raise StoreError(f"{path}: a database, but not one of results")
        _METADATA.create_all(db)
        db.execute(sa.text(f"PRAGMA user_version = {SCHEMA}"))
