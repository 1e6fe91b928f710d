"""`jobimpact books`: the proof that what was measured is what was handed out."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jobimpact.core.config import Config, config_path, each_cluster, load_config
from jobimpact.core.errors import ConfigError, StoreError
from jobimpact.energy.books import NodeSpan
from jobimpact.energy.local import DomainBooks, LocalEnergy, MeterBooks
from jobimpact.impact.months import edges_of
from jobimpact.mirror.refresh import books_folder, refresh, stands
from jobimpact.report.books import Chain, SpanBooks, chain_of
from jobimpact.report.books_json import span_json
from jobimpact.report.books_text import span_text, table, to_the_microjoule
from jobimpact.results.read import Reader
from jobimpact.results.record import database_path

__all__ = ["run", "run_span"]

SCHEMA = 1
DAY_S = 86400
_SUMS = ("measured_uj", "jobs_uj", "idle_uj", "system_uj", "difference_uj")
_SETTLED = ("meter_uj", "parts_uj", "rest_uj", "deficit_uj", "difference_uj")
_HEAD = ("node", "domain", "measured J", "jobs J", "idle J", "system J", "difference J", "unknown s")
_METER_HEAD = (
    *("node", "meter", "measured J", "settled J", "parts J", "rest J", "deficit J", "difference J", "unknown s"),
)
_NOT_SETTLED = "its first window is not settled yet"
_NOT_IN_USE = "the rest is taken from another meter"
_SEVERAL = "its node's windows were settled with several meters"


def run(config: str | None, nodes: Sequence[str] | None = None, *, as_json: bool) -> int:
    """Print every node's books, in joules.

    Args:
        config: the configuration's file.
        nodes: of these alone.
        as_json: as a document.

    Returns:
        0; 1 where they do not balance or a node's file cannot be read.

    Raises:
        ConfigError, StoreError: nothing can be read.
    """
    site = load_config(config_path(config))
    left_out = _refreshed(site)
    with LocalEnergy(books_folder(site.store)) as energy:
        _check_nodes(energy, nodes)
        books, unread = energy.books(nodes)
        meters, unread_too = energy.meters(nodes)
    unread = list(dict.fromkeys([*left_out, *unread, *unread_too]))
    balanced = not any(one.difference_uj for one in books) and not any(map(_is_out, meters))
    text = _document(books, meters, unread) if as_json else _text(books, meters, balanced=balanced)
    return _said(text, unread, balanced=balanced)


def run_span(
    day: str | None, month: str | None, config: str | None, nodes: Sequence[str] | None = None, *, as_json: bool
) -> int:
    """Print nodes' books of a day or a month, in joules.

    Args:
        day: `2026-11-20`, UTC, or
        month: `2026-11`.
        config: the configuration's file.
        nodes: of these alone.
        as_json: as a document.

    Returns:
        0; 1 where they do not balance or a node's file cannot be read.

    Raises:
        ConfigError, StoreError: nothing can be read.
    """
    name, from_s, to_s = _time(day, month)
    site = load_config(config_path(config))
    left_out = _refreshed(site, from_s)
    with LocalEnergy(books_folder(site.store)) as energy:
        _check_nodes(energy, nodes)
        spans, unread = energy.span(from_s, to_s, nodes)
    unread = list(dict.fromkeys([*left_out, *unread]))
    found = SpanBooks(name, from_s, to_s, tuple(spans), _chains(spans, site.results), tuple(unread))
    return _said(span_json(found) if as_json else span_text(found), unread, balanced=found.balanced)


def _refreshed(site: Config, from_s: float | None = None) -> list[str]:
    """Where a server is the store: take in what it has.

    Returns:
        What was left out; where it cannot be asked, why, and until when all is known.

    Raises:
        ConfigError, StoreError: it cannot be asked, and nothing was ever mirrored.
    """
    now_s = time.time()
    found: list[str] = []
    for one in each_cluster(site) if site.store.server else []:
        try:
            found += refresh(one, now_s - DAY_S if from_s is None else min(from_s, now_s), now_s)
        except (ConfigError, StoreError) as error:
            there = stands(books_folder(site.store), one.cluster)
            if not there:
                raise
            until = f"{datetime.fromtimestamp(max(there.values()) // 1000, UTC):%Y-%m-%d %H:%M:%S}"
            found.append(f"{error}: {one.cluster} is known until {until} UTC")
    return found


def _said(text: str, unread: Sequence[str], *, balanced: bool) -> int:
    """Print books, and why a node's file is not in them; gives the exit status."""
    print(text)
    for why in unread:
        print(f"jobimpact: {why}", file=sys.stderr)
    return 0 if balanced and not unread else 1


def _time(day: str | None, month: str | None) -> tuple[str, float, float]:
    """What a person calls the time, and its edges in epoch seconds."""
    text = day or month or ""
    try:
        if not re.fullmatch(r"(19|20)\d\d-\d\d-\d\d" if day else r"(19|20)\d\d-\d\d", text, re.ASCII):
            raise ValueError
        if not day:
            return text, *edges_of(text)
        begin_s = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        wanted = ("--day", "day, like 2026-11-20") if day is not None else ("--month", "month, like 2026-11")
        raise ConfigError(f"{wanted[0]} {text!r:.20}: not a {wanted[1]}") from None
    return text, begin_s, begin_s + DAY_S


