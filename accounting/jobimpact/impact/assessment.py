"""What is found out about a job's impacts, and what it rests on. Frozen, and without behaviour.

Nothing is put in the place of what is not known: it is None, with the reason beside it.
"""

from __future__ import annotations

import msgspec

from jobimpact.core.records import Charge
from jobimpact.impact.ranges import Impacts, Range

__all__ = ["Assessed", "Assessment", "Beside", "FactorNotes", "GridNotes", "IdleNotes", "Indicator"]


class Beside(msgspec.Struct, frozen=True):
    """What is told beside a job's own impact, and is not in its total; None where it is not known."""

    use: Range | None
    embodied: Range | None
    reason: str | None = None


class Indicator(msgspec.Struct, frozen=True):
    """One indicator of a job; None where it is not known, with the reason."""

    use: Range | None
    embodied: Range | None
    total: Range | None
    reason: str | None = None
    idle_share: Beside | None = None
    """Its part of what the machines cost while nobody had them."""
    shared: Beside | None = None
    """Its part of switches and the like; None: the inventory lists none."""


class GridNotes(msgspec.Struct, frozen=True):
    """How the electricity's GWP was found over time."""

    provider: str
    hours: int
    known: int
    estimated: int
    direct: int
    gwp_kgco2e_per_kwh: float
    """What a kWh came to on average, weighted by energy; PUE apart."""


class IdleNotes(msgspec.Struct, frozen=True):
    """How the idle share was found."""

    mode: str
    from_month: str | None
    to_month: str | None
    reason: str | None = None


class FactorNotes(msgspec.Struct, frozen=True):
    """What the impacts were computed with."""

    set: str
    version: str
    zone: str
    pue: float | list[float]
    allocation: str
    active_utilisation: str
    per_kwh: dict[str, Impacts]
    sources: list[str]
    files: dict[str, str] = {}
    """Each file of factors, with its version and the start of its hash."""
    grid: GridNotes | None = None
    idle: IdleNotes | None = None
    market: dict[str, float | str | None] | None = None
    """The use's GWP by the site's contract, and which: beside the location-based figure, never in its place."""


class Assessment(msgspec.Struct, frozen=True):
    """A job's three indicators and their footing."""

    gwp_kgco2e: Indicator
    adp_kgsbe: Indicator
    pe_mj: Indicator
    factors: FactorNotes
    warnings: tuple[str, ...]

    def indicators(self) -> dict[str, Indicator]:
        """By name."""
        return {"gwp_kgco2e": self.gwp_kgco2e, "adp_kgsbe": self.adp_kgsbe, "pe_mj": self.pe_mj}


class Assessed(msgspec.Struct, frozen=True):
    """A job's assessment, and what of it is booked where and in which month."""

    assessment: Assessment
    charges: tuple[Charge, ...]
