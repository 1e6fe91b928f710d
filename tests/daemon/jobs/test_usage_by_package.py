"""CPU time by package, jobs of several slurmd, names by SLUID, and whose a process is: over made-up trees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inotify_simple import INotify

from jobimpact.core.units import NS
from jobimpact_daemon.holdings import CgroupMemory
from jobimpact_daemon.jobs.node import NodeProc
from jobimpact_daemon.jobs.usage import UsageReader

MS = 1_000_000
PACKAGES = {"package-0": (0, 1, 2), "package-1": (3,)}
SLUID = "s5K1KKYAYG5D00"


class Node:
    """A node of four CPUs on two packages, with one or several slurmd."""

    def __init__(self, root: Path, version: int) -> None:
        self.root, self.version = root, version
        (root / "proc").mkdir()
        self.busy(0, 0)

    def busy(self, *ticks: int) -> None:
        """How long each CPU was busy, in hundredths of a second; one figure stands for a /proc without CPU lines."""
        each = [f"cpu{cpu} {busy} 0 0 9 9 0 0 9 0 0" for cpu, busy in enumerate(ticks)] if len(ticks) == 4 else []
        lines = [f"cpu  {sum(ticks)} 0 0 9 9 0 0 9 0 0", *each, "intr 0"]
        (self.root / "proc/stat").write_text("\n".join(lines) + "\n")

    def place(self, node: str) -> Path:
        """Where this slurmd keeps its jobs."""
        name = f"slurm_{node}" if self.version == 1 else f"{node}_slurmstepd.scope"
        return self.root / ("cpuacct" if self.version == 1 else "system.slice") / name

    def whole(self, ms: int, node: str = "n1") -> None:
        """The CPU time of all that this slurmd's jobs have ever used."""
        self._time(self.place(node), [ms])

    def job(self, job: str, *ms: int, cpus: str | None = None, node: str = "n1") -> None:
        """A living job: its CPU time on each CPU, and where it may run."""
        name = job if job == SLUID else f"job_{job}"
        folder = self.place(node) / ("uid_1000" if self.version == 1 else "") / name
        self._time(folder, list(ms))
        if cpus is not None:
            text = f"{cpus}\n"
            if self.version == 2:
                (folder / "cpuset.cpus.effective").write_text(text)
            else:
                cpuset = self.root / "cpuset" / folder.relative_to(self.root / "cpuacct")
                cpuset.mkdir(parents=True, exist_ok=True)
                (cpuset / "cpuset.cpus").write_text(text)

    def _time(self, folder: Path, ms: list[int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.version == 2:
            (folder / "cpu.stat").write_text(f"usage_usec {sum(ms) * 1000}\n")
            return
        (folder / "cpuacct.usage").write_text(f"{sum(ms) * MS}\n")
        if len(ms) == 4:
            (folder / "cpuacct.usage_percpu").write_text(" ".join(str(one * MS) for one in ms) + " \n")

    def die(self, job: str, node: str = "n1") -> None:
        """Open files of a removed cgroup answer with an error: an empty file stands for that."""
        for folder in self.place(node).glob(f"**/{job if job == SLUID else f'job_{job}'}"):
            for file in folder.iterdir():
                file.write_text("")
                file.unlink()
            folder.rmdir()


@pytest.fixture(params=[1, 2])
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Node:
    """Of both versions of cgroups."""
    return Node(tmp_path, request.param)


_MADE: list[UsageReader] = []


@pytest.fixture
def inotify() -> Iterator[INotify]:
    """What wakes the daemon; readers that were made with it let go of their files after the test."""
    with INotify() as found:
        yield found
    while _MADE:
        _MADE.pop().close()


@pytest.fixture
def usage(node: Node, inotify: INotify) -> UsageReader:
    """A daemon on node n1, whose machine runs n2's and n3's jobs too."""
    return reader(node, inotify)


def reader(node: Node, inotify: INotify, memory: CgroupMemory | None = None) -> UsageReader:
    found = UsageReader(
        NodeProc(node.root / "proc"),
        node.root,
        "n1",
        memory or CgroupMemory(),
        inotify,
        slurmd=("n2", "n3"),
        packages=PACKAGES,
    )
    _MADE.append(found)
    return found


def test_cpu_time_by_package(node: Node, usage: UsageReader) -> None:
    """v1 tells each CPU's; v2 goes by where the job may run, which is exact for a job on one package."""
    node.whole(1000)
    node.job("1", 0, 0, 0, 400, cpus="3")
    node.job("2", 100, 0, 100, 200, cpus="1-3")
    jobs = usage.read(0, {}, set(), {}).jobs
    assert (jobs["1"].cpu_ns, jobs["1"].cpu_by) == (400 * MS, {"package-0": 0, "package-1": 400 * MS})
    assert jobs["1"].cpus_by == {"package-0": 0, "package-1": 1}
    assert jobs["2"].cpus_by == {"package-0": 2, "package-1": 1}
    found = jobs["2"].cpu_by
    assert found is not None
    assert sum(found.values()) == jobs["2"].cpu_ns == 400 * MS
    assert found["package-0"] == (200 * MS if node.version == 1 else pytest.approx(400 * MS * 2 / 3, abs=1))


@pytest.mark.parametrize("cpus", [None, "", "0-3", "x", "7"])
def test_where_a_job_may_run_is_unknown(node: Node, usage: UsageReader, cpus: str | None) -> None:
    """The whole node is no constraint; a cpuset that is not there, not written yet or foreign says nothing."""
    node.whole(1000)
    node.job("1", 0, 0, 0, 400, cpus=cpus)
    job = usage.read(0, {}, set(), {}).jobs["1"]
    assert job.cpus_by is None
    by_size = {"package-0": 300 * MS, "package-1": 100 * MS} if cpus == "0-3" else None
    assert job.cpu_by == ({"package-0": 0, "package-1": 400 * MS} if node.version == 1 else by_size)


def test_a_cpuset_that_changes_changes_what_follows(node: Node, usage: UsageReader) -> None:
    """v2: what was used before stays where it was used."""
    node.whole(1000)
    node.job("1", 100, 0, 0, 0, cpus="0")
    usage.read(0, {}, set(), {})
    node.job("1", 100, 0, 0, 50, cpus="3")
    job = usage.read(0, {}, set(), {}).jobs["1"]
    assert job.cpu_by == {"package-0": 100 * MS, "package-1": 50 * MS}
    assert job.cpus_by == {"package-0": 0, "package-1": 1}


def test_one_package_is_not_told_apart(node: Node, inotify: INotify, tmp_path: Path) -> None:
    """A job on a node with one package has it all: nothing more is read."""
    node.whole(10)
    node.job("1", 1, 2, 3, 4, cpus="1")
    node.busy(1, 2, 3, 4)
    one = {"package-0": (0, 1, 2, 3)}
    usage = UsageReader(NodeProc(tmp_path / "proc"), tmp_path, "n1", CgroupMemory(), inotify, packages=one)
    found = usage.read(0, {}, set(), {})
    assert (found.busy_by, found.jobs["1"].cpu_by, found.jobs["1"].cpus_by) == (None, None, None)


def test_the_dead_have_used_what_they_last_used(node: Node, usage: UsageReader) -> None:
    """The last CPU time of a dead cgroup is split as its CPU time was until then."""
    node.whole(10_000)
    node.job("1", 300, 0, 0, 100, cpus="0,3")
    before = usage.read(0, {}, set(), {}).jobs["1"].cpu_by
    assert before is not None
    node.die("1")
    node.whole(10_200)
    job = usage.read(0, {}, set(), {}).jobs["1"]
    assert (job.cpu_ns, job.gone) == (600 * MS, True)
    assert job.cpu_by == {name: ns * 3 // 2 for name, ns in before.items()}


def test_a_job_that_lived_between_two_readings_is_split_by_size(node: Node, usage: UsageReader) -> None:
    """Nothing is known of where it ran: three CPUs against one."""
    node.whole(1000)
    usage.read(0, {}, set(), {})
    node.whole(1400)
    job = usage.read(0, {"7": 2}, {"7"}, {}).jobs["7"]
    assert (job.cpu_ns, job.cpu_by) == (400 * MS, {"package-0": 300 * MS, "package-1": 100 * MS})


def test_a_job_that_died_unseen_is_not_told_by_package(node: Node, inotify: INotify) -> None:
    """The daemon that saw it by package is gone: inventing where it ran would take from one package for another."""
    memory = CgroupMemory()
    node.whole(1000)
    node.job("1", 0, 0, 0, 500, cpus="3")
    reader(node, inotify, memory).read(0, {}, set(), {})
    node.die("1")
    node.whole(1900)
    job = reader(node, inotify, memory).read(0, {}, set(), {}).jobs["1"]
    assert (job.cpu_ns, job.cpu_by) == (1400 * MS, None)


def test_other_packages_start_anew(node: Node, usage: UsageReader) -> None:
    """Dies are found to be metered one by one: from then on, use is told by them."""
    node.whole(1000)
    node.job("1", 0, 100, 0, 100, cpus="1,3")
    usage.read(0, {}, set(), {})
    usage.set_packages({"package-0-die-0": (0, 1), "package-0-die-1": (2, 3)})
    job = usage.read(0, {}, set(), {}).jobs["1"]
    assert job.cpu_by == {"package-0-die-0": 100 * MS, "package-0-die-1": 100 * MS}
    assert job.cpus_by == {"package-0-die-0": 1, "package-0-die-1": 1}


def test_busy_time_by_package_is_fine_between_ticks(node: Node, usage: UsageReader) -> None:
    """The jobs' part is exact, what is outside them goes on at its rate; the packages are the node."""

    def read(t_ms: int, job_ms: int, system_ms: int) -> dict[str, int]:
        node.whole(job_ms)
        node.job("1", 0, 0, 0, job_ms, cpus="3")
        node.busy(0, system_ms // 10, 0, job_ms // 10)
        found = usage.read(t_ms * MS, {}, set(), {})
        assert found.busy_by is not None
        assert found.busy_cpu_ns == sum(found.busy_by.values())
        return found.busy_by

    assert read(0, 1000, 500) == {"package-0": 500 * MS, "package-1": 1000 * MS}
    assert read(1000, 2000, 800) == {"package-0": 800 * MS, "package-1": 2000 * MS}
    assert read(1100, 2104, 829) == {"package-0": 830 * MS, "package-1": 2104 * MS}
    assert read(1600, 2600, 1100) == {"package-0": 1100 * MS, "package-1": 2600 * MS}


def test_a_proc_without_cpu_lines_is_unknown_by_package(node: Node, usage: UsageReader) -> None:
    """Absent is not zero."""
    node.busy(100)
    found = usage.read(0, {}, set(), {})
    assert (found.busy_by, found.busy_cpu_ns) == (None, NS)


def test_a_job_on_several_slurmd_is_one(node: Node, usage: UsageReader) -> None:
    """Its parts are summed; a part that dies first stays in it, and it is gone with its last part."""
    for name in ("n1", "n2", "n3"):
        node.whole(1000, name)
    node.job("5", 100, 0, 0, 0, cpus="0", node="n2")
    node.job("5", 0, 0, 0, 200, cpus="3", node="n3")
    node.job("6", 0, 40, 0, 0, cpus="1", node="n1")
    jobs = usage.read(0, {}, set(), {}).jobs
    assert (jobs["5"].cpu_ns, jobs["6"].cpu_ns) == (300 * MS, 40 * MS)
    assert jobs["5"].cpu_by == {"package-0": 100 * MS, "package-1": 200 * MS}
    assert jobs["5"].cpus_by == {"package-0": 1, "package-1": 1}
    node.die("5", "n2")
    node.whole(1010, "n2")
    job = usage.read(0, {}, set(), {}).jobs["5"]
    assert (job.cpu_ns, job.gone, job.cpus_by) == (310 * MS, False, {"package-0": 0, "package-1": 1})
    assert job.cpu_by == {"package-0": 110 * MS, "package-1": 200 * MS}
    node.job("5", 0, 0, 0, 250, cpus="3", node="n3")
    node.whole(1050, "n3")
    assert usage.read(0, {}, {"5"}, {}).jobs["5"].cpu_ns == 360 * MS
    node.die("5", "n3")
    node.whole(1070, "n3")
    job = usage.read(0, {}, set(), {}).jobs["5"]
    assert (job.cpu_ns, job.gone) == (380 * MS, True)
    assert "5" not in usage.read(0, {}, set(), {}).jobs


@given(st.lists(st.tuples(st.sampled_from(["n1", "n2"]), st.sampled_from("abc"), st.integers(0, 900)), max_size=20))
def test_nothing_is_counted_twice(steps: list[tuple[str, str, int]]) -> None:
    """Whatever is used and whoever dies on two slurmd: all jobs' growth is the ancestors' growth."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, INotify() as inotify:
        node = Node(Path(folder), 1)
        whole = {"n1": 0, "n2": 0}
        now: dict[tuple[str, str], int] = {}
        for name in whole:
            node.whole(0, name)
        usage = reader(node, inotify)
        usage.read(0, {}, set(), {})
        told: dict[str, int] = {}
        total = 0
        for name, letter, ms in steps:
            job = str("abc".index(letter))
            if ms > 600 and (name, job) in now:
                del now[name, job]
                node.die(job, name)
                ms -= 600  # its last CPU time, which nobody has read
            else:
                now[name, job] = now.get((name, job), 0) + ms
                node.job(job, now[name, job], 0, 0, 0, node=name)
            whole[name] += ms
            node.whole(whole[name], name)
            for key, use in usage.read(0, {}, set(), {}).jobs.items():
                total += max(0, use.cpu_ns - told.get(key, 0))
                told[key] = 0 if use.gone else use.cpu_ns
            assert total == sum(whole.values()) * MS


def test_a_sluid_is_a_job_until_a_mark_tells_its_id(node: Node, usage: UsageReader) -> None:
    """Slurm 26.05 names the cgroup by the incarnation; its last CPU time goes to the same name."""
    node.whole(1000)
    node.job(SLUID, 100, 0, 0, 0)
    assert list(usage.read(0, {}, set(), {}).jobs) == [SLUID]
    jobs = usage.read(0, {"12": 1}, set(), {}, {SLUID: "12"}).jobs
    assert {job: use.cpu_ns for job, use in jobs.items()} == {"12": 100 * MS}
    assert list(usage.read(0, {}, set(), {}).jobs) == ["12"]
    node.die(SLUID)
    node.whole(1030)
    job = usage.read(0, {"12": 1}, {"12"}, {}).jobs
    assert {name: (use.cpu_ns, use.gone) for name, use in job.items()} == {"12": (130 * MS, True)}
    node.job(SLUID, 7, 0, 0, 0)
    assert list(usage.read(0, {}, set(), {}).jobs) == [SLUID]


def process(root: Path, pid: int, cgroup: str, start: int = 77) -> None:
    """A process in a /proc of files."""
    (root / "self").mkdir(exist_ok=True)
    (root / str(pid)).mkdir(exist_ok=True)
    (root / str(pid) / "stat").write_text(f"{pid} (a b) c) S " + " ".join(["0"] * 18) + f" {start} 0 0\n")
    (root / str(pid) / "cgroup").write_text(cgroup)


def test_whose_a_process_is(node: Node, usage: UsageReader) -> None:
    """By its cgroup, however deep; names that users give to cgroups of their own say nothing."""
    node.whole(1000)
    node.job("5", 1, 0, 0, 0)
    node.job(SLUID, 1, 0, 0, 0, node="n3")
    usage.read(0, {}, set(), {}, {SLUID: "12"})
    proc = node.root / "proc"
    line, below = (
        ("4:cpuacct:/slurm_{}", "uid_1000/") if node.version == 1 else ("0::/system.slice/{}_slurmstepd.scope", "")
    )
    process(proc, 10, "7:memory:/x\n" + line.format("n1") + f"/{below}job_5/step_0/task_0\n1:name=systemd:/y\n")
    process(proc, 11, line.format("n3") + f"/{below}{SLUID}/step_0/user/task_0\n")
    process(proc, 12, line.format("n1") + "/system\n")
    process(proc, 13, "0::/user.slice" + line.format("n1").rpartition(":")[2] + f"/{below}job_5/step_0\n")
    process(proc, 14, line.format("n9") + f"/{below}job_5\n")
    process(proc, 15, "")
    found = {pid: usage.job_of(pid) for pid in (10, 11, 12, 13, 14, 15, 16)}
    assert found == {10: "5", 11: "12", 12: None, 13: None, 14: None, 15: None, 16: None}


def test_a_process_id_that_is_used_again_is_another_process(node: Node, usage: UsageReader) -> None:
    """It is known by its start time as well; while it lives, its job is looked up once."""
    node.whole(1000)
    node.job("5", 1, 0, 0, 0)
    usage.read(0, {}, set(), {})
    proc = node.root / "proc"
    line = "4:cpuacct:/slurm_n1/uid_1000" if node.version == 1 else "0::/system.slice/n1_slurmstepd.scope"
    process(proc, 10, f"{line}/job_5\n")
    assert usage.job_of(10) == "5"
    (proc / "10/cgroup").write_text("")
    assert usage.job_of(10) == "5"
    process(proc, 10, f"{line}/job_6\n", start=99)
    assert usage.job_of(10) == "6"


def test_a_process_of_a_session_that_stands_for_a_job(node: Node, usage: UsageReader) -> None:
    """Where there are no cgroups, the session tells."""
    sleep = [sys.executable, "-c", "input()"]
    with subprocess.Popen(sleep, stdin=subprocess.PIPE, start_new_session=True) as child:
        usage.read(0, {}, set(), {"9": child.pid})
        assert usage.job_of(child.pid) == "9"
        assert usage.job_of(os.getpid()) is None
        child.kill()
