"""AMD GPUs, and the script that libamd_smi.so (amdsmi.c) reads; met by the real Python package in a child process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.fakes.curve import Counter
from tests.fakes.rig_build import build_amdsmi
from tests.fakes.rig_gpu import FOREVER, Delay, Fault

ENERGY = "amdsmi_get_energy_count"
LAYOUT = "7."
"""The stand-in's structures are those of this version."""

__all__ = ["ENERGY", "FOREVER", "AmdGpu", "AmdMeter", "Status", "ask_amd_child", "missing"]


class Status(IntEnum):
    """AMD SMI's return codes."""

    NOT_SUPPORTED = 2
    DRM_ERROR = 6
    API_FAILED = 7
    TIMEOUT = 8
    NO_PERM = 10
    IO = 12
    NOT_FOUND = 31
    NOT_INIT = 32
    DRIVER_NOT_LOADED = 34


class AmdMeter(IntFlag):
    """What a device can tell of its power; the second die of two tells 0 of everything."""

    ENERGY = 1
    CURRENT = 2
    AVERAGE = 4
    SECOND_DIE = 8


@dataclass(frozen=True, slots=True)
class AmdGpu:
    """One device (one die); `counter` is in microjoules."""

    uuid: str
    counter: Counter
    bus: int = 1
    cap_uw: int = 750_000_000
    meters: AmdMeter = AmdMeter.ENERGY | AmdMeter.CURRENT
    trouble: tuple[Fault | Delay, ...] = field(default=())

    def text(self) -> str:
        words = [self.uuid, self.bus, 127 + self.bus, self.cap_uw, int(self.meters), self.counter.text()]
        return "\n".join([f"device {' '.join(map(str, words))}", *(one.text() for one in self.trouble)])


def missing() -> str:
    """Why the real Python package cannot be met here; nothing: it can."""
    try:
        found = version("amdsmi")
    except PackageNotFoundError:
        return "the Python package amdsmi is not installed"
    return "" if found.startswith(LAYOUT) else f"amdsmi {found}: the stand-in library is laid out as {LAYOUT}x"


def ask_amd_child(
    folder: Path, program: str, gpus: Sequence[AmdGpu] = (), trouble: Sequence[Fault | Delay] = (), **environ: str
) -> Any:
    """Run `program` with these GPUs, and give back what it left in `out`. `sys_root` has the driver loaded."""
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    rocm = build_amdsmi(Path(spec.submodule_search_locations[0]) / "amdsmi_wrapper.py")
    script, sys_root = folder / "amdsmi.script", folder / "sys"
    script.write_text("\n".join(one.text() for one in (*trouble, *gpus)) + "\n")
    (sys_root / "module" / "amdgpu").mkdir(parents=True)
    source = f"import json, pathlib\nout = {{}}\nsys_root = pathlib.Path({str(sys_root)!r})\n{program}\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{source}print(json.dumps(out))"],
        env={**os.environ, "ROCM_PATH": str(rocm), "FAKE_AMDSMI": str(script), **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
