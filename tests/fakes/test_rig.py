"""The power rig plays what was scripted: files, /proc, cgroups' CPU time, trace."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.fakes.curve import NS_PER_MS, Counter, Curve, boot_ns, reset, stuck, unreadable, watts
from tests.fakes.rig import MAX_RANGE_UJ, PowercapTree, PowerRig, RigNode, counter

pytestmark = pytest.mark.usefixtures("compiled")

S = 1_000_000_000
TICK_NS = 10 * NS_PER_MS
BUSY = [(NS_PER_MS * 7, 300_000_000), (NS_PER_MS * 13, 90_000_000)]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for the rig: it may be late on a busy machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the rig did not come"
        time.sleep(0.003)


@pytest.fixture
def kept() -> Iterator[Callable[[Path], int]]:
    """Opens a file as a daemon does: once, and reads it with pread for ever."""
    opened: list[int] = []

    def keep(path: Path) -> int:
        opened.append(os.open(path, os.O_RDONLY))
        return opened[-1]

    yield keep
    for fd in opened:
        os.close(fd)


def shows(rig: PowerRig, node: str, domain: str, fd: int) -> bool:
    """Whether the file shows a value that its counter had in the last 300 ms."""
    since = boot_ns() - 300 * NS_PER_MS
    value, now = int(os.pread(fd, 32, 0)), boot_ns()
    model = rig.counter(node, domain)
    low, high = model.raw(since), model.raw(now)
    wraps = high < low
    return low <= value <= high or (wraps and (value >= low or value <= high))


def test_counter_files_follow_their_curves(tmp_path: Path, kept: Callable[[Path], int]) -> None:
    """Two nodes with curves of their own: each file holds a value its counter had just now, wraps included."""
    t0 = boot_ns()
    soon = MAX_RANGE_UJ - 10_000_000
    one = RigNode("n1", tmp_path / "n1", rapl={"package-0": Curve(t0, BUSY), "dram-0": Curve.flat(t0, 20_000_000)})
    two = RigNode("n2", tmp_path / "n2", rapl={"package-0": counter(Curve(t0, BUSY), start_uj=soon)}, mmio=True)
    with PowerRig(tmp_path, one, two) as rig:
        files = {("n1", d): kept(one.powercap.energy_file[d]) for d in ("package-0", "dram-0")}
        files |= {("n2", d): kept(two.powercap.energy_file[d]) for d in ("package-0", "mmio-0")}
        while boot_ns() < t0 + S // 2:
            assert all(shows(rig, *key, fd) for key, fd in files.items())
            time.sleep(0.01)
        wrapped = int(os.pread(files["n2", "package-0"], 32, 0))
    assert wrapped < soon, "the counter passed its range"
    assert rig.true_uj("n2", "package-0", t0, t0 + S) == 163_500_000
    assert one.boot_id != two.boot_id


def test_a_reset_restarts_and_a_stuck_counter_holds(tmp_path: Path, kept: Callable[[Path], int]) -> None:
    """A reset is a fall to about 0, without a moment of garbage; a stuck counter repeats itself, then jumps."""
    t0 = boot_ns()
    flat = Curve.flat(t0, 100_000_000)
    meters = {
        "package-0": counter(flat, reset(t0 + 900 * NS_PER_MS), start_uj=10**11),
        "package-1": counter(flat, stuck(t0 + 800 * NS_PER_MS, t0 + 1500 * NS_PER_MS)),
    }
    node = RigNode("n1", tmp_path / "n1", rapl=meters)
    with PowerRig(tmp_path, node) as rig:
        fds = [kept(node.powercap.energy_file[d]) for d in meters]
        seen: list[list[int]] = [[], []]
        times = []
        while boot_ns() < t0 + 1900 * NS_PER_MS:
            for values, fd in zip(seen, fds, strict=True):
                values.append(int(os.pread(fd, 32, 0)))
            times.append(boot_ns())
            time.sleep(0.001)
    ((at, fallen),) = ((at, b) for at, (a, b) in enumerate(itertools.pairwise(seen[0]), 1) if b < a)
    assert fallen <= rig.raw("n1", "package-0", times[at])
    held = rig.raw("n1", "package-1", t0 + 900 * NS_PER_MS)
    assert seen[1].count(held) > 10
    assert seen[1][-1] > held + 20_000_000


def test_an_unreadable_counter_fails_and_heals(tmp_path: Path, kept: Callable[[Path], int]) -> None:
    """A kept descriptor meets end of file, a fresh open EIO; afterwards both see the whole energy again."""
    t0 = boot_ns()
    gap = unreadable(t0 + 150 * NS_PER_MS, t0 + 550 * NS_PER_MS)
    node = RigNode("n1", tmp_path / "n1", rapl={"package-0": counter(Curve.flat(t0, 10**8), gap)})
    with PowerRig(tmp_path, node) as rig:
        path = node.powercap.energy_file["package-0"]
        fd = kept(path)
        assert shows(rig, "n1", "package-0", fd)
        until(lambda: os.pread(fd, 32, 0) == b"")
        until(path.is_symlink)
        with pytest.raises(OSError, match="Input/output") as failure:
            path.read_bytes()
        assert failure.value.errno == errno.EIO
        until(lambda: os.pread(fd, 32, 0) != b"")
        until(lambda: not path.is_symlink())
        assert shows(rig, "n1", "package-0", fd)
        assert int(path.read_text()) > 30_000_000


def test_the_tree_is_laid_out_like_the_kernels(tmp_path: Path) -> None:
    """Flat class links into a tree of zones: dram and core inside their package, the mmio duplicate apart."""
    tree = PowercapTree(tmp_path, ["package-0", "dram-0", "core-0", "package-1", "dram-1", "mmio-0", "psys"])
    names = {zone.name: (zone / "name").read_text().strip() for zone in tree.root.iterdir() if ":" in zone.name}
    assert names == {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "dram",
        "intel-rapl:0:1": "core",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    zone = tree.root / "intel-rapl:0:0"
    assert zone.is_symlink()
    assert zone.resolve().parent.name == "intel-rapl:0"
    assert tree.energy_file["dram-0"].samefile(zone / "energy_uj")


def cpu_ticks(proc: Path) -> list[list[int]]:
    """User, nice, system and idle of the `cpu` line and of each CPU's, in that order."""
    lines = [line.split() for line in (proc / "stat").read_text().splitlines() if line.startswith("cpu")]
    return [[int(word) for word in words[1:5]] for words in lines]


