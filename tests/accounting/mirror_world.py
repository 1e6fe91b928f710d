"""Nodes that keep their books on a driven clock, by the real bookkeeper, ledger and outbox; and what they send."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.store_day import DayJob, DayNode, new_books

from jobimpact.core.config import InfluxStore, VictoriaStore
from jobimpact.core.line import plain
from jobimpact.core.nodefile import node_file
from jobimpact.core.series import Measurement
from jobimpact.store.series import HOUR_MS, Row
from jobimpact_daemon.bookkeeper import Bookkeeper, Observation
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.outbox import Outbox, unpack

__all__ = ["CLUSTER", "SERVER", "Day", "Keeper", "MemoryReader", "ask", "dump", "keep_day"]

CLUSTER = "lab"
SERVER = InfluxStore("http://server.invalid:8086")
Series = tuple[tuple[str, str], ...]
_LINE = re.compile(r'((?:\\.|[^ \\])+) ((?:"(?:\\.|[^"\\])*"|[^ "])+) (-?\d+)')
_PART = re.compile(r'(?:\\.|"(?:\\.|[^"\\])*"|[^\\ ,"])+')
_ESCAPED = re.compile(r"\\(.)")


class Day(DayNode):
    """A node's day of which little is read, so that it is quickly told: once in 10 s, and its meter each time."""

    def __init__(self, name: str, jobs: list[DayJob], wall_s: float) -> None:
        super().__init__(name, jobs, wall_s, every_s=10.0, gpu_count=2, drams=False)

    def _seen(self, at_s: float, running: Mapping[str, DayJob], *, meter: bool = False) -> Observation:
        return super()._seen(at_s, running, meter=meter or at_s % 10 == 0)


class Keeper:
    """One node's real ledger with its outbox."""

    def __init__(self, folder: Path, node: str, server: InfluxStore | VictoriaStore = SERVER) -> None:
        self.path = node_file(folder, node)
        self.ledger = Ledger(self.path, node, CLUSTER, keep=True, outbox=Outbox(server, CLUSTER, node))

    def commit(self, books: Bookkeeper) -> None:
        assert self.ledger.commit(books), self.ledger.trouble

    def close(self) -> None:
        self.ledger.close()

    def lines(self) -> list[str]:
        """All that it would send, in order."""
        return _lines(self.path)


def _lines(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        packed = db.execute("SELECT lines FROM outbox WHERE kept = 'books' ORDER BY id").fetchall()
    return [one for (row,) in packed for one in unpack(row).decode().split("\n")]


def keep_day(folder: Path, day: DayNode, seconds: int, server: InfluxStore | VictoriaStore = SERVER) -> list[str]:
    """A node's day, into its own file, until a commit of all holders; gives the lines of its books."""
    keeper = Keeper(folder, day.name, server)
    books = new_books(day)
    for tick in day.ticks(seconds):
        books.observe(tick.seen, tick.marks)
        if tick.commits:
            keeper.commit(books)
    books.state.wall_s += 61
    keeper.commit(books)
    keeper.close()
    return keeper.lines()


class MemoryReader:
    """A `SeriesReader` of lines: a server that is always there, and counts what it is asked."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._points: dict[str, dict[Series, dict[int, dict[str, Any]]]] = {}
        self.asked = 0
        self.take(lines)

    def take(self, lines: Iterable[str]) -> None:
        for text in lines:
            name, tags, fields, stamp_ms = _parsed(text)
            self._points.setdefault(name, {}).setdefault(tags, {})[stamp_ms] = fields

    def forget(self, before_ms: int) -> None:
        """Its retention."""
        for every in self._points.values():
            for points in every.values():
                for stamp in [one for one in points if one < before_ms]:
                    del points[stamp]

    def _series(
        self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None
    ) -> Iterator[tuple[Series, dict[int, dict[str, Any]]]]:
        self.asked += 1
        for tags, points in self._points.get(of.name, {}).items():
            some = {at: fields for at, fields in points.items() if from_ms <= at < to_ms}
            if some and not (where or {}).items() - dict(tags).items():
                yield tags, some

    def rows(self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None) -> Iterator[Row]:
        for tags, points in self._series(of, from_ms, to_ms, where):
            yield from (Row(dict(tags), at, dict(fields)) for at, fields in points.items())

    def latest(
        self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None
    ) -> Iterator[Row]:
        for tags, points in self._series(of, from_ms, to_ms, where):
            yield Row(dict(tags), max(points), dict(points[max(points)]))

    def edges(
        self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None
    ) -> Iterator[Row]:
        for tags, points in self._series(of, from_ms, to_ms, where):
            hours: dict[int, list[int]] = {}
            for at in sorted(points):
                hours.setdefault(at // HOUR_MS, []).append(at)
            for stamps in hours.values():
                yield from (Row(dict(tags), at, dict(points[at])) for at in sorted({stamps[0], stamps[-1]}))

    def close(self) -> None:
        pass


def _parsed(text: str) -> tuple[str, Series, dict[str, Any], int]:
    """A line of ours, as a server takes it."""
    found = _LINE.fullmatch(text)
    assert found, text
    name, *parts = (_ESCAPED.sub(r"\1", part) for part in _PART.findall(found[1]))
    tags = tuple(sorted((tag, plain(value)) for tag, _, value in (part.partition("=") for part in parts)))
    fields: dict[str, Any] = {}
    for field, _, value in (part.partition("=") for part in _PART.findall(found[2])):
        if value.startswith('"'):
            fields[field] = _ESCAPED.sub(r"\1", value[1:-1])
        else:
            fields[field] = int(value[:-1]) if value.endswith("i") else float(value)
    return name, tags, fields, int(found[3])


_TABLES = ("domain", "run", "ledger", "job_energy", "node_power", "whole", "progress", "label")


def dump(folder: Path) -> dict[str, list[Any]]:
    """All that a folder's node files say, but what the mirror remembers of itself."""
    found: dict[str, list[Any]] = {}
    for path in sorted(folder.glob("*.sqlite")):
        with closing(sqlite3.connect(path)) as db:
            for table in _TABLES:
                found[f"{path.stem}.{table}"] = sorted(db.execute(f"SELECT * FROM {table}"), key=str)  # noqa: S608
            meta = db.execute("SELECT * FROM meta WHERE key != 'mirror' ORDER BY key").fetchall()
            found[f"{path.stem}.meta"] = meta
    return found


def ask(path: Path, question: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(question).fetchall()
