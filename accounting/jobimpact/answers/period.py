"""A time of a user, a lab or a cluster, from the results alone: sums, splits, what stands out, past and median."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobimpact.answers.query import Period, PeriodQuery, Place, Sums, Who
from jobimpact.core.config import Config
from jobimpact.core.errors import UnknownError
from jobimpact.results.chosen import Chosen
from jobimpact.results.period import covered, exists, model_of
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult
from jobimpact.results.sums import Adder, merged

__all__ = ["MEDIAN_DAYS", "MEDIAN_USERS", "MOST_BEFORE", "MOST_MODELS", "period"]

DAY_S = 86400
MEDIAN_USERS = 5
"""Of fewer, a median tells of one of them."""
MEDIAN_DAYS = 7
"""Of a shorter time, or one that does not begin with a day, it would tell when somebody's job ended."""
MOST_BEFORE = 12
"""So many spans before are told, whatever is asked for: of seconds there are very many."""
MOST_MODELS = 500
"""So many are told each by itself: jobs say what they are, and one user's may say something new each time."""
_NAMED = 5
_COLUMN = {"user": "user", "lab": "account", "cluster": "+cluster"}  # `+`: by the index of ends, not by the cluster's
_BY = {
    "day": f"CAST(end_s / {DAY_S} AS INTEGER)",
    "user": "user",
    "lab": "coalesce(account, '')",
    "partition": "coalesce(partition, '')",
}
_SPLITS = {
    "user": ("lab", "partition", "model"),
    "lab": ("user", "partition", "model"),
    "cluster": ("user", "lab", "partition", "model"),
}
"""What each is split by."""
_THEN = "end_s >= :from_s AND end_s < :to_s"


def period(reader: Reader, query: PeriodQuery, who: Who, config: Config) -> Period:
    """What was in a time.

    Args:
        reader: of the results.
        query: whose time, and when.
        who: asks.
        config: what the site calls its labs.

    Returns:
        Jobs that ended in that time; of a time that is not over, those that are accounted for.

    Raises:
        UnknownError: it is not theirs or not there, which look the same.
        StoreError: the database cannot be read.
    """
    if not _may(query, who):
        raise _unknown(query)
    lab = config.labs.get(query.name) if query.of == "lab" else None
    result = Period(query=query, sums=Adder().sums(), title=lab.name if lab else None)
    if reader.empty:
        if who.admin and not _own(query, who):
            raise _unknown(query)
        return result
    with reader.moment() as db:
        reader.map()
        asked = _Asked(reader, db, query)
        result = asked.told(result)
        if not result.sums.jobs and who.admin and not _own(query, who) and not asked.any():
            raise _unknown(query)
        return asked.with_median(result) if query.of == "user" else result


def _may(query: PeriodQuery, who: Who) -> bool:
    return who.admin or _own(query, who)


def _own(query: PeriodQuery, who: Who) -> bool:
    if query.of == "user":
        return query.name in who.names
    return query.of == "lab" and query.name in who.labs


def _unknown(query: PeriodQuery) -> UnknownError:
    return UnknownError(f"{query.of} {query.name}: unknown, or not yours")


