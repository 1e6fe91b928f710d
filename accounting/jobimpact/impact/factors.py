"""The factors: `data/*.yaml`, typed, or the site's own files in their place. Loading reads files; the rest is pure.

Each number is low, central and high, in the unit that its key names, with the source it was taken from.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from jobimpact.core.config import convert_yaml
from jobimpact.core.errors import ConfigError
from jobimpact.impact.ranges import Impacts, Range, sum_of

__all__ = ["Cpu", "Factors", "Generation", "Gpu", "Part", "Zone", "load_factors"]

DATA = Path(__file__).resolve().parent.parent / "data"

Number = Annotated[float, Meta(ge=0)]
Triple = tuple[Number, Number, Number]
Pieces = Annotated[int, Meta(ge=1, le=64)]


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

    @property
    def sources(self) -> tuple[str, ...]:
        """All of them."""
        return (self.source, *self.span)


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


class Made(_Keys, frozen=True):
    """What making one of something costs; `source` is the central figures', `span` the others'."""

    gwp_kgco2e: Triple
    adp_kgsbe: Triple
    pe_mj: Triple
    source: str
    span: list[str] = field(default_factory=list)

    @property
    def impacts(self) -> Impacts:
        """As impacts."""
        return Impacts(Range(*self.gwp_kgco2e), Range(*self.adp_kgsbe), Range(*self.pe_mj))

    @property
    def sources(self) -> tuple[str, ...]:
        """All of them."""
        return (self.source, *self.span)


class Part(Made, frozen=True, kw_only=True):
    """What making a piece, a kilogram or an area of a part costs."""

    per: str


class Gpu(Made, frozen=True, kw_only=True):
    """What making one GPU costs."""

    aliases: list[str] = field(default_factory=list)


class Cpu(Struct, frozen=True):
    """A CPU's silicon."""

    die_mm2: Range
    sources: tuple[str, ...]


class Chip(_Keys, frozen=True):
    """CPUs that are built of the same dies. None at all: they are on another part's chip."""

    dies: dict[str, Pieces]
    source: str
    models: list[str]


class _Kind(_Keys, frozen=True):
    name: str
    gwp_kgco2e_per_kwh: Triple
    source: str
    counted: bool = True
    span: list[str] = field(default_factory=list)


class Generation(Struct, frozen=True):
    """What a kWh of one kind of generation costs; not `counted`: left out of a zone's mix."""

    name: str
    gwp_kgco2e_per_kwh: Range
    counted: bool
    sources: tuple[str, ...]


class Methods(_Keys, frozen=True):
    """By how much a figure may be off, as a factor around 1, by how it was metered."""

    counter: Value
    gauge: Value
    modelled: Value


class Meters(_Keys, frozen=True):
    """The same by what was metered."""

    cpu: Methods
    dram: Methods
    gpu: Methods
    rest: Methods
    node: Methods


class _File(_Keys, frozen=True, kw_only=True):
    set: FactorSet
    sources: dict[str, Source]


class _Electricity(_File, frozen=True, kw_only=True):
    zones: dict[str, Zone]


class _Gpus(_File, frozen=True, kw_only=True):
    archetype: Gpu
    nic: Part
    gpus: dict[str, Gpu]


class Parts(_Keys, frozen=True):
    """The parts of a node, GPUs and network cards apart."""

    cpu: Part
    cpu_die: Part
    ram_module: Part
    ram_die: Part
    ssd: Part
    ssd_die: Part
    hdd: Part
    psu: Part
    case: Part
    board: Part
    assembly: Part


class Quantities(_Keys, frozen=True):
    """What stands for a size that is not known."""

    ram_cm2_per_gb: Value
    ssd_cm2_per_gb: Value
    psu_kg: Value
    cpu_die_mm2: Value


class _Components(_File, frozen=True, kw_only=True):
    parts: Parts
    quantities: Quantities


class _Cpus(_File, frozen=True, kw_only=True):
    dies: dict[str, Value]
    chips: dict[str, Chip]


class _Generation(_File, frozen=True, kw_only=True):
    kinds: dict[Annotated[str, Meta(pattern=r"^[AB]\d\d\Z")], _Kind]


class _Meters(_File, frozen=True, kw_only=True):
    meters: Meters


