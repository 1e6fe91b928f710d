"""Jobs, groups of jobs and functional units side by side, and what may be said of their difference. Pure.

Most of a range is alike for all that is compared: the factors of one site err together. So of two totals both are
taken at the same end of each range that they share, and at any end of those that they do not; which is less is told
only where all of these agree. Energies are compared where they are sums of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import fsum
from typing import Any, Literal

import msgspec

from jobimpact.core.records import DomainKind
from jobimpact.impact.functional_unit import UnitImpacts
from jobimpact.impact.ranges import Range
from jobimpact.report.job import KINDS
from jobimpact.report.numbers import percent
from jobimpact.report.words import clean, count, listed
from jobimpact.results.outcome import FAILED, coverage_of
from jobimpact.results.record import JobResult

__all__ = [
    "INDICATORS",
    "Comparison",
    "Ratio",
    "Scaling",
    "Side",
    "compare",
    "side_of_jobs",
    "side_of_unit",
    "with_work",
]

INDICATORS = ("gwp_kgco2e", "adp_kgsbe", "pe_mj")
MIN_COVERAGE = 0.9
OVERLAP = "the ranges overlap"
_PARTS = ("use", "embodied", "total")
Order = Literal["less", "more", "equal", "not known"]


class Impact(msgspec.Struct, frozen=True):
    """One indicator of one side; None where it is not known."""

    use: Range | None = None
    embodied: Range | None = None
    total: Range | None = None

    def times(self, factor: float) -> Impact:
        """Each part, scaled."""
        return Impact(
            *(None if part is None else part.times(factor) for part in (self.use, self.embodied, self.total))
        )


class Side(msgspec.Struct, frozen=True):
    """One of those that are compared."""

    name: str
    """As it was asked for. Not clean."""
    kind: Literal["job", "jobs", "unit"]
    jobs: int
    """Runs in it; 0 of a unit."""
    state: str
    energy_j: Range | None
    time_s: float | None
    """How long it ran; of several jobs together."""
    nodes: int | None
    """Of several jobs, if all had as many; so are CPUs and GPUs."""
    cpus: int | None
    gpus: int | None
    coverage: float | None
    """None of a unit: its energy is given."""
    methods: dict[DomainKind, str]
    """How each kind of part was measured; a kind that is not known is not there."""
    lacking: tuple[DomainKind, ...]
    """Kinds of parts that it had, and of which nothing, or not of all, is known."""
    impacts: dict[str, Impact]
    use_basis: str
    """Sides with the same one share the range of their use: factors, electricity and meters are the same."""
    embodied_basis: str
    """Likewise of embodied: factors and types of nodes."""
    factors: str | None
    """The version; None: given in a file."""
    ran: bool = True
    """It had nodes."""
    work: float | None = None
    """Steps, or what else was done."""
    notes: tuple[str, ...] = ()


class Ratio(msgspec.Struct, frozen=True):
    """A side by the first one."""

    value: float | None
    """Of the central figures; None: not to be told."""
    low: float | None = None
    high: float | None = None
    order: Order = "not known"
    """Whether it is certain that it is less, or more."""
    why_not: str = ""


class Scaling(msgspec.Struct, frozen=True):
    """A side by the one with the fewest nodes, for the same work."""

    nodes: float
    speed_up: float | None
    energy: float | None
    """How many times the energy the same work took."""


class Comparison(msgspec.Struct, frozen=True):
    """Sides, and what may be said of their difference."""

    sides: tuple[Side, ...]
    per: float | None
    """Ratios are of so much work; None: of the whole, since the work of some is not known."""
    ratios: tuple[dict[str, Ratio], ...]
    """Of each side: `energy`, `time`, and the indicators' totals."""
    scaling: tuple[Scaling | None, ...]
    """Empty: all have as many nodes, or the work is not known."""
    flags: tuple[str, ...]
    """Why some of it is not to be compared."""
    verdicts: tuple[str, ...]


# -- sides -----------------------------------------------------------------------------------------------------------


