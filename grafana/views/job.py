"""A job, while it runs and afterwards: its power, its energy, the three indicators, and where it ran.

The energies of the books are kept for some days (`retention.books_days`); what the night made of them, for months.
"""

from __future__ import annotations

from grafana.influxql import KNOWN, PARTS, inner, power, select, source
from grafana.model import (
    Json,
    column,
    dashboard,
    gauge_bars,
    lines,
    link,
    listed,
    narrow,
    queries,
    row,
    stamp,
    stat,
    steps,
    table,
    text_box,
)
from grafana.views.shared import CLUSTER, COVERAGE, IN_CLUSTER, KINDS, RECORDED
from jobimpact.core.series import JOB_ENERGY, JOB_IMPACT, JOB_RUN

__all__ = ["VIEW"]

_RUN = (IN_CLUSTER, '"run" =~ /^${job:regex}(#[0-9]+)?$/')
"""In the nodes' books: the job, and its incarnations after a requeue."""
_DONE = (IN_CLUSTER, '"run" =~ /^${job:regex}(@[0-9]+)?$/', RECORDED)
"""In the results: the job, and all that have had this number."""
_JOB = text_box(
    "job",
    "Job",
    "The job's number (of an array's task the raw one, as in sacct's JobIDRaw), or come here from a table.",
)
_NO_BOOKS = "Not in the nodes' books: another number, or it is longer ago than they are kept"
_NOT_YET = "Not accounted: it is done by the night after the job's end"
_LAST = inner('last("energy_uj") AS "e", "known_ns" AS "known"', source(JOB_ENERGY), *_RUN, PARTS, by=JOB_ENERGY.tags)


def _first(fields: str) -> list[Json]:
    """Of the latest job of that number."""
    return queries(select(fields, source(JOB_IMPACT), *_DONE), shape="table")


def _sums() -> list[Json]:
    def indicator(title: str, about: str, unit: str, field: str, factor: str, **more: Json) -> Json:
        each = ", ".join(f'last("{of}_{field}"){factor} AS "{of}"' for of in ("use", "embodied"))
        return stat(
            title,
            f"{about} `use` is from its electricity, `embodied` its share of making the hardware.",
            unit,
            _first(each),
            none=_NOT_YET,
            size=(5, 4),
            **more,
        )

    low_high = ", ".join(
        f'last("{of}_gwp_kgco2e_{end}") * 1000 AS "{of}, {end}"'
        for of in ("use", "embodied")
        for end in ("low", "high")
    )
    return row(
        "What it costs",
        stat(
            "Energy in the books",
            "What the nodes have measured for the job, up to now if it is running: the last of its cumulative "
            "energies, whatever range is looked at. With all its requeues.",
            "kwatth",
            queries(select('sum("e") / 3600000000000 AS "energy"', _LAST, KNOWN), shape="table"),
            none=_NO_BOOKS,
            size=(4, 4),
        ),
        stat(
            "Energy, accounted",
            "As in the job's report.",
            "kwatth",
            _first('last("energy_j") / 3600000 AS "energy"'),
            none=_NOT_YET,
            size=(4, 4),
        ),
        stat(
            "Coverage",
            "The part of its time on its nodes for which its energy is known.",
            "percentunit",
            _first('last("coverage") AS "coverage"'),
            none=_NOT_YET,
            limits=COVERAGE,
            size=(4, 4),
            max=1,
        ),
        stat(
            "State",
            "The scheduler's word, once it is accounted.",
            "none",
            _first('last("state") AS "state"'),
            none=_NOT_YET,
            size=(4, 4),
            fields="/^state$/",
        ),
        stat(
            "State on its nodes",
            "What the nodes' books say: `open` while it runs, then `ended`, `lost` or `rebooted`.",
            "none",
            queries(select('last("state") AS "state"', source(JOB_RUN), *_RUN), shape="table"),
            none=_NO_BOOKS,
            size=(4, 4),
            fields="/^state$/",
        ),
        stat(
            "Run time",
            "For how long it ran.",
            "s",
            _first('last("elapsed_s") AS "run time"'),
            none=_NOT_YET,
            size=(4, 4),
        ),
        indicator("GWP", "Global warming potential.", "si:gCO2e", "gwp_kgco2e", " * 1000"),
        stat(
            "GWP, range",
            "The low and high ends of both: how sure the factors and the hardware's figures are.",
            "si:gCO2e",
            _first(low_high),
            none="No range is known, or it is not accounted yet",
            size=(9, 4),
        ),
        indicator("ADP", "Abiotic depletion: minerals, as antimony.", "si:gSbe", "adp_kgsbe", " * 1000"),
        indicator("PE", "Primary energy.", "joule", "pe_mj", " * 1000000"),
    )


