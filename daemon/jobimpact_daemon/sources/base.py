"""What a source of power readings is."""

from __future__ import annotations

from typing import Protocol

from jobimpact.core.records import Domain, Reading

__all__ = ["Source"]


class Source(Protocol):
    """One way to read power on a node."""

    name: str
    problem: str | None
    """In plain words, why it finds nothing or not everything; None: all is well."""

    def discover(self) -> list[Domain]:
        """Look for domains; called again from time to time, so that hardware may come later."""

    def read(self) -> dict[str, Reading]:
        """Read all that was discovered, now. Never raises: a failure is a reading too."""

    def close(self) -> None:
        """Let go of files and libraries."""
