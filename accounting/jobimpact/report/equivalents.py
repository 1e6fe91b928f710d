"""What else emits as much: at most two things of everyday life, each with source, year and range. GWP alone."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field

from jobimpact.core.config import convert_yaml
from jobimpact.core.errors import ConfigError
from jobimpact.report.numbers import ENOUGH, rounded, span

__all__ = ["Equivalent", "equivalents", "load_equivalents"]

FILE = Path(__file__).resolve().parent.parent / "data" / "equivalents.yaml"
MOST = 2
LEAST, LARGEST = 0.1, 1000.0
"""A number below or above these says nothing to anybody."""

Mass = Annotated[float, Meta(gt=0)]


class _Keys(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Set(_Keys, frozen=True):
    name: str
    version: str


class _Source(_Keys, frozen=True):
    title: str
    year: str
    licence: str


class Equivalent(_Keys, frozen=True):
    """One unit of something."""

    name: str
    text: str
    kgco2e: tuple[Mass, Mass, Mass]
    """Low, central, high."""
    source: str
    span: list[str] = field(default_factory=list)
    """Whose values are low and high."""


class _File(_Keys, frozen=True):
    set: _Set
    sources: dict[str, _Source]
    equivalents: list[Equivalent]


@functools.cache
def load_equivalents(path: Path = FILE) -> _File:
    """The file, checked.

    Raises:
        ConfigError: it cannot be read, or a source that is named is not listed.
    """
    found = convert_yaml(path, _File)
    for one in found.equivalents:
        for name in (one.source, *one.span):
            if name not in found.sources:
                raise ConfigError(f"{path}: equivalents: {one.name}: {name}: no such source")
        low, central, high = one.kgco2e
        if not low <= central <= high:
            raise ConfigError(f"{path}: equivalents: {one.name}: kgco2e: low, central, high must rise")
    return found


def equivalents(kgco2e: float | None, coverage: float | None = None) -> tuple[str, ...]:
    """What else emits as much.

    Args:
        kgco2e: a total, central; None: not known.
        coverage: for which part of what was held the energy in it is known, 0 to 1; None: for all.

    Returns:
        At most two sentences, those whose numbers are easiest to grasp; none of what is too small or too little known.
    """
    if not kgco2e or kgco2e < 0 or not math.isfinite(kgco2e) or (coverage is not None and coverage < ENOUGH):
        return ()
    file = load_equivalents()
    fitting = [one for one in file.equivalents if LEAST <= kgco2e / one.kgco2e[1] <= LARGEST]
    fitting.sort(key=lambda one: abs(math.log10(kgco2e / one.kgco2e[1]) - 1))
    return tuple(_sentence(one, kgco2e, file) for one in fitting[:MOST])


def _sentence(one: Equivalent, kgco2e: float, file: _File) -> str:
    low, central, high = one.kgco2e
    said = [f"{source.title}, {source.year}" for source in [file.sources[one.source]]]
    if low < high:
        edges = span(rounded(kgco2e / high, 2), rounded(kgco2e / low, 2))
        others = " and ".join(f"{file.sources[name].title}, {file.sources[name].year}" for name in one.span)
        said.append(f"{edges} by {others}")
    return f"As much as {rounded(kgco2e / central, 2)} {one.text} ({'; '.join(said)})."
