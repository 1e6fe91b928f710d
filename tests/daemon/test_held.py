"""What a run held of its node, from the marks to accounting's reader, through the real books and their file."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from tests.daemon.books import GIB, Json, end, line, node, start, tick, use, write
from tests.daemon.stories import Story, stories

from jobimpact.core.nodefile import node_file
from jobimpact.core.records import NodeFacts
from jobimpact.core.units import NS
from jobimpact.energy.local import LocalEnergy
from jobimpact_daemon.bookkeeper import Bookkeeper
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.replay import _Player

SLICES = {"MIG-3": {"gpu": "a", "parts": 3}, "MIG-2": {"gpu": "a", "parts": 2}}


def keep(folder: Path, lines: list[Json], facts: NodeFacts | None = None) -> Path:
    """Play a recording into a node's file, and leave it there."""
    ledger = Ledger(node_file(folder, "n1"), "n1", "c")
    state, _, _ = ledger.load(facts or NodeFacts(0, 0))
    books = Bookkeeper(state, {}, ledger.taken)
    books.accounts = ledger.accounts(state)
    _Player(books, ledger).play(write(folder / "recording", lines))
    ledger.close()
    return ledger.path


def shares(path: Path, run: str = "1") -> dict[str, float]:
    """A run's mean parts of the node, as the file has them."""
    with sqlite3.connect(path) as db:
        held, elapsed_ns = db.execute("SELECT held, elapsed_ns FROM run WHERE run = ?", (run,)).fetchone()
    db.close()
    return {resource: ns / elapsed_ns for resource, ns in json.loads(held).items()}


def gpu_share(path: Path, job: str = "1") -> float | None:
    """A run's part of the node's GPUs, as accounting reads it."""
    with LocalEnergy(path.parent) as energy:
        ((run,), unread) = energy.runs_of(job)
    assert unread == []
    return run.gpu_share


def sized(t: float = 0, slices: Json | None = None, **size: Any) -> Json:
    """A node of 4 CPUs, 4 GiB and GPUs a and b."""
    facts = {"cpus": 4, "mem_bytes": 4 * GIB, "gpus": ["a", "b"], "slices": slices or {}} | size
    return line(t, boot="b1", node=facts)


def day(first: Json, *marks: Json, until: float = 101.0) -> list[Json]:
    """A node of which a package is read at its start and end."""
    return [first, tick(0.5, use(0), package_0=0), *marks, tick(until, use(0), package_0=1000)]


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ({"gpus": ["MIG-3"]}, 3 / 7 / 2),
        ({"gpus": ["MIG-3", "MIG-2"]}, 5 / 7 / 2),
        ({"gpus": ["MIG-3", "b"]}, (3 / 7 + 1) / 2),
        ({"gpus": ["b"], "gpu_percent": 25}, 0.25 / 2),
        ({"gpus": ["b"]}, 1 / 2),
        ({"gpus": ["a", "b"]}, 1.0),
        ({}, 0.0),
    ],
)
def test_a_run_s_part_of_the_node_s_gpus(tmp_path: Path, holds: Json, expected: float) -> None:
    """Slices by their size, MPS by its percentage, a GPU of its own as one: of all the GPUs that the node has."""
    lines = day(sized(slices=SLICES), start(1, "1", cpus=1, mem_bytes=GIB, **holds), end(91, "1"))
    path = keep(tmp_path, lines)
    assert gpu_share(path) == pytest.approx(expected, abs=2e-6)
    assert shares(path) == pytest.approx(
        {"cpu": 0.25, "dram": 0.25, "gpu": expected, "node": max(0.25, expected)}, abs=2e-6
    )


