"""Dashboards' queries as Grafana's InfluxQL data source asks them.

In the browser: variables, by their formats. In Grafana's server: `$timeFilter`, `$__interval` and `$__interval_ms`. A
variable that nobody declares, and one without an explicit format, are errors here, where Grafana would send the text
as it is, or with an escaping that depends on its release and on the value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
from tests.stores.servers import Influx

__all__ = ["ALL", "AskError", "Asked", "Frame", "Range", "ask", "interpolate", "panels", "targets", "tell"]

ALL = "$__all"
_VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:}]+))?(?::([^}]+))?\}")
_LEFT = {"timeFilter", "__timeFilter", "__interval", "__interval_ms", "interval"}
"""What the server puts in."""
_ROUND_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}/]")
PIXELS = 1600
"""Of a screen's width: no panel asks for more points than it has of them."""

Value = str | Sequence[str]


class AskError(Exception):
    """A query that Grafana could not ask, or that the server refused."""


@dataclass(frozen=True)
class Range:
    """What is looked at, epoch seconds."""

    from_s: int
    to_s: int

    @classmethod
    def of(cls, text: str, now_s: int) -> Range:
        """`now-6h`, `now-7d/d`, up to now."""
        found = re.fullmatch(r"now-(\d+)([smhd])(/d)?", text)
        if found is None:
            raise AskError(f"{text}: not a time of this harness")
        from_s = now_s - int(found[1]) * _UNITS[found[2]]
        return cls(from_s // 86400 * 86400 if found[3] else from_s, now_s)

    def interval_s(self, points: int, least: str = "") -> int:
        """As Grafana rounds it."""
        exact_s = (self.to_s - self.from_s) / points
        chosen_s = next((step for step in _ROUND_S if step >= exact_s), _ROUND_S[-1])
        return max(chosen_s, int(least[:-1]) * _UNITS[least[-1]] if least else 1)


@dataclass(frozen=True)
class Asked:
    """Variables by name: a value, several, or ALL."""

    values: Mapping[str, Value]
    all_values: Mapping[str, str] = field(default_factory=dict)


def _regex(value: Value) -> str:
    if isinstance(value, str):
        return _SPECIAL.sub(r"\\\g<0>", value)
    escaped = [_SPECIAL.sub(r"\\\g<0>", one) for one in value]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _each(value: Value) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


_FORMATS = {
    "regex": _regex,
    "raw": lambda value: ",".join(_each(value)),
    "csv": lambda value: ",".join(_each(value)),
    "pipe": lambda value: "|".join(_each(value)),
    # As Grafana does it: a backslash is not escaped.
    "singlequote": lambda value: ",".join("'" + one.replace("'", "\\'") + "'" for one in _each(value)),
    "doublequote": lambda value: ",".join('"' + one.replace('"', '\\"') + '"' for one in _each(value)),
    "percentencode": lambda value: quote(value if isinstance(value, str) else f"{{{','.join(value)}}}", safe=""),
}


def interpolate(text: str, asked: Asked, looked_at: Range, interval_s: int) -> str:
    """A statement as the server gets it.

    Raises:
        AskError: a variable is not declared, has no format, or one that is not known.
    """

    def put(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[4]
        how = found[3] or found[6]
        if name in _LEFT:
            return found[0]
        if name in ("__from", "__to"):
            return str((looked_at.from_s if name == "__from" else looked_at.to_s) * 1000)
        if name not in asked.values:
            raise AskError(f"{found[0]}: no such variable in: {text}")
        if how not in _FORMATS:
            raise AskError(f"{found[0]}: no explicit format in: {text}")
        value = asked.values[name]
        if value == ALL and name in asked.all_values:
            return asked.all_values[name]  # of a custom value for all, Grafana escapes nothing
        return _FORMATS[how](value)

    found = _VARIABLE.sub(put, text)
    when = f"time >= {looked_at.from_s * 1000}ms and time <= {looked_at.to_s * 1000}ms"
    found = found.replace("$timeFilter", when).replace("$__interval_ms", str(interval_s * 1000))
    return found.replace("$__interval", f"{interval_s}s")


class Frame(msgspec.Struct, frozen=True):
    """What a panel gets: a table, or one series of it."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def column(self, name: str) -> list[Any]:
        """Its values."""
        return [row[self.columns.index(name)] for row in self.rows]


def panels(view: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that ask for something."""
    return [panel for panel in view["panels"] if panel["type"] != "row"]


def targets(view: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each panel with each of its targets."""
    return [(panel, target) for panel in panels(view) for target in panel["targets"]]


def ask(
    server: Influx,
    view: Mapping[str, Any],
    panel: Mapping[str, Any],
    target: Mapping[str, Any],
    asked: Asked,
    now_s: int,
) -> list[Frame]:
    """One target's answer.

    Raises:
        AskError: it could not be asked.
    """
    looked_at = Range.of((panel.get("timeFrom") and f"now-{panel['timeFrom']}") or view["time"]["from"], now_s)
    points = panel["gridPos"]["w"] * PIXELS // 24
    query = interpolate(target["query"], asked, looked_at, looked_at.interval_s(points, panel.get("interval", "")))
    # What is now stands still: a slow machine must not make the site an old one.
    query = query.replace("now()", f"{now_s * 1000}ms")
    status, body = server.ask("POST", "/query", {"db": "jobimpact", "epoch": "ms"}, _form(query), _FORM)
    answer = json.loads(body)
    result = answer.get("results", [{}])
    if status != 200 or "error" in answer or "error" in result[0]:
        raise AskError(f"{panel['title']}: HTTP {status}: {body[:500]!r}: {query}")
    if len(result) != 1:
        raise AskError(f"{panel['title']}: {len(result)} statements: {query}")
    series = result[0].get("series", [])
    return _table(series) if target["resultFormat"] == "table" else _lines(series, target.get("alias", ""))


_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _form(query: str) -> bytes:
    return f"q={quote(query, safe='')}".encode()


def _table(series: Sequence[Mapping[str, Any]]) -> list[Frame]:
    """All series in one: time, tags, values."""
    if not series:
        return []
    tags = tuple(series[0].get("tags", {}))
    columns = ("Time", *tags, *series[0]["columns"][1:])
    rows = [(row[0], *(one["tags"][tag] for tag in tags), *row[1:]) for one in series for row in one.get("values", [])]
    return [Frame(series[0]["name"], columns, tuple(rows))]


def _lines(series: Sequence[Mapping[str, Any]], alias: str) -> list[Frame]:
    """One for each column of values."""
    found = []
    for one in series:
        for number, name in enumerate(one["columns"][1:], 1):
            shown = re.sub(r"\$tag_(\w+)", lambda tag, one=one: one["tags"][tag[1]], alias).replace("$col", name)
            rows = tuple((row[0], row[number]) for row in one["values"] if row[number] is not None)
            found.append(Frame(shown or name, ("Time", "Value"), rows))
    return [one for one in found if one.rows]


def tell(frames: Sequence[Frame], limit: int = 12) -> str:
    """Answers as text: tables as they are, series by their extremes."""
    if not frames:
        return "  (no data)"
    if frames[0].columns != ("Time", "Value"):
        return "\n".join(_aligned([one.columns, *one.rows[:limit]]) for one in frames)
    rows: list[tuple[Any, ...]] = [("series", "points", "least", "mean", "most", "last")]
    for one in frames[:limit]:
        values = one.column("Value")
        numbers = [value for value in values if isinstance(value, int | float)]
        mean = sum(numbers) / len(numbers) if numbers else ""
        rows.append(
            (one.name, len(values), *((min(numbers), mean, max(numbers)) if numbers else ("",) * 3), values[-1])
        )
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[Any]]) -> str:
    texts = [[f"{cell:.6g}" if isinstance(cell, float) else str(cell)[:40] for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip() for row in texts
    )
