"""What a run's part of making its nodes costs: T / (U x L) x sum of share x I over the parts. Pure."""

from __future__ import annotations

from jobimpact.core.errors import ConfigError
from jobimpact.impact.allocation import Shares
from jobimpact.impact.parts import NodeParts
from jobimpact.impact.ranges import Impacts, total

__all__ = ["HOURS_A_YEAR", "embodied_impacts", "held_parts"]

HOURS_A_YEAR = 365.25 * 24


def held_parts(parts: NodeParts, shares: Shares) -> Impacts:
    """What a job holds of a node's manufacture: each part by its own share, the rest by the dominant one."""
    return total(
        (
            parts.gpu.times(shares.gpu),
            parts.cpu.times(shares.cpu),
            parts.ram.times(shares.ram),
            parts.rest.times(shares.rest),
        )
    )


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
