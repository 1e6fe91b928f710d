"""The curve, the sensor and the counter: exact in Python, and the same integers in C."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.curve import Counter, Curve, Event, Kind, Sensor, blip, reset, stuck, watts
from tests.fakes.rig import NoCompilerError, build

S = 1_000_000_000
PATTERNS = st.lists(st.tuples(st.integers(1, 5 * S), st.integers(0, 2_000_000_000)), min_size=1, max_size=5)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """A curve with up to three later phases, from a boot time of up to a year."""
    t0 = draw(st.integers(0, 365 * 86400 * S))
    gaps = draw(st.lists(st.integers(1, 20 * S), max_size=3))
    starts = [t0 + sum(gaps[: i + 1]) for i in range(len(gaps))]
    return Curve(t0, draw(PATTERNS), [(start, draw(PATTERNS)) for start in starts])


@st.composite
def events(draw: st.DrawFn, t0: int) -> Event:
    start = t0 + draw(st.integers(0, 60 * S))
    kind = draw(st.sampled_from(list(Kind)))
    return Event(kind, start, start + draw(st.integers(0, 10 * S)), draw(st.integers(0, 10**9)))


@st.composite
def counters(draw: st.DrawFn) -> Counter:
    """A counter of any unit, wrap, sensor and events."""
    curve = draw(curves())
    sensor = Sensor(draw(st.integers(1, S)), draw(st.integers(0, S)))
    modulus = draw(st.one_of(st.just(0), st.integers(1, 10**11)))
    happens = tuple(draw(st.lists(events(curve.t0_ns), max_size=4)))
    return Counter(curve, draw(st.integers(0, 10**12)), modulus, sensor, happens, draw(st.sampled_from([1, 1000])))


@given(curve=curves(), after=st.lists(st.integers(0, 100 * S), min_size=3, max_size=3))
def test_energy_is_the_exact_integral(curve: Curve, after: list[int]) -> None:
    """Energy never falls, adds up over intervals, and is the sum of its segments to the microjoule."""
    a, b, c = (curve.t0_ns + t for t in sorted(after))
    assert curve.between(a, b) + curve.between(b, c) == curve.between(a, c)
    assert curve.between(a, b) >= 0
    assert curve.energy_uj(c) == walk(curve, c) // 1


def walk(curve: Curve, t_ns: int) -> Fraction:
    """The slow way: one segment after the other, to at most a few thousand."""
    total, phases = Fraction(0), curve.phases
    for i, phase in enumerate(phases):
        end = min([t_ns, *(p.start_ns for p in phases[i + 1 : i + 2])])
        span = max(0, end - phase.start_ns)
        whole = span // phase.cycle_ns
        total += Fraction(whole * sum(d * level for d, level in phase.pattern), S)
        now = phase.start_ns + whole * phase.cycle_ns
        for duration, level in phase.pattern:
            total += Fraction(max(0, min(end, now + duration) - now) * level, S)
            now += duration
    return total


def test_power_follows_the_pattern_and_its_phases() -> None:
    """The level repeats cyclically from the origin, is 0 before it, and a phase replaces the pattern."""
    curve = Curve(10 * S, watts((1, 100), (2, 50)), [(20 * S, watts((1, 7)))])
    times = [9.9, 10, 10.99, 11, 12.99, 13, 19.99, 20, 30]
    assert [curve.power_uw(round(t * S)) // 10**6 for t in times] == [0, 100, 100, 50, 50, 100, 100, 7, 7]
    assert curve.energy_uj(20 * S) == (3 * 200 + 100) * 10**6


def test_a_curve_refuses_nonsense() -> None:
    """Empty or negative patterns and phases out of order are errors."""
    for pattern, phases in (([], []), ([(0, 1)], []), ([(1, -1)], []), ([(1, 1)], [(5, [(1, 1)])])):
        with pytest.raises(ValueError, match=r"pattern|phases"):
            Curve(5, pattern, phases)


def test_a_counter_wraps_resets_sticks_and_blips() -> None:
    """One microjoule a microsecond makes every event's value plain."""
    one = Counter(Curve.flat(0, 1_000_000), start=90, modulus=100, sensor=Sensor(refresh_ns=1000))
    assert [one.raw(us * 1000) for us in (0, 9, 10, 11, 110)] == [90, 99, 0, 1, 0]
    assert one.raw(9_999) == 99, "the sensor shows its last refresh"
    assert Counter(one.curve, sensor=Sensor(1000, 3000)).raw(10_000) == 7, "a lagging sensor shows the past"
    again = one.with_events(reset(20_000))
    assert [again.raw(us * 1000) for us in (19, 20, 25)] == [9, 0, 5]
    assert [one.with_events(stuck(3_000, 5_000)).raw(us * 1000) for us in (3, 4, 5)] == [93, 93, 95]
    assert [one.with_events(blip(3_000, 5_000, 50)).raw(us * 1000) for us in (2, 3, 5)] == [92, 43, 95]


@settings(max_examples=60, deadline=None)
@given(
    given_counters=st.lists(counters(), min_size=1, max_size=4),
    after=st.lists(st.integers(0, 90 * S), min_size=1, max_size=20),
)
def test_c_gives_the_same_integers(
    tmp_path_factory: pytest.TempPathFactory, given_counters: list[Counter], after: list[int]
) -> None:
    """Whatever the curve, wrap, reset, lag and refresh, C and Python agree to the last unit."""
    times = [one.curve.t0_ns + t for one in given_counters for t in after]
    expected = [[one.raw(t) for one in given_counters] for t in times]
    assert evaluate(tmp_path_factory.getbasetemp() / "eval.script", given_counters, times) == expected


def evaluate(script: Path, given_counters: list[Counter], times: list[int]) -> list[list[int]]:
    """Every counter at every time, by powerrig itself."""
    try:
        program = build().powerrig
    except NoCompilerError as error:
        pytest.skip(str(error))
    script.write_text("\n".join(f"counter unused {one.text()}" for one in given_counters))
    asked = "\n".join(map(str, times))
    done = subprocess.run([program, "--eval", script], input=asked, capture_output=True, text=True, check=True)
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
