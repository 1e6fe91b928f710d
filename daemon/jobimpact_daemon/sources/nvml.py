"""NVML: NVIDIA GPUs' total-energy counters (Volta and newer), else their power, by the driver's library.

The library can hang with the driver, so it is only ever called from a thread of its own, and waited for until a
deadline; a GPU whose call hangs is left alone until it comes back, and the others are read on. GPUs are known by
UUID; Slurm's index is the device minor number, never NVML's index.

A counter's epoch is the kernel's number of the loaded driver module, which is new after each load: a GPU that was lost
and found again in the same load still holds the energy of the gap.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import pynvml

from jobimpact.core.records import Absent, Counter, Domain, Failed, Gauge, Method, Reading, Slice
from jobimpact_daemon.sources.base import UTILISATION_S
from jobimpact_daemon.sources.driver import Driver
from jobimpact_daemon.sources.gpu_use import BusyTimes, Sample

__all__ = ["Nvml"]

log = logging.getLogger(__name__)

HEADROOM = 1.2
"""By how much a GPU may pass its power limit for a moment."""
RETRY_S = 5.0
"""How long a library that does not start is left alone."""
LOST_RETRY_S = 30.0
MAX_LOST_RETRY_S = 600.0
"""How often a GPU that is gone is looked for: ever less, as that costs all others a new session."""
AVERAGED_S = 1.0
"""What power is averaged over on Ampere and newer, but GA100 (NVIDIA's manual)."""
_GA100 = ("A100", "A800", "A30", "CMP 170HX")

_CLOSED = {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}
"""The session is worth nothing."""
_LOST = _CLOSED | {
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_UNKNOWN,
}
"""The GPU's handle may be worth nothing."""
_LACKING = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
}
"""It will not be told, however often it is asked."""
_WORDS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not installed",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the nvidia driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was changed under its library: restart jobimpactd, or boot",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU has fallen off its bus, or is not reachable",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU needs a reset (nvidia-smi --gpu-reset)",
    pynvml.NVML_ERROR_NO_PERMISSION: "the driver does not tell this user",
    pynvml.NVML_ERROR_UNINITIALIZED: "the session with the driver has ended",
}

_INSTANT, _AVERAGE = pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_FI_DEV_POWER_AVERAGE
_GPU, _MODULE = 0, 1
"""Scopes of power fields: nvmlPowerScopeType_t."""
_FIELDS = ((_INSTANT, None), (_AVERAGE, AVERAGED_S))
_HANGS = "timeout: a call to the driver for this GPU does not come back"
_NO_METER = "no total-energy counter (NVML has one from Volta on), and no power reading"

T = TypeVar("T")
How = Literal["counter", "field", "usage"]
Part = Literal["hung", "use_hung", "utilisation_hung"]
"""Which of a GPU's calls hangs."""


class _Meter(msgspec.Struct, frozen=True):
    """How a GPU's power is known: its counter, a power field, or nvmlDeviceGetPowerUsage."""

    how: How
    field: int = 0
    scope: int = _GPU
    averaged_s: float | None = None


_COUNTER = _Meter("counter")


class _Gpu(msgspec.Struct):
    uuid: str
    handle: Any
    domain: Domain
    minor: int | None = None
    meter: _Meter | None = None
    lacking: str | None = None
    """Why it has no meter."""
    limit_w: float | None = None
    max_w: float | None = None
    mig: bool = False
    slices: dict[str, Slice] = {}
    instances: dict[tuple[int, int], str] = {}
    """MIG devices by GPU instance and compute instance."""
    lost: bool = False
    hung: str | None = None
    """Why it is not asked: an earlier call has not come back. `use_hung`: nor who uses it; and so on."""
    use_hung: str | None = None
    utilisation_hung: str | None = None
    idle_unknown: bool = False
    """It does not tell how busy it is: in MIG mode, on Jetson."""
    use_problem: str | None = None


class _Round(msgspec.Struct):
    """What one question has brought so far, and what it is at: kept where only its own answer goes."""

    readings: dict[str, Reading] = {}
    use: dict[str, dict[int, int]] | None = None
    utilisation: dict[str, float] = {}
    at: _Gpu | None = None
    part: Part = "hung"
    left: bool = False
    """It hung, and its thread was left behind: it must touch nothing more."""


class _LeftError(Exception):
    """A call has come back to a thread that was left behind."""


