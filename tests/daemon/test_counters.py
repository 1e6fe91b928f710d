"""From two readings to an energy: wraps, resets, blips, gaps, and what cannot be known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import Counter
from jobimpact.core.units import NS
from jobimpact_daemon.counters import CEILING_W, Baseline, Step, compare
from jobimpact_daemon.metering import STUCK_NS

MAX_UJ = 262_143_328_850
MAX_W = 375.0
powers = st.lists(st.tuples(st.integers(0, 375_000_000), st.integers(NS // 100, 60 * NS)), min_size=1, max_size=30)


def walk(
    start: int, steps: list[tuple[int, int]], max_uj: int | None, max_w: float | None
) -> tuple[int, int, set[str]]:
    """The measured and the true energy of (microwatts, nanoseconds) steps, and the verdicts on the way."""
    true = t_ns = measured = 0
    base = Baseline(start, 0)
    verdicts = set()
    for uw, dt_ns in steps:
        true += uw * dt_ns // NS
        t_ns += dt_ns
        now = Counter((start + true) % max_uj if max_uj else start + true, max_uj, None, max_w)
        step = compare(base, now, t_ns)
        verdicts.add(step.verdict)
        measured += step.uj or 0
        if step.verdict != "still" or t_ns - base.t_ns >= STUCK_NS:
            base = Baseline(now.uj, t_ns)
    return measured, true, verdicts


@given(start=st.integers(0, MAX_UJ - 1), steps=powers)
def test_a_wrap_is_invisible_for_any_number_of_ticks(start: int, steps: list[tuple[int, int]]) -> None:
    """Law 3: what is measured over any ticks is what was used, wherever the counter stood."""
    measured, true, verdicts = walk(start, steps, MAX_UJ, MAX_W)
    assert measured == true
    assert verdicts <= {"still", "counted", "wrapped"}


@given(steps=powers, data=st.data())
def test_a_wrap_is_invisible_for_any_range_that_a_tick_cannot_cross_twice(
    steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Law 3: the range may be as small as what the domain can draw in the longest interval."""
    longest = max(dt_ns for _, dt_ns in steps)
    max_uj = data.draw(st.integers(round(2 * MAX_W * (longest + NS // 4) / 1000) + 2, 1 << 62))
    start = data.draw(st.integers(0, max_uj - 1))
    measured, true, _ = walk(start, steps, max_uj, MAX_W)
    assert measured == true


@given(steps=powers, max_uj=st.integers(1, 10**11), start=st.integers(0, 10**11))
def test_any_range_at_all_never_invents_energy(steps: list[tuple[int, int]], max_uj: int, start: int) -> None:
    """Law 3: a range that an interval can cross more than once gives an unknown interval, never a wrong one."""
    true = t_ns = 0
    base = Baseline(start % max_uj, 0)
    for uw, dt_ns in steps:
        used = uw * dt_ns // NS
        true, t_ns = true + used, t_ns + dt_ns
        step = compare(base, Counter((start + true) % max_uj, max_uj, None, MAX_W), t_ns)
        assert step.uj in (used, None)
        assert step.verdict != "still" or used == 0
        base = Baseline((start + true) % max_uj, t_ns)


@given(
    base=st.integers(0, MAX_UJ - 1),
    now=st.integers(0, MAX_UJ - 1),
    dt_ns=st.integers(1, 3600 * NS),
    max_uj=st.sampled_from([None, MAX_UJ]),
    epochs=st.tuples(st.sampled_from([None, "a"]), st.sampled_from([None, "a", "b"])),
)
def test_no_reading_ever_means_more_than_the_domain_can_draw(
    base: int, now: int, dt_ns: int, max_uj: int | None, epochs: tuple[str | None, str | None]
) -> None:
    """Law 3: whatever two values say, a reset never becomes energy that no hardware can have used."""
    step = compare(Baseline(base, 0, epochs[0]), Counter(now, max_uj, epochs[1], MAX_W), dt_ns)
    assert step.uj is None or 0 <= step.uj <= MAX_W * (dt_ns + NS // 4) / 1000 + 1
    if epochs == ("a", "b"):
        assert (step.verdict, step.uj) == ("reset", None)


@given(base=st.integers(1000, MAX_UJ - 1), fall=st.integers(1, 1000), rise=st.integers(0, 300_000_000))
def test_a_blip_heals(base: int, fall: int, rise: int) -> None:
    """Law 3: a counter that falls for one reading and comes back has lost and invented nothing."""
    held = compare(Baseline(base, 0), Counter(base - fall, MAX_UJ, None, MAX_W), NS)
    assert (held.verdict, held.uj) == ("held", None)
    suspected = Baseline(base, 0, suspect_uj=base - fall, suspect_t_ns=NS)
    if base + rise < MAX_UJ:
        healed = compare(suspected, Counter(base + rise, MAX_UJ, None, MAX_W), 2 * NS)
        assert (healed.verdict, healed.uj) == ("healed", rise)


def test_a_reset_counts_from_the_first_low_value() -> None:
    """A counter that stays low was reset: the energy since its first low value is known, that before it is not."""
    suspected = Baseline(10**10, 0, suspect_uj=5_000, suspect_t_ns=NS)
    step = compare(suspected, Counter(200_005_000, MAX_UJ, None, MAX_W), 2 * NS)
    assert (step.verdict, step.uj, step.after_suspect) == ("reset", 200_000_000, True)


def test_a_counter_that_never_wraps_is_reset_by_any_fall() -> None:
    """NVML counts since the driver was loaded: a fall is a reload."""
    step = compare(Baseline(10**12, 0), Counter(5, None, None, MAX_W), NS)
    assert (step.verdict, step.uj) == ("reset", None)


def test_the_first_reading_says_nothing_yet() -> None:
    """What a counter held before it was first looked at is nobody's."""
    step = compare(None, Counter(10**12), NS)
    assert (step.verdict, step.uj) == ("first", None)


def test_an_impossible_rise_is_a_jump() -> None:
    """A rise that the hardware cannot have made is not believed."""
    step = compare(Baseline(0, 0), Counter(10**12, None, None, MAX_W), NS)
    assert (step.verdict, step.uj) == ("jump", None)


@pytest.mark.parametrize("max_uj", [None, MAX_UJ])
def test_a_sensor_that_stood_still_catches_up(max_uj: int | None) -> None:
    """After nine still seconds at 300 W the counter shows 3 kJ at once, and they are counted."""
    base = Baseline(1_000, 0)
    for second in range(1, 10):
        assert compare(base, Counter(1_000, max_uj, None, MAX_W), second * NS) == Step("still", None)
    step = compare(base, Counter(3_000_001_000, max_uj, None, MAX_W), 10 * NS)
    assert (step.verdict, step.uj) == ("counted", 3_000_000_000)


def test_a_rise_is_no_energy_that_nothing_can_draw() -> None:
    """A source that does not tell its limit still cannot be a power station."""
    assert compare(Baseline(0, 0), Counter(10**12), NS, CEILING_W["gpu"]) == Step("jump", None)
    assert compare(Baseline(0, 0), Counter(700 * 10**6), NS, CEILING_W["gpu"]) == Step("counted", 700 * 10**6)


def test_standing_still_where_the_whole_range_may_have_passed_is_not_known() -> None:
    """The same value after time for a whole round may be none or one of them."""
    assert compare(Baseline(5, 0), Counter(5, 10**9, None, 100.0), 20 * NS) == Step("ambiguous", None)


def test_a_gap_that_may_hold_two_wraps_is_unknown() -> None:
    """After an hour at up to 375 W the counter may have wrapped any of five times: no guess is made."""
    step = compare(Baseline(0, 0), Counter(10**11, MAX_UJ, None, MAX_W), 3600 * NS)
    assert (step.verdict, step.uj) == ("ambiguous", None)
