"""Whose processes have used a shared GPU."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import JobUsage, Usage
from jobimpact_daemon.holdings import Run
from jobimpact_daemon.jobs.gpu_use import GpuUse, shared_gpus

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
    """Its cgroup may be gone before its last process time is read; jobs of long ago are dropped."""
    use = GpuUse(JOBS.get)
    use.add({"GPU-x": {3: 700}})
    assert use.told(Usage({})).jobs == {"b": JobUsage(0, gone=True, gpu_ns={"GPU-x": 700})}
    use.forget({"a"})
    assert use.told(Usage({})).jobs == {}


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
