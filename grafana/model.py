"""Grafana's dashboard model, as far as these views need it: schema 38, which is Grafana 10's; later ones migrate it.

Only core panels, and only options that Grafana 10, 11 and 12 have alike. Colours are names of its palette, which it
adapts to dark and light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "DATASOURCE",
    "JOBS",
    "RUN",
    "Json",
    "bars",
    "column",
    "cover",
    "dashboard",
    "drop_down",
    "gauge_bars",
    "lines",
    "link",
    "listed",
    "named",
    "narrow",
    "queries",
    "row",
    "stamp",
    "stat",
    "steps",
    "table",
    "text_box",
]

Json = dict[str, Any]
DATASOURCE = {"type": "influxdb", "uid": "jobimpact"}
SCHEMA = 38
COLUMNS = 24
NEUTRAL = ((None, "blue"),)
"""A size that is neither good nor bad."""


def queries(*asked: str | tuple[str, str], shape: str = "time_series") -> list[Json]:
    """Targets of a panel: statements, each with the name of its series (`$tag_kind`) where it has one."""
    found = []
    for ref, one in zip("ABCDEFGH", asked, strict=False):
        query, alias = (one, "") if isinstance(one, str) else one
        target: Json = {"datasource": DATASOURCE, "query": query, "rawQuery": True, "refId": ref}
        found.append(target | {"resultFormat": shape} | ({"alias": alias} if alias else {}))
    return found


def steps(*found: tuple[float | None, str]) -> Json:
    """Thresholds: from which value on which colour; None: from the beginning."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in found]}


def named(name: str, **properties: Any) -> Json:
    """What is different for one column or series: `unit`, `custom__width` (for `custom.width`)."""
    return _override("byName", name, properties)


def column(name: str, unit: str = "", **properties: Any) -> Json:
    """A column of a table, with its unit."""
    return named(name, **({"unit": unit} if unit else {}), **properties)


def stamp(label: str, unit: str, **properties: Any) -> Json:
    """The column of the rows' stamps, whatever Grafana's release calls it."""
    return _override("byType", "time", {"displayName": label, "unit": unit, **properties})


def _override(matcher: str, options: str, properties: Mapping[str, Any]) -> Json:
    said = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": matcher, "options": options}, "properties": said}


def narrow(width: int, *names: str) -> list[Json]:
    """Columns of a width in pixels, so that the others are in sight, too."""
    return [named(name, custom__width=width) for name in names]


def listed(name: str, **properties: Any) -> Json:
    """A column with a JSON list; most are empty."""
    return named(name, mappings=[{"type": "value", "options": {"[]": {"text": "-", "index": 0}}}], **properties)


def cover(color: str) -> Json:
    """A fixed colour."""
    return {"mode": "fixed", "fixedColor": color}


def link(title: str, view: str, times: str = "", **values: str) -> Json:
    """A link from a cell to another view, with the row's columns as its variables."""
    said = "&".join(f"var-{name}=${{{value}:percentencode}}" for name, value in values.items())
    return {"title": title, "url": f"/d/jobimpact-{view}?var-cluster=${{cluster:percentencode}}&{said}{times}"}


_OF_RUN = {"type": "regex", "options": {"pattern": "^([^@#]+)[@#][0-9]+$", "result": {"text": "$1", "index": 0}}}
"""A run is `123`, `123#1` in the nodes' books and `123@1795190300` in the results: people know it as `123`."""
RUN = column("run", mappings=[_OF_RUN], links=[link("This job", "job", job="__value.text")], custom__width=130)
_IN_ITS_TIME = link(
    "This job, in its own time",
    "job",
    times="&from=${__value.time}&to=${__value.raw}",
    job="__data.fields.run",
)
JOBS = (
    RUN,
    column("ended", "dateTimeAsIso", links=[_IN_ITS_TIME], custom__width=165),
    stamp("started", "dateTimeAsIso", custom__width=165),
)
"""Columns of a table of jobs whose rows are stamped with their starts."""


def stat(
    title: str, about: str, unit: str, asked: list[Json], *, none: str, limits: Json | None = None, **more: Any
) -> Json:
    """Large figures."""
    plain = limits is None
    return _panel(
        "stat",
        (title, about, unit, asked),
        none,
        defaults={"thresholds": limits or steps(*NEUTRAL), "color": {"mode": "thresholds"}},
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": more.pop("fields", ""), "values": False},
            "orientation": "auto",
            "textMode": "auto",
            "colorMode": "none" if plain else "value",
            "graphMode": "none",
            "justifyMode": "auto",
        },
        **more,
    )


def lines(
    title: str, about: str, unit: str, asked: list[Json], *, none: str, stacked: bool = False, **more: Any
) -> Json:
    """Values over time."""
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 60 if stacked else 5}
    return _over_time((title, about, unit, asked), none, custom, stacked=stacked, **more)


def bars(
    title: str, about: str, unit: str, asked: list[Json], *, none: str, stacked: bool = True, **more: Any
) -> Json:
    """A bar for each day, which begins at its midnight."""
    custom = {"drawStyle": "bars", "barAlignment": 1, "lineWidth": 0, "fillOpacity": 80}
    return _over_time((title, about, unit, asked), none, custom, stacked=stacked, **more)


_NAMES_BELOW = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
"""Names of any length leave the plot its room; the sums are in a table."""


