"""A site as impacts see it: its nodes, what making them costs by the hour, and its electricity over time. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

from jobimpact.core.errors import ConfigError
from jobimpact.core.records import HourIntensity, RunEnergy
from jobimpact.core.units import joules, kwh
from jobimpact.impact.embodied import hourly_rates
from jobimpact.impact.factors import Factors
from jobimpact.impact.idle import IdleKey
from jobimpact.impact.inventory import Inventory, NodeType
from jobimpact.impact.lifetime import Life, life_of
from jobimpact.impact.parts import NodeParts, parts_of
from jobimpact.impact.ranges import Impacts, Range, sum_of
from jobimpact.impact.shared import SharedRate, rate_of
from jobimpact.impact.use import HOUR_S, Mix, mix

__all__ = ["Keys", "Site"]

Keys = Callable[[str, float], Mapping[str, IdleKey]]
"""The idle keys of a type of nodes for a job that ended then, by component; empty where there is none yet."""


def _no_keys(_: str, __: float) -> Mapping[str, IdleKey]:
    return {}


class Site:
    """Factors, inventory and the site's electricity, ready for many jobs.

    Args:
        factors: the factor set.
        inventory: the site's nodes.
        zone: the site's electricity zone.
        provider: who tells its intensity over time.
        intensity: that intensity for a time (from, to, epoch seconds), by hour.
        keys: the idle keys.
        idle_mode: how those were found.
        no_key: why there is none, where there is none.
        market: what a kWh emits by the site's contract (kgCO2e), and which contract that is.

    Raises:
        ConfigError: a zone that the factors do not have.
    """

    def __init__(
        self,
        factors: Factors,
        inventory: Inventory,
        zone: str,
        *,
        provider: str = "annual",
        intensity: Callable[[float, float], Mapping[int, HourIntensity]] = lambda _, __: {},
        keys: Keys = _no_keys,
        idle_mode: str = "measured",
        no_key: str = "no month is closed yet",
        market: tuple[float, str] | None = None,
    ) -> None:
        self.inventory = inventory
        self.factors = factors
        self.zone = zone
        self.provider = provider
        self._intensity = intensity
        self.keys = keys
        self.idle_mode = idle_mode
        self.no_key = no_key
        self.market = market
        factors.zone(zone)
        for name, node_type in inventory.types.items():
            if node_type.zone:
                _check_zone(f"{inventory.path}: types.{name}.zone", node_type.zone, factors)
        self.cite: Callable[[str], str] = functools.cache(factors.cite)
        self.parts: Callable[[str], NodeParts] = functools.cache(lambda name: parts_of(inventory.types[name], factors))
        self.life: Callable[[str], Life] = functools.cache(lambda name: _life(inventory.types[name]))
        self.rates: Callable[[str], dict[str, Impacts]] = functools.cache(
            lambda name: hourly_rates(self.parts(name), self.life(name).hours)
        )
        self._shared: dict[str, list[SharedRate]] = {}
        for name, nodes in inventory.served.items():
            if not nodes:
                continue
            rate = rate_of(name, inventory.shared[name], len(nodes))
            for node in nodes:
                self._shared.setdefault(node, []).append(rate)

    def zone_of(self, node: str) -> str:
        """The electricity zone of a node."""
        node_type = self.inventory.type_of(node)
        return (node_type and node_type.zone) or self.zone

    def pue_of(self, node: str) -> float | None:
        """A node's PUE; None: the inventory does not tell."""
        node_type = self.inventory.type_of(node)
        return (node_type and node_type.pue) or self.inventory.pue

    def electricity_of(self, node_type: str) -> tuple[Impacts, float]:
        """What a kWh costs where a type of nodes stands, by annual means, and its PUE."""
        found = self.inventory.types[node_type]
        return self.factors.zone(found.zone or self.zone).per_kwh, found.pue or self.inventory.pue or 1.0

    def mixed(self, node: str, weights: Iterable[tuple[int, float]]) -> Mix:
        """The factors of a kWh at a node, over hours with their weights."""
        return self._mixed(self.zone_of(node), list(weights))

    def mixed_of(self, node_type: str, weights: Iterable[tuple[int, float]]) -> Mix:
        """The same where a type of nodes stands."""
        return self._mixed(self.inventory.types[node_type].zone or self.zone, list(weights))

    def _mixed(self, zone: str, hours: list[tuple[int, float]]) -> Mix:
        annual = self.factors.zone(zone).per_kwh
        if self.provider == "annual" or zone != self.zone or not hours:
            return mix(hours, {}, annual)
        return mix(hours, self._intensity(min(hours)[0], max(hours)[0] + HOUR_S), annual)

    def used(self, run: RunEnergy) -> Range:
        """A run's known energy in kWh, with the least and the most that its meters' errors allow."""
        return sum_of(
            self.factors.meter(one.kind, one.method).times(kwh(joules(one.uj)))
            for one in run.domains
            if one.known_ns and one.kind != "node"
        )

    def shared(self, node: str) -> list[SharedRate]:
        """What serves a node and others."""
        return self._shared.get(node, [])


def _check_zone(where: str, zone: str, factors: Factors) -> None:
    try:
        factors.zone(zone)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _life(node_type: NodeType) -> Life:
    return life_of(node_type.purchased, node_type.lifetime_years, node_type.past_lifetime)
