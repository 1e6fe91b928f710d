"""Where schedulers keep their jobs' cgroups, and what a job's cgroup tells: CPU time, CPUs, memory, owner. v1 and v2.

- Slurm: v1 `<controller>/slurm[_<node>]/uid_<u>/job_<id>`; v2 `system.slice/[<node>_]slurmstepd.scope/job_<id>`, from
  26.05 on `<SLUID>` in place of `job_<id>`.
- OAR 2: v1 `<controller>/oar/<user>_<id>`. OAR 2.6 and 3: v2 `oar.slice/oar-u<uid>.slice/oar-u<uid>-j<id>.slice`.

The node's name is there where several slurmd share a host, and always in Debian's builds; `CgroupSlice` may give
another slice than `system.slice`, and `CgroupJobIdPaths=yes` brings `job_<id>` back. v2 may be mounted at `unified`
beside v1 (hybrid hosts). The places themselves outlive their jobs, and keep the CPU time of the dead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from jobimpact_daemon.attribution import split
from jobimpact_daemon.jobs.node import Packages, cpu_list
from jobimpact_daemon.jobs.processes import is_stopped
from jobimpact_daemon.kept import KeptFile

__all__ = ["CpuTime", "Group", "JobFolder", "Layout", "layouts"]

_SLUID = r"s[0-9A-HJKMNP-TV-Z]{13}"
"""Slurm's id of an incarnation: base 32 without I, L, O and U."""
_JOB = {
    ("slurm", 1): re.compile(rf"job_(\d+)\Z|({_SLUID})\Z", re.ASCII),
    ("slurm", 2): re.compile(rf"job_(\d+)\Z|({_SLUID})\Z", re.ASCII),
    # A login may hold digits, `_`, `-` and `.`; OAR's ids are what follows the last `_`.
    ("oar", 1): re.compile(r".+_(\d+)\Z", re.ASCII),
    ("oar", 2): re.compile(r"oar-u\d+-j(\d+)\.slice\Z", re.ASCII),
}
_OWNER = {
    ("slurm", 1): re.compile(r"uid_(\d+)\Z", re.ASCII),
    ("oar", 2): re.compile(r"oar-u(\d+)\.slice\Z", re.ASCII),
}
_UNLIMITED = 1 << 60
LIMIT_LOOKS = 10
"""How often a limit that is not there yet is looked for."""
CPUSET_EVERY = 10
"""A cpuset is read at a job's first readings, and then every so many: it hardly ever changes."""
STILL_EVERY = 32
"""Jobs whose CPU time stands still are looked at for suspension at reading 1, 2, 4, ... of that, and every so many."""
STEPD_NS = 20_000_000
"""What the scheduler's own process may use in a suspended job between two readings, in ns."""


class JobFolder(msgspec.Struct, frozen=True):
    """A job's cgroup: the id that its name tells, its path below the layout, its owner where the path tells."""

    job: str
    path: str
    uid: int | None


