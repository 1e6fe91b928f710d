"""What a report of a time needs of the results beside sums."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from jobimpact.results.read import Reader

__all__ = ["covered", "exists", "model_of"]

_MODEL = "CASE WHEN labels = '{}' THEN '' ELSE coalesce(CAST(json_extract(labels, '$.model') AS TEXT), '') END"


def model_of(reader: Reader) -> str:
    """SQL of what a job's owner says that it trains, or runs; empty where nothing is said."""
    return _MODEL if "labels" in reader.names else "''"


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
