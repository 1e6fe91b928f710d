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


def test_the_rest_of_a_node_is_a_part_of_the_job(tmp_path: Path) -> None:
    """Where the node has a meter: the rest is in the sum and in the coverage, the meter itself in neither."""
    world = World(tmp_path)
    node = world.node().redfish().measured()
    node.settle({"1": 2000, "idle": 500}, parts_j=5000)
    found = summary(world, record())
    assert (found.total_j, found.coverage) == (7000, 1.0)
    assert list(found.domains) == ["cpu", "dram", "gpu", "rest"]
    assert (found.domains["rest"].energy_j, found.domains["rest"].method) == (2000, "gauge")
    assert list(found.nodes["node01"].domains) == ["package-0", "rest"]
    assert not any("rest of the node" in flag for flag in found.flags)


def test_without_a_meter_of_the_node_the_sum_is_that_of_the_parts(tmp_path: Path) -> None:
    """Null with the reason, told once, and no gap in the coverage."""
    world = World(tmp_path)
    world.node().measured()
    found = summary(world, record())
    assert (found.total_j, found.coverage) == (5000, 1.0)
    assert (found.domains["rest"].energy_j, found.domains["rest"].reason) == (None, "no node meter on node01")
    said = [flag for flag in found.flags if "rest of the node" in flag]
    assert said == ["rest of the node (fans, board, losses) not in the total: no node meter on node01"]


def test_one_node_of_two_with_a_meter(tmp_path: Path) -> None:
    """The rest of the one is in the sum, that of the other is told of; the job is wholly covered."""
    world = World(tmp_path)
    world.node("node01").redfish().measured().settle({"1": 2000})
    world.node("node02").measured()
    found = summary(world, record(nodes=("node01", "node02")))
    assert (found.total_j, found.coverage) == (12_000, 1.0)
    assert (found.domains["rest"].coverage, found.domains["rest"].reason) == (1.0, "no node meter on node02")
    assert [flag for flag in found.flags if "rest of the node" in flag] == [
        "rest of the node (fans, board, losses) not measured on node02: there the sum is that of its parts"
    ]


def test_a_rest_that_is_not_settled_is_unknown(tmp_path: Path) -> None:
    """The node has a meter and no window of it in the job's time: a gap, and not zero."""
    world = World(tmp_path)
    world.node().redfish().measured()
    found = summary(world, record())
    assert (found.total_j, found.coverage) == (5000, 0.5)
    assert found.domains["rest"].energy_j is None
    assert found.domains["rest"].reason == "rest of node01: not settled in this run"


def test_a_rest_known_for_half_of_the_run_is_half_covered(tmp_path: Path) -> None:
    """Package 100 s of 100, rest 50 of 100: three quarters."""
    world = World(tmp_path)
    node = world.node().redfish().measured()
    node.settle({"1": 1000}, known_s=50)
    found = summary(world, record())
    assert (found.total_j, found.coverage, found.domains["rest"].coverage) == (6000, 0.75, 0.5)


def test_a_node_meter_that_was_taken_away_leaves_no_gap(tmp_path: Path) -> None:
    """The rest is there from before, and is absent now."""
    world = World(tmp_path)
    world.node().redfish().measured().db.execute("UPDATE domain SET reason = 'absent: no meter' WHERE name = 'rest'")
    found = summary(world, record())
    assert (found.coverage, found.domains["rest"].reason) == (1.0, "no node meter on node01")


def test_a_meter_that_came_after_the_run_is_none_of_its_parts(tmp_path: Path) -> None:
    """A job of before the BMC was set up is accounted as it was; one that runs since then is not."""
    world = World(tmp_path)
    node = world.node().redfish().measured()
    node.measured("2", start=150, end=250)
    node.db.execute("INSERT INTO node_power VALUES ('rest', ?, 0, 0)", (T0 + 120.0,))
    assert summary(world, record()).coverage == 1.0
    later = record("2", start_s=T0 + 150.0, end_s=T0 + 250.0)
    assert summary(world, later).coverage == 0.5


