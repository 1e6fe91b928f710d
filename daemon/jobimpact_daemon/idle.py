"""What a domain draws with nothing running, learned while nothing runs. Pure.

It is kept with the books, so that a daemon that starts under load still knows it.
"""

from __future__ import annotations

import msgspec

from jobimpact.core.records import IDLE, SYSTEM
from jobimpact_daemon.holdings import Growth

__all__ = ["LearnedIdle", "is_quiet"]

ENOUGH_NS = 60 * 10**9
"""Less quiet time than this says nothing."""
MEMORY_NS = 3600 * 10**9
"""About the last hour of quiet counts: a node's idle power changes with its fans and its BIOS."""
QUIET_PER_MILLE = 50
"""A node whose CPUs are busier than this is not idle, whoever uses them."""


class LearnedIdle(msgspec.Struct):
    """One domain's mean power over its quiet time."""

    uj: int = 0
    ns: int = 0

    def add(self, uj: int, ns: int) -> None:
        """The domain was quiet, and used this."""
        self.uj += uj
        self.ns += ns
        if self.ns > 2 * MEMORY_NS:
            self.uj, self.ns = self.uj * MEMORY_NS // self.ns, MEMORY_NS

    @property
    def w(self) -> float | None:
        """In watts; None: not known yet."""
        return self.uj * 1000 / self.ns if self.ns >= ENOUGH_NS else None


def is_quiet(grown: Growth, resource: str, cpus: int) -> bool:
    """Whether nothing ran between two snapshots: nobody held the GPU, or no job was there and no CPU was busy."""
    if resource.startswith("gpu:"):
        return grown.held.get(resource, {}).keys() <= {IDLE}
    if grown.times:
        return False
    busy_ns = grown.used.get("cpu", {}).get(SYSTEM, 0)
    # Some use must have been read: without it nobody knows that the CPUs were quiet.
    return 0 < busy_ns * 1000 <= QUIET_PER_MILLE * cpus * grown.dt_ns
