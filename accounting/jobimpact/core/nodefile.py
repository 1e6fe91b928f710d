"""The node's SQLite file: its tables, which the daemon writes and accounting reads, version 5.

One file per node, `<node>.sqlite`, in WAL mode. Energies are integer microjoules, durations integer nanoseconds,
stamps seconds since the epoch (UTC). Counters of energy are cumulative, so a reader needs only first and last.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection
from pathlib import Path

import msgspec

from jobimpact.core.backup import back_up
from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.core.records import PAST

__all__ = ["RUN_DAYS", "SCHEMA", "SERIES_DAYS", "fold_old", "node_file", "open_for_reading", "open_for_writing"]

SCHEMA = 5
RUN_DAYS = 400
SERIES_DAYS = 90
DAY_S = 86400
PATIENCE_S = 5.0

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- What the daemon needs to go on after a restart: one row, one blob, replaced in the ledger's transaction.
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, data BLOB NOT NULL);

CREATE TABLE domain (
  name TEXT PRIMARY KEY, kind TEXT NOT NULL, source TEXT NOT NULL, method TEXT NOT NULL,
  measured_uj INTEGER NOT NULL, unknown_ns INTEGER NOT NULL, known_ns INTEGER NOT NULL,
  reason TEXT                      -- why it is not read now; NULL: it is
) WITHOUT ROWID;

-- One incarnation of a job on this node. run = job, or job#restart.
CREATE TABLE run (
  run TEXT PRIMARY KEY, job TEXT NOT NULL, restart INTEGER NOT NULL, uid INTEGER,
  cpus INTEGER, mem_bytes INTEGER, gpus TEXT NOT NULL,
  start_s REAL NOT NULL, end_s REAL, elapsed_ns INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'ended', 'lost', 'rebooted')),
  flags TEXT NOT NULL              -- a JSON list: what a reader should know of its edges and shares
) WITHOUT ROWID;
CREATE INDEX run_by_job ON run (job);

-- Who every microjoule belongs to. holder = a run, 'idle' or 'system'; for each domain their sum is measured_uj.
CREATE TABLE ledger (
  domain TEXT NOT NULL, holder TEXT NOT NULL, uj INTEGER NOT NULL, known_ns INTEGER NOT NULL,
  PRIMARY KEY (holder, domain)
) WITHOUT ROWID;

-- Cumulative points over time: a run's at its start, once a minute and at its end; a domain's every 10 s. Those of
-- 'idle' and 'system' come once a minute of the domains that are read; their known_ns is the domain's own, and none
-- of 'system' is 0.
CREATE TABLE job_energy (
  run TEXT NOT NULL, domain TEXT NOT NULL, wall_s REAL NOT NULL, uj INTEGER NOT NULL, known_ns INTEGER NOT NULL,
  PRIMARY KEY (run, domain, wall_s)
) WITHOUT ROWID;
CREATE TABLE node_power (
  domain TEXT NOT NULL, wall_s REAL NOT NULL, measured_uj INTEGER NOT NULL, unknown_ns INTEGER NOT NULL,
  PRIMARY KEY (domain, wall_s)
) WITHOUT ROWID;

CREATE TABLE finding (
  id INTEGER PRIMARY KEY, wall_s REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL
);
"""

