"""What holds of Slurm's records, by whatever way they are asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EARLIEST_S", "NEVER_RAN", "gpus_of", "since_submission", "time_limit_s"]

EARLIEST_S = 1_000_000
"""Slurm takes an earlier time for a mistake."""
NEVER_RAN = frozenset({"PENDING", "REVOKED"})
"""REVOKED: a federation's sibling; another cluster ran it."""


_LONGEST_MIN = 0xFFFFFFF0
"""Beyond it are Slurm's marks for "none" and "not set"."""


def gpus_of(tres: Mapping[str, int]) -> int:
    """How many GPUs are among some resources.

    `gres/gpu` and `gres/gpu:a100` are the same devices: never their sum.
    """
    typed = sum(count for name, count in tres.items() if name.startswith("gres/gpu:"))
    return tres.get("gres/gpu", typed)


def since_submission(start_s: int | None, submit_s: int, elapsed_s: int | None) -> tuple[int | None, int | None]:
    """Start and elapsed time of a run.

    A resized job goes on in a new row, submitted at the resize, whose start is still the first one's.
    """
    if start_s is None or start_s >= submit_s:
        return start_s, elapsed_s
    return submit_s, None if elapsed_s is None else max(0, elapsed_s - (submit_s - start_s))


def time_limit_s(told: object) -> float | None:
    """How long a job might run, in seconds, of Slurm's minutes.

    None where there is no limit (0, `UNLIMITED`), or it is not told (`Partition_Limit`): what is no number costs no
    record.
    """
    minutes = told if isinstance(told, int) else 0
    if isinstance(told, str) and told.isascii() and told.isdigit() and len(told) <= 18:
        minutes = int(told)
    return minutes * 60.0 if 0 < minutes < _LONGEST_MIN else None
