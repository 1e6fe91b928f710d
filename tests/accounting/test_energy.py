"""From node files to a job's joules, with what they lack."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.accounting.world import T0, World, record

from jobimpact.core.errors import StoreError
from jobimpact.core.records import JobRecord
from jobimpact.energy.local import LocalEnergy
from jobimpact.energy.summary import EnergySummary, summarise


def summary(world: World, job: JobRecord, *rivals: JobRecord) -> EnergySummary:
    with LocalEnergy(world.folder / "nodes") as energy:
        return summarise(job, energy.job_energy(job, rivals))


def test_a_job_s_joules_are_its_runs(tmp_path: Path) -> None:
    """Two packages of one node, summed by kind; nothing is missing."""
    world = World(tmp_path)
    node = world.node()
    node.domain("package-0")
    node.domain("package-1")
    run = node.run()
    node.charge(run, "package-0", 3000)
    node.charge(run, "package-1", 2000)
    found = summary(world, record())
    assert (found.total_j, found.coverage) == (5000, 1.0)
    assert found.domains["cpu"].method == "counter"
    assert found.domains["dram"].energy_j is None
    assert found.domains["dram"].reason == "no DRAM meter on node01"
    assert found.domains["gpu"].energy_j == 0


def test_a_domain_that_was_never_read_is_unknown_not_zero(tmp_path: Path) -> None:
    """Known for no time means no number, and the reason that the node gives."""
    world = World(tmp_path)
    node = world.node().measured()
    node.domain("dram-0", "dram", reason="EIO")
    node.charge("1", "dram-0", 0, known_s=0)
    found = summary(world, record())
    assert found.domains["dram"].energy_j is None
    assert "dram-0 of node01: EIO" in (found.domains["dram"].reason or "")
    assert found.coverage == 0.5


def test_a_gpu_without_a_meter_lowers_the_coverage(tmp_path: Path) -> None:
    """One of two GPUs held is metered, for 87 s of 100: 43.5 %."""
    world = World(tmp_path)
    node = world.node()
    node.domain("gpu:GPU-a", "gpu")
    node.domain("gpu:GPU-c", "gpu")
    node.charge(node.run(gpus=["GPU-a", "GPU-b"]), "gpu:GPU-a", 8700, known_s=87)
    found = summary(world, record(gpus=2))
    assert found.domains["gpu"].energy_j == 8700
    assert found.domains["gpu"].coverage == pytest.approx(0.435)
    assert list(found.nodes["node01"].domains) == ["gpu:GPU-a"]


def test_modelled_energy_says_so(tmp_path: Path) -> None:
    """The method of a domain is that of its source."""
    world = World(tmp_path)
    node = world.node()
    node.domain(method="modelled")
    node.charge(node.run())
    assert summary(world, record()).domains["cpu"].method == "modelled"


def test_a_node_without_a_file_is_missing_with_a_reason(tmp_path: Path) -> None:
    """Half of the job is known: its energy is that half's."""
    world = World(tmp_path)
    world.node("node01").measured()
    found = summary(world, record(nodes=("node01", "node02")))
    assert (found.total_j, found.coverage) == (5000, 0.5)
    assert found.nodes["node02"].reason == "no file of this node in the store"


def test_nothing_measured_has_no_total(tmp_path: Path) -> None:
    """Null with the reason, never 0."""
    found = summary(World(tmp_path), record())
    assert found.total_j is None
    assert "node01: no file of this node in the store" in (found.reason or "")


def test_a_node_s_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    """A record with a path for a node opens nothing."""
    world = World(tmp_path)
    world.node("../node01").measured()
    assert summary(world, record(nodes=("../node01",))).total_j is None


def test_a_late_epilog_is_still_this_job_s(tmp_path: Path) -> None:
    """The run may end minutes after the scheduler's end."""
    world = World(tmp_path)
    world.node().measured(end=700)
    assert summary(world, record()).total_j == 5000