class Factors(Struct, frozen=True):
    """All factor files together."""

    electricity: _Electricity
    gpus: _Gpus
    cpus: _Cpus
    components: _Components
    kinds: _Generation
    meters: _Meters
    version: str
    """One word for all files, with the start of their hash, for results to name."""
    files: dict[str, str]
    """Each file's version, and the start of its own hash."""

    def zone(self, name: str) -> Zone:
        """A zone's electricity.

        Raises:
            ConfigError: no such zone; lists those there are.
        """
        found = self.electricity.zones.get(name)
        if found is None:
            raise ConfigError(f"zone {name!r}: not known; allowed: {', '.join(sorted(self.electricity.zones))}")
        return found

    @property
    def sources(self) -> dict[str, Source]:
        """Every source by its name, which is one source's in all files."""
        return {name: source for _, file in self._files() for name, source in file.sources.items()}

    def cite(self, source: str) -> str:
        """A source in words, with its year and licence.

        Raises:
            ConfigError: no file has it.
        """
        one = self.sources.get(source)
        if one is None:
            raise ConfigError(f"source {source!r}: in none of the files of factors")
        return f"{one.title} ({one.year}; {one.licence})"

    def gpu(self, model: str) -> Gpu | None:
        """A GPU by our name or the driver's, of the card or of a MIG slice of it; None: not listed."""
        words = _words(_MIG.sub("", model))
        named = ((gpu, (key, *gpu.aliases)) for key, gpu in self.gpus.gpus.items())
        return next((gpu for gpu, names in named if words and any(_words(name) == words for name in names)), None)

    def cpu(self, model: str) -> Cpu | None:
        """A CPU by its model, however its maker spells it; None: not listed.

        The listed name must stand in the model word by word; of several the longest counts.
        """
        words = _words(model)
        found = [
            (len(listed), chip)
            for chip in self.cpus.chips.values()
            for listed in map(_words, chip.models)
            if _stands_in(listed, words)
        ]
        if not found:
            return None
        chip = max(found, key=lambda one: one[0])[1]
        dies = [(self.cpus.dies[name], count) for name, count in chip.dies.items()]
        area = sum_of(die.range.times(count) for die, count in dies)
        cited = (chip.source, *(source for die, _ in dies for source in die.sources))
        return Cpu(area, tuple(dict.fromkeys(cited)))

    @property
    def generation(self) -> Mapping[str, Generation]:
        """Life-cycle factors by kind of generation, under ENTSO-E's codes (psrType)."""
        return {
            code: Generation(one.name, Range(*one.gwp_kgco2e_per_kwh), one.counted, (one.source, *one.span))
            for code, one in self.kinds.kinds.items()
        }

    def meter(self, kind: str, method: str) -> Range:
        """By how much an energy may be off: factors around 1.

        Args:
            kind: cpu, dram, gpu, rest or node.
            method: counter, gauge or modelled.

        Raises:
            ConfigError: another one; lists those there are.
        """
        for name, allowed in ((kind, Meters.__struct_fields__), (method, Methods.__struct_fields__)):
            if name not in allowed:
                raise ConfigError(f"meter {name!r}: not known; allowed: {', '.join(allowed)}")
        return self._meter(kind, method).range

    def meter_sources(self, kind: str, method: str) -> list[str]:
        """Where `meter` has its factors from."""
        found = self._meter(kind, method)
        return [found.source, *found.span]

    def _meter(self, kind: str, method: str) -> Value:
        found: Value = getattr(getattr(self.meters.meters, kind), method)
        return found

    def _files(self) -> Iterator[tuple[str, _File]]:
        return ((name, getattr(self, key)) for name, (key, _) in _FILES.items())


_FILES: dict[str, tuple[str, Any]] = {
    "components.yaml": ("components", _Components),
    "cpus.yaml": ("cpus", _Cpus),
    "gpus.yaml": ("gpus", _Gpus),
    "electricity.yaml": ("electricity", _Electricity),
    "generation.yaml": ("kinds", _Generation),
    "meters.yaml": ("meters", _Meters),
}

_MIG = re.compile(r"\s+MIG\s.*", re.IGNORECASE)
_NOISE = re.compile(
    r"\((?:r|tm|c)\)|[®™]|\b(?:nvidia|amd|intel|xeon|tesla|geforce|instinct|cpu|processor)\b|@.*|\b\d+-core\b"
)
_REVISION = re.compile(r"v\d.*")


@functools.cache
def _words(model: str) -> tuple[str, ...]:
    """A model's name without its maker's and the reader's habits."""
    return tuple(re.findall(r"[a-z0-9]+", _NOISE.sub(" ", model.lower())))


