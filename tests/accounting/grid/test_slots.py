"""The laws of slots and hours."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from jobimpact.grid.base import Slot
from jobimpact.grid.slots import Hour, hourly

LENGTHS = st.sampled_from([300, 900, 1800, 3600])
VALUES = st.floats(0, 3)


@st.composite
def slots(draw: st.DrawFn) -> list[Slot]:
    """A stretch of slots, some of which are missing."""
    length, first = draw(LENGTHS), draw(st.integers(0, 48)) * 900 + 1_772_323_200
    values = draw(st.lists(st.none() | VALUES, max_size=40))
    return [Slot(first + n * length, length, value) for n, value in enumerate(values) if value is not None]


@given(slots(), st.randoms())
def test_the_order_of_slots_does_not_matter(given_slots: list[Slot], chance: random.Random) -> None:
    """The same hours, to the last bit."""
    mixed = list(given_slots)
    chance.shuffle(mixed)
    assert hourly(given_slots) == hourly(mixed)


@given(slots())
def test_a_mean_lies_between_least_and_most(given_slots: list[Slot]) -> None:
    """Of the slots that touch its hour."""
    for start, hour in hourly(given_slots).items():
        inside = [
            slot.kgco2e_per_kwh
            for slot in given_slots
            if slot.start_s < start + 3600 and slot.start_s + slot.length_s > start
        ]
        assert min(inside) <= hour.kgco2e_per_kwh <= max(inside)


@given(slots())
def test_an_hour_is_known_by_half_of_it_and_by_no_less(given_slots: list[Slot]) -> None:
    """And starts at a full hour."""
    covered: dict[int, float] = {}
    for slot in given_slots:
        for second in range(int(slot.start_s), int(slot.start_s + slot.length_s), 300):
            covered[second // 3600 * 3600] = covered.get(second // 3600 * 3600, 0) + 300
    assert set(hourly(given_slots)) == {hour for hour, length in covered.items() if length >= 1800}


@given(slots(), st.integers(1, 4))
def test_splitting_slots_changes_nothing(given_slots: list[Slot], parts: int) -> None:
    """A value for an hour is the same as that value for each part of it."""
    split = [
        Slot(slot.start_s + n * slot.length_s / parts, slot.length_s / parts, slot.kgco2e_per_kwh)
        for slot in given_slots
        for n in range(parts)
    ]
    whole, fine = hourly(given_slots), hourly(split)
    assert whole.keys() == fine.keys()
    assert all(abs(whole[hour].kgco2e_per_kwh - fine[hour].kgco2e_per_kwh) < 1e-12 for hour in whole)


def test_a_slot_that_lies_in_two_hours_counts_in_both_and_estimates_are_told() -> None:
    """By its part: 10:30 to 11:30 is half of each."""
    assert hourly([Slot(1800, 3600, 0.2), Slot(5400, 1800, 0.4, estimated=True)]) == {
        0: Hour(0.2, estimated=False),
        3600: Hour(0.3, estimated=True),
    }
