"""What a report of a time needs of the results beside sums."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from jobimpact.results.outcome import FAILED
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult

__all__ = ["covered", "exists", "largest", "model_of"]

_FAILED = ", ".join(f"'{state}'" for state in sorted(FAILED))
_MODEL = "CASE WHEN labels = '{}' THEN '' ELSE coalesce(CAST(json_extract(labels, '$.model') AS TEXT), '') END"


def model_of(reader: Reader) -> str:
    """SQL of what a job's owner says that it trains, or runs; empty where nothing is said."""
    return _MODEL if "labels" in reader.names else "''"


def largest(
    reader: Reader,
    db: sqlite3.Connection,
    where: str,
    parameters: Mapping[str, Any],
    count: int,
    *,
    failed: bool = False,
) -> tuple[JobResult, ...]:
    """The jobs with the most energy, in full, the most first; one that used none, or of which none is known, is none.

    Args:
        reader: of the results.
        db: its file, as of one moment.
        where: which rows: SQL of ours, never text of users.
        parameters: what it refers to.
        count: so many at most.
        failed: only those that did not complete.

    Raises:
        sqlite3.Error, msgspec.MsgspecError: it cannot be read.
    """
    only = f" AND state IN ({_FAILED})" if failed else ""
    query = (
        f"SELECT rowid FROM job_result WHERE ({where}) AND energy_j > 0{only} "  # noqa: S608 (ours)
        f"ORDER BY energy_j DESC, cluster DESC, key DESC LIMIT {count}"
    )
    ids = [rowid for (rowid,) in db.execute(query, parameters)]
    found = {(one.cluster, one.key): one for one in reader.in_full(db, ids)}
    return tuple(sorted(found.values(), key=lambda one: (one.energy_j or 0.0, one.cluster, one.key), reverse=True))


def covered(db: sqlite3.Connection) -> dict[str, list[tuple[float, float]]]:
    """The times all of whose jobs are accounted for, by cluster, in order; epoch seconds, both ends within.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'covered'").fetchone():
        return {}  # of an early release
    for cluster, from_s, to_s in db.execute("SELECT cluster, from_s, to_s FROM covered ORDER BY 1, 2"):
        found.setdefault(cluster, []).append((from_s, to_s))
    return found


def exists(db: sqlite3.Connection, where: str, parameters: Mapping[str, Any]) -> bool:
    """Whether any job fits.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    query = f"SELECT 1 FROM job_result WHERE {where} LIMIT 1"  # noqa: S608 (ours)
    return db.execute(query, parameters).fetchone() is not None
