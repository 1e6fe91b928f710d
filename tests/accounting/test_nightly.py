"""Nights: run twice, at once, late, and with everything that can be missing."""

from __future__ import annotations

import math
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.accounting.world import CONFIG, INVENTORY, T0, World, batch

from jobimpact.core.errors import BusyError, ConfigError, SchedulerError, StoreError
from jobimpact.nightly.night import NightReport, account, recompute
from jobimpact.nightly.schedule import night
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult

NOW = T0 + 1000.0


def counts(report: NightReport) -> tuple[int, int, int]:
    return report.new, report.changed, report.unchanged


def one(world: World, job: str = "1") -> JobResult:
    reader = Reader(world.config.results)
    [found] = reader.find(job)
    reader.close()
    return found


def test_a_night_twice_changes_nothing(tmp_path: Path) -> None:
    """Not a revision, not a digest."""
    world = World(tmp_path)
    batch(world, ["1", "2", "3"])
    assert counts(account(world.config, NOW)) == (3, 0, 0)
    before = world.rows()
    assert counts(account(world.config, NOW + 60)) == (0, 0, 3)
    assert world.rows() == before


def test_only_what_changed_is_touched(tmp_path: Path) -> None:
    """A late record is new, a moved end is a change, and the third row stays."""
    world = World(tmp_path)
    batch(world, ["1", "2"])
    account(world.config, NOW)
    before = world.rows()
    world.say("2", end=T0 + 130, state="REQUEUED")
    batch(world, ["3"])
    assert counts(account(world.config, NOW + 60)) == (1, 1, 1)
    after = world.rows()
    assert {key: rev for key, (rev, _) in after.items()} == {f"1@{T0}": 1, f"2@{T0}": 2, f"3@{T0}": 1}
    assert after[f"1@{T0}"] == before[f"1@{T0}"]


def test_late_energy_updates_its_row(tmp_path: Path) -> None:
    """Accounted before the node's file was there, measured the night after."""
    world = World(tmp_path)
    world.say()
    assert account(world.config, NOW).not_measured == 1
    assert one(world).energy_j is None
    world.node().measured()
    assert counts(account(world.config, NOW + 60)) == (0, 1, 0)
    assert (one(world).energy_j, one(world).revision) == (5000.0, 2)


NIGHT = """
import sys
from pathlib import Path
from jobimpact.core.config import load_config
from jobimpact.core.errors import BusyError
from jobimpact.nightly.night import account
try:
    print(account(load_config(Path(sys.argv[1])), float(sys.argv[2])).new)
except BusyError as error:
    assert "lab is being accounted for since 2026-11-" in str(error), error
    print(0)
"""


def test_two_nights_at_once_write_each_row_once(tmp_path: Path) -> None:
    """Four real processes over the same 300 jobs: one at a time, every row new exactly once, all at revision 1."""
    world = World(tmp_path)
    batch(world, [str(number) for number in range(300)])
    command = [sys.executable, "-c", NIGHT, str(world.config_file), str(NOW)]
    nights = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=120)[0] for process in nights]
    assert [process.returncode for process in nights] == [0] * 4
    assert sum(map(int, said)) == 300
    assert {rev for rev, _ in world.rows().values()} == {1}
    assert len(world.rows()) == 300


TURN = """
import sys, time
from jobimpact.results.write import Results
with Results(sys.argv[1]).turn("lab", 1.8e9):
    print("mine", flush=True)
    time.sleep(600)
"""


def test_the_turn_of_a_killed_night_is_the_next_one_s(tmp_path: Path) -> None:
    """While a process accounts, another is refused and told which it is; killed, it stands in nobody's way."""
    world = World(tmp_path)
    batch(world, ["1"])
    command = [sys.executable, "-c", TURN, world.config.results]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as night:
        assert night.stdout is not None
        assert night.stdout.readline() == "mine\n"
        with pytest.raises(BusyError, match=rf"since 2027-01-15 08:00:00 UTC, by process {night.pid} on "):
            account(world.config, NOW)
        with pytest.raises(BusyError):
            recompute(world.config, NOW, T0, T0 + 500)
        other = msgspec.structs.replace(world.config, cluster="other")
        assert account(other, NOW).problems == ()
        night.kill()
    assert account(world.config, NOW).new == 1
    with sqlite3.connect(world.results) as db:
        assert db.execute("SELECT count(*) FROM runner").fetchone() == (0,)


