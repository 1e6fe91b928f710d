"""Whose processes have used a shared GPU: from the driver's process lists to jobs, by cgroup."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from jobimpact.core.records import JobUsage, Usage
from jobimpact_daemon.holdings import Run

__all__ = ["GpuUse", "shared_gpus"]

OUTSIDE = ""
"""Stands for the processes of no job."""


def shared_gpus(runs: list[Run], slices: Mapping[str, str]) -> set[str]:
    """The GPUs that several runs hold, or of which MIG devices are held.

    Args:
        runs: the open runs.
        slices: MIG device → its GPU.
    """
    held: set[str] = set()
    shared: set[str] = set()
    for run in runs:
        for device in run.gpus:
            gpu = slices.get(device, device)
            if device in slices or gpu in held or run.gpu_percent is not None or run.shards is not None:
                shared.add(gpu)
            held.add(gpu)
    return shared


class GpuUse:
    """Adds up each job's busy time on each device, also of processes that have ended.

    Args:
        job_of: the job that a process belongs to, if any.
    """

    def __init__(self, job_of: Callable[[int], str | None]) -> None:
        self._job_of = job_of
        self._last: dict[tuple[str, int], tuple[int, str]] = {}
        self._total: dict[str, dict[str, int]] = {}
        self._grown: set[str] = set()
        """Whose time has grown since it was last told."""

    def add(self, found: Mapping[str, Mapping[int, int]]) -> None:
        """Take in the driver's word: device → process id → busy time so far, in ns."""
        now: dict[tuple[str, int], tuple[int, str]] = {}
        for device, processes in found.items():
            for pid, busy_ns in processes.items():
                before_ns, job = self._last.get((device, pid), (0, OUTSIDE))
                # A process may be seen before it has been put into its job's cgroup.
                job = job or self._job_of(pid) or OUTSIDE
                now[device, pid] = busy_ns, job
                grown = busy_ns - before_ns if busy_ns >= before_ns else busy_ns
                if grown:
                    by_device = self._total.setdefault(job, {})
                    by_device[device] = by_device.get(device, 0) + grown
                    self._grown.add(job)
        self._last = now

    def told(self, usage: Usage) -> Usage:
        """The same use, with what each job and nobody's processes have used of shared GPUs.

        A job without a cgroup is only there if it has used more since the last time: drivers list the dead, too.
        """
        grown, self._grown = self._grown, set()
        if not self._total:
            return usage
        jobs = dict(usage.jobs)
        for job, busy in self._total.items():
            if job in jobs:
                jobs[job] = msgspec.structs.replace(jobs[job], gpu_ns=dict(busy))
            elif job != OUTSIDE and job in grown:
                jobs[job] = JobUsage(0, gone=True, gpu_ns=dict(busy))
        return msgspec.structs.replace(usage, jobs=jobs, gpu_ns=dict(self._total.get(OUTSIDE, {})))

    def forget(self, living: set[str]) -> None:
        """Drop the jobs that are no more; what their processes may still do from now on is nobody's."""
        kept = living | {OUTSIDE}
        self._total = {job: busy for job, busy in self._total.items() if job in kept}
        # Where they stood stays known: what was told already must not be told as somebody else's.
        self._last = {
            process: (busy_ns, job if job in kept else OUTSIDE) for process, (busy_ns, job) in self._last.items()
        }
