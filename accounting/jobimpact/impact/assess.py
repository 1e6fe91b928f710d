"""A job's impacts: use and embodied, node by node, with what they rest on. Pure.

Nothing is put in the place of what is not known: an indicator without its energy or its inventory is None, and
says why.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping

import msgspec

from jobimpact.core.errors import ConfigError
from jobimpact.core.records import Charge, HourIntensity, JobEnergy, JobRecord, RunEnergy, Shares, Stay
from jobimpact.core.units import joules, kwh
from jobimpact.impact.allocation import COMPONENTS, WHOLE, Holding, shares_of
from jobimpact.impact.embodied import charged, hourly_rates
from jobimpact.impact.factors import Factors, Zone
from jobimpact.impact.idle import IdleKey
from jobimpact.impact.inventory import Inventory, NodeType
from jobimpact.impact.lifetime import Life, life_of
from jobimpact.impact.months import edges_of, months
from jobimpact.impact.occupancy import NOTHING_HELD, HeldHours, Occupancy
from jobimpact.impact.parts import NodeParts, parts_of
from jobimpact.impact.ranges import NOTHING, Impacts, Range, total
from jobimpact.impact.shared import INDICATORS, SharedRate, rate_of
from jobimpact.impact.use import HOUR_S, Mix, even, mix, use_impacts

__all__ = ["Assessed", "Assessment", "Assessor", "Beside", "FactorNotes", "GridNotes", "IdleNotes", "Indicator"]

SET = "jobimpact"
_PARTS = {"cpu": "CPUs", "ram": "memory", "gpu": "GPUs", "rest": "rest"}
KNOWN = 0.995
"""A part of a time that is as good as all of it."""
ALLOCATION = "reserved share of each part, dominant share of the rest"

Held = Mapping[str, Mapping[str, HeldHours]]
"""By node and month, the hours that a job held of each component."""
Keys = Callable[[str, float], Mapping[str, IdleKey]]
"""The idle keys of a type of nodes for a job that ended then, by component; empty where there is none yet."""


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


def _no_keys(_: str, __: float) -> Mapping[str, IdleKey]:
    return {}


class Assessor:
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
        self._zone = zone
        self._provider = provider
        self._intensity = intensity
        self._keys = keys
        self._idle_mode = idle_mode
        self.no_key = no_key
        self._market = market
        factors.zone(zone)
        for name, node_type in inventory.types.items():
            _check_zone(f"{inventory.path}: types.{name}.zone", node_type, factors)
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

    def stays(self, record: JobRecord, energy: JobEnergy) -> dict[str, Stay]:
        """What a job reserved of each node that the inventory lists, before others are looked at; by node."""
        nodes, runs = _nodes(record, energy)
        if record.start_s is None and not runs:
            return {}
        found = {}
        for node in nodes:
            node_type = self.inventory.type_of(node)
            if node_type is not None:
                start_s, end_s = _span(record, runs.get(node))
                shares = _shares(record, runs.get(node), node_type, len(nodes))
                found[node] = Stay(record.key, start_s, end_s, shares)
        return found

    def held(self, node: str, stay: Stay, occupancy: Occupancy) -> dict[str, HeldHours]:
        """The hours that a stay held of each component, by month."""
        life = self.life(self.inventory.type_of_node[node])
        found = {}
        for month in months(stay.start_s, stay.end_s):
            from_s, to_s = _within(month, stay.start_s, stay.end_s)
            whole = occupancy.hours(stay, from_s, to_s)
            found[month] = HeldHours(whole, occupancy.hours(stay, *life.overlap(from_s, to_s)))
        return found

    def assess(self, record: JobRecord, energy: JobEnergy, held: Held | None = None) -> Assessed:
        """Impacts of one incarnation of a job.

        Args:
            record: the scheduler's words.
            energy: the nodes' books.
            held: what it held of its nodes beside other jobs; None: as if it had been alone.
        """
        return _Job(self, record, energy, held).assessed()

    def zone_of(self, node: str) -> str:
        """The electricity zone of a node."""
        node_type = self.inventory.type_of(node)
        return (node_type and node_type.zone) or self._zone

    def pue_of(self, node: str) -> float | None:
        """A node's PUE; None: the inventory does not tell."""
        node_type = self.inventory.type_of(node)
        return (node_type and node_type.pue) or self.inventory.pue

    def electricity_of(self, node_type: str) -> tuple[Impacts, float]:
        """What a kWh costs where a type of nodes stands, by annual means, and its PUE."""
        found = self.inventory.types[node_type]
        return self.factors.zone(found.zone or self._zone).per_kwh, found.pue or self.inventory.pue or 1.0

    def mixed(self, node: str, weights: Iterable[tuple[int, float]]) -> Mix:
        """The factors of a kWh at a node, over hours with their weights."""
        return self._mixed(self.zone_of(node), list(weights))

    def mixed_of(self, node_type: str, weights: Iterable[tuple[int, float]]) -> Mix:
        """The same where a type of nodes stands."""
        return self._mixed(self.inventory.types[node_type].zone or self._zone, list(weights))

    def _mixed(self, zone: str, hours: list[tuple[int, float]]) -> Mix:
        annual = self.factors.zone(zone).per_kwh
        if self._provider == "annual" or zone != self._zone or not hours:
            return mix(hours, {}, annual)
        return mix(hours, self._intensity(min(hours)[0], max(hours)[0] + HOUR_S), annual)

    def used(self, run: RunEnergy) -> Range:
        """A run's known energy in kWh, with the least and the most that its meters' errors allow."""
        each = [
            self.factors.meter(one.kind, one.method).times(kwh(joules(one.uj)))
            for one in run.domains
            if one.known_ns and one.kind != "node"
        ]
        return sum(each, start=Range(0.0, 0.0, 0.0))

    @property
    def provider(self) -> str:
        """Who tells the electricity's intensity over time."""
        return self._provider

    @property
    def site(self) -> str:
        """The site's zone."""
        return self._zone

    @property
    def idle_mode(self) -> str:
        """How idle shares are found."""
        return self._idle_mode

    @property
    def market(self) -> tuple[float, str] | None:
        """The site's contract."""
        return self._market

    def keys(self, node_type: str, end_s: float) -> Mapping[str, IdleKey]:
        """The idle keys of a type of nodes for a job that ended then, by component."""
        return self._keys(node_type, end_s)

    def shared(self, node: str) -> list[SharedRate]:
        """What serves a node and others."""
        return self._shared.get(node, [])


