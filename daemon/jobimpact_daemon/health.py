"""How each source does: how often it was read, how often it failed, how long it took. What measures is measured."""

from __future__ import annotations

import logging

from jobimpact.core.records import Absent, Failed, Reading, SourceHealth

__all__ = ["Health"]

log = logging.getLogger(__name__)


class Health:
    """One source's record since the daemon started.

    Args:
        source: its name.
    """

    def __init__(self, source: str) -> None:
        self._now = SourceHealth(source, 0, 0, 0, 0, None, None)

    @property
    def now(self) -> SourceHealth:
        """As it stands."""
        return self._now

    def add(self, readings: dict[str, Reading], took_ns: int, t_ns: int, problem: str | None) -> None:
        """Take in one reading of all its domains; an empty one says nothing new.

        Args:
            readings: by domain.
            took_ns: how long they took.
            t_ns: boot time.
            problem: the source's own word on what is wrong.
        """
        last = self._now
        failed = [one.error for one in readings.values() if isinstance(one, Failed)]
        good = any(not isinstance(one, (Absent, Failed)) for one in readings.values())
        said = failed[0] if failed else problem
        if failed and last.problem != said:
            log.warning("%s: %s", last.source, said)
        if good and not failed and last.failures and last.problem and last.problem != said:
            log.warning("%s: reads again", last.source)
        self._now = SourceHealth(
            last.source,
            last.reads + (1 if readings else 0),
            last.failures + (1 if failed else 0),
            took_ns,
            last.busy_ns + took_ns,
            t_ns if good else last.good_ns,
            said,
        )
