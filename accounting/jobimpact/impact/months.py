"""Calendar months, in UTC: what is frozen, and when. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

__all__ = ["CLOSE_DAYS", "closes_s", "edges_of", "month_of", "months", "next_month"]

CLOSE_DAYS = 5
"""A month is closed when it has been over for so long: late records have come in by then."""


def month_of(at_s: float) -> str:
    """Epoch seconds to `2026-11`."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m}"


@cache
def edges_of(month: str) -> tuple[float, float]:
    """When a month begins and ends, in epoch seconds."""
    return _begin(month).timestamp(), _begin(next_month(month)).timestamp()


@cache
def next_month(month: str) -> str:
    """The month after."""
    return f"{_begin(month) + timedelta(days=31):%Y-%m}"


def months(from_s: float, to_s: float) -> Iterator[str]:
    """Every month that [from_s, to_s) has a part of."""
    month = month_of(from_s)
    while edges_of(month)[0] < to_s:
        yield month
        month = next_month(month)


@cache
def closes_s(month: str) -> float:
    """When a month is closed, in epoch seconds."""
    return edges_of(month)[1] + CLOSE_DAYS * 86400


def _begin(month: str) -> datetime:
    return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
