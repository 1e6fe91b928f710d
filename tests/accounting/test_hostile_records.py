"""What schedulers' records can do to the books: ids that come again, seams of windows, windows that are none."""

from __future__ import annotations

import sqlite3
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.accounting.world import INVENTORY, T0, World

from jobimpact.cli.main import main
from jobimpact.core.errors import ConfigError
from jobimpact.nightly.night import account, recompute
from jobimpact.results.read import Reader
from jobimpact.results.write import Results

DAY = 86400
NOW = T0 + 30.0 * DAY


def energies(world: World) -> dict[str, float | None]:
    with sqlite3.connect(world.results) as db:
        return dict(db.execute("SELECT key, energy_j FROM job_result"))


def windows(world: World, cuts: list[int]) -> dict[str, float | None]:
    """Account for [T0 - 10, end] in windows, of which each begins where the one before it ended."""
    for from_s, to_s in pairwise([T0 - 10, *(T0 + cut for cut in sorted(set(cuts))), T0 + 5 * DAY]):
        account(world.config, NOW, from_s, to_s)
    return energies(world)


@pytest.mark.parametrize("cuts", [[], [3]])
def test_a_run_whose_best_record_has_another_is_the_next_one_s(tmp_path: Path, cuts: list[int]) -> None:
    """Two incarnations within two seconds: each has a run of its own, though one record fits both runs best."""
    world = World(tmp_path)
    world.say("1", submit=T0 + 1, start=T0 + 2, end=T0 + 2, state="REQUEUED")
    world.say("1", submit=T0 + 4, start=T0 + 2, end=T0 + 4)
    node = world.node()
    node.domain()
    node.charge(node.run("1", start=2.5, end=3.5), joules=10.0)
    node.charge(node.run("1", start=2.5, end=5.5, restart=1), joules=100.0)
    assert windows(world, cuts) == {f"1@{T0 + 1}": 10.0, f"1@{T0 + 4}": 100.0}


life = st.tuples(st.integers(0, 8), st.integers(0, 400), st.booleans(), st.booleans())
"""Of an incarnation: seconds after the one before it, how long it lasted, whether its run is in the books, and
whether that run goes on into those after it."""


@settings(max_examples=25, deadline=None)
@given(st.lists(life, min_size=2, max_size=4), st.lists(st.integers(0, 1700), max_size=3))
def test_a_run_is_one_record_s_whatever_the_windows(lives: list[tuple[int, int, bool, bool]], cuts: list[int]) -> None:
    """Jobs requeued or resized at once, runs missing or too long: at once and in pieces each run is the same one's."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        worlds = [World(Path(one)), World(Path(other))]
        for world in worlds:
            node, at_s = world.node(), 0
            node.domain()
            for number, (gap_s, lasts_s, booked, long) in enumerate(lives):
                start_s, end_s = at_s + gap_s, at_s + gap_s + lasts_s
                world.say("1", submit=T0 + at_s + number, start=T0 + start_s, end=T0 + end_s, state="REQUEUED")
                if booked:
                    run = node.run("1", start=start_s + 0.5, end=end_s + (300.5 if long else 1.5), restart=number)
                    node.charge(run, joules=10.0**number)
                at_s = end_s
        whole, pieces = windows(worlds[0], []), windows(worlds[1], cuts)
    assert pieces == whole
    joules = [joules for joules in whole.values() if joules is not None]
    assert len(joules) == len(set(joules))


@pytest.mark.parametrize("requeued", [True, False])
def test_of_a_resized_job_that_goes_on_for_days_the_run_is_not_booked_twice(tmp_path: Path, *, requeued: bool) -> None:
    """Its first part ended out of the look-back's reach, and was measured while the run was still open."""
    world = World(tmp_path)
    world.say("1", end=T0 + 100, state="RESIZING")
    node = world.node()
    node.domain()
    node.charge(node.run("1", end=None), joules=50.0)
    first = f"1@{T0}"
    account(world.config, T0 + 150.0)
    assert energies(world) == {first: 50.0}
    submit = T0 + 100
    world.say("1", submit=submit, start=submit + 3 * requeued, end=T0 + 9 * DAY)
    with node.db as db:
        db.execute("UPDATE run SET end_s = ?, state = 'ended', elapsed_ns = ?", (T0 + 9.0 * DAY, 9 * DAY * 10**9))
        db.execute("UPDATE ledger SET uj = 1000000000")
    account(world.config, T0 + 10.0 * DAY, T0 + 8 * DAY)
    assert energies(world) == {first: None, f"1@{submit}": 1000.0}
    assert account(world.config, T0 + 10.0 * DAY, T0 + 8 * DAY).changed == 0


