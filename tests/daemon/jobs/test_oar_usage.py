"""What the cgroups of OAR's jobs tell beyond Slurm's: how many CPUs, that they are gone, that nobody is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from inotify_simple import INotify

from jobimpact.core.records import JobUsage
from jobimpact.core.units import NS
from jobimpact_daemon.holdings import CgroupMemory
from jobimpact_daemon.jobs.node import NodeProc
from jobimpact_daemon.jobs.usage import UsageReader
from jobimpact_daemon.lives import LEFT_NS


class Tree:
    """OAR's cgroups as plain files: v1 (2.5) or v2 (2.6 and 3)."""

    def __init__(self, root: Path, version: int) -> None:
        self.version = version
        self.top = root / ("cpuacct/oar" if version == 1 else "oar.slice")
        self.path = "j.doe_2-x_5" if version == 1 else "oar-u1000.slice/oar-u1000-j5.slice"
        self.cpuset_top = root / "cpuset/oar" if version == 1 else self.top
        self.job = self.top / self.path

    def write(self, cpu_ms: int, folder: Path | None = None) -> None:
        """CPU time of a group, by default the job's."""
        folder = folder or self.job
        folder.mkdir(parents=True, exist_ok=True)
        if self.version == 1:
            (folder / "cpuacct.usage").write_text(f"{cpu_ms * 1_000_000}\n")
        else:
            (folder / "cpu.stat").write_text(f"usage_usec {cpu_ms * 1000}\n")

    def make(self, cpu_ms: int = 0, pids: str = "") -> None:
        """The job's cgroup, as it is a moment after it was made: without CPUs."""
        self.write(0, self.top)
        self.write(cpu_ms)
        (self.job / "cgroup.procs").write_text(pids)
        self.cpus("\n")

    def cpus(self, text: str) -> None:
        folder = self.cpuset_top / self.path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpuset.cpus").write_text(text)
        (folder / "cpuset.cpus.effective").write_text("0-63\n")

    def remove(self) -> None:
        """Open files of a removed cgroup answer with an error: an empty file stands for that."""
        for file in [*self.job.iterdir()]:
            file.write_text("")
            file.unlink()
        self.job.rmdir()


@pytest.fixture(params=[1, 2])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Tree:
    return Tree(tmp_path / "cgroup", request.param)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[UsageReader]:
    (tmp_path / "cgroup").mkdir(exist_ok=True)
    with INotify() as inotify:
        found = UsageReader(NodeProc(tmp_path), tmp_path / "cgroup", "n1", CgroupMemory(), inotify)
        yield found
        found.close()


def read(reader: UsageReader, t_s: float, cores: dict[str, int] | None = None) -> JobUsage:
    return reader.read(round(t_s * NS), cores or {}, set(), {}).jobs["5"]


def test_a_cpuset_is_looked_for_until_it_is_set(tree: Tree, reader: UsageReader) -> None:
    """OAR writes it some 30 ms after it has made the group; until then the kernel's effective CPUs are all of them."""
    tree.make(pids="1\n")
    assert read(reader, 0).cpus is None
    tree.cpus("0,2-3,8\n")
    assert read(reader, 0.1).cpus == 4


def test_a_group_that_is_gone_has_ended(tree: Tree, reader: UsageReader) -> None:
    """Its last CPU time is told, and that this was its end."""
    tree.make(pids="1\n")
    assert not read(reader, 0).ended
    tree.remove()
    tree.write(700, tree.top)
    use = read(reader, 1)
    assert (use.gone, use.ended, use.cpu_ns) == (True, True, 700_000_000)


def test_how_long_nobody_is_in_a_group(tree: Tree, reader: UsageReader) -> None:
    """From when it was first found empty; CPU time or a process ends it."""
    tree.make(1000, "17\n")
    assert [read(reader, t).empty_ns for t in (0, 1, 2)] == [None, None, None]
    (tree.job / "cgroup.procs").write_text("")
    tree.write(1500)
    assert read(reader, 3).empty_ns is None
    found = [read(reader, t).empty_ns for t in (4, 5, 6, 10)]
    assert found[0] == 1
    assert found[1:] == [1 * NS, 2 * NS, 6 * NS]
    tree.write(1501)
    assert read(reader, 11).empty_ns is None
    assert read(reader, 12).empty_ns == 1
    (tree.job / "cgroup.procs").write_text("18\n")
    assert read(reader, 13).empty_ns is None


def test_a_process_deeper_down_counts(tree: Tree, reader: UsageReader) -> None:
    """`oarsh` makes groups below the job's."""
    tree.make(1000)
    inner = tree.job / "ana_5" / "0-1"
    inner.mkdir(parents=True)
    (inner / "cgroup.procs").write_text("17\n")
    assert [read(reader, t).empty_ns for t in (0, 1, 2, 3)] == [None] * 4


def test_an_empty_group_at_the_first_look_is_old(tree: Tree, reader: UsageReader) -> None:
    """Nobody knows since when: long enough."""
    tree.make(1000)
    assert (read(reader, 0).empty_ns or 0) >= LEFT_NS


def test_an_empty_group_of_a_known_job_is_not_old(tree: Tree, reader: UsageReader) -> None:
    """The daemon was away for a moment: an open run's node may be unused just now."""
    tree.make(1000)
    assert read(reader, 0, {"5": 2}).empty_ns is None


def test_a_group_that_comes_is_not_old(tree: Tree, reader: UsageReader, tmp_path: Path) -> None:
    """A new job's group is empty at first, and so may it stay on a node that it does not use."""
    tree.write(0, tree.top)
    assert reader.read(0, {}, set(), {}).jobs == {}
    tree.make()
    assert [read(reader, t).empty_ns for t in (1, 2, 3)] == [None, 1, 1 * NS]
