"""Slots to hours. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from jobimpact.grid.base import HOUR_S, Slot

__all__ = ["Hour", "hourly"]


class Hour(msgspec.Struct, frozen=True):
    """The mean of one hour."""

    kgco2e_per_kwh: float
    estimated: bool


def hourly(slots: Iterable[Slot]) -> dict[int, Hour]:
    """Means by hour, weighted with time.

    Args:
        slots: in any order, not overlapping; one that lies in two hours counts in both by its part.

    Returns:
        By start of the hour, epoch seconds. An hour of which less than half is known is not there; one is estimated
        if any of its slots is.
    """
    parts: defaultdict[int, list[tuple[float, Slot]]] = defaultdict(list)
    for slot in slots:
        for hour, length in _split(slot):
            parts[hour].append((length, slot))
    return {
        hour: Hour(_mean(found), any(slot.estimated for _, slot in found))
        for hour, found in sorted(parts.items())
        if math.fsum(length for length, _ in found) >= HOUR_S / 2
    }


def _split(slot: Slot) -> Iterator[tuple[int, float]]:
    end = slot.start_s + slot.length_s
    hour = int(slot.start_s // HOUR_S) * HOUR_S
    while hour < end:
        length = min(end, hour + HOUR_S) - max(slot.start_s, hour)
        if length > 0:
            yield hour, length
        hour += HOUR_S


def _mean(found: list[tuple[float, Slot]]) -> float:
    values = [slot.kgco2e_per_kwh for _, slot in found]
    # fsum does not depend on the order; the bounds undo the last rounding, by which a mean could leave its values.
    mean = math.fsum(length * slot.kgco2e_per_kwh for length, slot in found) / math.fsum(length for length, _ in found)
    return min(max(mean, min(values)), max(values))