def _stands_in(listed: tuple[str, ...], words: tuple[str, ...]) -> bool:
    """Word by word and in a row; what goes on with a revision (`v2`) is another one's."""
    size = len(listed)
    return size > 0 and any(
        words[at : at + size] == listed and not any(map(_REVISION.fullmatch, words[at + size : at + size + 1]))
        for at in range(len(words) - size + 1)
    )


def load_factors(folder: Path | None = None) -> Factors:
    """Read and check the files of factors.

    Args:
        folder: the site's own. Each file in it stands in the place of the shipped one of its name.

    Raises:
        ConfigError: names file and key: a folder that has no such file, an unknown one, a bad number, a source that
            is not listed.
    """
    own = {} if folder is None else _own_files(folder)
    paths = {name: own.get(name, DATA / name) for name in _FILES}
    found = {name: convert_yaml(paths[name], type_) for name, (_, type_) in _FILES.items()}
    for name, file in found.items():
        _check(paths[name], msgspec.to_builtins(file), set(file.sources))
    _check_sources(paths, found)
    _check_dies(paths["cpus.yaml"], found["cpus.yaml"])
    _check_meters(paths["meters.yaml"], found["meters.yaml"])
    files = {file.set.name: f"{file.set.version}+{_hash(paths[name].read_bytes())}" for name, file in found.items()}
    ours = max(file.set.version for name, file in found.items() if name not in own or len(own) == len(_FILES))
    sites = "".join(f" with {found[name].set.name} {found[name].set.version}" for name in own)
    version = f"{ours}+{_hash(repr(files).encode())}{sites}"
    return Factors(**{key: found[name] for name, (key, _) in _FILES.items()}, version=version, files=files)


def _own_files(folder: Path) -> dict[str, Path]:
    try:
        found = {path.name: path for path in sorted(folder.iterdir()) if path.suffix in {".yaml", ".yml"}}
    except OSError as error:
        raise ConfigError(f"{folder}: the folder of factors: {error.strerror}") from error
    unknown = next((name for name in found if name not in _FILES), None)
    if unknown is not None:
        raise ConfigError(f"{folder / unknown}: not a file of factors; allowed: {', '.join(_FILES)}")
    if not found:
        raise ConfigError(f"{folder}: no file of factors in it; any of {', '.join(_FILES)}")
    return found


def _hash(found: bytes) -> str:
    return hashlib.sha256(found).hexdigest()[:8]


def _check(path: Path, found: object, sources: set[str], where: str = "") -> None:
    """Every source is one that the file lists, every number is finite, and every triple is in order."""
    if isinstance(found, dict):
        for key, value in found.items():
            named = [value] if key == "source" else value if key == "span" else []
            unknown = [one for one in named if one not in sources]
            if unknown:
                raise ConfigError(f"{path}: {where}{key}: no source {unknown[0]!r}")
            _check(path, value, sources, f"{where}{key}.")
    elif isinstance(found, (list, tuple)) and found and all(isinstance(one, float) for one in found):
        place = where.rstrip(".")
        if not all(map(math.isfinite, found)):
            raise ConfigError(f"{path}: {place}: not a finite number")
        if sorted(found) != list(found):
            raise ConfigError(f"{path}: {place}: low, central, high are not in order")


def _check_sources(paths: Mapping[str, Path], found: Mapping[str, _File]) -> None:
    """One name is one source, whichever file cites it."""
    known: dict[str, tuple[str, Source]] = {}
    for name, file in found.items():
        for key, source in file.sources.items():
            other, same = known.setdefault(key, (name, source))
            if same != source:
                raise ConfigError(f"{paths[name]}: sources.{key}: {paths[other].name} has another source of that name")


def _check_dies(path: Path, cpus: _Cpus) -> None:
    for name, chip in cpus.chips.items():
        unknown = next((die for die in chip.dies if die not in cpus.dies), None)
        if unknown is not None:
            raise ConfigError(f"{path}: chips.{name}.dies: no die {unknown!r}")
        nameless = next((model for model in chip.models if not _words(model)), None)
        if nameless is not None:
            raise ConfigError(f"{path}: chips.{name}.models: {nameless!r} names no model")


def _check_meters(path: Path, file: _Meters) -> None:
    for kind in Meters.__struct_fields__:
        for method in Methods.__struct_fields__:
            if getattr(getattr(file.meters, kind), method).range.central != 1:
                raise ConfigError(f"{path}: meters.{kind}.{method}: the central factor of a meter is 1")
