"""RAPL: energy counters of CPU packages and DRAM, by the kernel's powercap tree.

A package's energy is its `package-N` zone plus its `dram`; `core` and `uncore` are inside the package, `psys` is the
platform, and `intel-rapl-mmio` shows the package a second time: none of these is added. A zone is known by its id
(`intel-rapl:0:2`), wherever in the tree it is met: as a link in the class folder, below its parent, or both.
Files are kept open and read with pread: 1.6 us for four zones instead of 23. Root alone may read them (0400) since
CVE-2020-8694.

Some AMD kernels show a package once for each of its dies, with one counter behind all of them. Which zones are such
mirrors cannot be told from one look, as two real counters may be equal too; `Mirrors` watches how they move.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from jobimpact.core.records import Absent, Counter, Domain, DomainKind, Failed, Reading
from jobimpact_daemon.kept import KeptFile, text_of

__all__ = ["Mirrors", "Rapl"]

_ZONE = re.compile(r"intel-rapl((?::[0-9a-f]+)+)\Z")
_PACKAGE = re.compile(r"package-(\d+)(-die-\d+)?\Z")
MAX_W: dict[DomainKind, float] = {"cpu": 1000.0, "dram": 300.0}
"""More than a zone can draw, where neither the kernel nor the configuration says."""
HEADROOM = 1.5
SLACK_NS = 2_000_000
"""A register is renewed about once in a millisecond: two reads of one register may differ by one such step."""
PROVEN = 100.0
"""Two counters that stayed together while they moved this many times what they may differ by are one."""


class _Pair(msgspec.Struct):
    """A zone that may show another's energy: what it was ahead by at first, and how far the other has moved."""

    ahead_uj: int | None
    first_uj: int | None = None
    proven: bool = False


class Mirrors:
    """Which of a package's counters show an energy that another one shows already. Pure.

    Reads of one register, some microseconds apart, differ by no more than the package draws in that time; counters of
    their own drift apart. So a zone is held back as long as it keeps step with an earlier one of its package, and is
    counted for good from the moment when it keeps step with none: never twice while it is not decided, and not lost
    for ever where two real counters were equal at first.
    """

    def __init__(self) -> None:
        self._pairs: dict[str, dict[str, _Pair]] = {}

    @property
    def held_back(self) -> Iterable[str]:
        """The zones that must not be counted now."""
        return self._pairs.keys()

    def suspect(self, zone: str, earlier: Mapping[str, bool]) -> None:
        """A zone that may mirror any of some earlier ones.

        Args:
            zone: its domain's name.
            earlier: by name, whether it is the same zone's name again. Dies have names of their own, and mirrors of
                one register then have one value; a name that comes twice is one counter in two places, which may have
                started at different times, and is known by its steps alone.
        """
        if earlier:
            self._pairs[zone] = {name: _Pair(None if again else 0) for name, again in earlier.items()}

    def compare(self, readings: Mapping[str, Reading], took_ns: int) -> None:
        """Take in what was read.

        Args:
            readings: by name; what is no counter says nothing.
            took_ns: how long it took to read all of them.
        """
        for zone, pairs in list(self._pairs.items()):
            now = readings.get(zone)
            if not isinstance(now, Counter):
                continue
            for name, pair in list(pairs.items()):
                other = readings.get(name)
                if isinstance(other, Counter) and not _in_step(pair, other, now, took_ns):
                    del pairs[name]
            if not pairs:
                del self._pairs[zone]

    def told(self) -> str | None:
        """What is held back and why, in plain words."""
        said = []
        for zone, pairs in self._pairs.items():
            proven = [name for name, pair in pairs.items() if pair.proven]
            why = "mirrors {}: counted once" if proven else "not told from {} yet: counted once until they drift apart"
            said.append(f"{zone} " + why.format((proven or list(pairs))[0]))
        return "; ".join(said) or None