class _Job:
    """One job while it is assessed."""

    def __init__(self, site: Assessor, record: JobRecord, energy: JobEnergy, held: Held | None) -> None:
        self._site = site
        self._record = record
        self._nodes, self._runs = _nodes(record, energy)
        self._ran = record.start_s is not None or bool(self._runs)
        self._warnings: dict[str, None] = {}
        stays = site.stays(record, energy)
        alone = {node: site.held(node, stay, Occupancy([stay])) for node, stay in stays.items()}
        self._held: Held = alone if held is None else {node: held.get(node, alone[node]) for node in stays}
        self._spans = {node: (stay.start_s, stay.end_s) for node, stay in stays.items()}
        self._mixes: dict[str, Mix] = {}

    def assessed(self) -> Assessed:
        use, no_use = self._use()
        embodied, no_embodied = self._embodied()
        idle_use, idle_embodied, idle_notes = self._idle()
        if use is not None and any(self._site.pue_of(node) is None for node in self._nodes):
            self._warnings["no PUE in the inventory: 1 is assumed, so cooling and losses are not counted"] = None
        reason = "; ".join(filter(None, (no_use and f"use: {no_use}", no_embodied and f"embodied: {no_embodied}")))
        whole = None if use is None or embodied is None else use + embodied
        shared = self._shared()

        def indicator(name: str) -> Indicator:
            return Indicator(
                use=_part(name, use),
                embodied=_part(name, embodied),
                total=_part(name, whole),
                reason=reason or None,
                idle_share=Beside(_part(name, idle_use), _part(name, idle_embodied), idle_notes.reason)
                if self._ran
                else None,
                shared=shared.get(name),
            )

        notes = self._notes(self._grid(), idle_notes, use)
        found = Assessment(
            gwp_kgco2e=indicator("gwp_kgco2e"),
            adp_kgsbe=indicator("adp_kgsbe"),
            pe_mj=indicator("pe_mj"),
            factors=notes,
            warnings=tuple(self._warnings),
        )
        return Assessed(found, self._charges())

    def _use(self) -> tuple[Impacts | None, str | None]:
        if not self._ran:
            return NOTHING, None
        found = []
        for node, run in self._runs.items():
            if any(one.known_ns for one in run.domains):
                pue = self._site.pue_of(node) or 1.0
                found.append(use_impacts(self._site.used(run), self._mix(node).per_kwh, pue))
        return (total(found), None) if found else (None, "no energy was measured")

    def _mix(self, node: str) -> Mix:
        """The electricity of a node while the job ran there."""
        if node not in self._mixes:
            run = self._runs.get(node)
            weights: list[tuple[int, float]] = [(hour_s, float(uj)) for hour_s, uj in run.hours] if run else []
            if not any(weight for _, weight in weights):
                start_s, end_s = self._spans.get(node) or _span(self._record, run)
                weights = even(start_s, end_s)
                if run and len(weights) > 1 and self._site.provider != "annual":
                    self._warnings[f"{node}: its energy over time is not known: taken as even"] = None
            self._mixes[node] = self._site.mixed(node, weights)
        return self._mixes[node]

    def _embodied(self) -> tuple[Impacts | None, str | None]:
        inventory = self._site.inventory
        if not self._ran:
            return NOTHING, None
        if unlisted := self._unlisted():
            return None, unlisted
        found: list[Impacts] = []
        for node in self._nodes:
            name = inventory.type_of_node[node]
            self._warnings.update(dict.fromkeys(self._site.parts(name).warnings))
            if self._runs.get(node) is None and len(self._nodes) > 1:
                self._warnings["shares of nodes that were not metered are the job's, split evenly"] = None
            self._warn_of_life(node, name)
            found += charged(self._hours(node).in_life, self._site.rates(name)).values()
            self._warn_of_shares(node)
        return total(found), None

    def _warn_of_shares(self, node: str) -> None:
        """A scheduler that gave more than the inventory has: one of the two is wrong."""
        node_type = self._site.inventory.types[self._site.inventory.type_of_node[node]]
        held = _holding(self._record, self._runs.get(node), len(self._nodes), node_type.size.gpus)
        there = msgspec.structs.astuple(node_type.size)
        for what, mine, whole in zip(
            ("CPUs", "bytes of memory", "GPUs"), msgspec.structs.astuple(held), there, strict=True
        ):
            if mine is not None and mine > whole * (1 + 1e-9):
                text = f"{node}: it held {mine:.10g} {what}, and the inventory has {whole:.10g}: taken as all of them"
                self._warnings[text] = None

    def _warn_of_life(self, node: str, name: str) -> None:
        start_s, end_s = self._spans[node]
        life = self._site.life(name)
        if start_s < life.from_s:
            self._warnings[f"{node}: used before its purchase, as the inventory has it: not charged"] = None
        elif end_s > life.to_s:
            self._warnings[f"{node}: past its lifetime: its manufacture is paid off, and not charged"] = None

    def _hours(self, node: str) -> HeldHours:
        return sum(self._held.get(node, {}).values(), start=NOTHING_HELD)

    def _ended_s(self) -> float:
        return max((end_s for _, end_s in self._spans.values()), default=0.0)

    def _idle(self) -> tuple[Impacts | None, Impacts | None, IdleNotes]:
        """Its part of idle use and of idle manufacture."""
        mode = self._site.idle_mode
        if unlisted := self._unlisted():
            return None, None, IdleNotes(mode, None, None, unlisted)
        use: list[Impacts] = []
        embodied: list[Impacts] = []
        lacking: dict[str, dict[str, None]] = {}
        window: tuple[str | None, str | None] = (None, None)
        for node in self._spans:
            name = self._site.inventory.type_of_node[node]
            keys = self._site.keys(name, self._ended_s())
            if not keys:
                return None, None, IdleNotes(mode, None, None, self._site.no_key)
            hours = dict(zip(COMPONENTS, self._hours(node).whole.each(), strict=True))
            own = charged(self._hours(node).in_life, self._site.rates(name))
            for component, key in keys.items():
                window = (key.from_month, key.to_month)
                part = f"{_PARTS[component]} of {name}"
                if key.idle_h is not None:
                    embodied.append(own[component].times(key.idle_h))
                elif hours[component]:
                    lacking.setdefault("idle time is not shared out where jobs held too little", {})[part] = None
                if key.use is not None:
                    use.append(key.use.times(hours[component]))
                if mode == "measured" and key.use_known < KNOWN:
                    known = f"known for {key.use_known:.0%} of the time" if key.use is not None else "not known"
                    lacking.setdefault(f"idle electricity is {known}", {})[part] = None
        reasons = [f"{why}: {', '.join(parts)}" for why, parts in lacking.items()]
        if mode == "fixed":
            reasons.append("a fixed part of active use says nothing of energy")
        notes = IdleNotes(mode, *window, "; ".join(reasons) or None)
        return total(use) if use else None, total(embodied) if embodied else None, notes

    def _unlisted(self) -> str | None:
        """Why not all of its nodes are known, if so."""
        inventory = self._site.inventory
        if not self._nodes:
            return "the scheduler's record names no node" if self._ran else None
        unlisted = [node for node in self._nodes if inventory.type_of(node) is None]
        return (inventory.reason or f"not in the inventory: {', '.join(unlisted)}") if unlisted else None

    def _shared(self) -> dict[str, Beside]:
        """Its part of what serves several nodes, by indicator; empty where the inventory lists nothing."""
        some = [(node, rate) for node in self._spans for rate in self._site.shared(node)]
        if not some:
            return {}
        if unlisted := self._unlisted():
            return dict.fromkeys(INDICATORS, Beside(None, None, unlisted))
        use = [self._shared_use(node, rate) for node, rate in some]
        lacking = sorted({rate.name for _, rate in some if rate.kwh is None or None in rate.embodied.values()})
        if lacking:
            self._warnings[f"the inventory does not tell all of {', '.join(lacking)}, which serve several nodes"] = (
                None
            )
        reason = f"the inventory does not tell all of {', '.join(lacking)}" if lacking else None
        known = None if None in use else total(one for one in use if one is not None)
        embodied = {
            name: _all(
                [
                    _times(rate.embodied[name], self._served_hours(node, rate.life, month))
                    for node, rate in some
                    for month in self._held.get(node, {})
                ]
            )
            for name in INDICATORS
        }
        return {name: Beside(_part(name, known), embodied[name], reason) for name in INDICATORS}

    def _shared_use(self, node: str, rate: SharedRate) -> Impacts | None:
        """Its electricity; also past its life, but not before it was there."""
        if rate.kwh is None:
            return None
        there = msgspec.structs.replace(rate.life, to_s=math.inf)
        hours = sum(self._served_hours(node, there, month) for month in self._held.get(node, {}))
        per_kwh = self._site.mixed(node, even(*self._spans[node])).per_kwh
        return use_impacts(rate.kwh * hours, per_kwh, self._site.pue_of(node) or 1.0)

    def _served_hours(self, node: str, life: Life, month: str) -> float:
        """Node-hours of a month in the life of something shared: by the part of the stay that lies in it."""
        from_s, to_s = _within(month, *self._spans[node])
        part = life.hours_in(from_s, to_s) * 3600 / (to_s - from_s) if to_s > from_s else 0.0
        return self._held[node][month].whole.rest * part

    def _charges(self) -> tuple[Charge, ...]:
        """What is booked for each node and month: central values, by component."""
        found = []
        for node, by_month in self._held.items():
            name = self._site.inventory.type_of_node[node]
            keys = self._site.keys(name, self._ended_s())
            some = [one for one in COMPONENTS if one != "gpu" or self._site.inventory.types[name].gpus]
            for month, held in by_month.items():
                hours, in_life = (dict(zip(COMPONENTS, one.each(), strict=True)) for one in (held.whole, held.in_life))
                own = charged(held.in_life, self._site.rates(name))
                known = {one: keys[one] for one in some if one in keys}
                found.append(
                    Charge(
                        key=self._record.key,
                        node=node,
                        month=month,
                        node_type=name,
                        hours={one: hours[one] for one in some},
                        in_life={one: in_life[one] for one in some},
                        own={one: _central(own[one]) for one in some},
                        idle={one: _central(own[one].times(key.idle_h or 0.0)) for one, key in known.items()},
                        idle_use={
                            one: _central(key.use.times(hours[one]))
                            for one, key in known.items()
                            if key.use is not None
                        },
                        shared={rate.name: self._served(node, rate, month) for rate in self._site.shared(node)},
                    )
                )
        return tuple(found)

    def _served(
        self, node: str, rate: SharedRate, month: str
    ) -> tuple[float, float | None, float | None, float | None]:
        hours = self._served_hours(node, rate.life, month)
        gwp, adp, pe = (None if one is None else one.central * hours for one in rate.embodied.values())
        return hours, gwp, adp, pe

    def _grid(self) -> GridNotes | None:
        """How GWP was found over time; None: by annual means alone."""
        mixes = [
            (self._mix(node), sum(one.uj for one in run.domains if one.known_ns and one.kind != "node"))
            for node, run in self._runs.items()
            if self._site.zone_of(node) == self._site.site and any(one.known_ns for one in run.domains)
        ]
        if self._site.provider == "annual" or not mixes:
            return None
        hours, known = (sum(getattr(one, name) for one, _ in mixes) for name in ("hours", "known"))
        estimated, direct = (sum(getattr(one, name) for one, _ in mixes) for name in ("estimated", "direct"))
        weight = sum(uj for _, uj in mixes)
        mean = sum(one.per_kwh.gwp_kgco2e.central * (uj / weight if weight else 1 / len(mixes)) for one, uj in mixes)
        provider = self._site.provider
        if known < hours:
            text = f"{provider} does not know {hours - known} of {hours} hours: the annual mean stands for them"
            self._warnings[text] = None
        if estimated:
            self._warnings[f"{provider} has but estimated {estimated} of {hours} hours"] = None
        return GridNotes(provider, hours, known, estimated, direct, mean)

    def _notes(self, grid: GridNotes | None, idle: IdleNotes, use: Impacts | None) -> FactorNotes:
        site = self._site
        types: list[NodeType | None] = [site.inventory.type_of(node) for node in self._nodes] or [None]
        zones = sorted({(one and one.zone) or site.site for one in types})
        pues = sorted({(one and one.pue) or site.inventory.pue or 1.0 for one in types})
        found: dict[str, Zone] = {zone: site.factors.zone(zone) for zone in zones}
        named = [
            value.source
            for one in found.values()
            for value in (one.gwp_kgco2e_per_kwh, one.adp_kgsbe_per_kwh, one.pe_mj_per_kwh)
        ]
        names = dict.fromkeys(site.inventory.type_of_node.get(node) for node in self._nodes)
        parts = [site.parts(name) for name in names if name]
        embodied = [source for one in parts for line in one.lines for source in line.sources]
        metered = {(one.kind, one.method): None for run in self._runs.values() for one in run.domains if one.known_ns}
        named += [source for kind, method in metered for source in site.factors.meter_sources(kind, method)]
        shared = {rate.name: rate.source for node in self._spans for rate in site.shared(node) if rate.source}
        return FactorNotes(
            set=SET,
            version=site.factors.version,
            zone=",".join(zones),
            pue=pues[0] if len(pues) == 1 else pues,
            allocation=ALLOCATION,
            active_utilisation="none",
            per_kwh={name: zone.per_kwh for name, zone in found.items()},
            sources=[
                *(site.factors.cite(one) for one in dict.fromkeys([*named, *embodied])),
                *(f"{source} (of {name}, as the inventory has it)" for name, source in shared.items()),
            ],
            files=site.factors.files,
            grid=grid,
            idle=idle if self._ran else None,
            market=self._by_contract() if use is not None and self._ran else None,
        )

    def _by_contract(self) -> dict[str, float | str | None] | None:
        if self._site.market is None:
            return None
        per_kwh, source = self._site.market
        found: dict[str, float | str | None] = {"gwp_kgco2e_per_kwh": per_kwh, "source": source}
        away = [node for node in self._runs if self._site.zone_of(node) != self._site.site]
        if away:
            reason = f"the contract is of {self._site.site}, and {', '.join(away)} are not there"
            return {"use_gwp_kgco2e": None, "reason": reason} | found
        used = sum(self._site.used(run).central * (self._site.pue_of(node) or 1.0) for node, run in self._runs.items())
        return {"use_gwp_kgco2e": used * per_kwh} | found


