"""Nights over OAR's records: energies from the nodes' files, each job once, and those that no node can have booked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.accounting.oar.site import T0, Site
from tests.accounting.world import World

from jobimpact.cli.main import main
from jobimpact.nightly.night import account
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult

NOW = T0 + 1000.0
INVENTORY = """
version: "2026-11"
pue: 1.3
types:
  cpu:
    nodes: n[1-2]
    cpu: {model: Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz, count: 1, cores: 4}
    ram_gb: 64
"""


@pytest.fixture
def world(tmp_path: Path, site: Site) -> World:
    """Accounting beside the site."""
    settings = {
        "cluster": "lab",
        "store": {"local": {"path": "nodes"}},
        "results": "sqlite:///results.db",
        "scheduler": {"oar": {"dsn": site.dsn()}},
        "inventory": "nodes.yaml",
        "grid": {"zone": "FRA"},
    }
    return World(tmp_path, json.dumps(settings), INVENTORY)


def one(world: World, job: str) -> JobResult:
    reader = Reader(world.config.results)
    try:
        [found] = reader.find(job)
    finally:
        reader.close()
    return found


def test_a_night_twice_changes_nothing(site: Site, world: World) -> None:
    """Energy by the id that the cgroup has; a job that never ran has none, one that is off the books says so."""
    site.job(1, resources=[5, 6], exit_code=256)
    site.job(2, "Waiting 0-35, Error 35", events=[("FRAG_JOB_REQUEST", 35)])
    site.job(3, resources=[7], types=["noop"], exit_code=None)
    site.job(4, resources=[1, 2, 3, 4], types=["deploy"])
    site.job(5, "Waiting 0-1, Running 1", [8])
    world.node("n2").measured("1", start=4.1, end=104.2, cpus=2)
    first = account(world.config, NOW)
    assert (first.new, first.changed, first.not_measured) == (4, 0, 2)
    site.db.execute("UPDATE jobs SET accounted = 'YES'")  # as OAR does within the hour
    before = world.rows()
    assert set(before) == {f"{job}@{T0}" for job in (1, 2, 3, 4)}
    second = account(world.config, NOW + 60)
    assert (second.new, second.changed, second.unchanged) == (0, 0, 4)
    assert world.rows() == before
    assert (one(world, "1").energy_j, one(world, "1").state) == (5000.0, "FAILED")
    assert (one(world, "2").energy_j, one(world, "2").nodes) == (0.0, ())
    for job, kind in (("3", "noop"), ("4", "deploy")):
        assert one(world, job).energy_j is None
        assert f"{kind} job" in str(one(world, job).energy)


def test_a_job_that_was_finishing_comes_with_the_next_night(site: Site, world: World) -> None:
    """Its end lies before that night's window; and it is not lost between the two."""
    site.job(1, "Waiting 0-1, Running 1-150, Finishing 150", [5], stop_time=150)
    assert account(world.config, T0 + 200.0, T0, T0 + 200).new == 0
    site.change(1, state="Terminated", exit_code=0)
    site.db.execute("UPDATE job_state_logs SET date_stop = %s WHERE date_stop = 0", (T0 + 260,))
    site.put("job_state_logs", job_id=1, job_state="Terminated", date_start=T0 + 260, date_stop=0)
    assert account(world.config, T0 + 400.0, T0 + 201, T0 + 400).new == 1
    assert one(world, "1").end_s == T0 + 150


def test_rows_that_cannot_be_read_are_told_of(site: Site, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The command names the job, and accounts for the others."""
    site.job(1, resources=[5])
    site.job(2, "Waiting 0-1, Running 50-20, Terminated 60", [5])
    words = ["account", "--config", str(world.config_file), "--from", str(T0), "--to", str(T0 + 1000)]
    main(words)
    printed = capsys.readouterr()
    assert "OAR's job 2: Running ends at" in printed.out + printed.err
    assert set(world.rows()) == {f"1@{T0}"}
