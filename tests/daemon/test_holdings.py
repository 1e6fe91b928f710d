"""Integrals of what is held and used: time only goes forward, and nothing is counted twice."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import IDLE, JobUsage, NodeFacts, Slice, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.holdings import MILLION, Holdings, Run

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
    assert holdings.t_ns == t_ns
    held = sum(one.held.get("cpu", 0) for one in holdings.runs.values())
    assert held + holdings.idle.get("cpu", 0) == 4 * t_ns
    assert holdings.idle.get("gpu:a", 0) == MILLION * t_ns


cores = st.integers(0, 16)
sockets = st.none() | st.dictionaries(st.sampled_from(["package-0", "package-1"]), st.integers(0, 8), max_size=2)
devices = st.lists(st.sampled_from(["a", "b", "m1", "m2", "m3", "unknown"]), unique=True, max_size=4)
jobs = st.lists(
    st.tuples(cores, st.integers(0, 8 * GIB), sockets, devices, st.none() | st.integers(1, 100)), max_size=4
)


@given(jobs, st.lists(st.booleans(), min_size=4, max_size=4))
def test_whatever_is_held_no_resource_is_more_than_whole(jobs: list[Any], stopped: list[bool]) -> None:
    """Law 1: GPUs and the node are shared to exactly one, however over-committed; what is free is idle."""
    node = NodeFacts(
        16,
        8 * GIB,
        ("a", "b"),
        {"package-0": 8, "package-1": 8},
        {"m1": Slice("b", 3), "m2": Slice("b", 4), "m3": Slice("b", 1)},
    )
    holdings = Holdings(node)
    for number, (cpus, mem, by, gpus, percent) in enumerate(jobs):
        key = str(number)
        one = Run(key, key, 0, 0, 0.0, cpus=cpus, mem_bytes=mem, gpus=tuple(gpus), gpu_percent=percent)
        one.cpus_by, one.suspended = by, stopped[number]
        holdings.runs[key] = one
    holdings.advance(NS)
    for resource in ("gpu:a", "gpu:b", "node"):
        held = [one.held.get(resource, 0) for one in holdings.runs.values()]
        assert all(part >= 0 for part in held)
        assert sum(held) + holdings.idle.get(resource, 0) == MILLION * NS, resource


@given(st.lists(st.tuples(st.integers(0, 5 * NS), st.integers(0, 5 * NS)), max_size=20))
def test_busy_time_is_the_runs_or_the_systems(steps: list[tuple[int, int]]) -> None:
    """Law 1: where the node's count is never behind its run's, run + system = busy; so it is by package."""
    holdings, job_ns, busy_ns = books(4, run("1")), 0, 0
    holdings.node = NodeFacts(4, 4 * GIB, (), {"package-0": 3, "package-1": 1})
    for used, beside in steps:
        job_ns, busy_ns = job_ns + used, busy_ns + used + beside
        holdings.advance(holdings.t_ns + NS)
        holdings.use(Usage({"1": JobUsage(job_ns)}, busy_ns))
    used = holdings.runs["1"].used
    assert used.get("cpu", 0) + holdings.system.get("cpu", 0) == busy_ns
    packages = ("package-0", "package-1")
    assert sum(used.get(name, 0) for name in packages) == used.get("cpu", 0)


def test_cpu_time_is_the_packages_on_which_it_was_used() -> None:
    """A job that is bound to one package has used nothing of the other, and what nobody used there is the system's."""
    holdings = books(4, run("1", 2))
    holdings.node = NodeFacts(4, 4 * GIB, (), {"package-0": 2, "package-1": 2})
    holdings.use(Usage({"1": JobUsage(0, cpu_by={"package-0": 0})}, 0, busy_by={"package-0": 0, "package-1": 0}))
    holdings.advance(10 * NS)
    by = {"package-0": 8 * NS, "package-1": 3 * NS}
    holdings.use(Usage({"1": JobUsage(8 * NS, cpu_by={"package-0": 8 * NS})}, 11 * NS, busy_by=by))
    assert holdings.runs["1"].used == {"cpu": 8 * NS, "package-0": 8 * NS}
    assert holdings.system == {"cpu": 3 * NS, "package-1": 3 * NS, "dram": 0} | {"dram": holdings.system["dram"]}


def test_cores_are_held_on_the_packages_that_the_cpuset_allows() -> None:
    """Two cores on package 0 are all of it; the other package is idle."""
    holdings = books(4, run("1", 2))
    holdings.node = NodeFacts(4, 4 * GIB, (), {"package-0": 2, "package-1": 2})
    holdings.runs["1"].cpus_by = {"package-0": 2}
    holdings.advance(NS)
    assert holdings.runs["1"].held["package-0"] == 2 * MILLION * NS
    assert "package-0" not in holdings.idle
    assert holdings.idle["package-1"] == 2 * MILLION * NS


