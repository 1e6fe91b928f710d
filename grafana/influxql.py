"""InfluxQL as the dashboards ask it: names in quotes, variables only as escaped regular expressions.

The format `:regex` stands on every variable. Without it Grafana's data source leaves alone what begins with a digit,
and its `:singlequote` does not escape a backslash: both let a value out of its place.
"""

from __future__ import annotations

from jobimpact.core.series import JOB_ENERGY, Measurement

__all__ = [
    "KNOWN",
    "LIVE",
    "PARTS",
    "TIME",
    "equals",
    "inner",
    "power",
    "select",
    "source",
    "spread",
    "tag_values",
    "whole",
]

TIME = "$timeFilter"
LIVE = "time > now() - 5m"
"""What is now: nodes send every minute at least."""
PARTS = "\"kind\" != 'node'"
"""Domains that add up: the node's own meter has them all within it."""


def source(of: Measurement) -> str:
    """A measurement with its retention policy."""
    return f'"{of.kept}"."{of.name}"'


def equals(tag: str, variable: str | None = None) -> str:
    """A tag is one of a variable's values."""
    return f'"{tag}" =~ /^${{{variable or tag}:regex}}$/'


def select(what: str, of: str, *where: str, by: tuple[str, ...] = (), every: str = "") -> str:
    """A statement; buckets of time without a point are left out.

    Args:
        what: the columns.
        of: the measurement, or a statement in brackets.
        where: conditions that all hold.
        by: tags.
        every: buckets of time.
    """
    groups = [f"time({every})"] * bool(every) + [f'"{tag}"' for tag in by]
    grouped = f" GROUP BY {', '.join(groups)}" if groups else ""
    among = f" WHERE {' AND '.join(where)}" if where else ""
    fill = " fill(none)" if every else ""
    return f"SELECT {what} FROM {of}{among}{grouped}{fill}"  # noqa: S608 (our own words; values are Grafana's to escape)


def inner(what: str, of: str, *where: str, by: tuple[str, ...] = (), every: str = "") -> str:
    """A statement to select from."""
    return f"({select(what, of, *where, by=by, every=every)})"


def whole(what: str, of: Measurement, *where: str, by: tuple[str, ...] = (), every: str = "") -> str:
    """A statement over the range that is looked at."""
    return select(what, source(of), *where, TIME, by=by, every=every)


def spread(*where: str, by: tuple[str, ...] = ()) -> str:
    """Watts of many holders: what came in each bucket, over the whole of it, so that short jobs add up to the node's.

    Buckets must be some minutes long: points come once a minute, and what came in a gap stands in the bucket after it.

    Args:
        where: conditions.
        by: the tags to keep.
    """
    grown = 'non_negative_difference("energy_uj") AS "e", non_negative_difference("known_ns") AS "known"'
    each = inner(grown, source(JOB_ENERGY), *where, TIME, by=JOB_ENERGY.tags)
    return select('sum("e") / ($__interval_ms * 1000)', each, KNOWN, TIME, by=by, every="$__interval")


def power(*where: str, by: tuple[str, ...] = ()) -> str:
    """Watts of one job out of its cumulative energies, from point to point, so that neither rhythm nor gap matters.

    Of jobs that follow each other both would have the whole of a bucket: `spread` is for those.

    Args:
        where: conditions.
        by: the tags to keep.
    """
    of, series = source(JOB_ENERGY), JOB_ENERGY.tags
    grown = 'non_negative_derivative("energy_uj", 1s) / 1000000 AS "w", non_negative_difference("known_ns") AS "known"'
    each = inner(grown, of, *where, TIME, by=series)
    mean = inner('mean("w") AS "w"', each, KNOWN, TIME, by=series, every="$__interval")
    return select('sum("w")', mean, TIME, by=by, every="$__interval")


KNOWN = '"known" > 0'
"""What is not known has no growth, and is not 0."""


def tag_values(of: Measurement, tag: str, *where: str) -> str:
    """What a drop-down lists."""
    among = f" WHERE {' AND '.join(where)}" if where else ""
    return f'SHOW TAG VALUES FROM {source(of)} WITH KEY = "{tag}"{among}'
