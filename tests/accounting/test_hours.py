"""Energy by hour: of runs, and of what no job had."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.accounting.world import NS, T0, World
from tests.daemon.books import WALL, Json, end, line, start, use
from tests.daemon.test_held import keep

from jobimpact.core.records import HourShares, RunEnergy
from jobimpact.energy.local import LocalEnergy

HOUR = 3600
H0 = T0 // HOUR * HOUR
FULL = H0 + HOUR - T0
"""Seconds from T0 to the next full hour: 100."""


def run_of(world: World, job: str = "1") -> RunEnergy:
    """The one run of a job."""
    with LocalEnergy(world.folder / "nodes") as energy:
        ((run,), unread) = energy.runs_of(job)
    assert unread == []
    return run


def free(world: World, from_s: float = 0.0, to_s: float = 1e11) -> list[HourShares]:
    """What no job had."""
    with LocalEnergy(world.folder / "nodes") as energy:
        found, unread = energy.idle_hours(from_s, to_s)
    assert unread == []
    return found


def joules(run: RunEnergy) -> list[float]:
    """By hour."""
    return [uj / 1e6 for _, uj in run.hours]


def test_a_run_within_an_hour_needs_no_points(tmp_path: Path) -> None:
    """All of its energy is that hour's, though it ends with it."""
    world = World(tmp_path)
    world.node().measured(start=0, end=float(FULL))
    assert run_of(world).hours == ((H0, 5000 * 10**6),)


def test_energy_between_two_points_comes_evenly(tmp_path: Path) -> None:
    """A point 20 s before the full hour and one 40 s after it: a third of what came between is before it."""
    world = World(tmp_path)
    node = world.node()
    node.measured(start=0, end=FULL + 200.0, joules=5000)
    for at, uj, known_s in ((0, 0, 0), (FULL - 20, 800, 80), (FULL + 40, 1400, 140), (FULL + 200, 5000, 300)):
        node.point("1", at, uj, known_s=known_s)
    assert run_of(world).hours == ((H0, 1000 * 10**6), (H0 + HOUR, 4000 * 10**6))


def test_domains_are_summed_and_the_meter_of_the_whole_is_none(tmp_path: Path) -> None:
    """A CPU and the rest, which is settled at the end; a domain that is not known has no part, whatever it holds."""
    world = World(tmp_path)
    node = world.node().redfish()
    node.domain()
    node.domain("dram-0", "dram")
    run = node.run(start=0, end=FULL + 100.0)
    node.charge(run, joules=2000, known_s=200)
    node.charge(run, "dram-0", 7, known_s=0)
    node.settle({run: 4000}, known_s=200)
    node.charge(run, "node:redfish", 6000)
    for domain, total in (("package-0", 2000), ("rest", 4000), ("node:redfish", 6000)):
        node.point(run, 0, 0, domain)
        node.point(run, FULL + 100, total, domain, known_s=200)
    assert joules(run_of(world)) == [3000, 3000]


def test_an_outage_that_a_counter_bridged_is_spread(tmp_path: Path) -> None:
    """Not read for two hours, and then all of it at once: an even part to each hour, and to the minute after it."""
    world = World(tmp_path)
    node = world.node()
    node.measured(start=0, end=FULL + 3.0 * HOUR, joules=(FULL + 3 * HOUR) * 10, known_s=FULL + 3 * HOUR)
    for at in range(0, FULL + 3 * HOUR + 1, 50):
        seen = at if at <= FULL or at >= FULL + 2 * HOUR else FULL
        node.point("1", at, seen * 10, known_s=seen)
    assert joules(run_of(world)) == [1000, 36_000, 36_000, 36_000]


def test_an_outage_that_nothing_bridged_has_no_energy(tmp_path: Path) -> None:
    """A gauge that was silent for two hours: they are zero in the sum, as they are in the ledger."""
    world = World(tmp_path)
    node = world.node()
    node.measured(start=0, end=FULL + 3.0 * HOUR, joules=(FULL + HOUR) * 10, known_s=FULL + HOUR)
    for at in range(0, FULL + 3 * HOUR + 1, 50):
        seen = min(at, FULL) + max(at - FULL - 2 * HOUR, 0)
        node.point("1", at, seen * 10, known_s=seen)
    assert joules(run_of(world)) == [1000, 0, 0, 36_000]


