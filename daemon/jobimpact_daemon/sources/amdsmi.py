"""AMD SMI: AMD GPUs' energy accumulators, else their power, by AMD's library; needs the extra `amd`.

The library is not thread-safe, so that all GPUs are asked on one thread: a call that hangs costs those that come after
it. The package is only imported where the kernel has the amdgpu driver: other nodes pay a look at /sys.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from jobimpact.core.records import Absent, Counter, Domain, Failed, Gauge, Reading
from jobimpact_daemon.sources.base import UTILISATION_S
from jobimpact_daemon.sources.driver import Driver

__all__ = ["Amdsmi"]

log = logging.getLogger(__name__)

HEADROOM = 1.2
"""By how much a GPU may pass its power cap for a moment."""
RETRY_S = 5.0
"""How long a library that does not start is left alone."""
MISSING_RETRY_S = 300.0
"""How long a package or library that is not installed is left alone."""
LOST_RETRY_S = 30.0
"""How often a GPU that cannot be read is looked for in a new session, which costs all others a moment."""
NOT_TOLD = 0xFFFF
"""Powers from here on are the library's word for "not available", in 16 or 32 bits."""
_LACKING = ("NOT_SUPPORTED", "NOT_YET_IMPLEMENTED", "NO_PERM")
"""It will not be told, however often it is asked."""
_WORDS = {
    "NO_PERM": "this user may not ask the driver",
    "DRIVER_NOT_LOADED": "the amdgpu driver is not loaded",
    "NOT_SUPPORTED": "this GPU does not tell it",
    "IO": "the driver cannot reach the GPU",
    "DRM_ERROR": "the driver cannot reach the GPU",
    "NOT_FOUND": "the driver does not know the GPU any more",
}
_SECOND_DIE = (
    "it tells no energy and no power, or 0: of a GPU with two dies (MI250, MI250X) the driver tells all at the first"
)


class _NotThereError(Exception):
    """No package, no library or no driver; the message says which."""


class _Gpu(msgspec.Struct):
    uuid: str
    handle: Any
    domain: Domain
    render: int | None = None
    absent: str | None = None
    max_w: float | None = None
    cap_w: float | None = None
    lost: bool = False


