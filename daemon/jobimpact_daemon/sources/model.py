"""A model in place of a meter: idle power plus the rest of the TDP times CPU utilisation.

For machines with no meter at all. Every energy that comes from here is flagged `modelled`, up to the report.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from jobimpact.core.clock import Clock
from jobimpact.core.records import Counter, Domain, Failed, Reading

__all__ = ["Model"]

W_PER_CPU = 4.0
"""TDP per logical CPU of common parts: Xeon Gold 6148 3.75, EPYC 7763 2.2, desktop parts 4 to 5 (vendors' sheets)."""
IDLE_SHARE = 0.25


class Model:
    """The node's CPUs by psutil.

    Args:
        clock: the boot-time clock.
        proc_root: where /proc is.
        cpus: how many logical CPUs the node has.
        tdp_w: of all packages together; an archetype if not given.
        idle_w: with nothing running; a quarter of the TDP if not given.
    """

    name = "model"

    def __init__(
        self, clock: Clock, proc_root: Path, cpus: int, tdp_w: float | None = None, idle_w: float | None = None
    ) -> None:
        psutil.PROCFS_PATH = str(proc_root)
        self._stat = proc_root / "stat"
        self._clock = clock
        self._cpus = cpus
        guessed = tdp_w is None
        self._tdp_w = tdp_w if tdp_w is not None else W_PER_CPU * self._cpus
        self._idle_w = idle_w if idle_w is not None else IDLE_SHARE * self._tdp_w
        self._epoch = f"{os.getpid()}.{clock.boot_ns()}"
        self._uj = 0.0
        self._last: tuple[int, float] | None = None
        how = "an archetype: set node.sources.model.tdp_w" if guessed else "configured"
        self.problem: str | None = f"modelled, not measured: TDP {self._tdp_w:g} W ({how}) times CPU utilisation"

    def discover(self) -> list[Domain]:
        """One domain, `cpu`, for all packages together."""
        return [Domain("cpu", "cpu", "model", "modelled", self._idle_w)]

    def read(self) -> dict[str, Reading]:
        """The model's energy since the daemon started, in microjoules."""
        now_ns = self._clock.boot_ns()
        try:
            busy_s = _busy_s()
        except OSError as error:
            return {"cpu": Failed(f"{self._stat}: {error.strerror}")}
        except (TypeError, ValueError):  # psutil's, of too few words, or none
            return {"cpu": Failed(f"{self._stat}: no CPU times")}
        if self._last is not None:
            dt_ns, busy = now_ns - self._last[0], max(0.0, busy_s - self._last[1])
            self._uj += (self._idle_w * dt_ns / 1e9 + (self._tdp_w - self._idle_w) * busy / self._cpus) * 1e6
        self._last = now_ns, busy_s
        return {"cpu": Counter(round(self._uj), None, self._epoch)}

    def close(self) -> None:
        """Nothing is held."""


def _busy_s() -> float:
    """CPU seconds in use since boot, over all CPUs."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq
