"""Months that are closed, and the idle keys that are frozen with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import convert, to_builtins
from msgspec.structs import replace

from jobimpact.core.config import Config
from jobimpact.core.records import DomainKind, HourShares
from jobimpact.core.units import joules, kwh
from jobimpact.impact.allocation import COMPONENTS
from jobimpact.impact.idle import IdleKey, MonthIdle, fixed_key, key_of
from jobimpact.impact.months import closes_s, edges_of, month_of, months
from jobimpact.impact.occupancy import NO_HOURS, Occupancy
from jobimpact.impact.ranges import Impacts
from jobimpact.impact.shared import INDICATORS
from jobimpact.impact.site import Site
from jobimpact.impact.use import use_impacts
from jobimpact.results.record import MonthRow

if TYPE_CHECKING:
    from jobimpact.results.write import Results

__all__ = ["SHARED", "IdleHours", "Months", "closable", "merged"]

SHARED = "shared"
"""The type under which months and years tell of what serves several nodes."""

COMPONENT_OF: dict[DomainKind, str] = {"cpu": "cpu", "dram": "ram", "gpu": "gpu", "rest": "rest"}
"""Whose idle time a kind of power domain is told with."""

IdleHours = Callable[[float, float], Iterable[HourShares]]
OccupancyOf = Callable[[str, float, float], Occupancy]


class Months:
    """The months that are closed, and their keys.

    Args:
        config: the site's: how the idle share is found.
        results: where months are kept.
    """

    def __init__(self, config: Config, results: Results) -> None:
        self._cluster = config.cluster
        self._mode = config.embodied
        self._results = results
        self._rows: dict[tuple[str, str], dict[str, MonthRow]] = {}
        """By type of nodes and component, and by month."""
        self._keys: dict[tuple[str, str, str], IdleKey] = {}
        for row in results.months(config.cluster):
            self._add(row)

    @property
    def closed(self) -> set[str]:
        """The months that are closed."""
        return {month for by_month in self._rows.values() for month in by_month}

    def keys(self, node_type: str, end_s: float) -> Mapping[str, IdleKey]:
        """The keys of a type of nodes for a job that ended then: those of the last month that was closed by then."""
        if self._mode.idle_share == "fixed":
            return dict.fromkeys(COMPONENTS, fixed_key(self._mode.active_utilisation))
        found = {}
        for component in COMPONENTS:
            by_month = self._rows.get((node_type, component), {})
            month = max((one for one in by_month if closes_s(one) <= end_s), default=None)
            if month is not None:
                found[component] = self._key(node_type, component, month)
        return found

    def _key(self, node_type: str, component: str, month: str) -> IdleKey:
        where = (node_type, component, month)
        if where not in self._keys:
            self._keys[where] = convert(self._rows[node_type, component][month].key, IdleKey)
        return self._keys[where]

    def close(self, month: str, site: Site, on: OccupancyOf, idle: IdleHours, now_s: float) -> None:
        """Count what nobody held in a month, and freeze its keys."""
        self._freeze(month, site, _counted(month, site, on, idle), now_s, anew=False)

    def close_anew(self, month: str, site: Site, on: OccupancyOf, now_s: float) -> None:
        """The same under other factors or another inventory; energies as they were counted then."""
        counted = []
        for one in _counted(month, site, on, lambda _, __: ()):
            row = self._rows.get((one.node_type, one.component), {}).get(month)
            was = None if row is None else convert(row.idle, MonthIdle)
            counted.append(one if was is None else _with_energy(one, was, site))
        self._freeze(month, site, counted, now_s, anew=True)

    def _freeze(self, month: str, site: Site, counted: list[MonthIdle], now_s: float, *, anew: bool) -> None:
        rows = []
        for one in counted:
            before = self._rows.get((one.node_type, one.component), {})
            first = _months_back(month, self._mode.window_months - 1)
            window = [convert(before[m].idle, MonthIdle) for m in sorted(before) if first <= m < month]
            key = key_of([*window, one])
            names = (site.factors.version, site.inventory.version)
            rows.append(MonthRow(month, one.node_type, one.component, to_builtins(one), to_builtins(key), *names))
        self._results.close_month(self._cluster, month, rows, now_s, anew=anew)
        self.forget([month])
        for row in rows:
            self._add(row)

    def forget(self, months: Sequence[str]) -> None:
        """They are not closed any more."""
        self._keys.clear()
        for by_month in self._rows.values():
            for month in months:
                by_month.pop(month, None)

    def _add(self, row: MonthRow) -> None:
        self._rows.setdefault((row.node_type, row.component), {})[row.month] = row

    def of_year(self, year: str) -> dict[tuple[str, str], list[MonthIdle]]:
        """The closed months of a year, by type of nodes and component."""
        return {
            key: [convert(row.idle, MonthIdle) for month, row in sorted(by_month.items()) if month[:4] == year]
            for key, by_month in self._rows.items()
        }

    def made_with(self, year: str) -> list[str]:
        """The factor sets and inventories that a year's months were closed with."""
        rows = [row for by_month in self._rows.values() for month, row in by_month.items() if month[:4] == year]
        return sorted({f"factors {row.factors}, inventory {row.inventory}" for row in rows})


def closable(covered: Iterable[tuple[float, float]], closed: set[str], first_s: float | None) -> list[str]:
    """The months that are not closed and can be: all of their days, and those after them until they close, are known.

    Args:
        covered: the times all of whose jobs are accounted for, merged.
        closed: months that are closed.
        first_s: when the first job began; before that there are no books. None: there is no job.
    """
    if first_s is None:
        return []
    found = []
    for from_s, to_s in covered:
        begin_s = max(from_s, edges_of(month_of(first_s))[0])
        whole = (one for one in months(begin_s, to_s) if edges_of(one)[0] >= begin_s and closes_s(one) <= to_s)
        found += [month for month in whole if month not in closed]
    return sorted(found)


