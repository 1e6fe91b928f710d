"""What jobs have used: CPU time and memory, by cgroup (v1, v2) or by process session.

A cgroup that has died took its last CPU time with it, but its persistent ancestor still holds it: growth there beyond
the living children belongs to those that died since; if several did, by their cores.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from inotify_simple import INotify, flags

from jobimpact.core.records import JobUsage, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.attribution import split
from jobimpact_daemon.holdings import CgroupMemory
from jobimpact_daemon.jobs.cgroups import CpuTime, Group, Layout, layouts
from jobimpact_daemon.jobs.node import NodeProc, Packages
from jobimpact_daemon.jobs.processes import cgroup_paths, read_sessions, started
from jobimpact_daemon.lives import LEFT_NS

__all__ = ["UsageReader"]

OUTSIDE_NS = NS // 2
LOOK_NS = 10 * NS
"""How often places that have come later are looked for."""
SUSPENDED_NS = 9 * NS // 10
"""How often jobs are looked at for suspension at most: between two quick readings any job may stand still."""
MAX_WAITS = 10
"""For how many readings CPU time without an owner waits for one."""
MAX_PIDS = 4096
"""How many processes' jobs are remembered."""


class UsageReader:
    """Reads the node's use and its jobs'.

    Args:
        proc: the node's /proc.
        cgroup_root: where cgroups are mounted.
        node: the node's name, part of some layouts.
        memory: what the last daemon read, so that a restart misses nothing; kept up to date.
        inotify: what wakes the daemon when a job's cgroup comes or goes.
        slurmd: further node names whose jobs run on this machine.
        packages: the node's CPUs by package, as `NodeProc.packages` finds them: with two or more, use is told by
            package too.
    """

    def __init__(
        self,
        proc: NodeProc,
        cgroup_root: Path,
        node: str,
        memory: CgroupMemory,
        inotify: INotify,
        *,
        slurmd: Sequence[str] = (),
        packages: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self._proc = proc
        self._root = cgroup_root
        self._nodes = node, tuple(slurmd)
        self._memory = memory
        self._inotify = inotify
        self._packages = Packages(packages or {})
        self._places: dict[str, _Place] = {}
        self._look_ns: int | None = None
        self._watches: dict[int, tuple[Path, _Place | None]] = {}
        self._watched: set[Path] = set()
        self._births = False
        self._is_first = True
        self._sluids: dict[str, str] = {}
        self._dead: dict[str, JobUsage] = {}
        self._outside: dict[str | None, _Outside] = {}
        self._sessions: dict[int, str] = {}
        self._pids: dict[tuple[int, int], str] = {}

    def set_packages(self, packages: Mapping[str, Sequence[int]]) -> None:
        """Tell use by these packages from now on: which dies are metered is known only once sources are found.

        The CPU time by package of the living jobs starts anew where they have changed.
        """
        changed = Packages(packages)
        if changed.cpus == self._packages.cpus:
            return
        self._packages = changed
        self._outside = {}
        for place in self._places.values():
            place.set_packages(changed)

    def event(self, watch: int, mask: int, name: str) -> bool:
        """Take one inotify event.

        Returns:
            Whether it was about cgroups.
        """
        found = self._watches.get(watch)
        if found is None:
            return False
        folder, place = found
        if mask & (flags.IGNORED | flags.DELETE_SELF):
            self._watches.pop(watch, None)
            self._watched.discard(folder)
        elif mask & flags.CREATE and place is None:
            self._look_ns = None
        elif mask & flags.CREATE and place is not None:
            about_jobs, job = place.layout.came(folder, name)
            self._births = self._births or about_jobs
            if job is not None:
                place.born.add(job)
        return True

    def take_births(self) -> bool:
        """Whether a job's cgroup has come since the last question."""
        births, self._births = self._births, False
        return births

    def read(
        self,
        t_ns: int,
        cores: Mapping[str, int],
        ended: set[str],
        sessions: Mapping[str, int],
        sluids: Mapping[str, str] | None = None,
    ) -> Usage:
        """What was used until now.

        Args:
            t_ns: now, in boot time.
            cores: held cores by job id, of the jobs that may have used something since the last reading.
            ended: the job ids that have ended since the last reading.
            sessions: process session by job id, of the jobs that have no cgroup.
            sluids: job id by Slurm's own id of the incarnation, as marks tell it: from 26.05 on it names the cgroup.
                Remembered while that cgroup lives. A cgroup of which no mark told is a job by that name.

        Returns:
            Cumulative CPU time and memory now, by job id; a job that has died since has `gone` set.
        """
        self._sluids |= sluids or {}
        self._find_places(t_ns)
        found = [self._read_place(place, t_ns, cores, ended) for place in self._places.values()]
        self._is_first = False
        jobs = self._join(found) if len(found) > 1 else dict(*found)
        if self._sluids:
            alive = {job for place in self._places.values() for job in place.groups} | (sluids or {}).keys()
            self._sluids = {sluid: job for sluid, job in self._sluids.items() if sluid in alive}
        self._sessions = {sid: job for job, sid in sessions.items()}
        if sessions:
            jobs |= read_sessions(sessions)
        told_ns = sum(place.told_ns for place in self._places.values())
        told = any(place.whole_ns is not None for place in self._places.values())
        busy_ns = self._smooth(None, t_ns, self._proc.busy_ns(), told_ns if told else None)
        return Usage(jobs, busy_ns, self._proc.used_mem_bytes(), self._busy_by(t_ns, told=told))

    def _busy_by(self, t_ns: int, *, told: bool) -> dict[str, int] | None:
        if len(self._packages) < 2:
            return None
        busy_by = self._proc.busy_by(self._packages)
        if busy_by is None:
            return None
        found = {}
        for name, busy_ns in busy_by.items():
            told_ns = sum(place.told_by.get(name, 0) for place in self._places.values())
            found[name] = self._smooth(name, t_ns, busy_ns, told_ns if told else None) or 0
        return found

    def _smooth(self, name: str | None, t_ns: int, busy_ns: int | None, told_ns: int | None) -> int | None:
        """Busy time finer than /proc/stat's hundredths of a second, of a package or (None) of the node."""
        if busy_ns is None or told_ns is None:
            self._outside.pop(name, None)
            return busy_ns
        return self._outside.setdefault(name, _Outside()).smooth(t_ns, busy_ns, told_ns)

    def _read_place(self, place: _Place, t_ns: int, cores: Mapping[str, int], ended: set[str]) -> dict[str, JobUsage]:
        for folder in place.scan():
            self._watch(folder, place)
        return place.read(t_ns, cores, ended, self._memory, self._sluids, first=self._is_first)

    def _join(self, found: Iterable[Mapping[str, JobUsage]]) -> dict[str, JobUsage]:
        """A job that runs on several slurmd of this machine is one: what its dead parts have used stays in it."""
        jobs: dict[str, list[JobUsage]] = {}
        for uses in found:
            for job, use in uses.items():
                jobs.setdefault(job, []).append(use)
        self._dead = {job: use for job, use in self._dead.items() if job in jobs}
        return {job: self._whole(job, parts) for job, parts in jobs.items()}

    def _whole(self, job: str, parts: list[JobUsage]) -> JobUsage:
        dead = self._dead.pop(job, None)
        if len(parts) == 1 and dead is None:
            return parts[0]
        living = [part for part in parts if not part.gone]
        # A place that the job has never been in has nothing of it.
        gone = [part for part in parts if part.gone and part.cpu_ns] + ([dead] if dead else [])
        if living and gone:
            self._dead[job] = _sum(gone)
        return _sum(living + gone or parts)

    def _find_places(self, t_ns: int) -> None:
        """Slurm makes its folder with its first job, and each slurmd and scheduler has its own."""
        if self._places and self._look_ns is not None and t_ns - self._look_ns < LOOK_NS:
            return
        self._look_ns = t_ns
        for layout in layouts(self._root, *self._nodes):
            if str(layout.cpu) not in self._places:
                place = self._places[str(layout.cpu)] = _Place(layout, self._packages, self._proc.processes)
                self._watch(layout.cpu, place)  # before it is listed: a job that comes in between is not missed
        if self._places:
            for watch in [watch for watch, (_, place) in self._watches.items() if place is None]:
                self._unwatch(watch)
        else:
            for name in (".", "cpuacct", "cpu,cpuacct", "cpuacct,cpu", "system.slice"):
                if (self._root / name).is_dir():
                    self._watch(self._root / name, None)

    def _watch(self, folder: Path, place: _Place | None) -> None:
        if folder in self._watched:
            return
        try:
            watch = self._inotify.add_watch(folder, flags.CREATE | flags.DELETE | flags.ONLYDIR | flags.DELETE_SELF)
        except OSError:
            return  # it is gone again; each tick looks anyway
        self._watches[watch] = folder, place
        self._watched.add(folder)

    def _unwatch(self, watch: int) -> None:
        """What comes and goes beside the jobs' place need not wake the daemon any more."""
        folder, _ = self._watches.pop(watch)
        self._watched.discard(folder)
        with suppress(OSError):  # it went with its folder
            self._inotify.rm_watch(watch)

    def job_of(self, pid: int) -> str | None:
        """The job that a process belongs to: by its cgroup, or by its session where that stands for a job.

        Args:
            pid: its id on this host.

        Returns:
            The job's id; None where it is of no job, or gone.
        """
        processes = self._proc.processes
        start = started(processes, pid)
        if start is None:
            return None
        job = self._pids.get((pid, start))
        if job is None:
            job = self._job_in(cgroup_paths(processes, pid))
            if job is None:
                return self._session_job(pid)
            if len(self._pids) >= MAX_PIDS:
                self._pids.clear()
            self._pids[pid, start] = job
        return self._sluids.get(job, job)

    def job_at(self, cgroups: Iterable[tuple[int, str]], sid: int | None) -> str | None:
        """The job that a process was of, by what was seen of it.

        Args:
            cgroups: where it was: version and path, as `cgroup_paths` tells them.
            sid: its session.
        """
        job = self._job_in(cgroups)
        if job is None:
            return None if sid is None else self._sessions.get(sid)
        return self._sluids.get(job, job)

    def _job_in(self, paths: Iterable[tuple[int, str]]) -> str | None:
        for version, path in paths:
            for place in tuple(self._places.values()):
                layout = place.layout
                # Only at the start: further down, a user may name a folder of their own as they like.
                if layout.version == version and path.startswith(layout.path + "/"):
                    job = layout.job_at(path[len(layout.path) :])
                    if job is not None:
                        return job
        return None

    def _session_job(self, pid: int) -> str | None:
        try:
            return self._sessions.get(os.getsid(pid)) if self._sessions else None
        except OSError:
            return None

    def close(self) -> None:
        """Close all files."""
        for place in self._places.values():
            place.close()


class _Place:
    """One layout: its living groups, and the ancestor that has the CPU time of the dead.

    Args:
        layout: where it is.
        packages: the node's CPUs by package.
        processes: the /proc of its processes.
    """

    def __init__(self, layout: Layout, packages: Packages, processes: Path) -> None:
        self.layout = layout
        self.groups: dict[str, Group] = {}
        self.born: set[str] = set()
        """Jobs whose cgroup has come since the last reading: it may be gone again."""
        self.whole_ns: int | None = None
        self.told_ns = 0
        """How much CPU time of jobs has been told since the daemon started."""
        self.told_by: dict[str, int] = {}
        self._packages = packages
        self._processes = processes
        self._ancestor = CpuTime(layout.cpu, layout.version, reopen=True)
        self._prefix = f"{layout.cpu}:"
        self._paths: set[str] = set()
        self._waits = 0
        self._asked_ns: int | None = None

    def set_packages(self, packages: Packages) -> None:
        """Tell use by other packages."""
        self._packages = packages
        self.told_by = {}
        self._close_groups()
        self.groups = {}
        self._paths.clear()

    def scan(self) -> list[Path]:
        """Find the jobs that have come.

        Returns:
            The folders in which they come and go.
        """
        folders, jobs = self.layout.jobs(self._paths)
        for folder in jobs:
            if folder.job not in self.groups:
                self.groups[folder.job] = Group(self.layout, folder, self._packages, self._processes)
                self._paths.add(folder.path)
        return folders

    def read(
        self,
        t_ns: int,
        cores: Mapping[str, int],
        ended: set[str],
        memory: CgroupMemory,
        sluids: Mapping[str, str],
        *,
        first: bool = False,
    ) -> dict[str, JobUsage]:
        """What its jobs have used, living and just died, by job id; `first`: nobody has looked before."""
        ancestor = str(self.layout.cpu)
        last = self._remembered(memory)
        if first:
            for job in self.groups.keys() - last.keys() - cores.keys():
                self.groups[job].is_old(t_ns - LEFT_NS)
        before_ns, self.whole_ns = memory.ancestors.get(ancestor), self._ancestor.ns()
        known = self.groups.copy()
        living, grown_ns = self._read_living(t_ns, last)
        told = {sluids.get(job, job) for job in (*living, *last)}
        died = (last.keys() | self.born) - living.keys()
        died |= (ended - told) if not died else set()
        self.born.clear()
        jobs: dict[str, JobUsage] = {}
        if died and self.whole_ns is not None and before_ns is not None:
            left_ns = max(0, self.whole_ns - before_ns - grown_ns) if self.whole_ns >= before_ns else 0
            held = {job: max(1, cores.get(sluids.get(job, job), 1)) for job in died}
            for job, share_ns in split(left_ns, held).items():
                by = self._died_by(known.get(job), last.get(job), share_ns)
                use = JobUsage(
                    last.get(job, 0) + share_ns,
                    gone=True,
                    shared=len(died) > 1,
                    cpu_by=by,
                    ended=self.layout.scheduler == "oar",
                )
                jobs[sluids.get(job, job)] = use
            grown_ns += left_ns
        self.told_ns += grown_ns
        self._remember(memory, {job: use.cpu_ns for job, use in living.items()})
        memory.ancestors.pop(ancestor, None)
        if self.whole_ns is not None:
            claimed = before_ns is not None and not died
            memory.ancestors[ancestor] = (
                self._claimed_ns(self.whole_ns, before_ns or 0, (before_ns or 0) + grown_ns)
                if claimed
                else self.whole_ns
            )
        return jobs | ({sluids.get(job, job): use for job, use in living.items()} if sluids else living)

    def _read_living(self, t_ns: int, last: Mapping[str, int]) -> tuple[dict[str, JobUsage], int]:
        """What the living have used; and by how much their CPU time grew, in ns."""
        living: dict[str, JobUsage] = {}
        grown_ns = 0
        asks = self._asked_ns is None or t_ns - self._asked_ns >= SUSPENDED_NS
        if asks:
            self._asked_ns = t_ns
        for job, group in tuple(self.groups.items()):
            before_by = group.cpu_by
            now_ns = group.cpu_ns()
            if now_ns is None:
                group.close()
                del self.groups[job]
                self._paths.discard(group.path)
                continue
            last_ns = last.get(job, 0)
            grown_ns += now_ns - last_ns if now_ns >= last_ns else now_ns
            if group.cpu_by is not None:
                self._tell_by(before_by, group.cpu_by)
            living[job] = JobUsage(
                now_ns,
                group.mem_bytes(),
                group.mem_limit_bytes(),
                group.uid,
                cpu_by=group.cpu_by,
                cpus_by=group.cpus_by,
                suspended=group.suspended(now_ns) if asks else group.is_suspended,
                cpus=group.cpus,
                empty_ns=group.empty_ns(t_ns),
            )
        return living, grown_ns

    def _died_by(self, group: Group | None, last_ns: int | None, share_ns: int) -> dict[str, int] | None:
        """The last CPU time by package: as it was until then, else by where it might run, else by size."""
        if len(self._packages) < 2 or (last_ns and (group is None or group.cpu_by is None)):
            return None  # a part of it is not known by package
        before = (group.cpu_by if group else None) or {}
        weights = before if sum(before.values()) else (group.cpus_by if group else None) or self._packages.sizes
        shares = split(share_ns, weights)
        after = {name: before.get(name, 0) + shares.get(name, 0) for name in self._packages.sizes}
        self._tell_by(before, after)
        return after

    def _tell_by(self, before: Mapping[str, int] | None, after: Mapping[str, int]) -> None:
        for name, ns in after.items():
            self.told_by[name] = self.told_by.get(name, 0) + max(0, ns - (before or {}).get(name, 0))

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

    def _remembered(self, memory: CgroupMemory) -> dict[str, int]:
        """The jobs' CPU time at the last reading, by the id that their cgroup tells."""
        size = len(self._prefix)
        return {key[size:]: ns for key, ns in memory.jobs.items() if key.startswith(self._prefix)}

    def _remember(self, memory: CgroupMemory, jobs: Mapping[str, int]) -> None:
        kept = {key: ns for key, ns in memory.jobs.items() if ":" in key and not key.startswith(self._prefix)}
        memory.jobs = kept | {self._prefix + job: ns for job, ns in jobs.items()}

    def close(self) -> None:
        """Close all files."""
        self._ancestor.close()
        self._close_groups()

    def _close_groups(self) -> None:
        for group in self.groups.values():
            group.close()


class _Outside:
    """The node's use outside its jobs, finer than the kernel tells it.

    The jobs' part is known to the nanosecond. The rest is taken anew every half a second, and goes on at its last rate
    in between: in a reading 50 ms after another it would be mostly rounding.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._rate: float | None = None

    def smooth(self, t_ns: int, busy_ns: int, jobs_ns: int) -> int:
        """The busy time, of the jobs and outside them.

        Args:
            t_ns: now, in boot time.
            busy_ns: as the kernel counts it, in its ticks.
            jobs_ns: the jobs' part, from any start.
        """
        outside_ns = busy_ns - jobs_ns
        if self._last is None:
            self._last = t_ns, outside_ns
            return busy_ns
        since_ns, last_ns = self._last
        if t_ns - since_ns >= OUTSIDE_NS:
            self._rate = max(0, outside_ns - last_ns) / (t_ns - since_ns)
            self._last = t_ns, outside_ns
        elif self._rate is not None:
            return jobs_ns + last_ns + round(self._rate * (t_ns - since_ns))
        return busy_ns


def _sum(parts: Sequence[JobUsage]) -> JobUsage:
    """Several parts of one job, as one."""
    living = [part for part in parts if not part.gone]
    of = living or parts
    return JobUsage(
        sum(part.cpu_ns for part in parts),
        _sum_known([part.mem_bytes for part in of]),
        None if any(part.mem_limit_bytes is None for part in of) else _sum_known([one.mem_limit_bytes for one in of]),
        next((part.uid for part in of if part.uid is not None), None),
        gone=not living,
        shared=any(part.shared for part in parts),
        cpu_by=_sum_by([part.cpu_by for part in parts]),
        cpus_by=_sum_by([part.cpus_by for part in of]),
        suspended=all(part.suspended for part in of),
        cpus=None if any(part.cpus is None for part in of) else _sum_known([part.cpus for part in of]),
        ended=all(part.ended for part in parts),
        empty_ns=None if any(part.empty_ns is None for part in of) else min(one.empty_ns or 0 for one in of),
    )


def _sum_known(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _sum_by(parts: Sequence[dict[str, int] | None]) -> dict[str, int] | None:
    """Of several parts, by package; not known of one, not known of all."""
    total: dict[str, int] = {}
    for part in parts:
        if part is None:
            return None
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
