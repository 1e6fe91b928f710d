"""The cluster: what it draws, who it works for, what is wasted, and how well all that is known."""

from __future__ import annotations

from grafana.influxql import LIVE, PARTS, TIME, inner, select, source, whole
from grafana.model import (
    JOBS,
    Json,
    bars,
    column,
    cover,
    dashboard,
    lines,
    link,
    named,
    queries,
    row,
    stamp,
    stat,
    steps,
    table,
)
from grafana.views.shared import (
    CLUSTER,
    COVERAGE,
    COVERED,
    FAILED_RUNS,
    FAILED_SHARE,
    HOLDERS,
    IMPACT_COLUMNS,
    IMPACTS,
    IN_CLUSTER,
    KINDS,
    METER_LINE,
    PAIR,
    SHARE,
)
from jobimpact.core.series import (
    IMPACT_DAY,
    JOB_ENERGY,
    JOB_IMPACT,
    NODE_DOMAIN,
    NODE_HOUR,
    NODE_POWER,
    SOURCE_HEALTH,
    Measurement,
)

__all__ = ["VIEW"]

_NO_NIGHT = "No night has been accounted in this range"
_NOTHING_NOW = "No node has sent anything in the last 5 minutes"
_GPU = ("cluster", "node", "domain")
_SOURCE = ("cluster", "node", "source")


def _gpus_idle(when: str) -> str:
    """Of each minute of each GPU that is read, 1 if some of its energy was nobody's, else 0 (x / x; 0 / 0 is 0)."""
    grown = inner(
        'non_negative_difference("energy_uj") AS "e", non_negative_difference("known_ns") AS "k"',
        source(JOB_ENERGY),
        IN_CLUSTER,
        "\"kind\" = 'gpu'",
        "\"run\" = 'idle'",
        when,
        by=_GPU,
    )
    return inner('"e" / "e" AS "idle"', grown, '"k" > 0')


def _now() -> list[Json]:
    latest = inner('last("watts") AS "w"', source(NODE_POWER), IN_CLUSTER, PARTS, LIVE, by=NODE_POWER.tags)
    idle = inner('mean("idle") AS "idle"', _gpus_idle(LIVE), LIVE, by=_GPU)
    nodes = inner('last("stamp_ms") AS "stamp"', source(NODE_DOMAIN), IN_CLUSTER, LIVE, by=("cluster", "node"))
    known = inner(
        'last("stamp_ms") AS "stamp"',
        source(NODE_DOMAIN),
        IN_CLUSTER,
        "time > now() - 1d",
        by=("cluster", "node"),
    )
    failing = inner(
        'non_negative_difference("failures") AS "failures"',
        source(SOURCE_HEALTH),
        IN_CLUSTER,
        "time > now() - 15m",
        by=_SOURCE,
    )
    each = inner('sum("failures") AS "failures"', failing, "time > now() - 15m", by=_SOURCE)
    return row(
        "Now",
        stat(
            "Power now",
            "The latest power of every domain that has sent one in the last 5 minutes: all, and by kind. Nodes' own "
            "meters are not in it: `rest` is what they have beyond the other parts.",
            "watt",
            queries(
                (select('sum("w")', latest, LIVE), "all"),
                (select('sum("w")', latest, LIVE, by=("kind",)), "$tag_kind"),
            ),
            none=_NOTHING_NOW,
            size=(8, 4),
        ),
        stat(
            "GPUs now",
            "GPUs over the last 5 minutes: held by jobs, or idle. A GPU is idle as long as some of its energy is "
            "nobody's; one that jobs share by slices is idle in part.",
            "none",
            queries(select('count("idle") - sum("idle") AS "held", sum("idle") AS "idle"', idle), shape="table"),
            none="No GPU has been read in the last 5 minutes",
            size=(4, 4),
            decimals=1,
        ),
        stat(
            "Idle GPUs",
            "The part of all GPUs that no job held over the last 5 minutes.",
            "percentunit",
            queries(select('mean("idle") AS "idle"', _gpus_idle(LIVE), LIVE), shape="table"),
            none="No GPU has been read in the last 5 minutes",
            limits=SHARE,
            size=(3, 4),
            min=0,
            max=1,
        ),
        stat(
            "Live nodes",
            "Nodes whose books have come in the last 5 minutes.",
            "none",
            queries(select('count("stamp") AS "nodes"', nodes), shape="table"),
            none=_NOTHING_NOW,
            size=(3, 4),
        ),
        stat(
            "Silent nodes",
            "Nodes that have reported in the last day and have not for 5 minutes. Switched off, their daemon is "
            "down, or their way to the store is cut: the table below says since when.",
            "none",
            queries(select('count("stamp") AS "nodes"', known, '"stamp" < ${__to} - 300000'), shape="table"),
            none="none",
            limits=steps((None, "green"), (1, "red")),
            size=(3, 4),
        ),
        stat(
            "Bad sources",
            "Sources of readings (RAPL, NVML, a BMC, ...) that could not be read at least once in the last "
            "15 minutes; `publisher` is the way to the store.",
            "none",
            queries(select('count("failures") AS "sources"', each, '"failures" > 0'), shape="table"),
            none="none",
            limits=steps((None, "green"), (1, "orange"), (10, "red")),
            size=(3, 4),
        ),
    )