def _over_time(what: tuple[str, str, str, list[Json]], none: str, custom: Json, *, stacked: bool, **more: Any) -> Json:
    limits = more.pop("limits", None)
    if limits is not None:
        custom |= {"thresholdsStyle": {"mode": "dashed"}}
    custom |= {
        "showPoints": "never",
        "spanNulls": False,
        "axisSoftMin": more.pop("low", 0),
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    } | ({"axisSoftMax": more.pop("high")} if "high" in more else {})
    return _panel(
        "timeseries",
        what,
        none,
        defaults={
            "custom": custom,
            "color": {"mode": "palette-classic"},
            "thresholds": limits or steps(*NEUTRAL),
        },
        options={
            "legend": _NAMES_BELOW
            if more.pop("names_below", False)
            else {
                "displayMode": "table",
                "placement": "right",
                "showLegend": True,
                "calcs": more.pop("calcs", ["mean", "max"]),
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **more,
    )


def gauge_bars(title: str, about: str, unit: str, asked: list[Json], *, none: str, **more: Any) -> Json:
    """One bar for each series."""
    return _panel(
        "bargauge",
        (title, about, unit, asked),
        none,
        defaults={"thresholds": steps(*NEUTRAL), "color": {"mode": "palette-classic"}, "min": 0},
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "orientation": "horizontal",
            "displayMode": "basic",
            "showUnfilled": True,
            "valueMode": "color",
            "minVizWidth": 0,
            "minVizHeight": 10,
            "text": {"titleSize": 14, "valueSize": 16},
        },
        **more,
    )


def table(
    title: str,
    about: str,
    asked: list[Json],
    columns: Sequence[Json],
    *,
    none: str,
    stamped: bool = False,
    first: Sequence[str] = (),
    sort: str = "",
    ascending: bool = False,
    **more: Any,
) -> Json:
    """Rows. Units stand on the columns.

    Args:
        title: of the panel.
        about: help.
        asked: targets of the shape `table`.
        columns: overrides by column.
        none: what is said where there is no row.
        stamped: the rows' stamps are shown.
        first: the first columns, where there are several tags: Grafana has them in no order.
        sort: the column to sort by.
        ascending: the smallest first.
        more: of the panel.
    """
    order = ("Time", *first)
    shown = {
        "excludeByName": {} if stamped else {"Time": True, "time": True},
        "indexByName": {name: number for number, name in enumerate(order)},
    }
    found = _panel(
        "table",
        (title, about, "none", asked),
        none,
        defaults={
            "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
            "thresholds": steps(*NEUTRAL),
        },
        options={
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": sort, "desc": not ascending}] if sort else [],
        },
        # A cell without a value must not say what is said of a table without rows.
        overrides=[_override("byRegexp", "/.*/", {"noValue": "-"}), *columns],
        **more,
    )
    return found | {"transformations": [{"id": "organize", "options": shown}]}


def _panel(
    kind: str,
    what: tuple[str, str, str, list[Json]],
    none: str,
    *,
    defaults: Json,
    options: Json,
    overrides: Sequence[Json] = (),
    interval: str = "",
    within: str = "",
    size: tuple[int, int] = (12, 8),
    **fields: Any,
) -> Json:
    title, about, unit, asked = what
    field = {"unit": unit, "noValue": none, "mappings": [], **defaults, **fields}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "targets": asked,
        "fieldConfig": {"defaults": field, "overrides": list(overrides)},
        "options": options,
        "gridPos": {"w": size[0], "h": size[1]},
    } | {key: value for key, value in (("interval", interval), ("timeFrom", within)) if value}


def row(title: str, *panels: Json) -> list[Json]:
    """A headline and the panels below it."""
    return [{"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}, *panels]


def drop_down(name: str, label: str, about: str, query: str) -> Json:
    """A variable that is chosen from what the store has."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "description": about,
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 1,
        "sort": 5,
        "multi": False,
        "includeAll": False,
        "current": {},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }


def text_box(name: str, label: str, about: str) -> Json:
    """A variable that is typed, or comes with a link."""
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "description": about,
        "query": "",
        "current": {"selected": True, "text": "", "value": ""},
        "options": [{"selected": True, "text": "", "value": ""}],
        "hide": 0,
        "skipUrlSync": False,
    }


def dashboard(
    name: str,
    title: str,
    about: str,
    variables: Sequence[Json],
    rows: Sequence[list[Json]],
    *,
    since: str,
    refresh: str,
    timezone: str = "browser",
) -> Json:
    """A whole view: its panels numbered and laid out from left to right, in lines of 24 columns."""
    return {
        "uid": f"jobimpact-{name}",
        "title": title,
        "description": about,
        "tags": ["jobimpact"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": timezone,
        "time": {"from": since, "to": "now"},
        "timepicker": {"refresh_intervals": ["30s", "1m", "5m", "15m", "1h"]},
        "refresh": refresh,
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "jobimpact",
                "tags": ["jobimpact"],
                "asDropdown": True,
                "includeVars": False,
                "keepTime": False,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "",
                "url": "",
            }
        ],
        "panels": _laid_out([panel for one in rows for panel in one]),
    }


def _laid_out(panels: Sequence[Json]) -> list[Json]:
    x = y = height = 0
    found = []
    for number, panel in enumerate(panels, 1):
        wide, high = panel["gridPos"]["w"], panel["gridPos"]["h"]
        if x + wide > COLUMNS:
            x, y, height = 0, y + height, 0
        found.append({"id": number} | panel | {"gridPos": {"x": x, "y": y, "w": wide, "h": high}})
        x, height = x + wide, max(height, high)
    return found
