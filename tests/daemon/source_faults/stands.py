"""What stands in for each source's hardware, at its lowest edge, and how each fault is done to it.

A stand is told when its fault begins and ends. What the C rigs do is scripted before the daemon starts; trees, servers
and simulators change when the runner calls `fall` and `heal`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from tests.fakes import bmc_redfish, ipmi_sim, kwollect, rig_amd
from tests.fakes.curve import NS_PER_MS, NS_PER_S, Counter, Curve, Event, boot_ns, unreadable
from tests.fakes.rig import RigNode
from tests.fakes.rig_build import build_amdsmi
from tests.fakes.rig_gpu import ENERGY, FIELDS, FOREVER, POWER, Code, Delay, Fault, Gpu, gpu
from tests.fakes.trees import EIO, write_tree

__all__ = [
    "GPU_WATTS", "KINDS", "WATTS", "Amdsmi", "Csv", "Hwmon", "Ipmi", "Kind", "Kwollect", "Model", "Nvml", "PmCounters",
    "Rapl", "Redfish", "Stand", "Times",
]  # fmt: skip

Json = dict[str, Any]
Kind = Literal["absent", "refused", "dies", "hangs"]
KINDS: tuple[Kind, ...] = ("absent", "refused", "dies", "hangs")
NOBODY = 65534
WATTS = 400
GPU_WATTS = 300


@dataclass(frozen=True)
class Times:
    """When the fault begins and ends (boot time), and whether the node's settings are those of a real node."""

    from_ns: int
    to_ns: int
    full: bool

    @property
    def ms(self) -> int:
        return (self.to_ns - self.from_ns) // NS_PER_MS


def refuse(file: Path) -> None:
    """Nobody but another user may read it; the daemon runs without root's power to read everything."""
    if os.geteuid() == 0:
        os.chown(file, NOBODY, NOBODY)
        file.chmod(0o400)
    else:
        file.chmod(0)


def to_fifo(file: Path) -> None:
    """A pipe without a writer in a file's place: who opens it plainly hangs."""
    file.unlink()
    os.mkfifo(file)


def rocm() -> Path:
    """The stand-in of ROCm's folder, for the real Python package that is installed here."""
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return build_amdsmi(Path(spec.submodule_search_locations[0]) / "amdsmi_wrapper.py")


class Stand:
    """One source's stand-in.

    Args:
        folder: for its files.
        kind: what will happen to it.
        times: when.
    """

    row: str
    """Its name in the table."""
    source: str
    """Its name in the configuration and in the books' table of sources."""
    domain: str
    """Its domain in the books."""
    how: ClassVar[dict[Kind, str]]
    """What each fault is, in words."""

    def __init__(self, folder: Path, kind: Kind, times: Times) -> None:
        self.folder, self.kind, self.times = folder, kind, times
        folder.mkdir(parents=True)

    def settings(self) -> Json:
        """Its section of the configuration."""
        raise NotImplementedError

    def environ(self) -> dict[str, str]:
        """What the daemon's environment needs for it."""
        return {}

    def gpus(self) -> tuple[Gpu, ...]:
        """What it adds to the C rig."""
        return ()

    def nvml_trouble(self) -> tuple[Fault | Delay, ...]:
        """What the C rig's whole NVML library suffers."""
        return ()

    def rapl_events(self) -> tuple[Event, ...]:
        """What the C rig's RAPL counters suffer."""
        return ()

    def know(self, node: RigNode) -> None:
        """The C rig's node, before it plays."""

    @contextmanager
    def playing(self) -> Iterator[None]:
        """It is there, or not, from the daemon's start on."""
        yield

    def tick(self) -> None:
        """Ten times a second: go on."""

    def fall(self) -> None:
        """The fault begins now."""

    def heal(self) -> None:
        """The fault ends now."""


class Rapl(Stand):
    row = source = "rapl"
    domain = "package-0"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "no powercap tree",
        "refused": "file 0400, another's",
        "dies": "its file gives EIO",
        "hangs": "n/a; a pipe in the file's place",
    }

    def settings(self) -> Json:
        return {"root": "/nonexistent" if self.kind == "absent" else str(self._node.powercap.root)}

    def know(self, node: RigNode) -> None:
        self._node = node

    def rapl_events(self) -> tuple[Event, ...]:
        fails = self.kind in {"dies", "hangs"}
        return (unreadable(self.times.from_ns, self.times.to_ns),) if fails else ()

    @contextmanager
    def playing(self) -> Iterator[None]:
        if self.kind == "refused":
            for file in self._node.powercap.energy_file.values():
                refuse(file)
        yield

    def fall(self) -> None:
        if self.kind != "hangs":
            return
        for file in self._node.powercap.energy_file.values():
            while not file.is_symlink():  # the rig is about to break it, and puts it back at the end
                time.sleep(0.002)
            pipe = file.with_name("pipe")
            os.mkfifo(pipe)
            pipe.replace(file)


