"""What runs used, what they said of themselves, and how both come into the results."""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.accounting.world import T0, World, record

from jobimpact.core.records import Progress, RunEnergy, RunUse
from jobimpact.energy.local import LocalEnergy
from jobimpact.energy.profile import Course, Point, Track
from jobimpact.energy.progress import MOST, few, merged, points_of
from jobimpact.nightly.night import account, recompute
from jobimpact.results.figures import expressions
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult

NOW = T0 + 7200.0
USED = {"cpu_ns": 360 * 10**9, "mem_peak_bytes": 2**29, "gpu_busy_ns": 0, "gpus_seen": 1, "gpus_unused": 1}


def run_of(world: World, job: str = "1") -> RunEnergy:
    with LocalEnergy(world.folder / "nodes") as energy:
        ((run,), unread) = energy.runs_of(job)
    assert unread == []
    return run


def result(world: World, job: str = "1") -> JobResult:
    reader = Reader(world.config.results)
    try:
        [found] = reader.find(job)
    finally:
        reader.close()
    return found


def test_use_labels_and_progress_of_a_node_s_file(tmp_path: Path) -> None:
    """What is not in them is not known; a step and its metrics are one point."""
    world = World(tmp_path)
    node = world.node().measured(used=USED)
    node.said("1", 10, 100, 7, acc=0.5, loss=1.5)
    node.said("1", 20, 200, 9)
    node.label("1", model="resnet50")
    run = run_of(world)
    assert run.use == RunUse(**USED)
    assert run.use is not None
    assert run.use.gpu_known_ns is None
    assert run.labels == {"model": "resnet50"}
    assert run.progress == (
        Progress(T0 + 10.0, 100, {"acc": 0.5, "loss": 1.5}, 7),
        Progress(T0 + 20.0, 200, {}, 9),
    )
    node.measured("2")
    other = run_of(world, "2")
    assert (other.use, other.labels, other.progress) == (None, {}, ())


def test_a_file_of_an_earlier_schema_tells_none_of_it(tmp_path: Path) -> None:
    """It is read as it was."""
    world = World(tmp_path)
    db = world.node().measured().db
    db.executescript(
        "ALTER TABLE run DROP COLUMN used; DROP TABLE label; DROP TABLE progress; PRAGMA user_version = 4"
    )
    run = run_of(world)
    assert (run.use, run.labels, run.progress) == (None, {}, ())
    assert sum(one.uj for one in run.domains) == 5000 * 10**6


@pytest.mark.parametrize("used", ['{"cpu_ns": -1}', '{"cpu_ns": "x"}', "[]"])
def test_a_damaged_use_is_the_file_s_trouble(tmp_path: Path, used: str) -> None:
    """It is told, and is not zero."""
    world = World(tmp_path)
    world.node().measured().db.execute("UPDATE run SET used = ?", (used,))
    with LocalEnergy(world.folder / "nodes") as energy:
        found = energy.job_energy(record())
    assert found.runs == ()
    assert "node01.sqlite" in found.missing["node01"]


def test_a_value_that_is_no_number_is_not_there() -> None:
    """Its step is."""
    rows: list[Any] = [(1.0, "acc", 3, float("inf"), None), (1.0, "loss", None, 0.5, 8), (2.0, "", 4, None, None)]
    assert points_of(rows) == (Progress(1.0, 3, {"loss": 0.5}, 8), Progress(2.0, 4))


def test_of_many_points_some_are_kept() -> None:
    """Evenly, with both ends."""
    many = [Progress(float(at)) for at in range(10_001)]
    kept = few(many)
    assert len(kept) == MOST
    assert (kept[0], kept[-1]) == (many[0], many[-1])
    gaps = {round(now.wall_s - then.wall_s) for then, now in pairwise(kept)}
    assert gaps <= {10, 11}


def said(node: str, *points: Progress) -> RunEnergy:
    return RunEnergy(node, "1", 0, T0, T0 + 100.0, 100 * 10**9, "ended", 4, None, (), (), (), progress=points)