def _in_step(pair: _Pair, other: Counter, now: Counter, took_ns: int) -> bool:
    """Whether two counters still differ by what they differed by at first."""
    may_uj = max(other.max_w or 0, now.max_w or 0) * (took_ns + SLACK_NS) / 1000
    if pair.first_uj is None:
        pair.first_uj = other.uj
    if pair.ahead_uj is None:
        pair.ahead_uj = now.uj - other.uj
    drift_uj, moved_uj = now.uj - other.uj - pair.ahead_uj, other.uj - pair.first_uj
    if now.max_uj is not None and now.max_uj == other.max_uj:
        drift_uj = (drift_uj + now.max_uj // 2) % now.max_uj - now.max_uj // 2
        moved_uj %= now.max_uj
    pair.proven = pair.proven or moved_uj > PROVEN * may_uj
    return abs(drift_uj) <= may_uj


class _Found(msgspec.Struct, frozen=True):
    """A zone in the tree: its id (`0`, `0:2`), its folder, its name and its package (`0`) as the kernel says them."""

    id: str
    path: Path
    name: str
    package: str | None
    base: str
    """What its domain is called, unless there are two."""
    kind: DomainKind


class _Zone(msgspec.Struct):
    found: _Found
    domain: Domain
    max_uj: int | None
    max_w: float
    file: KeptFile | None = None
    """Kept open; None: to be opened, once it is seen that the zone is still the same."""

    def let_go(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class Rapl:
    """The powercap tree.

    Args:
        root: where it is mounted: /sys/class/powercap, or /sys/devices/virtual/powercap and what lies below it.
        max_w: by domain, what it can draw at most; else the kernel's limit with headroom.
    """

    name = "rapl"

    def __init__(self, root: Path, max_w: Mapping[str, float] | None = None) -> None:
        self.problem: str | None = None
        self._root = root
        self._max_w = dict(max_w or {})
        self._zones: dict[str, _Zone] = {}
        self._mirrors = Mirrors()
        self._missing: str | None = None

    def discover(self) -> list[Domain]:
        """Find the zones; those known already keep their files."""
        try:
            listed = {zone.id: zone for zone in _walk(self._root)}
        except OSError as error:
            listed, self._missing = {}, f"{self._root}: {error.strerror}"
        else:
            self._missing = None if listed else f"{self._root}: no intel-rapl zones"
        found = [zone for zone in sorted(listed.values(), key=_place) if zone.base]
        for name, zone in _named(found, {name: zone.found for name, zone in self._zones.items()}).items():
            self._take(name, zone)
        if listed and not self._zones:
            self._missing = f"{self._root}: no package or dram zone"
        self.read()
        return [zone.domain for name, zone in self._zones.items() if name not in self._mirrors.held_back]

    def _take(self, name: str, found: _Found) -> None:
        known = self._zones.get(name)
        if known is None:
            kin = {
                other: zone.found.base == found.base
                for other, zone in self._zones.items()
                if found.package is not None and (zone.found.kind, zone.found.package) == (found.kind, found.package)
            }
            self._mirrors.suspect(name, kin)
            self._zones[name] = self._zone(name, found)
        elif known.found.path != found.path:
            known.let_go()
            known.found = found

    def _zone(self, name: str, found: _Found) -> _Zone:
        rated_w, boost_w = (_limit_w(found.path, limit) * HEADROOM for limit in ("max_power", "power_limit"))
        # Client parts draw their short-term limit, twice what they are rated for; some boards set it to kilowatts.
        kernel_w = max(rated_w, min(boost_w, MAX_W[found.kind])) if rated_w else 0
        max_w = self._max_w.get(name) or kernel_w or MAX_W[found.kind]
        max_uj = _number(found.path / "max_energy_range_uj") or None
        return _Zone(found, Domain(name, found.kind, "rapl"), max_uj, max_w)

    def read(self) -> dict[str, Reading]:
        """All counters, in microjoules; one that another zone shows already is left out."""
        start_ns = time.monotonic_ns()
        readings = {name: self._read(zone) for name, zone in self._zones.items()}
        if self._mirrors.held_back:
            self._mirrors.compare(readings, time.monotonic_ns() - start_ns)
            for name in self._mirrors.held_back:
                del readings[name]
        self.problem = self._missing or self._mirrors.told()
        return readings

    def _read(self, zone: _Zone) -> Reading:
        path = zone.found.path / "energy_uj"
        try:
            text = _text(zone)
        except PermissionError:
            return Absent(f"{path}: not readable by this user (the kernel lets root alone read it)")
        except OSError as error:
            return Failed(f"{path}: {error.strerror}")
        if not text.isdigit():
            zone.let_go()
            return Failed(f"{path}: not a number")
        return Counter(int(text), zone.max_uj, None, zone.max_w)

    def close(self) -> None:
        """Close all files."""
        for zone in self._zones.values():
            zone.let_go()


def _text(zone: _Zone) -> bytes:
    """What a zone's counter says.

    Raises:
        OSError: it cannot be read now.
    """
    if zone.file is not None:
        try:
            return zone.file.read(32).rstrip()
        except OSError:
            zone.file = None
    # A driver that is loaded anew numbers its zones in the order in which it meets them.
    if text_of(zone.found.path / "name") != zone.found.name:
        raise FileNotFoundError(0, "the zone is gone")
    file = KeptFile(zone.found.path / "energy_uj", reopen=False)
    text = file.read(32).rstrip()
    zone.file = file
    return text


def _limit_w(folder: Path, limit: str) -> float:
    """The largest of a zone's limits of one sort, in watts; 0 where there is none."""
    return max((_number(file) or 0 for file in folder.glob(f"constraint_*_{limit}_uw")), default=0) / 1e6


def _walk(folder: Path) -> Iterator[_Found]:
    """All zones in a folder and below it; a zone may come more than once.

    Raises:
        OSError: the first folder cannot be listed.
    """
    for entry in sorted(os.listdir(folder)):
        below = folder / entry
        match = _ZONE.match(entry)
        if match:
            yield _found(match[1][1:], below)
        if match or entry == "intel-rapl":
            try:
                yield from _walk(below)
            except OSError:
                continue  # a zone that went away, or one that nothing can be read of: the others stay


def _found(zone_id: str, path: Path) -> _Found:
    """What a zone is: `package-N`, or `dram` named by its package's number. No base: not ours to count."""
    name = text_of(path / "name")
    package = _PACKAGE.match(name)
    if package:
        return _Found(zone_id, path, name, package[1], name, "cpu")
    if name != "dram":
        return _Found(zone_id, path, name, None, "", "cpu")
    above, _, number = zone_id.rpartition(":")
    # The parent lies around it in the tree of devices, and beside it in the class folder.
    beside = path.parent / f"intel-rapl:{above}"
    parent = _PACKAGE.match(text_of((beside if beside.exists() else path.parent) / "name")) if above else None
    if parent:
        return _Found(zone_id, path, name, parent[1], "dram-" + parent[0].removeprefix("package-"), "dram")
    return _Found(zone_id, path, name, None, f"dram-{int(number, 16)}", "dram")


def _named(found: Iterable[_Found], known: Mapping[str, _Found]) -> dict[str, _Found]:
    """Names for zones: those of a zone that is known are kept, and a second one of a name has its id added."""
    kept = {(zone.id, zone.base): name for name, zone in known.items()}
    named = {kept[zone.id, zone.base]: zone for zone in found if (zone.id, zone.base) in kept}
    for zone in found:
        if (zone.id, zone.base) not in kept:
            second = zone.base in named
            named[f"{zone.base}-zone-{zone.id.replace(':', '-')}" if second else zone.base] = zone
    return named


def _place(zone: _Found) -> list[int]:
    return [int(part, 16) for part in zone.id.split(":")]


def _number(path: Path) -> int | None:
    text = text_of(path)
    return int(text) if text.isdecimal() else None
