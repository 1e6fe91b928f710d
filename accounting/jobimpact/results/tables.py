"""The tables of the results, how their file is opened, and how an earlier release's becomes one of this."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Column, Connection, Engine, Float, Integer, Text

from jobimpact.core.backup import back_up
from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.results.figures import FACTOR_SET, KINDS, NUMBERS, expressions
from jobimpact.results.record import JSON_COLUMNS, SCHEMA

__all__ = [
    "AMOUNTS",
    "SHARES",
    "charge",
    "covered",
    "idle_month",
    "job_profile",
    "job_result",
    "mail",
    "make_engine",
    "meta",
    "migrate",
    "runner",
    "stay",
    "true_up",
]

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
    Column("exclusive", sa.Boolean, nullable=False, server_default=sa.false()),
    Column("off_books", Text),
    Column("energy_j", Float),
    Column("coverage", Float, nullable=False),
    # Before what is long: a sum reads no more of a row than its first page.
    *(Column(name, Float) for name in NUMBERS),
    *(Column(name, Text) for name in (*(f"{kind}_method" for kind in KINDS), FACTOR_SET)),
    *(Column(n, Text, nullable=False, server_default="{}" if n == "labels" else None) for n in JSON_COLUMNS),
    Column("time_limit_s", Float),
    Column("digest", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("accounted_s", Float, nullable=False),
    sa.Index("job_result_by_raw", "raw_id"),
    sa.Index("job_result_by_job", "job_id"),
    sa.Index("job_result_by_array", "array_id"),
    sa.Index("job_result_by_het", "het_id"),
    sa.Index("job_result_by_user", "user", "end_s"),
    sa.Index("job_result_by_account", "account", "end_s"),
    sa.Index("job_result_by_end", "end_s"),
)

SHARES = ("cpu", "ram", "gpu", "rest")
AMOUNTS = tuple(f"{what}_{of}" for what in ("own", "idle", "idle_use") for of in ("gwp", "adp", "pe"))
"""In kgCO2e, kgSbe and MJ: a job's own part of manufacture, and its share of what was idle and of its electricity."""

stay = sa.Table(
    "stay",
    _METADATA,
    *(Column(name, Text, primary_key=True) for name in ("cluster", "key", "node")),
    *(Column(name, Float, nullable=False) for name in ("start_s", "end_s", *SHARES)),
    sa.Index("stay_by_node", "cluster", "node", "end_s"),
)

charge = sa.Table(
    "charge",
    _METADATA,
    *(Column(name, Text, primary_key=True) for name in ("cluster", "key", "node", "month", "component")),
    Column("node_type", Text, nullable=False),
    *(Column(name, Float, nullable=False) for name in ("hours", "in_life_h")),
    *(Column(name, Float) for name in AMOUNTS),
    sa.Index("charge_by_month", "cluster", "month"),
)

idle_month = sa.Table(
    "idle_month",
    _METADATA,
    *(Column(name, Text, primary_key=True) for name in ("cluster", "month", "node_type", "component")),
    *(Column(name, Text, nullable=False) for name in ("idle", "key", "factors", "inventory", "digest")),
    Column("revision", Integer, nullable=False),
    Column("closed_s", Float, nullable=False),
)

true_up = sa.Table(
    "true_up",
    _METADATA,
    *(Column(name, Text, primary_key=True) for name in ("cluster", "year", "node_type", "component")),
    Column("data", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("closed_s", Float, nullable=False),
)

covered = sa.Table(
    "covered",
    _METADATA,
    Column("cluster", Text, primary_key=True),
    Column("from_s", Float, primary_key=True),
    Column("to_s", Float, nullable=False),
)

runner = sa.Table(
    "runner",
    _METADATA,
    Column("cluster", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("begun", Text, nullable=False),
    Column("since_s", Float, nullable=False),
)

job_profile = sa.Table(
    "job_profile",
    _METADATA,
    *(Column(name, Text, primary_key=True) for name in ("cluster", "key")),
    Column("profile", Text),
    Column("progress", Text, nullable=False),
    Column("energy_j", Float),
)
"""`energy_j` is that of the row when its profile was looked for; `profile` is NULL where there was none to be had."""

mail = sa.Table(
    "mail",
    _METADATA,
    *(Column(name, Text, primary_key=True) for name in ("cluster", "subject")),
    Column("user", Text, nullable=False),
    Column("address", Text),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    *(Column(name, Text) for name in ("message_id", "runner", "why")),
    *(Column(name, Float, nullable=False) for name in ("made_s", "changed_s")),
    sa.Index("mail_by_state", "state"),
)
"""One row a message: what it is about is its key, so that nothing is told twice. Written before it is sent."""

meta = sa.Table("meta", _METADATA, Column("key", Text, primary_key=True), Column("value", Float, nullable=False))


def make_engine(path: str) -> Engine:
    """Whose transactions take the write lock at once."""
    # Not of the text of a URL: in that, SQLAlchemy would take `%20` in the path for a blank, and readers do not.
    engine = sa.create_engine(sa.URL.create("sqlite", database=path), connect_args={"timeout": BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _: object) -> None:
        # The driver must not open transactions of its own: ours take the write lock at once.
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def migrate(db: Connection, path: str) -> None:
    """Bring a file to this release's tables, with a copy of it as it was beside it.

    Raises:
        SchemaTooNewError: a newer release wrote it.
        StoreError: it is not such a database.
    """
    found = db.execute(sa.text("PRAGMA user_version")).scalar_one()
    if found > SCHEMA:
        raise SchemaTooNewError(f"{path}: written by a newer release (schema {found}, this one knows {SCHEMA})")
    if found == SCHEMA:
        return
    if found == 0 and db.execute(sa.text("SELECT count(*) FROM sqlite_master")).scalar_one():
        raise StoreError(f"{path}: a database, but not one of results")
    if found:
        back_up(Path(path), Path(f"{path}.schema{found}"))
    if found == 1:
        db.execute(sa.text("ALTER TABLE job_result ADD COLUMN exclusive BOOLEAN NOT NULL DEFAULT 0"))
    if found in {1, 2}:
        db.execute(sa.text("ALTER TABLE job_result ADD COLUMN off_books TEXT"))
    if found in {1, 2, 3}:
        db.execute(sa.text("ALTER TABLE job_result ADD COLUMN labels TEXT NOT NULL DEFAULT '{}'"))
        db.execute(sa.text("ALTER TABLE job_result ADD COLUMN time_limit_s FLOAT"))
        db.execute(sa.text("CREATE INDEX job_result_by_account ON job_result (account, end_s)"))
        figures = expressions()
        for name in figures:
            db.execute(sa.text(f"ALTER TABLE job_result ADD COLUMN {name} {'FLOAT' if name in NUMBERS else 'TEXT'}"))
        each = ", ".join(f"{name} = {sql}" for name, sql in figures.items())
        db.exec_driver_sql(f"UPDATE job_result SET {each}")  # noqa: S608 (ours)
    _METADATA.create_all(db)
    db.execute(sa.text(f"PRAGMA user_version = {SCHEMA}"))
