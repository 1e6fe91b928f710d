"""hwmon: power sensors of boards and superchips, by the kernel's hwmon tree. They have power and no energy counter.

What the sensors mean, by the driver's name and the sensor's label (a hwmon folder's number changes between boots):

- `power_meter` (ACPI), in microwatts, averaged over its own interval. NVIDIA Grace has four for each socket N:
  `Grace Power Socket N` is the CPU socket with its memory and regulators and is taken as `package-N`;
  `CPU Power Socket N` (the cores' rail) and `SysIO Power Socket N` are inside it; `Module Power Socket N` is around it
  and has the GPU in it too: none of these is added. A single one that names no socket is the whole machine: `node`.
- `ina3221` (NVIDIA Jetson), voltage times current of each rail. One rail is the input of the whole module, carrier
  board excluded: `VDD_IN` (TX1, TX2, Xavier NX, Orin Nano, Orin NX) or `POM_5V_IN` (Nano); the others are behind it.
  AGX Xavier and AGX Orin have no such rail: there the module is the sum of rails that lie side by side. Channel 7 is a
  sum of shunt voltages, which is no power.
- `ina238` beside the rails of a Jetson Thor: the input of module and carrier board, in microwatts.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from jobimpact.core.records import Absent, Domain, DomainKind, Failed, Gauge, Reading
from jobimpact_daemon.kept import KeptFile, text_of

__all__ = ["Hwmon"]

RESCAN_S = 5.0
"""How often sensors that are not there are looked for."""
UNKNOWN_UW = 0xFFFFFFFF * 1000
"""What an ACPI meter says when its firmware does not know."""
LATENCY_S = 0.1

_HWMON = re.compile(r"hwmon(\d+)\Z")
_NUMBER = re.compile(rb"-?\d+\Z")
_SOCKET = re.compile(r"(Grace|Total|CPU|SysIO|Module) Power Socket (\d+)\Z", re.IGNORECASE)
_PACKAGE_RAILS = ("grace", "total", "cpu")
"""Which of a socket's meters stands for its package: the widest that has no GPU in it."""
INPUTS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that are the input of everything behind them, at most one on a board."""
SIDE_BY_SIDE = (
    frozenset({"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}),  # AGX Orin; its DDR rail is behind the third
    frozenset({"GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"}),  # AGX Xavier
)
"""Boards without an input rail: rails that together are the module, and none of them behind another."""
THOR_RAILS = frozenset({"VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"})


class _Sensor(msgspec.Struct):
    """A power domain: the sum, over its terms, of the products of files' values, in microwatts."""

    domain: Domain
    terms: tuple[tuple[Path, ...], ...]
    rank: int = 0
    """0 is the domain's best; a worse one never takes the place of one that is away for a moment."""
    files: tuple[tuple[KeptFile, ...], ...] = ()

    def close(self) -> None:
        for file in (file for term in self.files for file in term):
            file.close()


class _Chip(msgspec.Struct, frozen=True):
    """One hwmon folder: its driver's name, and where its files are (older kernels put them in `device`)."""

    name: str
    folder: Path


class Hwmon:
    """The hwmon tree.

    Args:
        root: where it is (/sys/class/hwmon).
        rescan_s: how often sensors that are missing are looked for.
    """

    name = "hwmon"

    def __init__(self, root: Path, rescan_s: float = RESCAN_S) -> None:
        self.problem: str | None = None
        self._root = root
        self._rescan_s = rescan_s
        self._scanned: float | None = None
        self._sensors: dict[str, _Sensor] = {}

    def discover(self) -> list[Domain]:
        """Look for sensors; those once seen stay known."""
        # A poller that has no domains asks ten times a second.
        if self._sensors or self._due():
            self._scan()
        return [sensor.domain for sensor in self._sensors.values()]

    def poll(self) -> dict[str, Reading]:
        """Power now, in watts; a driver that was loaded anew may have its sensors in another folder."""
        readings = {name: _read(sensor) for name, sensor in self._sensors.items()}
        if any(isinstance(reading, Failed) for reading in readings.values()) and self._due():
            self._scan()
            again = (name for name, reading in readings.items() if isinstance(reading, Failed))
            readings |= {name: _read(self._sensors[name]) for name in list(again)}
        return readings

    def close(self) -> None:
        """Close all files."""
        for sensor in self._sensors.values():
            sensor.close()

    def _due(self) -> bool:
        return self._scanned is None or time.monotonic() - self._scanned >= self._rescan_s

    def _scan(self) -> None:
        self._scanned = time.monotonic()
        try:
            chips = list(_chips(self._root))
        except OSError as error:
            self.problem = f"{self._root}: {error.strerror}"
            return
        problems: list[str] = []
        found = [*_power_meters(chips, problems), *_jetson(chips, problems)]
        for sensor in found:
            known = self._sensors.get(sensor.domain.name)
            if known is None or (known.terms != sensor.terms and sensor.rank <= known.rank):
                if known is not None:
                    known.close()
                sensor.files = tuple(tuple(map(KeptFile, term)) for term in sensor.terms)
                self._sensors[sensor.domain.name] = sensor
        if not self._sensors and not problems:
            problems.append("no power sensor of a known kind (power_meter, ina3221)")
        self.problem = f"{self._root}: {'; '.join(problems)}" if problems else None