class Model(Stand):
    row = source = "model"
    domain = "cpu"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "n/a: every node has a /proc",
        "refused": "n/a: everybody may read it",
        "dies": "/proc/stat is gone",
        "hangs": "n/a: /proc does not hang",
    }

    def settings(self) -> Json:
        return {"tdp_w": 200.0}

    def know(self, node: RigNode) -> None:
        self._stat = node.proc_root / "stat"

    def fall(self) -> None:
        self._stat.rename(self._stat.with_name("aside"))

    def heal(self) -> None:
        self._stat.with_name("aside").rename(self._stat)


class Nvml(Stand):
    row = source = "nvml"
    domain = "gpu:GPU-a"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "no driver loaded",
        "refused": "NO_PERMISSION",
        "dies": "GPU_IS_LOST",
        "hangs": "every call of the library hangs",
    }

    def settings(self) -> Json:
        return {} if self.times.full else {"deadline_s": 0.2}

    def environ(self) -> dict[str, str]:
        return {"FAKE_NVML": "/nonexistent"} if self.kind == "absent" else {}

    def gpus(self) -> tuple[Gpu, ...]:
        troubles: dict[Kind, tuple[Fault | Delay, ...]] = {
            "refused": (Fault(Code.NO_PERMISSION, 0, FOREVER, (ENERGY, POWER, FIELDS)),),
            "dies": (Fault(Code.GPU_IS_LOST, self.times.from_ns, self.times.to_ns),),
        }
        flat = Curve.flat(boot_ns(), GPU_WATTS * 1_000_000)
        return (gpu("GPU-a", flat, trouble=troubles.get(self.kind, ())),)

    def nvml_trouble(self) -> tuple[Fault | Delay, ...]:
        hang = Delay(self.times.ms, self.times.from_ns, self.times.to_ns)
        return (hang,) if self.kind == "hangs" else ()


class Amdsmi(Stand):
    row = source = "amdsmi"
    domain = "gpu:aaff-1"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "no driver loaded",
        "refused": "NO_PERM",
        "dies": "every call ends with an I/O error",
        "hangs": "every call of the library hangs",
    }

    def settings(self) -> Json:
        return {} if self.times.full else {"deadline_s": 0.2}

    def module(self) -> Path:
        """What stands for /sys/module."""
        return self.folder / "sys" / "module"

    def environ(self) -> dict[str, str]:
        return {"ROCM_PATH": str(rocm()), "FAKE_AMDSMI": str(self.folder / "script")}

    @contextmanager
    def playing(self) -> Iterator[None]:
        self.module().mkdir(parents=True)
        if self.kind != "absent":
            (self.module() / "amdgpu").mkdir()
        span = self.times.from_ns, self.times.to_ns
        troubles: dict[Kind, tuple[Fault | Delay, ...]] = {
            "refused": (Fault(rig_amd.Status.NO_PERM, 0, FOREVER, (rig_amd.ENERGY, "amdsmi_get_power_info")),),
            "dies": (Fault(rig_amd.Status.IO, *span),),
            "hangs": (Delay(self.times.ms, *span),),
        }
        meter = Counter(Curve.flat(boot_ns(), GPU_WATTS * 1_000_000), start=5_000_000)
        parts = [*troubles.get(self.kind, ()), rig_amd.AmdGpu("aaff-1", meter)]
        (self.folder / "script").write_text("\n".join(one.text() for one in parts) + "\n")
        yield


