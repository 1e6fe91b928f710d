"""One row of the results, as both the writer and the reader know it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from jobimpact.core.records import Charge, JobRecord, Stay

__all__ = [
    "JSON_COLUMNS",
    "SCHEMA",
    "Entry",
    "JobResult",
    "MonthRow",
    "database_path",
    "het_of",
    "result_of",
]

SCHEMA = 4
"""The version of the results' tables."""

Json = dict[str, Any]

JSON_COLUMNS = ("nodes", "energy", "impacts", "factors", "inventory", "warnings", "raw", "labels")

_HET = re.compile(r"(\d+)\+\d", re.ASCII)


class JobResult(JobRecord, frozen=True, kw_only=True):
    """A job as its scheduler told it, with its energy and its impacts. Times are epoch seconds, UTC."""

    energy_j: float | None
    """The total, again, to be searched and summed."""
    coverage: float
    energy: Json
    impacts: Json
    factors: Json
    inventory: Json
    warnings: tuple[str, ...]
    accounted_s: float | None = None
    """When this revision was written; None: it is not in the results, it was put together just now."""
    revision: int = 0

    @property
    def known_until_s(self) -> float | None:
        """Up to when the books of a job that is not over are written, in epoch seconds; None: it is over.

        The books of its nodes are not written at one moment: the earliest counts.
        """
        if self.end_s is not None:
            return None
        nodes = [node for node in self.energy["nodes"].values() if node["state"] == "open"]
        return min((node["start_s"] + node["elapsed_s"] for node in nodes), default=None)

    @classmethod
    def of(cls, record: JobRecord, **found: Any) -> JobResult:
        """A record with what was found out about it."""
        return cls(**msgspec.structs.asdict(record), **found)


class Entry(msgspec.Struct, frozen=True):
    """A job's row, with what it reserved of each node and what is booked of it for each node and month."""

    result: JobResult
    stays: dict[str, Stay]
    charges: tuple[Charge, ...]


class MonthRow(msgspec.Struct, frozen=True):
    """One component of one type of nodes in one month that is closed, and the idle key that was frozen with it."""

    month: str
    node_type: str
    component: str
    idle: Json
    """Hours and energy that no job had."""
    key: Json
    """What an hour that was held brings with it, over the months up to this one."""
    factors: str
    inventory: str
    revision: int = 0


def het_of(job_id: str) -> str | None:
    """The leader of the heterogeneous job that `10+1` is a part of."""
    match = _HET.match(job_id)
    return match[1] if match else None


def database_path(url: str) -> str:
    """The file of a `sqlite:///` URL."""
    return url.removeprefix("sqlite:///")


def result_of(row: dict[str, Any]) -> JobResult:
    """A row as the database gives it, by column."""
    for name in JSON_COLUMNS:
        if name in row:  # a file of an earlier release has not all
            row[name] = msgspec.json.decode(row[name])
    row["exclusive"] = bool(row.get("exclusive"))
    return msgspec.convert(row, JobResult)
