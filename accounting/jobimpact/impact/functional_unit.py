"""Use and embodied impact of a functional unit, such as "train the model until the target", without a scheduler.

I = PUE x IF x E + T / (U x L) x share x nodes x I_node, for each indicator, as for jobs. Pure.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from msgspec import Struct

from jobimpact.core.errors import ConfigError
from jobimpact.impact.embodied import HOURS_A_YEAR, embodied_impacts
from jobimpact.impact.extrapolation import Extrapolated, doubts, extrapolated
from jobimpact.impact.factors import Factors
from jobimpact.impact.inventory import Inventory, NodeType
from jobimpact.impact.nn_ci import Estimates, NnCi, estimate
from jobimpact.impact.parts import parts_of
from jobimpact.impact.ranges import Impacts, Range
from jobimpact.impact.unit_file import Electricity, Hardware, Unit, check_choices
from jobimpact.impact.use import use_impacts

__all__ = ["INDICATORS", "Site", "UnitImpacts", "assess"]

INDICATORS = Impacts.__struct_fields__
LIFETIME_YEARS = 4

T = TypeVar("T")


class Site(Struct, frozen=True):
    """What a unit may refer to: factors for `zone`; inventory and the site's own zone for `node`."""

    factors: Factors | None = None
    inventory: Inventory | None = None
    zone: str | None = None


class UnitImpacts(Struct, frozen=True):
    """A unit's impacts, by indicator; None is not known, and `reasons` says why, by part and indicator."""

    name: str
    energy_kwh: Range | None
    duration_hours: Range | None
    use: dict[str, Range | None]
    embodied: dict[str, Range | None]
    total: dict[str, Range | None]
    reasons: dict[str, dict[str, str]]
    method: dict[str, Any]
    """Every input: its value, and where it came from."""
    notes: tuple[str, ...]
    phases: tuple[Extrapolated, ...] = ()
    estimates: Estimates | None = None


def assess(unit: Unit, site: Site) -> UnitImpacts:
    """The impacts of one unit.

    Raises:
        ConfigError: names the key; the file and the unit's place in it are the caller's to name.
    """
    check_choices(unit)
    if unit.nn_ci is not None:
        return _by_nn_ci(unit.name or "", unit.nn_ci)
    return _Assessment(unit, site).result()


