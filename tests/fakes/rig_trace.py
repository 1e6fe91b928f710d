"""The trace that powerrig writes every 20 ms: the input of an independent oracle."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

EVERY_NS = 20_000_000
"""From one sample to the next, while the rig is in time."""


@dataclass(frozen=True, slots=True)
class JobSample:
    """A living job cgroup: cumulative CPU ns (`cpuacct.usage`) and bytes (total_rss + total_shmem)."""

    t_ns: int
    node: str
    job: str
    cpu_ns: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class NodeSample:
    """A node.

    `parent_ns` is slurm_<node>'s `cpuacct.usage`, or None while it is absent; `jobs_ns` the CPU time of all
    lives of that cgroup since the rig started, `system_ns` the scripted CPU time since its curve's origin
    (their sum is the busy time of the proc stand-in); `used_bytes` is scripted + job memory.
    """

    t_ns: int
    node: str
    parent_ns: int | None
    jobs_ns: int
    system_ns: int
    used_bytes: int


@dataclass(slots=True)
class Trace:
    """A whole trace. `rig_cpu_ns` and `max_late_ns` (the worst late tick) are None until the rig stopped."""

    nodes: list[NodeSample] = field(default_factory=list)
    jobs: list[JobSample] = field(default_factory=list)
    end_ns: int | None = None
    rig_cpu_ns: int | None = None
    max_late_ns: int | None = None

    def of(self, node: str) -> list[NodeSample]:
        return [sample for sample in self.nodes if sample.node == node]

    def of_job(self, node: str, job: str) -> list[JobSample]:
        return [sample for sample in self.jobs if (sample.node, sample.job) == (node, job)]

    def late_s(self) -> float:
        """For how long, at the worst, the rig neither wrote a counter nor looked at a job, when it should have.

        A quiet machine's ticks are a few milliseconds off: twice the time between samples is no lateness.
        """
        some = self.of(self.nodes[0].node) if self.nodes else []
        longest_ns = max((later.t_ns - one.t_ns for one, later in pairwise(some)), default=0)
        return max(0, longest_ns - 2 * EVERY_NS) / 1e9


def read_trace(path: Path) -> Trace:
    """Parse a trace, also one that is still being written: a last line without its newline is left out."""
    trace = Trace()
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            _add(trace, line.split())
    return trace


def _add(trace: Trace, words: list[str]) -> None:
    match words:
        case ["job", t, node, job, cpu, rss]:
            trace.jobs.append(JobSample(int(t), node, job, int(cpu), int(rss)))
        case ["node", t, node, parent, jobs, system, used]:
            raw = int(parent)
            sample = NodeSample(int(t), node, None if raw < 0 else raw, int(jobs), int(system), int(used))
            trace.nodes.append(sample)
        case ["end", t, cpu, late]:
            trace.end_ns, trace.rig_cpu_ns, trace.max_late_ns = int(t), int(cpu), int(late)
        case _:
            raise ValueError(f"not a trace line: {' '.join(words)}")
