"""What is shown of a user and of a lab alike: by day, in sum, and the jobs that cost most."""

from __future__ import annotations

from grafana.influxql import TIME, inner, select, source, whole
from grafana.model import JOBS, Json, bars, column, cover, named, narrow, queries, row, stat, steps, table
from grafana.views.shared import (
    COVERAGE,
    COVERED,
    FAILED_SHARE,
    IMPACT_COLUMNS,
    IMPACTS,
    IN_CLUSTER,
    PAIR,
    RECORDED,
)
from jobimpact.core.series import IMPACT_DAY, JOB_IMPACT

__all__ = ["by_day", "divided", "sums", "top_jobs"]

_NONE = "No job has ended in this range"
_PAIR = ("use", "embodied")
_MEAN = named(
    "mean of 7 days",
    custom__drawStyle="line",
    custom__lineWidth=2,
    custom__fillOpacity=0,
    custom__stacking={"mode": "none", "group": "B"},
)
_LATELY = "time > now() - 28d"
_BEFORE = "time > now() - 56d AND time <= now() - 28d"


def sums(who: str) -> list[Json]:
    """The range in figures.

    Args:
        who: the condition that tells whose.
    """

    def asked(what: str) -> list[Json]:
        return queries(whole(what, IMPACT_DAY, IN_CLUSTER, who), shape="table")

    def pair(field: str, factor: str = "") -> list[Json]:
        return asked(", ".join(f'sum("{of}_{field}"){factor} AS "{of}"' for of in _PAIR))

    def energy_of(when: str) -> str:
        return select('sum("energy_j") / 3600000', source(IMPACT_DAY), IN_CLUSTER, who, when)

    both = "`use` is from electricity, `embodied` the share of making the hardware."
    return row(
        "In this range",
        stat(
            "Jobs",
            "Jobs that ended in this range, and those of them that failed.",
            "none",
            asked('sum("jobs") AS "jobs", sum("failed_jobs") AS "failed"'),
            none=_NONE,
            size=(4, 4),
        ),
        stat(
            "Energy",
            "Of the jobs that ended in this range.",
            "kwatth",
            asked('sum("energy_j") / 3600000 AS "energy"'),
            none=_NONE,
            size=(4, 4),
        ),
        stat(
            "Energy of failed jobs",
            "The part of the energy that failed jobs used. What they had saved by then is not lost.",
            "percentunit",
            asked(FAILED_SHARE),
            none=_NONE,
            limits=steps((None, "green"), (0.05, "yellow"), (0.15, "red")),
            size=(4, 4),
            decimals=1,
        ),
        stat(
            "Hours",
            "GPUs and CPUs times the hours for which they were held.",
            "none",
            asked('sum("gpu_hours") AS "GPU hours", sum("cpu_hours") AS "CPU hours"'),
            none=_NONE,
            size=(4, 4),
            decimals=1,
        ),
        stat(
            "Coverage",
            "The part of the jobs' node-hours for which their energy is known.",
            "percentunit",
            asked(COVERED),
            none=_NONE,
            limits=COVERAGE,
            size=(4, 4),
            max=1,
        ),
        stat(
            "28 days, and the 28 before",
            "Energy of the last 28 days beside that of the 28 days before them, whatever range is looked at.",
            "kwatth",
            queries((energy_of(_LATELY), "28 days"), (energy_of(_BEFORE), "before")),
            none="No job has ended in the last 56 days",
            size=(4, 4),
        ),
        stat("GWP", f"Global warming potential: {both}", "suffix:kgCO2e", pair("gwp_kgco2e"), none=_NONE, size=(6, 4)),
        stat(
            "GWP, range",
            "The low and high ends of both together: how sure the factors and the hardware's figures are.",
            "suffix:kgCO2e",
            asked(
                ", ".join(
                    f'sum("use_gwp_kgco2e_{end}") + sum("embodied_gwp_kgco2e_{end}") AS "{end}"'
                    for end in ("low", "high")
                )
            ),
            none="No range is known",
            size=(6, 4),
        ),
        stat(
            "ADP",
            f"Abiotic depletion, minerals as antimony: {both}",
            "si:gSbe",
            pair("adp_kgsbe", " * 1000"),
            none=_NONE,
            size=(6, 4),
        ),
        stat("PE", f"Primary energy: {both}", "joule", pair("pe_mj", " * 1000000"), none=_NONE, size=(6, 4)),
    )


