"""What a job used of what it held, over its nodes: None wherever one node did not tell. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from jobimpact.core.records import RunUse
from jobimpact.core.units import NS
from jobimpact.results.record import JobResult

__all__ = [
    "GpusUsed",
    "all_gpus_metered",
    "cpu_use",
    "gpus_used",
    "kind_energy",
    "memory_by_node",
    "stuck_meters",
    "unused_gpus_energy",
]

_GUESSED = "memory share from cpus"
"""A node's flag of a run."""


class GpusUsed(msgspec.Struct, frozen=True):
    """GPUs whose utilisation is known."""

    seen: int
    unused: int
    busy_s: float | None
    """Utilisation x time; None: not known for all of its nodes. So is `known_s`, GPUs x time."""
    known_s: float | None

    @property
    def use(self) -> float | None:
        """Mean utilisation, 0 to 1, of those that were used at all; an unused one counts as known as long as they."""
        if self.busy_s is None or not self.known_s or self.unused >= self.seen:
            return None
        return min(self.busy_s / (self.known_s * (self.seen - self.unused) / self.seen), 1.0)


def _nodes(one: JobResult) -> Iterator[tuple[dict[str, Any], RunUse | None]]:
    for node in one.energy["nodes"].values():
        told = node.get("use")  # results of earlier releases have none
        yield node, None if told is None else msgspec.convert(told, RunUse)


def cpu_use(one: JobResult) -> float | None:
    """CPU time by what its CPUs could have given: 0 to about 1; None: not known of each of its nodes."""
    used = [use.cpu_ns if use else None for _, use in _nodes(one)]
    known = [ns for ns in used if ns is not None]
    if not known or len(known) < len(used) or not one.cpus or not one.elapsed_s:
        return None
    return sum(known) / NS / (one.cpus * one.elapsed_s)


def gpus_used(one: JobResult) -> GpusUsed | None:
    """Over the nodes that told; None: none did, or there is no GPU."""
    told = [use for _, use in _nodes(one) if use is not None and use.gpus_seen]
    if not told:
        return None
    unused = [use.gpus_unused for use in told]
    busy = [use.gpu_busy_ns for use in told]
    known = [use.gpu_known_ns for use in told]
    whole = None not in busy and None not in known
    return GpusUsed(
        seen=sum(use.gpus_seen or 0 for use in told),
        unused=sum(number or 0 for number in unused),
        busy_s=sum(ns or 0 for ns in busy) / NS if whole else None,
        known_s=sum(ns or 0 for ns in known) / NS if whole else None,
    )


def memory_by_node(one: JobResult) -> list[tuple[float, float]]:
    """Bytes at the peak and bytes held, on each of its nodes; empty: not known of each."""
    found = []
    nodes = one.energy["nodes"]
    for node, use in _nodes(one):
        peak = use.mem_peak_bytes if use else None
        # A node that was not told what a job holds of its memory takes it by the CPUs: then the record knows better.
        guessed = len(nodes) == 1 or _GUESSED in (node.get("flags") or ())
        held = (one.mem_bytes or 0) / len(nodes) if guessed else node.get("mem_bytes")
        if not held or peak is None:
            return []
        found.append((float(peak), float(held)))
    return found


def kind_energy(one: JobResult, kind: str) -> float | None:
    """Joules of all its parts of a kind; None: not known."""
    found = one.energy["domains"].get(kind)
    return None if found is None else found["energy_j"]


def unused_gpus_energy(one: JobResult) -> float | None:
    """Energy of the GPUs that were never used.

    The books tell how many these were, not which. The ones with the least energy stand for them, so that it is a
    lower bound; where a node's GPUs were all unused it is theirs. GPUs without a known energy are taken to be unused
    ones first.

    Returns:
        Joules; None: of none of them known.
    """
    total, known = 0.0, False
    for node, use in _nodes(one):
        if use is None or not use.gpus_unused:
            continue
        gpus = [domain["energy_j"] for domain in node.get("domains", {}).values() if domain["kind"] == "gpu"]
        metered = sorted(joules for joules in gpus if joules is not None)
        held = max(len(node.get("gpus") or ()), len(gpus))
        least = metered[: max(use.gpus_unused - (held - len(metered)), 0)]
        total, known = total + sum(least), known or bool(least)
    return total if known else None


def all_gpus_metered(one: JobResult) -> bool:
    """Whether the energy of each of its GPUs is known, for all of its time."""
    found = one.energy["domains"].get("gpu")
    return found is not None and found["energy_j"] is not None and found["coverage"] >= 1


def stuck_meters(one: JobResult) -> list[str]:
    """Meters of parts that stood still for a time, as the books name them."""
    return [
        flag
        for flag in one.energy["flags"]
        if flag.endswith(" stuck") and not flag.rpartition(": ")[2].startswith("node:")
    ]
