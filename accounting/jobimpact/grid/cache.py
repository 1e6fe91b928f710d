"""The SQLite file in which answers are kept: what was final once stays, whoever writes.

Means are kept beside the hours, so that a shape is taken against the same one whenever it is taken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.grid.slots import Hour

__all__ = ["SCHEMA", "Cache"]

SCHEMA = 1
BUSY_S = 30.0
"""How long one writer waits for another."""

_TABLES = f"""
CREATE TABLE hour (
  provider TEXT NOT NULL, zone TEXT NOT NULL, start_s INTEGER NOT NULL,
  kgco2e_per_kwh REAL NOT NULL, estimated INTEGER NOT NULL, fetched_s REAL NOT NULL,
  PRIMARY KEY (provider, zone, start_s)
) WITHOUT ROWID;
-- Of the twelve months before a month, YYYY-MM, over so many hours: never changed.
CREATE TABLE mean (
  provider TEXT NOT NULL, zone TEXT NOT NULL, month TEXT NOT NULL,
  kgco2e_per_kwh REAL NOT NULL, hours INTEGER NOT NULL, computed_s REAL NOT NULL,
  PRIMARY KEY (provider, zone, month)
) WITHOUT ROWID;
PRAGMA user_version={SCHEMA};
"""
_KEEP = """
INSERT INTO hour VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET kgco2e_per_kwh = excluded.kgco2e_per_kwh, estimated = excluded.estimated, fetched_s = excluded.fetched_s
WHERE hour.estimated
"""


class Cache:
    """One provider's answers for one zone.

    Args:
        path: of the file; made if it is not there.
        provider: as the configuration calls it.
        zone: and all else that its values depend on.

    Raises:
        SchemaTooNewError: a newer release wrote it; it is left as it is.
        StoreError: it cannot be made or is not such a file. So does every method that cannot read or write.
    """

    def __init__(self, path: Path, provider: str, zone: str) -> None:
        self._path = path
        self._of = (provider, zone)
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
            try:
                self._prepare()
            except (StoreError, sqlite3.Error):
                self._db.close()
                raise

    def known(self, from_s: int, to_s: int) -> dict[int, Hour]:
        """The hours that start in [from_s, to_s), epoch seconds."""
        rows = """SELECT start_s, kgco2e_per_kwh, estimated FROM hour
        WHERE provider = ? AND zone = ? AND start_s >= ? AND start_s < ? ORDER BY start_s"""
        with self._told():
            found = self._db.execute(rows, (*self._of, from_s, to_s)).fetchall()
        return {start: Hour(value, bool(estimated)) for start, value, estimated in found}

    def keep(self, hours: Mapping[int, Hour], at_s: float) -> list[int]:
        """Keep answers; an estimate gives way, a final value does not.

        Args:
            hours: by their start.
            at_s: now, epoch seconds.

        Returns:
            The hours of which another final value was kept before: that one stays.
        """
        if not hours:
            return []
        rows = [(*self._of, start, hour.kgco2e_per_kwh, hour.estimated, at_s) for start, hour in hours.items()]
        with self._writing():
            self._db.executemany(_KEEP, rows)
            now = self.known(min(hours), max(hours) + 1)
        return [start for start, hour in hours.items() if not hour.estimated and now[start] != hour]

    def mean(self, month: str) -> float | None:
        """The mean that the hours of a month, YYYY-MM, are taken against, kgCO2e/kWh; None: none is kept."""
        row = "SELECT kgco2e_per_kwh FROM mean WHERE provider = ? AND zone = ? AND month = ?"
        with self._told():
            found = self._db.execute(row, (*self._of, month)).fetchone()
        return None if found is None else float(found[0])

    def freeze(self, month: str, mean: float, hours: int, at_s: float) -> None:
        """Keep a mean for ever, unless one is.

        Args:
            month: whose hours are taken against it, YYYY-MM.
            mean: in kgCO2e/kWh.
            hours: over how many.
            at_s: now, epoch seconds.
        """
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO mean VALUES (?, ?, ?, ?, ?, ?)", (*self._of, month, mean, hours, at_s)
            )

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _prepare(self) -> None:
        if self._version() == 0:
            with self._writing():
                # Another may have made the tables since.
                if self._version() == 0:
                    if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                        raise StoreError(f"{self._path}: holds no tables of ours")
                    for statement in _TABLES.split(";\n"):
                        self._db.execute(statement)
        if (found := self._version()) > SCHEMA:
            raise SchemaTooNewError(
                f"{self._path}: written by a newer release (schema {found}, this one knows {SCHEMA})"
            )

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}") from error