class Layout(msgspec.Struct, frozen=True):
    """One place where job cgroups may appear: folders of CPU time, memory and so on, all the same in v2."""

    cpu: Path
    memory: Path
    version: Literal[1, 2]
    scheduler: Literal["slurm", "oar"] = "slurm"
    cpuset: Path | None = None
    freezer: Path | None = None

    @property
    def path(self) -> str:
        """Its path as /proc/<pid>/cgroup tells it where nothing is mounted in between."""
        depth = 1 if self.version == 1 else 2 if self.cpu.name.endswith("slurmstepd.scope") else 1
        return "/" + "/".join(self.cpu.parts[-depth:])

    def jobs(self, known: Container[str] = ()) -> tuple[list[Path], list[JobFolder]]:
        """The folders in which job cgroups come and go, to be watched, and the living jobs.

        Args:
            known: paths of jobs that need not be told again.
        """
        pattern, owner = self._patterns()
        if owner is None:
            names = [name for name in _listed(self.cpu) if name not in known]
            return [self.cpu], [JobFolder(job, name, None) for name in names if (job := _match(pattern, name))]
        folders, found = [self.cpu], []
        for folder in _listed(self.cpu):
            uid = _match(owner, folder)
            if uid is None:
                continue
            folders.append(self.cpu / folder)
            for name in _listed(folders[-1]):
                path = f"{folder}/{name}"
                if path not in known and (job := _match(pattern, name)):
                    found.append(JobFolder(job, path, int(uid)))
        return folders, found

    def came(self, folder: Path, name: str) -> tuple[bool, str | None]:
        """Whether what came in one of these folders is about jobs; and the job's id, if it is a job."""
        pattern, owner = self._patterns()
        if owner is not None and folder == self.cpu:
            return owner.match(name) is not None, None
        job = _match(pattern, name)
        return job is not None, job

    def job_at(self, path: str) -> str | None:
        """The job of a path below the layout, however deep: `uid_1000/job_5/step_0/task_0` → `5`."""
        pattern, owner = self._patterns()
        parts = path.strip("/").split("/")
        if owner is not None and not owner.match(parts.pop(0)):
            return None
        return _match(pattern, parts[0]) if parts else None

    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str] | None]:
        kind = self.scheduler, self.version
        return _JOB[kind], _OWNER.get(kind)


def layouts(root: Path, node: str, others: Iterable[str] = ()) -> list[Layout]:
    """The places that exist now: several may, of two schedulers or of several slurmd.

    Args:
        root: where cgroups are mounted.
        node: the node's name.
        others: further node names whose jobs run on this machine.
    """
    names = list(dict.fromkeys((node, *others)))
    found = [
        layout
        for name, scheduler in (*((f"slurm_{name}", "slurm") for name in names), ("slurm", "slurm"), ("oar", "oar"))
        if (layout := _v1(root, name, "oar" if scheduler == "oar" else "slurm")) is not None
    ]
    # The same slice may be there twice on a hybrid host; the first one is the one with controllers.
    for base in (root, root / "unified"):
        scopes = [f"{name}_slurmstepd.scope" for name in names] + ["slurmstepd.scope"]
        seen = {layout.path for layout in found}
        found += [one for one in _v2(base, scopes) if one.path not in seen]
    return found


def _v1(root: Path, name: str, scheduler: Literal["slurm", "oar"]) -> Layout | None:
    for controller in ("cpuacct", "cpu,cpuacct", "cpuacct,cpu"):
        folder = root / controller / name
        if folder.is_dir():
            return Layout(
                folder, root / "memory" / name, 1, scheduler, root / "cpuset" / name, root / "freezer" / name
            )
    return None