def merged(times: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Times that overlap or follow each other as one; both ends are in them, and records tell whole seconds."""
    found: list[tuple[float, float]] = []
    for from_s, to_s in sorted(times):
        if found and from_s <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], to_s))
        else:
            found.append((from_s, to_s))
    return found


def _counted(month: str, site: Site, on: OccupancyOf, idle: IdleHours) -> list[MonthIdle]:
    from_s, to_s = edges_of(month)
    nodes: dict[str, list[str]] = {}
    for node, name in site.inventory.type_of_node.items():
        nodes.setdefault(name, []).append(node)
    energies = _energies(site, idle(from_s, to_s))
    found = []
    for name, some in nodes.items():
        start_s, end_s = site.life(name).overlap(from_s, to_s)
        available_h = len(some) * (end_s - start_s) / 3600
        held = used = stranded = NO_HOURS
        for node in some:
            occupancy = on(node, from_s, to_s)
            used += occupancy.held(from_s, to_s)
            held += occupancy.held(start_s, end_s)
            stranded += occupancy.stranded(start_s, end_s)
        each = zip(COMPONENTS, held.each(), used.each(), stranded.each(), strict=True)
        for component, held_h, used_h, stranded_h in each:
            if component != "gpu" or site.inventory.types[name].gpus:
                rate = site.rates(name)[component].times(available_h)
                bare = MonthIdle(
                    month=month,
                    node_type=name,
                    component=component,
                    available_h=available_h,
                    held_h=held_h,
                    used_h=used_h,
                    stranded_h=stranded_h,
                    nodes_h=len(some) * (to_s - from_s) / 3600,
                    hardware=rate.central,
                )
                found.append(energies.get((name, component), _Energy()).told(site, bare))
    return found + _shared(month, site)


def _shared(month: str, site: Site) -> list[MonthIdle]:
    """What serves several nodes: its hours are theirs, and who held it is told by what is booked."""
    from_s, to_s = edges_of(month)
    found = []
    for name, served in site.inventory.served.items():
        nodes = [node for node in served if node in site.inventory.type_of_node]
        if not nodes:
            continue
        rate = next(one for one in site.shared(nodes[0]) if one.name == name)
        available_h = len(nodes) * rate.life.hours_in(from_s, to_s)
        gwp, adp, pe = (
            None if one is None else one.central * available_h for one in map(rate.embodied.__getitem__, INDICATORS)
        )
        nodes_h = len(nodes) * (to_s - from_s) / 3600
        found.append(MonthIdle(month, SHARED, name, available_h, 0.0, 0.0, 0.0, nodes_h, (gwp, adp, pe)))
    return found


class _Energy:
    """What nobody had of one component of one type of nodes."""

    def __init__(self) -> None:
        self.idle_uj = self.system_uj = self.hours = 0
        self.weights: dict[int, float] = {}

    def add(self, one: HourShares, kind: DomainKind) -> None:
        idle, system = one.idle_uj.get(kind, 0), one.system_uj.get(kind, 0)
        self.idle_uj += idle
        self.system_uj += system
        self.hours += 1
        self.weights[one.start_s] = self.weights.get(one.start_s, 0.0) + idle + system

    def told(self, site: Site, bare: MonthIdle) -> MonthIdle:
        """What it cost, hour by hour."""
        if not self.hours:
            return bare
        annual, pue = site.electricity_of(bare.node_type)
        per_kwh = site.mixed_of(bare.node_type, self.weights.items()).per_kwh
        idle_kwh, system_kwh = kwh(joules(self.idle_uj)), kwh(joules(self.system_uj))
        mean = annual.gwp_kgco2e.central
        return replace(
            bare,
            idle_kwh=idle_kwh,
            system_kwh=system_kwh,
            use=use_impacts(idle_kwh + system_kwh, per_kwh, pue),
            use_known=min(self.hours / bare.nodes_h, 1.0),
            grid_ratio=per_kwh.gwp_kgco2e.central / mean if mean else 1.0,
        )


def _energies(site: Site, hours: Iterable[HourShares]) -> dict[tuple[str, str], _Energy]:
    found: dict[tuple[str, str], _Energy] = {}
    for one in hours:
        name = site.inventory.type_of_node.get(one.node)
        if name is None:
            continue
        for kind, component in COMPONENT_OF.items():
            if kind in one.idle_uj or kind in one.system_uj:
                found.setdefault((name, component), _Energy()).add(one, kind)
    return found


def _with_energy(one: MonthIdle, was: MonthIdle, site: Site) -> MonthIdle:
    """A month counted anew, with the energies of then under the factors of now: GWP keeps its hours' shape."""
    if was.idle_kwh is None or was.system_kwh is None:
        return one
    annual, pue = site.electricity_of(one.node_type)
    per_kwh = Impacts(annual.gwp_kgco2e.times(was.grid_ratio), annual.adp_kgsbe, annual.pe_mj)
    return replace(
        one,
        idle_kwh=was.idle_kwh,
        system_kwh=was.system_kwh,
        use=use_impacts(was.idle_kwh + was.system_kwh, per_kwh, pue),
        use_known=was.use_known,
        grid_ratio=was.grid_ratio,
    )


def _months_back(month: str, count: int) -> str:
    year, number = map(int, month.split("-"))
    at = year * 12 + number - 1 - count
    return f"{at // 12:04d}-{at % 12 + 1:02d}"
