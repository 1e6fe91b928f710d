"""Months that are closed, the idle keys that are frozen with them, and what closes a year's books."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from jobimpact.core.config import Config
from jobimpact.core.records import DomainKind, HourShares, Triple
from jobimpact.core.units import joules, kwh
from jobimpact.impact.allocation import COMPONENTS
from jobimpact.impact.assess import Assessor
from jobimpact.impact.idle import IdleKey, MonthIdle, fixed_key, key_of
from jobimpact.impact.months import closes_s, edges_of, months
from jobimpact.impact.occupancy import NO_HOURS, Occupancy
from jobimpact.impact.ranges import Impacts, total
from jobimpact.impact.use import use_impacts
from jobimpact.results.record import MonthRow

if TYPE_CHECKING:
    from jobimpact.results.write import Results, Sums

__all__ = ["BookLine", "IdleHours", "Months", "closable", "closed_again", "merged", "year_books"]

COMPONENT_OF: dict[DomainKind, str] = {"cpu": "cpu", "dram": "ram", "gpu": "gpu", "rest": "rest"}
"""Whose idle time a kind of power domain is told with."""

IdleHours = Callable[[float, float], Iterable[HourShares]]
OccupancyOf = Callable[[str, float, float], Occupancy]
Three = tuple[float | None, float | None, float | None]


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
                found[component] = convert(by_month[month].key, IdleKey)
        return found

    def close(self, month: str, site: Assessor, on: OccupancyOf, idle: IdleHours, now_s: float) -> None:
        """Count what nobody held in a month, and freeze its keys."""
        self._freeze(month, site, _counted(month, site, on, idle), now_s, anew=False)

    def close_anew(self, month: str, site: Assessor, on: OccupancyOf, now_s: float) -> None:
        """The same under other factors or another inventory; energies as they were counted then."""
        counted = []
        for one in _counted(month, site, on, lambda _, __: ()):
            row = self._rows.get((one.node_type, one.component), {}).get(month)
            was = None if row is None else convert(row.idle, MonthIdle)
            counted.append(one if was is None else _with_energy(one, was, site))
        self._freeze(month, site, counted, now_s, anew=True)

    def _freeze(self, month: str, site: Assessor, counted: list[MonthIdle], now_s: float, *, anew: bool) -> None:
        rows = []
        for one in counted:
            before = self._rows.get((one.node_type, one.component), {})
            first = _months_back(month, self._mode.window_months - 1)
            window = [convert(before[m].idle, MonthIdle) for m in sorted(before) if first <= m < month]
            key = key_of([*window, one])
            names = (site.factors.version, site.inventory.version)
            rows.append(MonthRow(month, one.node_type, one.component, to_builtins(one), to_builtins(key), *names))
        self._results.close_month(self._cluster, rows, now_s, anew=anew)
        for row in rows:
            self._add(row)

    def _add(self, row: MonthRow) -> None:
        self._rows.setdefault((row.node_type, row.component), {})[row.month] = row

    def of_year(self, year: str, node_type: str, component: str) -> list[MonthIdle]:
        """The closed months of a year."""
        by_month = self._rows.get((node_type, component), {})
        return [convert(by_month[month].idle, MonthIdle) for month in sorted(by_month) if month.startswith(f"{year}-")]


def closable(covered: Iterable[tuple[float, float]], closed: set[str]) -> list[str]:
    """The months that are not closed and can be: all of their days, and those after them until they close, are known.

    Args:
        covered: the times all of whose jobs are accounted for, merged.
        closed: months that are closed.
    """
    found = []
    for from_s, to_s in covered:
        whole = (one for one in months(from_s, to_s) if edges_of(one)[0] >= from_s and closes_s(one) <= to_s)
        found += [month for month in whole if month not in closed]
    return sorted(found)


def merged(times: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Times that touch or overlap as one."""
    found: list[tuple[float, float]] = []
    for from_s, to_s in sorted(times):
        if found and from_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], to_s))
        else:
            found.append((from_s, to_s))
    return found


def _counted(month: str, site: Assessor, on: OccupancyOf, idle: IdleHours) -> list[MonthIdle]:
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
                bare = MonthIdle(month, name, component, available_h, held_h, used_h, stranded_h)
                nodes_h = len(some) * (to_s - from_s) / 3600
                found.append(energies.get((name, component), _Energy()).told(site, bare, nodes_h))
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

    def told(self, site: Assessor, bare: MonthIdle, nodes_h: float) -> MonthIdle:
        """What it cost, hour by hour; of so many hours of all nodes."""
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
            use_known=min(self.hours / nodes_h, 1.0),
            grid_ratio=per_kwh.gwp_kgco2e.central / mean if mean else 1.0,
        )


def _energies(site: Assessor, hours: Iterable[HourShares]) -> dict[tuple[str, str], _Energy]:
    found: dict[tuple[str, str], _Energy] = {}
    for one in hours:
        name = site.inventory.type_of_node.get(one.node)
        if name is None:
            continue
        for kind, component in COMPONENT_OF.items():
            if kind in one.idle_uj or kind in one.system_uj:
                found.setdefault((name, component), _Energy()).add(one, kind)
    return found


