"""What goes through a time-series server: measurements, with their tags, fields, and how long each is kept.

Energies are integer microjoules and cumulative, so that first and last tell all between; times are integer
nanoseconds, stamps milliseconds since the epoch (UTC). A field that is not known is left out: absent is not zero.
Every field has one type for ever, which is what servers ask for. A point is known by its measurement, tags and stamp:
written again, it replaces itself.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from jobimpact.core.records import RunUse

__all__ = [
    "BOOKS",
    "EVER",
    "IMPACT_DAY",
    "JOB_ENERGY",
    "JOB_IMPACT",
    "JOB_LABEL",
    "JOB_PROGRESS",
    "JOB_RUN",
    "MEASUREMENTS",
    "NODE_BOOKS",
    "NODE_DOMAIN",
    "NODE_HOUR",
    "NODE_POWER",
    "PROFILE",
    "SOURCE_HEALTH",
    "Measurement",
    "Point",
    "Retained",
    "Value",
]

Retained = Literal["books", "profile", "ever"]
"""A retention policy (InfluxDB 1.x), or a database or bucket of its own (`jobimpact/books`)."""
BOOKS: Retained = "books"
"""What accounting reads each night, and keeps itself."""
PROFILE: Retained = "profile"
"""What people look at: weeks to months."""
EVER: Retained = "ever"
"""What is small and can be had again from the results: years."""

Value = int | float | str


class Measurement(msgspec.Struct, frozen=True):
    """A kind of point. Tags may be absent (`account`); so may every field."""

    name: str
    kept: Retained
    tags: tuple[str, ...]
    ints: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    """Words. A server that keeps numbers alone (VictoriaMetrics) has them as tags."""
    maps: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Of these, JSON objects of integers, and their names: as a tag, each change would make another series."""


class Point(msgspec.Struct, frozen=True):
    """One point: a value of each tag (None: it has none), and the fields that are known."""

    of: Measurement
    tags: tuple[str | None, ...]
    stamp_ms: int
    fields: dict[str, Value | None]


NODE_POWER = Measurement(
    "node_power", PROFILE, ("cluster", "node", "domain", "kind"), ("energy_uj", "unknown_ns"), ("watts",)
)
"""Every 10 s: a domain's cumulative energy, and its mean power since the point before, where all of that is known."""

NODE_DOMAIN = Measurement(
    "node_domain",
    BOOKS,
    ("cluster", "node", "domain", "kind"),
    ("stamp_ms", "energy_uj", "known_ns", "unknown_ns"),
    texts=("source", "method", "reason"),
)
"""Once a minute, in the same commit as all holders' `job_energy`: there the books can be cut."""

NODE_BOOKS = Measurement(
    "node_books",
    BOOKS,
    ("cluster", "node"),
    ("stamp_ms", "schema", "meter_uj", "parts_uj", "deficit_uj"),
    texts=("meter", "excludes", "release", "books"),
)
"""Once a minute: the node's own meter against its parts, over the windows that are settled. `books` is the file's own
name: another one counts from nothing."""

JOB_ENERGY = Measurement(
    "job_energy", BOOKS, ("cluster", "node", "run", "domain", "kind"), ("stamp_ms", "energy_uj", "known_ns")
)
"""A holder's cumulative energy of a domain: a run's at its start (0), once a minute and at its end; those of the
holders `idle` and `system` once a minute. `run` is the job's id and incarnation: `123`, `123#1`."""

JOB_RUN = Measurement(
    "job_run",
    BOOKS,
    ("cluster", "node", "run"),
    ("stamp_ms", "restart", "uid", "cpus", "mem_bytes", "start_ms", "end_ms", "elapsed_ns"),
    texts=("job", "state", "gpus", "flags", "held", "used"),
    maps=(("held", ("cpu", "dram", "gpu", "node")), ("used", RunUse.__struct_fields__)),
)
"""What the node's books say of a run, beside its `job_energy`: the latest holds."""

JOB_PROGRESS = Measurement(
    "job_progress", BOOKS, ("cluster", "node", "run", "metric"), ("stamp_ms", "step", "energy_uj"), ("value",)
)
"""What a job said of itself in mid run: a point of each metric, and one without where it told a step alone.
`energy_uj` is what the run had in this node's books then, over all domains."""

JOB_LABEL = Measurement("job_label", BOOKS, ("cluster", "node", "run", "label"), ("stamp_ms",), texts=("value",))
"""What it said that it is (`model`, `activity`, ...): the latest holds."""

SOURCE_HEALTH = Measurement(
    "source_health",
    PROFILE,
    ("cluster", "node", "source"),
    ("reads", "failures", "took_ns", "busy_ns"),
    ("age_s",),
    ("problem",),
)
"""Once a minute: how a source of readings does; `publisher` is the way to this server itself."""

NODE_HOUR = Measurement(
    "node_hour",
    EVER,
    ("cluster", "node", "kind"),
    floats=("measured_j", "jobs_j", "idle_j", "system_j", "known_part"),
)
"""By full hour, from the books, each night: who a node's energy belonged to."""

_INDICATORS = tuple(
    f"{of}_{what}"
    for of in ("use", "embodied")
    for what in ("gwp_kgco2e", "gwp_kgco2e_low", "gwp_kgco2e_high", "adp_kgsbe", "pe_mj")
)
"""Central values; of GWP the range as well."""

IMPACT_DAY = Measurement(
    "impact_day",
    EVER,
    ("cluster", "user", "account", "partition"),
    ("jobs", "failed_jobs", "not_measured_jobs", "not_assessed_jobs"),
    (
        *("energy_j", "failed_energy_j", "gpu_hours", "cpu_hours", "node_hours", "covered_node_hours", "coverage"),
        *_INDICATORS,
    ),
)
"""By midnight (UTC) of the day on which jobs ended: rewritten whole when anything in it changes, zeros included.

Coverages of several points are averaged by `sum(covered_node_hours) / sum(node_hours)`.
"""

JOB_IMPACT = Measurement(
    "job_impact",
    PROFILE,
    ("cluster", "user", "account", "partition", "run"),
    ("cpus", "gpus", "start_ms", "end_ms"),
    ("energy_j", "coverage", "elapsed_s", *_INDICATORS),
    ("job", "name", "state", "nodes"),
)
"""One point an incarnation of a job, stamped with its start; `run` is its key in the results (`123@1795190300`): its
id, and when it was submitted. A point whose tags changed since stays with the state `replaced`, and zeros."""

MEASUREMENTS = (
    *(NODE_POWER, NODE_DOMAIN, NODE_BOOKS, JOB_ENERGY, JOB_RUN, JOB_PROGRESS, JOB_LABEL, SOURCE_HEALTH),
    *(NODE_HOUR, IMPACT_DAY, JOB_IMPACT),
)
