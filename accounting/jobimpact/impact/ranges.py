"""Low, central, high, and the three indicators of a thing. Pure.

A range is carried linearly: the low of a sum is the sum of the lows. That is wider than independent errors would
make it, and right for factors that err together, as those of one source do.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

__all__ = ["NOTHING", "Impacts", "Range", "exactly", "sum_of", "total"]


class Range(msgspec.Struct, frozen=True):
    """One quantity, with the least and the most it may be."""

    low: float
    central: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.central + other.central, self.high + other.high)

    def times(self, factor: float) -> Range:
        """Scaled by a number that is known; it must not be negative."""
        return Range(self.low * factor, self.central * factor, self.high * factor)

    def by(self, other: Range) -> Range:
        """Scaled by a quantity that has a range itself; neither may be negative."""
        return Range(self.low * other.low, self.central * other.central, self.high * other.high)


class Impacts(msgspec.Struct, frozen=True):
    """Global warming potential, abiotic depletion of elements, primary energy."""

    gwp_kgco2e: Range
    adp_kgsbe: Range
    pe_mj: Range

    def __add__(self, other: Impacts) -> Impacts:
        return Impacts(self.gwp_kgco2e + other.gwp_kgco2e, self.adp_kgsbe + other.adp_kgsbe, self.pe_mj + other.pe_mj)

    @property
    def central(self) -> tuple[float, float, float]:
        """The three central values, in order."""
        return (self.gwp_kgco2e.central, self.adp_kgsbe.central, self.pe_mj.central)

    def times(self, factor: float) -> Impacts:
        """Each indicator scaled by a known number."""
        return Impacts(self.gwp_kgco2e.times(factor), self.adp_kgsbe.times(factor), self.pe_mj.times(factor))

    def by(self, other: Range) -> Impacts:
        """Each indicator scaled by a quantity with a range."""
        return Impacts(self.gwp_kgco2e.by(other), self.adp_kgsbe.by(other), self.pe_mj.by(other))


def exactly(value: float) -> Range:
    """A quantity that is known."""
    return Range(value, value, value)


_ZERO = exactly(0.0)
NOTHING = Impacts(_ZERO, _ZERO, _ZERO)
"""The sum of no impacts."""


def total(impacts: Iterable[Impacts]) -> Impacts:
    """The sum."""
    return sum(impacts, start=NOTHING)


def sum_of(ranges: Iterable[Range]) -> Range:
    """The sum of quantities in one unit."""
    return sum(ranges, start=_ZERO)