def _check_zone(where: str, node_type: NodeType, factors: Factors) -> None:
    try:
        factors.zone(node_type.zone or next(iter(factors.electricity.zones)))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _nodes(record: JobRecord, energy: JobEnergy) -> tuple[list[str], dict[str, RunEnergy]]:
    nodes = list(dict.fromkeys([*record.nodes, *(run.node for run in energy.runs)]))
    return nodes, {run.node: run for run in energy.runs}


def _life(node_type: NodeType) -> Life:
    return life_of(node_type.purchased, node_type.lifetime_years, node_type.past_lifetime)


def _within(month: str, start_s: float, end_s: float) -> tuple[float, float]:
    from_s, to_s = edges_of(month)
    return max(from_s, start_s), min(to_s, end_s)


def _part(name: str, impacts: Impacts | None) -> Range | None:
    return None if impacts is None else getattr(impacts, name)


def _all(values: list[Range | None]) -> Range | None:
    """The sum; None where one of them is not known."""
    known = [one for one in values if one is not None]
    return sum(known, start=Range(0.0, 0.0, 0.0)) if len(known) == len(values) else None


def _times(value: Range | None, factor: float) -> Range | None:
    return None if value is None else value.times(factor)


def _central(impacts: Impacts) -> tuple[float, float, float]:
    return (impacts.gwp_kgco2e.central, impacts.adp_kgsbe.central, impacts.pe_mj.central)


