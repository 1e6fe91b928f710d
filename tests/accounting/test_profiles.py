"""Power over time and progress of the night's jobs, beside their rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.accounting.mirror_world import Day, MemoryReader, keep_day
from tests.accounting.world import T0, Node, World
from tests.bench.store_day import DayJob

from jobimpact.core.errors import StoreError
from jobimpact.core.records import Profile, Progress
from jobimpact.core.series import JOB_ENERGY
from jobimpact.energy.local import LocalEnergy
from jobimpact.energy.summary import summarise
from jobimpact.mirror.refresh import Mirror
from jobimpact.nightly.night import account, recompute
from jobimpact.nightly.profiles import MOST_S, ProfileKeeper
from jobimpact.nightly.segment import Job
from jobimpact.results.record import Entry, JobResult
from jobimpact.results.write import Results
from jobimpact.store.series import Row

from .world import record

NOW = T0 + 7200.0
KWH_J = 3.6e6


def kept(path: Path) -> dict[str, tuple[Profile | None, tuple[Progress, ...], float | None]]:
    """By key."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT key, profile, progress, energy_j FROM job_profile").fetchall()
    return {
        key: (
            None if profile is None else msgspec.json.decode(profile, type=Profile),
            msgspec.json.decode(progress, type=tuple[Progress, ...]),
            energy_j,
        )
        for key, profile, progress, energy_j in rows
    }


def joules_of(profile: Profile) -> float:
    lasting = [now - then for then, now in pairwise(profile.edges_s)]
    return sum(
        (watts or 0.0) * lasts for some in profile.watts.values() for watts, lasts in zip(some, lasting, strict=True)
    )


def large(world: World, job: str = "1", joules: float = 50_000.0, name: str = "node01") -> Node:
    """A job of 300 s: half of its energy in its first minute."""
    world.say(job, end=T0 + 300)
    node = world.node(name).measured(job, joules, start=0, end=300.0, known_s=300.0)
    for at, part in ((0, 0.0), (60, 0.5), (300, 1.0)):
        node.point(job, at, joules * part, known_s=at)
    return node


def test_the_night_keeps_power_over_time(tmp_path: Path) -> None:
    """Of a job that is worth it; a second night and a recomputation leave all as it is."""
    world = World(tmp_path)
    large(world)
    world.say("2")
    world.node().measured("2", 35_000.0)
    world.say("3")
    account(world.config, NOW)
    [(key, (profile, progress, energy_j))] = kept(world.results).items()
    assert (key, progress, energy_j) == (f"1@{T0}", (), 50_000.0)
    assert profile == Profile(float(T0), (0.0, 60.0, 300.0), {"cpu": (416.7, 104.2)})
    assert joules_of(profile) == pytest.approx(50_000, rel=1e-3)
    before = world.results.read_bytes()
    assert account(world.config, NOW).changed == 0
    assert recompute(world.config, NOW, T0, T0 + 400).changed == 0
    assert kept(world.results) == {key: (profile, (), 50_000.0)}
    assert len(world.results.read_bytes()) == len(before)


def test_what_a_killed_night_did_not_write_the_next_one_does(tmp_path: Path) -> None:
    """Rows were there, and their profiles were not."""
    world = World(tmp_path)
    large(world)
    account(world.config, NOW)
    before = kept(world.results)
    with sqlite3.connect(world.results) as db:
        db.execute("DELETE FROM job_profile")
    report = account(world.config, NOW)
    assert (report.changed, report.unchanged) == (0, 1)
    assert kept(world.results) == before


def test_energy_that_came_late_makes_another_profile(tmp_path: Path) -> None:
    """Its spans add up to what the row says."""
    world = World(tmp_path)
    node = large(world)
    account(world.config, NOW)
    node.domain("gpu:a", "gpu")
    node.charge("1", "gpu:a", 9000.0, 300.0)
    node.point("1", 300, 9000.0, "gpu:a", 300.0)
    account(world.config, NOW)
    [(profile, _, energy_j)] = kept(world.results).values()
    assert profile is not None
    assert energy_j == 59_000.0
    assert profile.watts["gpu"] == (30.0, 30.0)
    assert joules_of(profile) == pytest.approx(59_000, rel=1e-3)


def test_without_its_points_a_job_has_none(tmp_path: Path) -> None:
    """A line through five minutes would be invented; it is looked for once."""
    world = World(tmp_path)
    large(world).db.execute("DELETE FROM job_energy")
    account(world.config, NOW)
    assert kept(world.results) == {f"1@{T0}": (None, (), 50_000.0)}