class Hwmon(Stand):
    row = source = "hwmon"
    domain = "node:hwmon"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "no sensor",
        "refused": "file 0400, another's",
        "dies": "the driver's folder is gone; another number afterwards",
        "hangs": "n/a; a pipe in the file's place",
    }

    def __init__(self, folder: Path, kind: Kind, times: Times) -> None:
        super().__init__(folder, kind, times)
        self.root = folder / "hwmon"
        self.root.mkdir()
        self._number = 3

    def settings(self) -> Json:
        return {"root": str(self.root)}

    @property
    def _file(self) -> Path:
        return self.root / f"hwmon{self._number}" / "device" / "power1_average"

    def _write(self) -> None:
        base = f"hwmon{self._number}/device"
        write_tree(
            self.root,
            {
                f"{base}/name": "power_meter",
                f"{base}/power1_is_battery": 0,
                f"{base}/power1_average": WATTS * 1_000_000,
                f"{base}/power1_average_interval": 50,
            },
        )

    @contextmanager
    def playing(self) -> Iterator[None]:
        if self.kind != "absent":
            self._write()
        if self.kind == "refused":
            refuse(self._file)
        yield

    def fall(self) -> None:
        if self.kind == "dies":
            shutil.rmtree(self.root / f"hwmon{self._number}")
        elif self.kind == "hangs":
            to_fifo(self._file)

    def heal(self) -> None:
        if self.kind == "dies":
            self._number += 2
        if self.kind in {"dies", "hangs"}:
            self._write()


class PmCounters(Stand):
    row = source = "pmcounters"
    domain = "node:pmcounters"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "no folder",
        "refused": "file 0400, another's",
        "dies": "its file gives EIO",
        "hangs": "the controller makes no new scan",
    }

    def __init__(self, folder: Path, kind: Kind, times: Times) -> None:
        super().__init__(folder, kind, times)
        self.root = folder / "pm_counters"
        self._t0_ns, self._is_down = boot_ns(), False

    def settings(self) -> Json:
        return {"root": str(self.root)}

    def _energy(self) -> str:
        joules = 5_000_000 + WATTS * (boot_ns() - self._t0_ns) // NS_PER_S
        return f"{joules} J 1600000000000000 us"

    def _scan(self) -> int:
        return 100_000 + (boot_ns() - self._t0_ns) // (100 * NS_PER_MS)

    @contextmanager
    def playing(self) -> Iterator[None]:
        if self.kind != "absent":
            files = {"freshness": self._scan(), "startup": 1_599_999_000_000_000, "raw_scan_hz": 10}
            write_tree(self.root, {"energy": self._energy(), **files})
        if self.kind == "refused":
            refuse(self.root / "energy")
        yield

    def tick(self) -> None:
        if self.kind == "absent":
            return
        files = {"energy": self._energy(), "freshness": str(self._scan())}
        for name in () if self._is_down and self.kind == "hangs" else files:
            if name == "energy" and (self.kind == "refused" or self._is_down):
                continue
            # In place and of one length, as the kernel shows it: a reader never meets half of it.
            with (self.root / name).open("r+b", buffering=0) as file:
                file.write(files[name].encode())

    def fall(self) -> None:
        self._is_down = True
        if self.kind == "dies":
            write_tree(self.root, {"energy": EIO})

    def heal(self) -> None:
        if self.kind == "dies":
            write_tree(self.root, {"energy": self._energy()})
        self._is_down = False


class Ipmi(Stand):
    row = source = "ipmi"
    domain = "node:ipmi"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "in band, and no BMC",
        "refused": "wrong password",
        "dies": "the BMC is gone from the network",
        "hangs": "the BMC takes requests and does not answer",
    }

    def settings(self) -> Json:
        more: Json = {} if self.times.full else {"period_s": 1, "deadline_s": 2}
        if self.kind == "absent":
            return more
        wrong = self.folder / "wrong"
        wrong.write_text("hushed\n")
        file = wrong if self.kind == "refused" else self.bmc.password_file
        account = {"username": "reader", "password_file": str(file)}
        return {"via": "ipmitool", "host": self.bmc.host, "port": self.bmc.port, **account, **more}

    @contextmanager
    def playing(self) -> Iterator[None]:
        if self.kind == "absent":
            yield
            return
        with ipmi_sim.Bmc(self.folder) as self.bmc:
            self.bmc.set(WATTS)
            yield

    def fall(self) -> None:
        if self.kind == "dies":
            self.bmc.stop()
        elif self.kind == "hangs":
            self.bmc.set(WATTS, hangs=True)

    def heal(self) -> None:
        if self.kind == "absent":
            return
        self.bmc.set(WATTS)
        if self.kind == "dies":
            self.bmc.start()


