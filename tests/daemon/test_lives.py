"""When runs begin and end, whatever order the marks come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.daemon.books import GIB, Json, Played, end, line, node, play, start, tick, use

from jobimpact.core.units import NS


def runs(*lines: Json, cpus: int = 4) -> Json:
    """What is told of each run."""
    return play([node(cpus=cpus), *lines]).told["jobs"]


def test_a_mark_that_is_read_twice_says_nothing_new() -> None:
    """Law 5: each mark counts once, also when the job has ended meanwhile."""
    marks = [start(1, "1", cpus=1), end(3, "1")]
    assert runs(*marks, tick(4), *marks, tick(5)) == runs(*marks, tick(4), tick(5))


def test_an_end_without_a_start_is_a_run_of_no_length() -> None:
    """Its start was never seen: it is told, and has no energy."""
    found = runs(tick(1, package_0=0), end(2, "1"), tick(3, package_0=10))
    assert (found["1"]["seconds"], found["1"]["uj"], found["1"]["flags"]) == (
        0.0,
        None,
        ["no start mark", "end interpolated"],
    )


def test_a_start_that_comes_after_its_end_opens_nothing() -> None:
    """A start mark that was delayed past the end mark would hold its cores for ever."""
    found = runs(tick(1), end(3, "1"), tick(3), start(2, "1", cpus=4), tick(4))
    assert {run: job["state"] for run, job in found.items()} == {"1": "ended"}


def test_an_epilog_of_a_run_that_is_long_gone_is_not_a_new_run() -> None:
    """A lost job's epilog may come ten minutes later: the run is in the ledger already."""
    use0 = use(0)
    lines = [
        start(0, "1", cpus=1),
        tick(0, use(0, j1=0)),
        *(tick(t, use0) for t in range(100, 901, 100)),
        end(950, "1"),
    ]
    assert list(runs(*lines, tick(951, use0))) == ["1"]


def test_an_end_mark_may_count_its_requeue_already() -> None:
    """Slurm's epilog of a requeued job may carry restart 1 though its prolog had 0: it ends the open run."""
    found = runs(start(1, "1", cpus=1), tick(1), end(5, "1", restart=1), tick(6))
    assert {run: (job["state"], job["seconds"]) for run, job in found.items()} == {"1": ("ended", 4.0)}


def test_a_requeue_without_an_end_mark_ends_the_run_before() -> None:
    """The next incarnation's prolog is the end of the one before, and the reader is told."""
    found = runs(start(1, "1", cpus=1), tick(1), start(5, "1", cpus=1, restart=1), tick(6))
    assert (found["1"]["state"], found["1"]["seconds"]) == ("ended", 4.0)
    assert "no end mark" in found["1"]["flags"]
    assert found["1#1"]["state"] == "open"


def test_a_job_id_that_comes_again_is_another_run() -> None:
    """An id without a restart count that starts after it ended is a run of its own, and so is its end."""
    found = runs(start(1, "1", cpus=1), end(2, "1"), tick(3), start(4, "1", cpus=1), tick(5), end(6, "1"), tick(7))
    assert {run: (job["state"], job["seconds"]) for run, job in found.items()} == {
        "1": ("ended", 1.0),
        "1#1": ("ended", 2.0),
    }


def test_a_job_seen_by_its_cgroup_alone_is_a_run() -> None:
    """It starts when it is first seen, ends when its cgroup is gone, and says that no hook spoke."""
    played = play([node(), tick(1, use(0), package_0=0), tick(2, use(1, j1=1), package_0=100), tick(3, use(1))])
    job = played.told["jobs"]["1"]
    assert (job["state"], job["seconds"]) == ("ended", 1.0)
    assert {"no start mark", "no end mark"} <= set(job["flags"])
    assert played.holders("package-0") == {"1": 100_000_000}


def test_a_start_mark_gives_a_discovered_job_what_it_holds() -> None:
    """Cgroup first, mark a moment later: one run, with the mark's cores."""
    found = play([node(), tick(1, use(0, j1=0)), start(1.1, "1", cpus=3), tick(2, use(0, j1=0))])
    assert found.state.holdings.runs["1"].cpus == 3
    assert found.told["jobs"]["1"]["flags"] == ["memory share from cpus", "start interpolated"]