def _power() -> list[Json]:
    def summed(*where: str, by: tuple[str, ...]) -> str:
        each = inner(
            'mean("watts") AS "w"',
            source(NODE_POWER),
            IN_CLUSTER,
            *where,
            TIME,
            by=NODE_POWER.tags,
            every="$__interval",
        )
        return select('sum("w")', each, TIME, by=by, every="$__interval")

    gpus = inner('mean("idle") AS "idle"', _gpus_idle(TIME), TIME, by=_GPU, every="$__interval")
    return row(
        "Power",
        lines(
            "Power by kind of domain",
            "What all domains draw, stacked by kind; beside it, as a line, what the nodes' own meters say, where "
            "there are any. A node that sends nothing is missing from the sum.",
            "watt",
            queries((summed(PARTS, by=("kind",)), "$tag_kind"), (summed("\"kind\" = 'node'", by=()), "meter")),
            none="No power in this range",
            stacked=True,
            interval="5m",
            within="6h",
            overrides=[
                *KINDS,
                METER_LINE,
            ],
        ),
        lines(
            "GPUs that are held, and idle",
            "GPUs that are read: held by jobs, or idle. Those that send nothing are missing from both. The last "
            "bucket is not yet complete.",
            "none",
            queries(
                (
                    select(
                        'count("idle") - sum("idle") AS "held", sum("idle") AS "idle"', gpus, TIME, every="$__interval"
                    ),
                    "$col",
                )
            ),
            none="No GPU has been read in this range",
            stacked=True,
            interval="5m",
            within="1d",
            overrides=[named("held", color=cover("green")), named("idle", color=cover("orange"))],
        ),
    )


def _by(of: Measurement, what: str, *tags: str) -> str:
    return whole(what, of, IN_CLUSTER, by=tags, every="1d")


