"""What several views have in common: variables, colours, and the columns of impacts."""

from __future__ import annotations

from grafana.influxql import equals, tag_values
from grafana.model import Json, column, cover, drop_down, named, steps
from jobimpact.core.series import IMPACT_DAY, SOURCE_HEALTH
from jobimpact.results.outcome import FAILED

__all__ = [
    "CLUSTER",
    "COVERAGE",
    "COVERED",
    "FAILED_RUNS",
    "FAILED_SHARE",
    "HOLDERS",
    "IMPACTS",
    "IMPACT_COLUMNS",
    "IN_CLUSTER",
    "JOBS_ONLY",
    "KINDS",
    "METER_LINE",
    "PAIR",
    "RECORDED",
    "SHARE",
    "day_variable",
]

IN_CLUSTER = equals("cluster")
CLUSTER = drop_down("cluster", "Cluster", "As in the configuration.", tag_values(SOURCE_HEALTH, "cluster"))
JOBS_ONLY = '"run" !~ /^(idle|system)$/'

KINDS = tuple(
    named(kind, color=cover(color))
    for kind, color in (
        *(("cpu", "blue"), ("dram", "purple"), ("gpu", "green"), ("rest", "yellow")),
        ("meter", "red"),
    )
)
"""The kinds of domains have the same colours everywhere."""
METER_LINE = named(
    "meter",
    custom__stacking={"mode": "none", "group": "B"},
    custom__fillOpacity=0,
    custom__lineWidth=2,
    custom__lineStyle={"fill": "dash", "dash": [10, 10]},
)
"""What contains the parts that are stacked."""
HOLDERS = tuple(
    named(holder, color=cover(color))
    for holder, color in (("jobs", "green"), ("idle", "orange"), ("system", "purple"))
)
PAIR = (named("use", color=cover("blue")), named("embodied", color=cover("purple")))
COVERAGE = steps((None, "red"), (0.9, "yellow"), (0.99, "green"))
"""A part of what should be known."""
SHARE = steps((None, "green"), (0.2, "yellow"), (0.4, "red"))
"""A part that is wasted."""

_USED = 'sum("energy_j") / 3600000 AS "energy"'
_GWP = 'sum("use_gwp_kgco2e") AS "use GWP", sum("embodied_gwp_kgco2e") AS "embodied GWP"'
_ADP = 'sum("use_adp_kgsbe") * 1000 AS "use ADP", sum("embodied_adp_kgsbe") * 1000 AS "embodied ADP"'
_PE = 'sum("use_pe_mj") * 1000000 AS "use PE", sum("embodied_pe_mj") * 1000000 AS "embodied PE"'
IMPACTS = f'{_USED}, {_GWP}, {_ADP}, {_PE}, sum("jobs") AS "jobs", sum("failed_jobs") / sum("jobs") AS "failed"'
"""Sums of `impact_day`, with the names and units of IMPACT_COLUMNS."""
IMPACT_COLUMNS = (
    column("energy", "kwatth"),
    *(column(f"{of} GWP", "suffix:kgCO2e") for of in ("use", "embodied")),
    *(column(f"{of} ADP", "si:gSbe") for of in ("use", "embodied")),
    *(column(f"{of} PE", "joule") for of in ("use", "embodied")),
    column("jobs", "none"),
    column(
        "failed",
        "percentunit",
        thresholds=SHARE,
        custom__cellOptions={"type": "color-text"},
        color={"mode": "thresholds"},
    ),
)
FAILED_SHARE = 'sum("failed_energy_j") / sum("energy_j") AS "failed"'
COVERED = 'sum("covered_node_hours") / sum("node_hours") AS "coverage"'
RECORDED = "\"state\" != 'replaced'"
"""Of `job_impact`: not what stands for a point that has moved."""
FAILED_RUNS = f'"state" =~ /^({"|".join(sorted(FAILED))})$/'


def day_variable(tag: str, label: str, about: str) -> Json:
    """A tag of `impact_day`, which has a row a day: few series, however many jobs."""
    return drop_down(tag, label, about, tag_values(IMPACT_DAY, tag, IN_CLUSTER))
