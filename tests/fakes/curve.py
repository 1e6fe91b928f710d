"""Exact integer power curves and the counters that show them; curve.h holds the same integers in C."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

Pattern = Sequence[tuple[int, int]]
"""(duration in ns, level) pairs, repeated for ever; the level of a power curve is in microwatts."""


def boot_ns() -> int:
    """The one clock of the rig: CLOCK_BOOTTIME in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def watts(*steps: tuple[float, float]) -> list[tuple[int, int]]:
    """A pattern from (seconds, watts) pairs."""
    return [(round(seconds * NS_PER_S), round(level * 1e6)) for seconds, level in steps]


@dataclass(frozen=True, slots=True)
class Phase:
    """One pattern, repeated cyclically from `start_ns` until the next phase starts."""

    start_ns: int
    pattern: tuple[tuple[int, int], ...]

    @property
    def cycle_ns(self) -> int:
        return sum(duration for duration, _ in self.pattern)

    def work(self, elapsed_ns: int) -> int:
        """Level x nanoseconds over the first `elapsed_ns`."""
        cycles, rest = divmod(elapsed_ns, self.cycle_ns)
        total = cycles * sum(duration * level for duration, level in self.pattern)
        for duration, level in self.pattern:
            part = min(rest, duration)
            total += part * level
            rest -= part
        return total

    def level(self, elapsed_ns: int) -> int:
        rest = elapsed_ns % self.cycle_ns
        for duration, level in self.pattern:
            if rest < duration:
                return level
            rest -= duration
        raise AssertionError("the rest is smaller than the cycle")


class Curve:
    """A piecewise-constant level over boot time: microwatts, micro-CPUs or bytes.

    `t0_ns` is the origin on CLOCK_BOOTTIME; before it the level is 0. `phases` are (start_ns, pattern)
    pairs, later than the origin and in order, each replacing the pattern before it.
    """

    def __init__(self, t0_ns: int, pattern: Pattern, phases: Sequence[tuple[int, Pattern]] = ()) -> None:
        self.phases = tuple(Phase(start, tuple(steps)) for start, steps in ((t0_ns, pattern), *phases))
        self._starts = [phase.start_ns for phase in self.phases]
        if t0_ns < 0 or any(b <= a for a, b in zip(self._starts, self._starts[1:], strict=False)):
            raise ValueError("phases must start at or after 0 and in strict order")
        for phase in self.phases:
            if not phase.pattern or any(duration <= 0 or level < 0 for duration, level in phase.pattern):
                raise ValueError("a pattern needs positive durations and levels of 0 or more")

    @classmethod
    def flat(cls, t0_ns: int, level: int) -> Curve:
        """The same level for ever."""
        return cls(t0_ns, [(NS_PER_S, level)])

    @property
    def t0_ns(self) -> int:
        return self._starts[0]

    def work(self, t_ns: int) -> int:
        """The exact integral from the origin to `t_ns`: level x nanoseconds."""
        ends = [*self._starts[1:], t_ns]
        return sum(
            phase.work(min(t_ns, end) - phase.start_ns)
            for phase, end in zip(self.phases, ends, strict=True)
            if t_ns > phase.start_ns
        )

    def energy_uj(self, t_ns: int) -> int:
        """Microjoules since the origin, rounded down, for a curve of microwatts."""
        return self.work(t_ns) // NS_PER_S

    def cpu_ns(self, t_ns: int) -> int:
        """CPU nanoseconds since the origin, rounded down, for a curve of micro-CPUs."""
        return self.work(t_ns) // 1_000_000

    def between(self, t0_ns: int, t1_ns: int) -> int:
        """Microjoules from t0 to t1 as a difference of `energy_uj`, so that intervals add up exactly."""
        return self.energy_uj(t1_ns) - self.energy_uj(t0_ns)

    def power_uw(self, t_ns: int) -> int:
        """The level at `t_ns`."""
        place = bisect_right(self._starts, t_ns) - 1
        return self.phases[place].level(t_ns - self._starts[place]) if place >= 0 else 0

    def text(self) -> str:
        """The words that read_curve() in curve.h takes."""
        words = [len(self.phases)]
        for phase in self.phases:
            words += [phase.start_ns, len(phase.pattern)]
            words += [number for step in phase.pattern for number in step]
        return " ".join(map(str, words))


