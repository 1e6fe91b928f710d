"""InfluxDB's answers as the frames that Grafana's InfluxQL data source makes of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Json", "frames", "series_name"]

Json = dict[str, Any]
_ALIAS = re.compile(r"\[\[([@/\w-]+)(?:\.[@/\w-]+)*\]\]|\$([@\w-]+)")


def series_name(alias: str, measurement: str, column: str, tags: Mapping[str, str]) -> str:
    """What a series is called in legends and to overrides.

    Args:
        alias: of the target; empty: the data source's own words.
        measurement: where the series comes from.
        column: of the answer.
        tags: by which it was grouped.
    """
    if not alias:
        said = ", ".join(f"{key}: {value}" for key, value in tags.items())
        return f"{measurement}.{column}" + (f" {{ {said} }}" if said else "")

    def put(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        words = {"m": measurement, "measurement": measurement, "col": column}
        parts = measurement.split(".")
        if name.isdigit() and int(name) < len(parts):
            return parts[int(name)]
        tag = name.removeprefix("tag_") if name.startswith("tag_") else None
        return words.get(name) or (match[0] if tag is None else tags.get(tag, match[0]))

    return _ALIAS.sub(put, alias)


def frames(answer: Json, target: Json) -> list[Json]:
    """One target's frames.

    Args:
        answer: of `/query` with `epoch=ms`, as JSON.
        target: of the panel.

    Returns:
        Frames as `toDataFrame` of @grafana/data takes them.
    """
    series = [one for result in answer["results"] for one in result.get("series", ())]
    ref = target.get("refId", "A")
    if not series:
        return []
    if target.get("resultFormat") == "table":
        return [_table(series, ref)]
    return [one for each in series for one in _over_time(each, target.get("alias", ""), ref)]


def _over_time(series: Json, alias: str, ref: str) -> Iterable[Json]:
    columns, tags = series["columns"], series.get("tags") or {}
    values = series["values"]
    if "time" not in columns:
        yield {"refId": ref, "name": series["name"], "fields": [_field("Value", [row[0] for row in values])]}
        return
    times = [row[columns.index("time")] for row in values]
    for at, column in enumerate(columns):
        if column != "time":
            name = series_name(alias, series["name"], column, tags)
            value = _field("Value", [row[at] for row in values], said=name, labels=tags)
            yield {"refId": ref, "name": name, "fields": [_time(times), value]}


def _table(series: Sequence[Json], ref: str) -> Json:
    """All series below each other. Grafana takes the columns of the first, and its tags in no order at all."""
    columns = series[0]["columns"]
    rows = [(one.get("tags") or {}, row) for one in series for row in one["values"]]
    found = [
        _time([row[0] for _, row in rows]) if columns[0] == "time" else _field(columns[0], [row[0] for _, row in rows])
    ]
    found += [_field(key, [tags.get(key) for tags, _ in rows], said=key) for key in series[0].get("tags") or {}]
    found += [
        _field(column, [row[at] for _, row in rows], said=column) for at, column in enumerate(columns[1:], start=1)
    ]
    return {"refId": ref, "name": series[0]["name"], "fields": found}


def _time(values: list[object]) -> Json:
    return {"name": "Time", "type": "time", "values": values, "config": {}}


def _field(name: str, values: list[object], said: str = "", labels: Mapping[str, str] | None = None) -> Json:
    first = next((one for one in values if one is not None), None)
    kind = "boolean" if isinstance(first, bool) else "string" if isinstance(first, str) else "number"
    config = {"displayNameFromDS": said} if said else {}
    return {"name": name, "type": kind, "values": values, "config": config} | ({"labels": labels} if labels else {})
