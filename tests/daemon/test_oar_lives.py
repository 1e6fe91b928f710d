"""The lives of OAR's jobs: a cgroup that goes is the end, a cpuset tells the cores, a left-over folder is nobody's."""

from __future__ import annotations

import pytest
from tests.daemon.books import Json, end, node, play, start, tick

HOUR = 3600.0
GONE: Json = {"busy_cpu_s": 3, "jobs": {"1": {"cpu_s": 2, "gone": True, "ended": True}}}


def seen(busy: float = 0, **job: float) -> Json:
    """CPU seconds of the node, and what is told of job 1's cgroup."""
    return {"busy_cpu_s": busy, "jobs": {"1": {"cpu_s": 0, **job}}}


def runs(*lines: Json) -> Json:
    """What is told of each run."""
    return play([node(), *lines]).told["jobs"]


def test_a_cgroup_that_was_removed_is_the_end() -> None:
    """Not `lost` after five minutes: OAR removes it at the job's end and never before."""
    played = play(
        [
            *(node(), start(0, "1", cpus=4), tick(0, seen(), package_0=0), tick(2, seen(2, cpu_s=2), package_0=100)),
            *(tick(3, GONE, package_0=150), tick(400, {"busy_cpu_s": 3, "jobs": {}}, package_0=1000)),
        ],
        {"package-0": 1.0},
    )
    job = played.told["jobs"]["1"]
    assert (job["state"], job["seconds"], "no end mark" in job["flags"]) == ("ended", 3.0, True)


def test_an_end_mark_may_come_a_moment_after_the_cgroup() -> None:
    """OAR's notifier runs when the cgroup has gone: that mark is there, and no mark is missing."""
    lines = [start(0, "1", cpus=4), tick(0, seen()), tick(3, GONE), end(3.02, "1"), tick(4, {"jobs": {}})]
    assert runs(*lines)["1"] == runs(*lines[:3], end(3, "1"), tick(4, {"jobs": {}}))["1"] | {
        "flags": ["memory share from cpus"]
    }


@pytest.mark.parametrize("late", [0, 2], ids=["at once", "two readings later"])
def test_a_cpuset_tells_the_cores(late: int) -> None:
    """Seen by its cgroup alone: a quarter of the node while nobody knows better, and then what its cpuset has."""
    readings = [tick(t, seen(0, **({"cpuset": 3} if t >= late else {})), package_0=100 * t) for t in range(5)]
    played = play([node(), *readings], {"package-0": 1000.0})
    run = played.state.holdings.runs["1"]
    assert (run.cpus, run.mem_bytes) == (3, played.state.holdings.node.mem_bytes * 3 // 4)
    assert "memory share from cpus" in run.flags
    assert "share not known: counted as one cpu" not in run.flags
    guessed = max(0, late - 1)
    assert played.holders("package-0")["1"] == guessed * 25_000_000 + (4 - guessed) * 75_000_000


def test_a_cpuset_says_nothing_against_a_mark() -> None:
    """OAR may have given three threads of which the node made six: the mark is what was given."""
    played = play([node(), start(0, "1", cpus=2), tick(0, seen(cpuset=4)), tick(1, seen(cpuset=4))])
    assert played.state.holdings.runs["1"].cpus == 2


def test_a_mark_that_knows_no_cores_leaves_them_to_the_cpuset() -> None:
    """Where nodes add the sibling threads, the server does not know how many there are."""
    played = play([node(), start(0, "1"), tick(0, seen()), tick(1, seen(cpuset=2))])
    assert played.state.holdings.runs["1"].cpus == 2


def test_a_mark_tells_whose_a_seen_job_is() -> None:
    """OAR's cgroup is made a moment before its mark is written, and has a login's name in it and no uid."""
    played = play([node(), tick(0, seen()), start(0.05, "1", cpus=2, uid=5201), tick(1, seen())])
    assert played.state.holdings.runs["1"].uid == 5201


@pytest.mark.parametrize("marked", [True, False])
def test_a_folder_that_was_left_over_does_not_stay_open(marked: bool) -> None:
    """Its clean-up failed, no mark came: after an hour without a process it is lost, once; used again, it is anew."""
    marks = [start(0, "1", cpus=1)] if marked else []
    left = [tick(t, seen(2, cpu_s=2, empty_s=t - 10)) for t in (1000.0, 10 + HOUR, 11 + HOUR, 10 + 2 * HOUR)]
    found = runs(*marks, tick(0, seen()), tick(10, seen(2, cpu_s=2)), *left)
    assert [(run, job["state"], job["seconds"]) for run, job in found.items()] == [("1", "lost", 10 + HOUR)]
    found = runs(*marks, tick(0, seen()), tick(10, seen(2, cpu_s=2)), *left, tick(3 * HOUR, seen(3, cpu_s=3)))
    assert {run: job["state"] for run, job in found.items()} == {"1": "lost", "1#1": "open"}


def test_a_folder_that_outlives_its_end_mark_opens_nothing() -> None:
    """The clean-up told of the end and then could not remove it."""
    lines = [tick(t, seen(2, cpu_s=2, empty_s=t - 9)) for t in (20.0, 71.0, 300.0, 5000.0)]
    found = runs(start(0, "1", cpus=1), tick(0, seen()), tick(9, seen(2, cpu_s=2)), end(10, "1"), *lines)
    assert {run: job["state"] for run, job in found.items()} == {"1": "ended"}


def test_a_node_that_a_job_never_uses_is_still_its_own() -> None:
    """The second host of a job may be without a process for hours."""
    lines = [tick(t, seen(empty_s=t)) for t in (1.0, 300.0, 2 * HOUR)]
    assert runs(start(0, "1", cpus=4), tick(0, seen()), *lines)["1"]["state"] == "open"
    assert runs(tick(0, seen()), *lines)["1"]["state"] == "open"


def test_a_folder_from_before_the_daemon_is_no_job() -> None:
    """`jobimpactd` starts for the first time where a clean-up had failed last week."""
    lines = [tick(t, seen(100, cpu_s=50, empty_s=HOUR + t)) for t in (0.0, 1.0, 100.0)]
    assert runs(*lines) == {}
