"""A job's impacts: use and embodied, node by node, with what they rest on. Pure.

Nothing is put in the place of what is not known: an indicator without its energy or its inventory is None, and
says why.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import msgspec

from jobimpact.core.records import JobEnergy, JobRecord, RunEnergy
from jobimpact.core.units import joules, kwh
from jobimpact.impact.allocation import Holding, shares_of
from jobimpact.impact.embodied import HOURS_A_YEAR, embodied_impacts, held_parts
from jobimpact.impact.factors import Factors, Zone
from jobimpact.impact.inventory import Inventory, NodeType
from jobimpact.impact.parts import NodeParts, parts_of
from jobimpact.impact.ranges import NOTHING, Impacts, Range, total
from jobimpact.impact.use import use_impacts

__all__ = ["Assessment", "Assessor", "FactorNotes", "Indicator"]

SET = "jobimpact"


class Indicator(msgspec.Struct, frozen=True):
    """One indicator of a job; None where it is not known, with the reason."""

    use: Range | None
    embodied: Range | None
    total: Range | None
    reason: str | None = None


class FactorNotes(msgspec.Struct, frozen=True):
    """What the use impact was computed with."""

    set: str
    version: str
    zone: str
    pue: float | list[float]
    allocation: str
    active_utilisation: str
    per_kwh: dict[str, Impacts]
    sources: list[str]


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


class Assessor:
    """Factors, inventory and the site's zone, ready for many jobs.

    Raises:
        ConfigError: a zone that the factors do not have.
    """

    def __init__(self, factors: Factors, inventory: Inventory, zone: str) -> None:
        self._factors = factors
        self._inventory = inventory
        self._zone = zone
        for name in {zone, *(one.zone for one in inventory.types.values() if one.zone)}:
            factors.zone(name)
        self._parts = functools.cache(lambda name: parts_of(inventory.types[name], factors))

    def assess(self, record: JobRecord, energy: JobEnergy) -> Assessment:
        """Use and embodied impact of one incarnation of a job."""
        nodes = list(dict.fromkeys([*record.nodes, *(run.node for run in energy.runs)]))
        runs = {run.node: run for run in energy.runs}
        warnings: dict[str, None] = {}
        use, no_use = self._use(record, runs)
        embodied, no_embodied = self._embodied(record, nodes, runs, warnings)
        if use is not None and any(self._pue(node) is None for node in nodes):
            warnings["no PUE in the inventory: 1 is assumed, so cooling and losses are not counted"] = None
        reason = "; ".join(filter(None, (no_use and f"use: {no_use}", no_embodied and f"embodied: {no_embodied}")))
        whole = None if use is None or embodied is None else use + embodied

        def indicator(of: Callable[[Impacts], Range]) -> Indicator:
            return Indicator(_part(of, use), _part(of, embodied), _part(of, whole), reason or None)

        return Assessment(
            gwp_kgco2e=indicator(lambda found: found.gwp_kgco2e),
            adp_kgsbe=indicator(lambda found: found.adp_kgsbe),
            pe_mj=indicator(lambda found: found.pe_mj),
            factors=self._notes(nodes),
            warnings=tuple(warnings),
        )

    def _use(self, record: JobRecord, runs: dict[str, RunEnergy]) -> tuple[Impacts | None, str | None]:
        if record.start_s is None and not runs:
            return NOTHING, None
        found = []
        for node, run in runs.items():
            known = [one.uj for one in run.domains if one.known_ns]
            if known:
                zone, pue = self._site(node)
                found.append(use_impacts(kwh(joules(sum(known))), zone.per_kwh, pue))
        return (total(found), None) if found else (None, "no energy was measured")

    def _embodied(
        self, record: JobRecord, nodes: list[str], runs: dict[str, RunEnergy], warnings: dict[str, None]
    ) -> tuple[Impacts | None, str | None]:
        if record.start_s is None and not runs:
            return NOTHING, None
        if not nodes:
            return None, "the scheduler's record names no node"
        unlisted = [node for node in nodes if self._inventory.type_of(node) is None]
        if unlisted:
            return None, self._inventory.reason or f"not in the inventory: {', '.join(unlisted)}"
        found = []
        for node in nodes:
            node_type, parts = self._built(node)
            warnings.update(dict.fromkeys(parts.warnings))
            held = _holding(record, runs, node, len(nodes))
            if runs.get(node) is None and len(nodes) > 1:
                warnings["shares of nodes that were not metered are the job's, split evenly"] = None
            hours = _hours(record, runs.get(node))
            life = node_type.lifetime_years * HOURS_A_YEAR
            found.append(embodied_impacts(held_parts(parts, shares_of(held, node_type.size)), hours, life))
        return total(found), None

    def _built(self, node: str) -> tuple[NodeType, NodeParts]:
        name = self._inventory.type_of_node[node]
        return self._inventory.types[name], self._parts(name)

    def _site(self, node: str) -> tuple[Zone, float]:
        node_type = self._inventory.type_of(node)
        zone = (node_type and node_type.zone) or self._zone
        return self._factors.zone(zone), self._pue(node) or 1.0

    def _pue(self, node: str) -> float | None:
        node_type = self._inventory.type_of(node)
        return (node_type and node_type.pue) or self._inventory.pue

    def _notes(self, nodes: list[str]) -> FactorNotes:
        types = [self._inventory.type_of(node) for node in nodes] or [None]
        zones = sorted({(one and one.zone) or self._zone for one in types})
        pues = sorted({(one and one.pue) or self._inventory.pue or 1.0 for one in types})
        found = {zone: self._factors.zone(zone) for zone in zones}
        named = [
            value.source
            for zone in found.values()
            for value in (zone.gwp_kgco2e_per_kwh, zone.adp_kgsbe_per_kwh, zone.pe_mj_per_kwh)
        ]
        embodied = ["boavizta", *(["parametric"] if any(one and one.gpus for one in types) else [])]
        return FactorNotes(
            set=SET,
            version=self._factors.version,
            zone=",".join(zones),
            pue=pues[0] if len(pues) == 1 else pues,
            allocation="reserved share of each part, dominant share of the rest",
            active_utilisation="none",
            per_kwh={name: zone.per_kwh for name, zone in found.items()},
            sources=[self._factors.cite(one) for one in dict.fromkeys([*named, *embodied])],
        )


def _part(of: Callable[[Impacts], Range], impacts: Impacts | None) -> Range | None:
    return None if impacts is None else of(impacts)


def _hours(record: JobRecord, run: RunEnergy | None) -> float:
    """How long a node was held: suspended time too, since nobody else had it."""
    if record.start_s is not None and record.end_s is not None:
        return max(record.end_s - record.start_s, 0.0) / 3600
    return run.elapsed_ns / 3.6e12 if run else 0.0


def _holding(record: JobRecord, runs: dict[str, RunEnergy], node: str, nodes: int) -> Holding:
    """What the job holds on one node.

    The scheduler's word where it is about this node alone, else what the node's books say, else an even part of
    the job's whole.
    """
    run = runs.get(node)
    cpus, mem_bytes, gpus = (
        None if whole is None else whole / nodes for whole in (record.cpus, record.mem_bytes, record.gpus)
    )
    if run is None:
        return Holding(cpus, mem_bytes, gpus)
    if nodes > 1:
        return Holding(run.cpus or cpus, run.mem_bytes or mem_bytes, len(run.gpus))
    return Holding(
        run.cpus if cpus is None else cpus,
        run.mem_bytes if mem_bytes is None else mem_bytes,
        max(gpus or 0, len(run.gpus)),
    )