class _Assessment:
    """One unit on its way: what each input is and where it came from is noted as it is found."""

    def __init__(self, unit: Unit, site: Site) -> None:
        self._unit = unit
        self._site = site
        self._method: dict[str, Any] = {}
        self._notes: list[str] = []
        self._node = self._find_node()

    def result(self) -> UnitImpacts:
        unit = self._unit
        energy, phases = self._energy()
        duration = None if unit.duration_hours is None else _range("duration_hours", unit.duration_hours)
        self._say("duration_hours", duration, "given" if duration else "not given")
        use = self._use(energy)
        embodied = self._embodied(duration)
        reasons = {"use": self._why_no_use(energy), "embodied": self._why_not_embodied(duration)}
        found = {"use": _known(use), "embodied": _known(embodied), "total": _known(use + embodied)}
        why = {part: {one: reasons[part][one] for one in INDICATORS if found[part][one] is None} for part in reasons}
        why["total"] = {
            one: "; ".join(f"{part}: {why[part][one]}" for part in reasons if one in why[part])
            for one in INDICATORS
            if found["total"][one] is None
        }
        site = self._site
        self._method["factors"] = site.factors.version if site.factors and (unit.zone or self._node) else None
        self._method["inventory"] = site.inventory.version if site.inventory and self._node else None
        return UnitImpacts(
            name=unit.name or "",
            energy_kwh=energy,
            duration_hours=duration,
            use=found["use"],
            embodied=found["embodied"],
            total=found["total"],
            reasons={part: reason for part, reason in why.items() if reason},
            method=self._method,
            notes=tuple(self._notes),
            phases=phases,
        )

    def _say(self, key: str, value: T, source: str) -> T:
        self._method[key] = {"value": value, "source": source}
        return value

    def _find_node(self) -> NodeType | None:
        name, inventory = self._unit.node, self._site.inventory
        if name is None:
            return None
        if inventory is None or inventory.reason:
            raise ConfigError(f"node: {name!r}: {inventory.reason if inventory else 'there is no inventory'}")
        if name not in inventory.types:
            raise ConfigError(f"node: {name!r}: not a type of the inventory; allowed: {', '.join(inventory.types)}")
        return inventory.types[name]

    def _energy(self) -> tuple[Range | None, tuple[Extrapolated, ...]]:
        unit = self._unit
        if unit.extrapolate is None:
            energy = None if unit.energy_kwh is None else _range("energy_kwh", unit.energy_kwh)
            self._say("energy_kwh", energy, "given" if energy else "not given")
            return energy, ()
        asked = unit.extrapolate
        phases = tuple(extrapolated(f"extrapolate.phases[{at}]", one) for at, one in enumerate(asked.phases))
        energy = Range(0.0, 0.0, 0.0)
        for at, one in enumerate(phases):
            self._notes += doubts(f"phase {at + 1}", one)
            central = one.forecast.energy_kwh
            low, high = one.forecast.prediction_kwh or (central, central)
            energy += Range(max(low, 0.0), central, high)
        energy = energy.times(asked.nodes)
        how = "extrapolated; low and high by the 95 % prediction intervals"
        self._say("energy_kwh", energy, how if energy.low != energy.high else "extrapolated")
        self._method["energy_kwh"]["nodes"] = asked.nodes
        return energy, phases

    def _use(self, energy: Range | None) -> Impacts:
        per_kwh = self._per_kwh()
        pue = self._pue(needed=energy is not None and any(_known(per_kwh).values()))
        return _UNKNOWN if energy is None else use_impacts(1.0, per_kwh, pue).by(energy)

    def _per_kwh(self) -> Impacts:
        unit, node, site = self._unit, self._node, self._site
        if unit.electricity is not None:
            return self._say("electricity", _impacts("electricity", unit.electricity), "given")
        name, of = unit.zone, "given"
        if name is None and node is not None:
            name, of = (node.zone, "the inventory's") if node.zone else (site.zone, "the configuration's")
        if name is None or site.factors is None:
            self._say("electricity", None, "not given")
            return _UNKNOWN
        zone = site.factors.zone(name)
        values = (zone.gwp_kgco2e_per_kwh, zone.adp_kgsbe_per_kwh, zone.pe_mj_per_kwh)
        self._say("electricity", zone.per_kwh, f"zone {name} ({zone.name}), {of}")
        cited = [site.factors.cite(source) for one in values for source in (one.source, *one.span)]
        self._method["electricity"]["sources"] = list(dict.fromkeys(cited))
        return zone.per_kwh

    def _pue(self, *, needed: bool) -> float:
        unit, node, inventory = self._unit, self._node, self._site.inventory
        if unit.pue is not None:
            return self._say("pue", unit.pue, "given")
        found = (node.pue or inventory.pue) if node and inventory else None
        if found is not None:
            return self._say("pue", found, "the inventory's")
        if needed:
            self._notes.append("PUE 1 is assumed: none is given")
        return self._say("pue", 1.0, "assumed: none is given")

    def _embodied(self, duration: Range | None) -> Impacts:
        unit = self._unit
        hardware = self._hardware()
        lifetime = self._lifetime(needed=duration is not None and any(_known(hardware).values()))
        headline = "none: what a unit reserves, idle time not included"
        self._say("active_utilisation", unit.active_utilisation, "given" if unit.active_utilisation else headline)
        self._say("share", unit.share, "given, or the whole of it")
        nodes = unit.nodes or (unit.extrapolate.nodes if unit.extrapolate else 1)
        self._say("nodes", nodes, "given" if unit.nodes else "extrapolate.nodes" if unit.extrapolate else "one")
        if unit.extrapolate and unit.extrapolate.nodes != nodes:
            self._notes.append(f"the energy is that of {unit.extrapolate.nodes} nodes, the hardware of {nodes}")
        if duration is None:
            return _UNKNOWN
        if duration.central > lifetime * (unit.active_utilisation or 1.0):
            self._notes.append("it lasts longer than the service life: more than the whole hardware is counted")
        held = hardware.times(unit.share * nodes)
        return embodied_impacts(held, 1.0, lifetime, unit.active_utilisation).by(duration)

    def _hardware(self) -> Impacts:
        unit, site = self._unit, self._site
        if unit.hardware is not None:
            return self._say("hardware", _impacts("hardware", unit.hardware), "given")
        if self._node is None or site.factors is None:
            self._say("hardware", None, "not given")
            return _UNKNOWN
        parts = parts_of(self._node, site.factors)
        self._notes += parts.warnings
        return self._say("hardware", parts.whole, f"type {unit.node} of the inventory, by its parts")

    def _lifetime(self, *, needed: bool) -> float:
        if self._unit.lifetime_hours is not None:
            return self._say("lifetime_hours", self._unit.lifetime_hours, "given")
        if self._node is not None:
            return self._say("lifetime_hours", self._node.lifetime_years * HOURS_A_YEAR, "the inventory's")
        hours = LIFETIME_YEARS * HOURS_A_YEAR
        if needed:
            self._notes.append(f"a service life of {hours:g} h ({LIFETIME_YEARS} years) is assumed: none is given")
        return self._say("lifetime_hours", hours, f"assumed: {LIFETIME_YEARS} years, none is given")

    def _why_no_use(self, energy: Range | None) -> dict[str, str]:
        if energy is None:
            return dict.fromkeys(INDICATORS, "no energy is given (energy_kwh or extrapolate)")
        if self._method["electricity"]["value"] is None:
            return dict.fromkeys(INDICATORS, "no electricity is given (electricity, zone or node)")
        return {one: f"electricity.{one}_per_kwh is not given" for one in INDICATORS}

    def _why_not_embodied(self, duration: Range | None) -> dict[str, str]:
        if duration is None:
            return dict.fromkeys(INDICATORS, "no duration_hours is given")
        if self._method["hardware"]["value"] is None:
            return dict.fromkeys(INDICATORS, "no hardware is given (hardware or node)")
        return {one: f"hardware.{one} is not given" for one in INDICATORS}