class Nvml:
    """All GPUs of the node.

    Args:
        deadline_s: how long a reading may take; longer, and what is missing has failed.
        sys_root: where /sys is.
    """

    name = "nvml"

    def __init__(self, deadline_s: float, sys_root: Path = Path("/sys")) -> None:
        self._module = sys_root / "module" / "nvidia"
        self._driver = Driver("NVML", deadline_s)
        self._turn = threading.Lock()
        """Held by who decides whether a call has come back in time."""
        self._gpus: dict[str, _Gpu] = {}
        self._unlisted: dict[int, str] = {}
        self._open = False
        self._epoch: str | None = None
        self._retry_at = self._lost_retry_at = 0.0
        self._lost_retry_s = LOST_RETRY_S
        self._said: str | None = None
        self._late: str | None = None
        self._watched: frozenset[str] = frozenset()
        self._times = BusyTimes()
        self._use: dict[str, dict[int, int]] = {}
        self._utilisation: dict[str, float] = {}
        self._utilisation_at = 0.0

    @property
    def problem(self) -> str | None:
        """Why there are no GPUs, or what is the matter with some."""
        notes = [text for gpu in self._gpus.values() for text in _notes(gpu)]
        return self._late or self._said or "; ".join(notes) or None

    @property
    def minors(self) -> dict[str, str]:
        """Device minor number → UUID."""
        return {str(gpu.minor): gpu.uuid for gpu in self._gpus.values() if gpu.minor is not None}

    @property
    def slices(self) -> dict[str, Slice]:
        """MIG devices by UUID, as they were at the last discovery; their energy is only known of the whole GPU."""
        return {uuid: one for gpu in self._gpus.values() for uuid, one in gpu.slices.items()}

    def watch(self, uuids: set[str]) -> None:
        """Keep busy times of these GPUs (or of the GPUs of these MIG devices) from now on, and of no others."""
        self._watched = frozenset(uuids)

    def use(self) -> dict[str, dict[int, int]]:
        """Busy nanoseconds by device and process (its pid on the node), cumulative, as of the last reading.

        A device is a GPU, by its UUID, or a MIG device, on which a process is busy as long as it is there. Only of
        watched GPUs; a process that is not there for ten seconds is dropped, and begins anew.
        """
        return self._use

    def utilisation(self) -> dict[str, float]:
        """How busy each GPU is, from 0 to 1, where the last reading asked and it tells; taken once."""
        found, self._utilisation = self._utilisation, {}
        return found

    def discover(self) -> list[Domain]:
        """Open the library if need be, and look anew at limits and MIG devices; GPUs once seen stay known."""
        self._ask(self._look)
        return [gpu.domain for gpu in self._gpus.values()]

    def read(self) -> dict[str, Reading]:
        """All counters in microjoules, or power in watts; failed where the driver does not answer in time."""
        answer, why = self._ask(self._read_all)
        found = dict(answer.readings)
        self._utilisation = dict(answer.utilisation)
        if answer.left:
            # One hangs, the others need not wait for the next tick.
            answer, why = self._ask(self._read_all)
            found |= answer.readings
            self._utilisation |= answer.utilisation
        if answer.use is not None:
            self._use = answer.use
        missing = Failed(why or self._said or "NVML is not open")
        for gpu in self._gpus.values():
            name = gpu.domain.name
            if name not in found:
                found[name] = Failed(gpu.hung) if gpu.hung else missing
        return found

    def close(self) -> None:
        """Ask the thread to end; a hung one ends with the process."""
        self._driver.close(self._shut)

    def _ask(self, task: Callable[[_Round], None]) -> tuple[_Round, str | None]:
        answer = _Round()
        self._late = self._driver.ask(lambda: task(answer))
        with self._turn:
            if self._late is not None and answer.at is not None:
                answer.left = True
                setattr(answer.at, answer.part, _HANGS)
                self._driver.replace()
        return answer, self._late

    # -- on the thread: a session -----------------------------------------------------------------------------------

    def _is_open(self) -> bool:
        gpus = self._gpus.values()
        hung = any(gpu.hung or gpu.use_hung or gpu.utilisation_hung for gpu in gpus)
        if not any(gpu.lost for gpu in gpus):
            self._lost_retry_s = LOST_RETRY_S
        elif self._open and not hung and time.monotonic() >= self._lost_retry_at:
            self._lost_retry_s = min(2 * self._lost_retry_s, MAX_LOST_RETRY_S)
            self._shut()
        if not self._open and time.monotonic() >= self._retry_at:
            self._start()
        return self._open

    def _start(self) -> None:
        self._retry_at = time.monotonic() + RETRY_S
        self._lost_retry_at = time.monotonic() + self._lost_retry_s
        try:
            pynvml.nvmlInit()
            self._epoch = _loaded(self._module)
            for gpu in self._gpus.values():
                gpu.handle, gpu.lost = None, True
            for index in range(pynvml.nvmlDeviceGetCount()):
                self._find(index)
        except pynvml.NVMLError as error:
            self._said = _told(error)
            self._shut()
        else:
            lost = "; ".join(f"GPU {index}: {why}" for index, why in self._unlisted.items())
            self._open, self._said = True, None if self._gpus else lost or "NVML lists no GPU"

    def _find(self, index: int) -> None:
        """One GPU; none if it is lost, which must not cost the others."""
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
        except pynvml.NVMLError as error:
            why = _told(error)
            if self._unlisted.get(index) != why:
                log.warning("GPU %d: %s", index, why)
            self._unlisted[index] = why
            return
        self._unlisted.pop(index, None)
        gpu = self._gpus.get(uuid) or _Gpu(uuid, handle, Domain(f"gpu:{uuid}", "gpu", "nvml"))
        gpu.handle, gpu.lost = handle, False
        gpu.minor = _tried(pynvml.nvmlDeviceGetMinorNumber, handle)
        _inspect(gpu)
        self._gpus = {**self._gpus, uuid: gpu}

    def _shut(self) -> None:
        self._open = False
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return  # it was not open, or the driver is gone: either way there is nothing left to close

    def _look(self, answer: _Round) -> None:
        was_open = self._open
        if not self._is_open() or not was_open:
            return
        for gpu in self._gpus.values():
            if gpu.handle is not None and not gpu.hung:
                self._do(answer, gpu, partial(_inspect, gpu))

    # -- on the thread: a reading -----------------------------------------------------------------------------------

    def _do(self, answer: _Round, gpu: _Gpu, call: Callable[[], T], part: Part = "hung") -> T:
        """A call that may hang for this GPU's sake."""
        answer.at, answer.part = gpu, part
        try:
            return call()
        finally:
            with self._turn:
                answer.at = None
                if answer.left:
                    setattr(gpu, part, None)
                    raise _LeftError

    def _read_all(self, answer: _Round) -> None:
        if not self._is_open():
            return
        gpus = self._gpus.values()
        for gpu in gpus:
            if not gpu.hung:
                answer.readings[gpu.domain.name] = self._do(answer, gpu, partial(self._read, gpu))
        if gpus and all(gpu.lost and not gpu.hung for gpu in gpus):
            # As each of them said it: what is repeated until the next session is no news.
            self._said = next(one.error for one in answer.readings.values() if isinstance(one, Failed))
            self._shut()
            return
        if self._watched:
            self._read_use(answer)
        if time.monotonic() >= self._utilisation_at:
            self._utilisation_at = time.monotonic() + UTILISATION_S
            self._read_utilisation(answer)

    def _read(self, gpu: _Gpu) -> Reading:
        if gpu.handle is None:
            return Failed("the driver does not list this GPU any more: it is lost, or was taken out")
        if gpu.lacking:
            return Absent(gpu.lacking)
        try:
            reading = self._measure(gpu)
        except pynvml.NVMLError as error:
            gpu.lost = error.value in _LOST
            return Absent(_told(error)) if error.value in _LACKING else Failed(_told(error))
        gpu.lost = False
        return reading

    def _measure(self, gpu: _Gpu) -> Reading:
        meter = gpu.meter or _COUNTER
        if meter.how == "counter":
            millijoules = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)
            return Counter(millijoules * 1000, None, self._epoch, gpu.max_w)
        if meter.how == "field":
            return Gauge(_field(gpu.handle, meter.field, meter.scope) / 1000)
        return Gauge(pynvml.nvmlDeviceGetPowerUsage(gpu.handle) / 1000)

    def _read_utilisation(self, answer: _Round) -> None:
        """After all energies: what hangs here costs none of them."""
        for gpu in self._gpus.values():
            if gpu.lost or gpu.hung or gpu.utilisation_hung or gpu.idle_unknown:
                continue
            part = self._do(answer, gpu, partial(_utilisation, gpu), "utilisation_hung")
            if part is not None:
                answer.utilisation[gpu.uuid] = part

    # -- on the thread: who uses shared GPUs ------------------------------------------------------------------------

    def _read_use(self, answer: _Round) -> None:
        watched, seen = self._watched, set()
        for gpu in self._gpus.values():
            wanted = gpu.uuid in watched or not watched.isdisjoint(gpu.slices)
            if not wanted or gpu.lost or gpu.hung or gpu.use_hung:
                continue
            add = self._do(answer, gpu, partial(self._gather, gpu), "use_hung")
            if add is not None:
                seen |= {gpu.uuid, *gpu.slices}
                add()
        self._times.leave(seen)
        answer.use = self._times.told()

    def _gather(self, gpu: _Gpu) -> Callable[[], None] | None:
        """Ask who uses a GPU; adding it up is left for after the call, which may come back too late."""
        try:
            ask = self._present if gpu.mig else self._samples
            add = ask(gpu)
        except pynvml.NVMLError as error:
            gpu.use_problem = f"which process uses it is not known: {_told(error)}"
            return None
        gpu.use_problem = None
        return add

    def _samples(self, gpu: _Gpu) -> Callable[[], None]:
        try:
            since_us = self._times.since_us(gpu.uuid, time.time_ns() // 1000)
            found = pynvml.nvmlDeviceGetProcessUtilization(gpu.handle, since_us)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:
                raise
            found = []  # nothing new
        samples = [Sample(one.pid, one.timeStamp, one.smUtil) for one in found]
        now_ns, wall_us = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns() // 1000
        return partial(self._times.add_samples, gpu.uuid, samples, now_ns, wall_us)

    def _present(self, gpu: _Gpu) -> Callable[[], None]:
        found = list(pynvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle))
        found += _tried(pynvml.nvmlDeviceGetGraphicsRunningProcesses, gpu.handle) or []
        present: dict[str, set[int]] = {uuid: set() for uuid in gpu.instances.values()}
        for one in found:
            uuid = gpu.instances.get((one.gpuInstanceId, one.computeInstanceId))
            if uuid is not None:
                present[uuid].add(one.pid)
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return partial(self._add_present, present, now_ns)

    def _add_present(self, present: dict[str, set[int]], now_ns: int) -> None:
        for uuid, pids in present.items():
            self._times.add_present(uuid, pids, now_ns)