class Redfish(Stand):
    row = source = "redfish"
    domain = "node:redfish"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "a BMC without Redfish (404)",
        "refused": "wrong password (401)",
        "dies": "the BMC refuses connections",
        "hangs": "the BMC takes requests and does not answer",
    }

    def settings(self) -> Json:
        more: Json = {} if self.times.full else {"period_s": 1, "deadline_s": 1}
        password = self.folder / "password"
        said = "hushed" if self.kind == "refused" else bmc_redfish.PASSWORD
        password.write_text(f"{said}\n", encoding="utf-8")
        return {"url": self.bmc.url, "username": bmc_redfish.USER, "password_file": str(password), **more}

    @contextmanager
    def playing(self) -> Iterator[None]:
        control = {"MemberId": "0", "Name": "System Power Control", "PowerConsumedWatts": WATTS}
        own = {"ComputerSystems": bmc_redfish.linked("/redfish/v1/Systems/1")}
        with bmc_redfish.Bmc(
            bmc_redfish.tree({"1": {"Links": own, "Power": {"PowerControl": [control]}}})
        ) as self.bmc:
            if self.kind == "absent":
                self.bmc.fault = "missing"
            yield

    def fall(self) -> None:
        if self.kind == "dies":
            self.bmc.fault = "reset"  # what is connected already
            self.bmc.stop()
        elif self.kind == "hangs":
            self.bmc.fault = "hang"

    def heal(self) -> None:
        if self.kind == "dies":
            self.bmc.fault = "none"
            self.bmc.start()
        elif self.kind == "hangs":
            self.bmc.fault = "none"
            self.bmc.released.set()


class Csv(Stand):
    row = "wattmeter csv"
    source = "wattmeter"
    domain = "node:wattmeter"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "no file",
        "refused": "file 0400, another's",
        "dies": "the file is gone; a new one afterwards",
        "hangs": "n/a; a pipe in the file's place",
    }

    def __init__(self, folder: Path, kind: Kind, times: Times) -> None:
        super().__init__(folder, kind, times)
        self.path = folder / "watts.csv"
        self._is_down, self._next_ns = kind in {"absent", "refused"}, 0

    def settings(self) -> Json:
        more: Json = {} if self.times.full else {"period_s": 0.5, "deadline_s": 1}
        return {"csv": {"path": str(self.path)}, **more}

    @contextmanager
    def playing(self) -> Iterator[None]:
        if self.kind != "absent":
            self.path.write_text("time,watts\n")
        if self.kind == "refused":
            refuse(self.path)
        yield

    def tick(self) -> None:
        if self._is_down or boot_ns() < self._next_ns:
            return
        self._next_ns = boot_ns() + NS_PER_S // 2
        with self.path.open("a") as file:
            file.write(f"{time.time():.3f},{WATTS}\n")

    def fall(self) -> None:
        self._is_down = True
        if self.kind == "dies":
            self.path.unlink()
        elif self.kind == "hangs":
            to_fifo(self.path)

    def heal(self) -> None:
        if self.kind in {"dies", "hangs"}:
            self.path.unlink(missing_ok=True)
            self.path.write_text("time,watts\n")
            self._is_down = False


class Kwollect(Stand):
    row = "wattmeter kwollect"
    source = "wattmeter"
    domain = "node:wattmeter"
    how: ClassVar[dict[Kind, str]] = {
        "absent": "the server knows no such node",
        "refused": "403",
        "dies": "503",
        "hangs": "the server takes requests and does not answer",
    }

    def __init__(self, folder: Path, kind: Kind, times: Times) -> None:
        super().__init__(folder, kind, times)
        self._next_ns = 0

    def settings(self) -> Json:
        more: Json = {} if self.times.full else {"period_s": 0.5, "deadline_s": 1}
        return {"kwollect": {"url": self.server.url}, **more}

    @contextmanager
    def playing(self) -> Iterator[None]:
        with kwollect.serving() as self.server:
            self.server.status = 403 if self.kind == "refused" else 200
            yield
            self.heal()

    def tick(self) -> None:
        """The meter itself is well all the time: what fails is the way to it."""
        if self.kind != "absent" and boot_ns() >= self._next_ns:
            self._next_ns = boot_ns() + NS_PER_S // 2
            self.server.records.append(kwollect.record(datetime.now(UTC).isoformat(), WATTS))

    def fall(self) -> None:
        if self.kind == "dies":
            self.server.status = 503
        elif self.kind == "hangs":
            self.server.hang = threading.Event()

    def heal(self) -> None:
        if self.kind == "dies":
            self.server.status = 200
        hang, self.server.hang = self.server.hang, None
        if hang is not None:
            hang.set()