def _read(sensor: _Sensor) -> Reading:
    try:
        uw = sum(math.prod(_value(file) for file in term) for term in sensor.files)
    except PermissionError as error:
        return Absent(f"{error.filename or sensor.terms[0][0]}: not readable by this user")
    except (OSError, ValueError) as error:
        return Failed(str(error))
    return Gauge(uw / 1e6) if uw >= 0 else Failed(f"{sensor.terms[0][0]}: negative power")


def _value(file: KeptFile) -> int:
    """A file's number.

    Raises:
        PermissionError: it is not ours to read.
        OSError: it cannot be read; named by its path.
        ValueError: it says something else, or that it does not know.
    """
    try:
        text = file.read(32).strip()
    except PermissionError:
        raise
    except OSError as error:
        raise OSError(f"{file.path}: {error.strerror}") from error
    if not _NUMBER.match(text):
        file.close()
        raise ValueError(f"{file.path}: not a number")
    value = int(text)
    if value >= UNKNOWN_UW:
        raise ValueError(f"{file.path}: the firmware does not know the power")
    return value


def _chips(root: Path) -> Iterator[_Chip]:
    """All hwmon folders, by number.

    Raises:
        OSError: the tree cannot be listed.
    """
    numbers = sorted(int(match[1]) for match in map(_HWMON.match, os.listdir(root)) if match)
    for number in numbers:
        folder = root / f"hwmon{number}"
        name = text_of(folder / "name") or text_of(folder / "device" / "name")
        if name:
            yield _Chip(name, folder)


def _beside(chip: _Chip, file: str) -> Path:
    """A chip's file, in its folder or in its device's."""
    path = chip.folder / file
    return path if path.exists() else chip.folder / "device" / file


def _latency_s(path: Path) -> float:
    """A sensor's own interval, in milliseconds in the file; at least the time from one poll to the next."""
    text = text_of(path)
    return max(int(text) / 1000 if text.isdecimal() else 0.0, LATENCY_S)


# -- ACPI ----------------------------------------------------------------------------------------------------------


def _power_meters(chips: Iterable[_Chip], problems: list[str]) -> list[_Sensor]:
    sockets: dict[int, dict[str, _Chip]] = {}
    others: list[_Chip] = []
    for chip in chips:
        if chip.name != "power_meter" or text_of(_beside(chip, "power1_is_battery")) == "1":
            continue
        label = text_of(_beside(chip, "power1_oem_info"))
        match = _SOCKET.match(label)
        if not _beside(chip, "power1_average").exists():
            where = f"{chip.folder.name} ({label})" if label else chip.folder.name
            problems.append(f"{where} has no power1_average (load acpi_power_meter with force_cap_on=y)")
        elif match:
            sockets.setdefault(int(match[2]), {}).setdefault(match[1].lower(), chip)
        else:
            others.append(chip)
    found = []
    for number, meters in sorted(sockets.items()):
        rail = next((rail for rail in _PACKAGE_RAILS if rail in meters), None)
        if rail is not None:
            found.append(_power_meter(f"package-{number}", "cpu", meters[rail], _PACKAGE_RAILS.index(rail)))
    if len(others) == 1 and not sockets:
        found.append(_power_meter("node", "node", others[0]))
    elif others:
        names = ", ".join(chip.folder.name for chip in others)
        problems.append(f"{names}: which of these power meters is the node's is not known: none is used")
    return found


def _power_meter(name: str, kind: DomainKind, chip: _Chip, rank: int = 0) -> _Sensor:
    latency_s = _latency_s(_beside(chip, "power1_average_interval"))
    domain = Domain(name, kind, "hwmon", "gauge", latency_s=latency_s)
    return _Sensor(domain, ((_beside(chip, "power1_average"),),), rank)


# -- Jetson --------------------------------------------------------------------------------------------------------


def _jetson(chips: list[_Chip], problems: list[str]) -> list[_Sensor]:
    """The module's power as `node`, from whichever rails this board has."""
    rails: dict[str, tuple[Path, ...]] = {}
    latency_s = LATENCY_S
    for chip in chips:
        if chip.name == "ina3221":
            rails = dict(_rails(chip)) | rails
            latency_s = _latency_s(chip.folder / "update_interval")
    if not rails:
        return []
    inputs = [chip.folder / "power1_input" for chip in chips if chip.name == "ina238"]
    sum_of = next((names for names in SIDE_BY_SIDE if names <= rails.keys()), frozenset[str]())
    one = next((name for name in INPUTS if name in rails), None)
    if one is not None:
        terms: tuple[tuple[Path, ...], ...] = (rails[one],)
    elif len(inputs) == 1 and rails.keys() >= THOR_RAILS:
        terms = ((inputs[0],),)
    elif sum_of:
        terms = tuple(rails[name] for name in sorted(sum_of))
    else:
        problems.append(f"ina3221: none of its rails is known as the board's input ({', '.join(sorted(rails))})")
        return []
    return [_Sensor(Domain("node", "node", "hwmon", "gauge", latency_s=latency_s), terms)]


def _rails(chip: _Chip) -> Iterator[tuple[str, tuple[Path, ...]]]:
    for number in (1, 2, 3):
        label = text_of(chip.folder / f"in{number}_label").upper()
        if label and label != "NC" and text_of(chip.folder / f"in{number}_enable") != "0":
            yield label, (chip.folder / f"in{number}_input", chip.folder / f"curr{number}_input")
