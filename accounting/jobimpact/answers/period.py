"""A time of a user, a lab or a cluster, from the results alone: sums, splits, what stands out, past and median."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from jobimpact.answers.query import Period, PeriodQuery, Place, Sums, Who
from jobimpact.answers.tally import Tally
from jobimpact.core.config import Config
from jobimpact.core.errors import StoreError
from jobimpact.results.outcome import has_failed
from jobimpact.results.period import Row, covered, exists, full, rows
from jobimpact.results.read import Reader

__all__ = ["MEDIAN_DAYS", "MEDIAN_USERS", "MOST_BEFORE", "period"]

DAY_S = 86400
MEDIAN_USERS = 5
"""Of fewer, a median tells of one of them."""
MEDIAN_DAYS = 7
"""Of a shorter time, or one that does not begin with a day, it would tell when somebody's job ended."""
MOST_BEFORE = 12
"""So many spans before are told, whatever is asked for: of seconds there are very many."""
_NAMED = 5
_COLUMN = {"user": "user", "lab": "account", "cluster": "+cluster"}  # `+`: by the index of ends, not by the cluster's
_SPLITS = {
    "user": {"lab": 1, "partition": 2, "model": 3},
    "lab": {"user": 0, "partition": 2, "model": 3},
    "cluster": {"user": 0, "lab": 1, "partition": 2, "model": 3},
}
"""What each is split by, and where that stands in a place."""


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
        StoreError: it is not theirs or not there, which look the same; or the database cannot be read.
    """
    if not _may(query, who):
        raise _unknown(query)
    asked = _Asked(reader, query)
    found = _Collected(query.of)
    for row in asked.rows(query.from_s, query.to_s):
        found.add(row)
    if not found.total.jobs and who.admin and not _own(query, who) and not asked.any():
        raise _unknown(query)
    accounted_to_s = asked.accounted_to()
    by = found.by()
    lab = config.labs.get(query.name) if query.of == "lab" else None
    result = Period(
        query=query,
        sums=found.total.sums(),
        before=asked.before(accounted_to_s),
        by=by,
        worst=full(reader, found.worst.keys()),
        most=full(reader, found.most.keys()),
        accounted_to_s=accounted_to_s,
        title=lab.name if lab else None,
        kinds=found.total.kinds,
        lacking=found.total.lacking,
        methods=found.total.methods,
        factors=found.total.factors,
    )
    return _with_median(result, asked, by.get("lab", ())) if query.of == "user" else result


def _may(query: PeriodQuery, who: Who) -> bool:
    return who.admin or _own(query, who)


def _own(query: PeriodQuery, who: Who) -> bool:
    if query.of == "user":
        return query.name in {who.name, str(who.uid)}
    return query.of == "lab" and query.name in who.labs


def _unknown(query: PeriodQuery) -> StoreError:
    return StoreError(f"{query.of} {query.name}: unknown, or not yours")


class _Asked:
    """The jobs that are asked for, of any time."""

    def __init__(self, reader: Reader, query: PeriodQuery) -> None:
        self._reader = reader
        self._query = query
        self._where = f"{_COLUMN[query.of]} = ?"
        self._values: tuple[object, ...] = (query.name,)
        if query.cluster is not None:
            self._where += " AND +cluster = ?"
            self._values += (query.cluster,)

    def any(self) -> bool:
        return exists(self._reader, self._where, self._values)

    def rows(self, from_s: float, to_s: float, *, light: bool = False) -> Iterable[Row]:
        where = f"{self._where} AND end_s >= ? AND end_s < ?"
        return rows(self._reader, where, (*self._values, from_s, to_s), light=light)

    def of_lab(self, lab: str) -> Iterable[Row]:
        """All of a lab, in the time that is asked for."""
        query = self._query
        where, values = "account = ? AND end_s >= ? AND end_s < ?", [lab, query.from_s, query.to_s]
        if query.cluster is not None:
            where += " AND +cluster = ?"
            values.append(query.cluster)
        return rows(self._reader, where, values, light=True)

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
            tally = Tally(light=True)
            for row in self.rows(to_s - lasts_s, to_s, light=True):
                tally.add(row)
            found.append(tally.sums())
        return tuple(found)

    def _spans(self) -> list[list[tuple[float, float]]]:
        query = self._query
        only = query.name if query.of == "cluster" else query.cluster
        return [spans for cluster, spans in covered(self._reader).items() if only in {None, cluster}]


def _covered_to(spans: list[tuple[float, float]], from_s: float) -> float | None:
    """Up to when, exclusive, all is accounted from a moment on. Ends are whole seconds, within."""
    return next((to_s + 1 for begin_s, to_s in spans if begin_s <= from_s <= to_s), None)


class _Top:
    """The jobs with the most energy."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str, str]] = []

    def add(self, row: Row) -> None:
        if not row.energy_j:
            return
        one = (row.energy_j, row.cluster, row.key)
        if len(self._heap) < _NAMED:
            heapq.heappush(self._heap, one)
        elif one > self._heap[0]:
            heapq.heapreplace(self._heap, one)

    def keys(self) -> list[tuple[str, str]]:
        """Cluster and key, the most energy first."""
        return [(cluster, key) for _, cluster, key in sorted(self._heap, reverse=True)]


