"""Who held what of one node, and for how long, when jobs share it and may hold more than there is. Pure.

At each instant the shares of a part add up to 1 at most: where jobs hold more (timesharing, `--mem=0`, dominant
shares), all are brought down alike. Since that factor is the same for every job, one pass over the starts and ends
gives its integral over time, and each job's hours are its share times a difference of that integral.

Shares and times are integers (2**-40 of a part, microseconds), and so are the integrals: a job's hours depend on
those who were there with it, and not on who else is looked at, so that a second night finds the same to the last bit.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from msgspec import Struct

from jobimpact.core.records import Stay

__all__ = ["NOTHING_HELD", "NO_HOURS", "HeldHours", "Hours", "Occupancy"]


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


class HeldHours(Struct, frozen=True):
    """What a job held of a node in a month."""

    whole: Hours
    in_life: Hours
    """Of these, hours while the node was in its life: what its manufacture is charged by."""

    def __add__(self, other: HeldHours) -> HeldHours:
        return HeldHours(self.whole + other.whole, self.in_life + other.in_life)


NO_HOURS = Hours(0.0, 0.0, 0.0, 0.0)
NOTHING_HELD = HeldHours(NO_HOURS, NO_HOURS)
ONE = 1 << 40
US_AN_HOUR = 3_600_000_000
FULL = ONE - ONE // 10**9
"""As good as all: shares are rounded."""
Four = tuple[int, int, int, int]
NONE: Four = (0, 0, 0, 0)


class _From(Struct, frozen=True):
    """A time, in microseconds; the integrals up to it, and by what each grows in a microsecond from there on."""

    t_us: int
    grown: tuple[Four, Four, Four]
    rates: tuple[Four, Four, Four]

    def at(self, t_us: int, which: int) -> Four:
        a, b, c, d = (
            value + rate * (t_us - self.t_us) for value, rate in zip(self.grown[which], self.rates[which], strict=True)
        )
        return (a, b, c, d)


FACTOR, HELD, STRANDED = 0, 1, 2


class Occupancy:
    """One node's stays, laid over each other.

    Args:
        stays: of this node, in any order.
    """

    def __init__(self, stays: Iterable[Stay]) -> None:
        steps = []
        for stay in stays:
            shares = _parts(stay)
            steps += [(_us(stay.start_s), 1, shares), (_us(stay.end_s), -1, shares)]
        steps.sort(key=lambda step: step[0])
        self._from = [_From(steps[0][0] if steps else 0, (NONE, NONE, NONE), _rates(NONE))]
        sums = [0, 0, 0, 0]
        for t_us, sign, shares in steps:
            for index, share in enumerate(shares):
                sums[index] += sign * share
            last = self._from[-1]
            now = last.grown if t_us == last.t_us else (last.at(t_us, 0), last.at(t_us, 1), last.at(t_us, 2))
            found = _From(t_us, now, _rates((sums[0], sums[1], sums[2], sums[3])))
            if t_us == last.t_us:
                self._from[-1] = found
            else:
                self._from.append(found)
        self._times = [one.t_us for one in self._from]

    def hours(self, stay: Stay, from_s: float, to_s: float) -> Hours:
        """What a stay held of each component within [from_s, to_s): its shares, brought down where they must be."""
        factors = self._between(FACTOR, max(stay.start_s, from_s), min(stay.end_s, to_s))
        each = zip(_parts(stay), factors, strict=True)
        return Hours(*(share * factor / (ONE * ONE) / US_AN_HOUR for share, factor in each))

    def held(self, from_s: float, to_s: float) -> Hours:
        """What all stays held within a time: of each component that time at most."""
        return Hours(*(one / ONE / US_AN_HOUR for one in self._between(HELD, from_s, to_s)))

    def stranded(self, from_s: float, to_s: float) -> Hours:
        """What nobody held and nobody could have: the CPUs or the memory were all taken."""
        return Hours(*(one / ONE / US_AN_HOUR for one in self._between(STRANDED, from_s, to_s)))

    def _between(self, which: int, from_s: float, to_s: float) -> Four:
        from_us, to_us = _us(from_s), _us(to_s)
        if to_us <= from_us:
            return NONE
        then, now = (self._before(t_us).at(t_us, which) for t_us in (from_us, to_us))
        a, b, c, d = (y - x for x, y in zip(then, now, strict=True))
        return (a, b, c, d)

    def _before(self, t_us: int) -> _From:
        """The step that a time follows; before the first there is nobody, as after the last."""
        index = bisect.bisect_right(self._times, t_us) - 1
        return self._from[index] if index >= 0 else _From(self._times[0], (NONE, NONE, NONE), _rates(NONE))


def _us(at_s: float) -> int:
    return round(at_s * 1e6)


def _parts(stay: Stay) -> Four:
    a, b, c, d = (round(share * ONE) for share in stay.shares.each())
    return (a, b, c, d)


def _rates(sums: Four) -> tuple[Four, Four, Four]:
    """By component: the factor on each share, the part that is held, and the part that is stranded."""
    full = max(sums[0], sums[1]) >= FULL
    factor, held, stranded = zip(
        *((ONE * ONE // max(one, ONE), min(one, ONE), max(ONE - one, 0) if full else 0) for one in sums), strict=True
    )
    return factor, held, stranded
