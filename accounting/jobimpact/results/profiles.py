"""Power over time and progress of jobs, beside their rows: written after them, and looked for again until they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert

from jobimpact.core.records import Profile, Progress
from jobimpact.results.tables import job_profile, job_result

__all__ = ["Profiles"]

_CHUNK = 500


class Profiles:
    """Those of one cluster's jobs.

    Args:
        transaction: of the results' database.
        cluster: whose.
    """

    def __init__(self, transaction: Callable[[], AbstractContextManager[Connection]], cluster: str) -> None:
        self._transaction = transaction
        self._cluster = cluster

    def lacking(self, keys: Sequence[str], least_j: float) -> dict[str, float]:
        """Joules by key of those of some jobs that have so much, and whose profile was not looked for since."""
        row, mine = job_result.c, job_profile.c
        same = (mine.cluster == row.cluster) & (mine.key == row.key)
        found: dict[str, float] = {}
        with self._transaction() as db:
            for some in _chunks(keys):
                query = (
                    sa.select(row.key, row.energy_j)
                    .select_from(job_result.outerjoin(job_profile, same))
                    .where(row.cluster == self._cluster, row.key.in_(some), row.energy_j >= least_j)
                    .where(mine.energy_j.is_(None) | (mine.energy_j != row.energy_j))
                )
                found |= {row[0]: row[1] for row in db.execute(query)}
        return found

    def put(self, found: Mapping[str, tuple[Profile | None, float]]) -> None:
        """Write profiles, each with the energy that it is of; None: there is none to be had."""
        rows: list[dict[str, object]] = [
            {"key": key, "energy_j": energy_j, "profile": None if profile is None else _json(profile)}
            for key, (profile, energy_j) in found.items()
        ]
        self._write([row | {"progress": "[]"} for row in rows], ("profile", "energy_j"))

    def put_progress(self, found: Mapping[str, Sequence[Progress]]) -> None:
        """Write what jobs said of their progress."""
        self._write([{"key": key, "progress": _json(points)} for key, points in found.items()], ("progress",))

    def _write(self, rows: Sequence[dict[str, object]], names: tuple[str, ...]) -> None:
        new = insert(job_profile)
        changed = sa.or_(*(job_profile.c[name].is_distinct_from(new.excluded[name]) for name in names))
        values = {name: new.excluded[name] for name in names}
        statement = new.on_conflict_do_update(index_elements=["cluster", "key"], set_=values, where=changed)
        with self._transaction() as db:
            for row in rows:
                db.execute(statement, row | {"cluster": self._cluster})


def _json(found: object) -> str:
    return msgspec.json.encode(found).decode()


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(keys), _CHUNK):
        yield keys[at : at + _CHUNK]
