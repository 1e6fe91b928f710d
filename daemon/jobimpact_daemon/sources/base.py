"""What a source of power readings is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jobimpact.core.records import Domain, Reading, Slice

__all__ = ["UTILISATION_S", "GpuSource", "KnowsMinors", "Meter", "Source", "TellsUtilisation"]

UTILISATION_S = 2.0
"""How often GPUs are asked how busy they are: a driver tells the mean over up to a second, for which it may have to
ask the GPU itself, and of a job of minutes that is often enough."""


class Source(Protocol):
    """One way to read power on a node, as the clock loop sees it: it never raises and never blocks for long."""

    name: str

    @property
    def problem(self) -> str | None:
        """In plain words, why it finds nothing or not everything; None: all is well."""

    def discover(self) -> list[Domain]:
        """Look for domains; called again from time to time, so that hardware may come later."""

    def read(self) -> dict[str, Reading]:
        """Read what was discovered, now.

        Returns:
            Readings by domain; one that has nothing new to say is left out. A failure is a reading too.
        """

    def close(self) -> None:
        """Let go of files and libraries."""


@runtime_checkable
class KnowsMinors(Protocol):
    """A source that knows its GPUs by what a scheduler calls them."""

    @property
    def minors(self) -> dict[str, str]:
        """Device minor number → UUID."""


@runtime_checkable
class GpuSource(KnowsMinors, Protocol):
    """A source that knows how its GPUs are shared."""

    @property
    def slices(self) -> dict[str, Slice]:
        """MIG devices, by UUID."""

    def watch(self, gpus: set[str]) -> None:
        """From now on gather the use of these GPUs, by UUID: they are shared."""

    def use(self) -> dict[str, dict[int, int]]:
        """Busy time of each process since it was first seen, in ns: GPU or MIG device → process id → busy time."""


@runtime_checkable
class TellsUtilisation(Protocol):
    """A source that knows how busy its GPUs are."""

    def utilisation(self) -> dict[str, float]:
        """What the last reading brought of it, once: GPU's UUID → 0 to 1. A GPU that does not tell is not there."""


class Meter(Protocol):
    """One slow way to read power: a `Poller` asks it on a thread of its own, where it may block."""

    name: str

    @property
    def problem(self) -> str | None:
        """As a source's."""

    def discover(self) -> list[Domain]:
        """Look for domains. Called before each poll while there are none, and from time to time."""

    def poll(self) -> dict[str, Reading]:
        """Ask, and wait for the answer.

        Returns:
            Readings by domain. A gauge without a time is one of now.
        """

    def close(self) -> None:
        """Let go of what is held; called on the same thread."""