def test_progress_has_the_energy_of_all_nodes() -> None:
    """Its own node's exactly, another's between its points; unknown where one is."""
    track = Track("cpu", T0, T0 + 100.0, 1000, 100 * 10**9, (Point(T0 + 100.0, 1000, 100 * 10**9),))
    runs = [
        said("a", Progress(T0 + 50.0, 5, {}, 70), Progress(T0 + 60.0, 6)),
        said("b", Progress(T0 + 20.0, 2, {}, 3)),
    ]
    course = [Course(track)]
    assert merged(runs, {"a": course, "b": course}) == (
        Progress(T0 + 20.0, 2, {}, 203),
        Progress(T0 + 50.0, 5, {}, 570),
        Progress(T0 + 60.0, 6, {}, None),
    )
    assert [one.uj for one in merged(runs, {"a": course})] == [203, None, None]
    assert [one.uj for one in merged(runs[:1], {})] == [70, None]


def test_the_night_keeps_what_was_used_and_said(tmp_path: Path) -> None:
    """A second night changes nothing, and neither does a recomputation; it stays when the node's file is gone."""
    world = World(tmp_path)
    world.say()
    world.node().measured(used=USED).label("1", model="resnet50")
    assert account(world.config, NOW).new == 1
    before = world.rows()
    found = result(world)
    assert found.labels == {"model": "resnet50"}
    assert found.energy["nodes"]["node01"]["use"] == msgspec.to_builtins(RunUse(**USED))
    assert account(world.config, NOW).changed == 0
    assert recompute(world.config, NOW, T0, T0 + 200).changed == 0
    (tmp_path / "nodes" / "node01.sqlite").unlink()
    assert account(world.config, NOW).changed == 0
    assert world.rows() == before
    assert (result(world).labels, result(world).energy) == (found.labels, found.energy)


def test_labels_that_came_later_are_a_revision(tmp_path: Path) -> None:
    """And what a job says last of one name holds."""
    world = World(tmp_path)
    world.say()
    node = world.node().measured()
    account(world.config, NOW)
    node.label("1", model="gpt", steps="7")
    assert account(world.config, NOW).changed == 1
    assert (result(world).labels, result(world).revision) == ({"model": "gpt", "steps": "7"}, 2)


def test_of_two_nodes_the_first_is_heard(tmp_path: Path) -> None:
    """By the record's order; each adds what the other does not say."""
    world = World(tmp_path)
    world.say(nodes=["node01", "node02"])
    for name, labels in (("node02", {"model": "a", "data": "x"}), ("node01", {"model": "b"})):
        world.node(name).measured().label("1", **labels)
    account(world.config, NOW)
    assert result(world).labels == {"model": "b", "data": "x"}
    with sqlite3.connect(world.results) as db:
        assert db.execute("SELECT json_extract(labels, '$.model') FROM job_result").fetchall() == [("b",)]


def test_an_upgrade_is_one_revision_of_the_jobs_in_the_look_back(tmp_path: Path) -> None:
    """What an earlier release wrote has no such words: older rows keep theirs, and the next night changes nothing."""
    world = World(tmp_path)
    world.say("1", time_limit_s=600)
    world.say("2", submit=T0 - 5 * 86400, start=T0 - 5 * 86400, end=T0 - 5 * 86400 + 100)
    world.node().measured(used=USED)
    assert account(world.config, NOW, T0 - 6 * 86400).new == 2
    assert account(world.config, NOW).changed == 0
    with sqlite3.connect(world.results) as db:
        gone = "'$.nodes.node01.use', '$.nodes.node01.labels'"
        db.execute(f"UPDATE job_result SET digest = key, energy = json_remove(energy, {gone})")  # noqa: S608
        db.executescript(
            "DROP TABLE job_profile; DROP TABLE mail; DROP INDEX job_result_by_account; PRAGMA user_version = 3;"
            "ALTER TABLE job_result DROP COLUMN labels; ALTER TABLE job_result DROP COLUMN time_limit_s;"
            + ";".join(f"ALTER TABLE job_result DROP COLUMN {name}" for name in expressions())
        )
    counts = [account(world.config, NOW) for _ in range(2)]
    assert [one.changed for one in counts] == [1, 0]
    found = result(world)
    assert (found.revision, found.time_limit_s) == (2, 600)
    assert found.energy["nodes"]["node01"]["use"]["cpu_ns"] == USED["cpu_ns"]
    assert result(world, "2").revision == 1