def by_day(who: str) -> list[Json]:
    """Each day's energy, impacts and jobs."""

    def daily(what: str) -> str:
        return whole(what, IMPACT_DAY, IN_CLUSTER, who, every="1d")

    def impact(title: str, about: str, unit: str, field: str, factor: str = "") -> Json:
        each = ", ".join(f'sum("{of}_{field}"){factor} AS "{of}"' for of in _PAIR)
        asked = queries((daily(each), "$col"))
        return bars(f"{title} by day", about, unit, asked, none=_NONE, overrides=PAIR, calcs=["sum"])

    return row(
        "By day (UTC)",
        bars(
            "Energy by day",
            "Of the jobs that ended on each day; the line is the mean of seven days that had any, one's own trend.",
            "kwatth",
            queries(
                (daily('sum("energy_j") / 3600000'), "energy"),
                (daily('moving_average(sum("energy_j"), 7) / 3600000'), "mean of 7 days"),
            ),
            none=_NONE,
            overrides=[_MEAN],
            calcs=["sum", "mean"],
        ),
        impact(
            "GWP",
            "Greenhouse gases of the jobs that ended on each day: of their electricity, and of making the hardware.",
            "suffix:kgCO2e",
            "gwp_kgco2e",
        ),
        impact(
            "ADP",
            "Minerals and metals, as antimony: nearly all of it is in the hardware.",
            "si:gSbe",
            "adp_kgsbe",
            " * 1000",
        ),
        impact("PE", "Primary energy of the jobs that ended on each day.", "joule", "pe_mj", " * 1000000"),
        bars(
            "Jobs by day",
            "Jobs that ended on each day, and those that failed.",
            "none",
            queries(
                (
                    daily('sum("jobs") - sum("failed_jobs") AS "ended well", sum("failed_jobs") AS "failed"'),
                    "$col",
                )
            ),
            none=_NONE,
            calcs=["sum"],
            overrides=[
                named("failed", color={"mode": "fixed", "fixedColor": "red"}),
                named("ended well", color={"mode": "fixed", "fixedColor": "green"}),
            ],
        ),
        bars(
            "Energy of failed jobs by day",
            "The part of each day's energy that failed jobs used.",
            "percentunit",
            queries((daily(FAILED_SHARE), "failed")),
            none=_NONE,
            stacked=False,
            calcs=["mean", "max"],
            limits=steps((None, "green"), (0.05, "yellow"), (0.15, "red")),
            high=0.2,
            overrides=[named("failed", color=cover("red"))],
        ),
    )


def top_jobs(who: str, also: tuple[str, ...]) -> list[Json]:
    """The jobs that cost most.

    Args:
        who: the condition that tells whose.
        also: tags that are shown, too.
    """
    fields = (*also, "partition", "state", "gpus", "elapsed_s", "coverage", "end_ms")
    named_fields = ", ".join(f'"{one}"' for one in ("run", "job", "name", *fields))
    gwp = '"use_gwp_kgco2e", "embodied_gwp_kgco2e"'
    top = inner(
        f'top("energy_j", 20) AS "energy_j", {named_fields}, {gwp}',
        source(JOB_IMPACT),
        IN_CLUSTER,
        who,
        RECORDED,
        TIME,
    )
    whose = ", ".join(f'"{one}"' for one in (*also, "partition", "job", "name"))
    return row(
        "Jobs",
        table(
            "Jobs that used most energy",
            "The 20 jobs that started in this range and used most. The number leads to the job's view, its end to "
            "the same at its own time. Names are the users' own.",
            queries(
                select(
                    '"run", "energy_j" / 3600000 AS "energy", "use_gwp_kgco2e" * 1000 AS "use GWP", '
                    '"embodied_gwp_kgco2e" * 1000 AS "embodied GWP", "state", "end_ms" AS "ended", '
                    f'"elapsed_s" AS "run time", "gpus", "coverage", {whose}',
                    top,
                ),
                shape="table",
            ),
            [
                *JOBS,
                column("energy", "kwatth"),
                column("coverage", "percentunit"),
                column("run time", "s"),
                *(column(f"{of} GWP", "si:gCO2e") for of in _PAIR),
                *narrow(75, "gpus"),
                *narrow(100, "energy", "run time", "coverage", "partition", "job", *also),
                *narrow(120, "state", "use GWP"),
                *narrow(150, "embodied GWP"),
            ],
            none="No job that started in this range is accounted yet",
            stamped=True,
            sort="energy",
            size=(24, 10),
        ),
    )


def divided(who: str, tag: str, label: str, links: list[Json]) -> Json:
    """The range's sums by another tag."""
    return table(
        f"By {label}",
        f"The jobs that ended in this range, by {label}. `failed` is the part of the jobs that failed.",
        queries(whole(IMPACTS, IMPACT_DAY, IN_CLUSTER, who, by=(tag,)), shape="table"),
        [column(tag, links=links), *IMPACT_COLUMNS],
        none=_NONE,
        sort="energy",
        size=(24, 8),
    )
