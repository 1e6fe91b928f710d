"""Who held what of one node, and for how long, when jobs share it and may hold more than there is. Pure.

At each instant the shares of a part add up to 1 at most: where jobs hold more (timesharing, `--mem=0`, dominant
shares), all are brought down alike. Since that factor is the same for every job, one pass over the starts and ends
gives its integral over time, and each job's hours are its share times a difference of that integral.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

from msgspec import Struct

from jobimpact.core.records import Stay
from jobimpact.impact.allocation import COMPONENTS

__all__ = ["NO_HOURS", "Hours", "Occupancy"]

FULL = 1 - 1e-9


class Hours(Struct, frozen=True):
    """Hours of the whole of each component of a node."""

    cpu: float
    ram: float
    gpu: float
    rest: float

    def __add__(self, other: Hours) -> Hours:
        return Hours(*(a + b for a, b in zip(self.each(), other.each(), strict=True)))

    def each(self) -> tuple[float, float, float, float]:
        """In the order of COMPONENTS."""
        return (self.cpu, self.ram, self.gpu, self.rest)

    def close_to(self, other: Hours) -> bool:
        """The same but for rounding."""
        return all(abs(a - b) <= 1e-9 * max(1.0, abs(a)) for a, b in zip(self.each(), other.each(), strict=True))


NO_HOURS = Hours(0.0, 0.0, 0.0, 0.0)
Four = list[float]


class Occupancy:
    """One node's stays, laid over each other.

    Args:
        stays: of this node, in any order.
    """

    def __init__(self, stays: Iterable[Stay]) -> None:
        some = [stay for stay in stays if stay.end_s > stay.start_s]
        steps = [(stay.start_s, 1, stay) for stay in some] + [(stay.end_s, -1, stay) for stay in some]
        steps.sort(key=lambda step: step[0])
        self._times: list[float] = []
        self._scaled: list[Four] = []
        """Integral of the factor by which shares are brought down, up to each time, in hours; by component."""
        self._held: list[Four] = []
        self._stranded: list[Four] = []
        self._last: list[tuple[Four, Four, Four]] = []
        """What each grows by in an hour, from each time on."""
        self._lay(steps)

    def _lay(self, steps: Sequence[tuple[float, int, Stay]]) -> None:
        active, sums = 0, [0.0] * len(COMPONENTS)
        at = 0
        while at < len(steps):
            now = steps[at][0]
            self._grow(now)
            while at < len(steps) and steps[at][0] == now:
                _, sign, stay = steps[at]
                active += sign
                for index, share in enumerate(stay.shares.each()):
                    sums[index] += sign * share
                at += 1
            if not active:
                sums = [0.0] * len(COMPONENTS)  # no rounding is carried from one crowd to the next
            self._last.append(_rates(sums))

    def _grow(self, now: float) -> None:
        """Lead the integrals on to a new time."""
        series = (self._scaled, self._held, self._stranded)
        if not self._times:
            for one in series:
                one.append([0.0] * len(COMPONENTS))
        else:
            hours = (now - self._times[-1]) / 3600
            for one, rates in zip(series, self._last[-1], strict=True):
                one.append([value + rate * hours for value, rate in zip(one[-1], rates, strict=True)])
        self._times.append(now)

    def hours(self, stay: Stay, from_s: float, to_s: float) -> Hours:
        """What a stay held of each component within [from_s, to_s): its shares, brought down where they must be."""
        start_s, end_s = max(stay.start_s, from_s), min(stay.end_s, to_s)
        if end_s <= start_s:
            return NO_HOURS
        grown = self._between(self._scaled, 0, start_s, end_s)
        return Hours(*(share * factor for share, factor in zip(stay.shares.each(), grown, strict=True)))

    def held(self, from_s: float, to_s: float) -> Hours:
        """What all stays held within a time: of each component that time at most."""
        return Hours(*self._between(self._held, 1, from_s, to_s))

    def stranded(self, from_s: float, to_s: float) -> Hours:
        """What nobody held and nobody could have: the CPUs or the memory were all taken."""
        return Hours(*self._between(self._stranded, 2, from_s, to_s))

    def _between(self, series: list[Four], which: int, from_s: float, to_s: float) -> Four:
        then, now = self._value(series, which, from_s), self._value(series, which, to_s)
        return [max(b - a, 0.0) for a, b in zip(then, now, strict=True)]

    def _value(self, series: list[Four], which: int, at_s: float) -> Four:
        index = bisect.bisect_right(self._times, at_s) - 1
        if index < 0:
            return [0.0] * len(COMPONENTS)
        hours = (at_s - self._times[index]) / 3600
        return [v + rate * hours for v, rate in zip(series[index], self._last[index][which], strict=True)]


def _rates(sums: Sequence[float]) -> tuple[Four, Four, Four]:
    """By component: the factor on each share, the part that is held, and the part that is stranded."""
    held = [min(one, 1.0) for one in sums]
    full = max(held[0], held[1]) >= FULL
    return (
        [1.0 / one if one > 1.0 else 1.0 for one in sums],
        held,
        [max(1.0 - one, 0.0) if full else 0.0 for one in held],
    )