def _check_nodes(energy: LocalEnergy, nodes: Sequence[str] | None) -> None:
    there = set(energy.nodes())
    for node in nodes or ():
        if node not in there:
            raise ConfigError(f"--node {node!r:.80}: the store has no file of it")


def _chains(spans: Sequence[NodeSpan], results: str) -> dict[str, Chain]:
    """By node, what of its jobs is in the results; empty: there are none yet."""
    if not Path(database_path(results)).exists():
        return {}
    reader = Reader(results)
    try:
        runs = {one.node: reader.runs_of(one.node, {run.job for run in one.runs or ()}) for one in spans}
    finally:
        reader.close()
    return {one.node: chain_of(one, runs[one.node]) for one in spans}


def _is_out(one: MeterBooks) -> bool:
    return one.settled is not None and bool(one.settled.difference_uj or one.settled.more_uj)


def _document(books: list[DomainBooks], meters: list[MeterBooks], unread: list[str]) -> str:
    found = {"schema": SCHEMA, "books": [_line(one) for one in books], "meters": [_meter_line(one) for one in meters]}
    return json.dumps(found | {"errors": unread}, indent=2)


def _line(one: DomainBooks) -> dict[str, object]:
    line: dict[str, object] = {"node": one.node, "domain": one.domain, "kind": one.kind, "method": one.method}
    line |= dict(zip(_SUMS, _sums(one) if one.known else [None] * len(_SUMS), strict=True))
    line |= {"unknown_s": one.unknown_s, "known_s": one.known_s}
    return line if one.known else line | {"reason": _why(one)}


def _meter_line(one: MeterBooks) -> dict[str, object]:
    line: dict[str, object] = {"node": one.node, "meter": one.meter, "method": one.method}
    line |= {"measured_uj": one.measured_uj if one.known else None}
    line |= {"unknown_s": one.unknown_s, "known_s": one.known_s}
    settled = {name: getattr(one.settled, name) for name in _SETTLED} if one.settled else None
    line |= {"settled": settled, "open_uj": one.open_uj}
    why = _why_open(one)
    return line | ({"reason": why} if why else {})


def _sums(one: DomainBooks) -> list[int]:
    return [getattr(one, name) for name in _SUMS]


def _why(one: DomainBooks) -> str:
    return one.reason or (_NOT_SETTLED if one.kind == "rest" else "nothing is known of it yet")


def _why_open(one: MeterBooks) -> str | None:
    """Why a meter has no settled windows, or nobody can tell what is outside them."""
    if not one.known:
        return one.reason or "nothing is known of it yet"
    if one.settled is None:
        return _NOT_SETTLED if one.alone else _NOT_IN_USE
    return None if one.alone else _SEVERAL


def _text(books: list[DomainBooks], meters: list[MeterBooks], *, balanced: bool) -> str:
    lines = table([_HEAD, *map(_row, books), _total(books)])
    absent = [one for one in books if not one.known]
    if absent:
        lines += ["", f"Not in the totals: {len(absent)} of {len(books)} domains."]
        lines += [_plain(f"  {one.node} {one.domain}: {_why(one)}") for one in absent]
    if meters:
        lines += ["", "Meters of whole nodes, over the windows that are settled"]
        lines += table([_METER_HEAD, *map(_meter_row, meters)])
        lines += [_plain(f"  {line}") for one in meters for line in _explained(one)]
    whole = "; of whole nodes, settled = parts + rest - deficit" if any(one.settled for one in meters) else ""
    verdict = (
        f"measured = jobs + idle + system{whole}" if balanced else "THE BOOKS DO NOT BALANCE: see the differences"
    )
    return "\n".join([*lines, "", verdict if books or meters else "no node has any books yet: nothing is known"])


def _row(one: DomainBooks) -> tuple[str, ...]:
    cells = map(to_the_microjoule, _sums(one)) if one.known else ["-"] * len(_SUMS)
    return (one.node, one.domain, *cells, f"{one.unknown_s:.1f}")


def _meter_row(one: MeterBooks) -> tuple[str, ...]:
    cells = (
        [to_the_microjoule(getattr(one.settled, name)) for name in _SETTLED] if one.settled else ["-"] * len(_SETTLED)
    )
    return (
        one.node,
        one.meter,
        to_the_microjoule(one.measured_uj) if one.known else "-",
        *cells,
        f"{one.unknown_s:.1f}",
    )


def _explained(one: MeterBooks) -> Iterator[str]:
    """What is outside the identity, and why."""
    name = f"{one.node} {one.meter}"
    if why := _why_open(one):
        yield f"{name}: {why}"
    if one.settled and one.settled.more_uj:
        yield f"{name}: {to_the_microjoule(one.settled.more_uj)} J MORE ARE SETTLED THAN WERE EVER MEASURED"
    if one.open_uj:
        yield f"{name}: {to_the_microjoule(one.open_uj)} J outside settled windows: in the open one, or beside a gap"
    if one.settled and one.settled.deficit_uj:
        yield f"{name}: deficit: the parts have measured more than the meter; the next windows pay it back first"


def _total(books: list[DomainBooks]) -> tuple[str, ...]:
    known = [_sums(one) for one in books if one.known]
    cells = [to_the_microjoule(sum(column)) for column in zip(*known, strict=True)] or ["-"] * len(_SUMS)
    return ("all", "", *cells, f"{sum(one.unknown_s for one in books):.1f}")


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
