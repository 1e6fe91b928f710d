"""All fault recordings."""

from __future__ import annotations

from tests.daemon.faults.counting import counters
from tests.daemon.faults.crowds import crowds
from tests.daemon.faults.lives import lives
from tests.daemon.faults.metering import meters
from tests.daemon.faults.shares import shares
from tests.daemon.faults.silences import silences
from tests.daemon.faults.story import Story

__all__ = ["stories"]


def stories() -> list[Story]:
    """All of them, as the table has them."""
    return [*counters(), *silences(), *meters(), *lives(), *shares(), *crowds()]
