"""Whose processes have used a shared GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import Counter, Domain, JobUsage, Mark, NodeFacts, Slice, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.bookkeeper import Bookkeeper, Observation, State
from jobimpact_daemon.holdings import Holdings, Run
from jobimpact_daemon.jobs.gpu_use import GpuUse, shared_gpus
from jobimpact_daemon.sources.gpu_use import BusyTimes

JOBS = {1: "a", 2: "a", 3: "b", 4: None}
steps = st.lists(st.dictionaries(st.sampled_from(sorted(JOBS)), st.integers(0, 1000)), max_size=20)


@given(steps)
def test_every_process_time_is_its_jobs_or_nobodys(steps: list[dict[int, int]]) -> None:
    """Law 1: what the driver tells of processes that come and go is added up, once, and never falls."""
    use, busy, true = GpuUse(JOBS.get), dict.fromkeys(JOBS, 0), dict.fromkeys(["a", "b", ""], 0)
    for step in steps:
        for pid in JOBS:
            if pid not in step:
                busy[pid] = 0  # it has ended; another may come under its number
        for pid, grown in step.items():
            busy[pid] += grown
            true[JOBS[pid] or ""] += grown
        use.add({"GPU-x": {pid: busy[pid] for pid in step}})
    told = use.told(Usage({"a": JobUsage(5), "b": JobUsage(6)}))
    assert told.jobs["a"].gpu_ns.get("GPU-x", 0) == true["a"]
    assert told.jobs["b"].gpu_ns.get("GPU-x", 0) == true["b"]
    assert told.gpu_ns.get("GPU-x", 0) == true[""]
    assert (told.jobs["a"].cpu_ns, told.jobs["b"].cpu_ns) == (5, 6)


def test_a_job_without_a_cgroup_keeps_what_its_gpu_did() -> None:
    """Its cgroup may be gone before its last process time is read: it is told as often as that has grown."""
    use = GpuUse(JOBS.get)
    for busy_ns, jobs in ((700, {"b": JobUsage(0, gone=True, gpu_ns={"GPU-x": 700})}), (700, {}), (0, {})):
        use.add({"GPU-x": {3: busy_ns}})
        assert use.told(Usage({})).jobs == jobs
    use.add({"GPU-x": {3: 50}})
    assert use.told(Usage({})).jobs == {"b": JobUsage(0, gone=True, gpu_ns={"GPU-x": 750})}


def test_a_job_that_is_no_more_leaves_nothing_behind() -> None:
    """The driver goes on listing its process, which is dead: it has had its time, and nobody gets it twice."""
    alive = {5: "1"}
    use = GpuUse(alive.get)
    use.add({"GPU-x": {5: 700}})
    use.told(Usage({}))
    alive.clear()
    use.forget(set())
    for busy_ns, outside in ((700, {}), (700, {}), (750, {"GPU-x": 50})):
        use.add({"GPU-x": {5: busy_ns}})
        told = use.told(Usage({}))
        assert (told.jobs, told.gpu_ns) == ({}, outside)
        use.forget(set())


@pytest.mark.parametrize("lists_the_dead", [True, False])
def test_a_job_on_a_shared_gpu_has_one_run(lists_the_dead: bool) -> None:
    """Minutes after its end there is no ghost of it, also where the driver lists its process for ever."""
    node = NodeFacts(4, 1 << 32, ("GPU-a",), slices={"MIG-1": Slice("GPU-a", 3)})
    books = Bookkeeper(State(Holdings(node)), {})
    books.declare(Domain("gpu:GPU-a", "gpu", "nvml"))
    times, alive, runs = BusyTimes(), {5: "1"}, set()
    use = GpuUse(alive.get)
    for t in range(1, 400):
        marks = [Mark("start", "1", t * NS, cpus=1, gpus=("MIG-1",))] if t == 2 else []
        if t == 20:
            marks = [Mark("end", "1", t * NS)]
            alive.clear()
        times.add_present("MIG-1", [5] if t >= 2 and (t < 20 or lists_the_dead) else [], t * NS)
        use.add({"MIG-1": {pid: min(busy_ns, 18 * NS) for pid, busy_ns in times.told()["MIG-1"].items()}})
        jobs = {"1": JobUsage(min(t, 20) * NS, gone=t == 20)} if 2 <= t <= 20 else {}
        told = use.told(Usage(jobs, t * NS))
        open_runs = books.state.holdings.open_runs()
        use.forget({run.job for run in open_runs} | {mark.job for mark in marks} | jobs.keys())
        books.observe(Observation(t * NS, 1.8e9 + t, {"gpu:GPU-a": Counter(t * 300_000_000)}, told), marks)
        runs |= {run.key for run in [*books.closed, *books.state.holdings.runs.values()]}
    assert runs == {"1"}


def test_a_process_that_joins_its_job_late_counts_for_it_from_then_on() -> None:
    """Slurm puts a process into its cgroup a moment after it starts."""
    jobs: dict[int, str] = {}
    use = GpuUse(jobs.get)
    use.add({"GPU-x": {9: 10}})
    jobs[9] = "a"
    use.add({"GPU-x": {9: 110}})
    told = use.told(Usage({"a": JobUsage(0)}))
    assert (told.gpu_ns, told.jobs["a"].gpu_ns) == ({"GPU-x": 10}, {"GPU-x": 100})


def test_which_gpus_are_shared() -> None:
    """Held by two, by MPS or shards, or in slices; a GPU of one job alone costs no look."""

    def run(key: str, *gpus: str, percent: int | None = None) -> Run:
        return Run(key, key, 0, 0, 0.0, gpus=gpus, gpu_percent=percent)

    runs = [run("1", "a", "b"), run("2", "b"), run("3", "MIG-1"), run("4", "d", percent=50), run("5", "e")]
    assert shared_gpus(runs, {"MIG-1": "c"}) == {"b", "c", "d"}