def test_a_part_that_another_source_measures_now_is_no_gap(tmp_path: Path) -> None:
    """RAPL may not be read any more, the model stands in for it: all of the CPU is known, by the model."""
    world = World(tmp_path)
    node = world.node()
    node.domain(reason="absent: model measures this part")
    node.domain("cpu", method="modelled", source="model")
    node.charge(node.run(), "cpu", 4000)
    found = summary(world, record())
    assert (found.total_j, found.coverage, found.domains["cpu"].method) == (4000, 1.0, "modelled")
    node.db.execute("UPDATE domain SET reason = 'failed: EIO' WHERE name = 'package-0'")
    assert summary(world, record()).coverage == 0.5


def test_slices_of_a_gpu_are_not_gpus(tmp_path: Path) -> None:
    """Two MIG devices of one card and a whole card: two meters, and nothing is missing."""
    world = World(tmp_path)
    node = world.node()
    node.domain("gpu:GPU-a", "gpu")
    node.domain("gpu:GPU-b", "gpu")
    run = node.run(gpus=["MIG-1", "MIG-2", "GPU-b"])
    node.charge(run, "gpu:GPU-a", 3000)
    node.charge(run, "gpu:GPU-b", 6000)
    found = summary(world, record(gpus=3)).domains["gpu"]
    assert (found.energy_j, found.coverage, found.reason) == (9000, 1.0, None)


def test_slices_of_a_gpu_without_a_meter_are_missing(tmp_path: Path) -> None:
    """At least one card that nobody meters."""
    world = World(tmp_path)
    world.node().measured(gpus=["MIG-1", "MIG-2"])
    found = summary(world, record(gpus=2)).domains["gpu"]
    assert (found.energy_j, found.coverage, found.reason) == (None, 0.0, "no GPU meter on node01")


def test_a_job_that_no_books_can_have_takes_no_run_of_another(tmp_path: Path) -> None:
    """Its own system ran on the node: a run under its id is not its own, and the record's reason is told."""
    world = World(tmp_path)
    world.node().measured("1")
    with LocalEnergy(tmp_path / "nodes") as energy:
        found = energy.job_energy(record("1", off_books="the user's own system ran there"))
    assert (found.runs, found.missing) == ((), {"node01": "the user's own system ran there"})


def test_a_requeue_within_seconds_has_its_run_though_slurm_forgot_its_start(tmp_path: Path) -> None:
    """Such a row of sacct has nodes and no start: it ran after its submission, and before the next incarnation."""
    world = World(tmp_path)
    world.node().measured("1", joules=300.0, start=0.5, end=2.5)
    world.node().measured("1", joules=700.0, start=130.5, end=230.5, restart=1)
    first = record(state="REQUEUED", start_s=None, end_s=T0 + 1.0, elapsed_s=0.0)
    second = record(key=f"1@{T0 + 2}", submit_s=T0 + 2, start_s=T0 + 130.0, end_s=T0 + 230.0)
    assert summary(world, first, second).total_j == 300.0
    assert summary(world, second, first).total_j == 700.0


def test_a_run_is_of_no_incarnation_that_was_not_on_its_node(tmp_path: Path) -> None:
    """A node that died ends its run late, when the job has long been begun again elsewhere, or was withdrawn."""
    world = World(tmp_path)
    world.node("node01").measured("1", joules=300.0, start=0.5, end=900.0)
    world.node("node02").measured("1", joules=700.0, start=130.5, end=900.5, restart=1)
    first = record(state="NODE_FAIL", end_s=T0 + 25.0)
    again = {"key": f"1@{T0 + 25}", "submit_s": T0 + 25}
    elsewhere = record(**again, nodes=("node02",), start_s=T0 + 130.0, end_s=T0 + 901.0)
    withdrawn = record(**again, state="CANCELLED", nodes=(), start_s=None, end_s=T0 + 900.0)
    assert summary(world, first, elsewhere).total_j == 300.0
    assert summary(world, elsewhere, first).total_j == 700.0
    assert summary(world, first, withdrawn).total_j == 300.0