def test_proc_stat_is_monotone_and_matches_the_script(tmp_path: Path) -> None:
    """Busy time is the scripted load within a tick, CPUs add up to the total, and no number ever falls."""
    t0 = boot_ns()
    load = Curve(t0, [(30 * NS_PER_MS, 3_000_000), (20 * NS_PER_MS, 500_000)])
    node = RigNode("n1", tmp_path / "n1", rapl={"package-0": Curve.flat(t0, 1)}, cpus=8, load=load)
    before = [[0] * 4] * 9
    with PowerRig(tmp_path, node) as rig:
        while boot_ns() < t0 + S // 2:
            early = boot_ns()
            now = cpu_ticks(node.proc_root)
            late = boot_ns()
            assert [sum(column) for column in zip(*now[1:], strict=True)] == now[0]
            assert all(b >= a for old, new in zip(before, now, strict=True) for a, b in zip(old, new, strict=True))
            low = rig.system_cpu_ns("n1", t0, early - 300 * NS_PER_MS) // TICK_NS
            assert low <= now[0][2] <= rig.system_cpu_ns("n1", t0, late) // TICK_NS
            before = now
            time.sleep(0.01)
    trace, last = rig.trace(), cpu_ticks(node.proc_root)[0]
    sample = trace.of("n1")[-2]
    assert trace.end_ns is not None
    assert sample.system_ns == load.cpu_ns(sample.t_ns)
    assert sample.system_ns // TICK_NS <= last[2] <= load.cpu_ns(trace.end_ns) // TICK_NS
    assert (sample.t_ns - t0) * 8 // TICK_NS <= sum(last) <= (trace.end_ns - t0) * 8 // TICK_NS


