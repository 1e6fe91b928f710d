"""The writer of the results: SQLAlchemy Core over SQLite with a rollback journal, so that a group may read it.

A row is written by one statement that does nothing where nothing changed: two nights at once, or one night
twice, leave the same rows and the same revisions. No job is ever deleted; its charges are replaced with its row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError

from jobimpact.core.errors import StoreError
from jobimpact.core.records import Charge, Shares, Stay, Triple
from jobimpact.results.figures import figures_of
from jobimpact.results.profiles import Profiles
from jobimpact.results.published import Published, note_changes
from jobimpact.results.record import (
    JSON_COLUMNS,
    Entry,
    JobResult,
    MonthRow,
    database_path,
    het_of,
    result_of,
)
from jobimpact.results.rights import make_private
from jobimpact.results.tables import (
    AMOUNTS,
    SHARES,
    charge,
    covered,
    idle_month,
    job_result,
    make_engine,
    meta,
    migrate,
    stay,
    true_up,
)
from jobimpact.results.turn import give_back, take

__all__ = ["Counts", "Results", "Sums"]


class Counts(msgspec.Struct, frozen=True):
    """What writing some rows came to."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0


class Results:
    """The results' database, made if it is not there.

    Raises:
        SchemaTooNewError: a newer release wrote it; it is left as it is.
        StoreError: it cannot be made, or is not such a database.
    """

    def __init__(self, url: str) -> None:
        self._path = database_path(url)
        self._engine = make_engine(self._path)
        try:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            make_private(Path(self._path))
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        with self._transaction() as db:
            migrate(db, self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    @contextmanager
    def turn(self, cluster: str, now_s: float) -> Iterator[None]:
        """Be the only one that accounts for a cluster meanwhile.

        Raises:
            BusyError: another process is at it.
        """
        with self._transaction() as db:
            take(db, cluster, now_s)
        try:
            yield
        finally:
            with self._transaction() as db:
                give_back(db, cluster)

    def write(self, entries: Iterable[Entry], now_s: float) -> Counts:
        """Put rows in, replace those that changed, leave the others alone: one transaction."""
        rows = [(entry, _row(entry, now_s)) for entry in entries]
        with self._transaction() as db:
            note_changes(db, [row for _, row in rows])
            before = _size(db)
            touched = [entry for entry, row in rows if db.execute(_upsert(), row).rowcount > 0]
            _book(db, touched)
            new = _size(db) - before
        return Counts(new, len(touched) - new, len(rows) - len(touched))

    def published(self, cluster: str) -> Published:
        """What of a cluster is in the time-series server, and what is not."""
        return Published(self._transaction, cluster)

    def profiles(self, cluster: str) -> Profiles:
        """Power over time and progress of a cluster's jobs."""
        return Profiles(self._transaction, cluster)

    def stays_over(self, cluster: str, node: str, from_s: float, to_s: float) -> list[Stay]:
        """Who was on a node at any time within [from_s, to_s]."""
        c = stay.c
        inside = (c.cluster == cluster) & (c.node == node) & (c.end_s >= from_s) & (c.start_s <= to_s)
        with self._transaction() as db:
            return _stays(db, inside).get(node, [])

    def stays_of(self, cluster: str, keys: Sequence[str]) -> dict[str, list[Stay]]:
        """What is written of some jobs' stays, by node."""
        c = stay.c
        found: dict[str, list[Stay]] = {}
        with self._transaction() as db:
            for some in _chunks(keys):
                for node, mine in _stays(db, (c.cluster == cluster) & c.key.in_(some)).items():
                    found.setdefault(node, []).extend(mine)
        return found

    def first_s(self, cluster: str) -> float | None:
        """When the first job began of which anything is written."""
        with self._transaction() as db:
            found: float | None = db.execute(
                sa.select(sa.func.min(stay.c.start_s)).where(stay.c.cluster == cluster)
            ).scalar()
        return found

    def booked_hours(self, cluster: str, node: str, keys: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
        """What was booked of some jobs on a node: hours by job, month and component."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        c = charge.c
        with self._transaction() as db:
            for some in _chunks(keys):
                query = sa.select(c.key, c.month, c.component, c.hours).where(
                    c.cluster == cluster, c.node == node, c.key.in_(some), c.component.in_(SHARES)
                )
                for key, month, component, hours in db.execute(query):
                    found.setdefault(key, {}).setdefault(month, {})[component] = hours
        return found

    def rows(self, cluster: str, keys: Sequence[str]) -> list[JobResult]:
        """Rows by their keys."""
        found: list[JobResult] = []
        with self._transaction() as db:
            for some in _chunks(keys):
                found += _results(db, (job_result.c.cluster == cluster) & job_result.c.key.in_(some))
        return found

    def incarnations(self, cluster: str, raw_ids: Sequence[str], but: Container[str]) -> list[JobResult]:
        """Rows of some raw ids, those of some keys left out."""
        c = job_result.c
        found: list[str] = []
        with self._transaction() as db:
            for some in _chunks(raw_ids):
                # By raw id alone: beside it, SQLite would rather go by the cluster, which is every row's.
                rows = db.execute(sa.select(c.cluster, c.key).where(c.raw_id.in_(some)))
                found += [key for whose, key in rows if whose == cluster and key not in but]
        return self.rows(cluster, sorted(found))

    def made_with(self, cluster: str) -> tuple[str, str] | None:
        """The versions of factors and inventory of the job that ended last; None: there is none."""
        c = job_result.c
        query = sa.select(c.factors, c.inventory).where(c.cluster == cluster, c.end_s.is_not(None))
        with self._transaction() as db:
            row = db.execute(query.order_by(c.end_s.desc()).limit(1)).first()
        if row is None:
            return None
        factors, inventory = (msgspec.json.decode(text) for text in row)
        return str(factors.get("version", "")), str(inventory.get("version", ""))

    def spans(self, cluster: str, from_s: float, to_s: float) -> dict[str, list[tuple[float, float, str]]]:
        """When jobs ran, or may have, that overlap [from_s, to_s], and their nodes as JSON, by raw id.

        Slurm forgets the start of a job that is requeued in its first seconds: it began after its submission.
        """
        c = job_result.c
        begin_s = sa.func.coalesce(c.start_s, c.submit_s)
        query = sa.select(c.raw_id, begin_s, c.end_s, c.nodes).where(
            c.cluster == cluster, c.end_s >= from_s, begin_s <= to_s
        )
        found: dict[str, list[tuple[float, float, str]]] = {}
        same: dict[str, str] = {}
        with self._transaction() as db:
            for raw_id, start_s, end_s, nodes in db.execute(query):
                found.setdefault(raw_id, []).append((start_s, end_s, same.setdefault(nodes, nodes)))
        return found

    def ended(self, cluster: str, from_s: float, to_s: float) -> list[tuple[float, str]]:
        """When jobs ended, and their keys: those that did within [from_s, to_s]."""
        c = job_result.c
        query = sa.select(c.end_s, c.key).where(c.cluster == cluster, c.end_s.between(from_s, to_s))
        with self._transaction() as db:
            return [(end_s, key) for end_s, key in db.execute(query)]

    def covered(self, cluster: str) -> list[tuple[float, float]]:
        """The times all of whose jobs are accounted for."""
        query = sa.select(covered.c.from_s, covered.c.to_s).where(covered.c.cluster == cluster)
        with self._transaction() as db:
            return [(from_s, to_s) for from_s, to_s in db.execute(query)]

    def cover(self, cluster: str, from_s: float, to_s: float) -> None:
        """Note that all jobs that ended within [from_s, to_s] are accounted for."""
        c = covered.c
        inside = (c.cluster == cluster) & (c.from_s <= to_s + 1) & (c.to_s >= from_s - 1)
        with self._transaction() as db:
            least, most = db.execute(sa.select(sa.func.min(c.from_s), sa.func.max(c.to_s)).where(inside)).one()
            db.execute(covered.delete().where(inside))
            edges = {
                "from_s": from_s if least is None else min(from_s, least),
                "to_s": to_s if most is None else max(to_s, most),
            }
            db.execute(covered.insert(), {"cluster": cluster} | edges)

    def months(self, cluster: str) -> list[MonthRow]:
        """The months that are closed, in order."""
        c = idle_month.c
        names = ("month", "node_type", "component", "idle", "key", "factors", "inventory", "revision")
        query = sa.select(*(c[name] for name in names)).where(c.cluster == cluster).order_by(c.month)
        with self._transaction() as db:
            rows = db.execute(query).all()
        found = [dict(zip(names, row, strict=True)) for row in rows]
        for row in found:
            row |= {name: msgspec.json.decode(row[name]) for name in ("idle", "key")}
        return [msgspec.convert(row, MonthRow) for row in found]

    def close_month(
        self, cluster: str, month: str, rows: Iterable[MonthRow], now_s: float, *, anew: bool = False
    ) -> None:
        """Freeze a month; one that is frozen already stays as it is, but for a recomputation (`anew`)."""
        keys = ("cluster", "month", "node_type", "component")
        found = []
        for one in rows:
            text = {name: _json(getattr(one, name)) for name in ("idle", "key")}
            row = msgspec.structs.asdict(one) | text | {"cluster": cluster, "revision": 1, "closed_s": now_s}
            found.append(row | {"digest": _hash([text, one.factors, one.inventory])})
        with self._transaction() as db:
            if anew:
                _drop_others(db, idle_month, {"cluster": cluster, "month": month}, found)
            for row in found:
                db.execute(_frozen(idle_month, keys, anew=anew), row)
            _unsettle(db, cluster, {month[:4]})

    def take_back(self, cluster: str, months: Sequence[str], now_s: float) -> None:
        """Open months that a clock which was ahead has closed, and forget that times to come are accounted for."""
        years = sorted({month[:4] for month in months})
        c = covered.c
        with self._transaction() as db:
            db.execute(idle_month.delete().where(idle_month.c.cluster == cluster, idle_month.c.month.in_(months)))
            db.execute(true_up.delete().where(true_up.c.cluster == cluster, true_up.c.year.in_(years)))
            _unsettle(db, cluster, years)
            db.execute(covered.delete().where(c.cluster == cluster, c.from_s > now_s))
            db.execute(covered.update().where(c.cluster == cluster, c.to_s > now_s).values(to_s=now_s))
            marks = (_mark(cluster), _told(cluster))
            db.execute(meta.update().where(meta.c.key.in_(marks), meta.c.value > now_s).values(value=now_s))

    def unsettled(self, cluster: str) -> set[str]:
        """The years of which something was booked or closed since their true-up was written."""
        begin = _unsettled(cluster, "")
        with self._transaction() as db:
            keys = db.execute(sa.select(meta.c.key).where(meta.c.key.startswith(begin, autoescape=True))).scalars()
            return {key.removeprefix(begin) for key in keys}

    def true_ups(self, cluster: str, year: str) -> list[dict[str, Any]]:
        """What closed a year's books: a line for each component of each type of nodes; none if it is not closed."""
        c = true_up.c
        query = sa.select(c.data, c.revision).where(c.cluster == cluster, c.year == year)
        with self._transaction() as db:
            rows = db.execute(query.order_by(c.node_type, c.component)).all()
        return [msgspec.json.decode(data) | {"revision": revision} for data, revision in rows]

    def write_true_ups(self, cluster: str, year: str, lines: Iterable[dict[str, Any]], now_s: float) -> None:
        """Close a year's books; a line that changed since gets a revision."""
        keys = ("cluster", "year", "node_type", "component")
        rows = [
            {"cluster": cluster, "year": year}
            | {name: line[name] for name in keys[2:]}
            | {"data": _json(line), "digest": _hash(line), "revision": 1, "closed_s": now_s}
            for line in lines
        ]
        with self._transaction() as db:
            _drop_others(db, true_up, {"cluster": cluster, "year": year}, rows)
            for row in rows:
                db.execute(_frozen(true_up, keys, anew=True), row)
            db.execute(meta.delete().where(meta.c.key == _unsettled(cluster, year)))

    def charged(self, cluster: str, months: Sequence[str]) -> dict[tuple[str, str], Sums]:
        """What was booked in some months: sums by type of nodes and component, whatever the order of the rows."""
        c = charge.c
        numbers = ("hours", "in_life_h", *AMOUNTS)
        query = sa.select(c.node_type, c.component, *(c[name] for name in numbers))
        # As integers: sums of floats would differ in their last digit when a row was written anew.
        sums: dict[tuple[str, str], list[int]] = {}
        with self._transaction() as db:
            for kind, component, *row in db.execute(query.where(c.cluster == cluster, c.month.in_(months))):
                found = sums.setdefault((kind, component), [0] * len(numbers))
                for at, value in enumerate(row):
                    found[at] += round((value or 0.0) * FINE)
        return {key: _sums([one / FINE for one in found]) for key, found in sums.items()}

    def hold(
        self, cluster: str, stays: Mapping[str, Iterable[Stay]], from_s: float, to_s: float
    ) -> dict[str, list[Stay]]:
        """Note what jobs hold that have no row yet, by node: up to when they were last seen.

        Returns:
            Stays of jobs that were last seen within [from_s, to_s] and are not among them: to be taken out by
            `release`, when those beside them know of it.
        """
        rows = [_stay_row(cluster, node, one) for node, some in stays.items() for one in some]
        keys = {row["key"] for row in rows}
        with self._transaction() as db:
            written = sa.select(job_result.c.key).where(job_result.c.cluster == cluster)
            c = stay.c
            inside = (c.cluster == cluster) & c.end_s.between(from_s, to_s) & c.key.not_in(written)
            seen = {node: [one for one in some if one.key not in keys] for node, some in _stays(db, inside).items()}
            for row in rows:
                if db.execute(written.where(job_result.c.key == row["key"])).first() is None:
                    new = insert(stay).values(row)
                    ends = {"end_s": sa.func.max(c.end_s, new.excluded.end_s)}
                    db.execute(new.on_conflict_do_update(index_elements=["cluster", "key", "node"], set_=ends))
        return {node: some for node, some in seen.items() if some}

    def release(self, cluster: str, keys: Iterable[str]) -> None:
        """Take out stays of jobs that have no row, and turned out not to be held."""
        with self._transaction() as db:
            for some in _chunks(sorted(keys)):
                db.execute(stay.delete().where(stay.c.cluster == cluster, stay.c.key.in_(some)))

    def lacking_hours(self, cluster: str, from_s: float, to_s: float) -> list[str]:
        """Keys of jobs that ended within [from_s, to_s) and lack hours of the grid, or have but estimated ones."""
        c = job_result.c
        hours, known, estimated = (
            sa.func.json_extract(c.factors, f"$.grid.{name}") for name in ("hours", "known", "estimated")
        )
        inside = (c.cluster == cluster) & (c.end_s >= from_s) & (c.end_s < to_s)
        with self._transaction() as db:
            return list(db.execute(sa.select(c.key).where(inside, (known < hours) | (estimated > 0))).scalars())

    def watermark(self, cluster: str) -> float | None:
        """Up to when this cluster's jobs were all accounted for, in epoch seconds."""
        return self._noted(_mark(cluster))

    def set_watermark(self, cluster: str, at_s: float) -> None:
        """Move the mark on; never back."""
        row = insert(meta).values(key=_mark(cluster), value=at_s)
        ahead = sa.func.max(meta.c.value, row.excluded.value)
        with self._transaction() as db:
            db.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": ahead}))

    def told(self, cluster: str) -> float | None:
        """Up to when it was told of runs that the scheduler does not know, in epoch seconds."""
        return self._noted(_told(cluster))

    def set_told(self, cluster: str, at_s: float) -> None:
        """Move that time, back as well: rather told twice than never."""
        row = insert(meta).values(key=_told(cluster), value=at_s)
        with self._transaction() as db:
            db.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": row.excluded.value}))

    def _noted(self, key: str) -> float | None:
        with self._transaction() as db:
            value: float | None = db.execute(sa.select(meta.c.value).where(meta.c.key == key)).scalar()
        return value

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as db:
                yield db
        except DBAPIError as error:
            raise StoreError(f"{self._path}: {error.orig}") from error


def _mark(cluster: str) -> str:
    return f"accounted_to {cluster}"


def _told(cluster: str) -> str:
    return f"told_to {cluster}"


def _size(db: Connection) -> int:
    return db.execute(sa.select(sa.func.count()).select_from(job_result)).scalar_one()


class Sums(msgspec.Struct, frozen=True):
    """What was booked of one component of one type of nodes: hours of the whole component; kgCO2e, kgSbe, MJ."""

    hours: float
    in_life_h: float
    own: Triple
    idle: Triple
    idle_use: Triple


FINE = 1 << 60


def _sums(found: Sequence[float]) -> Sums:
    return Sums(found[0], found[1], _three(found[2:]), _three(found[5:]), _three(found[8:]))


def _three(values: Sequence[float]) -> Triple:
    return (values[0], values[1], values[2])


@cache
def _upsert() -> Any:
    row = insert(job_result)
    keys = {"cluster", "key"}
    values: dict[str, Any] = {c.name: row.excluded[c.name] for c in job_result.columns if c.name not in keys}
    values["revision"] = job_result.c.revision + 1
    changed = job_result.c.digest != row.excluded.digest
    return row.on_conflict_do_update(index_elements=sorted(keys), set_=values, where=changed)


@cache
def _frozen(table: sa.Table, keys: tuple[str, ...], *, anew: bool) -> Any:
    """A row that is written once, or (`anew`) again only where it says something else."""
    row = insert(table)
    if not anew:
        return row.on_conflict_do_nothing(index_elements=keys)
    values: dict[str, Any] = {c.name: row.excluded[c.name] for c in table.columns if c.name not in keys}
    values["revision"] = table.c.revision + 1
    return row.on_conflict_do_update(index_elements=keys, set_=values, where=table.c.digest != row.excluded.digest)


def _book(db: Connection, entries: Sequence[Entry]) -> None:
    """Replace what is booked of jobs."""
    by_cluster: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        by_cluster.setdefault(entry.result.cluster, {})[entry.result.key] = entry
    for cluster, by_key in by_cluster.items():
        some = list(by_key.values())
        months = {one.month for entry in some for one in entry.charges}
        for keys in _chunks(list(by_key)):
            mine = (charge.c.cluster == cluster) & charge.c.key.in_(keys)
            months.update(db.execute(sa.select(charge.c.month).where(mine).distinct()).scalars())
            db.execute(charge.delete().where(mine))
            db.execute(stay.delete().where(stay.c.cluster == cluster, stay.c.key.in_(keys)))
        _unsettle(db, cluster, {month[:4] for month in months})
        stays = [_stay_row(cluster, node, one) for entry in some for node, one in entry.stays.items()]
        charges = [
            {"cluster": cluster, "key": entry.result.key} | row
            for entry in some
            for one in entry.charges
            for row in _charge_rows(one)
        ]
        for table, rows in ((stay, stays), (charge, charges)):
            if rows:
                db.execute(table.insert(), rows)


def _stays(db: Connection, where: Any) -> dict[str, list[Stay]]:
    """Stays by node."""
    c = stay.c
    query = sa.select(c.node, c.key, c.start_s, c.end_s, *(c[name] for name in SHARES)).where(where)
    found: dict[str, list[Stay]] = {}
    for node, key, start_s, end_s, *four in db.execute(query):
        found.setdefault(node, []).append(Stay(key, start_s, end_s, Shares(*four)))
    return found


def _stay_row(cluster: str, node: str, one: Stay) -> dict[str, Any]:
    found = {"cluster": cluster, "key": one.key, "node": node, "start_s": one.start_s, "end_s": one.end_s}
    return found | dict(zip(SHARES, one.shares.each(), strict=True))


def _unsettled(cluster: str, year: str) -> str:
    return f"unsettled {cluster} {year}"


def _unsettle(db: Connection, cluster: str, years: Iterable[str]) -> None:
    """These years' true-ups are to be written again: noted with what changes them, so that no kill forgets it."""
    for year in years:
        row = insert(meta).values(key=_unsettled(cluster, year), value=0.0)
        db.execute(row.on_conflict_do_nothing(index_elements=["key"]))


def _drop_others(db: Connection, table: sa.Table, where: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """Take out lines of types of nodes that are no more."""
    kept = {(row["node_type"], row["component"]) for row in rows}
    inside = sa.and_(*(table.c[name] == value for name, value in where.items()))
    for kind, component in db.execute(sa.select(table.c.node_type, table.c.component).where(inside)).all():
        if (kind, component) not in kept:
            db.execute(table.delete().where(inside, table.c.node_type == kind, table.c.component == component))


def _charge_rows(one: Charge) -> Iterator[dict[str, Any]]:
    where = {"node": one.node, "month": one.month, "node_type": one.node_type}
    nothing = (None, None, None)
    for component, hours in one.hours.items():
        amounts = (*one.own[component], *one.idle.get(component, nothing), *one.idle_use.get(component, nothing))
        found = {"component": component, "hours": hours, "in_life_h": one.in_life[component]}
        yield where | found | dict(zip(AMOUNTS, amounts, strict=True))
    for name, (hours, *own) in one.shared.items():
        found = {"component": f"shared.{name}", "hours": hours, "in_life_h": hours}
        yield where | found | dict(zip(AMOUNTS, (*own, *nothing, *nothing), strict=True))


def _row(entry: Entry, now_s: float) -> dict[str, Any]:
    result = entry.result
    row = msgspec.structs.asdict(result)
    for name in JSON_COLUMNS:
        row[name] = _json(row[name])
    more = figures_of(result) | {"het_id": het_of(result.job_id), "digest": _digest(entry)}
    return row | more | {"revision": 1, "accounted_s": now_s}


def _digest(entry: Entry) -> str:
    """A word that changes when anything in the row or its charges does, its revision and time of writing apart."""
    content = msgspec.structs.asdict(entry.result)
    del content["accounted_s"], content["revision"]
    return _hash([content, entry.stays, entry.charges])


def _json(found: object) -> str:
    return msgspec.json.encode(found).decode()


def _hash(found: object) -> str:
    return hashlib.sha256(msgspec.json.encode(found, order="deterministic")).hexdigest()


def _results(db: Connection, where: Any) -> list[JobResult]:
    names = [field.name for field in msgspec.structs.fields(JobResult)]
    query = sa.select(*(job_result.c[name] for name in names)).where(where).order_by(job_result.c.end_s)
    return [result_of(dict(zip(names, row, strict=True))) for row in db.execute(query)]


def _chunks(keys: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    for at in range(0, len(keys), size):
        yield keys[at : at + size]