def test_shards_share_what_is_there(tmp_path: Path) -> None:
    """One of four shards in use beside three: a quarter and three of one GPU of two; alone for half of it, more."""
    both = [start(1, "1", cpus=1, gpus=["a"], shards=1), start(1, "2", cpus=1, gpus=["a"], shards=3)]
    path = keep(tmp_path, day(sized(), *both, end(51, "2")))
    assert gpu_share(path, "1") == pytest.approx((0.25 + 1) / 2 / 2, abs=2e-6)
    assert gpu_share(path, "2") == pytest.approx(0.75 / 2, abs=2e-6)


def test_a_suspended_time_is_in_the_mean(tmp_path: Path) -> None:
    """Half of the time without CPUs: half of the CPUs, all of the GPU."""
    stopped = {"busy_cpu_s": 0, "jobs": {"1": {"cpu_s": 0, "suspended": True}}}
    lines = [sized(), start(1, "1", cpus=4, gpus=["a"]), tick(1, use(0, j1=0), package_0=0)]
    path = keep(tmp_path, [*lines, tick(51, stopped, package_0=100), tick(101, stopped, package_0=200)])
    assert shares(path)["cpu"] == pytest.approx(0.5)
    assert gpu_share(path) == 0.5


def test_a_node_without_gpus_has_no_part_of_them(tmp_path: Path) -> None:
    """Not zero of nothing: none."""
    path = keep(tmp_path, day(node(), start(1, "1", cpus=4), end(91, "1")))
    assert gpu_share(path) is None
    assert shares(path) == {"cpu": 1.0, "dram": 1.0, "node": 1.0}


def test_a_gpu_that_nobody_knows_is_not_none_of_the_gpus(tmp_path: Path) -> None:
    """A device number that no driver has named: the part is not known; once it is, it is that of the time since."""
    lines = [sized(gpus=["b"]), start(1, "1", cpus=1, gpus=["a"]), tick(1, package_0=0), tick(51, package_0=100)]
    (tmp_path / "later").mkdir()
    assert gpu_share(keep(tmp_path, lines)) is None
    assert gpu_share(keep(tmp_path / "later", [*lines, sized(51), tick(101, package_0=200)])) == 0.5


def test_who_was_seen_by_a_cgroup_alone_may_hold_gpus(tmp_path: Path) -> None:
    """Nobody told of any: not known, and not zero; once the mark is there, it is what the mark says."""
    lines = [sized(), *(tick(t, use(t, j1=t - 1), package_0=t) for t in (1, 11, 21))]
    (tmp_path / "later").mkdir()
    assert gpu_share(keep(tmp_path, lines)) is None
    late = start(22, "1", cpus=1, gpus=["a"])
    assert gpu_share(keep(tmp_path / "later", [*lines, late, tick(31, use(31, j1=30), package_0=31)])) == 0.5


def test_a_node_that_loses_a_gpu_gives_no_more_than_there_was(tmp_path: Path) -> None:
    """Two of four GPUs for half of the time, two of two for the other: three quarters, and never more than all."""
    four = sized(gpus=["a", "b", "c", "d"])
    lines = [four, start(0, "1", cpus=4, gpus=["a", "b"]), tick(0, use(0), package_0=0), tick(50, package_0=0)]
    path = keep(tmp_path, [*lines, sized(50, cpus=2), tick(100, use(0), package_0=1000)])
    assert gpu_share(path) == pytest.approx(0.75, abs=2e-6)
    assert shares(path)["cpu"] == 1.0


def test_a_run_of_no_time_has_no_part(tmp_path: Path) -> None:
    """An end without a start: nothing to divide by."""
    assert gpu_share(keep(tmp_path, day(sized(), end(50, "1")))) is None


@settings(max_examples=60, deadline=None)
@given(stories())
def test_no_part_is_more_than_all(story: Story) -> None:
    """Whatever happens on a node, requeues, reboots and GPUs that come and go included."""
    with tempfile.TemporaryDirectory() as folder:
        path = keep(Path(folder), story.lines)
        with sqlite3.connect(path) as db:
            found = db.execute("SELECT held, elapsed_ns FROM run").fetchall()
        db.close()
    for held, elapsed_ns in found:
        parts = json.loads(held)
        assert {"cpu", "dram", "node"} <= parts.keys() <= {"cpu", "dram", "gpu", "node"}
        assert all(0 <= ns <= elapsed_ns for ns in parts.values())


