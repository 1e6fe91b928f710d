"""pm_counters: Cray's energy counters of a node and of its parts (XC and EX), kept by the blade's controller.

Each `..._energy` file says joules since `startup`, with the time of the measurement (`1234 J 1600000000000000 us`).
They are whole joules: at one reading a second, what a tick has is right to 1 J, and what a job has to 1 J in all. The
controller measures ten times a second (`raw_scan_hz`). `energy` is the node with everything in it.

Of parts that are there both together and one by one (`cpu_energy` and `cpu0_energy`), only the single ones are taken.
`freshness` counts the scans: while it stands still, the counters say nothing, and have failed. `startup` changes when
they have begun anew. `generation` does not tell that: it counts changes of the power cap.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import msgspec

from jobimpact.core.records import Absent, Counter, Domain, DomainKind, Failed, Reading
from jobimpact_daemon.kept import KeptFile, text_of

__all__ = ["PmCounters"]

STALE_S = 2.0
"""Twenty scans: that long without a new one, and the controller has stopped."""
SCAN_HZ = 10

_FILE = re.compile(r"(?:(cpu|memory|accel)(\d*)_)?energy\Z")
_ENERGY = re.compile(rb"(\d+) J\b")
_NAMES: dict[str, tuple[DomainKind, str, str]] = {
    "cpu": ("cpu", "cpu", "package-{}"),
    "memory": ("dram", "dram", "dram-{}"),
    "accel": ("gpu", "gpu:accel0", "gpu:accel{}"),
}
"""By a file's first word: its kind, and its domain's name without and with a number."""


class _Meter(msgspec.Struct):
    domain: Domain
    file: KeptFile


class PmCounters:
    """The folder of counters.

    Args:
        root: where it is (/sys/cray/pm_counters).
        stale_s: how long `freshness` may stand still.
    """

    name = "pmcounters"

    def __init__(self, root: Path, stale_s: float = STALE_S) -> None:
        self.problem: str | None = None
        self._root = root
        self._stale_s = stale_s
        self._meters: dict[str, _Meter] = {}
        self._freshness = KeptFile(root / "freshness")
        self._startup = KeptFile(root / "startup")
        self._epoch: str | None = None
        self._scan: str | None = None
        self._scan_s = 0.0

    def discover(self) -> list[Domain]:
        """Look for counters; those known already keep their files."""
        try:
            files = os.listdir(self._root)
        except OSError as error:
            self.problem = f"{self._root}: {error.strerror}"
            return self._domains()
        found = {match[0]: (match[1], match[2]) for match in map(_FILE.match, files) if match}
        numbered = {part for part, number in found.values() if number}
        hertz = text_of(self._root / "raw_scan_hz").partition(" ")[0]
        latency_s = 2 / (int(hertz) if hertz.isdecimal() and int(hertz) else SCAN_HZ)
        for file, (part, number) in sorted(found.items()):
            if (number or part not in numbered) and not (part == "accel" and not number and self._is_zero(file)):
                domain = _domain(part, number, latency_s)
                self._meters.setdefault(domain.name, _Meter(domain, KeptFile(self._root / file)))
        self.problem = None if self._meters else f"{self._root}: no energy counter"
        return self._domains()

    def _domains(self) -> list[Domain]:
        return [meter.domain for meter in self._meters.values()]

    def _is_zero(self, file: str) -> bool:
        """A node without accelerators has the file of all of them, too."""
        return text_of(self._root / file).startswith("0 ")

    def read(self) -> dict[str, Reading]:
        """All counters, in microjoules."""
        if not self._meters:
            return {}
        stale = self._stale()
        self._epoch = _first_word(self._startup) or self._epoch
        return {name: stale or self._read(meter.file) for name, meter in self._meters.items()}

    def _stale(self) -> Failed | None:
        scan, now_s = _first_word(self._freshness), time.monotonic()
        if scan is None or scan != self._scan:
            self._scan, self._scan_s = scan, now_s
        elif now_s - self._scan_s > self._stale_s:
            return Failed(f"{self._freshness.path}: stale: no new measurement for {now_s - self._scan_s:.1f} s")
        return None

    def _read(self, file: KeptFile) -> Reading:
        try:
            text = file.read(64)
        except PermissionError:
            return Absent(f"{file.path}: not readable by this user")
        except OSError as error:
            return Failed(f"{file.path}: {error.strerror}")
        match = _ENERGY.match(text)
        if match is None:
            file.close()
            return Failed(f"{file.path}: not an energy in joules")
        return Counter(int(match[1]) * 1_000_000, None, self._epoch)

    def close(self) -> None:
        """Close all files."""
        for file in (self._freshness, self._startup, *(meter.file for meter in self._meters.values())):
            file.close()


def _domain(part: str | None, number: str, latency_s: float) -> Domain:
    if not part:
        return Domain("node", "node", "pmcounters", latency_s=latency_s)
    kind, whole, single = _NAMES[part]
    return Domain(single.format(int(number)) if number else whole, kind, "pmcounters", latency_s=latency_s)


def _first_word(file: KeptFile) -> str | None:
    """A file's first word; None where it cannot be read, or is not there on an older system."""
    try:
        words = file.read(64).decode("ascii", "replace").split()
    except OSError:
        return None
    return words[0] if words else None
