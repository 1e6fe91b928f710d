"""Where schedulers keep their jobs' cgroups, and what a job's cgroup tells: CPU time, memory, owner. v1 and v2.

Slurm, v1: `<cpuacct>/slurm[_<node>]/uid_<u>/job_<id>`; v2: `system.slice/[<node>_]slurmstepd.scope/job_<id>`. The
node's name is there where several slurmd share a host, and always in Debian's builds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from jobimpact_daemon.kept import KeptFile

__all__ = ["CpuTime", "Group", "Layout", "layouts"]

_JOB = re.compile(r"job_(\d+)\Z")
_UID = re.compile(r"uid_(\d+)\Z")
_UNLIMITED = 1 << 60
LIMIT_LOOKS = 10
"""How often a limit that is not there yet is looked for."""


class Layout(msgspec.Struct, frozen=True):
    """One place where job cgroups may appear: folders of CPU time and of memory, the same in v2."""

    cpu: Path
    memory: Path
    version: int

    def jobs(self) -> Iterator[tuple[str, str, int | None]]:
        """The living jobs: id, path below the layout, and uid where the path tells."""
        if self.version == 2:
            yield from ((job, name, None) for name, job in _matching(self.cpu, _JOB))
            return
        for folder, uid in _matching(self.cpu, _UID):
            for name, job in _matching(self.cpu / folder, _JOB):
                yield job, f"{folder}/{name}", int(uid)

    def folders(self) -> Iterator[Path]:
        """The folders in which job cgroups come and go, to be watched."""
        yield self.cpu
        if self.version == 1:
            yield from (self.cpu / folder for folder, _ in _matching(self.cpu, _UID))


def layouts(root: Path, node: str) -> list[Layout]:
    """The places that exist now."""
    found = []
    for name in (f"slurm_{node}", "slurm"):
        for controller in ("cpuacct", "cpu,cpuacct"):
            if (root / controller / name).is_dir():
                found.append(Layout(root / controller / name, root / "memory" / name, 1))
                break
    for name in (f"{node}_slurmstepd.scope", "slurmstepd.scope"):
        scope = root / "system.slice" / name
        if scope.is_dir():
            found.append(Layout(scope, scope, 2))
    return found[:1]


class CpuTime:
    """A cgroup's CPU time, the dead below it included.

    Args:
        folder: the cgroup.
        version: of cgroups.
        reopen: whether a group made anew in its place is the same one.
    """

    def __init__(self, folder: Path, version: int, *, reopen: bool) -> None:
        self._version = version
        self._file = KeptFile(folder / ("cpuacct.usage" if version == 1 else "cpu.stat"), reopen=reopen)

    def ns(self) -> int | None:
        """Cumulative, in ns; None if the group is gone."""
        try:
            text = self._file.read(512)
            return int(text) if self._version == 1 else _field(text, b"usage_usec", 1000)
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Close its file."""
        self._file.close()


class Group:
    """One job's cgroup, its files kept open: they answer until the folder is removed.

    Args:
        layout: where it lies.
        path: its path below the layout.
        uid: its owner, where the path tells.
    """

    def __init__(self, layout: Layout, path: str, uid: int | None) -> None:
        self.version = layout.version
        memory = layout.memory / path
        self._cpu = CpuTime(layout.cpu / path, self.version, reopen=False)
        self._memory = KeptFile(memory / "memory.stat")
        self._limit = memory / ("memory.limit_in_bytes" if self.version == 1 else "memory.max")
        self._limit_looks = LIMIT_LOOKS
        self._mem_limit_bytes: int | None = None
        self.uid = uid if uid is not None else _owner(layout.cpu / path)

    def cpu_ns(self) -> int | None:
        """CPU time, cumulative; None if the group is gone."""
        return self._cpu.ns()

    def mem_limit_bytes(self) -> int | None:
        """The job's memory limit; Slurm writes it some time after it has made the group."""
        if self._mem_limit_bytes is None and self._limit_looks:
            self._limit_looks -= 1
            self._mem_limit_bytes = _limit(self._limit)
        return self._mem_limit_bytes

    def mem_bytes(self) -> int | None:
        """Memory that cannot be dropped: anonymous and shared, without the page cache."""
        try:
            text = self._memory.read(4096)
        except OSError:
            return None
        names = (b"total_rss", b"total_shmem") if self.version == 1 else (b"anon", b"shmem")
        found = [_field(text, name, 1) for name in names]
        return None if found[0] is None else sum(one or 0 for one in found)

    def close(self) -> None:
        """Close the files."""
        self._cpu.close()
        self._memory.close()


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = ((name, pattern.match(name)) for name in names)
    return [(name, match[1]) for name, match in found if match]


def _limit(path: Path) -> int | None:
    try:
        limit = int(path.read_bytes())
    except (OSError, ValueError):
        return None  # "max", or no memory controller
    return limit if 0 < limit < _UNLIMITED else None


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _field(text: bytes, name: bytes, scale: int) -> int | None:
    """One `name value` line of a flat file, times a scale."""
    at = 0 if text.startswith(name + b" ") else text.find(b"\n" + name + b" ") + 1
    if at == 0 and not text.startswith(name + b" "):
        return None
    return int(text[at + len(name) + 1 :].split(b"\n", 1)[0]) * scale
