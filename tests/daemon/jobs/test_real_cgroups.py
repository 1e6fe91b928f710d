"""Jobs in the kernel's own cgroups (v1), with real processes: CPU time by package, stopped, frozen, whose they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from inotify_simple import INotify

from jobimpact.core.records import JobUsage
from jobimpact.core.units import NS
from jobimpact_daemon.holdings import CgroupMemory
from jobimpact_daemon.jobs.node import NodeProc, cpu_list
from jobimpact_daemon.jobs.usage import UsageReader

ROOT = Path("/sys/fs/cgroup")
NODE = f"jireal{os.getpid()}"
CONTROLLERS = ("cpuacct", "freezer", "cpuset", "memory")


class Job:
    """A job's cgroups as Slurm makes them, and one process in its step."""

    def __init__(self, job: str, program: str, node: str = NODE, cpu: int | None = None) -> None:
        self.paths = [ROOT / one / f"slurm_{node}" / "uid_0" / f"job_{job}" / "step_0" for one in CONTROLLERS]
        for path in self.paths:
            path.mkdir(parents=True)
        self._cpus(cpu)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "input()\n" + program], stdin=subprocess.PIPE, start_new_session=True
        )
        for path in self.paths:
            (path / "cgroup.procs").write_text(str(self.process.pid))
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def _cpus(self, cpu: int | None) -> None:
        """A cpuset takes no process before it has CPUs and memory; outer ones first."""
        step = ROOT / "cpuset" / self.paths[0].relative_to(ROOT / "cpuacct")
        for folder in (step.parents[2], step.parents[1], step.parents[0], step):
            for name in ("cpuset.cpus", "cpuset.mems"):
                whole = (folder.parent / name).read_text()
                inner = cpu is not None and name == "cpuset.cpus" and folder in (step, step.parent)
                (folder / name).write_text(f"{cpu}" if inner else whole)

    def freeze(self, state: str) -> None:
        (ROOT / "freezer" / self.paths[0].relative_to(ROOT / "cpuacct") / "freezer.state").write_text(state)

    def end(self) -> None:
        """Its process and its cgroups go; what holds its processes is told first."""
        with suppress(OSError):
            self.freeze("THAWED")
        self.process.kill()
        self.process.communicate()
        for path in self.paths:
            for folder in (path, path.parent):
                for _ in range(3000):
                    with suppress(OSError):
                        folder.rmdir()
                    if not folder.exists():
                        break
                    time.sleep(0.01)


@pytest.fixture
def start() -> Iterator[Callable[..., Job]]:
    """Start jobs, and leave nothing of them."""
    if os.geteuid() != 0 or not all((ROOT / one / "cgroup.procs").exists() for one in CONTROLLERS):
        pytest.skip("needs root and the kernel's cgroups v1")
    jobs: list[Job] = []
    nodes: set[str] = set()

    def make(job: str, program: str = "input()", node: str = NODE, cpu: int | None = None) -> Job:
        nodes.add(node)
        jobs.append(Job(job, program, node, cpu))
        return jobs[-1]

    yield make
    for job in jobs:
        job.end()
    for one in CONTROLLERS:
        for node in nodes:
            for folder in (ROOT / one / f"slurm_{node}" / "uid_0", ROOT / one / f"slurm_{node}"):
                with suppress(FileNotFoundError):
                    folder.rmdir()


@pytest.fixture
def usage() -> Iterator[UsageReader]:
    """A daemon that takes each CPU of this machine for a package."""
    online = sorted(cpu_list(Path("/sys/devices/system/cpu/online").read_text()))
    packages = {f"package-{cpu}": (cpu,) for cpu in online}
    with INotify() as inotify:
        found = UsageReader(
            NodeProc(Path("/proc")), ROOT, NODE, CgroupMemory(), inotify, slurmd=[f"{NODE}b"], packages=packages
        )
        yield found
        found.close()


def read(usage: UsageReader, job: str = "1") -> JobUsage:
    return usage.read(time.clock_gettime_ns(time.CLOCK_BOOTTIME), {}, set(), {}).jobs[job]


def wait(usage: UsageReader, condition: Callable[[JobUsage], bool]) -> JobUsage:
    """Read until it is so."""
    deadline = time.monotonic() + 120
    while not condition(found := read(usage)):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