def _span(record: JobRecord, run: RunEnergy | None) -> tuple[float, float]:
    """When a node was held: suspended time too, since nobody else had its memory and GPUs."""
    if record.start_s is not None and record.end_s is not None:
        return record.start_s, max(record.end_s, record.start_s)
    if run is not None:
        return run.start_s, run.start_s + run.elapsed_ns / 1e9
    start_s = record.start_s or 0.0
    return start_s, start_s


def _shares(record: JobRecord, run: RunEnergy | None, node_type: NodeType, nodes: int) -> Shares:
    """What a job reserved of one node, of which the scheduler gave it so many."""
    size = node_type.size
    if node_type.exclusive or record.exclusive:
        return msgspec.structs.replace(WHOLE, gpu=1.0 if size.gpus else 0.0)
    return shares_of(_holding(record, run, nodes, size.gpus), size)


def _holding(record: JobRecord, run: RunEnergy | None, nodes: int, there: int) -> Holding:
    """What the job holds on one node.

    The scheduler's word where it is about this node alone, else what the node's books say, else an even part of
    the job's whole. Of GPUs that are shared (slices, percentages) only the books know how much.
    """
    cpus, mem_bytes, gpus = (
        None if whole is None else whole / nodes for whole in (record.cpus, record.mem_bytes, record.gpus)
    )
    if run is None:
        return Holding(cpus, mem_bytes, gpus)
    booked = run.gpu_share * there if run.gpus and run.gpu_share is not None else None
    if nodes > 1:
        return Holding(run.cpus or cpus, run.mem_bytes or mem_bytes, len(run.gpus) if booked is None else booked)
    return Holding(
        run.cpus if cpus is None else cpus,
        run.mem_bytes if mem_bytes is None else mem_bytes,
        max(gpus or 0, len(run.gpus)) if booked is None else booked,
    )
