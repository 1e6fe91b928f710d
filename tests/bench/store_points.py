"""Points as lines have them, and all that a server has: what the two are compared by."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from tests.bench.store_day import DAY_S
from tests.stores.servers import Influx, Server, Victoria

from jobimpact.core.series import MEASUREMENTS

__all__ = ["Field", "Stamped", "Stored", "parse", "stored"]

Field = int | float | str
Tags = tuple[tuple[str, str], ...]
Stored = dict[tuple[str, Tags], dict[int, dict[str, Field]]]
"""By measurement and tags, by stamp in ms: the fields."""
_UNESCAPED_COMMA = re.compile(r"(?<!\\),")
_FIELD = re.compile(r'([^=,]+)=("(?:[^"\\]|\\.)*"|[^,]+)')
_ESCAPE = re.compile(r"\\([,= ])")
_QUOTED = re.compile(r'\\(["\\])')
_LINE = re.compile(r'((?:[^ \\]|\\.)+) ((?:[^" ]|"(?:[^"\\]|\\.)*")+) (-?\d+)')


class Stamped(msgspec.Struct, frozen=True):
    """One point."""

    name: str
    tags: Tags
    stamp_ms: int
    fields: dict[str, Field]

    @property
    def series(self) -> tuple[str, Tags]:
        """Its measurement and tags."""
        return self.name, self.tags


def parse(line: str) -> Stamped:
    """A point of line protocol.

    Raises:
        ValueError: it is none.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"no point: {line}")
    name, *tags = _UNESCAPED_COMMA.split(found[1])
    pairs = (re.split(r"(?<!\\)=", tag, maxsplit=1) for tag in tags)
    plain = sorted((key, _ESCAPE.sub(r"\1", value)) for key, value in pairs)
    fields = {key: _value(text) for key, text in _FIELD.findall(found[2])}
    return Stamped(name, tuple(plain), int(found[3]), fields)


def _value(text: str) -> Field:
    if text.startswith('"'):
        return _QUOTED.sub(r"\1", text[1:-1])
    return int(text[:-1]) if text.endswith("i") else float(text)


def stored(server: Server, database: str = "jobimpact") -> tuple[Stored, int]:
    """All that a server has, and how many values were found twice at one stamp of one series."""
    if isinstance(server, Victoria):
        return _victoria(server)
    engine = server if isinstance(server, Influx) else getattr(server, "engine")  # noqa: B009 (InfluxV2 has one)
    return _influx(engine, database)


def _influx(server: Influx, database: str) -> tuple[Stored, int]:
    found: Stored = {}
    twice = 0
    for kept in ("books", "profile", "ever"):
        for name, tags, columns, values in _influx_series(server, database, kept):
            points = found.setdefault((name, tags), {})
            for stamp_ms, *row in values:
                twice += stamp_ms in points
                points[stamp_ms] = {key: one for key, one in zip(columns, row, strict=True) if one is not None}
    return found, twice


def _influx_series(server: Influx, database: str, kept: str) -> Iterator[tuple[str, Tags, list[str], list[Any]]]:
    text = f'SELECT * FROM "{database}"."{kept}"./.*/ GROUP BY *'  # noqa: S608 (our own words)
    params = {"q": text, "db": database, "epoch": "ms", "chunked": "true", "chunk_size": "10000"}
    status, body = server.ask("POST", "/query", params)
    if status != 200:
        raise RuntimeError(f"HTTP {status}: {body[:300]!r}")
    for line in body.splitlines():
        for one in msgspec.json.decode(line)["results"]:
            if "error" in one:
                raise RuntimeError(one["error"])
            for series in one.get("series", ()):
                tags = tuple(sorted((key, value) for key, value in series.get("tags", {}).items() if value))
                yield series["name"], tags, series["columns"][1:], series["values"]


def _victoria(server: Victoria) -> tuple[Stored, int]:
    """Each field is a series of its own there; told as if it were not."""
    server.settle()
    # Without an end, the last second may be left out.
    params = {"match[]": '{__name__!=""}', "reduce_mem_usage": "1", "end": str(int(time.time()) + DAY_S)}
    status, body = server.ask("GET", "/api/v1/export", params)
    if status != 200:
        raise RuntimeError(f"HTTP {status}: {body[:300]!r}")
    found: Stored = {}
    twice = 0
    for line in body.splitlines():
        series = msgspec.json.decode(line)
        labels = series["metric"]
        name, field = _split(labels.pop("__name__"))
        points = found.setdefault((name, tuple(sorted(labels.items()))), {})
        for stamp_ms, value in zip(series["timestamps"], series["values"], strict=True):
            fields = points.setdefault(stamp_ms, {})
            twice += field in fields
            fields[field] = value
    return found, twice


def _split(name: str) -> tuple[str, str]:
    """Measurement and field: no measurement's name is the beginning of another's."""
    for one in MEASUREMENTS:
        if name.startswith(f"{one.name}_"):
            return one.name, name.removeprefix(f"{one.name}_")
    raise ValueError(f"{name} is none of ours")