class _Asked:
    """The jobs that are asked for, in a file that stands still."""

    def __init__(self, reader: Reader, db: sqlite3.Connection, query: PeriodQuery) -> None:
        self._reader = reader
        self._db = db
        self._query = query
        self._only = "" if query.cluster is None else " AND +cluster = :cluster"
        self._where = f"{_COLUMN[query.of]} = :name{self._only}"
        self._values = {"name": query.name, "cluster": query.cluster, "from_s": query.from_s, "to_s": query.to_s}

    def any(self) -> bool:
        return exists(self._db, self._where, self._values)

    def told(self, result: Period) -> Period:
        """All but the median."""
        splits = _SPLITS[self._query.of]
        by = _BY | {"model": model_of(self._reader)}
        chosen = Chosen(self._db, f"{self._where} AND {_THEN}", self._values, by)
        places = chosen.sums(*splits)
        whole = chosen.with_kinds(merged(list(places.values())) or result.sums)
        days = chosen.sums("day", light=True)
        found = {name: _split(places, number, name) for number, name in enumerate(splits)}
        told = {name: each for name, each in found.items() if any(one.name for one in each)}
        told["day"] = tuple(Place(_date(day), sums) for (day,), sums in sorted(days.items()))
        accounted_to_s = self.accounted_to()
        return msgspec.structs.replace(
            result,
            sums=whole,
            before=self.before(accounted_to_s),
            by=told,
            worst=self._in_full(chosen.largest(_NAMED, failed=True)),
            most=self._in_full(chosen.largest(_NAMED)),
            accounted_to_s=accounted_to_s,
            kinds=whole.kinds,
            lacking=whole.lacking,
            methods=whole.methods,
            factors=whole.factors,
        )

    def accounted_to(self) -> float | None:
        """Up to when all clusters that are asked for are accounted, from the begin on."""
        spans = self._spans()
        ends = [_covered_to(one, self._query.from_s) for one in spans]
        known = [end for end in ends if end is not None]
        return min(*known, self._query.to_s) if known and len(known) == len(ends) else None

    def before(self, accounted_to_s: float | None) -> tuple[Sums, ...]:
        """As many times before as are wholly accounted."""
        query = self._query
        lasts_s = 0.0 if accounted_to_s is None else accounted_to_s - query.from_s
        found: list[Sums] = []
        spans = self._spans()
        while lasts_s > 0 and len(found) < min(query.before, MOST_BEFORE):
            to_s = query.from_s - len(found) * lasts_s
            ends = [_covered_to(one, to_s - lasts_s) for one in spans]
            if any(end is None or end < to_s for end in ends):
                break
            values = self._values | {"from_s": to_s - lasts_s, "to_s": to_s}
            sums = Chosen(self._db, f"{self._where} AND {_THEN}", values).sums(light=True)
            found.append(sums.get((), Adder(light=True).sums()))
        return tuple(found)

    def with_median(self, result: Period) -> Period:
        """Beside the lab that the user had the most energy in."""
        query = self._query
        to_s = result.accounted_to_s
        lab = next((one.name for one in result.by.get("lab", ()) if one.name and one.sums.ran), None)
        whole = query.from_s % DAY_S == 0 and query.to_s % DAY_S == 0
        if lab is None or not whole or to_s is None or to_s - query.from_s < MEDIAN_DAYS * DAY_S:
            return result
        where = f"account = :name{self._only} AND {_THEN}"
        users = Chosen(self._db, where, self._values | {"name": lab}, {"user": "user"}).sums("user", light=True)
        each = [sums for sums in users.values() if sums.ran]
        if len(each) < MEDIAN_USERS:
            return result
        return msgspec.structs.replace(result, median=_median(each), median_lab=lab, median_users=len(each))

    def _in_full(self, ids: list[int]) -> tuple[JobResult, ...]:
        found = self._reader.in_full(self._db, ids)
        return tuple(sorted(found, key=lambda one: (one.energy_j or 0.0, one.cluster, one.key), reverse=True))

    def _spans(self) -> list[list[tuple[float, float]]]:
        query = self._query
        only = query.name if query.of == "cluster" else query.cluster
        return [spans for cluster, spans in covered(self._db).items() if only in {None, cluster}]


def _covered_to(spans: list[tuple[float, float]], from_s: float) -> float | None:
    """Up to when, exclusive, all is accounted from a moment on. Ends are whole seconds, within."""
    return next((to_s + 1 for begin_s, to_s in spans if begin_s <= from_s <= to_s), None)


def _split(places: Mapping[tuple[Any, ...], Sums], at: int, of: str) -> tuple[Place, ...]:
    """The most energy first; of models beyond the most that are told, the sum comes last."""
    found: dict[str, list[Sums]] = {}
    for place, sums in places.items():
        found.setdefault(place[at], []).append(sums)

    def rank(name: str) -> tuple[float, int, str]:
        several = found[name]
        return -sum(one.energy_j or 0.0 for one in several), -sum(one.jobs for one in several), name

    names = sorted(found, key=rank)
    rest: list[str] = []
    if of == "model" and len(names) > MOST_MODELS:
        rest = [name for name in names[MOST_MODELS:] if name]
        names = [*names[:MOST_MODELS], *(name for name in names[MOST_MODELS:] if not name)]
    each = [(name, found[name]) for name in names]
    if rest:
        each.append((f"({len(rest):,} others)", [sums for name in rest for sums in found[name]]))
    return tuple(Place(name, whole) for name, several in each if (whole := merged(several)) is not None)


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d")


def _median(each: list[Sums]) -> Sums:
    """Number by number, so that no user's are together; of a number that too few have, none."""

    def of(number: Callable[[Sums], float | None]) -> float | None:
        known = sorted(value for one in each if (value := number(one)) is not None)
        middle = len(known) // 2
        return (known[middle] + known[~middle]) / 2 if len(known) >= MEDIAN_USERS else None

    return Sums(
        jobs=int(of(lambda one: one.jobs) or 0),
        ran=int(of(lambda one: one.ran) or 0),
        failed=int(of(lambda one: one.failed) or 0),
        measured=int(of(lambda one: one.measured) or 0),
        energy_j=of(lambda one: one.energy_j),
        failed_energy_j=of(lambda one: one.failed_energy_j),
        coverage=of(lambda one: one.coverage),
        cpu_hours=of(lambda one: one.cpu_hours) or 0.0,
        gpu_hours=of(lambda one: one.gpu_hours) or 0.0,
        node_hours=of(lambda one: one.node_hours) or 0.0,
        impacts={},
    )