# -- what one GPU is; all on the thread -----------------------------------------------------------------------------


def _inspect(gpu: _Gpu) -> None:
    """Its meter, its limit, its MIG devices, as they are now."""
    if gpu.meter is None:
        _choose_meter(gpu)
    limit_w = _limit_w(gpu)
    # Readings to come may still cover a time under the former limit.
    gpu.max_w = HEADROOM * max(limit_w, gpu.limit_w or 0) if limit_w else None
    gpu.limit_w = limit_w
    gpu.idle_unknown = False
    mode = _tried(pynvml.nvmlDeviceGetMigMode, gpu.handle)
    gpu.mig = mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    found = _instances(gpu.handle) if gpu.mig else {}
    total = _slice_count(gpu.handle) if found else 0
    gpu.slices = {uuid: Slice(gpu.uuid, parts, total) for uuid, parts in found.values() if parts and total}
    gpu.instances = {place: uuid for place, (uuid, _) in found.items()}


def _utilisation(gpu: _Gpu) -> float | None:
    """How busy it is, 0 to 1: the part of the last moment in which a kernel ran; None: it does not tell."""
    try:
        percent = pynvml.nvmlDeviceGetUtilizationRates(gpu.handle).gpu
    except pynvml.NVMLError as error:
        gpu.idle_unknown = error.value in _LACKING
        return None
    return percent / 100 if 0 <= percent <= 100 else None


