"""The kinds of parts of several jobs together: joules, of how many jobs these are not known, and the methods."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import ClassVar, get_args

import msgspec

from jobimpact.core.records import DomainKind
from jobimpact.results.sums import NONE, version_in

__all__ = ["Kinds"]


class _Kind(msgspec.Struct, frozen=True, gc=False):
    energy_j: float | None = None
    method: str | None = None


class _Domains(msgspec.Struct, frozen=True, gc=False):
    cpu: _Kind | None = None
    dram: _Kind | None = None
    gpu: _Kind | None = None
    rest: _Kind | None = None
    node: _Kind | None = None


class _Energy(msgspec.Struct, frozen=True, gc=False):
    domains: _Domains = _Domains()


_DECODER = msgspec.json.Decoder(_Energy)
_EACH: tuple[DomainKind, ...] = get_args(DomainKind)
_OF = {kind: attrgetter(f"domains.{kind}") for kind in _EACH}


class Kinds:
    """Jobs that ran being summed, by kind of part; a kind of which no job had any is not there."""

    COLUMNS: ClassVar = ("energy", "substr(factors, 1, 200)")
    """What is read of each row of the results. To read all of the factors' notes takes half of a sum's time."""

    def __init__(self) -> None:
        self.energy_j: dict[DomainKind, float | None] = {}
        """None: of no job known."""
        self.lacking: dict[DomainKind, int] = {}
        """Of how many jobs a kind of part that they had is not known."""
        self._methods: dict[DomainKind, set[str]] = {}
        self._factors: set[str] = set()

    def add(self, rows: Sequence[tuple[str, str]]) -> None:
        """Some jobs, of each its COLUMNS: of many at once it is twice as quick as of each.

        Raises:
            msgspec.MsgspecError: these are no such columns.
        """
        energies = [_DECODER.decode(energy) for energy, _ in rows]
        self._factors.update(factors for _, factors in rows)
        for kind, of in _OF.items():
            had = [one for one in map(of, energies) if one is not None and one.method not in NONE]
            if not had:
                continue
            known = [one for one in had if one.energy_j is not None]
            was = self.energy_j.setdefault(kind, None)
            if known:
                self.energy_j[kind] = (was or 0.0) + sum(one.energy_j or 0.0 for one in known)
                self._methods.setdefault(kind, set()).update(one.method or "" for one in known)
            if len(known) < len(had):
                self.lacking[kind] = self.lacking.get(kind, 0) + len(had) - len(known)

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
        return tuple(sorted({version for one in self._factors if (version := version_in(one)) is not None}))