def test_a_node_whose_file_is_gone_leaves_what_was_kept(tmp_path: Path) -> None:
    """So does one that is begun anew, and knows nothing of it."""
    world = World(tmp_path)
    large(world)
    account(world.config, NOW)
    before = kept(world.results)
    (tmp_path / "nodes" / "node01.sqlite").unlink()
    account(world.config, NOW)
    assert kept(world.results) == before


def test_progress_is_kept_of_small_jobs_too(tmp_path: Path) -> None:
    """With what all of its nodes had used by then; a later point is added, and nothing twice."""
    world = World(tmp_path)
    world.say(nodes=["node01", "node02"])
    for name in ("node01", "node02"):
        node = world.node(name).measured(joules=100.0, start=0, end=100.0)
        node.point("1", 0, 0)
        node.point("1", 100, 100.0, known_s=100.0)
    node.said("1", 50, 3, 40_000_000, acc=0.25)
    account(world.config, NOW)
    told = Progress(T0 + 50.0, 3, {"acc": 0.25}, 90_000_000)
    assert kept(world.results) == {f"1@{T0}": (None, (told,), None)}
    account(world.config, NOW)
    assert kept(world.results) == {f"1@{T0}": (None, (told,), None)}
    node.said("1", 75, 4)
    account(world.config, NOW)
    assert kept(world.results) == {f"1@{T0}": (None, (told, Progress(T0 + 75.0, 4)), None)}


# -- where a server is the store -------------------------------------------------------------------------------------

WALL = 1795208400.0
LASTS = 5400
SERVER = "store: {influxdb: {url: 'http://server.invalid:8086', path: books}}"


class Away(MemoryReader):
    """A server that has gone."""

    def rows(self, *_: Any, **__: Any) -> Iterator[Row]:
        self.asked += 1
        raise StoreError("no answer")


class Far:
    """A mirror of two nodes, jobs 1 (two nodes) and 2 and their rows, as a night has written them."""

    def __init__(self, folder: Path, nodes: Path, lines: list[str]) -> None:
        self.lines = lines
        self.near = LocalEnergy(nodes)
        with Mirror(self.reader(), folder / "books/mirror", "lab") as mirror:
            assert mirror.refresh(WALL - 10, WALL + LASTS + 100) == []
        (folder / "site").mkdir()
        config = f"cluster: lab\n{SERVER}\nresults: sqlite:///r.db\nscheduler: {{local: {{path: j}}}}\n"
        self.config = World(folder / "site", config).config
        self.energy = LocalEnergy(folder / "books/mirror")
        self.path = folder / "site/r.db"
        self.results = Results(self.config.results)
        self.jobs = [self._job("1", 60, 5000, ("n1", "n2")), self._job("2", 120, 3000, ("n1",))]
        self.results.write([_entry(job) for job in self.jobs], NOW)

    def reader(self) -> MemoryReader:
        return MemoryReader(self.lines)

    def _job(self, job: str, start: float, end: float, nodes: tuple[str, ...]) -> Job:
        said = record(job, nodes=nodes, start_s=WALL + start, end_s=WALL + end, elapsed_s=end - start)
        energy = self.energy.job_energy(said)
        return Job(said, energy, summarise(said, energy))

    def keeper(self, reader: MemoryReader, clock: Iterator[float] | None = None) -> ProfileKeeper:
        if clock is None:
            return ProfileKeeper(self.config, self.energy, self.results, lambda: reader)
        return ProfileKeeper(self.config, self.energy, self.results, lambda: reader, lambda: next(clock))


def _entry(job: Job) -> Entry:
    found: dict[str, Any] = {"impacts": {}, "factors": {}, "inventory": {}, "warnings": ()}
    found |= {"energy_j": job.summary.total_j, "coverage": job.summary.coverage, "energy": {}}
    return Entry(JobResult.of(job.record, **found), {}, ())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The nodes' own files, and what they have sent."""
    nodes = tmp_path_factory.mktemp("nodes")
    both = DayJob("1", 60, 5000, (0,))
    days = {"n1": [both, DayJob("2", 120, 3000, (1,))], "n2": [both]}
    return nodes, [one for name, jobs in days.items() for one in keep_day(nodes, Day(name, jobs, WALL), LASTS)]


@pytest.fixture
def far(tmp_path: Path, told: tuple[Path, list[str]]) -> Iterator[Far]:
    found = Far(tmp_path, *told)
    yield found
    found.results.close()
    found.energy.close()
    found.near.close()


