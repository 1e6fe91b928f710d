"""Single processes, as the kernel tells them: are they stopped, in which cgroup, what have their sessions used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from jobimpact.core.records import JobUsage

__all__ = ["cgroup_paths", "is_stopped", "read_sessions", "started"]

STEPD = b"slurmstepd"


def _stat(processes: Path, pid: int | str) -> tuple[bytes, list[bytes]] | None:
    """A process's name, and what follows it in its stat file: state first. A name may hold anything."""
    try:
        text = (processes / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    head, _, rest = text.rpartition(b")")
    return head.partition(b"(")[2], rest.split()


def is_stopped(processes: Path, pid: str) -> bool | None:
    """Whether a process is stopped by a signal; None where that says nothing: it is gone, or the scheduler's own.

    Args:
        processes: the /proc to look at.
        pid: which process.
    """
    found = _stat(processes, pid)
    if found is None or not found[1] or found[1][0] in (b"Z", b"X"):
        return None
    if found[0] == STEPD:
        try:
            if (processes / pid).stat().st_uid == 0:  # a user's process may bear this name too
                return None
        except OSError:
            return None
    return found[1][0] == b"T"


def started(processes: Path, pid: int) -> int | None:
    """When a process started, in ticks since boot: with its id, what names it for good. None if it is gone."""
    found = _stat(processes, pid)
    return int(found[1][19]) if found and len(found[1]) > 19 else None


def cgroup_paths(processes: Path, pid: int) -> list[tuple[int, str]]:
    """The cgroups that a process is in: version and path, by its own line of each hierarchy."""
    try:
        text = (processes / str(pid) / "cgroup").read_text("utf-8", errors="surrogateescape")
    except OSError:
        return []
    lines = (line.split(":", 2) for line in text.splitlines())
    return [(1 if parts[1] else 2, parts[2]) for parts in lines if len(parts) == 3]


def read_sessions(sessions: Mapping[str, int]) -> dict[str, JobUsage]:
    """CPU time and memory of process sessions: of the living, and of the children they have waited for.

    Args:
        sessions: process session by job id.
    """
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
