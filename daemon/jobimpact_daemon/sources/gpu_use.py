"""How long each process has kept a shared GPU busy, from what the driver tells now and then. Pure.

Two kinds of evidence: samples of utilisation with a wall-clock stamp, of whole GPUs; and mere presence, on a MIG
device, whose utilisation by process no driver tells.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jobimpact.core.units import NS

__all__ = ["BusyTimes", "Sample"]

FORGET_NS = 10 * NS
"""A process that the driver has not listed for so long is dropped: samples come late, by some seconds at most, and
the kernel may give its number to another."""


class Sample(msgspec.Struct, frozen=True):
    """A process's utilisation of a GPU in percent, up to a wall-clock time in microseconds."""

    pid: int
    wall_us: int
    percent: int


class _Busy(msgspec.Struct):
    ns: int = 0
    seen_ns: int = 0


class _Device(msgspec.Struct):
    """What is known of one GPU (or MIG device) between two readings."""

    busy: dict[int, _Busy] = {}
    read_ns: int | None = None
    read_us: int = 0
    last_us: int = 0
    """The newest stamp seen: the driver is asked for what came after."""
    stamps: dict[int, int] = {}
    """The stamps of the last reading's samples, by process."""


class BusyTimes:
    """Cumulative busy time by device and process, since each was first seen; one that was dropped begins anew."""

    def __init__(self) -> None:
        self._devices: dict[str, _Device] = {}
        self._now_ns = 0

    def since_us(self, device: str, wall_us: int) -> int:
        """From when on samples are wanted: the newest stamp seen, or now if nothing was; not in the future."""
        known = self._devices.get(device)
        return min(known.last_us, wall_us) if known and known.read_ns is not None else wall_us

    def leave(self, watched: set[str]) -> None:
        """The time until the others are watched again is nobody's."""
        for name, device in self._devices.items():
            if name not in watched:
                device.read_ns = None

    def add_present(self, device: str, pids: Iterable[int], now_ns: int) -> None:
        """These processes are there now, and have been since the last reading."""
        known = self._devices.setdefault(device, _Device())
        dt_ns = 0 if known.read_ns is None else max(0, now_ns - known.read_ns)
        known.read_ns = self._now_ns = now_ns
        for pid in set(pids):
            self._add(known, pid, dt_ns, now_ns)

    def add_samples(self, device: str, samples: Iterable[Sample], now_ns: int, wall_us: int) -> None:
        """A sample stands for the time since the process's last one, else since the last reading.

        Drivers are known to tell impossible samples: those above 100 %, or with a stamp that was told before or lies
        ahead of the clock by more than a second, are left out. No process is busier than the time that has passed.
        """
        known = self._devices.setdefault(device, _Device())
        first, dt_ns = known.read_ns is None, now_ns - (known.read_ns or now_ns)
        since_us, before, self._now_ns = known.read_us, known.stamps, now_ns
        known.read_ns, known.read_us, known.stamps = now_ns, wall_us, {}
        if first:
            known.last_us = wall_us
            return
        busy: dict[int, int] = {}
        for one in sorted(samples, key=lambda one: one.wall_us):
            start_us = known.stamps.get(one.pid, before.get(one.pid, since_us))
            if not (start_us < one.wall_us <= wall_us + 1_000_000 and 0 <= one.percent <= 100):
                continue
            known.stamps[one.pid] = one.wall_us
            known.last_us = max(known.last_us, one.wall_us)
            busy[one.pid] = busy.get(one.pid, 0) + (one.wall_us - start_us) * 10 * one.percent
        # A sample may end a little before the last reading and be told only now: a sampling period of grace.
        for pid, ns in busy.items():
            self._add(known, pid, min(ns, dt_ns + NS), now_ns)

    def told(self) -> dict[str, dict[int, int]]:
        """Busy nanoseconds by device and process; those that the driver lists no more are dropped after a while."""
        for device in self._devices.values():
            device.busy = {pid: one for pid, one in device.busy.items() if self._now_ns - one.seen_ns <= FORGET_NS}
        return {name: {pid: one.ns for pid, one in device.busy.items()} for name, device in self._devices.items()}

    def _add(self, device: _Device, pid: int, ns: int, now_ns: int) -> None:
        one = device.busy.setdefault(pid, _Busy())
        one.ns += ns
        one.seen_ns = now_ns