SPIN = 'held = bytearray(b"x") * (9 << 20)\nwhile True: pass'


def test_the_kernel_tells_cpu_time_by_package(start: Callable[..., Job], usage: UsageReader) -> None:
    """A job that may run on CPU 1 alone has used CPU 1 alone; the packages' parts are the whole."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    start("1", SPIN, cpu=1)
    # The interpreter starts before it is moved here, and may have been on any CPU until then.
    before = wait(usage, lambda use: (use.mem_bytes or 0) > 8 << 20)
    found = wait(usage, lambda use: use.cpu_ns > before.cpu_ns + 0.3 * NS)
    assert before.cpu_by is not None
    assert found.cpu_by is not None
    assert sum(found.cpu_by.values()) == found.cpu_ns
    assert found.cpu_by["package-1"] - before.cpu_by["package-1"] == found.cpu_ns - before.cpu_ns
    assert found.cpus_by == {name: int(name == "package-1") for name in found.cpu_by}
    assert not found.suspended
    node = usage.read(time.clock_gettime_ns(time.CLOCK_BOOTTIME), {}, set(), {})
    assert node.busy_by is not None
    assert node.busy_by["package-1"] > 0.3 * NS


def test_a_job_that_may_run_anywhere_is_not_constrained(start: Callable[..., Job], usage: UsageReader) -> None:
    """Its cpuset is the whole node."""
    start("1", SPIN)
    found = wait(usage, lambda use: use.cpu_ns > 0.05 * NS)
    assert found.cpus_by is None
    assert found.cpu_by is not None


def test_a_stopped_job_is_suspended_until_it_goes_on(start: Callable[..., Job], usage: UsageReader) -> None:
    """By SIGSTOP, as Slurm without a freezer and OAR do."""
    job = start("1", SPIN)
    wait(usage, lambda use: use.cpu_ns > 0.05 * NS)
    job.process.send_signal(signal.SIGSTOP)
    wait(usage, lambda use: use.suspended)
    job.process.send_signal(signal.SIGCONT)
    wait(usage, lambda use: not use.suspended)


def test_a_frozen_job_is_suspended_until_it_thaws(start: Callable[..., Job], usage: UsageReader) -> None:
    """By its step's freezer, as Slurm does."""
    job = start("1", SPIN)
    wait(usage, lambda use: use.cpu_ns > 0.05 * NS)
    job.freeze("FROZEN")
    wait(usage, lambda use: use.suspended)
    job.freeze("THAWED")
    wait(usage, lambda use: not use.suspended)


def test_a_job_that_waits_is_not_suspended(start: Callable[..., Job], usage: UsageReader) -> None:
    """It uses no CPU time either, but it could."""
    start("1")
    time.sleep(0.1)
    assert not any(read(usage).suspended for _ in range(8))


def test_whose_a_process_is(start: Callable[..., Job], usage: UsageReader) -> None:
    """By the kernel's word; of this machine's other slurmd too; a process outside is of no job."""
    one, other, strange = start("1"), start("2", node=f"{NODE}b"), start("3", node=f"{NODE}c")
    assert usage.read(0, {}, set(), {}).jobs.keys() == {"1", "2"}
    found = [usage.job_of(pid) for pid in (one.process.pid, other.process.pid, strange.process.pid, os.getpid())]
    assert found == ["1", "2", None, None]
    one.end()
    assert usage.job_of(one.process.pid) is None


def test_the_dead_leave_their_cpu_time_by_package(start: Callable[..., Job], usage: UsageReader) -> None:
    """The kernel's ancestor holds what a removed cgroup had used since its last reading."""
    job = start("1", SPIN, cpu=0)
    before = wait(usage, lambda use: use.cpu_ns > 0.1 * NS)
    used = job.paths[0] / "cpuacct.usage"
    deadline = time.monotonic() + 120
    while int(used.read_text()) < before.cpu_ns + 0.1 * NS:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.end()
    after = read(usage)
    assert after.gone
    assert after.cpu_ns > before.cpu_ns
    assert after.cpu_by is not None
    assert before.cpu_by is not None
    assert sum(after.cpu_by.values()) == after.cpu_ns
    assert all(after.cpu_by[name] >= ns for name, ns in before.cpu_by.items())
