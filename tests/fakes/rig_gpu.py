"""GPUs, their faults, and the script that libnvidia-ml.so.1 (nvml.c) reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag

from tests.fakes.curve import NS_PER_MS, Counter, Curve, Sensor, reset

ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
POWER = "nvmlDeviceGetPowerUsage"
FIELDS = "nvmlDeviceGetFieldValues"
UTILISATION = "nvmlDeviceGetProcessUtilization"
BUSY = "nvmlDeviceGetUtilizationRates"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses"
ALL = "*"
FOREVER = 1 << 62
PASCAL, VOLTA, AMPERE, HOPPER, BLACKWELL = 4, 5, 7, 9, 10


class Code(IntEnum):
    """NVML return codes."""

    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    LIB_RM_VERSION_MISMATCH = 18
    UNKNOWN = 999


@dataclass(frozen=True, slots=True)
class Fault:
    """`calls` return `code` in [from_ns, to_ns). Names are NVML's without _v2, _v3; `*` is every call."""

    code: Code
    from_ns: int
    to_ns: int
    calls: tuple[str, ...] = (ALL,)

    def text(self) -> str:
        return f"fault {self.code:d} {self.from_ns} {self.to_ns} {len(self.calls)} {' '.join(self.calls)}"


@dataclass(frozen=True, slots=True)
class Delay:
    """`calls` sleep `ms` milliseconds before they answer, when called in [from_ns, to_ns)."""

    ms: int
    from_ns: int
    to_ns: int
    calls: tuple[str, ...] = (ALL,)

    def text(self) -> str:
        return f"delay {self.ms} {self.from_ns} {self.to_ns} {len(self.calls)} {' '.join(self.calls)}"


@dataclass(frozen=True, slots=True)
class Reload:
    """The driver is away in [from_ns, to_ns).

    Inits fail with DRIVER_NOT_LOADED meanwhile. A session opened before gets `code` from every call, until it
    shuts down and starts again after `to_ns`. Every energy counter restarts from 0 at `to_ns`.
    """

    from_ns: int
    to_ns: int
    code: Code = Code.UNKNOWN

    def text(self) -> str:
        return f"reload {self.code:d} {self.from_ns} {self.to_ns} 0"


class Meter(IntFlag):
    """What a device can tell of its power; power fields by scope."""

    ENERGY = 1
    USAGE = 2
    INSTANT = 4
    AVERAGE = 8
    MODULE_INSTANT = 16
    MODULE_AVERAGE = 32


@dataclass(frozen=True, slots=True)
class Mig:
    """A MIG device, there in [from_ns, to_ns): a compute instance `ci` of `slices` in a GPU instance `gi`."""

    uuid: str
    gi: int
    slices: int
    ci: int = 0
    gi_slices: int = 0
    mem_mb: int = 4864
    from_ns: int = 0
    to_ns: int = FOREVER

    def text(self) -> str:
        words = [self.uuid, self.gi, self.ci, self.slices, self.gi_slices or self.slices, self.mem_mb]
        return f"instance {' '.join(map(str, [*words, self.from_ns, self.to_ns]))}"


@dataclass(frozen=True, slots=True)
class Process:
    """A process (its pid as the node's own namespace has it) on the GPU, or on instance `gi`, `ci` of it.

    In [from_ns, to_ns) it is listed, and keeps the multiprocessors busy for `sm` percent of the time.
    """

    pid: int
    sm: int = 100
    from_ns: int = 0
    to_ns: int = FOREVER
    gi: int = -1
    ci: int = -1
    graphics: bool = False

    def text(self) -> str:
        words = [self.pid, self.gi, self.ci, self.from_ns, self.to_ns, self.sm, int(self.graphics)]
        return f"process {' '.join(map(str, words))}"


@dataclass(frozen=True, slots=True)
class Busy:
    """The GPU tells this utilisation in [from_ns, to_ns), whatever it draws."""

    percent: int
    from_ns: int = 0
    to_ns: int = FOREVER

    def text(self) -> str:
        return f"busy {self.percent} {self.from_ns} {self.to_ns}"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device; `counter` is in millijoules (see `gpu`). `mig` None: MIG mode is not supported.

    `slices` are all that MIG may share out; `average_ms` is what nvmlDeviceGetPowerUsage averages over; `module_mw`
    is what the rest of a superchip draws, beside this GPU's curve.
    """

    uuid: str
    counter: Counter
    minor: int = 0
    name: str = "NVIDIA A100-SXM4-40GB"
    pci: str = ""
    limit_mw: int = 400_000
    mem_bytes: int = 42_949_672_960
    used_bytes: int = 0
    mig: bool | None = None
    trouble: tuple[Fault | Delay, ...] = field(default=())
    meters: Meter = Meter.ENERGY | Meter.USAGE | Meter.INSTANT | Meter.AVERAGE
    arch: int = AMPERE
    average_ms: int = 0
    module_mw: int = 0
    slices: int = 7
    instances: tuple[Mig, ...] = ()
    processes: tuple[Process, ...] = ()
    busy: tuple[Busy, ...] = ()

    def after(self, reloads: Sequence[Reload]) -> Gpu:
        """This GPU with the counter resets of the driver's reloads."""
        return replace(self, counter=self.counter.with_events(*(reset(one.to_ns) for one in reloads)))

    def text(self) -> str:
        pci = self.pci or f"{0:08X}:{self.minor + 1:02X}:00.0"
        mig = -1 if self.mig is None else int(self.mig)
        words = [self.uuid, self.name.replace(" ", "~"), self.minor, pci, self.limit_mw]
        words += [self.mem_bytes, self.used_bytes, mig, self.counter.text()]
        more = [int(self.meters), self.arch, self.average_ms * NS_PER_MS, self.module_mw, self.slices]
        parts = (*self.instances, *self.processes, *self.busy, *self.trouble)
        lines = [f"device {' '.join(map(str, words))}", f"meters {' '.join(map(str, more))}"]
        return "\n".join([*lines, *(one.text() for one in parts)])


def gpu(
    uuid: str, curve: Curve, minor: int = 0, *, start_mj: int = 0, sensor: Sensor | None = None, **rest: object
) -> Gpu:
    """A GPU on a curve of microwatts, by default with a 20 ms sensor and no lag; `rest` are Gpu's fields."""
    counter = Counter(curve, start=start_mj, sensor=sensor or Sensor(20 * NS_PER_MS), unit=1000)
    return replace(Gpu(uuid, counter, minor), **rest)  # type: ignore[arg-type]


def nvml_text(
    gpus: Sequence[Gpu],
    trouble: Sequence[Fault | Delay] = (),
    reloads: Sequence[Reload] = (),
    driver: str = "550.54.15",
) -> str:
    """The script for FAKE_NVML: the order of `gpus` is the index order, `trouble` is for the whole library."""
    lines = [f"nvml {driver} 12.{driver}", *(one.text() for one in (*trouble, *reloads))]
    return "\n".join([*lines, *(one.after(reloads).text() for one in gpus)]) + "\n"