@pytest.mark.parametrize("first", [None, FULL + 2 * HOUR])
def test_hours_without_points_are_not_known(tmp_path: Path, first: int | None) -> None:
    """None at all, or only the tail that retention has left: empty, and not a guess."""
    world = World(tmp_path)
    node = world.node().measured(start=0, end=FULL + 3.0 * HOUR)
    if first is not None:
        node.point("1", first, 4000, known_s=50)
        node.point("1", FULL + 3 * HOUR, 5000, known_s=100)
    assert run_of(world).hours == ()


def test_a_run_of_which_nothing_is_known_has_no_hours(tmp_path: Path) -> None:
    """Not zero."""
    world = World(tmp_path)
    world.node().measured(known_s=0.0, joules=0)
    assert run_of(world).hours == ()


def test_an_open_run_has_hours_as_far_as_it_got(tmp_path: Path) -> None:
    """What came since its last point is the last hour's."""
    world = World(tmp_path)
    node = world.node()
    node.measured(start=FULL - 10.0, end=None, joules=500)  # 50 s so far
    node.point("1", FULL - 10, 0)
    node.point("1", FULL + 30, 400, known_s=40)
    assert joules(run_of(world)) == [100, 400]


@pytest.mark.parametrize("start_s", [9e999, -9e999])
def test_a_run_that_starts_nowhere_has_no_hours(tmp_path: Path, start_s: float) -> None:
    """No time is counted from there."""
    world = World(tmp_path)
    node = world.node().measured()
    node.db.execute("UPDATE run SET start_s = ?", (start_s,))
    assert run_of(world).hours == ()
    node.db.execute("UPDATE run SET end_s = NULL")
    assert run_of(world).hours == ()


@pytest.mark.parametrize("end_s", [1e9, 100.0])
def test_a_clock_that_stepped_in_mid_run_leaves_the_hours_unknown(tmp_path: Path, end_s: float) -> None:
    """A start in 1970: half a million hours are not gone through."""
    world = World(tmp_path)
    node = world.node()
    node.measured(start=-T0 + 1.0, end=end_s, known_s=100.0)
    node.db.execute("UPDATE run SET elapsed_ns = ?", (100 * NS,))
    node.point("1", -T0 + 1, 0)
    node.point("1", 100, 5000, known_s=100)
    assert run_of(world).hours == ()