@dataclass(frozen=True, slots=True)
class Sensor:
    """At time t the hardware shows its state at floor((t - lag) / refresh) x refresh."""

    refresh_ns: int = NS_PER_MS
    lag_ns: int = 0

    def shown_ns(self, t_ns: int) -> int:
        return max(0, t_ns - self.lag_ns) // self.refresh_ns * self.refresh_ns


class Kind(IntEnum):
    """The event numbers of curve.h."""

    RESET = 0
    STUCK = 1
    BLIP = 2
    UNREADABLE = 3


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to a counter in [from_ns, to_ns); made by the functions below."""

    kind: Kind
    from_ns: int
    to_ns: int
    amount: int = 0

    def holds(self, kind: Kind, t_ns: int) -> bool:
        return self.kind is kind and self.from_ns <= t_ns < self.to_ns


def reset(at_ns: int) -> Event:
    """The counter restarts from 0 at `at_ns` and then shows the energy since."""
    return Event(Kind.RESET, at_ns, at_ns)


def stuck(from_ns: int, to_ns: int) -> Event:
    """The counter shows its value of `from_ns`, then jumps to where it would have been."""
    return Event(Kind.STUCK, from_ns, to_ns)


def blip(from_ns: int, to_ns: int, amount: int) -> Event:
    """The counter reads lower by `amount` (its own unit), not below 0, then heals."""
    return Event(Kind.BLIP, from_ns, to_ns, amount)


def unreadable(from_ns: int, to_ns: int) -> Event:
    """A counter file gives no value: see powerrig.c for what a reader meets. NVML uses Fault instead."""
    return Event(Kind.UNREADABLE, from_ns, to_ns)


@dataclass(frozen=True, slots=True)
class Counter:
    """A cumulative energy counter.

    `unit` is in microjoules (1 for powercap, 1000 for NVML); `start` is the value at the curve's origin, and
    `modulus` what it wraps at (0 = never), both in that unit. For powercap the modulus is
    max_energy_range_uj itself: after max_energy_range_uj - 1 comes 0.
    """

    curve: Curve
    start: int = 0
    modulus: int = 0
    sensor: Sensor = Sensor()
    events: tuple[Event, ...] = field(default=())
    unit: int = 1

    def raw(self, t_ns: int) -> int:
        """What the counter says at `t_ns`, in its unit; meaningless while not `readable`."""
        frozen = [event.from_ns for event in self.events if event.holds(Kind.STUCK, t_ns)]
        live_ns = min([t_ns, *frozen])
        resets = [e.from_ns for e in self.events if e.kind is Kind.RESET and e.from_ns <= live_ns]
        blips = sum(e.amount for e in self.events if e.holds(Kind.BLIP, live_ns))
        uj = self.curve.energy_uj(self.sensor.shown_ns(live_ns))
        # a lagging sensor still shows a time before the reset: that is 0
        since = max(0, uj - self.curve.energy_uj(max(resets))) if resets else uj
        value = since // self.unit + (0 if resets else self.start)
        value = max(0, value - blips)
        return value % self.modulus if self.modulus else value

    def readable(self, t_ns: int) -> bool:
        return not any(event.holds(Kind.UNREADABLE, t_ns) for event in self.events)

    def with_events(self, *events: Event) -> Counter:
        """The same counter with more events."""
        return replace(self, events=(*self.events, *events))

    def text(self) -> str:
        """The words that read_counter() in curve.h takes."""
        head = [self.unit, self.start, self.modulus, self.sensor.refresh_ns, self.sensor.lag_ns]
        tail = [len(self.events)]
        for event in self.events:
            tail += [int(event.kind), event.from_ns, event.to_ns, event.amount]
        return f"{' '.join(map(str, head))} {self.curve.text()} {' '.join(map(str, tail))}"
