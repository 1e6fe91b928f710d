"""A powercap tree as the kernel lays it out: zones in a tree of devices, flat links in the class folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

MAX_RANGE_UJ = 262_143_328_850
"""max_energy_range_uj of an Intel server's package zone."""
DRAM_RANGE_UJ = 65_712_999_613


class PowercapTree:
    """The zones of some power domains under `sys_root`, a folder that stands for /sys.

    Domains are named `package-N`, `dram-N`, `core-N` (in package N), `psys`, and `mmio-N`, the duplicate of
    package N that intel-rapl-mmio shows. `root` stands for /sys/class/powercap; `energy_file[domain]` is what
    the rig writes. Dram is the first zone in its package, core the second.
    """

    def __init__(self, sys_root: Path, domains: Iterable[str], max_power_uw: int = 250_000_000) -> None:
        self.root = sys_root / "class" / "powercap"
        self.root.mkdir(parents=True)
        self._devices = sys_root / "devices" / "virtual" / "powercap"
        self._max_power_uw = max_power_uw
        self.energy_file: dict[str, Path] = {}
        self.max_range_uj: dict[str, int] = {}
        names = list(domains)
        # packages first: the others lie inside them
        for domain in sorted(names, key=lambda name: (not name.startswith("package"), name)):
            self._add(domain, names)

    def _add(self, domain: str, names: list[str]) -> None:
        kind, _, number = domain.partition("-")
        match kind:
            case "package" | "psys":
                place = number or str(sum(name.startswith("package") for name in names))
                self._zone(domain, domain, "intel-rapl", [f"intel-rapl:{place}"])
            case "mmio":
                self._zone(domain, f"package-{number}", "intel-rapl-mmio", [f"intel-rapl-mmio:{number}"])
            case "dram" | "core":
                parent = f"intel-rapl:{number}"
                sub = 1 if kind == "core" and f"dram-{number}" in names else 0
                self._zone(domain, kind, "intel-rapl", [parent, f"{parent}:{sub}"])
            case _:
                raise ValueError(f"no powercap zone for {domain}")

    def _zone(self, domain: str, name: str, control: str, path: list[str]) -> None:
        folder = self._devices.joinpath(control, *path)
        folder.mkdir(parents=True)
        self._control(control)
        self._link(folder)
        reach = DRAM_RANGE_UJ if name == "dram" else MAX_RANGE_UJ
        files = {
            "name": name,
            "enabled": 1,
            "energy_uj": 0,
            "max_energy_range_uj": reach,
            "constraint_0_name": "long_term",
            "constraint_0_max_power_uw": self._max_power_uw,
            "constraint_0_power_limit_uw": self._max_power_uw,
            "constraint_0_time_window_us": 999_424,
        }
        for file, value in files.items():
            (folder / file).write_text(f"{value}\n")
        self.energy_file[domain] = folder / "energy_uj"
        self.max_range_uj[domain] = reach

    def _control(self, control: str) -> None:
        folder = self._devices / control
        if not (folder / "enabled").exists():
            (folder / "enabled").write_text("1\n")
            self._link(folder)

    def _link(self, folder: Path) -> None:
        (self.root / folder.name).symlink_to(os.path.relpath(folder, self.root))