POINTS = st.lists(st.tuples(st.floats(-9000, 40_000), st.integers(-5, 10**13), st.integers(-5, 10**14)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    start=st.floats(-8000, 8000),
    lasts=st.floats(0, 30_000),
    charged=st.lists(st.tuples(st.integers(0, 10**13), st.sampled_from([0.0, 1.0])), min_size=1, max_size=3),
    points=POINTS,
    is_open=st.booleans(),
)
def test_the_hours_sum_to_the_ledger(
    start: float, lasts: float, charged: list[tuple[int, float]], points: list[tuple[float, int, int]], is_open: bool
) -> None:
    """To the microjoule and never negative, one for each hour of the run, whatever the points say."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        node = world.node()
        run = node.run(start=start, end=start + lasts)
        if is_open:
            node.db.execute("UPDATE run SET end_s = NULL, state = 'open'")
        for number, (uj, known_s) in enumerate(charged):
            node.domain(f"package-{number}")
            node.charge(run, f"package-{number}", uj / 1e6, known_s)
        rows = {(run, f"package-{i % 2}", T0 + at): (uj, ns) for i, (at, uj, ns) in enumerate(points)}
        node.db.executemany(
            "INSERT INTO job_energy VALUES (?, ?, ?, ?, ?)", [(*key, *row) for key, row in rows.items()]
        )
        found = run_of(world)
        node.db.close()
    known = [one for one in found.domains if one.known_ns]
    if found.hours:
        assert sum(uj for _, uj in found.hours) == sum(one.uj for one in known)
        assert min(uj for _, uj in found.hours) >= 0
        first = (T0 + start) // HOUR * HOUR
        assert [hour for hour, _ in found.hours] == [first + i * HOUR for i in range(len(found.hours))]
        assert found.hours[-1][0] <= T0 + start + lasts
    else:
        assert not known or (T0 + start) // HOUR != (T0 + start + lasts) // HOUR


def empty_node(world: World, hours: float, *, without: range = range(0), step: int = 60) -> None:
    """A node with a point of idle and system each minute from H0 on: 100 and 10 W; none in some of the minutes."""
    node = world.node()
    node.domain()
    for at in range(0, round(hours * HOUR) + 1, step):
        if at // 60 not in without:
            for holder, watts in (("idle", 100), ("system", 10)):
                node.point(holder, H0 - T0 + at, at * watts, known_s=at)


def test_idle_and_system_by_hour(tmp_path: Path) -> None:
    """Full hours within the time that is asked for."""
    world = World(tmp_path)
    empty_node(world, 3.5)
    hour = {"cpu": 360_000 * 10**6}, {"cpu": 36_000 * 10**6}
    every = [HourShares("node01", H0 + i * HOUR, *hour) for i in range(3)]
    assert free(world) == free(world, H0, H0 + 3 * HOUR) == every
    assert free(world, H0 + 1, H0 + 3 * HOUR - 1) == every[1:2]
    assert free(world, H0 + 1, H0 + HOUR) == free(world, 5.0, 4.0) == free(world, float("nan"), 1e10) == []
    assert free(world, float("-inf"), float("inf")) == every


def test_an_hour_that_the_points_do_not_reach_is_left_out(tmp_path: Path) -> None:
    """Nine minutes without points around a full hour do no harm; an hour and more leaves two hours unknown."""
    world = World(tmp_path)
    empty_node(world, 5, without=range(55, 65))
    assert len(free(world)) == 5
    (tmp_path / "2").mkdir()
    world = World(tmp_path / "2")
    empty_node(world, 5, without=range(65, 176))
    assert [(one.start_s - H0) // HOUR for one in free(world)] == [0, 3, 4]


def test_a_kind_that_was_not_metered_in_an_hour_is_not_in_it(tmp_path: Path) -> None:
    """Points that know of no more time are no zero."""
    world = World(tmp_path)
    empty_node(world, 3)
    node = world.node()
    node.domain("dram-0", "dram")
    for at in range(0, 3 * HOUR + 1, 60):
        node.point("idle", H0 - T0 + at, min(at, HOUR), "dram-0", known_s=min(at, HOUR))
    assert [set(one.idle_uj) for one in free(world)] == [{"cpu", "dram"}, {"cpu"}, {"cpu"}]
    assert free(world)[0].system_uj == {"cpu": 36_000 * 10**6, "dram": 0}


def test_what_system_had_before_its_first_point_is_not_lost(tmp_path: Path) -> None:
    """It has none until it has something; but what a file of before had at its first point is of no hour."""
    world = World(tmp_path)
    node = world.node()
    node.domain()
    for at in range(0, 2 * HOUR + 1, 60):
        node.point("idle", H0 - T0 + at, 10**6 + at, known_s=10**5 + at)
        if at > HOUR:
            node.point("system", H0 - T0 + at, at - HOUR, known_s=10**5 + at)
    assert [(one.idle_uj, one.system_uj) for one in free(world)] == [
        ({"cpu": HOUR * 10**6}, {"cpu": 0}),
        ({"cpu": HOUR * 10**6}, {"cpu": HOUR * 10**6}),
    ]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """The other nodes answer."""
    world = World(tmp_path)
    empty_node(world, 1)
    (tmp_path / "nodes" / "node02.sqlite").write_text("no database" * 99)
    with LocalEnergy(tmp_path / "nodes") as energy:
        found, unread = energy.idle_hours(0, 1e11)
    assert len(found) == 1
    assert "node02.sqlite" in unread[0]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE run SET held = '{'",
        "UPDATE run SET held = '{\"gpu\": -1}'",
        'UPDATE run SET held = \'{"gpu": "all"}\'',
        "UPDATE run SET start_s = 'yesterday'",
    ],
)
def test_a_damaged_run_is_an_error_with_the_file_s_name(tmp_path: Path, damage: str) -> None:
    """What it held is no JSON, or no number; its start is no time."""
    world = World(tmp_path)
    world.node().measured().db.execute(damage)
    with LocalEnergy(tmp_path / "nodes") as energy:
        found, unread = energy.runs_of("1")
    assert found == []
    assert "node01.sqlite" in unread[0]


WATTS = (100, 200, 200)
"""Of the package, in each of three hours; GPU a takes 300 W, GPU b 70, and the node's meter sees 300 W more."""


def three_hours(*, meter: bool) -> list[Json]:
    """A node read every 10 s; the daemon is dead around a full hour, and a GPU cannot be read around another."""
    marks = {
        600: [start(600, "1", cpus=2, gpus=["a"])],
        3_000: [start(3_000, "2", cpus=1, gpus=["MIG-3"]), start(3_000, "3", cpus=1)],
        3_580: [end(3_580, "3")],
        7_250: [end(7_250, "2")],
        9_000: [end(9_000, "1")],
    }
    size = {"cpus": 4, "mem_bytes": 4 << 30, "gpus": ["a", "b"], "slices": {"MIG-3": {"gpu": "b", "parts": 3}}}
    lines = [line(0, boot="b", node=size)]
    for t in range(0, 3 * HOUR + 121, 10):
        lines += marks.get(t, [])
        if 6_900 < t < 7_500:
            continue
        gpus: Json = {"gpu:a": {"uj": t * 300 * 10**6}, "gpu:b": {"uj": t * 70 * 10**6}}
        if 3_100 < t < 4_300:
            gpus["gpu:b"] = {"failed": "lost for a while"}
        read: Json = {"rapl": {"package-0": {"uj": (100 * t + 100 * max(0, t - HOUR)) * 10**6}}, "nvml": gpus}
        if meter:
            read["redfish"] = {"node": {"w": 670.0 + WATTS[min(t // HOUR, 2)]}}
        cpu_s = {job: t - begin for job, begin, ends in (("j1", 600, 9_000), ("j2", 3_000, 7_250)) if begin < t < ends}
        lines.append(line(t, read=read, usage=use(t * 2, **cpu_s)))
    return lines


@pytest.mark.parametrize("meter", [False, True])
def test_jobs_idle_and_system_of_an_hour_are_what_was_measured(tmp_path: Path, meter: bool) -> None:
    """Law 1 by hour, from the real books: within a minute's power where a job begins or ends near a full hour."""
    keep(tmp_path, three_hours(meter=meter))
    with LocalEnergy(tmp_path) as energy:
        runs = [run for job in "123" for run in energy.runs_of(job)[0]]
        shares, _ = energy.idle_hours(WALL, WALL + 3 * HOUR)
        rest_s = sum(one.known_s for one in energy.books()[0] if one.kind == "rest")
    hours = dict.fromkeys((int(WALL) + i * HOUR for i in range(3)), 0)
    for run in runs:
        for hour, uj in run.hours:
            hours[hour] += uj
    for one in shares:
        hours[one.start_s] += sum(one.idle_uj.values()) + sum(one.system_uj.values())
    parts_j = [(370 + watts) * HOUR for watts in WATTS]
    for uj, expected_j in zip(hours.values(), parts_j, strict=True):
        # A gauge says nothing of the time in which nobody asked: with a meter the rest of that is not known. While a
        # part cannot be read the rest waits: what a job that ended meanwhile had is spread over the others' wait.
        assert -10_000 < uj / 1e6 - expected_j < (HOUR * 300 + 20_000 if meter else 10_000)
    # The rest of the two minutes after the third hour is in none of them.
    assert sum(hours.values()) / 1e6 == pytest.approx(sum(parts_j) + 300 * (rest_s and rest_s - 120), abs=10_000)