def _profile() -> list[Json]:
    return row(
        "Power",
        lines(
            "Power by kind of domain",
            "What its nodes' domains drew for it, from the books: once a minute, and at its start and end. On all its "
            "nodes together.",
            "watt",
            queries((power(*_RUN, PARTS, by=("kind",)), "$tag_kind")),
            none=_NO_BOOKS,
            stacked=True,
            interval="2m",
            overrides=KINDS,
        ),
        lines(
            "Power by GPU",
            "Of each GPU that it held. One far below the others may have had nothing to do.",
            "watt",
            queries(
                (
                    power(*_RUN, "\"kind\" = 'gpu'", by=("node", "domain")),
                    "$tag_node $tag_domain",
                )
            ),
            none="It held no GPU, or is not in the nodes' books",
            interval="2m",
        ),
    )


def _parts() -> list[Json]:
    def summed(*tags: str) -> str:
        return select('sum("e") / 3600000000000', _LAST, KNOWN, by=tags)

    return row(
        "Where the energy went",
        gauge_bars(
            "Energy by kind of domain",
            "`rest` is its part of what the nodes' meters have beyond the other parts.",
            "kwatth",
            queries((summed("kind"), "$tag_kind")),
            none=_NO_BOOKS,
            overrides=KINDS,
        ),
        gauge_bars(
            "Energy by node",
            "All its domains there.",
            "kwatth",
            queries((summed("node"), "$tag_node")),
            none=_NO_BOOKS,
        ),
    )


def _facts() -> list[Json]:
    return row(
        "What is known of it",
        table(
            "On its nodes",
            "What each node's books last said: what it held there, how it ended, and what one should know of its "
            "edges (`flags`).",
            queries(
                select(
                    'last("start_ms") AS "started", "end_ms" AS "ended", "state", "cpus", "mem_bytes" AS "memory", '
                    '"flags", "gpus"',
                    source(JOB_RUN),
                    *_RUN,
                    by=("node", "run"),
                ),
                shape="table",
            ),
            [
                column("node", links=[link("This node", "node", node="__data.fields.node")]),
                *(column(one, "dateTimeAsIso", custom__width=165) for one in ("started", "ended")),
                column("cpus", "none"),
                column("memory", "bytes"),
                *narrow(110, "node", "run", "state", "cpus", "memory"),
                *(listed(one) for one in ("flags", "gpus")),
            ],
            none=_NO_BOOKS,
            first=("node", "run"),
            size=(24, 7),
        ),
        table(
            "In the accounts",
            "Each job that has had this number, or each of its incarnations.",
            queries(
                select(
                    '"job", "energy_j" / 3600000 AS "energy", "state", "user", "account", "partition", '
                    '"end_ms" AS "ended", "elapsed_s" AS "run time", "coverage", "cpus", "gpus", "nodes", "name"',
                    source(JOB_IMPACT),
                    *_DONE,
                ),
                shape="table",
            ),
            [
                stamp("started", "dateTimeAsIso", custom__width=165),
                column("ended", "dateTimeAsIso", custom__width=165),
                *narrow(70, "cpus", "gpus"),
                *narrow(100, "job", "energy", "user", "account", "partition", "run time", "coverage"),
                *narrow(120, "state", "nodes"),
                column("energy", "kwatth"),
                column(
                    "coverage",
                    "percentunit",
                    thresholds=steps((None, "red"), (0.9, "yellow"), (0.99, "green")),
                    custom__cellOptions={"type": "color-text"},
                    color={"mode": "thresholds"},
                ),
                column("run time", "s"),
                column("user", links=[link("This user", "user", user="__data.fields.user")]),
                column("account", links=[link("This lab", "lab", account="__data.fields.account")]),
            ],
            none=_NOT_YET,
            stamped=True,
            size=(24, 7),
        ),
    )


VIEW = dashboard(
    "job",
    "jobimpact: job",
    "A job's power, energy and impact, while it runs and afterwards.",
    [CLUSTER, _JOB],
    [_sums(), _profile(), _parts(), _facts()],
    since="now-24h",
    refresh="1m",
)
