"""Several jobs together: what is known of them is added up, and what is not is counted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from jobimpact.core.records import DomainKind
from jobimpact.results.figures import FACTOR_SET, IMPACTS, KINDS, figures_of
from jobimpact.results.outcome import FAILED, has_run
from jobimpact.results.record import JobResult

__all__ = [
    "INDICATORS",
    "NONE",
    "Adder",
    "Alike",
    "Ending",
    "SumImpact",
    "Sums",
    "merged",
    "sums_of",
]

NONE = frozenset({"none held", "never started"})
"""A part of this kind there was none of: its zero is a number, and was not measured."""
INDICATORS = ("gwp_kgco2e", "adp_kgsbe", "pe_mj")

# Of any length to msgspec: fixed ones in a union it reads wrongly.
Three = Annotated[tuple[float, ...], msgspec.Meta(min_length=3, max_length=3)]


class SumImpact(msgspec.Struct, frozen=True):
    """One indicator over several jobs, each low, central, high; None: of none of them known."""

    use: Three | None = None
    embodied: Three | None = None
    total: Three | None = None
    """Over the jobs of which both are known."""
    known: int = 0
    """How many jobs are in `total`."""


class Ending(msgspec.Struct, frozen=True):
    """Jobs that ended alike."""

    state: str
    exit_code: str | None
    jobs: int
    energy_j: float | None
    """Of those that are measured; None: none is."""
    measured: int | None = None
    """How many these are; None: an earlier release tells it."""


class Sums(msgspec.Struct, frozen=True):
    """Several jobs together. What is not known of some is not in the sum, and is counted."""

    jobs: int
    ran: int
    failed: int
    measured: int
    """Of so many the energy is known, in part at least."""
    energy_j: float | None
    failed_energy_j: float | None
    coverage: float | None
    """Weighted by node-hours; None: no job had a node for any time."""
    cpu_hours: float
    gpu_hours: float
    node_hours: float
    impacts: dict[str, SumImpact]
    """By `gwp_kgco2e`, `adp_kgsbe`, `pe_mj`."""
    endings: tuple[Ending, ...] = ()
    first_start_s: float | None = None
    last_end_s: float | None = None
    accounted_s: float | None = None
    methods: dict[DomainKind, tuple[str, ...]] = {}
    """How each kind of part was measured, all that any job has (`counter`, `gauge`, `modelled`); not of a split."""
    factors: tuple[str, ...] = ()
    """The versions of the factors that the impacts were made with; not of a split."""
    kinds: dict[DomainKind, float | None] = {}
    """Joules by kind of part, of those that had any; None: of none of them known. Not of a split."""
    lacking: dict[DomainKind, int] = {}
    """Of how many jobs a kind of part that they had is not known; not of a split."""


class Alike(msgspec.Struct):
    """Jobs of one state and exit code; of those that never ran there is only the number. Seconds are of parts held."""

    jobs: int = 0
    ran: int = 0
    accounted_s: float | None = None
    measured: int = 0
    energy_j: float = 0.0
    node_s: float = 0.0
    known_node_s: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    start_s: float | None = None
    end_s: float | None = None

    def add(self, more: Alike) -> None:
        """Put others to these."""
        for name in ("jobs", "ran", "measured", "energy_j", "node_s", "known_node_s", "cpu_s", "gpu_s"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.start_s = _first(self.start_s, more.start_s)
        self.end_s = _last(self.end_s, more.end_s)
        self.accounted_s = _last(self.accounted_s, more.accounted_s)


class Adder:
    """Jobs, one after the other, and what they come to.

    Args:
        light: without impacts.
    """

    def __init__(self, *, light: bool = False) -> None:
        self._light = light
        self._alike: dict[tuple[str, str | None], Alike] = {}
        # Of each indicator: use, embodied, total; of each low, central, high, and of how many jobs.
        self._impacts = [[0.0, 0.0, 0.0, 0] for _ in range(9)]
        self._methods: dict[DomainKind, set[str]] = {}
        self._factors: set[str] = set()
        self._kinds: dict[DomainKind, float | None] = {}
        self._lacking: dict[DomainKind, int] = {}

    def add(self, one: JobResult) -> None:
        """A job."""
        if not has_run(one.start_s, one.energy_j):
            self.add_alike(one.state, one.exit_code, Alike(1, 0, one.accounted_s))
            return
        held_s = one.elapsed_s
        if held_s is None:
            held_s = 0.0 if one.start_s is None or one.end_s is None else max(one.end_s - one.start_s, 0.0)
        node_s = len(one.nodes) * held_s
        alike = Alike(
            jobs=1,
            ran=1,
            accounted_s=one.accounted_s,
            measured=one.energy_j is not None,
            energy_j=one.energy_j or 0.0,
            node_s=node_s,
            known_node_s=one.coverage * node_s,
            cpu_s=(one.cpus or 0) * held_s,
            gpu_s=(one.gpus or 0) * held_s,
            start_s=one.start_s,
            end_s=one.end_s,
        )
        self.add_alike(one.state, one.exit_code, alike)
        figures = figures_of(one)
        totals = [tuple(figures[f"{part}_{end}"] for end in ("low", "central", "high")) for part in IMPACTS]
        self.add_totals([(*ends, 1) if ends[1] is not None else (0.0, 0.0, 0.0, 0) for ends in totals])
        for kind in KINDS:
            joules, method = figures[f"{kind}_j"], figures[f"{kind}_method"]
            if method is not None and method not in NONE:
                self.add_kind(kind, joules or 0.0, known=int(joules is not None), lacking=int(joules is None))
        known = {kind: figures[f"{kind}_method"] for kind in KINDS if figures[f"{kind}_j"] is not None}
        self.add_methods(known, figures[FACTOR_SET])

    def add_kind(self, kind: DomainKind, joules: float, *, known: int, lacking: int) -> None:
        """A kind of part, of jobs of which so many are known, and so many are not."""
        if known:
            self._kinds[kind] = (self._kinds.get(kind) or 0.0) + joules
        if lacking:
            self._kinds.setdefault(kind, None)
            self._lacking[kind] = self._lacking.get(kind, 0) + lacking

    def add_methods(self, methods: Mapping[DomainKind, str | None], factors: str | None) -> None:
        """How jobs were measured, and their impacts made."""
        for kind, method in methods.items():
            if method and method not in NONE:
                self._methods.setdefault(kind, set()).update(method.split("+"))
        if factors:
            self._factors.add(factors)

    def add_alike(self, state: str, exit_code: str | None, alike: Alike) -> None:
        """Jobs that ended alike."""
        self._alike.setdefault((state, exit_code), Alike()).add(alike)

    def add_totals(self, found: Sequence[tuple[float, float, float, int]]) -> None:
        """Impacts of jobs: of each indicator use, embodied, total, each low, central, high, and of how many jobs."""
        for sums, totals in zip(self._impacts, found, strict=True):
            sums[:] = [one + more for one, more in zip(sums, totals, strict=True)]

    def sums(self) -> Sums:
        """What they come to."""
        every, failed = Alike(), Alike()
        for (state, _), alike in self._alike.items():
            every.add(alike)
            if state in FAILED:
                failed.add(alike)
        return Sums(
            jobs=every.jobs,
            ran=every.ran,
            failed=failed.ran,
            measured=every.measured,
            energy_j=_known_j(every),
            failed_energy_j=_known_j(failed),
            coverage=min(every.known_node_s / every.node_s, 1.0) if every.node_s else None,
            cpu_hours=every.cpu_s / 3600,
            gpu_hours=every.gpu_s / 3600,
            node_hours=every.node_s / 3600,
            impacts={} if self._light else {name: self._impact(number) for number, name in enumerate(INDICATORS)},
            endings=self._endings(),
            first_start_s=every.start_s,
            last_end_s=every.end_s,
            accounted_s=every.accounted_s,
            methods={kind: tuple(sorted(found)) for kind, found in self._methods.items()},
            factors=tuple(sorted(self._factors)),
            kinds=dict(self._kinds),
            lacking=dict(self._lacking),
        )

    def _impact(self, number: int) -> SumImpact:
        use, embodied, total = self._impacts[3 * number : 3 * number + 3]
        return SumImpact(_three(use), _three(embodied), _three(total), int(total[3]))

    def _endings(self) -> tuple[Ending, ...]:
        """Those with the most jobs first."""
        found = sorted(self._alike.items(), key=lambda one: (-one[1].jobs, one[0][0], one[0][1] or ""))
        return tuple(Ending(*how, a.jobs, a.energy_j if a.measured else None, a.measured) for how, a in found)


def sums_of(jobs: Iterable[JobResult]) -> Sums | None:
    """Of jobs that are at hand; None: there are none."""
    adder, job = Adder(), None
    for job in jobs:
        adder.add(job)
    return None if job is None else adder.sums()


def merged(several: Sequence[Sums]) -> Sums | None:
    """Sums over jobs of which none is in two of them; None: there are none."""
    if len(several) < 2:
        return several[0] if several else None
    endings: dict[tuple[str, str | None], Ending] = {}
    for one in (ending for sums in several for ending in sums.endings):
        how = one.state, one.exit_code
        was = endings.get(how, Ending(*how, 0, None, 0))
        measured = None if was.measured is None or one.measured is None else was.measured + one.measured
        endings[how] = Ending(*how, was.jobs + one.jobs, _known_sum(was.energy_j, one.energy_j), measured)
    covered = [(one.coverage, one.node_hours) for one in several if one.coverage is not None]
    hours = sum(weight for _, weight in covered)
    return Sums(
        jobs=sum(one.jobs for one in several),
        ran=sum(one.ran for one in several),
        failed=sum(one.failed for one in several),
        measured=sum(one.measured for one in several),
        energy_j=_known_of([(one.energy_j, one.ran) for one in several]),
        failed_energy_j=_known_of([(one.failed_energy_j, one.failed) for one in several]),
        coverage=sum(coverage * weight for coverage, weight in covered) / hours if hours else None,
        cpu_hours=sum(one.cpu_hours for one in several),
        gpu_hours=sum(one.gpu_hours for one in several),
        node_hours=sum(one.node_hours for one in several),
        impacts={name: _merged_impact([one.impacts.get(name, SumImpact()) for one in several]) for name in INDICATORS},
        endings=tuple(sorted(endings.values(), key=lambda one: (-one.jobs, one.state, one.exit_code or ""))),
        first_start_s=min((one.first_start_s for one in several if one.first_start_s is not None), default=None),
        last_end_s=max((one.last_end_s for one in several if one.last_end_s is not None), default=None),
        accounted_s=max((one.accounted_s for one in several if one.accounted_s is not None), default=None),
        methods={
            kind: tuple(sorted({method for one in several for method in one.methods.get(kind, ())}))
            for kind in dict.fromkeys(kind for one in several for kind in one.methods)
        },
        factors=tuple(sorted({version for one in several for version in one.factors})),
        kinds={
            kind: _known_sum(*(one.kinds[kind] for one in several if kind in one.kinds))
            for kind in dict.fromkeys(kind for one in several for kind in one.kinds)
        },
        lacking={
            kind: sum(one.lacking.get(kind, 0) for one in several)
            for kind in dict.fromkeys(kind for one in several for kind in one.lacking)
        },
    )


def _merged_impact(several: Sequence[SumImpact]) -> SumImpact:
    def added(part: str) -> Three | None:
        known = [getattr(one, part) for one in several if getattr(one, part) is not None]
        return tuple(map(sum, zip(*known, strict=True))) if known else None

    return SumImpact(added("use"), added("embodied"), added("total"), sum(one.known for one in several))


def _known_of(several: Sequence[tuple[float | None, int]]) -> float | None:
    """Joules, each of so many jobs that have any: 0 where none has, None where some have and nothing is known."""
    having = [joules for joules, jobs in several if jobs]
    return _known_sum(*having) if having else 0.0


def _known_sum(*several: float | None) -> float | None:
    known = [one for one in several if one is not None]
    return sum(known) if known else None


def _known_j(alike: Alike) -> float | None:
    """0 where nothing ran, None where something ran and none of it is known."""
    return alike.energy_j if alike.measured or not alike.ran else None


def _three(sums: list[float]) -> Three | None:
    return (sums[0], sums[1], sums[2]) if sums[3] else None


def _first(one: float | None, other: float | None) -> float | None:
    return min((at for at in (one, other) if at is not None), default=None)


def _last(one: float | None, other: float | None) -> float | None:
    return max((at for at in (one, other) if at is not None), default=None)
