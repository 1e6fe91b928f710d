"""The rest of the node: what its meter saw beyond the parts that have meters of their own. Pure.

A BMC lags its parts by seconds, so the rest is settled over windows of at least ten times the lag, and cumulatively:
a window in which the parts measure more than the meter leaves a deficit, which the next windows pay back first. A
clamp per reading would invent energy instead.
"""

from __future__ import annotations

import msgspec

__all__ = ["TRUST", "Modelled", "Point", "Rest", "Settled", "window_ns"]

TRUST = ("wattmeter", "pmcounters", "redfish", "ipmi", "hwmon", "calibration")
"""Meters of a whole node, the most trusted first."""
LATENCIES = 10
"""A window is this many times as long as the meter may lag."""
DEFAULT_LATENCY_S = {"wattmeter": 1.0, "pmcounters": 1.0, "hwmon": 1.0, "calibration": 1.0}
BMC_LATENCY_S = 15.0
FEW_UJ = 1_000_000
SHORT_PER_MILLE = 10
"""A deficit that outlives its windows is told from this part of the meter's energy on."""


class Point(msgspec.Struct):
    """Where the meter and its parts stood at one of its readings."""

    t_ns: int
    """Names the snapshot of the holdings."""
    meter_uj: int
    parts: dict[str, int]
    """What the parts gave each holder since the window began."""


class Modelled(msgspec.Struct, frozen=True):
    """Where a calibrated node's parts stood when its meter was last modelled."""

    t_ns: int
    parts_uj: int
    unknown_ns: int
    parts: int


class Settled(msgspec.Struct, frozen=True):
    """A window's rest, and what it is split by."""

    uj: int
    start_ns: int
    end_ns: int
    parts: dict[str, int]


class Rest(msgspec.Struct):
    """One node's rest.

    The window begins at `start`; `last` is the meter's last good reading in it.
    """

    meter: str | None = None
    """The name of the meter's domain."""
    window_ns: int = 0
    start: Point | None = None
    last: Point | None = None
    parts: dict[str, int] = {}
    began_ns: int = 0
    """Since when this meter has been read without a gap."""
    modelled: Modelled | None = None
    forgiven_uj: int = 0
    """What an earlier meter, or this one before a gap, still owed: nobody pays for another's lag."""
    unknown: dict[str, int] = {}
    """For how long each part was not known when the window began, in ns."""
    deficit_uj: int = 0
    """By how much the parts have measured more than the meter, not paid back yet; not negative."""
    short_windows: int = 0
    meter_uj: int = 0
    """What the meter, and below what its parts measured in settled windows: rest = meter - parts + deficits."""
    parts_uj: int = 0

    def begin(self, meter: str, window_ns: int, t_ns: int, meter_uj: int) -> None:
        """Begin a window at a meter's reading."""
        self.meter, self.window_ns, self.began_ns = meter, window_ns, t_ns
        self.forgiven_uj += self.deficit_uj
        self.deficit_uj = self.short_windows = 0
        self.parts = {}
        self.start = Point(t_ns, meter_uj, {})
        self.last = None

    def add(self, shares: dict[str, int], since_ns: int, until_ns: int) -> None:
        """A part has given its holders this; what it used before the meter's time began is none of the meter's."""
        if self.start is None:
            return
        inside_ns, whole_ns = max(0, until_ns - max(since_ns, self.began_ns)), until_ns - since_ns
        for holder, uj in shares.items():
            self.parts[holder] = self.parts.get(holder, 0) + (uj * inside_ns // whole_ns if whole_ns else uj)

    def read(self, t_ns: int, meter_uj: int) -> None:
        """The meter has a good reading."""
        self.last = Point(t_ns, meter_uj, dict(self.parts))

    @property
    def is_due(self) -> bool:
        """The window is long enough to be settled."""
        return self.age_ns >= self.window_ns

    @property
    def age_ns(self) -> int:
        """From the window's start to its last reading."""
        return 0 if self.start is None or self.last is None else self.last.t_ns - self.start.t_ns

    def settle(self) -> Settled | None:
        """Close the window at its last reading; the next one begins there."""
        start, last = self.start, self.last
        if start is None or last is None:
            return None
        metered_uj = last.meter_uj - start.meter_uj
        parts_uj = sum(last.parts.values())
        rest_uj = metered_uj - parts_uj - self.deficit_uj
        self.meter_uj += metered_uj
        self.parts_uj += parts_uj
        self.deficit_uj = max(0, -rest_uj)
        short = self.deficit_uj > max(FEW_UJ, metered_uj * SHORT_PER_MILLE // 1000)
        self.short_windows = self.short_windows + 1 if short else 0
        self.parts = {holder: left for holder, uj in self.parts.items() if (left := uj - last.parts.get(holder, 0))}
        self.start, self.last = Point(last.t_ns, last.meter_uj, {}), None
        return Settled(max(0, rest_uj), start.t_ns, last.t_ns, last.parts)

    def stop(self) -> None:
        """The meter is silent: there is no window until it is back."""
        self.start = self.last = None
        self.parts = {}


def window_ns(source: str, latency_s: float | None) -> int:
    """How long a meter's windows are, in ns."""
    lag_s = latency_s if latency_s is not None else DEFAULT_LATENCY_S.get(source, BMC_LATENCY_S)
    return round(lag_s * LATENCIES * 1e9)