def test_a_suspended_job_keeps_memory_and_gpus_and_no_cpus() -> None:
    """Its cores are anybody's while it is stopped; by memory it still holds a quarter of the node."""
    holdings = books(4, run("1", 4))
    holdings.runs["1"].suspended, holdings.runs["1"].gpus = True, ()
    holdings.advance(NS)
    held = holdings.runs["1"].held
    assert ("cpu" in held, held["dram"], held["node"]) == (False, (GIB >> 10) * NS, MILLION // 4 * NS)


def test_a_gpu_job_with_few_cores_holds_the_node_by_its_gpus() -> None:
    """8 of 8 GPUs and 8 of 128 cores beside 120 cores: dominant shares 1 and 0.94 are brought to one."""
    node = NodeFacts(128, 128 * GIB, tuple("abcdefgh"))
    holdings = Holdings(node)
    holdings.runs["g"] = Run("g", "g", 0, 0, 0.0, cpus=8, mem_bytes=8 * GIB, gpus=tuple("abcdefgh"))
    holdings.runs["c"] = Run("c", "c", 0, 0, 0.0, cpus=120, mem_bytes=120 * GIB)
    holdings.advance(NS)
    held = {key: one.held["node"] / NS for key, one in holdings.runs.items()}
    assert held == {"g": 516129, "c": 483871}
    assert "node" not in holdings.idle


def test_mig_devices_hold_their_slices_and_mps_its_percentage() -> None:
    """3 of 7 slices are 3/7 of the GPU; two MPS clients of 30 and 50 % leave a fifth idle; shards go by number."""
    node = NodeFacts(4, 4 * GIB, ("m", "p", "s"), {}, {"MIG-1": Slice("m", 3, 7)})
    holdings = Holdings(node)
    holds = {"mig": ("MIG-1", None, None), "p30": ("p", 30, None), "p50": ("p", 50, None)}
    holds |= {"s1": ("s", None, 1), "s3": ("s", None, 3)}
    for key, (gpu, percent, shards) in holds.items():
        holdings.runs[key] = Run(key, key, 0, 0, 0.0, gpus=(gpu,), gpu_percent=percent, shards=shards)
    holdings.advance(7)
    part = {
        key: sum(one.held[gpu] for gpu in one.held if gpu.startswith("gpu:")) for key, one in holdings.runs.items()
    }
    assert part == {"mig": 3 * MILLION - 3, "p30": 2_100_000, "p50": 3_500_000, "s1": 1_750_000, "s3": 5_250_000}
    assert holdings.idle["gpu:p"] == 1_400_000
    assert "gpu:s" not in holdings.idle


def test_busy_time_of_a_mig_device_counts_by_its_slices() -> None:
    """A second on three of seven slices, and one of nobody's on two."""
    node = NodeFacts(4, 4 * GIB, ("m",), {}, {"MIG-1": Slice("m", 3, 7), "MIG-2": Slice("m", 2, 7)})
    holdings = Holdings(node, runs={"1": run("1")})
    holdings.use(Usage({"1": JobUsage(0, gpu_ns={"MIG-1": NS})}, gpu_ns={"MIG-2": NS}))
    assert holdings.runs["1"].used["gpu:m"] == 428571 * NS
    assert holdings.system["gpu:m"] == 285714 * NS


def test_a_coarse_clock_is_not_charged_to_the_system() -> None:
    """The kernel counts the node in ticks and cgroups in nanoseconds: the lag is paid back, not charged."""
    holdings = books(4, run("1"))
    for step in range(1, 101):
        holdings.advance(step * NS)
        holdings.use(Usage({"1": JobUsage(step * NS)}, (step - step % 2) * NS))
    assert holdings.system.get("cpu", 0) == 0


def test_cpu_time_that_falls_is_no_use() -> None:
    """A session loses the time of a process that nobody waited for: its use never goes back."""
    holdings = books(4, run("1"))
    for step, cpu_s in enumerate([10, 9, 11], 1):
        holdings.advance(step * NS)
        holdings.use(Usage({"1": JobUsage(cpu_s * NS)}))
    assert holdings.runs["1"].used["cpu"] == 12 * NS


def test_memory_is_the_mean_of_both_ends_and_stays_to_the_end() -> None:
    """From 1 GiB to 3 GiB in a second is 2 GiB-seconds; memory that is gone was there until it went."""
    holdings = books(4, run("1"))
    holdings.use(Usage({"1": JobUsage(0, GIB)}))
    for step, use in enumerate([JobUsage(0, 3 * GIB), JobUsage(0, gone=True)], 1):
        holdings.advance(step * NS)
        holdings.use(Usage({"1": use}))
    assert holdings.runs["1"].used["dram"] == (2 + 3) * (GIB >> 10) * NS


def test_an_over_committed_node_has_no_idle_cores() -> None:
    """Idle is what is left, never negative."""
    holdings = books(4, run("1", 4), run("2", 4, 4 * GIB))
    holdings.advance(NS)
    assert (holdings.idle.get("cpu", 0), holdings.idle.get("dram", 0)) == (0, 0)


def test_a_gpu_goes_whole_to_its_holder_for_as_long_as_it_is_held() -> None:
    """A GPU held for 3 of 4 seconds is idle for a quarter of the time."""
    holdings = Holdings(NodeFacts(16, 1 << 30, ("g",)))
    before = holdings.snapshot()
    holdings.advance(NS)
    holdings.runs["7"] = Run("7", "7", 0, NS, 0.0, gpus=("g",))
    holdings.advance(4 * NS)
    held, used = holdings.snapshot().growth(before).of("gpu:g")
    assert (held, used) == ({"7": 3 * NS * MILLION, IDLE: NS * MILLION}, {})