def side_of_jobs(name: str, jobs: Sequence[JobResult], notes: Iterable[str] = ()) -> Side:
    """Jobs as one side: of one job all its runs.

    Args:
        name: as it was asked for.
        jobs: at least one.
        notes: what is to be told of it.
    """
    ran = [one for one in jobs if one.start_s is not None]
    known = [one.energy_j for one in ran if one.energy_j is not None]
    several = len({one.job_id for one in jobs}) > 1
    lacking = tuple(kind for kind in KINDS if any(_lacks(one, kind) for one in ran))
    bad = sum(one.state in FAILED for one in ran)
    state = f"{bad}/{len(jobs)} failed" if len(jobs) > 1 else jobs[0].state.replace("_", " ").lower()
    unmeasured = len(ran) - len(known)
    said = list(notes)
    if unmeasured and known:
        said.append(f"of {unmeasured} of {count(len(ran), 'run')} nothing was measured: they are in no sum")
    if any(one.end_s is None for one in ran):
        said.append("not over: its figures are so far")
    versions = sorted({str(one.factors.get("version")) for one in ran})
    elapsed = [one.elapsed_s for one in ran]
    return Side(
        name=name,
        kind="jobs" if several else "job",
        jobs=len(jobs),
        state=state,
        energy_j=_exactly(fsum(known)) if known else None,
        time_s=None if not ran or None in elapsed else fsum(one for one in elapsed if one is not None),
        nodes=_same(len(one.nodes) for one in ran),
        cpus=_same(one.cpus for one in ran),
        gpus=_same(one.gpus for one in ran),
        coverage=coverage_of((len(one.nodes) * (one.elapsed_s or 0.0), one.coverage) for one in ran),
        methods=_methods(ran),
        lacking=lacking,
        impacts={indicator: _impact(ran, indicator) for indicator in INDICATORS},
        use_basis=_basis(one.factors.get("version") for one in ran) + _zones(ran) + str(sorted(_methods(ran).items())),
        embodied_basis=_basis(one.factors.get("version") for one in ran) + _types(ran),
        factors=" + ".join(versions) or None,
        ran=bool(ran),
        work=_steps(ran),
        notes=tuple(said),
    )


def side_of_unit(unit: UnitImpacts, basis: str) -> Side:
    """A functional unit as one side.

    Args:
        unit: assessed.
        basis: a word for the file: ranges that it gives are not known to be shared.
    """
    per_kwh = str(unit.method.get("electricity"))
    hardware = str(unit.method.get("hardware"))
    steps = fsum(phase.forecast.steps for phase in unit.phases) if unit.phases else None
    nodes = unit.method.get("nodes")
    hours = unit.duration_hours
    return Side(
        name=unit.name,
        kind="unit",
        jobs=0,
        state="assessed",
        energy_j=None if unit.energy_kwh is None else unit.energy_kwh.times(3.6e6),
        time_s=None if hours is None else hours.central * 3600,
        nodes=nodes["value"] if nodes else None,
        cpus=None,
        gpus=None,
        coverage=None,
        methods={},
        lacking=(),
        impacts={
            name: Impact(*(getattr(unit, part)[name] for part in _PARTS)) for name in INDICATORS if name in unit.total
        },
        use_basis=f"unit {per_kwh} {unit.method.get('pue')}" if _is_exact(unit.energy_kwh) else basis,
        embodied_basis=f"unit {hardware}" if _is_exact(hours) else basis,
        factors=unit.method.get("factors"),
        work=steps,
        notes=unit.notes,
    )


def _is_exact(found: Range | None) -> bool:
    return found is not None and found.low == found.high


def with_work(sides: Sequence[Side], work: Sequence[float]) -> tuple[Side, ...]:
    """The same sides with what each did: one number for all, or one each."""
    each = list(work) * len(sides) if len(work) == 1 else work
    return tuple(msgspec.structs.replace(side, work=done) for side, done in zip(sides, each, strict=True))


def _exactly(value: float) -> Range:
    return Range(value, value, value)


def _same(values: Iterable[int | None]) -> int | None:
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _lacks(one: JobResult, kind: DomainKind) -> bool:
    found = one.energy["domains"].get(kind)
    return found is not None and (found["energy_j"] is None or 0 < found["coverage"] < MIN_COVERAGE)


def _methods(ran: Sequence[JobResult]) -> dict[DomainKind, str]:
    found: dict[DomainKind, set[str]] = {}
    for one in ran:
        for kind, domain in one.energy["domains"].items():
            if domain["energy_j"] is not None and domain["method"] not in {"none held", "never started"}:
                found.setdefault(kind, set()).update((domain["method"] or "").split("+"))
    return {kind: "+".join(sorted(methods)) for kind, methods in found.items()}


def _impact(ran: Sequence[JobResult], indicator: str) -> Impact:
    return Impact(*(_sum([one.impacts[indicator][part] for one in ran]) for part in _PARTS))