def _v2(base: Path, scopes: list[str]) -> Iterator[Layout]:
    try:
        names = os.listdir(base)
    except OSError:
        return
    slices = sorted(
        (name for name in names if name.endswith(".slice")), key=lambda name: (name != "system.slice", name)
    )
    for scope in scopes:
        for name in slices:
            folder = base / name / scope
            if folder.is_dir():
                yield Layout(folder, folder, 2, "slurm", folder)
                break
    if "oar.slice" in names:
        yield Layout(base / "oar.slice", base / "oar.slice", 2, "oar", base / "oar.slice")


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
        folder: which one it is.
        packages: the node's CPUs by package; with fewer than two, nothing is told by package.
        processes: the /proc of its processes.
    """

    def __init__(self, layout: Layout, folder: JobFolder, packages: Packages, processes: Path) -> None:
        self.version = layout.version
        self.path = folder.path
        self.cpu_by: dict[str, int] | None = None
        """CPU time by package at the last reading, cumulative, in ns."""
        self.cpus_by: dict[str, int] | None = None
        """The CPUs that it may run on, by package; None while that is not known, or is all of them."""
        self._folder = layout.cpu / folder.path
        self._freezer = layout.freezer / folder.path if layout.freezer else self._folder
        self._processes = processes
        self._packages = packages
        memory = layout.memory / folder.path
        self._cpu = CpuTime(self._folder, self.version, reopen=False)
        self._each_cpu = self._cpuset = None
        self._is_oars = layout.scheduler == "oar"
        self.cpus: int | None = None
        """How many CPUs its cpuset has, where the scheduler always sets one (OAR); None until it is set."""
        if len(packages) > 1:
            percpu = self._folder / "cpuacct.usage_percpu"
            self._each_cpu = KeptFile(percpu, reopen=False) if self.version == 1 else None
        if len(packages) > 1 or self._is_oars:
            # A new group's effective CPUs are its parent's: of OAR's jobs, only what was set counts.
            name = "cpuset.cpus" if self.version == 1 or self._is_oars else "cpuset.cpus.effective"
            self._cpuset = KeptFile((layout.cpuset or layout.cpu) / folder.path / name)
        self._cpuset_text: bytes | None = None
        self._weights: dict[str, int] | None = None
        self._readings = 0
        self._memory = KeptFile(memory / "memory.stat")
        self._limit = memory / ("memory.limit_in_bytes" if self.version == 1 else "memory.max")
        self._limit_looks = LIMIT_LOOKS
        self._mem_limit_bytes: int | None = None
        self._last_ns: int | None = None
        self._still = 0
        self.is_suspended = False
        """As it was found the last time."""
        self._empty_since_ns: int | None = None
        self.uid = folder.uid
        if self.uid is None and layout.scheduler == "slurm":
            self.uid = _owner(self._folder)

    def cpu_ns(self) -> int | None:
        """CPU time, cumulative; None if the group is gone."""
        if self._cpuset is not None:
            self._read_cpuset(self._cpuset)
        each = self._read_each_cpu()
        if each:
            self.cpu_by = self._packages.sums(each)
            return sum(each)
        ns = self._cpu.ns()
        if ns is not None and self._weights is not None and self.version == 2:
            # v2 tells no CPU from another: what it grew by goes by where the job may run.
            before = self.cpu_by or {}
            grown = split(max(0, ns - sum(before.values())), self._weights)
            self.cpu_by = {name: before.get(name, 0) + grown.get(name, 0) for name in self._weights}
        return ns

    def _read_each_cpu(self) -> list[int]:
        if self._each_cpu is None:
            return []
        try:
            return [int(one) for one in self._each_cpu.read(1 << 16).split()]
        except (OSError, ValueError):
            return []

    def _read_cpuset(self, file: KeptFile) -> None:
        self._readings += 1
        if self._readings > LIMIT_LOOKS and self._readings % CPUSET_EVERY:
            return
        try:
            text = file.read(1 << 14)
            if text == self._cpuset_text:
                return
            cpus = cpu_list(text.decode("ascii"))
        except (OSError, ValueError):
            return
        if self._is_oars:
            self.cpus = len(cpus) or None
        counts = self._packages.counts(cpus)
        if sum(counts.values()):
            self._cpuset_text, self._weights = text, counts
            self.cpus_by = None if counts == self._packages.sizes else counts

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
        own = _field(text, names[0], 1)
        return None if own is None else own + (_field(text, names[1], 1) or 0)

    def suspended(self, cpu_ns: int) -> bool:
        """Whether its processes are stopped or frozen; a job that uses CPU time is not asked.

        Args:
            cpu_ns: its CPU time, as just read.
        """
        last_ns, self._last_ns = self._last_ns, cpu_ns
        grown_ns = None if last_ns is None else cpu_ns - last_ns
        if grown_ns == 0:
            self._still += 1
            if self._is_time_to_look():
                self.is_suspended = self._is_stopped()
        else:
            self._still = 0
            if grown_ns:
                self._empty_since_ns = None
            # The scheduler's own process in it may have woken up: only a suspended job pays for this.
            self.is_suspended = (
                self.is_suspended and grown_ns is not None and 0 < grown_ns < STEPD_NS and self._is_stopped()
            )
        return self.is_suspended

    def _is_time_to_look(self) -> bool:
        return self._still & (self._still - 1) == 0 or self._still % STILL_EVERY == 0

    def is_old(self, since_ns: int) -> None:
        """It was there before anybody looked: if it has no process, it has had none since then at least.

        Args:
            since_ns: boot time.
        """
        if self._is_oars and not _has_process(self._folder):
            self._empty_since_ns = since_ns

    def empty_ns(self, t_ns: int) -> int | None:
        """For how long no process has been in it, as far as it was looked at; None: there is one.

        OAR may leave a group behind. Only one whose CPU time stands still is looked at, as for suspension.

        Args:
            t_ns: now, in boot time.
        """
        if self._is_oars and self._still and self._is_time_to_look():
            if _has_process(self._folder):
                self._empty_since_ns = None
            elif self._empty_since_ns is None:
                self._empty_since_ns = t_ns
        return None if self._empty_since_ns is None else max(1, t_ns - self._empty_since_ns)

    def _is_stopped(self) -> bool:
        """The group, or all its steps, frozen; or every process stopped by a signal."""
        if self._frozen(self._freezer):
            return True
        steps = [self._freezer / name for name in _listed(self._freezer) if name.startswith("step_")]
        # The extern step only keeps a place for those who log in.
        steps = [step for step in steps if step.name != "step_extern"] or steps
        if steps and all(self._frozen(step) or self._frozen(step / "user") for step in steps):
            return True
        return _all_stopped(self._folder, self._processes)

    def _frozen(self, folder: Path) -> bool:
        try:
            if self.version == 1:
                return (folder / "freezer.state").read_bytes().strip() == b"FROZEN"
            return _field((folder / "cgroup.events").read_bytes(), b"frozen", 1) == 1
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """Close the files."""
        for file in (self._cpu, self._memory, self._each_cpu, self._cpuset):
            if file is not None:
                file.close()


def _all_stopped(folder: Path, processes: Path) -> bool:
    """Whether there are processes in a group's tree and each is stopped, but for the scheduler's own."""
    some = False
    for inner, _, files in os.walk(folder):
        if "cgroup.procs" not in files:
            continue
        try:
            pids = (Path(inner) / "cgroup.procs").read_text("ascii").split()
        except (OSError, ValueError):
            continue
        for pid in pids:
            stopped = is_stopped(processes, pid)
            if stopped is False:
                return False
            some = some or stopped is True
    return some


def _has_process(folder: Path) -> bool:
    """Whether there is a process in a group's tree; a tree that cannot be read is taken to have one."""
    for inner, _, files in os.walk(folder):
        if "cgroup.procs" not in files:
            continue
        try:
            if (Path(inner) / "cgroup.procs").read_bytes().strip():
                return True
        except OSError:
            return True
    return False


def _match(pattern: re.Pattern[str], name: str) -> str | None:
    found = pattern.match(name)
    return None if found is None else found[found.lastindex or 0]


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _limit(path: Path) -> int | None:
    try:
        limit = int(path.read_bytes())
    except (OSError, ValueError):
        return None  # "max", or no memory controller
    return limit if 0 < limit < _UNLIMITED else None


def _owner(path: Path) -> int | None:
    """A folder's owner; the scheduler's own (root) says nothing of the job's."""
    try:
        return path.stat().st_uid or None
    except OSError:
        return None


def _field(text: bytes, name: bytes, scale: int) -> int | None:
    """One `name value` line of a flat file, times a scale."""
    at = 0 if text.startswith(name + b" ") else text.find(b"\n" + name + b" ") + 1
    if at == 0 and not text.startswith(name + b" "):
        return None
    return int(text[at + len(name) + 1 :].split(b"\n", 1)[0]) * scale
