"""The factors that ship with the program: `data/*.yaml`, typed. Loading reads files; the rest is pure.

Each number is low, central and high, in the unit that its key names, with the source it was taken from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from jobimpact.core.config import convert_yaml
from jobimpact.core.errors import ConfigError
from jobimpact.impact.ranges import Impacts, Range

__all__ = ["Factors", "Zone", "load_factors"]

DATA = Path(__file__).resolve().parent.parent / "data"

Number = Annotated[float, Meta(ge=0)]
Triple = tuple[Number, Number, Number]


class _Keys(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class FactorSet(_Keys, frozen=True):
    """What a file of factors calls itself; results name it."""

    name: str
    version: str


class Source(_Keys, frozen=True):
    """Where numbers come from."""

    title: str
    year: str
    licence: str


class Value(_Keys, frozen=True):
    """One number's low, central and high; `source` is the central one's, `span` the others'."""

    values: Triple
    source: str
    span: list[str] = field(default_factory=list)

    @property
    def range(self) -> Range:
        """As a range."""
        return Range(*self.values)


class Zone(_Keys, frozen=True):
    """One electricity zone's factors, per kWh."""

    name: str
    gwp_kgco2e_per_kwh: Value
    adp_kgsbe_per_kwh: Value
    pe_mj_per_kwh: Value

    @property
    def per_kwh(self) -> Impacts:
        """The three as one."""
        return Impacts(self.gwp_kgco2e_per_kwh.range, self.adp_kgsbe_per_kwh.range, self.pe_mj_per_kwh.range)


class Part(_Keys, frozen=True):
    """What making one unit of something costs; the source has no range for it."""

    per: str
    gwp_kgco2e: Number
    adp_kgsbe: Number
    pe_mj: Number
    source: str

    @property
    def impacts(self) -> Impacts:
        """As impacts whose low and high are the central value."""
        return Impacts(*(Range(one, one, one) for one in (self.gwp_kgco2e, self.adp_kgsbe, self.pe_mj)))


class Gpu(_Keys, frozen=True):
    """What making one GPU costs."""

    gwp_kgco2e: Triple
    adp_kgsbe: Triple
    pe_mj: Triple
    source: str
    aliases: list[str] = field(default_factory=list)

    @property
    def impacts(self) -> Impacts:
        """As impacts."""
        return Impacts(Range(*self.gwp_kgco2e), Range(*self.adp_kgsbe), Range(*self.pe_mj))


class Cpu(_Keys, frozen=True):
    """A CPU's die."""

    die_mm2: Number
    source: str


class _Electricity(_Keys, frozen=True):
    set: FactorSet
    sources: dict[str, Source]
    zones: dict[str, Zone]


class _Gpus(_Keys, frozen=True):
    set: FactorSet
    sources: dict[str, Source]
    archetype: Gpu
    gpus: dict[str, Gpu]


class _Components(_Keys, frozen=True):
    set: FactorSet
    sources: dict[str, Source]
    parts: dict[str, Part]
    quantities: dict[str, Value]
    cpus: dict[str, Cpu]


class Factors(Struct, frozen=True):
    """All factor files together."""

    electricity: _Electricity
    gpus: _Gpus
    components: _Components

    @property
    def version(self) -> str:
        """The versions of all three files, for results to name."""
        return ", ".join(f"{one.set.name} {one.set.version}" for one in (self.electricity, self.gpus, self.components))

    def zone(self, name: str) -> Zone:
        """A zone's electricity.

        Raises:
            ConfigError: no such zone; lists those there are.
        """
        found = self.electricity.zones.get(name)
        if found is None:
            raise ConfigError(f"zone {name!r}: not known; allowed: {', '.join(sorted(self.electricity.zones))}")
        return found

    def cite(self, source: str) -> str:
        """A source in words, with its year and licence."""
        files = (self.electricity, self.gpus, self.components)
        one = next(file.sources[source] for file in files if source in file.sources)
        return f"{one.title} ({one.year}; {one.licence})"

    def gpu(self, model: str) -> Gpu | None:
        """A GPU by our name or the driver's; None: not listed."""
        plain = _plain(model)
        named = ((gpu, (key, *gpu.aliases)) for key, gpu in self.gpus.gpus.items())
        return next((gpu for gpu, names in named if any(_plain(name) == plain for name in names)), None)

    def cpu(self, model: str) -> Cpu | None:
        """A CPU by its model, however its maker spells it; None: not listed."""
        plain = _plain(model)
        return next((cpu for name, cpu in self.components.cpus.items() if _plain(name) in plain), None)


_NOISE = re.compile(r"\((?:r|tm)\)|\b(?:nvidia|amd|intel|tesla|geforce|instinct|cpu|processor)\b|@.*|\d+-core")


def _plain(model: str) -> str:
    """A model's name without its maker's and the reader's habits."""
    return re.sub(r"[^a-z0-9]+", "-", _NOISE.sub(" ", model.lower())).strip("-")


def load_factors(folder: Path = DATA) -> Factors:
    """Read and check the three files.

    Raises:
        ConfigError: names file and key.
    """
    factors = Factors(
        convert_yaml(folder / "electricity.yaml", _Electricity),
        convert_yaml(folder / "gpus.yaml", _Gpus),
        convert_yaml(folder / "components.yaml", _Components),
    )
    for file in (factors.electricity, factors.gpus, factors.components):
        _check(folder, file.set.name, msgspec.to_builtins(file), set(file.sources))
    return factors


def _check(folder: Path, name: str, found: object, sources: set[str], where: str = "") -> None:
    """Every source is one that the file lists, and every triple is in order."""
    if isinstance(found, dict):
        for key, value in found.items():
            named = [value] if key == "source" else value if key == "span" else []
            unknown = [one for one in named if one not in sources]
            if unknown:
                raise ConfigError(f"{folder}: {name}: {where}{key}: no source {unknown[0]!r}")
            _check(folder, name, value, sources, f"{where}{key}.")
    elif isinstance(found, (list, tuple)) and len(found) == 3 and all(isinstance(n, float) for n in found):
        rising = found[0] <= found[1] <= found[2]
        if not rising and not (found[0] >= found[1] >= found[2] and "_per_cm2" in where):
            raise ConfigError(f"{folder}: {name}: {where}: low, central, high are not in order")