def _sum(parts: Sequence[dict[str, float] | None]) -> Range | None:
    """Of all; None where one is not known: a sum of some would be compared with one of all."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return Range(*(fsum(part[end] for part in known) for end in ("low", "central", "high")))


def _basis(words: Iterable[Any]) -> str:
    return f"factors {sorted({str(word) for word in words})} "


def _zones(ran: Sequence[JobResult]) -> str:
    return f"zones {sorted({zone for one in ran for zone in one.factors.get('per_kwh', {})})} "


def _types(ran: Sequence[JobResult]) -> str:
    each = {str(kind) for one in ran for kind in (one.inventory.get("types") or {}).values()}
    return f"types {sorted(each)} {sorted({str(one.inventory.get('version')) for one in ran})}"


def _steps(ran: Sequence[JobResult]) -> float | None:
    """What they say to have done, of all of them, and all of it: a run that failed did not do it."""
    found = []
    for one in ran:
        text = one.labels.get("steps", "")
        if one.state == "COMPLETED" and text.isascii() and text.replace(".", "", 1).isdigit() and float(text) > 0:
            found.append(float(text))
        elif one.state == "COMPLETED":
            return None
    return fsum(found) if found else None


# -- their difference ----------------------------------------------------------------------------------------------


def compare(sides: Sequence[Side], per: float | None = None) -> Comparison:
    """Set sides beside each other.

    Args:
        sides: at least two; the first is what the others are held against.
        per: so much work; None: one unit of it.
    """
    by_work = all(side.work for side in sides)
    flags = list(_flags(sides, by_work=by_work, wanted=per))
    first = sides[0]
    ratios = tuple(_ratios(side, first, by_work=by_work) for side in sides)
    return Comparison(
        sides=tuple(sides),
        per=(per or 1.0) if by_work else None,
        ratios=ratios,
        scaling=tuple(_scaling(sides)) if by_work else (),
        flags=tuple(flags),
        verdicts=tuple(_verdicts(sides, ratios, by_work=by_work)),
    )


def _ratios(side: Side, first: Side, *, by_work: bool) -> dict[str, Ratio]:
    scale = (first.work or 1.0) / (side.work or 1.0) if by_work else 1.0
    if side is first:
        return {name: Ratio(1.0, 1.0, 1.0, "equal") for name in ("energy", "time", *INDICATORS)}
    found = {"energy": _energy_ratio(side, first, scale), "time": Ratio(None, why_not="not known")}
    if side.time_s is not None and first.time_s:
        value = side.time_s * scale / first.time_s
        found["time"] = Ratio(value, value, value, _order(value, value))
    for name in INDICATORS:
        found[name] = _impact_ratio(name, side, first, scale)
    return found


def _energy_ratio(side: Side, first: Side, scale: float) -> Ratio:
    why = _not_alike(side, first)
    if why:
        return Ratio(None, why_not=why)
    if side.energy_j is None or first.energy_j is None or first.energy_j.central <= 0:
        return Ratio(None, why_not="not known")
    mine, theirs = side.energy_j.times(scale), first.energy_j
    low, high = mine.low / theirs.high if theirs.high else None, mine.high / theirs.low if theirs.low else None
    return _told(mine.central / theirs.central, low, high)


def _impact_ratio(name: str, side: Side, first: Side, scale: float) -> Ratio:
    mine, theirs = side.impacts.get(name, Impact()), first.impacts.get(name, Impact())
    why = _not_alike(side, first)
    if why:
        return Ratio(None, why_not=why)
    if side.factors != first.factors and side.kind != "unit" and first.kind != "unit":
        return Ratio(None, why_not="other factors")
    parts = (mine.use, mine.embodied, theirs.use, theirs.embodied)
    if mine.total is None or theirs.total is None or theirs.total.central <= 0 or None in parts:
        return Ratio(None, why_not="not known")
    use, embodied = mine.times(scale).use, mine.times(scale).embodied
    if use is None or embodied is None or theirs.use is None or theirs.embodied is None:
        return Ratio(None, why_not="not known")
    uses = _ends(use, theirs.use, shared=side.use_basis == first.use_basis)
    makings = _ends(embodied, theirs.embodied, shared=side.embodied_basis == first.embodied_basis)
    each = [(a + b) / (c + d) for (a, c), (b, d) in product(uses, makings) if c + d > 0]
    value = mine.total.central * scale / theirs.total.central
    return _told(value, min(each), max(each)) if each else Ratio(None, why_not="not known")


def _ends(mine: Range, theirs: Range, *, shared: bool) -> list[tuple[float, float]]:
    """Both at the same end, or each at any."""
    one, other = ((part.low, part.central, part.high) for part in (mine, theirs))
    return list(zip(one, other, strict=True)) if shared else list(product(one, other))


def _told(value: float, low: float | None, high: float | None) -> Ratio:
    order = "not known" if low is None or high is None else _order(low, high)
    return Ratio(value, low, high, order, "" if order != "not known" else OVERLAP)


def _order(low: float, high: float) -> Order:
    if low == high == 1.0:
        return "equal"
    return "less" if high < 1 else "more" if low > 1 else "not known"


def _not_alike(side: Side, first: Side) -> str:
    """Why their energies are not sums of the same kind; empty: they are."""
    for one in (side, first):
        if one.kind != "unit" and one.coverage is not None and one.coverage < MIN_COVERAGE:
            return "too little measured"
    if "unit" in {side.kind, first.kind}:
        return ""  # given figures, perhaps beside measured ones: that is told as a flag
    if any((kind in side.methods) != (kind in first.methods) and _had(kind, side, first) for kind in KINDS):
        return "other parts measured"
    if ("modelled" in str(side.methods)) != ("modelled" in str(first.methods)):
        return "modelled beside measured"
    return ""


def _had(kind: DomainKind, *sides: Side) -> bool:
    """One of them had it, and it is not known: a job without a GPU lacks nothing."""
    return any(kind in side.lacking for side in sides)


def _flags(sides: Sequence[Side], *, by_work: bool, wanted: float | None) -> Iterator[str]:
    measured = [side for side in sides if side.kind != "unit"]
    yield from _flags_of_energy(measured)
    if len({side.factors for side in measured}) > 1:
        yield "They were accounted with different factors: their impacts are not compared (account --recompute)."
    if measured and len(measured) < len(sides):
        yield "Figures of units are given in their file, those of jobs measured: the parts they cover may differ."
    failed = [side for side in measured if side.kind == "job" and side.state.upper().replace(" ", "_") in FAILED]
    if failed:
        yield f"{_names(failed)} did not complete: less was done than asked for."
    if not by_work and (wanted is not None or any(side.work for side in sides)):
        without = _names([side for side in sides if not side.work])
        yield f"What was done is not known of {without}: ratios are of the whole (see --steps)."


def _flags_of_energy(measured: Sequence[Side]) -> Iterator[str]:
    """What keeps sums from being of the same kind."""
    for side in measured:
        if side.energy_j is None:
            yield f"{_names([side])}: {'not measured' if side.ran else 'it never ran'}."
        elif side.coverage is not None and side.coverage < MIN_COVERAGE:
            yield f"{_names([side])}: energy is known for {percent(side.coverage)} only: it is not compared."
    for kind, label in KINDS.items():
        having = [side for side in measured if kind in side.methods]
        lacking = [side for side in measured if kind in side.lacking and kind not in side.methods]
        if having and lacking:
            what = "The rest of the node" if kind == "rest" else f"{label[:1].upper()}{label[1:]}"
            yield f"{what} is in the energy of {_names(having)}, not of {_names(lacking)}: these are not compared."
    modelled = [side for side in measured if "modelled" in str(side.methods)]
    if modelled and len(modelled) < len(measured):
        yield f"Energy of {_names(modelled)} is modelled, not measured: it is not compared with what was."


def _names(sides: Sequence[Side]) -> str:
    return listed([clean(side.name) for side in sides])


def _scaling(sides: Sequence[Side]) -> Iterator[Scaling | None]:
    """Against the fewest nodes, for the same work."""
    with_nodes = [side for side in sides if side.nodes]
    if len({side.nodes for side in with_nodes}) < 2:
        return
    base = min(with_nodes, key=lambda side: side.nodes or 0)
    for side in sides:
        if not side.nodes or not base.nodes or not side.work or not base.work:
            yield None
            continue
        scale = base.work / side.work
        times = (side.time_s, base.time_s)
        alike = not _not_alike(side, base) and side.energy_j is not None and base.energy_j is not None
        yield Scaling(
            nodes=side.nodes / base.nodes,
            speed_up=times[1] / (times[0] * scale) if times[0] and times[1] else None,
            energy=side.energy_j.central * scale / base.energy_j.central
            if alike and side.energy_j and base.energy_j and base.energy_j.central
            else None,
        )


_WHAT = {"energy": "energy", "gwp_kgco2e": "GWP", "adp_kgsbe": "ADP", "pe_mj": "PE"}


def _verdicts(sides: Sequence[Side], ratios: Sequence[dict[str, Ratio]], *, by_work: bool) -> Iterator[str]:
    """What is certain of each side, in words."""
    first = clean(sides[0].name)
    same = " for the same steps" if by_work else ""
    forms = {"less": "less {} than", "more": "more {} than", "equal": "as much {} as"}
    for side, found in list(zip(sides, ratios, strict=True))[1:]:
        by: dict[str, list[str]] = {}
        for name, what in _WHAT.items():
            by.setdefault(_verdict(found[name]), []).append(what)
        said = [f"{form.format(listed(by[order]))} {first}" for order, form in forms.items() if order in by]
        if said:
            yield f"{clean(side.name)}: {', '.join(said)}{same}."
        if "overlap" in by:
            yield f"{clean(side.name)}: which has less {listed(by['overlap'])} is not known: the ranges overlap."


def _verdict(one: Ratio) -> str:
    if one.order == "not known":
        return "overlap" if one.why_not == OVERLAP else "none"
    return one.order
