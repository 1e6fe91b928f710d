"""From readings of power to an energy: the trapezoid between two that are near enough. Pure.

A gauge is only integrated where there is no counter. Two readings further apart than the longest gap say nothing of
the time between them.
"""

from __future__ import annotations

import msgspec

__all__ = ["Integral", "Sample", "trapezoid_uj"]


class Sample(msgspec.Struct, frozen=True):
    """Power in watts at a boot time."""

    w: float
    t_ns: int


def trapezoid_uj(before: Sample, after: Sample) -> int:
    """The energy between two samples, in microjoules; power is taken to change evenly."""
    return round((before.w + after.w) / 2 * (after.t_ns - before.t_ns) / 1000)


class Integral:
    """A gauge that is sampled more often than it is asked for, as a counter.

    Args:
        max_gap_ns: samples further apart than this start it anew.
        name: told in the epoch, so that one daemon's integral is never taken for another's.
    """

    def __init__(self, max_gap_ns: int, name: str) -> None:
        self._max_gap_ns = max_gap_ns
        self._name = name
        self._last: Sample | None = None
        self._parts: float = 0.0
        self._starts = 0

    @property
    def uj(self) -> int:
        """Since it started, in microjoules."""
        return round(self._parts)

    @property
    def epoch(self) -> str:
        """Changes whenever it starts anew."""
        return f"{self._name}.{self._starts}"

    def add(self, sample: Sample) -> bool:
        """Take in a sample; an older one than the last is left out.

        Returns:
            Whether it was taken.
        """
        last = self._last
        if last is not None and sample.t_ns <= last.t_ns:
            return False
        if last is None or sample.t_ns - last.t_ns > self._max_gap_ns:
            self._starts += 1
            self._parts = 0.0
        else:
            self._parts += (last.w + sample.w) / 2 * (sample.t_ns - last.t_ns) / 1000
        self._last = sample
        return True