def write_job(roots: tuple[Path, Path], cpu_ns: int, rss: int, shmem: int = 0) -> None:
    """Job 42 of user 1000 on node n1, and its parent's usage, as plain files."""
    for root in roots:
        (root / "slurm_n1" / "uid_1000" / "job_42").mkdir(parents=True, exist_ok=True)
    job = Path("slurm_n1", "uid_1000", "job_42")
    (roots[0] / "slurm_n1" / "cpuacct.usage").write_text(f"{cpu_ns}\n")
    (roots[0] / job / "cpuacct.usage").write_text(f"{cpu_ns}\n")
    (roots[1] / job / "memory.stat").write_text(f"rss 1\nshmem 2\ntotal_rss {rss}\ntotal_shmem {shmem}\n")


def test_job_cgroups_add_to_busy_time_and_used_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs' CPU time is `user` in stat, over a cgroup that goes and comes again; psutil reads the folder."""
    t0 = boot_ns()
    roots = (tmp_path / "cpuacct", tmp_path / "memory")
    node = RigNode(
        "n1",
        tmp_path / "n1",
        rapl={"package-0": Curve.flat(t0, 1)},
        mem_bytes=8 << 30,
        used_mem=Curve.flat(t0, 1 << 30),
        cpuacct=roots[0],
        memory=roots[1],
    )
    with PowerRig(tmp_path, node) as rig:
        write_job(roots, 5 * S, 1 << 28, 1 << 20)
        until(lambda: cpu_ticks(node.proc_root)[0][0] == 500)
        (roots[0] / "slurm_n1").rename(tmp_path / "gone")
        (tmp_path / "gone" / "cpuacct.usage").unlink()
        time.sleep(0.05)
        write_job(roots, 6 * S, 1 << 28, 1 << 20)
        until(lambda: cpu_ticks(node.proc_root)[0][0] == 1100)
        used = (1 << 30) + (1 << 28) + (1 << 20)
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(node.proc_root))
        until(lambda: psutil.virtual_memory().used == used)
        assert psutil.cpu_times().user == 11.0
    trace = rig.trace()
    job, parent = trace.of_job("n1", "42")[-1], trace.of("n1")[-1]
    assert (job.cpu_ns, job.rss_bytes) == (6 * S, (1 << 28) + (1 << 20))
    assert (parent.parent_ns, parent.jobs_ns, parent.used_bytes) == (6 * S, 11 * S, used)
    assert any(sample.parent_ns is None for sample in trace.nodes)


def test_usage_from_before_the_rig_is_not_counted(tmp_path: Path) -> None:
    """A node's cgroup that already holds CPU time starts the stand-in's clock at zero."""
    t0 = boot_ns()
    roots = (tmp_path / "cpuacct", tmp_path / "memory")
    write_job(roots, 50 * S, 0)
    rapl = {"package-0": Curve.flat(t0, 1)}
    node = RigNode("n1", tmp_path / "n1", rapl=rapl, cpuacct=roots[0], memory=roots[1])
    with PowerRig(tmp_path, node):
        assert cpu_ticks(node.proc_root)[0][0] == 0
        write_job(roots, 52 * S, 0)
        until(lambda: cpu_ticks(node.proc_root)[0][0] == 200)


def test_four_nodes_cost_little(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four nodes with four counters at 200 Hz play for a second; the cost is printed, and nothing is lost."""
    t0 = boot_ns()
    domains = ("package-0", "dram-0", "package-1", "dram-1")
    meters: dict[str, Curve | Counter] = {domain: Curve(t0, watts((0.01, 200), (0.02, 90))) for domain in domains}
    nodes = [RigNode(f"n{i}", tmp_path / f"n{i}", rapl=meters) for i in range(4)]
    with PowerRig(tmp_path, *nodes) as rig:
        start = boot_ns()
        time.sleep(1)
    trace = rig.trace()
    assert trace.rig_cpu_ns is not None
    assert trace.max_late_ns is not None
    assert trace.end_ns is not None
    share = trace.rig_cpu_ns / (trace.end_ns - start)
    with capsys.disabled():
        print(f"\npower rig: {share:.1%} of a core, at worst {trace.max_late_ns / 1e6:.1f} ms late")
    assert len(trace.of("n3")) > 10
