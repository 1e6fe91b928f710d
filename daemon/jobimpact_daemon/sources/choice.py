"""Which sources' domains are booked, where several meter the same part. Pure.

A part is booked once: of the sources that know it, by the most trusted one that can read it. The meters of the whole
node all have books of their own; which of them the rest is taken from is the bookkeeper's choice.
"""

from __future__ import annotations

from collections.abc import Mapping

from jobimpact.core.records import Absent, Domain, DomainKind, Reading

__all__ = ["Choice", "choose"]

TRUST: dict[DomainKind, tuple[str, ...]] = {
    "cpu": ("rapl", "hwmon", "pmcounters", "model"),
    "dram": ("rapl", "hwmon", "pmcounters"),
    "gpu": ("nvml", "amdsmi", "pmcounters"),
}
"""The most trusted first."""
DRIVERS = {"nvml", "amdsmi"}
"""NVIDIA's and AMD's GPUs may stand in one node: neither takes the other's place."""

Choice = dict[DomainKind, frozenset[str]]
"""The sources of each kind of part."""


def choose(found: Mapping[str, list[Domain]], readings: Mapping[str, Mapping[str, Reading]]) -> Choice:
    """The sources of each kind of part.

    Args:
        found: each source's domains.
        readings: what each source has read of them; a failure is no absence.

    Returns:
        The kinds that any source knows. A part that nobody can read is told of by who knows why.
    """
    chosen: Choice = {}
    for kind, trusted in TRUST.items():
        if kind == "dram" and "hwmon" in chosen.get("cpu", frozenset()):
            continue  # a Grace socket's meter has its memory in it
        there = [source for source in trusted if any(domain.kind == kind for domain in found.get(source, []))]
        able = [source for source in there if _can_read(found[source], readings.get(source, {}), kind)] or there
        drivers = [source for source in able if source in DRIVERS] if kind == "gpu" else []
        if able:
            chosen[kind] = frozenset(drivers or able[:1])
    return chosen


def _can_read(domains: list[Domain], readings: Mapping[str, Reading], kind: DomainKind) -> bool:
    names = [domain.name for domain in domains if domain.kind == kind]
    return any(not isinstance(readings.get(name), Absent) for name in names)