def test_a_cgroup_that_outlives_its_run_is_charged_only_what_it_uses_then() -> None:
    """Processes that cannot be killed may stay for minutes: the hours before were charged to the run already."""
    lines = [node(), start(0, "1", cpus=1), tick(0, use(0, j1=0), package_0=0)]
    lines += [tick(100, use(100, j1=100), package_0=1), end(100, "1"), tick(101, use(101, j1=100), package_0=2)]
    lines += [tick(t, use(t, j1=100), package_0=t / 50) for t in (150, 200, 250)]
    played = play([*lines, tick(260, use(260, j1=101), package_0=105)])
    assert played.holders("package-0") == {"1": 1_000_000, "1#1": 10_000_000, "system": 94_000_000}


def test_the_last_cpu_time_of_a_dead_cgroup_is_not_the_requeued_runs() -> None:
    """Run 1 opens before the daemon hears of run 0's dead cgroup: what that left behind belongs to run 0."""
    dead: Json = {"busy_cpu_s": 60, "jobs": {"1": {"cpu_s": 50, "gone": True}}}
    lines = [node(), start(1, "1", cpus=1), tick(1, use(0, j1=0), package_0=0), tick(2, use(10, j1=10), package_0=1)]
    played = play([*lines, end(3, "1"), start(4, "1", cpus=1, restart=1), tick(5, dead, package_0=101)])
    assert played.holders("package-0") == {"1": 81_000_000, "system": 20_000_000}


def test_a_job_may_have_a_new_cgroup() -> None:
    """Between two steps a job's cgroup may go and come again: its CPU time starts anew, and all of it counts."""
    dead: Json = {"busy_cpu_s": 10, "jobs": {"1": {"cpu_s": 10, "gone": True}}}
    lines = [node(), start(1, "1", cpus=1), tick(1, use(0, j1=0)), tick(2, dead), tick(3, use(10), package_0=0)]
    played = play([*lines, tick(4, use(12, j1=2), package_0=100)])
    assert played.holders("package-0") == {"1": 100_000_000}


def test_a_requeued_job_without_a_prolog_is_known_by_its_new_cgroup() -> None:
    """Slurm may leave out the Prolog of a job that is begun again at once: what it uses is its own, and all of it."""
    lines = [node(), start(1, "1", cpus=1), tick(1, use(0, j1=0), package_0=0), tick(2, use(10, j1=10), package_0=100)]
    dead: Json = {"busy_cpu_s": 10, "jobs": {"1": {"cpu_s": 10, "gone": True}}}
    lines += [end(3, "1", restart=1), tick(3, dead, package_0=100), tick(20, use(10), package_0=100)]
    played = play(
        [
            *lines,
            tick(21, use(11, j1=1), package_0=110),
            tick(22, use(12, j1=2), package_0=120),
            end(23, "1", restart=1),
        ]
    )
    assert played.holders("package-0") == {"1": 100_000_000, "1#1": 20_000_000}
    assert {run: job["state"] for run, job in played.told["jobs"].items()} == {"1": "ended", "1#1": "ended"}
    assert "no start mark" in played.told["jobs"]["1#1"]["flags"]


def test_a_held_job_without_a_cgroup_stays_open() -> None:
    """A batch job's second node may never have a cgroup: silence is not its end."""
    lines = [start(0, "1", cpus=4), tick(0, use(0), package_0=0), *(tick(t, use(0), package_0=t) for t in (300, 900))]
    assert runs(*lines)["1"]["state"] == "open"


events = st.tuples(
    st.sampled_from(["start", "end"]), st.sampled_from("12"), st.integers(0, 3), st.integers(0, 60), st.booleans()
)


@given(st.lists(events, max_size=12))
def test_any_marks_leave_whole_lives(marks: list[tuple[str, str, int, int, bool]]) -> None:
    """Law 1: no order of marks makes two open runs of one job, or a run longer than the time that passed."""
    lines, now = [node()], 60.0
    for event, job, restart, t, tick_now in marks:
        lines.append(line(float(t), mark={"event": event, "job": job, "restart": restart, "cpus": 1}))
        if tick_now:
            now += 1
            lines.append(tick(now, use(0), package_0=now, dram_0=now))
    played: Played = play([*lines, tick(now + 1, use(0), package_0=now + 1)])
    played.check_balance()
    still = [run.job for run in played.state.holdings.open_runs()]
    assert len(still) == len(set(still))
    assert all(0 <= job["seconds"] * NS <= played.state.holdings.t_ns for job in played.told["jobs"].values())
    assert played.state.holdings.node.mem_bytes == 4 * GIB
