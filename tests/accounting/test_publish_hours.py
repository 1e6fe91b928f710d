"""Who a node's energy belonged to, hour by hour: from its points to a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.accounting.published import Site
from tests.accounting.world import INVENTORY, NS, T0, Node, World
from tests.stores.servers import Influx

from jobimpact.energy.local import LocalEnergy
from jobimpact.energy.node_hours import Commit, KindHour, NodeHours, spread
from jobimpact.nightly.night import account, recompute

HOUR = 3600
BEGIN = (T0 // HOUR + 1) * HOUR
"""A full hour: points are told in seconds after it."""


def commit(
    node: Node, at: float, known: float, domain: str = "package-0", watts: tuple[float, ...] = (6, 3, 1)
) -> None:
    """All that a node writes of a domain once a minute, where its jobs, idle and system drew so much all the time."""
    jobs, idle, system = (round(w * known * 1e6) for w in watts)
    known_ns = round(known * NS)
    for holder, uj in (("idle", idle), ("system", system)):
        row = (holder, domain, BEGIN + at, uj, known_ns)
        node.db.execute("INSERT INTO job_energy VALUES (?, ?, ?, ?, ?)", row)
    node.db.execute("INSERT INTO node_power VALUES (?, ?, ?, 0)", (domain, BEGIN + at, jobs + idle + system))


def hours(folder: Path, from_s: float = 0.0, to_s: float = BEGIN + 1e6) -> NodeHours:
    with LocalEnergy(folder) as energy:
        [found], unread = energy.node_hours(lambda _: from_s, to_s)
    assert unread == []
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("step", [60, 300, 3500])
def test_an_hour_is_the_difference_of_its_edges(world: World, step: int) -> None:
    """10 W for three hours, from the domain's first minute on: by minutes, and by the hour's edges alone."""
    node = world.node()
    node.domain()
    at = 0
    for at in (0, *range(step, 3 * HOUR, step), 3 * HOUR):
        commit(node, at, at)
    found = hours(world.folder / "nodes")
    assert found.to_s == BEGIN + at
    assert [(one.start_s - BEGIN, one.sums, one.known_part) for one in found.hours] == [
        (hour * HOUR, (21_600_000_000, 10_800_000_000, 3_600_000_000), 1.0) for hour in range(3)
    ]


def test_an_outage_that_a_counter_bridged_is_spread_and_another_is_not_known(world: World) -> None:
    """Silent from half past: at three, a counter has it all; a gauge has what it saw in the last ten minutes."""
    node = world.node()
    for domain, kind, later in (("package-0", "cpu", 3 * HOUR), ("rest", "rest", 1800 + 600)):
        node.domain(domain, kind)
        for at in range(0, 1801, 60):
            commit(node, at, at, domain)
        commit(node, 3 * HOUR, later, domain)
    found = {(one.kind, (one.start_s - BEGIN) // HOUR): one for one in hours(world.folder / "nodes").hours}
    assert [found["cpu", hour].sums for hour in range(3)] == [(21_600_000_000, 10_800_000_000, 3_600_000_000)] * 3
    assert [found["rest", hour].known_part for hour in range(3)] == [0.5, 0.0, pytest.approx(1 / 6)]
    assert found["rest", 1].sums is None
    assert found["rest", 2].sums == (3_600_000_000, 1_800_000_000, 600_000_000)


def test_the_kinds_of_a_node_are_summed_and_those_unread_count(world: World) -> None:
    """Two packages, of which one was never read in the second hour: half of it is known."""
    node = world.node()
    node.domain("package-0")
    node.domain("package-1", reason="failed: EIO")
    node.domain("gpu:GPU-a", "gpu", reason="absent: no such device")
    for at in range(0, 2 * HOUR + 1, 60):
        commit(node, at, at)
        if at <= HOUR:
            commit(node, at, at, "package-1")
        if at <= HOUR // 2:
            commit(node, at, at, "gpu:GPU-a")
    found = {(one.kind, (one.start_s - BEGIN) // HOUR): one for one in hours(world.folder / "nodes").hours}
    assert found["cpu", 0].sums == (43_200_000_000, 21_600_000_000, 7_200_000_000)
    assert (found["cpu", 0].known_part, found["cpu", 1].known_part) == (1.0, 0.5)
    assert found["gpu", 0].known_part == 0.5
    assert ("gpu", 1) not in found


def test_hours_within_a_time_are_those_of_the_whole(world: World) -> None:
    """Asked in pieces, a window at a time: the same hours."""
    node = world.node()
    node.domain()
    for at in range(0, 5 * HOUR + 1, 420):
        commit(node, at, at)
    commit(node, 9 * HOUR + 100, 9 * HOUR + 100)
    whole = hours(world.folder / "nodes").hours
    pieces: list[KindHour] = []
    for hour in range(12):
        pieces += hours(world.folder / "nodes", BEGIN + hour * HOUR, BEGIN + (hour + 1) * HOUR).hours
    assert tuple(one for one in whole if one.start_s < BEGIN + 5 * HOUR) == tuple(
        one for one in pieces if one.start_s < BEGIN + 5 * HOUR
    )


gaps = st.lists(
    st.tuples(st.integers(1, 20_000), st.integers(0, 20_000), *(st.integers(0, 10**12) for _ in range(3))),
    max_size=12,
)


@settings(deadline=None)
@given(st.integers(0, HOUR), gaps)
def test_hours_sum_to_what_was_booked(first: int, steps: list[tuple[int, int, int, int, int]]) -> None:
    """Whatever the gaps and what is known of them: not a microjoule more or less, and none in an hour of after."""
    at, known, sums = float(BEGIN + first), 10**15, (5, 6, 7)
    commits = [Commit(at, sums, known)]
    for lasted, grown, *more in steps:
        at, known = at + lasted, known + grown * NS
        sums = (sums[0] + more[0], sums[1] + more[1], sums[2] + more[2])
        commits.append(Commit(at, sums, known))
    found = spread(commits, BEGIN - HOUR, BEGIN + 300_000)
    whole = [sum(getattr(one, name) for one in found.values()) for name in ("jobs_uj", "idle_uj", "system_uj")]
    assert whole == [now - then for now, then in zip(sums, (5, 6, 7), strict=True)]
    assert sum(one.known_ns for one in found.values()) == known - 10**15
    assert all(BEGIN <= hour < at for hour in found)
    assert all(min(one.jobs_uj, one.idle_uj, one.system_uj, one.known_ns) >= 0 for one in found.values())


# -- published -------------------------------------------------------------------------------------------------------


def test_late_hours_are_rewritten_and_old_ones_stay(influx: Influx, tmp_path: Path) -> None:
    """A night, a node that delivers a day later than it wrote, and a recomputation: what is known then, once."""
    site = Site(tmp_path, influx, "hours")
    (tmp_path / "nodes.yaml").write_text(INVENTORY)
    node = site.node()
    node.domain()
    for at in range(0, 4200, 60):
        commit(node, at, at)
    account(site.config, BEGIN + 4500.0, BEGIN - HOUR)
    points = site.points("node_hour")
    assert [((one.stamp_ms // 1000 - BEGIN) // HOUR, one.fields) for one in points] == [
        (0, {"measured_j": 36_000.0, "jobs_j": 21_600.0, "idle_j": 10_800.0, "system_j": 3_600.0, "known_part": 1.0})
    ]
    assert points[0].tags == {"cluster": "lab", "node": "node01", "kind": "cpu"}
    # A day on nothing has come: the hour that had begun is told as far as it is known.
    account(site.config, BEGIN + 90_000.0)
    assert [one.fields["known_part"] for one in site.points("node_hour")] == [1.0, pytest.approx(540 / 3600)]
    before = site.points("node_hour")
    account(site.config, BEGIN + 90_000.0)
    assert site.points("node_hour") == before
    for at in (*range(4200, 7260, 60), 90_000):
        commit(node, at, at)
    account(site.config, BEGIN + 93_600.0)
    points = site.points("node_hour")
    assert [one.fields["known_part"] for one in points] == [1.0] * 25
    assert sum(one.fields["measured_j"] for one in points) == pytest.approx(900_000.0)
    recompute(site.config, BEGIN + 93_600.0, BEGIN, BEGIN + 90_000)
    assert site.points("node_hour") == points
