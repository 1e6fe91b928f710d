"""NVML: NVIDIA GPUs' total-energy counters (Volta and newer), by the driver's library.

The library can hang with the driver, so it is only ever called from one thread of its own, and waited for until a
deadline. GPUs are known by UUID; Slurm's index is the device minor number, never NVML's index.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pynvml

from jobimpact.core.records import Absent, Counter, Domain, Failed, Reading

__all__ = ["Nvml"]

log = logging.getLogger(__name__)

HEADROOM = 1.5
RETRY_S = 5.0
"""How long a library that does not start is left alone."""
LOST_RETRY_S = 30.0
"""How often a GPU that is gone is looked for."""

_STALE = {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_UNKNOWN,
}
"""Errors after which handles are worth nothing: the library is closed and opened anew."""


class _Gpu(msgspec.Struct):
    domain: Domain
    handle: Any
    minor: int | None
    max_w: float | None


class Nvml:
    """All GPUs of the node.

    Args:
        deadline_s: how long a reading may take; longer, and it has failed.
    """

    name = "nvml"

    def __init__(self, deadline_s: float) -> None:
        self.problem: str | None = None
        self._deadline_s = deadline_s
        self._gpus: dict[str, _Gpu] = {}
        self._open = self._stale = False
        self._retry_at = self._lost_retry_at = 0.0
        self._asked: queue.SimpleQueue[Callable[[], dict[str, Reading]] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[dict[str, Reading]] = queue.SimpleQueue()
        self._waiting_since: float | None = None
        self._thread = threading.Thread(target=self._work, name="nvml", daemon=True)
        self._thread.start()

    @property
    def minors(self) -> dict[str, str]:
        """Device minor number → UUID."""
        return {str(gpu.minor): name.removeprefix("gpu:") for name, gpu in self._gpus.items() if gpu.minor is not None}

    def discover(self) -> list[Domain]:
        """Open the library if need be; GPUs once seen stay known, lost or not."""
        self.read()
        return [gpu.domain for gpu in self._gpus.values()]

    def read(self) -> dict[str, Reading]:
        """All counters, in microjoules; failed if the driver does not answer in time."""
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
            self._asked.put(self._read_all)
            wait_s = self._deadline_s
        else:
            wait_s = 0.0
        try:
            found = self._answers.get(timeout=wait_s) if wait_s else self._answers.get_nowait()
        except queue.Empty:
            late = time.monotonic() - self._waiting_since
            return {name: Failed(f"timeout: the driver has not answered for {late:.1f} s") for name in self._gpus}
        answered_late = time.monotonic() - self._waiting_since > self._deadline_s
        self._waiting_since = None
        # An answer to an earlier question is a reading of an earlier time.
        return self.read() if answered_late and not wait_s else found

    def close(self) -> None:
        """Ask the thread to end; a hung one ends with the process."""
        self._asked.put(None)

    # -- on the thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._asked.get()) is not None:
            try:
                answer = task()
            except Exception as error:  # noqa: BLE001 (the top of a thread: unanswered, it would look like a hang)
                answer = {name: Failed(f"NVML: {error!r}") for name in self._gpus}
            self._answers.put(answer)
        self._shut()

    def _read_all(self) -> dict[str, Reading]:
        if not self._is_open():
            return {name: Failed(self.problem or "NVML is not open") for name in self._gpus}
        readings = {name: self._read(gpu) for name, gpu in self._gpus.items()}
        if self._stale:
            self._shut()
        return readings

    def _is_open(self) -> bool:
        if (
            self._open
            and time.monotonic() >= self._lost_retry_at
            and any(one.handle is None for one in self._gpus.values())
        ):
            self._shut()
        if not self._open and time.monotonic() >= self._retry_at:
            self._start()
        return self._open

    def _read(self, gpu: _Gpu) -> Reading:
        if gpu.handle is None:
            return Absent("the driver does not list this GPU any more")
        try:
            millijoules = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED:
                return Absent("no total-energy counter (NVML has one from Volta on)")
            if error.value in _STALE:
                self._stale = True
            return Failed(f"NVML: {error}")
        return Counter(millijoules * 1000, None, None, gpu.max_w)

    def _start(self) -> None:
        self._retry_at = time.monotonic() + RETRY_S
        self._lost_retry_at = time.monotonic() + LOST_RETRY_S
        try:
            pynvml.nvmlInit()
            found = {name: msgspec.structs.replace(gpu, handle=None) for name, gpu in self._gpus.items()}
            for index in range(pynvml.nvmlDeviceGetCount()):
                found |= self._found(index)
            self._gpus = found
        except pynvml.NVMLError as error:
            self.problem = f"NVML: {error}"
            self._shut()
        else:
            self._open, self.problem = True, None if self._gpus else "NVML lists no GPU"

    def _found(self, index: int) -> dict[str, _Gpu]:
        """One GPU; none if it is lost, which must not cost the others."""
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name = f"gpu:{pynvml.nvmlDeviceGetUUID(handle)}"
        except pynvml.NVMLError as error:
            log.warning("GPU %d: %s", index, error)
            return {}
        limit_mw = _tried(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        minor = _tried(pynvml.nvmlDeviceGetMinorNumber, handle)
        max_w = limit_mw / 1000 * HEADROOM if limit_mw else None
        return {name: _Gpu(Domain(name, "gpu", "nvml"), handle, minor, max_w)}

    def _shut(self) -> None:
        self._open = self._stale = False
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return  # it was not open, or the driver is gone: either way there is nothing left to close


def _tried(call: Callable[[Any], int], handle: Any) -> int | None:
    try:
        return call(handle)
    except pynvml.NVMLError:
        return None
