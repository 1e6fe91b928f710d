"""What of the results is not yet in the time-series server: days, and places that jobs have left.

Whatever changes a row notes, in the same transaction, the days on which its job ended (before and now), and where it
stood if it stands elsewhere now: nothing that changes is forgotten, however long the server is away. Notes are keys of
the table `meta`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert

from jobimpact.results.tables import job_result, meta

__all__ = ["DAY_S", "Impact", "Place", "Published", "Span", "Told", "note_changes"]

DAY_S = 86400
_CHUNK = 500


class Span(msgspec.Struct, frozen=True):
    """A quantity with its range."""

    low: float
    central: float
    high: float


class Impact(msgspec.Struct, frozen=True):
    """One indicator of a job; None where it is not known."""

    use: Span | None = None
    embodied: Span | None = None


Place = tuple[str | None, str | None, str | None]
"""User, account, partition; None for what is empty: servers do not tell the two apart."""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What is published of a row. Times are epoch seconds."""

    key: str
    job_id: str
    user: str
    account: str | None
    partition: str | None
    name: str
    state: str
    start_s: float | None
    end_s: float | None
    elapsed_s: float | None
    cpus: int | None
    gpus: int | None
    energy_j: float | None
    coverage: float
    nodes: tuple[str, ...]
    impacts: dict[str, Impact]

    @property
    def place(self) -> Place:
        """Whose it is."""
        return (self.user or None, self.account or None, self.partition or None)

    @property
    def day_s(self) -> int | None:
        """The midnight (UTC) of the day on which it ended."""
        return None if self.end_s is None else int(self.end_s // DAY_S) * DAY_S

    @property
    def point(self) -> tuple[object, ...]:
        """What its point is known by, with its words."""
        return (*self.place, self.start_s, self.job_id, self.name, self.state, self.nodes)

    def loses(self, now: Told) -> bool:
        """Something was known that is not known now: a server's point keeps it unless it is overwritten."""
        return any(was and not still for was, still in zip(self._known, now._known, strict=True))

    @property
    def _known(self) -> tuple[bool, ...]:
        each = (self.energy_j, self.elapsed_s, self.cpus, self.gpus, self.start_s, self.end_s)
        parts = [self.impacts.get(name, Impact()) for name in ("gwp_kgco2e", "adp_kgsbe", "pe_mj")]
        return (
            *(value is not None for value in each),
            *(one.use is not None for one in parts),
            *(one.embodied is not None for one in parts),
        )


_NAMES = Told.__struct_fields__


def note_changes(db: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note what writing some rows will change.

    Args:
        db: within the transaction that writes them.
        rows: as the table has them, each with its digest.
    """
    by_cluster: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_cluster.setdefault(row["cluster"], {})[row["key"]] = row
    for cluster, mine in by_cluster.items():
        notes: dict[str, None] = {}
        keys = list(mine)
        for at in range(0, len(keys), _CHUNK):
            some = keys[at : at + _CHUNK]
            c = job_result.c
            here = (c.cluster == cluster) & c.key.in_(some)
            digests = {row[0]: row[1] for row in db.execute(sa.select(c.key, c.digest).where(here))}
            changed = [key for key in some if digests.get(key) != mine[key]["digest"]]
            before = {one.key: one for one in _told(db, here & c.key.in_([key for key in changed if key in digests]))}
            for key in changed:
                notes |= dict.fromkeys(_notes(cluster, before.get(key), mine[key]))
        _put(db, notes)


def _notes(cluster: str, was: Told | None, row: Mapping[str, Any]) -> Iterator[str]:
    end_s = row["end_s"]
    days = {None if end_s is None else int(end_s // DAY_S) * DAY_S, was.day_s if was else None}
    yield from (_day(cluster, day_s) for day_s in days if day_s is not None)
    if was is None:
        return
    now = _of([row[name] for name in _NAMES])
    loses = was.loses(now)
    if was.day_s is not None and (loses or (was.day_s, was.place) != (now.day_s, now.place)):
        yield f"left_day {cluster} {_json((was.day_s, *was.place))}"
    if was.start_s is not None and (loses or was.point != now.point):
        yield f"left_job {cluster} {_json(msgspec.structs.replace(was, impacts={}))}"


class Published:
    """One cluster's notes.

    Args:
        transaction: of the results.
        cluster: whose.
    """

    def __init__(self, transaction: Callable[[], AbstractContextManager[Connection]], cluster: str) -> None:
        self._transaction = transaction
        self._cluster = cluster

    def begin(self, server: str, again: tuple[float, float] | None = None) -> int:
        """Begin to publish, and note all there is for a server that was not the last one's.

        Args:
            server: a word for it.
            again: a time all of whose days are noted, first and last moment, in epoch seconds.

        Returns:
            The publication's number: each is larger than the one before.
        """
        mark, count = f"published {self._cluster} {server}", f"publications {self._cluster}"
        c = meta.c
        with self._transaction() as db:
            number = int(db.execute(sa.select(c.value).where(c.key == count)).scalar() or 0) + 1
            _set(db, count, number)
            known = db.execute(sa.select(c.key).where(c.key == mark)).scalar()
            if known is None:
                for kind in ("published", "hours_to"):
                    db.execute(meta.delete().where(_begins(f"{kind} {self._cluster} ")))
                _set(db, mark, number)
            if known is None or again is not None:
                r = job_result.c
                mine = (r.cluster == self._cluster) & r.end_s.is_not(None)
                if known is not None and again is not None:
                    mine &= (r.end_s >= again[0] // DAY_S * DAY_S) & (r.end_s < (again[1] // DAY_S + 1) * DAY_S)
                day = sa.cast(r.end_s / DAY_S, sa.Integer)
                days = db.execute(sa.select(day).where(mine).distinct()).scalars().all()
                _put(db, [_day(self._cluster, one * DAY_S) for one in days])
        return number

    def forget(self) -> None:
        """There is no server: what a later one lacks is everything."""
        with self._transaction() as db:
            for kind in ("unpublished", "left_day", "left_job", "published", "hours_to"):
                db.execute(meta.delete().where(_begins(f"{kind} {self._cluster} ")))

    def days(self) -> list[int]:
        """The days that are to be published, by their midnights, in order."""
        return sorted(int(text) for text in self._noted("unpublished"))

    def left_places(self) -> dict[int, set[Place]]:
        """By day, who had jobs there and may have none now, or lost a number."""
        found: dict[int, set[Place]] = {}
        for text in self._noted("left_day"):
            day_s, *place = msgspec.json.decode(text, type=tuple[int, str | None, str | None, str | None])
            found.setdefault(day_s, set()).add((place[0], place[1], place[2]))
        return found

    def left_points(self) -> list[Told]:
        """Jobs as they were, whose point is another one now or lost a number."""
        return [msgspec.json.decode(text, type=Told) for text in self._noted("left_job")]

    def jobs(self, day_s: int) -> list[Told]:
        """Those that ended on a day (UTC)."""
        c = job_result.c
        with self._transaction() as db:
            return list(_told(db, (c.cluster == self._cluster) & (c.end_s >= day_s) & (c.end_s < day_s + DAY_S)))

    def days_are_done(self, days: Iterable[int]) -> None:
        """Days were delivered, by their midnights."""
        c = meta.c
        with self._transaction() as db:
            for day_s in days:
                db.execute(meta.delete().where(c.key == _day(self._cluster, day_s)))
                db.execute(meta.delete().where(_begins(f"left_day {self._cluster} [{day_s},")))

    def points_are_done(self, left: Iterable[Told]) -> None:
        """Points of before were overwritten."""
        with self._transaction() as db:
            for one in left:
                db.execute(meta.delete().where(meta.c.key == f"left_job {self._cluster} {_json(one)}"))

    def hours_to(self) -> dict[str, float]:
        """Up to when each node's hours are published, in epoch seconds."""
        begin = f"hours_to {self._cluster} "
        with self._transaction() as db:
            rows = db.execute(sa.select(meta.c.key, meta.c.value).where(_begins(begin)))
            return {key.removeprefix(begin): value for key, value in rows}

    def hours_are_done(self, to_s: Mapping[str, float]) -> None:
        """Nodes' hours were delivered."""
        with self._transaction() as db:
            for node, at_s in to_s.items():
                _set(db, f"hours_to {self._cluster} {node}", at_s)

    def _noted(self, kind: str) -> list[str]:
        begin = f"{kind} {self._cluster} "
        with self._transaction() as db:
            return [
                key.removeprefix(begin) for key in db.execute(sa.select(meta.c.key).where(_begins(begin))).scalars()
            ]


def _begins(text: str) -> Any:
    """Keys that begin so: unlike LIKE, by the key's index, and it does not take `Lab` for `lab`."""
    return (meta.c.key >= text) & (meta.c.key < text + "\U0010ffff")


def _day(cluster: str, day_s: int) -> str:
    return f"unpublished {cluster} {day_s}"


def _put(db: Connection, keys: Iterable[str]) -> None:
    rows = [{"key": key, "value": 0.0} for key in keys]
    if rows:
        db.execute(insert(meta).on_conflict_do_nothing(index_elements=["key"]), rows)


def _set(db: Connection, key: str, value: float) -> None:
    row = insert(meta).values(key=key, value=value)
    db.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": row.excluded.value}))


def _told(db: Connection, where: Any) -> Iterator[Told]:
    for row in db.execute(sa.select(*(job_result.c[name] for name in _NAMES)).where(where)):
        yield _of(row)


_IMPACTS = msgspec.json.Decoder(dict[str, Impact])


def _of(row: Sequence[Any]) -> Told:
    """A row's columns, in the order of the fields."""
    plain = dict(zip(_NAMES, row, strict=True))
    nodes, impacts = msgspec.json.decode(plain.pop("nodes"), type=list[str]), _IMPACTS.decode(plain.pop("impacts"))
    return Told(**plain, nodes=tuple(nodes), impacts=impacts)


def _json(found: object) -> str:
    return msgspec.json.encode(found).decode()
