"""What serves several nodes (switches, storage, login nodes), shared out by node-hours. Pure."""

from __future__ import annotations

from msgspec import Struct

from jobimpact.impact.inventory import SharedParts
from jobimpact.impact.lifetime import Life, life_of
from jobimpact.impact.ranges import Range

__all__ = ["INDICATORS", "SharedRate", "rate_of"]

INDICATORS = ("gwp_kgco2e", "adp_kgsbe", "pe_mj")


class SharedRate(Struct, frozen=True):
    """What a node-hour brings with it of something shared."""

    name: str
    life: Life
    embodied: dict[str, Range | None]
    """For each indicator, per node-hour within the life; None: the inventory does not tell."""
    kwh: float | None
    """Electricity per node-hour, PUE apart; None: the inventory does not tell."""
    source: str | None


def rate_of(name: str, shared: SharedParts, nodes: int) -> SharedRate:
    """The rate of something that serves so many nodes, at least one."""
    life = life_of(shared.purchased, shared.lifetime_years, shared.past_lifetime)

    def rate(value: float | list[float] | None) -> Range | None:
        if value is None:
            return None
        triple = value if isinstance(value, list) else [value] * 3
        return Range(*triple).times(shared.count / (nodes * life.hours))

    embodied = {name: rate(getattr(shared, name)) for name in INDICATORS}
    kwh = None if shared.power_w is None else shared.power_w * shared.count / 1e3 / nodes
    return SharedRate(name, life, embodied, kwh, shared.source)
