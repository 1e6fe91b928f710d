"""What a run's part of making its nodes costs: T / (U x L) x sum of share x I over the parts. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from jobimpact.core.errors import ConfigError
from jobimpact.impact.allocation import COMPONENTS
from jobimpact.impact.lifetime import HOURS_A_YEAR
from jobimpact.impact.occupancy import Hours
from jobimpact.impact.parts import NodeParts
from jobimpact.impact.ranges import Impacts

__all__ = ["HOURS_A_YEAR", "charged", "embodied_impacts", "hourly_rates"]


def hourly_rates(parts: NodeParts, life_hours: float) -> dict[str, Impacts]:
    """What an hour of each whole component of a node costs: kgCO2e, kgSbe, MJ, by the names of COMPONENTS."""
    whole = (parts.cpu, parts.ram, parts.gpu, parts.rest)
    return {name: embodied_impacts(one, 1.0, life_hours) for name, one in zip(COMPONENTS, whole, strict=True)}


def charged(hours: Hours, rates: Mapping[str, Impacts]) -> dict[str, Impacts]:
    """What holding parts of a node for some hours costs, component by component."""
    return {name: rates[name].times(held) for name, held in zip(COMPONENTS, hours.each(), strict=True)}


def embodied_impacts(
    held: Impacts, hours: float, lifetime_hours: float, active_utilisation: float | None = None
) -> Impacts:
    """Manufacturing impact of holding something for a while.

    Args:
        held: what making it cost, as far as it was held: kgCO2e, kgSbe, MJ.
        hours: how long it was held.
        lifetime_hours: how long it is in service.
        active_utilisation: the part of its life in which anything runs. None, the headline: a job carries its own
            reservation only (ISO 21031), and idle time is not put on it.

    Returns:
        kgCO2e, kgSbe and MJ.

    Raises:
        ConfigError: a lifetime or a utilisation that is not positive.
    """
    active_hours = lifetime_hours * (1.0 if active_utilisation is None else active_utilisation)
    if active_hours <= 0:
        raise ConfigError("a lifetime and a utilisation must be more than 0")
    return held.times(hours / active_hours)
