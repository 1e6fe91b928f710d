"""Jobs laid over each other on one node: never more than the node, and alike for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import Shares, Stay
from jobimpact.impact.occupancy import Hours, Occupancy

HOUR = 3600
shares = st.builds(Shares, *[st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])] * 4)
spans = st.tuples(st.integers(0, 40), st.integers(0, 20))


@st.composite
def stays(draw: st.DrawFn) -> list[Stay]:
    some = draw(st.lists(st.tuples(spans, shares), max_size=8))
    return [
        Stay(str(n), start * HOUR, (start + lasts) * HOUR, share) for n, ((start, lasts), share) in enumerate(some)
    ]


def hour_by_hour(some: list[Stay], from_h: int, to_h: int) -> tuple[dict[str, list[float]], list[float], list[float]]:
    """The same by looking at each hour: all edges are full hours."""
    by_key = {stay.key: [0.0] * 4 for stay in some}
    held, stranded = [0.0] * 4, [0.0] * 4
    for hour in range(from_h, to_h):
        there = [stay for stay in some if stay.start_s <= hour * HOUR < stay.end_s]
        sums = [sum(stay.shares.each()[c] for stay in there) for c in range(4)]
        for stay in there:
            for c, share in enumerate(stay.shares.each()):
                by_key[stay.key][c] += share / max(sums[c], 1.0)
        full = sums[0] >= 1 or sums[1] >= 1
        for c in range(4):
            held[c] += min(sums[c], 1.0)
            stranded[c] += 1 - min(sums[c], 1.0) if full else 0.0
    return by_key, held, stranded


@given(stays(), st.integers(0, 60), st.integers(0, 60))
def test_it_is_what_looking_at_each_hour_gives(some: list[Stay], one: int, other: int) -> None:
    """Each job's hours, all jobs' hours and stranded hours, over any time."""
    from_h, to_h = sorted((one, other))
    by_key, held, stranded = hour_by_hour(some, from_h, to_h)
    found = Occupancy(some)
    for stay in some:
        assert found.hours(stay, from_h * HOUR, to_h * HOUR).each() == pytest.approx(by_key[stay.key], abs=1e-9)
    assert found.held(from_h * HOUR, to_h * HOUR).each() == pytest.approx(held, abs=1e-9)
    assert found.stranded(from_h * HOUR, to_h * HOUR).each() == pytest.approx(stranded, abs=1e-9)


@given(stays(), st.integers(0, 60))
def test_jobs_hours_sum_to_what_is_held_and_a_cut_changes_nothing(some: list[Stay], cut: int) -> None:
    """Over any time the jobs' hours sum to the hours held, and two parts of a time sum to the whole."""
    found = Occupancy(some)
    each = sum((found.hours(stay, 0, 60 * HOUR) for stay in some), start=Hours(0, 0, 0, 0))
    assert each.each() == pytest.approx(found.held(0, 60 * HOUR).each(), abs=1e-9)
    for stay in some:
        parts = found.hours(stay, 0, cut * HOUR) + found.hours(stay, cut * HOUR, 60 * HOUR)
        assert parts.close_to(found.hours(stay, 0, 60 * HOUR))


def test_a_job_alone_holds_its_share_of_its_time() -> None:
    """Nothing is brought down where there is room."""
    stay = Stay("1", 0, 10 * HOUR, Shares(0.5, 0.25, 1.0, 1.0))
    assert Occupancy([stay]).hours(stay, 0, 100 * HOUR) == Hours(5.0, 2.5, 10.0, 10.0)


def test_dominant_shares_are_brought_to_one() -> None:
    """One job has the CPUs, the other the GPUs: the rest of the node is shared evenly, the CPUs are not."""
    one = Stay("1", 0, HOUR, Shares(1.0, 0.5, 0.0, 1.0))
    other = Stay("2", 0, HOUR, Shares(0.0, 0.5, 1.0, 1.0))
    found = Occupancy([one, other])
    assert found.hours(one, 0, HOUR) == Hours(1.0, 0.5, 0.0, 0.5)
    assert found.hours(other, 0, HOUR) == Hours(0.0, 0.5, 1.0, 0.5)


def test_nothing_is_nobody_s() -> None:
    """A node that nobody had, and a job that took no time."""
    stay = Stay("1", 5.0, 5.0, Shares(1, 1, 1, 1))
    found = Occupancy([stay])
    assert found.held(0, HOUR) == found.hours(stay, 0, HOUR) == Hours(0, 0, 0, 0)
