"""From readings of power to an energy: the trapezoid between two that are near enough. Pure.

A gauge is only integrated where there is no counter. Two readings further apart than the longest gap say nothing of
the time between them.
"""

from __future__ import annotations

import msgspec

__all__ = ["Integral", "Sample", "Steady", "trapezoid_uj"]


class Sample(msgspec.Struct, frozen=True):
    """Power in watts at a boot time."""

    w: float
    t_ns: int


def trapezoid_uj(before: Sample, after: Sample) -> int:
    """The energy between two samples, in microjoules; power is taken to change evenly."""
    return round(_area_uj(before, after))


def _area_uj(before: Sample, after: Sample) -> float:
    return (before.w + after.w) / 2 * (after.t_ns - before.t_ns) / 1000


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
            self._parts += _area_uj(last, sample)
        self._last = sample
        return True


STUCK_NS = 300 * 10**9
STUCK_SAMPLES = 20
CHANGE = 0.25
"""A load that changes by less than this part of its largest may leave a coarse sensor where it is."""


class Steady(msgspec.Struct):
    """For how long a gauge has said the same, and what the load has done meanwhile."""

    w: float | None = None
    since_ns: int = 0
    samples: int = 0
    last_ns: int = 0
    load: int | None = None
    least: float | None = None
    most: float = 0.0

    def is_stuck(self, w: float, t_ns: int, load: int | None) -> bool:
        """Take in a sample, and the load until now.

        Args:
            w: the gauge's reading.
            t_ns: when it came; later than the last one.
            load: anything whose rate the power should follow, cumulative until then, in a unit of its own; None: not
                known now.

        Returns:
            Whether the gauge has said the same for minutes while the load changed.
        """
        if w != self.w:
            self.w, self.since_ns, self.samples, self.least, self.most = w, t_ns, 1, None, 0.0
        elif load is None:
            self.least, self.most = None, 0.0
        elif t_ns > self.last_ns and self.load is not None:
            self.samples += 1
            rate = max(0, load - self.load) / (t_ns - self.last_ns)
            self.least = rate if self.least is None else min(self.least, rate)
            self.most = max(self.most, rate)
        self.last_ns, self.load = t_ns, load
        changed = self.least is not None and self.most - self.least > CHANGE * self.most
        return changed and self.samples >= STUCK_SAMPLES and t_ns - self.since_ns >= STUCK_NS