@pytest.mark.parametrize(("host", "begun", "since_s", "free"), [
    ("elsewhere", "b 1", NOW - 3600, False),
    ("elsewhere", "b 1", NOW - 90000, True),
    (socket.gethostname(), "b 1", NOW - 60, True),
])  # fmt: skip
def test_a_turn_that_nobody_can_see_lapses(
    tmp_path: Path, host: str, begun: str, since_s: float, *, free: bool
) -> None:
    """One on another host has its day; a process of this number that began at another time is not it."""
    world = World(tmp_path)
    account(world.config, NOW - 1)
    with sqlite3.connect(world.results) as db:
        db.execute("INSERT INTO runner VALUES ('lab', ?, ?, ?, ?)", (host, os.getpid(), begun, since_s))
    if free:
        assert account(world.config, NOW).new == 0
    else:
        with pytest.raises(BusyError, match=f"by process {os.getpid()} on elsewhere"):
            account(world.config, NOW)


def test_a_long_window_is_gone_through_by_weeks(tmp_path: Path) -> None:
    """Whatever the window, each job is in it once: those at the seams of weeks, and within a second, too."""
    week = 7 * 86400
    ends = [T0 + at for at in (0, 1, 0.5, week, week + 0.25, 2 * week, 2 * week + 3, 3 * week)]
    for name in ("once", "slices"):
        (tmp_path / name).mkdir()
    worlds = World(tmp_path / "once"), World(tmp_path / "slices")
    for world in worlds:
        for number, end_s in enumerate(ends):
            world.say(str(number), start=end_s - 100, end=end_s)
    counted = account(worlds[1].config, NOW + 4 * week, T0, T0 + 3 * week)
    assert counts(counted) == (len(ends), 0, 0)
    for end_s in ends:
        account(worlds[0].config, NOW + 4 * week, math.floor(end_s), math.ceil(end_s))
    assert worlds[0].rows() == worlds[1].rows()
    assert counts(account(worlds[1].config, NOW + 4 * week, T0, T0 + 3 * week)) == (0, 0, len(ends))


def test_a_night_looks_back_to_the_last_good_one(tmp_path: Path) -> None:
    """After a month of failed nights, the next begins where the last good one ended."""
    world = World(tmp_path)
    account(world.config, NOW)
    later = NOW + 30 * 86400
    assert account(world.config, later).from_s == NOW
    assert account(world.config, later + 86400).from_s == later + 86400 - 3 * 86400


def test_a_window_that_was_asked_for_moves_no_mark(tmp_path: Path) -> None:
    """Accounting an old week by hand does not make the schedule skip anything."""
    world = World(tmp_path)
    account(world.config, NOW)
    account(world.config, NOW + 9e6, from_s=T0 - 500, to_s=T0 + int(9e6))
    assert account(world.config, NOW + 9e6).from_s == NOW


def test_a_scheduler_that_does_not_answer_moves_no_mark(tmp_path: Path) -> None:
    """The night fails, and is made up for."""
    world = World(tmp_path)
    account(world.config, NOW)
    (tmp_path / "jobs.jsonl").rename(tmp_path / "away")
    with pytest.raises(SchedulerError):
        account(world.config, NOW + 9e6)
    (tmp_path / "away").rename(tmp_path / "jobs.jsonl")
    assert account(world.config, NOW + 9e6).from_s == NOW


def test_an_unmeasured_job_keeps_its_embodied_impact(tmp_path: Path) -> None:
    """Energy and use are null with the reason; embodied is known."""
    world = World(tmp_path)
    world.say()
    account(world.config, NOW)
    found = one(world)
    assert found.energy["total_j"] is None
    assert "node01" in found.energy["reason"]
    gwp = found.impacts["gwp_kgco2e"]
    assert (gwp["use"], gwp["total"]) == (None, None)
    assert gwp["embodied"]["central"] > 0
    assert "no energy was measured" in gwp["reason"]


def test_without_an_inventory_energy_is_accounted_all_the_same(tmp_path: Path) -> None:
    """Embodied is null and says why; the night says it too."""
    world = World(tmp_path, inventory=None)
    batch(world, ["1"])
    report = account(world.config, NOW)
    assert any("no inventory" in problem for problem in report.problems)
    gwp = one(world).impacts["gwp_kgco2e"]
    assert gwp["use"]["central"] > 0
    assert gwp["embodied"] is None
    assert "no inventory" in gwp["reason"]