def test_a_run_before_or_after_is_another_job_s(tmp_path: Path) -> None:
    """The same raw id long ago, and one begun after the end, are not counted."""
    world = World(tmp_path)
    world.node().measured(start=-5000, end=-4000)
    world.node().measured(start=120, end=220, restart=1)
    found = summary(world, record())
    assert found.total_j is None
    assert "no run of this job at that time" in (found.reason or "")


def test_each_incarnation_gets_its_own_run(tmp_path: Path) -> None:
    """A short run, requeued at once, then a long one: the longer overlap does not take both."""
    world = World(tmp_path)
    node = world.node()
    node.measured(joules=100, start=0.5, end=10.5, known_s=10)
    node.measured(joules=9000, start=12.5, end=300.5, restart=1, known_s=288)
    first = record(end_s=T0 + 10.0, elapsed_s=10.0, state="REQUEUED")
    second = record(key="1@later", start_s=T0 + 12.0, end_s=T0 + 300.0, elapsed_s=288.0)
    assert summary(world, first, first, second).total_j == 100
    assert summary(world, second, first, second).total_j == 9000


def test_a_run_is_never_charged_to_two_incarnations(tmp_path: Path) -> None:
    """A first run that was closed late overlaps the second's time; without a run of its own that has none."""
    world = World(tmp_path)
    world.node().measured(start=0.5, end=400)
    first = record(end_s=T0 + 100.0, state="NODE_FAIL")
    second = record(key="1@later", start_s=T0 + 221.0, end_s=T0 + 300.0, elapsed_s=79.0)
    assert summary(world, first, first, second).total_j == 5000
    assert summary(world, second, first, second).total_j is None


def test_a_corrupt_node_file_costs_its_own_node_only(tmp_path: Path) -> None:
    """The other node's energy is there, and the file is named."""
    world = World(tmp_path)
    world.node("node01").measured()
    (world.folder / "nodes" / "node02.sqlite").write_bytes(b"not a database at all" * 100)
    found = summary(world, record(nodes=("node01", "node02")))
    assert found.total_j == 5000
    assert "node02.sqlite" in (found.nodes["node02"].reason or "")


def test_the_books_of_every_domain(tmp_path: Path) -> None:
    """Jobs, idle and system apart, and by how much they miss what was measured."""
    world = World(tmp_path)
    node = world.node().measured()
    node.charge("idle", joules=900)
    node.charge("system", joules=100)
    node.db.execute("UPDATE domain SET measured_uj = measured_uj + 7, unknown_ns = 2500000000")
    with LocalEnergy(world.folder / "nodes") as energy:
        [line], unread = energy.books()
    assert unread == []
    assert (line.measured_uj, line.jobs_uj, line.idle_uj, line.system_uj) == (
        6 * 10**9 + 7,
        5 * 10**9,
        9 * 10**8,
        10**8,
    )
    assert (line.difference_uj, line.unknown_s) == (7, 2.5)


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It names the folder."""
    with LocalEnergy(tmp_path / "nowhere") as energy, pytest.raises(StoreError, match="nowhere"):
        energy.books()


def test_a_job_that_never_started_has_used_nothing(tmp_path: Path) -> None:
    """Known to be zero, with full coverage."""
    found = summary(World(tmp_path), record(start_s=None, nodes=(), elapsed_s=0))
    assert (found.total_j, found.coverage, found.flags) == (0.0, 1.0, ("never started",))


def test_a_daemon_that_came_late_has_not_seen_it_all(tmp_path: Path) -> None:
    """A run that begins half-way through the job covers half of it, and a flag says how much."""
    world = World(tmp_path)
    world.node().measured(start=50, end=100, known_s=50.0)
    found = summary(world, record())
    assert found.coverage == 0.5
    assert "node01: its books know 50 s of the job's 100 s" in found.flags


def test_a_second_at_an_edge_is_no_gap(tmp_path: Path) -> None:
    """Slurm counts whole seconds, hooks come when they come: a 2 s job that is metered for 1.2 s is covered."""
    world = World(tmp_path)
    world.node().measured(start=0.8, end=2.0, known_s=1.2)
    assert summary(world, record(end_s=T0 + 2.0, elapsed_s=2.0)).coverage == 1.0
