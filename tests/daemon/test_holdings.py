"""Integrals of what is held and used: time only goes forward, and nothing is counted twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import JobUsage, NodeFacts, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.holdings import Holdings, Run

GIB = 1 << 30


def books(cpus: int = 4, *runs: Run) -> Holdings:
    """A node's holdings at boot time 0, its use read."""
    holdings = Holdings(NodeFacts(cpus, 4 * GIB, ("a",)), runs={run.key: run for run in runs})
    holdings.use(Usage({}, 0, GIB))
    return holdings


def run(key: str, cpus: int = 1, mem_bytes: int = GIB) -> Run:
    """An open run."""
    return Run(key, key, 0, 0, 0.0, cpus=cpus, mem_bytes=mem_bytes)


@given(st.lists(st.integers(-NS, 10 * NS), max_size=20))
def test_held_and_idle_cores_are_all_cores(moves: list[int]) -> None:
    """Law 1: whatever is asked, time goes only forward, and held + idle = cores times time."""
    holdings, t_ns = books(4, run("1", 1), run("2", 2)), 0
    for move in moves:
        holdings.advance(holdings.t_ns + move)
        t_ns = max(t_ns, t_ns + move)
    held = holdings.runs["1"].time_ns + 2 * holdings.runs["2"].time_ns
    assert holdings.t_ns == t_ns
    assert held + holdings.idle_cpu_ns == 4 * t_ns
    assert holdings.idle_gpu_ns.get("a", 0) == t_ns


@given(st.lists(st.tuples(st.integers(0, 5 * NS), st.integers(0, 5 * NS)), max_size=20))
def test_busy_time_is_the_runs_or_the_systems(steps: list[tuple[int, int]]) -> None:
    """Law 1: where the node's count is never behind its run's, run + system = busy."""
    holdings, job_ns, busy_ns = books(4, run("1")), 0, 0
    for used, beside in steps:
        job_ns, busy_ns = job_ns + used, busy_ns + used + beside
        holdings.advance(holdings.t_ns + NS)
        holdings.use(Usage({"1": JobUsage(job_ns)}, busy_ns))
    assert holdings.runs["1"].cpu_ns + holdings.system_cpu_ns == busy_ns


def test_a_coarse_clock_is_not_charged_to_the_system() -> None:
    """The kernel counts the node in ticks and cgroups in nanoseconds: the lag is paid back, not charged."""
    holdings = books(4, run("1"))
    for step in range(1, 101):
        holdings.advance(step * NS)
        holdings.use(Usage({"1": JobUsage(step * NS)}, (step - step % 2) * NS))
    assert holdings.system_cpu_ns == 0


def test_cpu_time_that_falls_is_no_use() -> None:
    """A session loses the time of a process that nobody waited for: its use never goes back."""
    holdings = books(4, run("1"))
    for step, cpu_s in enumerate([10, 9, 11], 1):
        holdings.advance(step * NS)
        holdings.use(Usage({"1": JobUsage(cpu_s * NS)}))
    assert holdings.runs["1"].cpu_ns == 12 * NS


def test_memory_is_the_mean_of_both_ends_and_stays_to_the_end() -> None:
    """From 1 GiB to 3 GiB in a second is 2 GiB-seconds; memory that is gone was there until it went."""
    holdings = books(4, run("1"))
    holdings.use(Usage({"1": JobUsage(0, GIB)}))
    for step, use in enumerate([JobUsage(0, 3 * GIB), JobUsage(0, gone=True)], 1):
        holdings.advance(step * NS)
        holdings.use(Usage({"1": use}))
    assert holdings.runs["1"].mem_kib_ms == (2 + 3) * (GIB >> 10) * 1000


def test_an_over_committed_node_has_no_idle_cores() -> None:
    """Idle is what is left, never negative."""
    holdings = books(4, run("1", 4), run("2", 4, 4 * GIB))
    holdings.advance(NS)
    assert (holdings.idle_cpu_ns, holdings.idle_mem_kib_ms) == (0, 0)