def points(path: Path, holder: str) -> list[tuple[str, float, int, int]]:
    """A holder's points, by domain and time."""
    question = "SELECT domain, wall_s, uj, known_ns FROM job_energy WHERE run = ? ORDER BY domain, wall_s"
    with sqlite3.connect(path) as db:
        found = db.execute(question, (holder,)).fetchall()
    db.close()
    return found


def test_idle_and_system_have_points_once_a_minute(tmp_path: Path) -> None:
    """On a node where no job is and nothing happens, too; a domain that is not read has none."""
    lines = [node(), *(tick(t, use(t / 2), package_0=40 * t, dram_0={"failed": "EIO"}) for t in range(1, 302, 10))]
    path = keep(tmp_path, lines)
    idle = points(path, "idle")
    assert {domain for domain, *_ in idle} == {"package-0"}
    assert [round(wall_s - idle[0][1]) for _, wall_s, *_ in idle] == [0, 60, 120, 180, 240, 300]
    assert all(known_ns == round((wall_s - 1_800_000_001) * NS) for _, wall_s, _, known_ns in idle)
    system = points(path, "system")
    assert [wall_s for _, wall_s, *_ in system] == [wall_s for _, wall_s, *_ in idle[1:]]
    assert idle[-1][2] + system[-1][2] == 40 * 10**6 * (idle[-1][1] - 1_800_000_001)


def test_points_of_idle_go_on_after_a_restart(tmp_path: Path) -> None:
    """They are cumulative over the daemon's lives."""
    keep(tmp_path, [node(), *(tick(t, package_0=40 * t) for t in range(1, 102, 10))])
    path = keep(tmp_path, [node(), *(tick(t, package_0=40 * t) for t in range(201, 302, 10))])
    found = points(path, "idle")
    energies = [uj for _, _, uj, _ in found]
    assert energies == sorted(energies)
    assert energies[-1] == 40 * 10**6 * round(found[-1][1] - 1_800_000_001)


def test_points_of_idle_have_a_retention(tmp_path: Path) -> None:
    """As those of the runs: 90 days; what they sum to stays."""
    days = [node(), *(tick(1 + day * 86_400, package_0=day * 1000) for day in (0, 1, 4, 91, 93))]
    path = keep(tmp_path, days)
    assert [round((wall_s - 1_800_000_001) / 86_400) for _, wall_s, *_ in points(path, "idle")] == [4, 91, 93]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT uj FROM ledger WHERE holder = 'idle'").fetchall() == [(93_000 * 10**6,)]
    db.close()


def test_points_of_idle_go_on_when_the_clock_steps_back(tmp_path: Path) -> None:
    """A clock set back by an hour does not silence them for an hour."""
    ticks = [tick(t, package_0=40 * t) for t in range(1, 402, 10)]
    for one in ticks[20:]:
        one["wall"] -= 3600
    found = points(keep(tmp_path, [node(), *ticks]), "idle")
    assert sum(wall_s < 1_800_000_000 for _, wall_s, *_ in found) == 4
    assert len(found) == 8


def test_a_domain_that_is_gone_has_no_more_points(tmp_path: Path) -> None:
    """After a reboot it was not looked at: nothing is known of it."""
    lines = [node(), *(tick(t, package_0=t, dram_0=t) for t in range(1, 202, 10))]
    lines += [node(boot="b2", t=300), *(tick(t, package_0=t) for t in range(301, 502, 10))]
    last = {domain: wall_s - 1_800_000_000 for domain, wall_s, *_ in points(keep(tmp_path, lines), "idle")}
    assert last["package-0"] > 400
    assert last["dram-0"] <= 201
