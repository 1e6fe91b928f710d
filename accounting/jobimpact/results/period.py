"""What sums need of the results' rows, many at once: plain sqlite3, and only what is summed of each row's JSON."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from jobimpact.core.errors import StoreError
from jobimpact.core.records import DomainKind
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult, result_of

__all__ = ["KindJoules", "Parts", "Row", "Spread", "covered", "exists", "full", "rows"]


class Spread(msgspec.Struct, frozen=True, gc=False):
    """A quantity with its range."""

    low: float
    central: float
    high: float


class Parts(msgspec.Struct, frozen=True, gc=False):
    """One indicator of a job; None where it is not known."""

    use: Spread | None = None
    embodied: Spread | None = None
    total: Spread | None = None


class _Impacts(msgspec.Struct, frozen=True, gc=False):
    gwp_kgco2e: Parts = Parts()
    adp_kgsbe: Parts = Parts()
    pe_mj: Parts = Parts()


class KindJoules(msgspec.Struct, frozen=True, gc=False):
    """One kind of part of a job; None: not known."""

    energy_j: float | None = None
    method: str | None = None


class _Energy(msgspec.Struct, frozen=True, gc=False):
    domains: dict[DomainKind, KindJoules] = {}


class Row(msgspec.Struct, frozen=True, gc=False):
    """A job, as far as it is summed. Times are epoch seconds, UTC."""

    cluster: str
    key: str
    user: str
    account: str | None
    partition: str | None
    state: str
    exit_code: str | None
    start_s: float | None
    end_s: float | None
    elapsed_s: float | None
    cpus: int | None
    gpus: int | None
    energy_j: float | None
    coverage: float
    accounted_s: float
    nodes: int
    """How many."""
    model: str | None = None
    """What its owner says that it trains, or runs."""
    factors: str | None = None
    """The version of the factors of its impacts."""
    impacts: tuple[Parts, ...] = ()
    """Of GWP, ADP, PE; empty: not asked for."""
    kinds: dict[DomainKind, KindJoules] = {}
    """By kind of part."""


_PLAIN = Row.__struct_fields__[:15]
_MORE = "json_array_length(nodes), {model}, substr(factors, 1, 200), impacts, energy"
_MODEL = "CASE WHEN labels = '{}' THEN NULL ELSE json_extract(labels, '$.model') END"
_IMPACTS = msgspec.json.Decoder(_Impacts)
_ENERGY = msgspec.json.Decoder(_Energy)


def rows(reader: Reader, where: str, asked: Sequence[object] = (), *, light: bool = False) -> Iterator[Row]:
    """Jobs that fit, in no order.

    Args:
        reader: of the results.
        where: SQL of our own, its parameters as `?`.
        asked: the parameters.
        light: without model, factors, impacts and kinds of parts, in half the time.

    Raises:
        StoreError: the database cannot be read.
    """
    if reader.db is None:
        return
    if light:
        query = f"SELECT {', '.join(_PLAIN)}, json_array_length(nodes) FROM job_result WHERE {where}"  # noqa: S608 (ours)
        with _errors(reader):
            for row in reader.db.execute(query, asked):
                yield Row(*row)
        return
    more = _MORE.format(model=_MODEL if "labels" in reader.names else "NULL")
    query = f"SELECT {', '.join(_PLAIN)}, {more} FROM job_result WHERE {where}"  # noqa: S608 (ours)
    versions: dict[str, str | None] = {}
    with _errors(reader):
        for *plain, model, factors, impacts, energy in reader.db.execute(query, asked):
            if factors not in versions:
                versions[factors] = _version(factors)
            found = _IMPACTS.decode(impacts)
            plain += [
                None if model is None else str(model),
                versions[factors],
                (found.gwp_kgco2e, found.adp_kgsbe, found.pe_mj),
                _ENERGY.decode(energy).domains,
            ]
            yield Row(*plain)


def full(reader: Reader, keys: Iterable[tuple[str, str]]) -> tuple[JobResult, ...]:
    """Jobs in full, by cluster and key, in the order asked.

    Raises:
        StoreError: the database cannot be read.
    """
    if reader.db is None:
        return ()
    query = f"SELECT {', '.join(reader.names)} FROM job_result WHERE cluster = ? AND key = ?"  # noqa: S608 (ours)
    found = []
    with _errors(reader):
        for asked in keys:
            row = reader.db.execute(query, asked).fetchone()
            if row is not None:
                found.append(result_of(dict(zip(reader.names, row, strict=True))))
    return tuple(found)


def covered(reader: Reader) -> dict[str, list[tuple[float, float]]]:
    """The times all of whose jobs are accounted for, by cluster, in order; epoch seconds, both ends within.

    Raises:
        StoreError: the database cannot be read.
    """
    if reader.db is None:
        return {}
    found: dict[str, list[tuple[float, float]]] = {}
    with _errors(reader):
        if not reader.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'covered'").fetchone():
            return {}  # of an early release
        for cluster, from_s, to_s in reader.db.execute("SELECT cluster, from_s, to_s FROM covered ORDER BY 1, 2"):
            found.setdefault(cluster, []).append((from_s, to_s))
    return found


def exists(reader: Reader, where: str, asked: Sequence[object] = ()) -> bool:
    """Whether any job fits.

    Raises:
        StoreError: the database cannot be read.
    """
    if reader.db is None:
        return False
    with _errors(reader):
        query = f"SELECT 1 FROM job_result WHERE {where} LIMIT 1"  # noqa: S608 (ours)
        return reader.db.execute(query, asked).fetchone() is not None


def _version(factors: str) -> str | None:
    """Of the begin of the factors' notes, where it stands: to read all of each takes half of a sum's time."""
    before, _, after = factors.partition('"version":"')
    version, end, _ = after.partition('"')
    return version if before and end else None


@contextmanager
def _errors(reader: Reader) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
        raise StoreError(f"{reader.path}: {error}") from error
