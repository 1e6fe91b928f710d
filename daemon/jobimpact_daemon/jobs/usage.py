"""What jobs have used: CPU time and memory, by cgroup (v1, v2) or by process session.

A cgroup that has died took its last CPU time with it, but its persistent ancestor still holds it: growth there beyond
the living children belongs to those that died since; if several did, by their cores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
from inotify_simple import INotify, flags

from jobimpact.core.records import JobUsage, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.attribution import split
from jobimpact_daemon.holdings import CgroupMemory
from jobimpact_daemon.jobs.cgroups import CpuTime, Group, Layout, layouts
from jobimpact_daemon.jobs.node import NodeProc

__all__ = ["UsageReader"]

OUTSIDE_NS = NS // 2
MAX_WAITS = 10
"""For how many readings CPU time without an owner waits for one."""


class UsageReader:
    """Reads the node's use and its jobs'.

    Args:
        proc: the node's /proc.
        cgroup_root: where cgroups are mounted.
        node: the node's name, part of some layouts.
        memory: what the last daemon read, so that a restart misses nothing; kept up to date.
        inotify: what wakes the daemon when a job's cgroup comes or goes.
    """

    def __init__(self, proc: NodeProc, cgroup_root: Path, node: str, memory: CgroupMemory, inotify: INotify) -> None:
        self._proc = proc
        self._root = cgroup_root
        self._node = node
        self._memory = memory
        self._inotify = inotify
        self._watches: dict[int, Path] = {}
        self._watched: set[Path] = set()
        self._groups: dict[str, Group] = {}
        self._born: set[str] = set()
        self._layout: Layout | None = None
        self._waits = 0
        self._births = False
        self._ancestor: CpuTime | None = None
        self._outside: tuple[int, int] | None = None
        self._outside_rate: float | None = None

    def event(self, watch: int, mask: int, name: str) -> bool:
        """Take one inotify event.

        Returns:
            Whether it was about cgroups.
        """
        folder = self._watches.get(watch)
        if folder is None:
            return False
        if mask & (flags.IGNORED | flags.DELETE_SELF):
            self._watches.pop(watch, None)
            self._watched.discard(folder)
        elif mask & flags.CREATE and name.startswith(("job_", "uid_")):
            self._births = True
            if name.startswith("job_"):
                self._born.add(name.removeprefix("job_"))
        return True

    def take_births(self) -> bool:
        """Whether a job's cgroup has come since the last question."""
        births, self._births = self._births, False
        return births

    def read(self, t_ns: int, cores: Mapping[str, int], ended: set[str], sessions: Mapping[str, int]) -> Usage:
        """What was used until now.

        Args:
            t_ns: now, in boot time.
            cores: held cores by job id, of the jobs that may have used something since the last reading.
            ended: the job ids that have ended since the last reading.
            sessions: process session by job id, of the jobs that have no cgroup.

        Returns:
            Cumulative CPU time and memory now, by job id; a job that has died since has `gone` set.
        """
        jobs = self._read_groups(cores, ended)
        if sessions:
            jobs |= _read_sessions(sessions)
        return Usage(jobs, self._busy_ns(t_ns), self._proc.used_mem_bytes())

    def _busy_ns(self, t_ns: int) -> int | None:
        """The node's busy time, finer than /proc/stat's hundredths of a second.

        The jobs' part is known to the nanosecond. The rest is taken anew every half a second, and goes on at its last
        rate in between: in a reading 50 ms after another it would be mostly rounding.
        """
        busy_ns = self._proc.busy_ns()
        jobs_ns = next(iter(self._memory.ancestors.values()), None)
        if busy_ns is None or jobs_ns is None:
            self._outside = self._outside_rate = None
            return busy_ns
        outside_ns = busy_ns - jobs_ns
        if self._outside is None:
            self._outside = t_ns, outside_ns
            return busy_ns
        since_ns, last_ns = self._outside
        if t_ns - since_ns >= OUTSIDE_NS:
            self._outside_rate = max(0, outside_ns - last_ns) / (t_ns - since_ns)
            self._outside = t_ns, outside_ns
        elif self._outside_rate is not None:
            return jobs_ns + last_ns + round(self._outside_rate * (t_ns - since_ns))
        return busy_ns

    def _read_groups(self, cores: Mapping[str, int], ended: set[str]) -> dict[str, JobUsage]:
        layout = self._find_layout()
        if layout is None:
            return {}
        self._scan(layout)
        ancestor = str(layout.cpu)
        whole_ns = self._ancestor.ns() if self._ancestor else None
        before_ns = self._memory.ancestors.get(ancestor)
        jobs: dict[str, JobUsage] = {}
        grown_ns = 0
        for job, group in tuple(self._groups.items()):
            now_ns = group.cpu_ns()
            if now_ns is None:
                group.close()
                del self._groups[job]
                continue
            last_ns = self._memory.jobs.get(job, 0)
            grown_ns += now_ns - last_ns if now_ns >= last_ns else now_ns
            jobs[job] = JobUsage(now_ns, group.mem_bytes(), group.mem_limit_bytes(), group.uid)
        died = (self._memory.jobs.keys() | self._born) - jobs.keys()
        died |= {job for job in ended if job not in jobs and job not in self._memory.jobs} if not died else set()
        if died and whole_ns is not None and before_ns is not None:
            left_ns = max(0, whole_ns - before_ns - grown_ns) if whole_ns >= before_ns else 0
            for job, share_ns in split(left_ns, {job: max(1, cores.get(job, 1)) for job in died}).items():
                last_ns = self._memory.jobs.get(job, 0)
                jobs[job] = JobUsage(last_ns + share_ns, gone=True, shared=len(died) > 1)
        self._born.clear()
        self._memory.jobs = {job: use.cpu_ns for job, use in jobs.items() if not use.gone}
        self._memory.ancestors = {} if whole_ns is None else {ancestor: whole_ns}
        if whole_ns is not None and before_ns is not None and not died:
            self._memory.ancestors = {ancestor: self._claimed_ns(whole_ns, before_ns, before_ns + grown_ns)}
        return jobs

    def _claimed_ns(self, whole_ns: int, before_ns: int, claimed_ns: int) -> int:
        """Up to where the ancestor's CPU time has found its jobs.

        What no living job used waits for a few readings for the one that did: it may be known by its end mark alone.
        After that it is the scheduler's own.
        """
        self._waits = self._waits + 1 if whole_ns > claimed_ns else 0
        if whole_ns < before_ns or self._waits > MAX_WAITS:
            self._waits = 0
            return whole_ns
        return claimed_ns

    def _find_layout(self) -> Layout | None:
        """The place of the jobs' cgroups; Slurm makes it with its first job, and others may remove it."""
        if self._layout is None or not self._layout.cpu.is_dir():
            found = layouts(self._root, self._node)
            self._layout = found[0] if found else None
            self._ancestor = CpuTime(found[0].cpu, found[0].version, reopen=True) if found else None
            if self._layout is None:
                self._watch_for_layout()
        return self._layout

    def _watch_for_layout(self) -> None:
        for folder in ("cpuacct", "cpu,cpuacct", "system.slice"):
            if (self._root / folder).is_dir():
                self._watch(self._root / folder)

    def _scan(self, layout: Layout) -> None:
        for folder in layout.folders():
            self._watch(folder)
        for job, path, uid in layout.jobs():
            if job not in self._groups:
                self._groups[job] = Group(layout, path, uid)

    def _watch(self, folder: Path) -> None:
        if folder in self._watched:
            return
        try:
            watch = self._inotify.add_watch(folder, flags.CREATE | flags.DELETE | flags.ONLYDIR | flags.DELETE_SELF)
        except OSError:
            return  # it is gone again; each tick looks anyway
        self._watches[watch] = folder
        self._watched.add(folder)

    def close(self) -> None:
        """Close all files."""
        for group in self._groups.values():
            group.close()


def _read_sessions(sessions: Mapping[str, int]) -> dict[str, JobUsage]:
    """CPU time and memory of process sessions: of the living, and of the children they have waited for."""
    by_sid: dict[int, list[int]] = {sid: [] for sid in sessions.values()}
    for pid in psutil.pids():
        try:
            sid = os.getsid(pid)
        except OSError:
            continue
        if sid in by_sid:
            by_sid[sid].append(pid)
    jobs = {}
    for job, sid in sessions.items():
        if by_sid[sid]:
            cpu_s, mem_bytes = _sum_processes(by_sid[sid])
            jobs[job] = JobUsage(round(cpu_s * 1e9), mem_bytes)
    return jobs


def _sum_processes(pids: list[int]) -> tuple[float, int]:
    cpu_s, mem_bytes = 0.0, 0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_s += times.user + times.system + times.children_user + times.children_system
            mem_bytes += process.memory_info().rss
        except psutil.Error:
            continue  # it ended meanwhile; its parent has its CPU time once it has waited for it
    return cpu_s, mem_bytes