def _choose_meter(gpu: _Gpu) -> None:
    """The best that it has: counters before power, its own before its module's, instants before averages."""
    try:
        found = _meter(gpu.handle)
    except pynvml.NVMLError as error:
        log.warning("GPU %s: %s", gpu.uuid, _told(error))
        return  # it may be lost; the next discovery looks again
    gpu.lacking = found if isinstance(found, str) else None
    if isinstance(found, _Meter):
        gpu.meter = found
        name = f"{'module' if found.scope == _MODULE else 'gpu'}:{gpu.uuid}"
        how: Method = "counter" if found.how == "counter" else "gauge"
        gpu.domain = Domain(name, "gpu", "nvml", how, latency_s=found.averaged_s)


def _meter(handle: Any) -> _Meter | str:
    arch = _tried(pynvml.nvmlDeviceGetArchitecture, handle)
    module = [_Meter("field", field, _MODULE, averaged) for field, averaged in _FIELDS]
    module = [one for one in module if _answers(partial(_field, handle, one.field, one.scope))]
    if _answers(partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)):
        # On Grace-Hopper the counter is the module's too (measured by others: Zeus, pull request 172).
        return _Meter("counter", scope=_MODULE) if module and arch == pynvml.NVML_DEVICE_ARCH_HOPPER else _COUNTER
    for field, averaged in _FIELDS:
        if _answers(partial(_field, handle, field, _GPU)):
            return _Meter("field", field, _GPU, averaged)
    if module:
        return module[0]
    if _answers(partial(pynvml.nvmlDeviceGetPowerUsage, handle)):
        return _Meter("usage", averaged_s=_usage_averaged_s(handle, arch))
    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return _told(error) if error.value == pynvml.NVML_ERROR_NO_PERMISSION else f"{_NO_METER}: {_told(error)}"
    return _COUNTER  # it came in between


