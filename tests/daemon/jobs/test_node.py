"""The node's CPUs by package and its busy time by package, over made-up /sys and /proc trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.units import NS
from jobimpact_daemon.jobs.node import NodeProc, Packages, cpu_list

TICK_NS = NS // os.sysconf("SC_CLK_TCK")


def topology(root: Path, *cpus: tuple[int, int, int | None]) -> None:
    """CPUs, each with its number, package and die, as the kernel shows them; with package -1 it is offline."""
    for cpu, package, die in cpus:
        folder = root / f"devices/system/cpu/cpu{cpu}"
        folder.mkdir(parents=True)
        if package < 0:
            continue
        (folder / "topology").mkdir()
        (folder / "topology/physical_package_id").write_text(f"{package}\n")
        if die is not None:
            (folder / "topology/die_id").write_text(f"{die}\n")
    for other in ("cpufreq", "cpuidle", "power"):
        (root / "devices/system/cpu" / other).mkdir()


def test_cpus_lie_on_packages(tmp_path: Path) -> None:
    """By number, not by name (cpu10 after cpu9); one that is offline lies on none."""
    topology(tmp_path, (0, 0, 0), (9, 1, 0), (10, 1, 0), (1, 0, 0), (2, -1, None))
    assert NodeProc.packages(tmp_path) == {"package-0": (0, 1), "package-1": (9, 10)}


DIES = [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]


@pytest.mark.parametrize(
    ("domains", "packages"),
    [
        (["package-0", "package-1", "dram-0"], {"package-0": (0, 1), "package-1": (2, 3)}),
        (
            ["package-0-die-0", "package-0-die-1", "package-1-die-0", "package-1-die-1"],
            {"package-0-die-0": (0,), "package-0-die-1": (1,), "package-1-die-0": (2,), "package-1-die-1": (3,)},
        ),
        (["package-0-die-0", "package-1-die-0"], {"package-0-die-0": (0, 1), "package-1-die-0": (2, 3)}),
        (
            ["package-1", "package-0-die-1", "package-0-die-0"],
            {"package-0-die-0": (0,), "package-0-die-1": (1,), "package-1": (2, 3)},
        ),
        (["gpu:GPU-a", "node"], {"package-0": (0, 1), "package-1": (2, 3)}),
    ],
    ids=["packages", "dies", "mirrored dies", "both", "none"],
)
def test_dies_are_told_apart_where_they_are_metered(
    tmp_path: Path, domains: list[str], packages: dict[str, tuple[int, ...]]
) -> None:
    """CPUs carry the name of the domain that meters them; of dies that mirror one counter, the one that is read."""
    topology(tmp_path, *DIES)
    assert NodeProc.packages(tmp_path, domains) == packages


def test_no_topology_is_no_package(tmp_path: Path) -> None:
    """A kernel without it (some ARM boards say -1, some nothing) tells nothing, and no name is made up."""
    assert NodeProc.packages(tmp_path) == {}
    topology(tmp_path, (0, -1, None))
    assert NodeProc.packages(tmp_path) == {}
    (tmp_path / "devices/system/cpu/cpu0/topology").mkdir()
    (tmp_path / "devices/system/cpu/cpu0/topology/physical_package_id").write_text("-1\n")
    assert NodeProc.packages(tmp_path) == {}


def test_this_machine_tells_its_packages() -> None:
    """Each online CPU lies on one package."""
    found = NodeProc.packages(Path("/sys"))
    if not found:
        pytest.skip("this kernel tells no CPU topology")
    online = cpu_list(Path("/sys/devices/system/cpu/online").read_text())
    assert sorted(cpu for cpus in found.values() for cpu in cpus) == sorted(online)


def stat(root: Path, *ticks: int | None) -> NodeProc:
    """A /proc in which each CPU has been busy for so many ticks; one that has None is offline."""
    root.mkdir(exist_ok=True)
    lines = [f"cpu{cpu} {busy} 0 0 77 7 0 0 5 0 0" for cpu, busy in enumerate(ticks) if busy is not None]
    (root / "stat").write_text("\n".join(["cpu  1 0 0 0 0 0 0 0 0 0", *lines, "intr 1 2 3", ""]))
    return NodeProc(root)


def test_busy_time_by_package(tmp_path: Path) -> None:
    """Idle, waiting and stolen time is not busy; a CPU that goes offline takes nothing back."""
    packages = Packages({"package-0": (0, 2), "package-1": (1, 3)})
    proc = stat(tmp_path, 10, 20, 30, 40)
    assert proc.busy_by(packages) == {"package-0": 40 * TICK_NS, "package-1": 60 * TICK_NS}
    stat(tmp_path, 11, 20, None, 45)
    assert proc.busy_by(packages) == {"package-0": 41 * TICK_NS, "package-1": 65 * TICK_NS}


@pytest.mark.parametrize(
    "text", ["", "cpu  1 2 3 4 5 6 7 8\nintr 0\n", "cpu  1 2 3 4 5 6 7 8\ncpu0 1\n", "cpux 1\ncpuy 2"]
)
def test_busy_time_that_is_not_told_by_cpu_is_unknown(tmp_path: Path, text: str) -> None:
    """Absent is not zero."""
    (tmp_path / "stat").write_text(text)
    assert NodeProc(tmp_path).busy_by(Packages({"package-0": (0,), "package-1": (1,)})) is None


@given(st.sets(st.integers(0, 300)))
def test_cpu_lists_are_read_back(cpus: set[int]) -> None:
    """As the kernel writes them, ranges and all."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    text = ",".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)
    assert cpu_list(text + "\n") == cpus


@given(st.lists(st.integers(0, 1 << 50), min_size=8, max_size=8), st.sets(st.integers(0, 7)))
def test_packages_sum_and_count(each: list[int], some: set[int]) -> None:
    """The parts are the whole; a list that is too short for the packages says nothing."""
    packages = Packages({"package-0": (0, 1, 2, 3), "package-1": (4,), "package-2": (7, 6, 5)})
    sums = packages.sums(each)
    assert sums is not None
    assert sum(sums.values()) == sum(each)
    assert sums["package-1"] == each[4]
    assert sum(packages.counts(some).values()) == len(some)
    assert packages.sums(each[:7]) is None
