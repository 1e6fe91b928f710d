"""The whole node's power at its plug: a wattmeter that others read, by Kwollect's API or a CSV file.

A poll brings every sample since the last one, each with its own time, so the energy is integrated here. Samples are
ordered and paced by the times that came with them, which are the meter's clock: the node's may step, and a step must
not make energy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from jobimpact.core import config
from jobimpact.core.clock import Clock
from jobimpact.core.records import Absent, Counter, Domain, Failed, Reading
from jobimpact.core.units import NS
from jobimpact_daemon.gauges import Integral, Sample
from jobimpact_daemon.sources.kwollect import Kwollect
from jobimpact_daemon.sources.wattcsv import Named, WattCsv

__all__ = ["Outlets", "Wattmeter"]


class Feed(Protocol):
    """Where samples come from."""

    problem: str | None

    def fetch(self, since_ns: int | None) -> list[Named] | Absent | Failed:
        """Samples since a time of the meter's clock, or why there are none."""

    def close(self) -> None:
        """Let go of what is held."""


class Outlets:
    """The energy of all power supplies of one node: their sum, up to where all of them are known.

    Each outlet is integrated by itself, so that samples of two at the same second are added and never taken for
    one another. A sample later than another outlet's last one waits. One that comes after its successors were counted
    is left out: the trapezoid over it stays.

    Args:
        max_gap_ns: samples of one outlet further apart than this say nothing of the time between them.
        name: of this daemon's integral, told in the epoch.
    """

    def __init__(self, max_gap_ns: int, name: str) -> None:
        self._max_gap_ns = max_gap_ns
        self._name = name
        self._integrals: dict[str, Integral] = {}
        self._waiting: dict[str, dict[int, float]] = {}
        self._last_ns: dict[str, int] = {}
        self._newest_ns: dict[str, int] = {}
        self._epochs: list[tuple[str, str]] = []
        self._starts = 0

    @property
    def uj(self) -> int:
        """Since the epoch began, in microjoules."""
        return sum(integral.uj for integral in self._integrals.values())

    @property
    def epoch(self) -> str:
        """Changes when an outlet comes, or comes back after too long a gap."""
        return f"{self._name}.{self._starts}"

    @property
    def since_ns(self) -> int | None:
        """From when on samples may still be missing, by the meter's clock; None: there were none yet."""
        heard = [t_ns for outlet, t_ns in self._newest_ns.items() if outlet not in self.silent]
        return min(heard, default=None)

    @property
    def silent(self) -> list[str]:
        """Outlets that say nothing while others do: the sum would be less than the node's power."""
        newest_ns = max(self._newest_ns.values(), default=0)
        return sorted(outlet for outlet, t_ns in self._newest_ns.items() if newest_ns - t_ns > self._max_gap_ns)

    def add(self, samples: Iterable[Named]) -> bool:
        """Take in samples, in any order, known ones among them.

        Returns:
            Whether there was anything new.
        """
        new = self._keep(samples)
        if not new:
            return False
        silent = self.silent
        until_ns = min(t_ns for outlet, t_ns in self._newest_ns.items() if outlet not in silent)
        for outlet, waiting in self._waiting.items():
            integral = self._integrals[outlet]
            for t_ns in sorted(t_ns for t_ns in waiting if t_ns <= until_ns):
                integral.add(Sample(waiting.pop(t_ns), t_ns))
                self._last_ns[outlet] = t_ns
        epochs = [(outlet, integral.epoch) for outlet, integral in sorted(self._integrals.items())]
        if epochs != self._epochs:
            self._epochs = epochs
            self._starts += 1
        return True

    def _keep(self, samples: Iterable[Named]) -> bool:
        new = False
        for outlet, sample in samples:
            last_ns = self._last_ns.get(outlet)
            # Nothing is sent so late: the meter's clock was set back, or its last time was absurd.
            set_back = last_ns is not None and sample.t_ns < last_ns - self._max_gap_ns
            if set_back or outlet not in self._integrals:
                self._restart(outlet)
            elif last_ns is not None and sample.t_ns <= last_ns:
                continue
            waiting = self._waiting[outlet]
            new |= sample.t_ns not in waiting
            waiting[sample.t_ns] = sample.w
            self._newest_ns[outlet] = max(sample.t_ns, self._newest_ns.get(outlet, 0))
        return new

    def _restart(self, outlet: str) -> None:
        self._starts += 1
        self._integrals[outlet] = Integral(self._max_gap_ns, f"{self._name}.{self._starts}")
        self._waiting[outlet] = {}
        self._last_ns.pop(outlet, None)
        self._newest_ns.pop(outlet, None)


class Wattmeter:
    """A node's wattmeter.

    Args:
        settings: where its samples come from.
        node: the node's name, as it is known there.
        clock: boot time, for how long the meter has been silent; wall clock, for what to ask.
        max_gap_s: the longest time between two samples over which power is integrated.
    """

    name = "wattmeter"

    def __init__(self, settings: config.Wattmeter, node: str, clock: Clock, max_gap_s: float = 30.0) -> None:
        self.problem: str | None = None
        self._settings = settings
        self._clock = clock
        self._max_gap_s = max_gap_s
        self._feed = _feed(settings, node, clock)
        self._outlets = Outlets(round(max_gap_s * NS), f"{os.getpid()}.{clock.boot_ns()}")
        self._new_ns: int = clock.boot_ns()

    def discover(self) -> list[Domain]:
        """The node: whether the meter answers is for the readings to tell."""
        return [
            Domain(
                "node",
                "node",
                self.name,
                "gauge",
                latency_s=self._settings.latency_s,
                excludes=self._settings.excludes,
            )
        ]

    def poll(self) -> dict[str, Reading]:
        """Ask for what is new.

        Returns:
            The node's energy up to the last sample; nothing where there is nothing new.
        """
        found = self._feed.fetch(self._outlets.since_ns)
        reading = found if isinstance(found, Absent | Failed) else self._reading(found)
        self.problem = _why(reading) or self._feed.problem
        return {} if reading is None else {"node": reading}

    def _reading(self, found: list[Named]) -> Reading | None:
        now_ns = self._clock.boot_ns()
        if self._outlets.add(found):
            self._new_ns = now_ns
        elif now_ns - self._new_ns > self._patience_ns:
            return Failed(f"no new sample for {(now_ns - self._new_ns) / NS:.0f} s")
        else:
            return None
        if silent := self._outlets.silent:
            return Failed(f"no sample of outlet {', '.join(silent)}: the others are not the whole node")
        return Counter(self._outlets.uj, None, self._outlets.epoch)

    @property
    def _patience_ns(self) -> int:
        return round(max(self._max_gap_s, 2 * self._settings.period_s) * NS)

    def close(self) -> None:
        """Close the connection or the file."""
        self._feed.close()


def _why(reading: Reading | None) -> str | None:
    if isinstance(reading, Absent):
        return reading.reason
    return reading.error if isinstance(reading, Failed) else None


def _feed(settings: config.Wattmeter, node: str, clock: Clock) -> Feed:
    if settings.csv is not None:
        return WattCsv(settings.csv)
    if settings.kwollect is not None:
        return Kwollect(settings.kwollect, node, clock, settings.deadline_s)
    raise ValueError("a wattmeter is either by kwollect or by csv")
