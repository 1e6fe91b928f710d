"""The rules: each a name, what it measures, the key of its threshold, and a small pure function. Pure.

What is not known gives no finding: an unmeasured GPU is not an unused one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from jobimpact.core.config import Findings
from jobimpact.findings.finding import Finding
from jobimpact.findings.use import (
    GpusUsed,
    all_gpus_metered,
    cpu_use,
    gpus_used,
    kind_energy,
    memory_by_node,
    unused_gpus_energy,
)
from jobimpact.results.record import JobResult

__all__ = ["BUSY", "ENDINGS", "USES", "Ending", "Use"]

BUSY = 0.9
"""CPUs in use for this part of the time hold their GPUs up."""
HEADROOM = 1.2
"""What is advised, by what was seen."""
LONG_S = 3600.0
"""A limit that is too long by less than this matters to no queue."""
LARGE_BYTES = float(4 << 30)
"""Nor does memory, on each node."""


class Ending(msgspec.Struct, frozen=True):
    """A run that ended otherwise than by its own success."""

    state: str
    rule: str
    own: bool = True
    """Its owner can do something about it."""


ENDINGS = {
    ending.state: ending
    for ending in (
        Ending("FAILED", "failed"),
        Ending("TIMEOUT", "timeout"),
        Ending("OUT_OF_MEMORY", "out_of_memory"),
        Ending("CANCELLED", "cancelled"),
        Ending("DEADLINE", "deadline"),
        Ending("NODE_FAIL", "node_fail", own=False),
        Ending("BOOT_FAIL", "boot_fail", own=False),
        Ending("PREEMPTED", "preempted", own=False),
        Ending("REQUEUED", "requeued", own=False),
    )
}


class Use(msgspec.Struct, frozen=True):
    """A rule on how a job used what it held."""

    rule: str
    measures: str
    key: str | None
    """Its threshold, in the section `findings`; None: it needs none."""
    check: Callable[[JobResult, Findings], Finding | None]


def _gpus_unused(one: JobResult, limits: Findings) -> Finding | None:
    gpus = gpus_used(one)
    if gpus is None or not gpus.unused or not _known(gpus, gpus.seen, one, limits):
        return None
    held = max(one.gpus or 0, gpus.seen)
    joules = unused_gpus_energy(one)
    hours = None if one.elapsed_s is None else gpus.unused * one.elapsed_s / 3600
    return Finding(
        "gpus_unused",
        "use",
        float(gpus.unused),
        "gpus",
        of=float(held),
        seen=float(gpus.seen),
        joules=joules,
        least=joules is not None and (gpus.unused < held or not all_gpus_metered(one)),
        gpu_hours=hours,
    )


def _known(gpus: GpusUsed, number: int, one: JobResult, limits: Findings) -> bool:
    """Whether the utilisation of so many GPUs is known for long enough: some moments say nothing of the others."""
    return gpus.known_s is not None and gpus.known_s >= limits.min_coverage * number * (one.elapsed_s or 0.0)


def _gpu_use(one: JobResult, limits: Findings) -> float | None:
    """Mean utilisation of its used GPUs if that is known for long enough and low; else None."""
    gpus = gpus_used(one)
    if gpus is None or gpus.use is None or gpus.use >= limits.gpu_use:
        return None
    return gpus.use if _known(gpus, max(one.gpus or 0, gpus.seen), one, limits) else None


def _low_gpu(one: JobResult, limits: Findings, rule: str) -> Finding | None:
    gpus, use = gpus_used(one), _gpu_use(one, limits)
    if gpus is None or use is None:
        return None
    held, unused = kind_energy(one, "gpu"), unused_gpus_energy(one) if gpus.unused else 0.0
    hours = None if one.elapsed_s is None else (gpus.seen - gpus.unused) * one.elapsed_s * (1 - use) / 3600
    return Finding(
        rule,
        "use",
        use,
        "part",
        threshold=limits.gpu_use,
        held_j=None if held is None or unused is None else max(held - unused, 0.0),
        gpu_hours=hours,
    )


def _is_cpu_bound(one: JobResult) -> bool:
    return (cpu_use(one) or 0.0) >= BUSY


def _cpu_bound(one: JobResult, limits: Findings) -> Finding | None:
    if not _is_cpu_bound(one):
        return None
    found = _low_gpu(one, limits, "cpu_bound")
    return found and msgspec.structs.replace(found, seen=cpu_use(one))


def _gpu_low(one: JobResult, limits: Findings) -> Finding | None:
    return None if _is_cpu_bound(one) else _low_gpu(one, limits, "gpu_low")


def _cpu_low(one: JobResult, limits: Findings) -> Finding | None:
    """Of jobs without a GPU, which is the dearer part by far; of one core there is nothing less to ask for."""
    use = cpu_use(one)
    if use is None or use >= limits.cpu_use or one.exclusive or one.gpus or (one.cpus or 0) <= 2 * len(one.nodes):
        return None
    return Finding(
        "cpu_low",
        "use",
        use,
        "part",
        threshold=limits.cpu_use,
        of=float(one.cpus or 0),
        held_j=kind_energy(one, "cpu"),
        cpu_hours=(1 - use) * (one.cpus or 0) * (one.elapsed_s or 0.0) / 3600,
    )


def _memory_low(one: JobResult, limits: Findings) -> Finding | None:
    """Of runs that completed: what another one would have needed later is not known."""
    nodes = memory_by_node(one)
    if one.state != "COMPLETED" or not nodes or one.exclusive or one.mem_bytes is None:
        return None
    # Judged by the node that came closest to what it held; asked for is the same on each, so enough for the most.
    peak, held = max(nodes, key=lambda node: node[0] / node[1])
    advised = _round_bytes(max(most for most, _ in nodes) * HEADROOM)
    spare = math.fsum(max(has - advised, 0.0) for _, has in nodes)
    if peak / held >= limits.memory_use or spare < LARGE_BYTES * len(nodes):
        return None
    return Finding(
        "memory_low",
        "use",
        peak / held,
        "part",
        threshold=limits.memory_use,
        of=held,
        seen=peak,
        advised=advised,
        spare_bytes=spare,
    )


def _time_low(one: JobResult, limits: Findings) -> Finding | None:
    limit_s, ran_s = one.time_limit_s, one.elapsed_s
    if one.state != "COMPLETED" or not limit_s or ran_s is None:
        return None
    advised = _round_time(ran_s * HEADROOM)
    if ran_s / limit_s >= limits.time_use or limit_s - advised < LONG_S:
        return None
    return Finding(
        "time_low",
        "use",
        ran_s / limit_s,
        "part",
        threshold=limits.time_use,
        of=limit_s,
        seen=ran_s,
        advised=advised,
        spare_s=limit_s - advised,
    )


def _round_bytes(size: float) -> float:
    """Up to whole GiB, above 16 GiB to four of them."""
    step = float(1 << 30) if size <= 16 << 30 else float(4 << 30)
    return max(math.ceil(size / step), 1) * step


def _round_time(seconds: float) -> float:
    """Up to ten minutes, above six hours to whole hours."""
    step = 600.0 if seconds <= 6 * 3600 else 3600.0
    return max(math.ceil(seconds / step), 1) * step


USES = (
    Use("gpus_unused", "GPUs that were never seen busy", None, _gpus_unused),
    Use("cpu_bound", "mean utilisation of the GPUs, while the CPUs are busy", "gpu_use", _cpu_bound),
    Use("gpu_low", "mean utilisation of the GPUs", "gpu_use", _gpu_low),
    Use("cpu_low", "CPU time by CPUs x time", "cpu_use", _cpu_low),
    Use("memory_low", "peak memory by memory held", "memory_use", _memory_low),
    Use("time_low", "time by the time limit", "time_use", _time_low),
)
"""In the order in which they are told: what weighs most first."""