class Amdsmi:
    """All AMD GPUs of the node.

    Args:
        deadline_s: how long a reading may take; longer, and what is missing has failed.
        sys_root: where /sys is.
    """

    name = "amdsmi"

    def __init__(self, deadline_s: float, sys_root: Path = Path("/sys")) -> None:
        self._module = sys_root / "module" / "amdgpu"
        self._driver = Driver("AMD SMI", deadline_s)
        self._gpus: dict[str, _Gpu] = {}
        self._smi: Any = None
        self._open = False
        self._retry_at = self._lost_retry_at = 0.0
        self._said: str | None = None
        self._late: str | None = None
        self._utilisation: dict[str, float] = {}
        self._utilisation_at = 0.0

    @property
    def problem(self) -> str | None:
        """Why there are no GPUs, or which are lost."""
        lost = [f"{gpu.domain.name}: lost" for gpu in self._gpus.values() if gpu.lost]
        return self._late or self._said or "; ".join(lost) or None

    @property
    def minors(self) -> dict[str, str]:
        """Minor number of the render device (/dev/dri/renderD128: 128) → UUID."""
        return {str(gpu.render): gpu.uuid for gpu in self._gpus.values() if gpu.render is not None}

    def utilisation(self) -> dict[str, float]:
        """How busy each GPU is, from 0 to 1, where the last reading asked and it tells; taken once."""
        found, self._utilisation = self._utilisation, {}
        return found

    def discover(self) -> list[Domain]:
        """Open the library if need be, and look anew at the caps; GPUs once seen stay known, lost or not."""
        self._late = self._driver.ask(self._look)
        return [gpu.domain for gpu in self._gpus.values()]

    def read(self) -> dict[str, Reading]:
        """All counters in microjoules, or power in watts; failed where the driver does not answer in time."""
        found: dict[str, Reading] = {}
        busy: dict[str, float] = {}
        self._late = self._driver.ask(lambda: self._read_all(found, busy))
        self._utilisation = dict(busy)
        missing = Failed(self._late or self._said or "AMD SMI is not open")
        told = dict(found)  # a late answer goes on filling the other
        return {name: told.get(name, missing) for name in [gpu.domain.name for gpu in self._gpus.values()]}

    def close(self) -> None:
        """Ask the thread to end; a hung one ends with the process."""
        self._driver.close(self._shut)

    # -- on the thread ---------------------------------------------------------------------------------------------

    def _is_open(self) -> bool:
        gpus = self._gpus.values()
        if self._open and time.monotonic() >= self._lost_retry_at and any(gpu.lost for gpu in gpus):
            self._shut()
        if not self._open and time.monotonic() >= self._retry_at:
            self._start()
        return self._open

    def _start(self) -> None:
        self._retry_at = time.monotonic() + RETRY_S
        self._lost_retry_at = time.monotonic() + LOST_RETRY_S
        if not self._module.exists():
            self._said = f"{self._module}: the amdgpu driver is not loaded"
            return
        try:
            self._smi = self._smi or _package()
            self._smi.amdsmi_init()
        except _NotThereError as error:
            self._said = str(error)
            self._retry_at = time.monotonic() + MISSING_RETRY_S
        except self._errors as error:
            self._said = _told(error)
        else:
            self._find_all()

    @property
    def _errors(self) -> type[Exception]:
        """What the package raises; nothing, before it is there."""
        found: type[Exception] = self._smi.AmdSmiException if self._smi else _NotThereError
        return found

    def _find_all(self) -> None:
        for gpu in self._gpus.values():
            gpu.handle, gpu.lost = None, True
        try:
            handles = self._smi.amdsmi_get_processor_handles()
        except self._errors as error:
            self._said = _told(error)
            self._shut()
            return
        for place, handle in enumerate(handles):
            try:
                self._find(handle)
            except self._errors as error:
                log.warning("AMD GPU %d: %s", place, _told(error))
        self._open, self._said = True, None if self._gpus else "AMD SMI lists no GPU"

    def _find(self, handle: Any) -> None:
        uuid = self._tried(self._smi.amdsmi_get_gpu_device_uuid, handle) or self._smi.amdsmi_get_gpu_device_bdf(handle)
        gpu = self._gpus.get(uuid) or _Gpu(uuid, handle, Domain(f"gpu:{uuid}", "gpu", "amdsmi"))
        gpu.handle, gpu.lost = handle, False
        told = self._tried(self._smi.amdsmi_get_gpu_enumeration_info, handle) or {}
        gpu.render = told.get("drm_render") if isinstance(told.get("drm_render"), int) else None
        self._choose_meter(gpu)
        self._inspect(gpu)
        self._gpus = {**self._gpus, uuid: gpu}

    def _choose_meter(self, gpu: _Gpu) -> None:
        """The accumulator where it counts; else power. Both tell 0 on the second die of two."""
        gpu.absent = None
        try:
            if self._energy_uj(gpu):
                gpu.domain = Domain(gpu.domain.name, "gpu", "amdsmi")
                return
            lacking = _SECOND_DIE
        except self._errors as error:
            if not _lacks(error):
                return  # it may be lost: what it is, is seen when it comes back
            lacking = f"no energy counter and no power reading: {_told(error)}"
        if self._tried(self._watts, gpu):
            gpu.domain = Domain(gpu.domain.name, "gpu", "amdsmi", "gauge")
        else:
            gpu.absent = lacking

    def _inspect(self, gpu: _Gpu) -> None:
        """Its power cap now; readings to come may still cover a time under the former one."""
        told = self._tried(self._smi.amdsmi_get_power_cap_info, gpu.handle) or {}
        cap = told.get("power_cap")
        # Microwatts on a bare machine, watts on the host of virtual ones.
        cap_w = (cap / 1e6 if cap >= 100_000 else cap) if isinstance(cap, int) and cap > 0 else None
        gpu.max_w = HEADROOM * max(cap_w, gpu.cap_w or 0) if cap_w else None
        gpu.cap_w = cap_w

    def _look(self) -> None:
        if self._is_open():
            for gpu in self._gpus.values():
                if gpu.handle is not None:
                    self._inspect(gpu)

    def _read_all(self, found: dict[str, Reading], busy: dict[str, float]) -> None:
        if not self._is_open():
            return
        gpus = self._gpus.values()
        for gpu in gpus:
            found[gpu.domain.name] = self._read(gpu)
        if gpus and all(gpu.lost for gpu in gpus):
            self._said = "the driver has lost all GPUs"
            self._shut()
        elif time.monotonic() >= self._utilisation_at:
            self._utilisation_at = time.monotonic() + UTILISATION_S
            for gpu in gpus:
                part = None if gpu.lost or gpu.absent else self._tried(self._activity, gpu)
                if part is not None:
                    busy[gpu.uuid] = part

    def _read(self, gpu: _Gpu) -> Reading:
        if gpu.handle is None:
            return Failed("the driver does not list this GPU any more: it is lost, or was taken out")
        if gpu.absent:
            return Absent(gpu.absent)
        try:
            reading = self._measure(gpu)
        except self._errors as error:
            gpu.lost = not _lacks(error)
            return Failed(_told(error)) if gpu.lost else Absent(_told(error))
        gpu.lost = False
        return reading

    def _measure(self, gpu: _Gpu) -> Reading:
        if gpu.domain.method == "counter":
            uj = self._energy_uj(gpu)
            return Failed("the energy accumulator is not available") if uj is None else Counter(uj, max_w=gpu.max_w)
        watts = self._watts(gpu)
        return Failed("neither the current nor the average power is available") if watts is None else Gauge(watts)

    def _energy_uj(self, gpu: _Gpu) -> int | None:
        told = self._smi.amdsmi_get_energy_count(gpu.handle)
        # Before 6.2 the accumulator was called power.
        counts = told.get("energy_accumulator", told.get("power"))
        if not isinstance(counts, int) or counts == 0xFFFFFFFFFFFFFFFF:
            return None
        return round(counts * float(told["counter_resolution"]))

    def _watts(self, gpu: _Gpu) -> float | None:
        """Some GPUs tell the current power (MI300X), some the average (MI210)."""
        told = self._smi.amdsmi_get_power_info(gpu.handle)
        for key in ("current_socket_power", "average_socket_power"):
            watts = told.get(key)
            if isinstance(watts, int) and watts < NOT_TOLD:
                return float(watts)
        return None

    def _activity(self, gpu: _Gpu) -> float | None:
        """What its graphics engine did lately, 0 to 1; None: it does not tell."""
        percent = self._smi.amdsmi_get_gpu_activity(gpu.handle).get("gfx_activity")
        return percent / 100 if isinstance(percent, int) and 0 <= percent <= 100 else None

    def _tried(self, call: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return call(argument)
        except self._errors:
            return None

    def _shut(self) -> None:
        self._open = False
        if self._smi is not None:
            with contextlib.suppress(self._errors):  # not open, or the driver is gone: nothing is left to close
                self._smi.amdsmi_shut_down()


def _package() -> Any:
    """AMD's Python package, which loads the library as it is imported, and prints where it does not find it.

    Raises:
        _NotThereError: one of the two is not installed, or they do not fit.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module("amdsmi")
    except ModuleNotFoundError:
        raise _NotThereError("the Python package amdsmi is not installed (extra: jobimpact[amd])") from None
    except (KeyError, OSError):
        raise _NotThereError("libamd_smi.so is not installed (ROCm has it; ROCM_PATH says where)") from None
    except (ImportError, AttributeError) as error:
        raise _NotThereError(f"the Python package amdsmi and libamd_smi.so do not fit: {error}") from None


def _name(error: Any) -> str:
    """NO_PERM, of "AMDSMI_STATUS_NO_PERM - Permission Denied"."""
    told = getattr(error, "err_info", None) or str(error)
    return str(told).partition(" ")[0].removeprefix("AMDSMI_STATUS_")


def _lacks(error: Any) -> bool:
    return _name(error) in _LACKING


def _told(error: Any) -> str:
    name = _name(error)
    return f"{_WORDS[name]} (AMD SMI: {name})" if name in _WORDS else f"AMD SMI: {name}"
