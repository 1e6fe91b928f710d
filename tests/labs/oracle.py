"""Who should pay what, worked out without any of our own code.

From the rig's script, the trace of the cgroups and the times of the hooks: steps of 20 ms, floats, and the rules of
the design in their plainest form.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise

from tests.fakes.rig import PowerRig
from tests.fakes.rig_trace import JobSample, NodeSample, Trace

Shares = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Window:
    """What a job held on a node, between its Prolog and its Epilog."""

    job: str
    start_ns: int
    end_ns: int
    cpus: int
    mem_bytes: int
    gpus: tuple[str, ...] = ()

    def overlap(self, t0_ns: int, t1_ns: int) -> int:
        """For how long it held it in an interval, in ns."""
        return max(0, min(self.end_ns, t1_ns) - max(self.start_ns, t0_ns))


@dataclass(frozen=True)
class Step:
    """CPU time used and memory held in one step, by job and outside."""

    t0_ns: int
    t1_ns: int
    cpu_ns: dict[str, float]
    mem_bytes: dict[str, float]
    left_ns: float = 0
    """CPU time of the node's jobs that no traced job has used."""


def node_truth(
    rig: PowerRig,
    trace: Trace,
    node: str,
    windows: list[Window],
    between: tuple[int, int],
    idle_w: dict[str, float],
    readings: list[int] | None = None,
) -> Shares:
    """Each holder's energy on a node.

    Args:
        rig: the true power.
        trace: what the cgroups used.
        node: the node.
        windows: who held what.
        between: the first and the last reading of the daemon, in ns of boot time.
        idle_w: idle power by domain.
        readings: when the daemon read, in ns; if given, CPU time splits energy from reading to reading, and not in
            steps of 20 ms: where jobs come in bursts, the two differ by what no reading could see.

    Returns:
        (domain, holder) → microjoules.
    """
    size = rig.nodes[node]
    found: Shares = defaultdict(float)
    jobs = [sample for sample in trace.jobs if sample.node == node]
    steps = [_with_unseen(step, windows, jobs) for step in _steps(trace.of(node), jobs, between)]
    if readings:
        steps = _grouped(steps, readings)
    for domain in rig.nodes[node].counters:
        if domain.startswith(("mmio", "core", "psys")):
            continue
        for step in steps:
            energy = rig.true_uj(node, domain, step.t0_ns, step.t1_ns)
            if domain.startswith("gpu:"):
                held = _held(windows, step, lambda one, gpu=domain[4:]: float(gpu in one.gpus), 1)
                used = {}
            elif domain.startswith("dram"):
                held = _held(windows, step, lambda one: one.mem_bytes, size.mem_bytes)
                used = step.mem_bytes
            else:
                held = _held(windows, step, lambda one: one.cpus, size.cpus)
                used = step.cpu_ns
            static = min(energy, idle_w.get(domain, 0) * (step.t1_ns - step.t0_ns) / 1000) if used else energy
            for holder, share in held.items():
                found[domain, holder] += static * share
            for holder, use in used.items():
                found[domain, holder] += (energy - static) * use / sum(used.values())
    return dict(found)


def _with_unseen(step: Step, windows: list[Window], jobs: list[JobSample]) -> Step:
    """CPU time that no traced job has used is that of a job too short to be traced."""
    seen = {sample.job for sample in jobs}
    unseen = [one.job for one in windows if one.job not in seen and one.overlap(step.t0_ns, step.t1_ns)]
    if not unseen or step.left_ns <= 0:
        return step
    return replace(step, cpu_ns=step.cpu_ns | {job: step.left_ns / len(unseen) for job in unseen})


def _held(windows: list[Window], step: Step, size: object, whole: float) -> dict[str, float]:
    """Shares of a part, by time held in the step; the rest is idle."""
    assert callable(size)
    length = step.t1_ns - step.t0_ns
    shares: dict[str, float] = defaultdict(float)
    for one in windows:  # a job that was suspended for a time has several
        if share := size(one) * one.overlap(step.t0_ns, step.t1_ns) / length / whole:
            shares[one.job] += share
    total = sum(shares.values())
    if total > 1:
        return {job: share / total for job, share in shares.items()}
    return {**shares, "idle": 1 - total}


def _steps(nodes: list[NodeSample], jobs: list[JobSample], between: tuple[int, int]) -> list[Step]:
    at: dict[int, dict[str, JobSample]] = defaultdict(dict)
    times = [sample.t_ns for sample in nodes]
    for sample in jobs:
        # The rig looks at a node's jobs and then at the node.
        place = bisect_left(times, sample.t_ns)
        if place < len(times):
            at[times[place]][sample.job] = sample
    inside = [sample for sample in nodes if between[0] <= sample.t_ns <= between[1]]
    steps = [_step(a, b, at[a.t_ns], at[b.t_ns]) for a, b in pairwise(inside)]
    # The daemon's first and last reading lie between two samples: the steps at both ends reach to them.
    first, last = steps[0], steps[-1]
    steps[0] = replace(first, t0_ns=between[0])
    steps[-1] = replace(last, t1_ns=between[1])
    return steps


def _grouped(steps: list[Step], readings: list[int]) -> list[Step]:
    """Steps that lie between the same two readings, as one."""
    groups: dict[int, list[Step]] = defaultdict(list)
    for step in steps:
        groups[bisect_left(readings, (step.t0_ns + step.t1_ns) // 2)].append(step)
    return [_sum(group) for _, group in sorted(groups.items())]


def _sum(steps: list[Step]) -> Step:
    cpu: dict[str, float] = defaultdict(float)
    mem: dict[str, float] = defaultdict(float)
    length = steps[-1].t1_ns - steps[0].t0_ns
    for step in steps:
        for job, ns in step.cpu_ns.items():
            cpu[job] += ns
        for job, held in step.mem_bytes.items():
            mem[job] += held * (step.t1_ns - step.t0_ns) / length
    return Step(steps[0].t0_ns, steps[-1].t1_ns, cpu, mem)


def _step(a: NodeSample, b: NodeSample, before: dict[str, JobSample], after: dict[str, JobSample]) -> Step:
    cpu: dict[str, float] = {
        job: one.cpu_ns - (before[job].cpu_ns if job in before else 0) for job, one in after.items()
    }
    dead = before.keys() - after.keys()
    # A cgroup that died between two samples has left its last CPU time in the node's own.
    left = b.jobs_ns - a.jobs_ns - sum(cpu.values())
    for job in dead:
        cpu[job] = max(0.0, left / len(dead))
    cpu["system"] = b.system_ns - a.system_ns
    mem: dict[str, float] = {
        job: ((before[job].rss_bytes if job in before else 0) + (after[job].rss_bytes if job in after else 0)) / 2
        for job in before.keys() | after.keys()
    }
    own = (sum(one.rss_bytes for one in before.values()) + sum(one.rss_bytes for one in after.values())) / 2
    mem["system"] = (a.used_bytes + b.used_bytes) / 2 - own
    return Step(a.t_ns, b.t_ns, cpu, mem, 0 if dead else left)