def _usage_averaged_s(handle: Any, arch: int | None) -> float | None:
    if arch is None or arch < pynvml.NVML_DEVICE_ARCH_AMPERE or arch == pynvml.NVML_DEVICE_ARCH_UNKNOWN:
        return None
    name = _tried(pynvml.nvmlDeviceGetName, handle) or ""
    return None if any(part in name for part in _GA100) else AVERAGED_S


def _limit_w(gpu: _Gpu) -> float | None:
    """The power limit that holds for what its meter meters, in watts."""
    if gpu.meter is not None and gpu.meter.scope == _MODULE:
        limit_mw = _tried(lambda handle: _field(handle, pynvml.NVML_FI_DEV_POWER_CURRENT_LIMIT, _MODULE), gpu.handle)
    else:
        limit_mw = _tried(pynvml.nvmlDeviceGetEnforcedPowerLimit, gpu.handle)
    return limit_mw / 1000 if limit_mw else None


def _instances(handle: Any) -> dict[tuple[int, int], tuple[str, int]]:
    """MIG devices by GPU instance and compute instance: their UUIDs and numbers of compute slices."""
    found = {}
    for index in range(_tried(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        try:
            mig = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            place = pynvml.nvmlDeviceGetGpuInstanceId(mig), pynvml.nvmlDeviceGetComputeInstanceId(mig)
            parts = pynvml.nvmlDeviceGetAttributes_v2(mig).computeInstanceSliceCount
            found[place] = (pynvml.nvmlDeviceGetUUID(mig), parts)
        except pynvml.NVMLError:
            continue  # no MIG device has this index
    return found


def _slice_count(handle: Any) -> int:
    """All compute slices of a GPU: those of the largest instance that it can have."""
    sizes = []
    for number in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        try:
            sizes.append(pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number, version=1).sliceCount)
        except pynvml.NVMLError:
            continue  # this GPU has no instances of that kind
    return max(sizes, default=0) or _tried(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0


def _field(handle: Any, field: int, scope: int) -> int:
    """A power field in milliwatts.

    Raises:
        pynvml.NVMLError: the call failed, or this field did.
    """
    value = pynvml.nvmlDeviceGetFieldValues(handle, [(field, scope)])[0]
    if value.nvmlReturn != pynvml.NVML_SUCCESS:
        code = value.nvmlReturn
        # Drivers that do not know a field or a scope yet call it an invalid argument.
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED if code == pynvml.NVML_ERROR_INVALID_ARGUMENT else code)
    return int(value.value.uiVal)


def _answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except pynvml.NVMLError as error:
        if error.value in _LACKING:
            return False
        raise
    return True


def _tried(call: Callable[[Any], T], handle: Any) -> T | None:
    try:
        return call(handle)
    except pynvml.NVMLError:
        return None


def _told(error: Any) -> str:
    words = _WORDS.get(error.value)
    return f"{words} (NVML: {error})" if words else f"NVML: {error}"


def _notes(gpu: _Gpu) -> Iterator[str]:
    """What an admin should know of a GPU."""
    name = gpu.domain.name
    if gpu.meter is not None and gpu.meter.scope == _MODULE:
        yield f"{name}: the driver only tells the whole module's power: the CPU's is inside it"
    if gpu.meter is not None and gpu.meter.averaged_s:
        yield f"{name}: power is an average over {gpu.meter.averaged_s:g} s"
    if gpu.lost:
        yield f"{name}: lost"
    yield from (f"{name}: {text}" for text in (gpu.hung, gpu.use_hung, gpu.utilisation_hung, gpu.use_problem) if text)


def _loaded(module: Path) -> str | None:
    """Which load of the driver this is: the kernel numbers each folder that it makes anew; None: not told."""
    try:
        return f"nvidia.{module.stat().st_ino}"
    except OSError:
        return None
