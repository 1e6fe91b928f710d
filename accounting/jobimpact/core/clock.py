"""The machine's clocks, as an argument that a test can replace."""

from __future__ import annotations

import time
from typing import Protocol

from jobimpact.core.units import Nanoseconds

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Two clocks: one for order and durations, one for labels."""

    def boot_ns(self) -> Nanoseconds:
        """Nanoseconds since boot, suspends included (CLOCK_BOOTTIME): never steps."""

    def wall_s(self) -> float:
        """Seconds since the epoch, UTC: may step, so never subtracted."""


class SystemClock:
    """The kernel's clocks."""

    def boot_ns(self) -> Nanoseconds:
        """CLOCK_BOOTTIME."""
        return Nanoseconds(time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def wall_s(self) -> float:
        """CLOCK_REALTIME."""
        return time.time()
