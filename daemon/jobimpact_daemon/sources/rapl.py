"""RAPL: energy counters of CPU packages and DRAM, by the kernel's powercap tree.

A package's energy is its `package-N` zone plus its `dram`; `core` and `uncore` are inside the package, `psys` is the
platform, and `intel-rapl-mmio` shows the package a second time: none of these is added. Files are kept open and read
with pread: 1.6 us for four zones instead of 23. Root alone may read them (0400) since CVE-2020-8694.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from jobimpact.core.records import Absent, Counter, Domain, DomainKind, Failed, Reading
from jobimpact_daemon.kept import KeptFile

__all__ = ["Rapl"]

_ZONE = re.compile(r"intel-rapl(:[0-9a-f]+){1,2}\Z")
_PACKAGE = re.compile(r"package-(\d+)(-die-\d+)?\Z")
MAX_W: dict[DomainKind, float] = {"cpu": 1000.0, "dram": 300.0}
"""More than a zone can draw, where neither the kernel nor the configuration says."""
HEADROOM = 1.5


class _Zone(msgspec.Struct):
    domain: Domain
    file: KeptFile
    max_uj: int | None
    max_w: float


class Rapl:
    """The powercap tree.

    Args:
        root: where it is mounted (/sys/class/powercap).
        max_w: by domain, what it can draw at most; else the kernel's limit with headroom.
    """

    name = "rapl"

    def __init__(self, root: Path, max_w: Mapping[str, float] | None = None) -> None:
        self.problem: str | None = None
        self._root = root
        self._max_w = dict(max_w or {})
        self._zones: dict[str, _Zone] = {}

    def discover(self) -> list[Domain]:
        """Find the zones; those known already keep their files."""
        try:
            entries = sorted(entry for entry in os.listdir(self._root) if _ZONE.match(entry))
        except OSError as error:
            entries = []
            self.problem = f"{self._root}: {error.strerror}"
        else:
            self.problem = None if entries else f"{self._root}: no intel-rapl zones"
        for entry in entries:
            found = _domain(self._root, entry)
            if found and found.name not in self._zones:
                self._zones[found.name] = self._zone(found, self._root / entry)
        if entries and not self._zones:
            self.problem = f"{self._root}: no package or dram zone"
        return [zone.domain for zone in self._zones.values()]

    def _zone(self, domain: Domain, path: Path) -> _Zone:
        rated_w, boost_w = (
            max((_number(file) or 0 for file in path.glob(f"constraint_*_{limit}_uw")), default=0) / 1e6 * HEADROOM
            for limit in ("max_power", "power_limit")
        )
        # Client parts draw their short-term limit, twice what they are rated for; some boards set it to kilowatts.
        kernel_w = max(rated_w, min(boost_w, MAX_W[domain.kind])) if rated_w else 0
        max_w = self._max_w.get(domain.name) or kernel_w or MAX_W[domain.kind]
        return _Zone(domain, KeptFile(path / "energy_uj"), _number(path / "max_energy_range_uj") or None, max_w)

    def read(self) -> dict[str, Reading]:
        """All counters, in microjoules."""
        return {name: self._read(zone) for name, zone in self._zones.items()}

    def _read(self, zone: _Zone) -> Reading:
        try:
            return Counter(int(zone.file.read(32)), zone.max_uj, None, zone.max_w)
        except PermissionError:
            return Absent(f"{zone.file.path}: not readable by this user (the kernel lets root alone read it)")
        except OSError as error:
            return Failed(f"{zone.file.path}: {error.strerror}")
        except ValueError:
            zone.file.close()
            return Failed(f"{zone.file.path}: not a number")

    def close(self) -> None:
        """Close all files."""
        for zone in self._zones.values():
            zone.file.close()


def _domain(root: Path, entry: str) -> Domain | None:
    """What a zone is: `package-N`, or `dram` named by its package's number."""
    name = _text(root / entry / "name")
    if _PACKAGE.match(name):
        return Domain(name, "cpu", "rapl")
    if name != "dram":
        return None
    parent = _PACKAGE.match(_text(root / entry.rpartition(":")[0] / "name"))
    number = parent[0].removeprefix("package-") if parent else str(int(entry.rpartition(":")[2], 16))
    return Domain(f"dram-{number}", "dram", "rapl")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None
