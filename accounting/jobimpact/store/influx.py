"""Reading points back from InfluxDB 1.x, 2.x and 3.x, with InfluxQL: one statement a request, as 3.x asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from jobimpact.core.config import InfluxStore
from jobimpact.core.errors import StoreError
from jobimpact.core.line import plain, tag_value
from jobimpact.core.series import Measurement
from jobimpact.core.server import clean
from jobimpact.store.http import Http
from jobimpact.store.series import HOUR_MS, Row, number, spans

__all__ = ["InfluxReader", "Series", "answers", "identifier", "literal"]

_SLICE_MS = 6 * HOUR_MS
"""Of one question: what must be remembered to tell a point once is bounded by it."""


class Series(Struct, frozen=True):
    """A part of an answer: rows of one set of tags."""

    columns: list[str]
    name: str = ""
    tags: dict[str, str] = {}
    values: list[list[Any]] = field(default_factory=list)
    partial: bool = False

    def __post_init__(self) -> None:
        if any(len(one) != len(self.columns) for one in self.values):
            raise ValueError("a row of another length than its columns")


class _Result(Struct, frozen=True):
    statement_id: int = 0
    series: list[Series] = field(default_factory=list)
    error: str | None = None
    partial: bool = False


class _Answer(Struct, frozen=True):
    results: list[_Result] | None = None
    error: str | None = None


_DECODE = msgspec.json.Decoder(_Answer)


class InfluxReader:
    """A `SeriesReader`.

    Args:
        server: its settings.
    """

    def __init__(self, server: InfluxStore) -> None:
        self._server = server
        self.http = Http(server)

    def close(self) -> None:
        """Let the connection go."""
        self.http.close()

    def query(self, text: str) -> Iterator[Series]:
        """The series of one InfluxQL statement's answer, as they come.

        Raises:
            StoreError: it is refused, or its answer is not whole.
        """
        params = {"q": text, "epoch": "ms", "chunked": "true"}
        yield from answers(self.http.lines("/query", params), self.http.url)

    def edges(
        self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None
    ) -> Iterator[Row]:
        """See `SeriesReader`."""
        if "stamp_ms" not in of.ints:
            yield from _edges(self.rows(of, from_ms, to_ms, where))
            return
        for begin, end in spans(from_ms, to_ms, _SLICE_MS):
            told: set[tuple[tuple[str, ...], int]] = set()
            for pick in ("first", "last"):
                for row in self._picked(pick, of, (begin, end), where, hours=True):
                    key = (tuple(row.tags.get(name, "") for name in of.tags), row.stamp_ms)
                    if key not in told:
                        told.add(key)
                        yield row

    def rows(self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None) -> Iterator[Row]:
        """See `SeriesReader`."""
        fields = ", ".join(map(identifier, (*of.ints, *of.floats, *of.texts)))
        # Fields that no point has would be an answer without its time.
        for one in self.query(f"SELECT {fields} {self._from(of, (from_ms, to_ms), where)} GROUP BY {_tags(of)}"):
            yield from self.read(of, one)

    def latest(
        self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None
    ) -> Iterator[Row]:
        """See `SeriesReader`."""
        if "stamp_ms" in of.ints:
            yield from self._picked("last", of, (from_ms, to_ms), where, hours=False)
            return
        found: dict[tuple[str, ...], Row] = {}
        for row in self.rows(of, from_ms, to_ms, where):
            key = tuple(row.tags.get(name, "") for name in of.tags)
            if key not in found or found[key].stamp_ms < row.stamp_ms:
                found[key] = row
        yield from found.values()

    def newest(self, of: Measurement, from_ms: int, to_ms: int, by: str) -> dict[str, int]:
        """By value of a tag: the stamp of the newest point."""
        name = identifier((of.ints or of.floats)[0])
        asked = f"SELECT last({name}) {self._from(of, (from_ms, to_ms), None)} GROUP BY {identifier(by)}"
        found: dict[str, int] = {}
        for one in self.query(asked):
            if one.name != of.name:
                raise StoreError(_other(self.http.url, one))
            key = plain(one.tags.get(by, ""))
            found[key] = max([found.get(key, 0), *(row[0] for row in one.values if isinstance(row[0], int))])
        return found

    def _picked(
        self, pick: str, of: Measurement, when: tuple[int, int], where: Mapping[str, str] | None, *, hours: bool
    ) -> Iterator[Row]:
        """One point of each series (and hour), whole: the others' fields stand beside the one that is picked by."""
        others = [identifier(name) for name in (*of.ints, *of.floats, *of.texts) if name != "stamp_ms"]
        columns = ", ".join((f'{pick}("stamp_ms") AS "stamp_ms"', *others))
        by = f"GROUP BY {'time(1h), ' if hours else ''}{_tags(of)}{' fill(none)' if hours else ''}"
        for one in self.query(f"SELECT {columns} {self._from(of, when, where)} {by}"):
            yield from self.read(of, one, stamped=True)

    def _from(self, of: Measurement, when: tuple[int, int], where: Mapping[str, str] | None) -> str:
        place = ".".join(map(identifier, (self._server.database, of.kept, of.name)))
        conditions = [f"time >= {when[0]}ms", f"time < {when[1]}ms"]
        for name, value in (where or {}).items():
            if name not in of.tags:
                raise ValueError(f"{of.name} has no tag {name}")
            conditions.append(f"{identifier(name)} = {literal(tag_value(value))}")
        return f"FROM {place} WHERE {' AND '.join(conditions)}"

    def read(self, of: Measurement, one: Series, *, stamped: bool = False) -> Iterator[Row]:
        """The points of a part of an answer.

        Args:
            of: what was asked for.
            one: the part.
            stamped: the points' own stamps stand in a field: their times are those of hours.

        Raises:
            StoreError: it is about something else, or what stands there was not written by us.
        """
        if one.name != of.name or one.columns[:1] != ["time"]:
            raise StoreError(_other(self.http.url, one))
        tags = {name: plain(value) for name, value in one.tags.items() if value and name in of.tags}
        names = one.columns[1:]
        known = {*of.ints, *of.floats, *of.texts}
        for stamp, *values in one.values:
            if not isinstance(stamp, int):
                raise StoreError(f"{self.http.url}: {stamp!r:.60} is no time in milliseconds")
            given = zip(names, values, strict=True)
            fields = {name: number(of, name, value) for name, value in given if value is not None and name in known}
            if stamped:
                own = fields.get("stamp_ms")
                # A point without one of its own is looked at where it stands: it is strange, and told.
                stamp = own if isinstance(own, int) else stamp
            if fields:
                yield Row(dict(tags), stamp, fields)


