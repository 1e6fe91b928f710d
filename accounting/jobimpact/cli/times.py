"""Times as sacct takes them, in the local zone."""

from __future__ import annotations

import re
import time

from jobimpact.core.errors import ConfigError

__all__ = ["moment", "said", "zone"]

_WORDS = {"today": 0, "midnight": 0, "noon": 12, "fika": 15, "teatime": 16, "elevenses": 11}
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_NOW = re.compile(r"now(?:([+-])(\d{1,9})([a-z]*))?")
_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(am|pm)?"
_DATES = (
    re.compile(r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"),
    re.compile(r"(?P<month>\d{1,2})[/.](?P<day>\d{1,2})(?:[/.](?P<year>\d{4}|\d{2}))?"),
    re.compile(r"(?P<month>\d{2})(?P<day>\d{2})(?P<year>\d{2})?"),
)
_END_S = 253402214400
"""The last day of 9999, which is that year in every zone."""
_FORMS = "YYYY-MM-DD[THH:MM[:SS]], MM/DD[/YY], HH:MM, today, midnight, noon, now-3days, or epoch seconds"


def moment(text: str, now_s: float) -> float:
    """Epoch seconds of a time.

    A date without a year, and a time of day without a date, are the last ones that were, and today's: what is asked
    for is past.

    Args:
        text: `2026-11-20`, `2026-11-20T14:00`, `11/20`, `11/20/26`, `1120`, `14:30`, `today`, `midnight`, `noon`,
            `now`, `now-3days`, `now-2hours`, `1795190300`.
        now_s: epoch seconds.

    Raises:
        ConfigError: it is none.
    """
    word = text.strip().lower()
    if re.fullmatch(r"(uts)?\d{9,11}", word, re.ASCII):
        return float(word.removeprefix("uts"))
    found = _relative(word, now_s)
    if found is None:
        found = _absolute(word, time.localtime(now_s))
    if found is None:
        raise ConfigError(f"{text!r:.40}: not a time: {_FORMS}")
    if not -86400 <= found < _END_S:  # the first of 1970 in any zone: some write it for the beginning
        raise ConfigError(f"{text!r:.40}: not a time of any job: before 1970, or after 9999")
    return found


def said(at_s: float) -> str:
    """A moment in the local zone, `2026-11-20 14:00:00`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def zone(at_s: float) -> str:
    """The local zone at a moment, `CET, UTC+01:00`, or `UTC`."""
    local = time.localtime(at_s)
    if local.tm_gmtoff == 0:
        return "UTC"
    minutes = abs(local.tm_gmtoff) // 60
    offset = f"UTC{'+' if local.tm_gmtoff > 0 else '-'}{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{local.tm_zone}, {offset}" if local.tm_zone.isalpha() else offset


def _relative(word: str, now_s: float) -> float | None:
    found = _NOW.fullmatch(word)
    if found is None:
        return None
    sign, count, unit = found.groups()
    if count is None:
        return now_s
    # Any begin of a unit counts, as for Slurm: `now-3d`, `now-3days`.
    sizes = [size for name, size in _UNITS.items() if unit and f"{name}s".startswith(unit)] if unit else [1]
    return now_s + int(count) * sizes[0] * (1 if sign == "+" else -1) if sizes else None


def _absolute(word: str, now: time.struct_time) -> float | None:
    if word == "tomorrow":
        return time.mktime((now.tm_year, now.tm_mon, now.tm_mday + 1, 0, 0, 0, 0, 0, -1))
    if word in _WORDS:
        return _epoch(now.tm_year, now.tm_mon, now.tm_mday, (_WORDS[word], 0, 0))
    clock = _clock(word)
    if clock is not None:
        return _epoch(now.tm_year, now.tm_mon, now.tm_mday, clock)
    for form in _DATES:
        found = form.match(word)
        if found is not None:
            return _dated(found, word[found.end() :], now)
    return None


def _dated(found: re.Match[str], rest: str, now: time.struct_time) -> float | None:
    month, day, given = int(found["month"]), int(found["day"]), found["year"]
    clock = (0, 0, 0) if not rest else _clock(rest[1:]) if rest[0] in "t- " else None
    if clock is None:
        return None
    if given is None:
        year = now.tm_year - ((month, day) > (now.tm_mon, now.tm_mday))
    else:
        year = int(given) + (2000 if len(given) == 2 else 0)
    return _epoch(year, month, day, clock)


def _clock(word: str) -> tuple[int, int, int] | None:
    found = re.fullmatch(_CLOCK, word, re.ASCII)
    if found is None:
        return None
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if found[4] is not None:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found[4] == "pm" else 0)
    return (hour, minute, second) if hour <= 24 and minute < 60 and second < 61 else None


def _epoch(year: int, month: int, day: int, clock: tuple[int, int, int]) -> float | None:
    days = (
        31,
        29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28,
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    )
    if not (1 <= month <= 12 and 1970 <= year <= 9999 and 1 <= day <= days[month - 1]):
        return None
    try:
        return time.mktime((year, month, day, *clock, 0, 0, -1))
    except (OverflowError, ValueError):
        return None
