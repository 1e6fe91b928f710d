"""The idle share: what machines cost while no job holds them, told beside each job's own part. Pure.

Hours and energy that no job held are counted for each month, node type and component. When a month is closed, a key is
frozen: what an hour that was held brought with it over the last closed months. A job's idle share is its own hours
times the key of the day on which it ended. What a year's keys charged too much or too little is the true-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from jobimpact.impact.ranges import Impacts, total

__all__ = ["LEAST", "IdleKey", "MonthIdle", "Three", "fixed_key", "key_of"]

LEAST = 0.01
"""Where jobs held less than this part of the time, what was idle is nobody's: a job would be told a hundredfold."""

Three = tuple[float | None, float | None, float | None]


class MonthIdle(Struct, frozen=True):
    """One component of one type of nodes in one month; all nodes of the type together."""

    month: str
    node_type: str
    component: str
    available_h: float
    """Hours of the calendar in which the nodes were in their life, drained or not."""
    held_h: float
    """Of these, hours of the whole component that jobs held."""
    used_h: float
    """The same whether or not the nodes were in their life: what idle electricity is told by."""
    stranded_h: float
    """Of the others, those that nobody could have had: the CPUs or the memory of their node were all taken."""
    nodes_h: float
    """Hours of the calendar, whether or not the nodes were in their life."""
    hardware: Three
    """What their manufacture comes to over the available hours: kgCO2e, kgSbe, MJ; None: not known."""
    idle_kwh: float | None = None
    """Energy that no job had; None: not known."""
    system_kwh: float | None = None
    """Energy used outside every job."""
    use: Impacts | None = None
    """What both cost, PUE included."""
    use_known: float = 0.0
    """The part of the nodes' hours for which that energy is known."""
    grid_ratio: float = 1.0
    """What a kWh of it emitted, over the annual mean of then: keeps the hours' shape under other factors."""

    @property
    def idle_h(self) -> float:
        """Hours that no job held."""
        return max(self.available_h - self.held_h, 0.0)


class IdleKey(Struct, frozen=True):
    """What an hour that a job held brings with it."""

    from_month: str | None
    """The months that it was counted over; None: it was not counted, but fixed."""
    to_month: str | None
    idle_h: float | None
    """Hours that nobody held, for each that was held; None: too few were."""
    use: Impacts | None
    """What the energy cost that nobody had; None: not known, or too few hours were held."""
    use_known: float = 0.0
    """The part of the nodes' time for which that energy is known."""


def key_of(window: Sequence[MonthIdle]) -> IdleKey:
    """The key of some closed months of one type and component, at least one, in order."""
    held_h, available_h = sum(one.held_h for one in window), sum(one.available_h for one in window)
    known = [one for one in window if one.use is not None]
    used_h = sum(one.used_h for one in known)
    nodes_h = sum(one.nodes_h for one in known)
    return IdleKey(
        from_month=window[0].month,
        to_month=window[-1].month,
        idle_h=sum(one.idle_h for one in window) / held_h if held_h > LEAST * available_h else None,
        use=_sum(known).times(1 / used_h) if used_h > LEAST * nodes_h else None,
        use_known=sum(one.use_known * one.nodes_h for one in known) / sum(one.nodes_h for one in window),
    )


def _sum(known: Iterable[MonthIdle]) -> Impacts:
    return total(one.use for one in known if one.use is not None)


def fixed_key(active_utilisation: float) -> IdleKey:
    """As if machines were in use a fixed part of their life: for comparison with published tables."""
    return IdleKey(None, None, 1 / active_utilisation - 1, None)