def test_a_run_between_two_records_that_it_fits_alike_is_one_s(tmp_path: Path) -> None:
    """Whole seconds around it on both sides: not both of theirs."""
    world = World(tmp_path)
    world.say("1", end=T0, state="REQUEUED")
    world.say("1", submit=T0 + 2, start=T0 + 2, end=T0 + 2)
    world.node().measured("1", start=1.0, end=1.5)
    account(world.config, NOW, T0 - 10, T0 + DAY)
    assert sorted(energies(world).values(), key=str) == [5000.0, None]


def test_a_node_s_file_that_is_away_for_a_night_makes_no_revision(tmp_path: Path) -> None:
    """What is kept of it stands where it stood."""
    world = World(tmp_path)
    world.say(nodes=["node01", "node02"])
    for name in ("node01", "node02"):
        world.node(name).measured(flags=["no end mark"])
    account(world.config, T0 + 1000.0)
    before = world.rows()
    file = tmp_path / "nodes" / "node01.sqlite"
    file.rename(tmp_path / "away")
    assert account(world.config, T0 + 1000.0).changed == 0
    (tmp_path / "away").rename(file)
    assert account(world.config, T0 + 1000.0).changed == 0
    assert world.rows() == before


@pytest.mark.parametrize("window", [
    ["--from", "99999999999999"],
    ["--from", "9" * 5000],
    ["--from", "99999999999"],
    ["--from", "2100-01-01"],
    ["--from", "20261120"],
    ["--to", "2020-01-01"],
    ["--recompute", "--from", "99999999999"],
    ["--recompute", "--from", "9" * 23, "--to", "9" * 23],
])  # fmt: skip
def test_a_window_without_any_time_in_it_is_refused(
    tmp_path: Path, window: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the future, ended before it begins, or at no time at all: one line, and nothing is noted as accounted for."""
    world = World(tmp_path)
    world.say()
    assert main(["account", "--config", str(world.config_file), *window]) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert "window from" in said or "epoch seconds" in said
    if world.results.exists():
        with sqlite3.connect(world.results) as db:
            assert db.execute("SELECT (SELECT count(*) FROM covered) + (SELECT count(*) FROM meta)").fetchone() == (0,)


def test_a_window_that_is_over_before_it_begins_is_refused_of_a_program_too(tmp_path: Path) -> None:
    """And the turn is given back."""
    world = World(tmp_path)
    world.say()
    for ask in (account, recompute):
        with pytest.raises(ConfigError, match="has no time in it"):
            ask(world.config, NOW, T0 + 1, T0)
    assert account(world.config, NOW, T0, T0 + DAY).new == 1


@pytest.mark.parametrize("nights", [
    [0.5, 1.5, 2.5, 5.5, 6.5],
    [1.9, 2.9, 4.1, 5.1],
    [0.2, 0.3, 9.0, 9.1],
    [2.0, 3.1, 4.2, 5.3],
])  # fmt: skip
def test_energy_without_a_record_is_told_once_however_far_nights_are_apart(
    tmp_path: Path, nights: list[float]
) -> None:
    """A night that was late, or failed, leaves no hours of which nothing is said."""
    world = World(tmp_path)
    world.say("1")
    node = world.node().measured("1")
    for hour in range(0, 24, 3):
        node.measured(f"9{hour}", start=hour * 3600.0, end=hour * 3600.0 + 60)
    told = [problem for night in nights for problem in account(world.config, T0 + night * DAY).problems]
    more = [int(text.rpartition(" and ")[2].split()[0]) for text in told if " more" in text]
    assert sum(text.count(" on node01") for text in told) + sum(more) == 8


def test_the_smallest_part_of_a_node_is_mended_too(tmp_path: Path) -> None:
    """A second with a MiB, of which jobs that come later, and hold all memory, leave a third: not as it was."""
    world = World(tmp_path)
    world.say("1", start=T0 + 50, end=T0 + 51, cpus=0, mem_bytes=2**20)
    account(world.config, NOW, T0, T0 + 60)
    for job in "23":
        world.say(job, mem_bytes=256 * 2**30)
    account(world.config, NOW, T0 + 61, T0 + DAY)
    assert account(world.config, NOW, T0, T0 + DAY).changed == 0


def test_a_job_that_is_requeued_when_it_is_long_over_takes_nothing_of_those_after_it(tmp_path: Path) -> None:
    """Slurm moves its end to the requeue; the nodes know when it left, and its second node ends with the first."""
    world = World(
        tmp_path, inventory=INVENTORY.replace("    ram_gb: 256\n", "    ram_gb: 256\n    load_w: {cpu: 400}\n")
    )
    first, second = f"1@{T0}", f"2@{T0 + 200}"
    world.say("1", cpus=80, nodes=["node01", "node02"])
    world.node().measured("1")
    world.say("2", submit=T0 + 200, start=T0 + 200, end=T0 + 2 * DAY, cpus=40)
    world.node().measured("2", start=200.0, end=2.0 * DAY, joules=1e6)

    def held() -> dict[tuple[str, str], float]:
        with sqlite3.connect(world.results) as db:
            rows = db.execute("SELECT key, node, hours FROM charge WHERE component = 'cpu'")
            return {(key, node): hours for key, node, hours in rows}

    now = T0 + 2.1 * DAY
    account(world.config, now)
    before, joules = held(), energies(world)
    assert joules == {first: 5000.0 + 40_000.0, second: 1e6}
    world.say("1", cpus=80, nodes=["node01", "node02"], end=T0 + 2 * DAY - 50, state="REQUEUED")
    account(world.config, now)
    assert (held(), energies(world)) == (before, joules)
    (tmp_path / "nodes" / "node01.sqlite").rename(tmp_path / "away")
    assert account(world.config, now).changed == 0
    assert recompute(world.config, now, T0, T0 + 2 * DAY).changed == 0


def test_a_job_that_is_requeued_while_it_runs_ends_as_slurm_says(tmp_path: Path) -> None:
    """Its epilog comes within seconds, or late; a node that was lost says nothing of the end."""
    world = World(tmp_path)
    for job, end, state in (("1", 97.0, "ended"), ("2", 300.0, "ended"), ("3", 40.0, "lost")):
        world.say(job, state="REQUEUED")
        world.node().measured(job, end=end, state=state)
    account(world.config, NOW, T0, T0 + DAY)
    with sqlite3.connect(world.results) as db:
        assert set(db.execute("SELECT end_s, elapsed_s FROM job_result")) == {(T0 + 100.0, 100.0)}


@pytest.mark.parametrize("name", ["a%20b.db", "a?b/r.db", "a#b.db", "ü b;.db"])
def test_readers_and_writers_have_the_same_file_whatever_its_name(tmp_path: Path, name: str) -> None:
    """A path is a path: nothing in it is an escape or an option."""
    write = Results(f"sqlite:///{tmp_path / name}")
    write.set_watermark("lab", 1.0)
    write.close()
    assert (tmp_path / name).is_file()
    read = Reader(f"sqlite:///{tmp_path / name}")
    assert not read.empty
    read.close()


@pytest.mark.parametrize("change", [{"start": None, "nodes": [], "state": "CANCELLED"}, {"nodes": ["node02"]}])
def test_energy_on_a_node_that_the_record_does_not_name_is_told(tmp_path: Path, change: dict[str, object]) -> None:
    """A job that never ran for its scheduler, or ran elsewhere: its id alone makes nobody's energy known."""
    world = World(tmp_path)
    world.say("1", **change)
    world.node("node01").measured("1", joules=3.6e6)
    account(world.config, T0 + 1000.0)
    (problem,) = account(world.config, T0 + 3.5 * DAY).problems
    assert problem == "the scheduler knows nothing of 1 kWh of runs that ended: 1 on node01"