_WHOLE = """
-- The node's own meter against its parts, over the windows that are settled: rest = meter - parts + deficit, where
-- rest is measured_uj of the domain `rest`, and the deficit is what the parts have measured more, to be paid back.
CREATE TABLE whole (
  id INTEGER PRIMARY KEY CHECK (id = 1), meter TEXT, meter_uj INTEGER NOT NULL, parts_uj INTEGER NOT NULL,
  deficit_uj INTEGER NOT NULL
);

-- How each source of power readings does: since the daemon started, and how old its last good reading is.
CREATE TABLE source (
  name TEXT PRIMARY KEY, wall_s REAL NOT NULL, reads INTEGER NOT NULL, failures INTEGER NOT NULL,
  took_ns INTEGER NOT NULL, busy_ns INTEGER NOT NULL, age_s REAL, problem TEXT
) WITHOUT ROWID;
-- The same over time, once a minute.
CREATE TABLE source_health (
  name TEXT NOT NULL, wall_s REAL NOT NULL, reads INTEGER NOT NULL, failures INTEGER NOT NULL,
  took_ns INTEGER NOT NULL, busy_ns INTEGER NOT NULL, age_s REAL, problem TEXT, PRIMARY KEY (name, wall_s)
) WITHOUT ROWID;
"""
_HELD = """
-- What a run held so far: a JSON object of the node's `cpu`, `dram`, `gpu` (all its GPUs) and `node` (the dominant
-- share), each as part (0 to 1) x ns: by elapsed_ns it is the mean part. What is not known is not there.
ALTER TABLE run ADD COLUMN held TEXT NOT NULL DEFAULT '{}';
"""
_OUTBOX = """
-- By this a reader tells a file that was begun anew from a clock that was set back.
INSERT OR IGNORE INTO meta VALUES ('books', lower(hex(randomblob(8))));
-- Where a server is the store: points that it does not have yet, as packed lines, in the order in which they go.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, stamp_ms INTEGER NOT NULL,
  class TEXT NOT NULL CHECK (class IN ('profile', 'minute', 'edge')),   -- the order in which a full one is thinned
  kept TEXT NOT NULL, n INTEGER NOT NULL, lines BLOB NOT NULL           -- n lines, zlib
);
CREATE INDEX outbox_by_kept ON outbox (kept, id);
-- How large it is, without a look at all of it; two threads write to it, so the file itself counts.
CREATE TABLE outbox_size (class TEXT PRIMARY KEY, n INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO outbox_size VALUES ('profile', 0, 0), ('minute', 0, 0), ('edge', 0, 0);
CREATE TRIGGER outbox_put AFTER INSERT ON outbox BEGIN
  UPDATE outbox_size SET n = n + new.n, bytes = bytes + length(new.lines) WHERE class = new.class;
END;
CREATE TRIGGER outbox_taken AFTER DELETE ON outbox BEGIN
  UPDATE outbox_size SET n = n - old.n, bytes = bytes - length(old.lines) WHERE class = old.class;
END;
CREATE TRIGGER outbox_moved AFTER UPDATE OF class ON outbox BEGIN
  UPDATE outbox_size SET n = n - old.n, bytes = bytes - length(old.lines) WHERE class = old.class;
  UPDATE outbox_size SET n = n + new.n, bytes = bytes + length(new.lines) WHERE class = new.class;
END;
-- Lines that the server will not have, with its words; the newest of them.
CREATE TABLE refused (
  id INTEGER PRIMARY KEY AUTOINCREMENT, wall_s REAL NOT NULL, kept TEXT NOT NULL, line TEXT NOT NULL,
  said TEXT NOT NULL
);
"""
_SAID = """
-- What a run has used of what it held: a JSON object of integers, named as in `RunUse`; what is not known is absent.
ALTER TABLE run ADD COLUMN used TEXT NOT NULL DEFAULT '{}';
-- What a job said of itself: how far it was, with a value of each metric; metric is '' where it told a step alone.
CREATE TABLE progress (
  run TEXT NOT NULL, wall_s REAL NOT NULL, metric TEXT NOT NULL, step INTEGER, value REAL,
  uj INTEGER,                      -- what the run had in the books then, over all domains; NULL: nothing is known
  PRIMARY KEY (run, wall_s, metric)
) WITHOUT ROWID;
-- And what it is (`model`, `activity`, ...): the latest that it said.
CREATE TABLE label (
  run TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, wall_s REAL NOT NULL, PRIMARY KEY (run, name)
) WITHOUT ROWID;
"""
_STEPS = {
    0: _TABLES + _WHOLE + _HELD + _OUTBOX + _SAID,
    1: _WHOLE + _HELD + _OUTBOX + _SAID,
    2: _HELD + _OUTBOX + _SAID,
    3: _OUTBOX + _SAID,
    4: _SAID,
}
"""What makes a file of the present schema out of one of an earlier."""