def _with_energy(one: MonthIdle, was: MonthIdle, site: Assessor) -> MonthIdle:
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


class BookLine(Struct, frozen=True):
    """One component of one type of nodes over a time: kgCO2e, kgSbe and MJ, central values; None: not known."""

    node_type: str
    component: str
    nodes: int
    available_h: float
    """Hours in which they were in their life."""
    held_h: float
    """Of these, hours of the whole component that jobs held."""
    hardware: Three
    """What its manufacture comes to over the time: its whole, times the time in its life, over its lifetime."""
    jobs: Three
    idle: Three
    """What jobs were told as their idle share."""
    true_up: Three
    """What closes the books: hardware - jobs - idle shares."""
    idle_use: Three = (None, None, None)
    """What the electricity cost that no job had, in closed months; PUE included."""
    idle_use_told: Three = (0.0, 0.0, 0.0)
    """What jobs were told of it as their idle share."""
    idle_use_true_up: Three = (None, None, None)
    """What closes those books."""


def year_books(site: Assessor, sums: Mapping[tuple[str, str], Sums], months: Months, year: str) -> list[BookLine]:
    """The books of a year, as far as it has closed months; empty where it has none.

    Args:
        site: inventory and factors.
        sums: what was booked of jobs in these months, by type of nodes and component.
        months: the months that are closed.
        year: `2026`.
    """
    closed = sorted(month for month in months.closed if month.startswith(f"{year}-"))
    if not closed:
        return []
    lines = []
    for name, node_type in site.inventory.types.items():
        nodes = sum(one == name for one in site.inventory.type_of_node.values())
        available_h = sum(nodes * site.life(name).hours_in(*edges_of(month)) for month in closed)
        for component in COMPONENTS:
            if component == "gpu" and not node_type.gpus:
                continue
            hardware = _three(site.rates(name)[component].times(available_h))
            idle = [one.use for one in months.of_year(year, name, component) if one.use is not None]
            use = _three(total(idle)) if idle else (None, None, None)
            lines.append(_line(name, component, nodes, available_h, hardware, sums.get((name, component)), use))
    return lines + _shared_lines(site, sums, closed)


def _shared_lines(site: Assessor, sums: Mapping[tuple[str, str], Sums], closed: list[str]) -> list[BookLine]:
    lines = []
    for name, nodes in site.inventory.served.items():
        rate = next((one for node in nodes for one in site.shared(node) if one.name == name), None)
        if rate is None:
            continue
        available_h = sum(len(nodes) * rate.life.hours_in(*edges_of(month)) for month in closed)
        gwp, adp, pe = (None if one is None else one.central * available_h for one in rate.embodied.values())
        some = [one for (_, component), one in sums.items() if component == f"shared.{name}"]
        lines.append(_line("shared", name, len(nodes), available_h, (gwp, adp, pe), _added(some)))
    return lines


def _added(sums: list[Sums]) -> Sums | None:
    if not sums:
        return None
    first, *others = sums
    for one in others:
        own, idle, use = (_plus(getattr(first, n), getattr(one, n)) for n in ("own", "idle", "idle_use"))
        first = replace(first, hours=first.hours + one.hours, own=own, idle=idle, idle_use=use)
    return first


def _plus(one: Triple, other: Triple) -> Triple:
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2])


def _minus(one: Three, *others: Three) -> Three:
    a, b, c = (
        None if value is None else value - sum(other[at] or 0.0 for other in others) for at, value in enumerate(one)
    )
    return (a, b, c)


def _three(impacts: Impacts) -> Three:
    return (impacts.gwp_kgco2e.central, impacts.adp_kgsbe.central, impacts.pe_mj.central)


def _line(
    kind: str,
    component: str,
    nodes: int,
    available_h: float,
    hardware: Three,
    sums: Sums | None,
    use: Three = (None, None, None),
) -> BookLine:
    nothing: Three = (0.0, 0.0, 0.0)
    own: Three = sums.own if sums else nothing
    idle: Three = sums.idle if sums else nothing
    told: Three = sums.idle_use if sums else nothing
    return BookLine(
        node_type=kind,
        component=component,
        nodes=nodes,
        available_h=available_h,
        held_h=sums.hours if sums else 0.0,
        hardware=hardware,
        jobs=own,
        idle=idle,
        true_up=_minus(hardware, own, idle),
        idle_use=use,
        idle_use_told=told,
        idle_use_true_up=_minus(use, told),
    )


def closed_again(lines: Iterable[BookLine], before: Iterable[Mapping[str, Any]]) -> Iterator[BookLine]:
    """A closed year's books with late jobs in them: what its hardware came to stays as it was when it was closed."""
    was = {(one["node_type"], one["component"]): one for one in before}
    for line in lines:
        found = was.get((line.node_type, line.component))
        if found is None:
            yield line
            continue
        hardware = convert(found["hardware"], Three)
        kept = {"nodes": found["nodes"], "available_h": found["available_h"], "hardware": hardware}
        yield replace(line, **kept, true_up=_minus(hardware, line.jobs, line.idle))
