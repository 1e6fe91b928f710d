"""Busy times of processes on shared GPUs, from samples and from presence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobimpact_daemon.sources.gpu_use import BusyTimes, Sample

MS = 1_000_000
WALL_US = 1_700_000_000_000_000
PERCENT = st.integers(0, 100)


def at(ms: int) -> tuple[int, int]:
    """A boot time in ns and the wall clock's in us, so many milliseconds after the start."""
    return 10**12 + ms * MS, WALL_US + ms * 1000


@given(st.lists(st.tuples(st.integers(1, 900), PERCENT, PERCENT), min_size=1, max_size=30), st.integers(0, 900))
def test_samples_without_gaps_add_up_exactly(steps: list[tuple[int, int, int]], late: int) -> None:
    """Whenever the driver is asked, each stretch of time counts once, with its own utilisation."""
    times, ms, truth = BusyTimes(), 0, {1: 0, 2: 0}
    times.add_samples("GPU-a", [], *at(0))
    for length, one, two in steps:
        ms += length
        for pid, percent in ((1, one), (2, two)):
            truth[pid] += length * MS * percent // 100
        samples = [Sample(pid, WALL_US + ms * 1000, percent) for pid, percent in ((1, one), (2, two))]
        times.add_samples("GPU-a", samples, *at(ms + min(late, length - 1)))
    assert times.told()["GPU-a"] == truth


ANY = st.builds(Sample, st.integers(1, 3), st.integers(WALL_US - 10**10, WALL_US + 10**10), st.integers(0, 2**32 - 1))


@given(st.lists(st.tuples(st.integers(0, 5000), st.lists(ANY, max_size=8)), max_size=20))
def test_whatever_a_driver_tells_time_only_passes_once(readings: list[tuple[int, list[Sample]]]) -> None:
    """Impossible samples, any order, any stamps: busy times never fall, and stay within what has passed."""
    times, ms, before = BusyTimes(), 0, {}
    times.add_samples("GPU-a", [], *at(0))
    for length, samples in readings:
        ms += length
        times.add_samples("GPU-a", samples, *at(ms))
        now = times.told()["GPU-a"]
        for pid, ns in now.items():
            assert 0 <= ns - before.get(pid, 0) <= length * MS + 1_000_000_000
        before = now


def test_an_idle_process_is_not_busy_for_the_time_before_its_sample() -> None:
    """After a minute with nothing new, a sample stands for the time since the last reading."""
    times = BusyTimes()
    for ms in range(0, 60_001, 1000):
        times.add_samples("GPU-a", [], *at(ms))
    times.add_samples("GPU-a", [Sample(1, WALL_US + 61_000_000, 50)], *at(61_000))
    assert times.told() == {"GPU-a": {1: 500 * MS}}


def test_the_driver_is_asked_for_what_came_after_the_newest_stamp() -> None:
    """In microseconds; from now on where nothing was seen, and never from the future, which a clock step makes."""
    times = BusyTimes()
    assert times.since_us("GPU-a", WALL_US) == WALL_US
    times.add_samples("GPU-a", [], *at(0))
    times.add_samples("GPU-a", [Sample(1, WALL_US + 700_000, 50), Sample(2, WALL_US + 900_000, 50)], *at(1000))
    assert times.since_us("GPU-a", WALL_US + 1_000_000) == WALL_US + 900_000
    assert times.since_us("GPU-a", WALL_US - 5_000_000) == WALL_US - 5_000_000


@given(st.lists(st.tuples(st.integers(0, 9000), st.sets(st.integers(1, 4))), max_size=20))
def test_presence_counts_in_full(readings: list[tuple[int, set[int]]]) -> None:
    """Who is there at a reading has been there since the last; one that was dropped and is back begins anew."""
    times, ms, truth, before = BusyTimes(), 0, dict.fromkeys(range(1, 5), 0), {}
    times.add_present("MIG-1", [], at(0)[0])
    summed = dict.fromkeys(range(1, 5), 0)
    for length, pids in readings:
        ms += length
        times.add_present("MIG-1", pids, at(ms)[0])
        now = times.told()["MIG-1"]
        for pid in pids:
            truth[pid] += length * MS
            summed[pid] += now[pid] - before.get(pid, 0)
        before = now
    assert summed == truth


def test_time_without_a_watch_is_nobodys() -> None:
    """What was known stays; the gap does not count."""
    times = BusyTimes()
    for ms in (0, 1000):
        times.add_present("MIG-1", [7], at(ms)[0])
    times.leave(set())
    for ms in (50_000, 51_000):
        times.add_present("MIG-1", [7], at(ms)[0])
    assert times.told() == {"MIG-1": {7: 2000 * MS}}


def test_a_process_that_is_listed_no_more_is_dropped_after_a_while() -> None:
    """The dead must not be told for ever, nor be forgotten before their last samples have come."""
    times = BusyTimes()
    for ms in range(0, 60_001, 1000):
        samples = [Sample(7, WALL_US + ms * 1000 - 100_000, 50)] if 1000 <= ms <= 5000 else []
        times.add_samples("GPU-a", samples, *at(ms))
        times.add_present("MIG-1", [8] if ms <= 5000 else [], at(ms)[0])
        listed = 1000 <= ms <= 15_000  # ten seconds
        assert list(times.told()["GPU-a"]) == ([7] if listed else [])
        assert list(times.told()["MIG-1"]) == ([8] if ms <= 15_000 else [])


def test_a_process_on_a_gpu_that_is_watched_no_more_is_dropped() -> None:
    """Its device is not read any more, others are."""
    times = BusyTimes()
    for ms in (0, 1000):
        times.add_present("MIG-1", [7], at(ms)[0])
    times.leave(set())
    times.add_present("MIG-2", [8], at(12_000)[0])
    assert times.told() == {"MIG-1": {}, "MIG-2": {8: 0}}
