"""What every source of carbon intensity offers and hands over: slots of time, each with a value that may be one."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec

__all__ = ["HOUR_S", "MOST", "Answer", "Collected", "Refused", "Slot", "Source", "number", "seconds", "stamp"]

HOUR_S = 3600
MOST = 3.0
"""kgCO2e/kWh: more than any power plant emits, so more than any grid."""
NEAR_S = 86400
"""Answers may come by whole days: what lies further outside the question answers another one."""


class Slot(msgspec.Struct, frozen=True):
    """The carbon intensity of a stretch of time, of an hour at most."""

    start_s: float
    length_s: float
    kgco2e_per_kwh: float
    estimated: bool = False


class Refused(msgspec.Struct, frozen=True):
    """A part of an answer that cannot be what it claims to be."""

    what: str
    """The kind: refusals of one kind are told together."""
    example: str
    """The thing itself, by name."""
    at_s: float | None = None
    """The time that it is of, epoch seconds."""


class Answer(msgspec.Struct, frozen=True):
    """What a source said: the slots that can be used, and what cannot."""

    slots: tuple[Slot, ...]
    refused: tuple[Refused, ...] = ()


class Source(Protocol):
    """Where carbon intensities come from.

    Attributes:
        name: as the configuration calls it.
        key: what its answers are kept under beside its name: the zone, and all else that a value depends on.
        basis: what its values count.
        chunk_s: the longest time to ask for at once, a number of whole hours.
        changes: its past may be edited by hand, and it is cheap to read: it is read again each time.
    """

    name: str
    key: str
    basis: Literal["lifecycle", "direct"]
    chunk_s: int
    changes: bool

    def ask(self, from_s: int, to_s: int) -> Answer:
        """The slots of [from_s, to_s), epoch seconds of full hours.

        Raises:
            GridError: no answer, or none that can be used at all.
            NoAnswerError: so, and it would be the same for another time.
        """


class Collected:
    """Gathers an answer: a slot told twice with two values is none, and what was not asked for is told as such.

    Args:
        from_s: what was asked for, epoch seconds.
        to_s: its end.
        before_s: so much more of the time before is looked at, and not handed over.
    """

    def __init__(self, from_s: float, to_s: float, before_s: float = 0.0) -> None:
        self._from_s, self._to_s, self._before_s = from_s, to_s, before_s
        self._slots: dict[float, Slot] = {}
        self._twice: set[float] = set()
        self._refused: list[Refused] = []
        self._outside: list[float] = []

    def add(self, slot: Slot) -> None:
        """Take a slot, if its value can be one."""
        if not self.within(slot.start_s, slot.length_s):
            return
        if not 0 <= slot.kgco2e_per_kwh <= MOST:
            self.refuse("not a carbon intensity", f"{slot.kgco2e_per_kwh * 1000:g} gCO2e/kWh", slot.start_s)
            return
        first = self._slots.setdefault(slot.start_s, slot)
        if first.kgco2e_per_kwh != slot.kgco2e_per_kwh and slot.start_s not in self._twice:
            self._twice.add(slot.start_s)
            self.refuse(
                "two values for one time",
                f"{first.kgco2e_per_kwh:g} and {slot.kgco2e_per_kwh:g} kgCO2e/kWh",
                slot.start_s,
            )

    def within(self, start_s: float, length_s: float) -> bool:
        """Whether this was asked for; what is not is remembered."""
        if start_s + length_s > self._from_s - self._before_s and start_s < self._to_s:
            return True
        self._outside.append(start_s)
        return False

    def refuse(self, what: str, example: str, at_s: float | None = None) -> None:
        """Note what cannot be used; the example is in words that are safe to print."""
        if at_s is None or at_s >= self._from_s:
            self._refused.append(Refused(what, example if at_s is None else f"{example} at {stamp(at_s)}", at_s))

    def answer(self) -> Answer:
        """All that came, in order of time."""
        slots = [
            slot
            for start, slot in sorted(self._slots.items())
            if start not in self._twice and start + slot.length_s > self._from_s
        ]
        far = [at for at in self._outside if not self._from_s - NEAR_S <= at < self._to_s + NEAR_S]
        if self._outside and (far or not slots):
            at = (far or self._outside)[0]
            asked = f"asked for {stamp(self._from_s)} to {stamp(self._to_s)}"
            self._refused.append(Refused("answers of another time", f"{stamp(at)}, {asked}"))
        return Answer(tuple(slots), tuple(self._refused))


def number(value: object) -> float | None:
    """A finite number as one; None: it is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def seconds(text: object) -> int | None:
    """Epoch seconds of an ISO 8601 time with its offset; None: it is not one."""
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
        return None if when is None or when.tzinfo is None else int(when.timestamp())
    except (ValueError, OverflowError):
        return None


def stamp(at_s: float) -> str:
    """Epoch seconds as people read them, UTC."""
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%MZ")
    except (ValueError, OverflowError, OSError):
        return f"{at_s:g} s"
