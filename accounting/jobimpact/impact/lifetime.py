"""When hardware is in service: from its purchase to the end of its life. Pure."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time

from msgspec import Struct

__all__ = ["HOURS_A_YEAR", "Life", "life_of"]

HOURS_A_YEAR = 365.25 * 24


class Life(Struct, frozen=True):
    """Over how long the making of something is spread, and when that is. Epoch seconds."""

    hours: float
    from_s: float = -math.inf
    to_s: float = math.inf

    def overlap(self, start_s: float, end_s: float) -> tuple[float, float]:
        """The part of a time that lies in the life; empty (equal edges) where none does."""
        start_s, end_s = max(start_s, self.from_s), min(end_s, self.to_s)
        return (start_s, end_s) if end_s > start_s else (start_s, start_s)

    def hours_in(self, start_s: float, end_s: float) -> float:
        """Hours of a time that lie in the life."""
        start_s, end_s = self.overlap(start_s, end_s)
        return (end_s - start_s) / 3600


def life_of(purchased: date | None, years: float, past_lifetime: str) -> Life:
    """The life of hardware.

    Args:
        purchased: the day on which it went into service (00:00 UTC). None, not known: any time is in its life.
        years: how long it is in service, of 8766 hours.
        past_lifetime: `zero`: after that its manufacture is paid off (ISO 21031); `continue`: it is charged on.
    """
    hours = years * HOURS_A_YEAR
    if purchased is None:
        return Life(hours)
    from_s = datetime.combine(purchased, time(), UTC).timestamp()
    return Life(hours, from_s, from_s + hours * 3600 if past_lifetime == "zero" else math.inf)
