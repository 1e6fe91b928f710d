"""CPU time and memory of jobs, over made-up cgroup trees of both versions and several slurmd."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inotify_simple import INotify

from jobimpact.core.units import NS
from jobimpact_daemon.holdings import CgroupMemory
from jobimpact_daemon.jobs.cgroups import layouts
from jobimpact_daemon.jobs.node import NodeProc
from jobimpact_daemon.jobs.usage import UsageReader

MS = 1_000_000
STAT = "cpu  100 20 30 999 50 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\n"
MEMINFO = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n"


class Tree:
    """Job cgroups as plain files, in one of Slurm's layouts."""

    def __init__(self, root: Path, layout: str) -> None:
        self.root, self.version = root, 2 if layout.endswith(".scope") else 1
        self.cpu = root / ("system.slice" if self.version == 2 else "cpuacct") / layout
        self.memory = self.cpu if self.version == 2 else root / "memory" / layout

    def _cpu(self, folder: Path, cpu_ms: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.version == 1:
            (folder / "cpuacct.usage").write_text(f"{cpu_ms * MS}\n")
        else:
            (folder / "cpu.stat").write_text(f"usage_usec {cpu_ms * 1000}\nuser_usec 1\nsystem_usec 2\n")

    def whole(self, cpu_ms: int) -> None:
        """The ancestor's CPU time, of the dead too."""
        self._cpu(self.cpu, cpu_ms)

    def job(self, job: int, cpu_ms: int, mem_bytes: int = 0, limit: str | None = None) -> None:
        """A living job."""
        path = Path(f"job_{job}") if self.version == 2 else Path(f"uid_1000/job_{job}")
        self._cpu(self.cpu / path, cpu_ms)
        memory = self.memory / path
        memory.mkdir(parents=True, exist_ok=True)
        names = ("anon", "shmem") if self.version == 2 else ("total_rss", "total_shmem")
        (memory / "memory.stat").write_text(f"rss 7\n{names[0]} {mem_bytes}\nfile 9\n{names[1]} 1\n")
        if limit:
            (memory / ("memory.max" if self.version == 2 else "memory.limit_in_bytes")).write_text(f"{limit}\n")

    def die(self, job: int) -> None:
        """Open files of a removed cgroup answer with an error: an empty file stands for that."""
        for folder in {*self.cpu.glob(f"**/job_{job}"), *self.memory.glob(f"**/job_{job}")}:
            for file in folder.iterdir():
                file.write_text("")
                file.unlink()
            folder.rmdir()


@pytest.fixture(params=["slurm", "slurm_n1", "slurmstepd.scope", "n1_slurmstepd.scope"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Tree:
    """Each layout, with one that belongs to another slurmd beside."""
    other = Tree(tmp_path, "n2_slurmstepd.scope" if "scope" in request.param else "slurm_n2")
    other.whole(10**9)
    other.job(99, 10**6)
    return Tree(tmp_path, request.param)


@pytest.fixture
def proc(tmp_path: Path) -> NodeProc:
    """A /proc of 2 CPUs and 1000 kB."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "stat").write_text(STAT)
    (folder / "meminfo").write_text(MEMINFO)
    return NodeProc(folder)


_MADE: list[UsageReader] = []


@pytest.fixture
def inotify() -> Iterator[INotify]:
    """What wakes the daemon; readers that were made with it let go of their files after the test."""
    with INotify() as found:
        yield found
    while _MADE:
        _MADE.pop().close()


def reader(tree: Tree, proc: NodeProc, inotify: INotify, memory: CgroupMemory | None = None) -> UsageReader:
    """A daemon's reader on node n1."""
    _MADE.append(UsageReader(proc, tree.root, "n1", memory or CgroupMemory(), inotify))
    return _MADE[-1]


def test_living_jobs_tell_cpu_time_memory_limit_and_owner(tree: Tree, proc: NodeProc, inotify: INotify) -> None:
    """In every layout, and only this slurmd's jobs. In v2 the folder may be root's, which says nothing of its job."""
    tree.whole(5000)
    tree.job(1, 3000, 4096, "8192")
    tree.job(2, 1000, 0, "max")
    jobs = reader(tree, proc, inotify).read(0, {}, set(), {}).jobs
    assert {job: (use.cpu_ns, use.mem_bytes, use.mem_limit_bytes) for job, use in jobs.items()} == {
        "1": (3 * NS, 4097, 8192),
        "2": (NS, 1, None),
    }
    assert {use.uid for use in jobs.values()} == {1000 if tree.version == 1 else os.geteuid() or None}


def test_the_dead_leave_their_last_cpu_time_to_their_ancestor(tree: Tree, proc: NodeProc, inotify: INotify) -> None:
    """Law 4: what the ancestor grew beyond the living is the dead job's, and is told once."""
    tree.whole(10_000)
    tree.job(1, 2000)
    tree.job(2, 1000)
    usage = reader(tree, proc, inotify)
    usage.read(0, {}, set(), {})
    tree.die(1)
    tree.job(2, 1500)
    tree.whole(11_200)
    jobs = usage.read(0, {"1": 4, "2": 1}, set(), {}).jobs
    assert (jobs["1"].cpu_ns, jobs["1"].gone) == (2 * NS + 700 * MS, True)
    assert (jobs["2"].cpu_ns, jobs["2"].gone) == (1500 * MS, False)
    assert usage.read(0, {}, set(), {}).jobs.keys() == {"2"}


def test_several_that_died_share_by_their_cores(tree: Tree, proc: NodeProc, inotify: INotify) -> None:
    """Law 4: 800 ms that two dead jobs left behind go 3 to 1."""
    tree.whole(10_000)
    tree.job(1, 0)
    tree.job(2, 0)
    usage = reader(tree, proc, inotify)
    usage.read(0, {}, set(), {})
    tree.die(1)
    tree.die(2)
    tree.whole(10_800)
    jobs = usage.read(0, {"1": 3, "2": 1}, set(), {}).jobs
    assert {job: use.cpu_ns for job, use in jobs.items()} == {"1": 600 * MS, "2": 200 * MS}


def test_a_job_that_lived_between_two_readings_has_its_cpu_time(tree: Tree, proc: NodeProc, inotify: INotify) -> None:
    """Born and gone within a tick: its end mark names it, and the ancestor has its time."""
    tree.whole(1000)
    usage = reader(tree, proc, inotify)
    usage.read(0, {}, set(), {})
    tree.whole(1300)
    jobs = usage.read(0, {"7": 2}, {"7"}, {}).jobs
    assert (jobs["7"].cpu_ns, jobs["7"].gone) == (300 * MS, True)


def test_a_restart_misses_no_cpu_time(tree: Tree, proc: NodeProc, inotify: INotify) -> None:
    """What died while no daemon looked is found from what the last one remembered."""
    memory = CgroupMemory()
    tree.whole(1000)
    tree.job(1, 500)
    reader(tree, proc, inotify, memory).read(0, {}, set(), {})
    tree.die(1)
    tree.whole(1900)
    jobs = reader(tree, proc, inotify, memory).read(0, {}, set(), {}).jobs
    assert (jobs["1"].cpu_ns, jobs["1"].gone) == (1400 * MS, True)


def test_a_cgroup_made_anew_lends_nothing_to_the_dead(tree: Tree, proc: NodeProc, inotify: INotify) -> None:
    """A requeued job's new cgroup starts at 0: its old one's hours must not go to another job that died."""
    memory = CgroupMemory()
    tree.whole(100_000)
    tree.job(1, 50_000)
    tree.job(2, 1000)
    reader(tree, proc, inotify, memory).read(0, {}, set(), {})
    tree.die(1)
    tree.die(2)
    tree.job(1, 200)
    tree.whole(100_700)
    jobs = reader(tree, proc, inotify, memory).read(0, {}, set(), {}).jobs
    assert (jobs["1"].cpu_ns, jobs["2"].cpu_ns) == (200 * MS, 1500 * MS)


def test_an_ancestor_that_was_made_anew_gives_nothing_to_the_dead(
    tree: Tree, proc: NodeProc, inotify: INotify
) -> None:
    """Its count starts at 0 again: no time is invented."""
    tree.whole(10_000)
    tree.job(1, 2000)
    usage = reader(tree, proc, inotify)
    usage.read(0, {}, set(), {})
    tree.die(1)
    tree.whole(100)
    jobs = usage.read(0, {}, set(), {}).jobs
    assert jobs["1"].cpu_ns == 2 * NS


def test_the_layout_may_come_later(tree: Tree, proc: NodeProc, inotify: INotify) -> None:
    """Slurm makes its folder with its first job; where two layouts are there, the node's own comes first."""
    usage = reader(tree, proc, inotify)
    assert usage.read(0, {}, set(), {}).jobs == {}
    tree.whole(10)
    tree.job(5, 10)
    assert list(usage.read(0, {}, set(), {}).jobs) == ["5"]
    assert layouts(tree.root, "n1")[0].cpu == tree.cpu


def test_the_nodes_own_use_is_read(tree: Tree, proc: NodeProc, inotify: INotify, tmp_path: Path) -> None:
    """Busy is user, nice, system, irq and softirq; not idle, waiting or stolen. A broken /proc is unknown."""
    usage = reader(tree, proc, inotify)
    found = usage.read(0, {}, set(), {})
    assert found.busy_cpu_ns == (100 + 20 + 30 + 6 + 7) * NS // os.sysconf("SC_CLK_TCK")
    assert found.used_mem_bytes == 600 << 10
    assert (proc.cpus(), proc.mem_bytes()) == (2, 1000 << 10)
    (tmp_path / "proc" / "stat").write_text("intr 1\n")
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: x kB\n")
    found = usage.read(0, {}, set(), {})
    assert (found.busy_cpu_ns, found.used_mem_bytes) == (None, None)


def test_a_process_session_stands_for_a_job(tmp_path: Path, proc: NodeProc, inotify: INotify) -> None:
    """Where there are no cgroups, the session's processes are the job's, and a session that ended is silent."""
    spin = "import time\nwhile time.process_time() < 0.3: pass\nprint(1, flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    usage = UsageReader(proc, tmp_path, "n1", CgroupMemory(), inotify)
    found = usage.read(0, {}, set(), {"1": child.pid, "2": 2**22 - 1}).jobs
    assert list(found) == ["1"]
    assert found["1"].cpu_ns >= 0.15 * NS
    assert found["1"].mem_bytes
    child.communicate(b"\n", timeout=120)
    time.sleep(0.01)
    assert usage.read(0, {}, set(), {"1": child.pid}).jobs == {}


def test_busy_time_is_finer_than_the_kernels_ticks(
    tree: Tree, proc: NodeProc, tmp_path: Path, inotify: INotify
) -> None:
    """Between two looks half a second apart, what is outside the jobs goes on at its rate; the jobs' part is exact."""
    usage = reader(tree, proc, inotify)

    def read(t_ms: int, jobs_ms: int, system_ms: int) -> int:
        tree.whole(jobs_ms)
        tree.job(1, jobs_ms)
        (tmp_path / "proc").mkdir(exist_ok=True)
        ticks = [jobs_ms // 10, 0, system_ms // 10, 0, 0, 0, 0, 0]
        (tmp_path / "proc/stat").write_text(f"cpu  {' '.join(map(str, ticks))}\ncpu0 0\n")
        busy_ns = usage.read(t_ms * MS, {}, set(), {}).busy_cpu_ns
        assert busy_ns is not None
        return busy_ns

    assert read(0, 1000, 500) == 1500 * MS
    assert read(1000, 2000, 800) == 2800 * MS
    assert read(1100, 2104, 829) == (2104 + 830) * MS
    assert read(1200, 2209, 861) == (2209 + 860) * MS
    assert read(1600, 2600, 1100) == 3700 * MS