def answers(lines: Iterable[bytes], shown: str) -> Iterator[Series]:
    """The series of a statement's answer, which comes in pieces, each a line of JSON.

    Args:
        lines: of the body.
        shown: the server, for messages.

    Raises:
        StoreError: it is an error, says that more is to come where nothing comes, or is no such answer.
    """
    whole = False
    for text in lines:
        if not text.strip():
            continue
        try:
            answer = _DECODE.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{shown}: no answer of InfluxDB's, or one that is cut short ({error})") from None
        if answer.error is not None or answer.results is None:
            raise StoreError(f"{shown}: {_words(answer.error or 'an answer without results')}")
        for result in answer.results:
            if result.error is not None:
                raise StoreError(f"{shown}: {_words(result.error)}")
            yield from result.series
            whole = not (result.partial or any(one.partial for one in result.series))
    if not whole:
        raise StoreError(f"{shown}: the answer is partial (is there a max-row-limit in its configuration?)")


def identifier(name: str) -> str:
    """A name as InfluxQL takes it, whatever stands in it."""
    return '"' + _escaped(name).replace('"', '\\"') + '"'


def literal(text: str) -> str:
    """A text as InfluxQL takes it, whatever stands in it."""
    return "'" + _escaped(text).replace("'", "\\'") + "'"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _tags(of: Measurement) -> str:
    return ", ".join(map(identifier, of.tags))


def _words(text: str) -> str:
    """The server's own, and what helps."""
    line = clean(text)
    hint = "; `jobimpact store init` makes it" if "not found" in line else ""
    return f"{line}{hint}"


def _other(shown: str, one: Series) -> str:
    if one.name == "databases":
        return f"{shown}: this is a VictoriaMetrics: set store.victoriametrics, not store.influxdb"
    return f"{shown}: answered with {one.name!r:.60} {one.columns!r:.100}, which nobody asked for"


def _edges(rows: Iterable[Row]) -> Iterator[Row]:
    """The first and the last of each series' hours."""
    found: dict[tuple[object, ...], tuple[Row, Row]] = {}
    for row in rows:
        key = (row.stamp_ms // HOUR_MS, *sorted(row.tags.items()))
        first, last = found.get(key, (row, row))
        found[key] = (min(first, row, key=_stamp), max(last, row, key=_stamp))
    for first, last in found.values():
        yield first
        if last.stamp_ms != first.stamp_ms:
            yield last


def _stamp(row: Row) -> int:
    return row.stamp_ms