def _days() -> list[Json]:
    kwh = 'sum("energy_j") / 3600000'
    gwp = 'sum("use_gwp_kgco2e") + sum("embodied_gwp_kgco2e")'
    holders = ", ".join(f'sum("{one}_j") / 3600000 AS "{one}"' for one in ("jobs", "idle", "system"))
    return row(
        "Energy and GWP by day (UTC)",
        bars(
            "Energy by holder",
            "Whose the measured energy of each day was: jobs, `idle` (parts that no job held), `system` (used "
            "outside every job). From the nodes' books, by hour.",
            "kwatth",
            queries((whole(holders, NODE_HOUR, IN_CLUSTER, PARTS, every="1d"), "$col")),
            none=_NO_NIGHT,
            overrides=HOLDERS,
            calcs=["sum"],
        ),
        bars(
            "GWP: use and embodied",
            "Greenhouse gases of the jobs that ended on each day: of their electricity (use), and their share of "
            "making the hardware (embodied).",
            "suffix:kgCO2e",
            queries(
                (_by(IMPACT_DAY, 'sum("use_gwp_kgco2e") AS "use", sum("embodied_gwp_kgco2e") AS "embodied"'), "$col")
            ),
            none=_NO_NIGHT,
            overrides=PAIR,
            calcs=["sum"],
        ),
        *(
            bars(
                f"{what} by {label}",
                f"{about}, by the day on which jobs ended. Sums are in the table below.",
                unit,
                queries((_by(IMPACT_DAY, sums, tag), f"{label}: $tag_{tag}")),
                none=_NO_NIGHT,
                overrides=[named(f"{label}: ", displayName=f"no {label}")],
                names_below=True,
            )
            for tag, label in (("account", "lab"), ("partition", "partition"))
            for what, about, unit, sums in (
                ("Energy", "Energy of jobs", "kwatth", kwh),
                ("GWP", "Use and embodied GWP of jobs", "suffix:kgCO2e", gwp),
            )
        ),
        *(
            table(
                f"By {label}",
                f"Jobs that ended in this range, by {label}. `failed` is the part of the jobs that failed.",
                queries(whole(IMPACTS, IMPACT_DAY, IN_CLUSTER, by=(tag,)), shape="table"),
                [column(tag, links=links), *IMPACT_COLUMNS],
                none=_NO_NIGHT,
                sort="energy",
                size=(24, 8),
            )
            for tag, label, links in (
                ("account", "lab", [link("This lab", "lab", account="__data.fields.account")]),
                ("partition", "partition", []),
            )
        ),
    )


def _waste() -> list[Json]:
    failed = whole('sum("failed_energy_j") / 3600000', IMPACT_DAY, IN_CLUSTER, every="1d")
    idle = whole('sum("idle_j") / 3600000', NODE_HOUR, IN_CLUSTER, PARTS, every="1d")
    top = inner(
        'top("energy_j", 20) AS "energy_j", "run", "user", "account", "state", "gpus", "end_ms"',
        source(JOB_IMPACT),
        IN_CLUSTER,
        FAILED_RUNS,
        TIME,
    )
    return row(
        "Waste",
        bars(
            "Energy of failed jobs, and of idle parts",
            "What failed jobs used (by the day on which they ended), and what parts used that no job held.",
            "kwatth",
            queries((failed, "failed jobs"), (idle, "idle")),
            none=_NO_NIGHT,
            calcs=["sum"],
            overrides=[named("failed jobs", color=cover("red")), HOLDERS[1]],
        ),
        stat(
            "Energy of failed jobs",
            "The part of all jobs' energy in this range that failed jobs used.",
            "percentunit",
            queries(whole(FAILED_SHARE, IMPACT_DAY, IN_CLUSTER), shape="table"),
            none=_NO_NIGHT,
            limits=steps((None, "green"), (0.05, "yellow"), (0.15, "red")),
            size=(6, 8),
            decimals=1,
        ),
        stat(
            "Idle energy",
            "The part of the measured energy in this range that no job held.",
            "percentunit",
            queries(whole('sum("idle_j") / sum("measured_j") AS "idle"', NODE_HOUR, IN_CLUSTER, PARTS), shape="table"),
            none=_NO_NIGHT,
            limits=SHARE,
            size=(6, 8),
            decimals=1,
        ),
        table(
            "Failed jobs that used most",
            "The 20 jobs that started in this range, did not end well, and used most energy. The job's number leads "
            "to its view.",
            queries(
                select(
                    '"run", "energy_j" / 3600000 AS "energy", "state", "user", "account", "gpus", "end_ms" AS "ended"',
                    top,
                ),
                shape="table",
            ),
            [column("energy", "kwatth"), column("gpus", "none"), *JOBS],
            none="No job failed in this range",
            stamped=True,
            sort="energy",
            size=(24, 7),
        ),
        table(
            "Nodes by idle energy",
            "What each node used while no job held it, and the part of its energy that this is.",
            queries(
                whole(
                    'sum("idle_j") / 3600000 AS "idle", sum("idle_j") / sum("measured_j") AS "part"',
                    NODE_HOUR,
                    IN_CLUSTER,
                    PARTS,
                    by=("node",),
                ),
                shape="table",
            ),
            [
                column("node", links=[link("This node", "node", node="__data.fields.node")]),
                column("idle", "kwatth"),
                column("part", "percentunit"),
            ],
            none=_NO_NIGHT,
            sort="idle",
            size=(24, 7),
        ),
    )


