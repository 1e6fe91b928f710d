"""Units as types: integer microjoules and nanoseconds keep the books exact.

Sums of floats drift; sums of integers do not. Everything on a node is counted in these two, and turned
into joules, kWh and seconds only where a person or an impact factor needs them.
"""

from __future__ import annotations

from typing import NewType

__all__ = ["NS", "Microjoules", "Nanoseconds", "joules", "kwh", "ns", "seconds"]

Microjoules = NewType("Microjoules", int)
Nanoseconds = NewType("Nanoseconds", int)

NS = 1_000_000_000


def ns(seconds: float) -> Nanoseconds:
    """Seconds to the nearest nanosecond."""
    return Nanoseconds(round(seconds * NS))


def seconds(duration: int) -> float:
    """Nanoseconds to seconds."""
    return duration / NS


def joules(energy: int) -> float:
    """Microjoules to joules."""
    return energy / 1e6


def kwh(energy_j: float) -> float:
    """Joules to kilowatt-hours."""
    return energy_j / 3.6e6
