"""What a source of power readings is."""

from __future__ import annotations

from typing import Protocol

from jobimpact.core.records import Domain, Reading

__all__ = ["Meter", "Source"]


class Source(Protocol):
    """One way to read power on a node, as the clock loop sees it: it never raises and never blocks for long."""

    name: str
    problem: str | None
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


class Meter(Protocol):
    """One slow way to read power: a `Poller` asks it on a thread of its own, where it may block."""

    name: str
    problem: str | None
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
