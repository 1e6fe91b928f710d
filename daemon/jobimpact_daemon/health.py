"""How each source does: how often it was read, how often it failed, how long it took. What measures is measured."""

from __future__ import annotations

import logging
import re

from jobimpact.core.records import Absent, Failed, Reading, SourceHealth
from jobimpact.core.units import NS

__all__ = ["Health"]

log = logging.getLogger(__name__)

FLAPS_NS = 600 * NS
"""A source that fails again within this time has one line in it."""
_DIGITS = re.compile(r"\d+")


class Health:
    """One source's record since the daemon started.

    Args:
        source: its name.
    """

    def __init__(self, source: str) -> None:
        self._now = SourceHealth(source, 0, 0, 0, 0, None, None)
        self._trouble = _Trouble(source)

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
        absent = [one.reason for one in readings.values() if isinstance(one, Absent)]
        # A tick without news leaves what was said last.
        said = problem or (last.problem if not readings else absent[0] if absent and not good else None)
        said = failed[0] if failed else said
        if failed or good:
            self._trouble.take(failed[0] if failed else None, t_ns)
        self._now = SourceHealth(
            last.source,
            last.reads + (1 if readings else 0),
            last.failures + (1 if failed else 0),
            took_ns,
            last.busy_ns + took_ns,
            t_ns if good else last.good_ns,
            said,
        )


class _Trouble:
    """A source's failures in the log: where they begin and end, and of a source that comes and goes a line at times.

    A trouble is the same whatever its numbers are: some count the seconds.

    Args:
        source: its name.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._fails = False
        self._told: str | None = None
        """The trouble that the last line told, without its numbers; None: that it reads."""
        self._told_ns: int | None = None
        self._begun = 0
        """How often it has begun to fail since that line."""
        self._flaps = False

    def take(self, error: str | None, t_ns: int) -> None:
        """A reading came, with an error or without, at a boot time."""
        if error is not None and not self._fails:
            self._begun += 1
        self._fails = error is not None
        trouble = None if error is None else _DIGITS.sub("", error)
        if trouble == self._told and not self._begun:
            return
        ends = not self._fails and not self._begun and not self._flaps
        if ends or self._told_ns is None or t_ns - self._told_ns >= FLAPS_NS:
            self._tell(error, t_ns)
            self._told = trouble

    def _tell(self, error: str | None, t_ns: int) -> None:
        since_ns, self._told_ns = self._told_ns, t_ns
        begun, self._begun = self._begun, 0
        # One that fails now has begun to once; what is more came and went untold.
        self._flaps = since_ns is not None and begun > (error is not None)
        minutes = (t_ns - (since_ns or 0)) / NS / 60
        often = f" (failures in the last {minutes:.0f} min: {begun})" if self._flaps else ""
        log.warning("%s: %s%s", self._source, error or "reads again", often)