def node_file(folder: Path, node: str) -> Path:
    """Where a node's file lies in the store's folder."""
    return folder / f"{node}.sqlite"


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open or make a node's file, in WAL mode.

    Raises:
        SchemaTooNewError: a newer release wrote it; it is left as it is.
        StoreError: it cannot be made or is not such a file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)
        _check_version(db, path)
        _use_wal(db)
        db.execute("PRAGMA synchronous=NORMAL")
        found = _version(db)
        if found < SCHEMA:
            if found:
                back_up(path, path.with_name(f"{path.name}.schema{found}"))
            try:
                db.executescript(f"BEGIN IMMEDIATE; {_STEPS[found]} PRAGMA user_version={SCHEMA}; COMMIT;")
            except sqlite3.OperationalError:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                if _version(db) != SCHEMA:
                    raise  # else another process has made it meanwhile
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: {error}") from error
    return db


def _use_wal(db: sqlite3.Connection) -> None:
    """Where several processes begin one file, SQLite does not wait by itself for the one that is at it."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a node's file without the right to change it.

    Raises:
        SchemaTooNewError: a newer release wrote it.
        StoreError: it is not there, or not such a file.
    """
    try:
        db = _connected(path)
        _check_version(db, path)
        if _version(db) == 0:
            db.close()
            raise StoreError(f"{path}: holds no tables of ours")
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    return db


_NO_ROOM_BESIDE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def _connected(path: Path) -> sqlite3.Connection:
    """Open it, also for who may not write into its folder.

    In WAL mode SQLite makes files beside it where they are not there, as they are while the daemon runs. A file that
    its daemon has closed has all in it, and nobody writes to it.
    """
    uri = f"{path.resolve().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, timeout=5.0)
    try:
        _version(db)
    except sqlite3.OperationalError as error:
        db.close()
        log = path.with_name(f"{path.name}-wal")
        if error.sqlite_errorcode & 0xFF not in _NO_ROOM_BESIDE or log.exists():
            raise
        db = sqlite3.connect(f"{uri}&immutable=1", uri=True, timeout=5.0)
    return db


def fold_old(db: sqlite3.Connection, wall_s: float, known: Collection[str] = ()) -> None:
    """Points have a retention; the runs of long ago become one sum per domain: the books still balance.

    Args:
        db: in a transaction.
        wall_s: the time, epoch seconds.
        known: runs that are still written, whatever a clock that steps by years says.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    old = """(SELECT run FROM run WHERE end_s < :run AND state != 'open'
        AND run NOT IN (SELECT value FROM json_each(:known)))"""
    when = {
        "run": wall_s - RUN_DAYS * DAY_S,
        "series": wall_s - SERIES_DAYS * DAY_S,
        "past": PAST,
        "known": msgspec.json.encode(list(known)).decode(),
    }
    for statement in (
        "DELETE FROM job_energy WHERE wall_s < :series",
        "DELETE FROM node_power WHERE wall_s < :series",
        "DELETE FROM progress WHERE wall_s < :series",
        f"""INSERT INTO ledger SELECT domain, :past, sum(uj), sum(known_ns) FROM ledger
        WHERE holder IN {old} GROUP BY domain ON CONFLICT (holder, domain) DO UPDATE
        SET uj = uj + excluded.uj, known_ns = known_ns + excluded.known_ns""",  # noqa: S608 (our own words, as below)
        f"DELETE FROM ledger WHERE holder IN {old}",  # noqa: S608
        f"DELETE FROM label WHERE run IN {old}",  # noqa: S608
        f"DELETE FROM run WHERE run IN {old}",  # noqa: S608
    ):
        db.execute(statement, when)


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    found = _version(db)
    if found > SCHEMA:
        db.close()
        raise SchemaTooNewError(f"{path}: written by a newer release (schema {found}, this one knows {SCHEMA})")
