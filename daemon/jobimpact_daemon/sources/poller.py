"""A slow meter on a thread of its own: the clock loop takes what is new, and never waits for a BMC.

A meter that hangs makes its own domains *failed*, and no other source is late. A daemon thread may hang for ever: it
ends with the process.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping

import msgspec

from jobimpact.core.clock import Clock
from jobimpact.core.records import Counter, Domain, Failed, Gauge, Reading
from jobimpact.core.units import NS
from jobimpact_daemon.gauges import Integral, Sample
from jobimpact_daemon.sources.base import Meter

__all__ = ["Poller"]

log = logging.getLogger(__name__)

REDISCOVER_NS = 60 * NS
NOTHING_NS = 5 * NS
FIRST_WAIT_S = 2.0
"""How long after its start a meter is waited for, so that a quick one is there from the first reading on."""
LAST_WAIT_S = 2.0
"""How long a meter may take to end what it is at: a BMC's session that is left open is one less for others."""
MARGIN_S = 0.1
"""After a deadline, so that a silent meter is late by then."""
REST = 0.1
"""The part of a period for which a meter is left alone, however long its answer took."""


class Poller:
    """A meter as a source. It is asked from the start, so that several which hang are waited for all at once.

    Args:
        meter: what is asked; only ever on the poller's thread.
        clock: boot time of the readings.
        period_s: from the start of one poll to the start of the next.
        deadline_s: a poll that takes longer has failed until it answers.
        integrate: make counters of gauges that are polled more often than they are read.
        max_gap_s: the longest time between two samples over which a gauge is integrated.
    """

    def __init__(
        self,
        meter: Meter,
        clock: Clock,
        *,
        period_s: float,
        deadline_s: float,
        integrate: bool = False,
        max_gap_s: float = 30.0,
    ) -> None:
        self.name = meter.name
        self._meter = meter
        self._clock = clock
        self._period_ns = round(period_s * NS)
        self._deadline_ns = round(deadline_s * NS)
        self._integrate = integrate
        self._max_gap_ns = round(max_gap_s * NS)
        self._integrals: dict[str, Integral] = {}
        self._lock = threading.Lock()
        self._domains: list[Domain] = []
        self._news: dict[str, Reading] = {}
        self._since_ns: int | None = None
        self.took_ns = 0
        """How long the polls took that ended between the last two readings."""
        self.last_w: dict[str, float] = {}
        """Power at the last sample, of what is integrated here."""
        self._took_ns = 0
        self._problem: str | None = "not asked yet"
        self._discovered_ns: int | None = None
        self._first = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
        self._thread.start()
        self._started_s = time.monotonic()

    @property
    def problem(self) -> str | None:
        """The meter's own word, or for how long it has not answered."""
        late_s = self._late_s()
        return self._problem if late_s is None else _silent(late_s)

    def discover(self) -> list[Domain]:
        """What the meter has found so far; a quick meter's first answer is waited for."""
        self._wait_until(min(FIRST_WAIT_S, self._deadline_ns / NS))
        with self._lock:
            return list(self._domains)

    def wait(self) -> None:
        """Wait for the first answer, or until it is late: for a check, which has the time that the loop has not."""
        self._wait_until(self._deadline_ns / NS + MARGIN_S)

    def _wait_until(self, since_start_s: float) -> None:
        self._first.wait(max(0.0, self._started_s + since_start_s - time.monotonic()))

    def read(self) -> dict[str, Reading]:
        """What is new since the last time; everything failed while the meter does not answer."""
        late_s = self._late_s()
        with self._lock:
            news, self._news = self._news, {}
            self.took_ns, self._took_ns = self._took_ns, 0
            if late_s is not None:
                return {domain.name: Failed(_silent(late_s)) for domain in self._domains}
        return news

    def close(self) -> None:
        """Ask the thread to end, and let it log out of what it asked; a hung one ends with the process."""
        self._stop.set()
        if self._late_s() is None:
            self._thread.join(LAST_WAIT_S)

    def _late_s(self) -> float | None:
        since_ns = self._since_ns
        if since_ns is None:
            return None
        late_ns = self._clock.boot_ns() - since_ns
        return late_ns / NS if late_ns > self._deadline_ns else None

    # -- on the thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stop.is_set():
            start_ns = self._since_ns = self._clock.boot_ns()
            try:
                self._ask(start_ns)
            except Exception as error:  # noqa: BLE001 (the top of a thread: it must go on asking)
                log.warning("%s: %r", self.name, error)
                self._tell({domain.name: Failed(repr(error)) for domain in self._domains}, repr(error))
            now_ns = self._clock.boot_ns()
            with self._lock:
                self._since_ns, self._took_ns = None, self._took_ns + now_ns - start_ns
            self._first.set()
            # A meter that finds nothing need not be looked for at the rate at which it would be read.
            period_ns = (
                self._period_ns if self._domains else max(self._period_ns, min(NOTHING_NS, 10 * self._period_ns))
            )
            self._stop.wait(max(REST * self._period_ns, start_ns + period_ns - now_ns) / NS)
        try:
            self._meter.close()
        except Exception as error:  # noqa: BLE001 (the end of a thread: nobody is left to tell)
            log.warning("%s: %r", self.name, error)

    def _ask(self, now_ns: int) -> None:
        if not self._domains or self._discovered_ns is None or now_ns - self._discovered_ns >= REDISCOVER_NS:
            self._discovered_ns = now_ns
            found = self._meter.discover()
            if self._integrate:
                found = [_integrated(domain) for domain in found]
            with self._lock:
                self._domains = found
        self._tell(self._meter.poll() if self._domains else {}, self._meter.problem)

    def _tell(self, found: Mapping[str, Reading], problem: str | None) -> None:
        now_ns = self._clock.boot_ns()
        readings = {name: self._timed(name, reading, now_ns) for name, reading in found.items()}
        with self._lock:
            self._news |= readings
        self._problem = problem

    def _timed(self, name: str, reading: Reading, now_ns: int) -> Reading:
        if not isinstance(reading, Gauge):
            return reading
        t_ns = now_ns if reading.t_ns is None else reading.t_ns
        if not self._integrate:
            return msgspec.structs.replace(reading, t_ns=t_ns)
        integral = self._integrals.get(name)
        if integral is None:
            integral = self._integrals[name] = Integral(self._max_gap_ns, f"{os.getpid()}.{now_ns}")
        integral.add(Sample(reading.w, t_ns))
        self.last_w[name] = reading.w
        return Counter(integral.uj, None, integral.epoch)


def _integrated(domain: Domain) -> Domain:
    return msgspec.structs.replace(domain, method="gauge") if domain.method == "counter" else domain


def _silent(late_s: float) -> str:
    return f"timeout: no answer for {late_s:.0f} s"