class _Collected:
    """A time's jobs as they come.

    Users, labs, partitions and models are summed together, and taken apart at the end: of jobs there may be very many,
    of these not.
    """

    def __init__(self, of: str) -> None:
        self.total = Tally()
        self.worst, self.most = _Top(), _Top()
        self._of = of
        self._places: dict[tuple[str, str, str, str], Tally] = {}
        self._days: dict[int, Tally] = {}

    def add(self, row: Row) -> None:
        place = (row.user, row.account or "", row.partition or "", row.model or "")
        here = self._places.get(place)
        if here is None:
            here = self._places[place] = Tally()
        here.add(row)
        day = int((row.end_s or 0.0) // DAY_S)
        today = self._days.get(day)
        if today is None:
            today = self._days[day] = Tally(light=True)
        today.add(row)
        self.most.add(row)
        if row.energy_j and has_failed(row.state, row.start_s, row.energy_j):
            self.worst.add(row)

    def by(self) -> dict[str, tuple[Place, ...]]:
        """The splits; after this the total stands."""
        for tally in self._places.values():
            self.total.merge(tally)
        found = {name: _split(self._places.items(), number) for name, number in _SPLITS[self._of].items()}
        days = tuple(Place(_date(day), tally.sums()) for day, tally in sorted(self._days.items()))
        return {name: places for name, places in found.items() if any(one.name for one in places)} | {"day": days}


def _split(places: Iterable[tuple[tuple[str, ...], Tally]], at: int) -> tuple[Place, ...]:
    found: dict[str, Tally] = {}
    for names, tally in places:
        found.setdefault(names[at], Tally()).merge(tally)
    each = [Place(name, tally.sums()) for name, tally in found.items()]
    return tuple(sorted(each, key=lambda one: (-(one.sums.energy_j or 0.0), -one.sums.jobs, one.name)))


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d")


def _with_median(result: Period, asked: _Asked, labs: tuple[Place, ...]) -> Period:
    """Beside the lab that the user had the most energy in."""
    query = result.query
    to_s = result.accounted_to_s
    lab = next((one.name for one in labs if one.name and one.sums.ran), None)
    whole = query.from_s % DAY_S == 0 and query.to_s % DAY_S == 0
    if lab is None or not whole or to_s is None or to_s - query.from_s < MEDIAN_DAYS * DAY_S:
        return result
    users: dict[str, Tally] = {}
    for row in asked.of_lab(lab):
        users.setdefault(row.user, Tally(light=True)).add(row)
    each = [tally.sums() for tally in users.values() if tally.ran]
    if len(each) < MEDIAN_USERS:
        return result
    return msgspec.structs.replace(result, median=_median(each), median_lab=lab, median_users=len(each))


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
