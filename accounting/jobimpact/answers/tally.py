"""Sums over jobs: what is known of each is added, what is not is counted."""

from __future__ import annotations

from math import inf, isfinite

from jobimpact.answers.query import Ending, SumImpact, Sums
from jobimpact.core.records import DomainKind
from jobimpact.results.outcome import has_failed, has_run
from jobimpact.results.period import Row
from jobimpact.results.sums import INDICATORS

__all__ = ["Tally"]

HOUR_S = 3600.0
_NONE = frozenset({"none held", "never started"})
"""A part of this kind there was none of: its zero is a number, and no reason to name the kind."""


class Tally:
    """Jobs being summed. Of what never ran there is only the number.

    Args:
        light: without impacts and kinds of parts.
    """

    __slots__ = (
        *("jobs", "ran", "failed", "measured", "energy_j", "failed_known", "failed_energy_j", "_whole", "_covered"),
        *(
            "_cpu_s",
            "_gpu_s",
            "_impacts",
            "_endings",
            "_kinds",
            "_first",
            "_last",
            "_accounted",
            "_factors",
            "_light",
            "_methods",
        ),
    )

    def __init__(self, *, light: bool = False) -> None:
        self._light = light
        self.jobs = self.ran = self.failed = self.measured = self.failed_known = 0
        self.energy_j = self.failed_energy_j = 0.0
        self._whole = self._covered = self._cpu_s = self._gpu_s = 0.0
        # Of each indicator: how many and low, central, high, of use, of embodied, of the total.
        self._impacts = [[0.0] * 12 for _ in INDICATORS]
        self._endings: dict[tuple[str, str | None], list[float]] = {}
        """How many, how many of them measured, and their joules."""
        self._methods: dict[DomainKind, set[str]] = {}
        self._kinds: dict[DomainKind, list[float]] = {}
        """Of each kind of part: joules, of how many they are known, and of how many they are not."""
        # Not yet known is beyond all that may come: one comparison a row, of which there may be very many.
        self._first = inf
        self._last = self._accounted = -inf
        self._factors: set[str] = set()

    def add(self, row: Row) -> None:
        """One job more."""
        joules = row.energy_j
        self.jobs += 1
        if row.accounted_s > self._accounted:
            self._accounted = row.accounted_s
        ending = self._endings.setdefault((row.state, row.exit_code), [0, 0, 0.0])
        ending[0] += 1
        if not has_run(row.start_s, joules):
            return
        self.ran += 1
        failed = has_failed(row.state, row.start_s, joules)
        self.failed += failed
        if joules is not None:
            self.measured += 1
            self.energy_j += joules
            ending[1] += 1
            ending[2] += joules
            if failed:
                self.failed_known += 1
                self.failed_energy_j += joules
        self._hold(row)
        if not self._light:
            self._add_parts(row)

    def _add_parts(self, row: Row) -> None:
        """Kinds of parts, and impacts."""
        for kind, one in row.kinds.items():
            if one.method not in _NONE:
                found = self._kinds.setdefault(kind, [0.0, 0, 0])
                if one.energy_j is None:
                    found[2] += 1
                else:
                    found[0] += one.energy_j
                    found[1] += 1
                    self._methods.setdefault(kind, set()).add(one.method or "")
        for sums, parts in zip(self._impacts, row.impacts):  # noqa: B905 (as many as indicators)
            for at, part in ((0, parts.use), (4, parts.embodied), (8, parts.total)):
                if part is not None:
                    sums[at] += 1
                    sums[at + 1] += part.low
                    sums[at + 2] += part.central
                    sums[at + 3] += part.high
        if row.factors is not None:
            self._factors.add(row.factors)

    def merge(self, other: Tally) -> None:
        """All that another has."""
        for name in ("jobs", "ran", "failed", "measured", "energy_j", "failed_known", "failed_energy_j"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("_whole", "_covered", "_cpu_s", "_gpu_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in zip(self._impacts, other._impacts, strict=True):
            mine[:] = [one + more for one, more in zip(mine, theirs, strict=True)]
        for (state, code), found in other._endings.items():
            self._endings[state, code] = _both(self._endings.get((state, code)), found)
        for kind, found in other._kinds.items():
            self._kinds[kind] = _both(self._kinds.get(kind), found)
        for kind, methods in other._methods.items():
            self._methods.setdefault(kind, set()).update(methods)
        self._first = min(self._first, other._first)
        self._last = max(self._last, other._last)
        self._accounted = max(self._accounted, other._accounted)
        self._factors |= other._factors

    @property
    def kinds(self) -> dict[DomainKind, float | None]:
        """Joules by kind of part; None: of no job known. A kind of which no job had any is not there."""
        return {kind: joules if known else None for kind, (joules, known, _) in self._kinds.items()}

    @property
    def lacking(self) -> dict[DomainKind, int]:
        """Of how many jobs a kind of part that they had is not known."""
        return {kind: int(missing) for kind, (_, _, missing) in self._kinds.items() if missing}

    @property
    def methods(self) -> dict[DomainKind, tuple[str, ...]]:
        """How each kind was measured, all that any job has (`counter`, `gauge`, `modelled`)."""
        each = {
            kind: {part for method in found for part in method.split("+")} for kind, found in self._methods.items()
        }
        return {kind: tuple(sorted(filter(None, found))) for kind, found in each.items()}

    @property
    def factors(self) -> tuple[str, ...]:
        """The versions of the factors that the impacts were made with."""
        return tuple(sorted(self._factors))

    def sums(self) -> Sums:
        """As it stands. Endings with the most jobs come first."""
        endings = sorted(self._endings.items(), key=lambda one: (-one[1][0], one[0][0], one[0][1] or ""))
        each = () if self._light else zip(INDICATORS, self._impacts, strict=True)
        impacts = {name: _impact(found) for name, found in each}
        return Sums(
            jobs=self.jobs,
            ran=self.ran,
            failed=self.failed,
            measured=self.measured,
            energy_j=self.energy_j if self.measured or not self.ran else None,
            failed_energy_j=self.failed_energy_j if self.failed_known or not self.failed else None,
            coverage=min(self._covered / self._whole, 1.0) if self._whole else None,
            cpu_hours=self._cpu_s / HOUR_S,
            gpu_hours=self._gpu_s / HOUR_S,
            node_hours=self._whole / HOUR_S,
            impacts=impacts,
            endings=tuple(
                Ending(state, code, int(jobs), joules if known else None)
                for (state, code), (jobs, known, joules) in endings
            ),
            first_start_s=_known(self._first),
            last_end_s=_known(self._last),
            accounted_s=_known(self._accounted),
        )

    def _hold(self, row: Row) -> None:
        """What it held, for as long as it ran."""
        start_s, end_s, seconds = row.start_s, row.end_s, row.elapsed_s
        if start_s is not None and start_s < self._first:
            self._first = start_s
        if end_s is not None and end_s > self._last:
            self._last = end_s
        if seconds is None:
            if start_s is None or end_s is None:
                return
            seconds = max(end_s - start_s, 0.0)
        self._whole += row.nodes * seconds
        self._covered += row.nodes * seconds * row.coverage
        self._cpu_s += (row.cpus or 0) * seconds
        self._gpu_s += (row.gpus or 0) * seconds


def _both(one: list[float] | None, other: list[float]) -> list[float]:
    return list(other) if one is None else [mine + more for mine, more in zip(one, other, strict=True)]


def _impact(found: list[float]) -> SumImpact:
    use, embodied, total = ((found[at + 1], found[at + 2], found[at + 3]) if found[at] else None for at in (0, 4, 8))
    return SumImpact(use=use, embodied=embodied, total=total, known=int(found[8]))


def _known(at_s: float) -> float | None:
    return at_s if isfinite(at_s) else None
