"""What a mail is about, as the key that it is sent once by: `array/2026-11-20/6`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Literal

import msgspec

from jobimpact.results.mailing import MailRow, Unit

__all__ = ["About", "Span", "digest_key", "health_key", "lab_key", "parse", "unit_key", "units_told"]

Topic = Literal["job", "array", "het", "digest", "lab", "health"]


class Span(msgspec.Struct, frozen=True, order=True):
    """Whole days, UTC: from midnight to midnight."""

    first: date
    last: date
    """Not in it any more."""

    @property
    def from_s(self) -> float:
        """Epoch seconds."""
        return _midnight_s(self.first)

    @property
    def to_s(self) -> float:
        """Epoch seconds, not in it any more."""
        return _midnight_s(self.last)


class About(msgspec.Struct, frozen=True):
    """A key, taken apart."""

    topic: Topic
    name: str
    """The job's, array's or leader's id; the user; the account; the address."""
    span: Span
    """Of a unit and of health: the day on which the mail was made."""
    head: str = ""
    """Of a lab's report: who gets it."""


def unit_key(unit: Unit, day: date) -> str:
    """Of a job, an array or a heterogeneous job. Ids come last: they may hold anything."""
    return f"{unit.kind}/{day}/{unit.id}"


def digest_key(user: str, span: Span) -> str:
    """Of a user's digest."""
    return f"digest/{span.first}/{span.last}/{user}"


def lab_key(account: str, head: str, span: Span) -> str:
    """Of a lab's report for one of its heads, whose name has no slash."""
    return f"lab/{span.first}/{span.last}/{head}/{account}"


def health_key(address: str, day: date) -> str:
    """Of what admins are told."""
    return f"health/{day}/{address}"


def parse(key: str) -> About:
    """A key taken apart.

    Raises:
        ValueError: it is none.
    """
    topic, _, rest = key.partition("/")
    if topic in {"job", "array", "het", "health"}:
        day, _, name = rest.partition("/")
        if name:
            one = date.fromisoformat(day)
            return About(topic, name, Span(one, one))  # type: ignore[arg-type]
    elif topic == "digest":
        first, last, name = rest.split("/", 2)
        return About("digest", name, Span(date.fromisoformat(first), date.fromisoformat(last)))
    elif topic == "lab":
        first, last, head, name = rest.split("/", 3)
        return About("lab", name, Span(date.fromisoformat(first), date.fromisoformat(last)), head)
    raise ValueError(f"{key!r:.100}: not a mail's key")


def units_told(rows: Iterable[MailRow]) -> set[tuple[str, str]]:
    """The jobs, arrays and heterogeneous jobs that have a mail, or are told in a digest: kind and id."""
    found: set[tuple[str, str]] = set()
    for row in rows:
        if row.subject.startswith(("job/", "array/", "het/")):
            topic, _, name = row.subject.split("/", 2)
            found.add((topic, name))
    return found


def _midnight_s(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