_NAN = Range(math.nan, math.nan, math.nan)
_UNKNOWN = Impacts(_NAN, _NAN, _NAN)
"""What is not known stays so through all arithmetic: never a zero."""


def _known(impacts: Impacts) -> dict[str, Range | None]:
    ranges = {one: getattr(impacts, one) for one in INDICATORS}
    return {one: None if math.isnan(found.central) else found for one, found in ranges.items()}


def _impacts(key: str, found: Electricity | Hardware) -> Impacts:
    values = ((name, getattr(found, name)) for name in found.__struct_fields__)
    return Impacts(*(_NAN if value is None else _range(f"{key}.{name}", value) for name, value in values))


def _range(key: str, value: float | list[float]) -> Range:
    if not isinstance(value, list):
        return Range(value, value, value)
    low, central, high = value
    if not low <= central <= high:
        raise ConfigError(f"{key}: low, central, high are not in order")
    return Range(low, central, high)


def _by_nn_ci(name: str, asked: NnCi) -> UnitImpacts:
    try:
        found = estimate(asked)
    except ConfigError as error:
        raise ConfigError(f"nn_ci.{error}") from error
    grams = {"use": found.operation_gco2e, "embodied": found.embodied_gco2e, "total": found.total_gco2e}
    parts: dict[str, dict[str, Range | None]] = {
        part: dict.fromkeys(INDICATORS) | {"gwp_kgco2e": _range(part, value / 1000)} for part, value in grams.items()
    }
    why = dict.fromkeys(INDICATORS[1:], "NN-CI estimates greenhouse gases only")
    return UnitImpacts(
        name=name,
        energy_kwh=_range("energy_kwh", found.energy_kwh),
        duration_hours=None,
        use=parts["use"],
        embodied=parts["embodied"],
        total=parts["total"],
        reasons=dict.fromkeys(parts, why),
        method={"nn_ci": {"value": asked, "source": "given"}, "factors": None, "inventory": None},
        notes=("embodied is the whole hardware, as NN-CI has it, not amortised", *found.notes),
        estimates=found,
    )