def _quality() -> list[Json]:
    growth = inner(
        'non_negative_difference("failures") AS "failures"', source(SOURCE_HEALTH), IN_CLUSTER, TIME, by=_SOURCE
    )
    failed = inner('sum("failures") AS "failures"', growth, TIME, by=_SOURCE)
    way = (IN_CLUSTER, "\"source\" = 'publisher'")
    return row(
        "Quality of the data",
        stat(
            "Coverage of jobs",
            "The part of the jobs' node-hours for which their energy is known. What is not known is not in their "
            "energy.",
            "percentunit",
            queries(whole(COVERED, IMPACT_DAY, IN_CLUSTER), shape="table"),
            none=_NO_NIGHT,
            limits=COVERAGE,
            size=(4, 8),
            min=0,
            max=1,
        ),
        stat(
            "Jobs not assessed",
            "Jobs that ended in this range and whose energy is not known at all, or whose impact could not be "
            "assessed, as their nodes are not in the inventory.",
            "none",
            queries(
                whole(
                    'sum("not_measured_jobs") AS "not measured", sum("not_assessed_jobs") AS "not assessed"',
                    IMPACT_DAY,
                    IN_CLUSTER,
                ),
                shape="table",
            ),
            none=_NO_NIGHT,
            limits=steps((None, "green"), (1, "yellow")),
            size=(4, 8),
        ),
        lines(
            "Known part of the nodes' time",
            "For which part of each hour a kind of domain is known, as the mean of all nodes.",
            "percentunit",
            queries((whole('mean("known_part")', NODE_HOUR, IN_CLUSTER, by=("kind",), every="1h"), "$tag_kind")),
            none=_NO_NIGHT,
            limits=COVERAGE,
            overrides=KINDS,
            size=(16, 8),
            low=0.9,
            max=1,
        ),
        lines(
            "Way to the store",
            "How old the oldest point was that waited for delivery, once a minute: of the worst node, and the mean. "
            "Some seconds are usual; what grows is an outage, and is caught up on afterwards.",
            "s",
            queries(
                (whole('max("age_s")', SOURCE_HEALTH, *way, every="$__interval"), "worst node"),
                (whole('mean("age_s")', SOURCE_HEALTH, *way, every="$__interval"), "mean"),
            ),
            none="No node has a way to the store in this range",
            limits=steps((None, "green"), (120, "yellow"), (3600, "red")),
            interval="1m",
        ),
        table(
            "Nodes, by their last word",
            "When each node's books were last heard of in this range.",
            queries(
                whole('last("stamp_ms") AS "last word"', NODE_DOMAIN, IN_CLUSTER, by=("node",)),
                shape="table",
            ),
            [
                column("node", links=[link("This node", "node", node="__data.fields.node")]),
                column("last word", "dateTimeFromNow"),
            ],
            none="No node has sent anything in this range",
            sort="last word",
            ascending=True,
        ),
        table(
            "Failed readings",
            "Sources that could not be read in this range, and how often.",
            queries(select('"failures", "node", "source"', failed, '"failures" > 0'), shape="table"),
            [
                column("failures", "none"),
                column("node", links=[link("This node", "node", node="__data.fields.node")]),
            ],
            none="Every reading worked",
            sort="failures",
        ),
        table(
            "What sources complain of",
            "The last problem of each source in this range, and when it was last told.",
            queries(
                whole('last("problem") AS "problem"', SOURCE_HEALTH, IN_CLUSTER, by=("node", "source")), shape="table"
            ),
            [
                stamp("last told", "dateTimeFromNow", custom__width=140),
                column("node", links=[link("This node", "node", node="__data.fields.node")], custom__width=140),
                column("source", custom__width=120),
            ],
            none="No source complains",
            first=("node", "source"),
            stamped=True,
            sort="last told",
        ),
    )


VIEW = dashboard(
    "cluster",
    "jobimpact: cluster",
    "What the cluster draws, who it works for, what is wasted, and how well that is known.",
    [CLUSTER],
    [_now(), _power(), _days(), _waste(), _quality()],
    since="now-7d/d",
    refresh="5m",
    timezone="utc",
)