def test_the_server_is_asked_for_the_points_between_the_mirror_s(far: Far) -> None:
    """One statement a job, however many nodes; the same power as by the nodes' own files, and once."""
    reader = far.reader()
    keeper = far.keeper(reader)
    keeper.take(far.jobs)
    assert (keeper.finish(), reader.asked) == ([], 2)
    found = kept(far.path)
    for job in far.jobs:
        profile = found[job.record.key][0]
        assert profile is not None
        assert len(profile.edges_s) > 40
        assert joules_of(profile) == pytest.approx(job.summary.total_j, rel=1e-3)
    near = ProfileKeeper(msgspec.structs.replace(far.config, store=type(far.config.store)()), far.near, far.results)
    with sqlite3.connect(far.path) as db:
        db.execute("DELETE FROM job_profile")
    near.take([Job(job.record, far.near.job_energy(job.record), job.summary) for job in far.jobs])
    for key, (profile, _, _) in kept(far.path).items():
        other = found[key][0]
        assert profile is not None
        assert other is not None
        assert other.edges_s == profile.edges_s
        for kind, watts in profile.watts.items():
            assert [one or 0.0 for one in other.watts[kind]] == pytest.approx([one or 0.0 for one in watts], rel=2e-3)
    again = far.keeper(reader)
    again.take(far.jobs)
    assert (again.finish(), reader.asked) == ([], 2)


def test_a_server_that_is_away_costs_the_profiles_alone(far: Far) -> None:
    """It is told, and the next night asks again."""
    away = Away(far.lines)
    keeper = far.keeper(away)
    keeper.take(far.jobs)
    [told] = keeper.finish()
    assert "next night" in told
    assert (kept(far.path), away.asked) == ({}, 1)
    keeper = far.keeper(far.reader())
    keeper.take(far.jobs)
    assert keeper.finish() == []
    assert len(kept(far.path)) == 2


def test_the_largest_jobs_come_first_and_time_is_bounded(far: Far) -> None:
    """What is left is the next night's."""
    times = iter([0.0, 1.0, MOST_S + 2.0])
    keeper = far.keeper(far.reader(), times)
    keeper.take(far.jobs[::-1])
    assert keeper.finish() == []
    assert list(kept(far.path)) == [f"1@{T0}"]
    keeper = far.keeper(far.reader())
    keeper.take(far.jobs)
    keeper.finish()
    assert sorted(kept(far.path)) == [f"1@{T0}", f"2@{T0}"]


def test_a_job_of_days_is_told_by_its_mirror(far: Far) -> None:
    """The first and last point of each hour are enough, and no server is asked."""
    days = 5 * 86400
    with sqlite3.connect(far.path.parents[1] / "books/mirror/n1.sqlite") as db:
        db.execute("UPDATE run SET end_s = start_s + ?, elapsed_ns = ? WHERE run = '2'", (days, days * 10**9))
        rows = db.execute("SELECT domain, uj FROM ledger WHERE holder = '2'").fetchall()
        db.execute("DELETE FROM job_energy WHERE run = '2'")
        for domain, uj in rows:
            points = [
                ("2", domain, WALL + 120 + hour * 3600, uj * hour // 120, hour * 3600 * 10**9) for hour in range(121)
            ]
            db.executemany("INSERT INTO job_energy VALUES (?, ?, ?, ?, ?)", points)
            db.execute("UPDATE ledger SET known_ns = ? WHERE holder = '2' AND domain = ?", (days * 10**9, domain))
    far.energy.close()
    reader = far.reader()
    keeper = far.keeper(reader)
    keeper.take([far._job("2", 120, 120 + days, ("n1",))])
    assert (keeper.finish(), reader.asked) == ([], 0)
    [(profile, _, _)] = kept(far.path).values()
    assert profile is not None
    assert len(profile.edges_s) > 90
    assert profile.edges_s[-1] == float(days)


def test_what_is_asked_for_is_the_job_s_own(far: Far) -> None:
    """Rows of others, strange ones among them, are no part of it."""
    reader = far.reader()
    other = f"{JOB_ENERGY.name},cluster=lab,node=n9,run=1,domain=package-0,kind=cpu"
    stamp = int(WALL * 1000) + 600_000
    reader.take([f"{other} stamp_ms={stamp}i,energy_uj={2**62}i,known_ns=5i {stamp}"])
    keeper = far.keeper(reader)
    keeper.take(far.jobs[:1])
    keeper.finish()
    [(profile, _, _)] = kept(far.path).values()
    assert profile is not None
    assert joules_of(profile) == pytest.approx(far.jobs[0].summary.total_j, rel=1e-3)
