"""What is found of a job, and of an array. Pure: rules in order, and who is not judged at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import fsum
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobimpact.core.config import Findings
from jobimpact.findings.finding import Finding
from jobimpact.findings.rules import ENDINGS, USES
from jobimpact.findings.use import stuck_meters
from jobimpact.results.outcome import has_failed
from jobimpact.results.record import JobResult

if TYPE_CHECKING:
    from jobimpact.answers.query import Ending

__all__ = ["of_array", "of_job"]

_ALIKE = frozenset({"FAILED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"})
"""What the same mistake brings about in one task after another."""
_MANY = 0.1
"""What less than this part of an array's tasks have is told of these alone."""


def of_job(one: JobResult, limits: Findings, price_per_kwh: float | None = None) -> tuple[Finding, ...]:
    """What is found of one incarnation of a job.

    Args:
        one: its result.
        limits: the site's thresholds.
        price_per_kwh: what the site pays for a kWh; None: no money is named.

    Returns:
        How it ended if that was no success, then its use, what weighs most first. A run that is not over, is too
        short, or is measured too little is not judged by its use; of the last a finding of the kind `doubt` says why.
    """
    return tuple(_priced(found, price_per_kwh) for found in [*_ending(one), *_use(one, limits)])


def _ending(one: JobResult) -> Iterator[Finding]:
    ending = ENDINGS.get(one.state)
    if ending and has_failed(one.state, one.start_s, one.energy_j):
        yield Finding(
            ending.rule,
            "ending",
            one.elapsed_s,
            "seconds",
            of=one.time_limit_s,
            joules=one.energy_j,
            said=one.exit_code,
        )


def _use(one: JobResult, limits: Findings) -> Iterator[Finding]:
    if one.end_s is None or one.start_s is None or (one.elapsed_s or 0.0) < limits.min_run_s:
        return
    if one.energy_j is None:
        return  # the report's first line says so, and why
    stuck = stuck_meters(one)
    if stuck:
        yield Finding("meter_stuck", "doubt", float(len(stuck)), "part", said=stuck[0].removesuffix(" stuck"))
    elif one.coverage < limits.min_coverage:
        yield Finding("coverage_low", "doubt", one.coverage, "part", threshold=limits.min_coverage)
    else:
        checked = (rule.check(one, limits) for rule in USES)
        yield from (found for found in checked if found is not None)


def of_array(
    endings: Sequence[Ending], jobs: Sequence[JobResult], limits: Findings, price_per_kwh: float | None = None
) -> tuple[Finding, ...]:
    """What is found of an array, or a heterogeneous job: repeated failures, and what its tasks have in common.

    Args:
        endings: how its tasks ended (answers.query.Sums).
        jobs: the tasks in full; none of an array that is too large for that.
        limits: the site's thresholds.
        price_per_kwh: what the site pays for a kWh.

    Returns:
        Repeated failures of an array by their energy, the largest first; then each rule that a tenth of the tasks
        have, with sums over these tasks.
    """
    parts = bool(jobs) and all(one.array_id is None for one in jobs)
    alike = [] if parts else sorted(_repeated(endings, limits), key=lambda found: -(found.joules or 0.0))
    common = (replace(found, each="part") if parts else found for found in _common(jobs, limits))
    return tuple(_priced(found, price_per_kwh) for found in [*alike, *common])


def _repeated(endings: Sequence[Ending], limits: Findings) -> Iterator[Finding]:
    tasks = sum(ending.jobs for ending in endings)
    for ending in endings:
        if ending.state in _ALIKE and ending.jobs >= limits.min_array_failures:
            known = ending.jobs if ending.measured is None else ending.measured
            after_first = None if ending.energy_j is None or known < 2 else ending.energy_j * (known - 1) / known
            yield Finding(
                f"repeated_{ENDINGS[ending.state].rule}",
                "ending",
                float(ending.jobs),
                "tasks",
                threshold=float(limits.min_array_failures),
                of=float(tasks),
                joules=after_first,
                least=after_first is not None and known < ending.jobs,
                said=ending.exit_code,
                tasks=ending.jobs,
                of_tasks=tasks,
            )


def _common(jobs: Sequence[JobResult], limits: Findings) -> Iterator[Finding]:
    by_rule: dict[str, list[Finding]] = {}
    for one in jobs:
        for found in _use(one, limits):
            by_rule.setdefault(found.rule, []).append(found)
    for rule in ("meter_stuck", "coverage_low", *(use.rule for use in USES)):
        alike = by_rule.get(rule, [])
        if alike and len(alike) >= _MANY * len(jobs):
            yield _together(alike, len(jobs))


def _together(alike: list[Finding], tasks: int) -> Finding:
    """The finding of the middle task, with sums over all that have it, and what is enough for each."""
    middle = sorted(alike, key=lambda found: found.value or 0.0)[len(alike) // 2]
    return replace(
        middle,
        joules=_sum(found.joules for found in alike),
        least=any(found.least or found.joules is None for found in alike),
        held_j=_sum(found.held_j for found in alike),
        gpu_hours=_sum(found.gpu_hours for found in alike),
        cpu_hours=_sum(found.cpu_hours for found in alike),
        spare_bytes=None,
        spare_s=None,
        advised=max((found.advised for found in alike if found.advised is not None), default=None),
        tasks=len(alike),
        of_tasks=tasks,
    )


def _sum(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) if known else None


def _priced(found: Finding, price_per_kwh: float | None) -> Finding:
    if price_per_kwh is None or found.kwh is None:
        return found
    return replace(found, money=found.kwh * price_per_kwh)
