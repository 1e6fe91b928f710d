"""What counts as a job that ran, as one that failed, and how much of it is measured. Pure, and the same everywhere.

A job *failed* where its scheduler says that it ended otherwise than by its own success: what it used was used for
nothing, unless it had saved its work. So its energy is the most that was wasted, not a finding of itself. A job that
was cancelled before it ran has used nothing, and did not fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum

__all__ = ["FAILED", "coverage_of", "has_failed", "has_run", "known_sum"]

FAILED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REQUEUED"),
        "TIMEOUT",
    }
)
"""`REQUEUED` and `PREEMPTED` are of the incarnation that ended so; the next one has a row of its own. `RESIZING` is
none: the job went on with other nodes. Nor is `REVOKED`: it ran in another cluster."""


def has_run(start_s: float | None, energy_j: float | None) -> bool:
    """Whether it had nodes. Slurm forgets the start of one that is requeued in its first seconds; its nodes do not."""
    return start_s is not None or energy_j != 0


def has_failed(state: str, start_s: float | None, energy_j: float | None) -> bool:
    """It ran, and ended in a state of FAILED."""
    return state in FAILED and has_run(start_s, energy_j)


def known_sum(values: Iterable[float | None]) -> float | None:
    """The sum of what is known, whatever the order: 0 of nothing, None where there is something and nothing known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return fsum(known) if known or not found else None


def coverage_of(jobs: Iterable[tuple[float, float]]) -> float | None:
    """The coverage of several jobs.

    Args:
        jobs: of each its node-hours, by which it is weighted, and its own coverage (0 to 1).

    Returns:
        0 to 1; None: no job had a node for any time.
    """
    found = list(jobs)
    whole = fsum(hours for hours, _ in found)
    return min(fsum(hours * coverage for hours, coverage in found) / whole, 1.0) if whole else None
