"""A node: what its domains draw, who holds them, and how its sources of readings do."""

from __future__ import annotations

from grafana.influxql import LIVE, PARTS, TIME, equals, inner, select, source, spread, tag_values, whole
from grafana.model import (
    RUN,
    Json,
    bars,
    column,
    cover,
    dashboard,
    drop_down,
    gauge_bars,
    lines,
    listed,
    named,
    narrow,
    queries,
    row,
    stamp,
    stat,
    steps,
    table,
)
from grafana.views.shared import CLUSTER, COVERAGE, HOLDERS, IN_CLUSTER, JOBS_ONLY, KINDS, METER_LINE
from jobimpact.core.series import JOB_RUN, NODE_BOOKS, NODE_DOMAIN, NODE_HOUR, NODE_POWER, SOURCE_HEALTH

__all__ = ["VIEW"]

_HERE = (IN_CLUSTER, equals("node"))
_NODE = drop_down("node", "Node", "As its daemon calls it.", tag_values(SOURCE_HEALTH, "node", IN_CLUSTER))
_METER = "\"kind\" = 'node'"
_SILENT = "The node has sent nothing in this range"
_NOW = "The node has sent nothing in the last 5 minutes"


def _now() -> list[Json]:
    latest = inner('last("watts") AS "w"', source(NODE_POWER), *_HERE, PARTS, LIVE, by=NODE_POWER.tags)
    return row(
        "Now",
        stat(
            "Power now",
            "The latest power of each domain in the last 5 minutes, summed by kind; `rest` is what the node's meter "
            "has beyond the other parts.",
            "watt",
            queries((select('sum("w")', latest, LIVE, by=("kind",)), "$tag_kind")),
            none=_NOW,
            size=(10, 4),
        ),
        stat(
            "Meter now",
            "What the node's own meter (wattmeter or BMC) says. Without one, a node is the sum of its parts.",
            "watt",
            queries((select('last("watts")', source(NODE_POWER), *_HERE, _METER, LIVE), "meter")),
            none="No meter has sent anything in the last 5 minutes",
            size=(4, 4),
        ),
        stat(
            "Last word",
            "When the node's books were last heard of in this range.",
            "dateTimeFromNow",
            queries(whole('last("stamp_ms") AS "stamp"', NODE_DOMAIN, *_HERE), shape="table"),
            none=_SILENT,
            size=(5, 4),
        ),
        stat(
            "Parts against the meter",
            "What the node's parts have measured beyond its meter, and what is not yet paid back by later "
            "readings. A few joules come and go; what grows means that a meter is wrong.",
            "joule",
            queries(
                whole('last("deficit_uj") / 1000000 AS "deficit"', NODE_BOOKS, *_HERE),
                shape="table",
            ),
            none="This node has no meter of its own",
            limits=steps((None, "green"), (10000, "yellow"), (1000000, "red")),
            size=(5, 4),
        ),
    )


def _powers() -> list[Json]:
    held = tuple(
        (spread(*_HERE, PARTS, which), label)
        for which, label in ((JOBS_ONLY, "jobs"), ("\"run\" = 'idle'", "idle"), ("\"run\" = 'system'", "system"))
    )
    return row(
        "Power",
        lines(
            "Power by domain",
            "The node's domains, stacked; as a line, what its own meter says.",
            "watt",
            queries(
                (
                    whole('mean("watts")', NODE_POWER, *_HERE, PARTS, by=("domain",), every="$__interval"),
                    "$tag_domain",
                ),
                (whole('mean("watts")', NODE_POWER, *_HERE, _METER, every="$__interval"), "meter"),
            ),
            none=_SILENT,
            stacked=True,
            interval="20s",
            overrides=[METER_LINE, named("meter", color=cover("text"))],
        ),
        lines(
            "Power by holder",
            "Whose the power is: jobs, `idle` (parts that no job holds), `system` (used outside every job). From the "
            "books, once a minute, as means over five minutes and more.",
            "watt",
            queries(*held),
            none=_SILENT,
            stacked=True,
            interval="5m",
            overrides=HOLDERS,
        ),
        lines(
            "Power by job",
            "The jobs on this node, each by its number (and `#1` after a requeue).",
            "watt",
            queries((spread(*_HERE, PARTS, JOBS_ONLY, by=("run",)), "$tag_run")),
            none="No job has run here in this range",
            stacked=True,
            interval="5m",
            size=(24, 8),
        ),
        table(
            "Jobs on this node",
            "What the node's books last said of each job in this range. Its number leads to its view.",
            queries(
                whole(
                    'last("start_ms") AS "started", "end_ms" AS "ended", "state", "cpus", "flags", "gpus"',
                    JOB_RUN,
                    *_HERE,
                    by=("run",),
                ),
                shape="table",
            ),
            [
                *(column(one, "dateTimeAsIso", custom__width=165) for one in ("started", "ended")),
                column("cpus", "none"),
                *narrow(100, "state", "cpus"),
                *(listed(one) for one in ("flags", "gpus")),
                RUN,
            ],
            none="No job has run here in this range",
            sort="started",
            size=(24, 7),
        ),
    )


