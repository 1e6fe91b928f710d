"""Ids and times as sacct takes them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from jobimpact.cli.ids import MOST, wanted
from jobimpact.cli.times import moment, said, zone
from jobimpact.core.errors import ConfigError

# 2026-11-22, 10:30:15 in Paris, where it is 09:30:15 UTC.
NOW = 1795339815.0


@pytest.mark.parametrize(
    ("words", "ids", "steps"),
    [
        (["123"], ["123"], []),
        (["123,124", "123 125"], ["123", "124", "125"], []),
        (["123_4,123+1"], ["123_4", "123+1"], []),
        (["123.0,123.batch", "123_4.extern"], ["123", "123_4"], ["123.0", "123.batch", "123_4.extern"]),
        (["123_[1-3,7],9"], ["123_1", "123_2", "123_3", "123_7", "9"], []),
        (["123_[0-10:5]"], ["123_0", "123_5", "123_10"], []),
        (["123_[1-3%2]"], ["123_1", "123_2", "123_3"], []),
        (["123_[1-2].batch"], ["123_1", "123_2"], ["123_[1-2].batch"]),
        (["123_[5]"], ["123_5"], []),
        ([" , 1 ,"], ["1"], []),
    ],
)
def test_ids_are_read_as_sacct_writes_them(words: list[str], ids: list[str], steps: list[str]) -> None:
    """Each once, in the order given; of a step its job."""
    assert wanted(words) == (tuple(ids), tuple(steps))


@pytest.mark.parametrize("word", ["123_[", "123_[1-", "123_[a-b]", "123_[]", "1_[1-2]x", "1_[1--2]", f"1_[0-{MOST}]"])
def test_a_range_that_is_none_is_told(word: str) -> None:
    """With how one is written, or that it is too large."""
    with pytest.raises(ConfigError, match=r"123_\[1-5,7\]|more than"):
        wanted([word])


def test_too_many_ids_are_told() -> None:
    """With what to ask for instead."""
    with pytest.raises(ConfigError, match="more than 10000 jobs"):
        wanted([f"1_[0-{MOST - 1}]", "x7"])


@pytest.fixture(params=["Europe/Paris"])
def paris(request: pytest.FixtureRequest) -> Iterator[None]:
    """The local zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("paris")
@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("2026-11-20", "2026-11-20 00:00:00"),
        ("2026-11-20T14:05", "2026-11-20 14:05:00"),
        ("2026-11-20T14:05:09", "2026-11-20 14:05:09"),
        ("11/20", "2026-11-20 00:00:00"),
        ("12/24", "2025-12-24 00:00:00"),  # the last one there was
        ("11/20/25", "2025-11-20 00:00:00"),
        ("11.20.2024-07:00", "2024-11-20 07:00:00"),
        ("1120", "2026-11-20 00:00:00"),
        ("112025-23:59:59", "2025-11-20 23:59:59"),
        ("08:15", "2026-11-22 08:15:00"),
        ("23:00", "2026-11-22 23:00:00"),
        ("11:30pm", "2026-11-22 23:30:00"),
        ("12:00AM", "2026-11-22 00:00:00"),
        ("today", "2026-11-22 00:00:00"),
        ("midnight", "2026-11-22 00:00:00"),
        ("noon", "2026-11-22 12:00:00"),
        ("NOW", "2026-11-22 10:30:15"),
        ("now-90", "2026-11-22 10:28:45"),
        ("now-2hours", "2026-11-22 08:30:15"),
        ("now-3days", "2026-11-19 10:30:15"),
        ("now-1week", "2026-11-15 10:30:15"),
        ("now+5minutes", "2026-11-22 10:35:15"),
        ("tomorrow", "2026-11-23 00:00:00"),
        ("1795339815", "2026-11-22 10:30:15"),
        ("2026-07-01", "2026-07-01 00:00:00"),  # summer time
        ("2024-02-29", "2024-02-29 00:00:00"),
    ],
)
def test_times_are_read_as_sacct_reads_them(text: str, local: str) -> None:
    """In the local zone, of the past."""
    assert said(moment(text, NOW)) == local


@pytest.mark.usefixtures("paris")
def test_the_zone_is_the_one_of_that_time() -> None:
    """Winter's and summer's."""
    assert (zone(moment("2026-11-20", NOW)), zone(moment("2026-07-01", NOW))) == ("CET, UTC+01:00", "CEST, UTC+02:00")
    assert moment("2026-07-01", NOW) == 1782856800


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "now-3fortnights", "2026-02-30", "13/01", "25:00", "2026-11-20T", "2026-11-20x10:00", "1"),
        *("now--3", "-", "13:00pm", "10:61", "9" * 30, "\x1b[m", "2026-11-20T10:00:00+01:00", "0x10"),
    ],
)
def test_what_is_no_time_is_told(text: str) -> None:
    """With how times look."""
    with pytest.raises(ConfigError, match="not a time: YYYY-MM-DD"):
        moment(text, NOW)