def test_a_wrong_inventory_stops_the_night_before_it_writes(tmp_path: Path) -> None:
    """Half a configuration accounts for nothing."""
    world = World(tmp_path, inventory=INVENTORY.replace("ram_gb", "rom_gb"))
    batch(world, ["1"])
    with pytest.raises(ConfigError, match="rom_gb"):
        account(world.config, NOW)
    assert world.rows() == {}


def test_an_unknown_zone_stops_the_night(tmp_path: Path) -> None:
    """It is told with those there are."""
    with pytest.raises(ConfigError, match="'XYZ'"):
        account(World(tmp_path, CONFIG.replace("FRA", "XYZ")).config, NOW)


def test_a_store_that_is_away_is_no_night_without_energy(tmp_path: Path) -> None:
    """Nothing is written as not measured because a folder was not mounted."""
    world = World(tmp_path)
    world.say()
    (tmp_path / "nodes").rmdir()
    with pytest.raises(StoreError, match="nodes"):
        account(world.config, NOW)
    assert world.rows() == {}


def test_bad_rows_are_problems_and_the_others_are_accounted(tmp_path: Path) -> None:
    """The report names them."""
    world = World(tmp_path)
    with (tmp_path / "jobs.jsonl").open("a") as file:
        file.write("rubbish\n")
    batch(world, ["1"])
    report = account(world.config, NOW)
    assert counts(report) == (1, 0, 0)
    assert "jobs.jsonl:1:" in report.problems[0]


def test_a_night_that_fails_is_logged_and_does_not_stop_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The schedule's step says that it failed, and why."""
    world = World(tmp_path)
    config = world.config
    (tmp_path / "jobs.jsonl").unlink()
    assert night(config, lambda: NOW) is False
    assert "jobs.jsonl" in caplog.text
    batch(world, ["1"])
    assert night(config, lambda: NOW) is True
    assert len(world.rows()) == 1


def test_a_measurement_is_not_lost_with_a_node_s_file(tmp_path: Path) -> None:
    """The node's file is away, and the job's record says more: its new words stand beside the energy of before."""
    world = World(tmp_path)
    world.say("1")
    world.node().measured("1")
    account(world.config, NOW)
    (world.folder / "nodes" / "node01.sqlite").unlink()
    assert account(world.config, NOW + 1).changed == 0
    world.say("1", state="FAILED")
    report = account(world.config, NOW + 2)
    assert (report.changed, report.not_measured) == (1, 0)
    assert (one(world).state, one(world).energy_j) == ("FAILED", 5000.0)


def test_a_job_that_never_started_and_then_did_is_not_known(tmp_path: Path) -> None:
    """Corrected by its scheduler: 0 J was right for a job that never ran, and is not known of one that did."""
    world = World(tmp_path)
    world.say("1", start=None, nodes=[])
    account(world.config, NOW)
    world.say("1")
    account(world.config, NOW + 1)
    assert (one(world).energy_j, one(world).start_s) == (None, T0)


def test_energy_of_a_job_that_the_scheduler_does_not_know_is_told(tmp_path: Path) -> None:
    """Once the look-back is over; a run that a record has, and one that is still young, are not."""
    world = World(tmp_path)
    world.say("1")
    node = world.node().measured("1")
    node.measured("7", joules=3.6e6)
    world.say("9", start=None, end=T0 + 100, state="REQUEUED")  # Slurm may forget when it began
    node.measured("9")
    node.measured("8", start=4 * 86400.0, end=4 * 86400.0 + 50)
    assert account(world.config, NOW).problems == ()
    night_after = NOW + 3.5 * 86400
    (problem,) = account(world.config, night_after).problems
    assert problem == "the scheduler knows nothing of 1 kWh of runs that ended: 7 on node01"
    assert account(world.config, NOW + 5 * 86400).problems == ()


def test_of_many_problems_the_first_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    """A file of rubbish does not fill the log."""
    world = World(tmp_path)
    batch(world, ["1"])
    with (tmp_path / "jobs.jsonl").open("a") as file:
        file.writelines(f"rubbish {number}\n" for number in range(250))
    report = account(world.config, NOW)
    assert report.new == 1
    assert len(report.problems) == 101
    assert report.problems[0].startswith(f"{tmp_path}/jobs.jsonl:2: ")
    assert report.problems[-1] == "and 150 more rows of the scheduler that cannot be read"