def _energy() -> list[Json]:
    grown = inner(
        'non_negative_difference("energy_uj") AS "e"', source(NODE_POWER), *_HERE, PARTS, TIME, by=NODE_POWER.tags
    )
    hours = ", ".join(f'sum("{one}_j") / 3600000 AS "{one}"' for one in ("jobs", "idle", "system"))
    return row(
        "Energy",
        gauge_bars(
            "Energy by domain",
            "What each domain has measured in this range, out of its cumulative energy; together they are the node. "
            "A domain of which nothing is known is not there.",
            "kwatth",
            queries((select('sum("e") / 3600000000000', grown, '"e" > 0', TIME, by=("domain",)), "$tag_domain")),
            none=_SILENT,
        ),
        bars(
            "Energy by holder and day (UTC)",
            "From the books, by hour, each night.",
            "kwatth",
            queries((whole(hours, NODE_HOUR, *_HERE, PARTS, every="1d"), "$col")),
            none="No night has been accounted in this range",
            overrides=HOLDERS,
            calcs=["sum"],
            within="30d",
        ),
    )


def _quality() -> list[Json]:
    domain = NODE_POWER.tags
    unknown = inner('non_negative_derivative("unknown_ns", 1s) AS "u"', source(NODE_POWER), *_HERE, TIME, by=domain)
    health = SOURCE_HEALTH.tags
    failures = inner('non_negative_difference("failures") AS "f"', source(SOURCE_HEALTH), *_HERE, TIME, by=health)
    busy = inner('non_negative_derivative("busy_ns", 1s) AS "b"', source(SOURCE_HEALTH), *_HERE, TIME, by=health)
    return row(
        "Quality of the data",
        lines(
            "Unknown time by domain",
            "For which part of the time a domain's energy is not known: it could not be read, or not be told from a "
            "reset. Energy that a counter still holds after a gap is counted, and its time is known.",
            "percentunit",
            queries(
                (select('mean("u") / 1000000000', unknown, TIME, by=("domain",), every="$__interval"), "$tag_domain")
            ),
            none=_SILENT,
            limits=steps((None, "green"), (0.01, "yellow"), (0.1, "red")),
            interval="1m",
            high=0.02,
        ),
        lines(
            "Known part of each hour",
            "Of all domains of a kind, from the books, each night.",
            "percentunit",
            queries((whole('mean("known_part")', NODE_HOUR, *_HERE, by=("kind",), every="1h"), "$tag_kind")),
            none="No night has been accounted in this range",
            limits=COVERAGE,
            overrides=KINDS,
            within="7d",
            low=0.9,
            max=1,
        ),
        lines(
            "Failed readings by source",
            "How often a source could not be read; `publisher` is the way to the store.",
            "none",
            queries((select('sum("f")', failures, TIME, by=("source",), every="$__interval"), "$tag_source")),
            none=_SILENT,
            interval="1m",
            limits=steps((None, "green"), (1, "red")),
            calcs=["sum"],
        ),
        lines(
            "Age of the last good reading, by source",
            "Seconds; of `publisher`, the age of the oldest point that waits for delivery.",
            "s",
            queries(
                (whole('max("age_s")', SOURCE_HEALTH, *_HERE, by=("source",), every="$__interval"), "$tag_source")
            ),
            none=_SILENT,
            interval="1m",
            limits=steps((None, "green"), (120, "yellow"), (3600, "red")),
        ),
        lines(
            "CPU that the sources cost",
            "The part of one core that each source takes.",
            "percentunit",
            queries(
                (select('mean("b") / 1000000000', busy, TIME, by=("source",), every="$__interval"), "$tag_source")
            ),
            none=_SILENT,
            interval="5m",
            limits=steps((None, "green"), (0.01, "yellow"), (0.05, "red")),
            high=0.0005,
            decimals=3,
            size=(24, 6),
        ),
        table(
            "Domains",
            "Where each domain's energy comes from, how it comes about (a counter, integrated power, or a model), and "
            "why it is not read now, if so.",
            queries(
                whole(
                    'last("stamp_ms") AS "last word", "energy_uj" / 1000000 AS "since the beginning", "source", '
                    '"method", "reason"',
                    NODE_DOMAIN,
                    *_HERE,
                    by=("domain", "kind"),
                ),
                shape="table",
            ),
            [
                column("last word", "dateTimeFromNow"),
                column("since the beginning", "joule"),
            ],
            none=_SILENT,
            first=("domain", "kind"),
            size=(24, 11),
        ),
        table(
            "What sources complain of",
            "The last problem of each source in this range, and when it was last told.",
            queries(whole('last("problem") AS "problem"', SOURCE_HEALTH, *_HERE, by=("source",)), shape="table"),
            [stamp("last told", "dateTimeFromNow", custom__width=140), column("source", custom__width=120)],
            none="No source complains",
            stamped=True,
            size=(24, 5),
        ),
    )


VIEW = dashboard(
    "node",
    "jobimpact: node",
    "What a node's domains draw, who holds them, and how its sources of readings do.",
    [CLUSTER, _NODE],
    [_now(), _powers(), _energy(), _quality()],
    since="now-6h",
    refresh="1m",
)
