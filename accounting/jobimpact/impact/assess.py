"""A job's impacts: use and embodied, node by node, with what they rest on. Pure.

Nothing is put in the place of what is not known: an indicator without its energy or its inventory is None, and
says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from jobimpact.core.records import Charge, JobEnergy, JobRecord, Stay
from jobimpact.impact.allocation import COMPONENTS
from jobimpact.impact.assessment import Assessed, Assessment, Beside, FactorNotes, GridNotes, IdleNotes, Indicator
from jobimpact.impact.embodied import charged
from jobimpact.impact.factors import Zone
from jobimpact.impact.inventory import NodeType
from jobimpact.impact.lifetime import Life
from jobimpact.impact.months import edges_of, months
from jobimpact.impact.occupancy import NOTHING_HELD, HeldHours, Occupancy
from jobimpact.impact.ranges import NOTHING, Impacts, Range, sum_of, total
from jobimpact.impact.reservation import excess_of, nodes_of, reserved_shares, span_of
from jobimpact.impact.shared import INDICATORS, SharedRate
from jobimpact.impact.site import Site
from jobimpact.impact.use import Mix, even, use_impacts

__all__ = ["Assessor", "Held"]

SET = "jobimpact"
_PARTS = {"cpu": "CPUs", "ram": "memory", "gpu": "GPUs", "rest": "rest"}
KNOWN = 0.995
"""A part of a time that is as good as all of it."""
ALLOCATION = "reserved share of each part, dominant share of the rest"

Held = Mapping[str, Mapping[str, HeldHours]]
"""By node and month, the hours that a job held of each component."""


class Assessor(Site):
    """A site, ready to assess many jobs."""

    def stays(self, record: JobRecord, energy: JobEnergy) -> dict[str, Stay]:
        """What a job reserved of each node that the inventory lists, before others are looked at; by node."""
        nodes, runs = nodes_of(record, energy)
        if record.start_s is None and not runs:
            return {}
        found = {}
        for node in nodes:
            node_type = self.inventory.type_of(node)
            if node_type is not None:
                start_s, end_s = span_of(record, runs.get(node))
                shares = reserved_shares(record, runs.get(node), node_type, len(nodes))
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
            held: what it held of each of its stays' nodes beside other jobs; None: as if it had been alone.
        """
        return _Job(self, record, energy, held).assessed()


class _Job:
    """One job while it is assessed."""

    def __init__(self, site: Assessor, record: JobRecord, energy: JobEnergy, held: Held | None) -> None:
        self._site = site
        self._record = record
        self._nodes, self._runs = nodes_of(record, energy)
        self._ran = record.start_s is not None or bool(self._runs)
        self._warnings: dict[str, None] = {}
        stays = site.stays(record, energy)
        if held is None:
            held = {node: site.held(node, stay, Occupancy([stay])) for node, stay in stays.items()}
        self._held: Held = held
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
                start_s, end_s = self._spans.get(node) or span_of(self._record, run)
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
            run = self._runs.get(node)
            if (run is None or run.state == "estimated") and len(self._nodes) > 1:
                self._warnings["shares of nodes that were not metered are the job's, split evenly"] = None
            self._warn_of_life(node, name)
            found += charged(self._hours(node).in_life, self._site.rates(name)).values()
            said = excess_of(self._record, run, self._site.inventory.types[name], len(self._nodes))
            self._warnings.update(dict.fromkeys(f"{node}: {one}" for one in said))
        return total(found), None

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
        reason = f"the inventory does not tell all of {', '.join(lacking)}" if lacking else None
        if reason:
            self._warnings[f"{reason}, which serve several nodes"] = None
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
                        own={one: own[one].central for one in some},
                        idle={one: own[one].times(key.idle_h or 0.0).central for one, key in known.items()},
                        idle_use={
                            one: key.use.times(hours[one]).central for one, key in known.items() if key.use is not None
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
            if self._site.zone_of(node) == self._site.zone and any(one.known_ns for one in run.domains)
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
        zones = sorted({(one and one.zone) or site.zone for one in types})
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
                *(site.cite(one) for one in dict.fromkeys([*named, *embodied])),
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
        away = [node for node in self._runs if self._site.zone_of(node) != self._site.zone]
        if away:
            reason = f"the contract is of {self._site.zone}, and {', '.join(away)} are not there"
            return {"use_gwp_kgco2e": None, "reason": reason} | found
        used = sum(self._site.used(run).central * (self._site.pue_of(node) or 1.0) for node, run in self._runs.items())
        return {"use_gwp_kgco2e": used * per_kwh} | found


def _within(month: str, start_s: float, end_s: float) -> tuple[float, float]:
    from_s, to_s = edges_of(month)
    return max(from_s, start_s), min(to_s, end_s)


def _part(name: str, impacts: Impacts | None) -> Range | None:
    return None if impacts is None else getattr(impacts, name)


def _all(values: list[Range | None]) -> Range | None:
    """The sum; None where one of them is not known."""
    known = [one for one in values if one is not None]
    return sum_of(known) if len(known) == len(values) else None


def _times(value: Range | None, factor: float) -> Range | None:
    return None if value is None else value.times(factor)
