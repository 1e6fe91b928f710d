"""Nodes, clocks, files and processes that do what they should not: no number is wrong for another node's sake."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import pytest
from tests.accounting.mirror_world import CLUSTER, Day, MemoryReader, ask, dump, keep_day
from tests.accounting.world import record
from tests.bench.store_day import DayJob

from jobimpact.core.errors import StoreError
from jobimpact.core.series import JOB_ENERGY, JOB_RUN, NODE_BOOKS, NODE_DOMAIN, Measurement
from jobimpact.energy.local import LocalEnergy
from jobimpact.mirror.node import NodeMirror
from jobimpact.mirror.refresh import Mirror

WALL = 1795208400.0
LASTS = 7200
END = WALL + LASTS + 100
DAY_S = 86400
YEAR_S = 365 * DAY_S
NEVER = WALL + 100 * YEAR_S


class Site:
    """Two nodes' own files, and what they have sent."""

    def __init__(self, folder: Path) -> None:
        self.nodes = folder
        gpus = (0,)
        n1 = [DayJob("1", 60.0, 5000.0, gpus), DayJob("2", 5500.0, 7000.0, gpus), DayJob("3", 7050.0, 7300.0, gpus)]
        n2 = [DayJob("1", 100.0, 2000.0, (0,))]
        self.lines = {node: keep_day(folder, Day(node, jobs, WALL), LASTS) for node, jobs in (("n1", n1), ("n2", n2))}

    def reader(self) -> MemoryReader:
        return MemoryReader(line for lines in self.lines.values() for line in lines)

    def books(self, *nodes: str) -> Any:
        return books(self.nodes, *nodes)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("nodes"))


def mirrored(
    reader: MemoryReader, folder: Path, from_s: float = WALL - 10, to_s: float = END, cluster: str = CLUSTER
) -> list[str]:
    with Mirror(reader, folder, cluster) as mirror:
        return mirror.refresh(from_s, to_s)


def books(folder: Path, *nodes: str) -> Any:
    with LocalEnergy(folder) as energy:
        return energy.books(nodes or None)


# -- files -----------------------------------------------------------------------------------------------------------


def _forget(path: Path) -> None:
    for one in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        one.unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    _forget(path)
    path.write_bytes(data)


def _ask(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def _make_folder(path: Path) -> None:
    _forget(path)
    path.mkdir()


BREAKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no database": (lambda path: _replace(path, b"rubbish" * 1000), "not a database"),
    "damaged behind its head": (lambda path: _replace(path, path.read_bytes()[:8192] + b"\xaa" * 40_000), ""),
    "what it remembers": (lambda path: _ask(path, "UPDATE meta SET value = '{' WHERE key = 'mirror'"), ""),
    "a table is gone": (lambda path: _ask(path, "DROP TABLE job_energy"), ""),
    "a newer release": (lambda path: _ask(path, "PRAGMA user_version = 99"), "newer release"),
    "a folder": (_make_folder, ""),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_file_that_is_broken_is_told_and_stops_no_other_node_s(site: Site, tmp_path: Path, how: str) -> None:
    lines = {node: lines[: len(lines) // 2] for node, lines in site.lines.items()}
    mirrored(MemoryReader(line for some in lines.values() for line in some), tmp_path, WALL - 10, END)
    change, said = BREAKS[how]
    with closing(sqlite3.connect(tmp_path / "n1.sqlite")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    change(tmp_path / "n1.sqlite")
    told = mirrored(site.reader(), tmp_path)
    assert len(told) == 1
    assert told[0].startswith(str(tmp_path / "n1.sqlite"))
    assert said in told[0]
    assert books(tmp_path, "n2") == site.books("n2")


def test_where_no_node_s_file_can_be_written_there_is_no_night(site: Site, tmp_path: Path) -> None:
    for node in ("n1", "n2"):
        (tmp_path / f"{node}.sqlite").mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        mirrored(site.reader(), tmp_path)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_stops_the_night_and_changes_nothing(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        half = {node: lines[: len(lines) // 2] for node, lines in site.lines.items()}
        mirrored(MemoryReader(line for some in half.values() for line in some), folder)
        before = dump(folder)
        _fill(folder / "other")
        with pytest.raises(StoreError, match="full"):
            mirrored(site.reader(), folder)
        (folder / "other").unlink()
        assert dump(folder) == before
        assert mirrored(site.reader(), folder) == []
        assert books(folder) == site.books()
    finally:
        subprocess.run(["umount", folder], check=True)


def _begin(barrier: Any, folder: Path, said: Any) -> None:
    try:
        for number in range(20):
            barrier.wait(60)
            NodeMirror(folder / f"n{number}.sqlite", f"n{number}", CLUSTER).close()
        said.put("")
    except (StoreError, sqlite3.Error, BrokenBarrierError) as error:
        barrier.abort()
        said.put(repr(error))


def test_several_processes_may_begin_one_file(tmp_path: Path) -> None:
    context = get_context("fork")
    barrier, said = context.Barrier(3), context.Queue()
    several = [context.Process(target=_begin, args=(barrier, tmp_path, said)) for _ in range(3)]
    for one in several:
        one.start()
    assert [said.get(timeout=120) for _ in several] == ["", "", ""]
    for one in several:
        one.join()


def _refresh(lines: list[str], folder: Path, begun: Any) -> None:
    begun.set()
    while True:
        mirrored(MemoryReader(lines), folder)
        time.sleep(0.02)  # SQLite's lock knows no queue


def test_a_process_that_is_killed_while_another_reads_leaves_what_one_alone_leaves(site: Site, tmp_path: Path) -> None:
    mirrored(site.reader(), tmp_path / "once")
    lines = [line for some in site.lines.values() for line in some]
    context = get_context("fork")
    for number in range(4):
        begun = context.Event()
        one = context.Process(target=_refresh, args=(lines, tmp_path / "often", begun))
        one.start()
        assert begun.wait(60)
        told = mirrored(site.reader(), tmp_path / "often") if number % 2 else []
        one.kill()
        one.join()
        assert told == []
    assert mirrored(site.reader(), tmp_path / "often") == []
    assert dump(tmp_path / "often") == dump(tmp_path / "once")


# -- rows ------------------------------------------------------------------------------------------------------------

MOST = 2**63 - 1
NONSENSE: dict[str, tuple[Measurement, dict[str, Any]]] = {
    "a domain of 2^63": (NODE_DOMAIN, {"energy_uj": MOST, "known_ns": MOST, "unknown_ns": MOST}),
    "holders of 2^63": (JOB_ENERGY, {"energy_uj": MOST, "known_ns": MOST}),
    "runs of 2^63": (JOB_RUN, {"elapsed_ns": MOST, "start_ms": 0}),
    "a meter of 2^63": (NODE_BOOKS, {"meter_uj": MOST, "parts_uj": MOST, "deficit_uj": -(2**63)}),
    "fractions": (NODE_DOMAIN, {"energy_uj": 1.5}),
    "words": (JOB_ENERGY, {"energy_uj": "much"}),
    "no books": (NODE_BOOKS, {"excludes": "[]"}),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_node_of_nonsense_hurts_no_other(site: Site, tmp_path: Path, what: str) -> None:
    of, fields = NONSENSE[what]
    reader = site.reader()
    for tags, points in reader._points[of.name].items():
        if dict(tags)["node"] == "n1":
            for at, point in points.items():
                points[at] = point | fields
    mirrored(reader, tmp_path)
    mirrored(reader, tmp_path)
    assert books(tmp_path, "n2") == site.books("n2")


def test_a_cluster_has_no_energy_of_another_s_node_of_the_same_name(site: Site, tmp_path: Path) -> None:
    """One database, one folder: the second cluster's node has no file, and its job no energy of the first's."""
    reader = site.reader()
    reader.take(line.replace("cluster=lab", "cluster=other") for line in site.lines["n1"])
    assert mirrored(reader, tmp_path) == []
    before = dump(tmp_path)
    with pytest.raises(StoreError, match="cluster 'lab'"):
        mirrored(reader, tmp_path, cluster="other")
    assert dump(tmp_path) == before
    mine, theirs = (
        record("1", cluster=name, nodes=("n1",), start_s=WALL + 60, end_s=WALL + 5000) for name in (CLUSTER, "other")
    )
    with LocalEnergy(tmp_path, CLUSTER) as energy:
        assert energy.job_energy(mine).runs
    with LocalEnergy(tmp_path, "other") as energy:
        found = energy.job_energy(theirs)
        assert found.runs == ()
        assert "another cluster" in found.missing["n1"]


# -- clocks ----------------------------------------------------------------------------------------------------------


def moved(lines: list[str], from_s: float, to_s: float, by_s: int) -> list[str]:
    """As if the node's clock had been off for a while."""

    def one(found: re.Match[str]) -> str:
        at = int(found[2])
        return f"{found[1]}{at + by_s * 1000 if from_s * 1000 <= at < to_s * 1000 else at}"

    return [re.sub(r"( |stamp_ms=|end_ms=|start_ms=)(\d{13})\b", one, line) for line in lines]


@pytest.mark.parametrize("by_s", [YEAR_S, 3 * 3600, -3600])
@pytest.mark.parametrize("host_too", [False, True])
def test_a_clock_that_was_wrong_hides_nothing_that_comes_later(
    site: Site, tmp_path: Path, by_s: int, *, host_too: bool
) -> None:
    """A node's clock, or everybody's, is off for a quarter of an hour, and right again."""
    begin, end = WALL + 6000, WALL + 6900
    lines = moved(site.lines["n1"], begin, end, by_s)
    stamps = [int(line.rpartition(" ")[2]) for line in site.lines["n1"]]
    parts = [[line for line, at in zip(lines, stamps, strict=True) if at < until * 1000] for until in (begin, end)]
    assert mirrored(MemoryReader(parts[0]), tmp_path, to_s=begin) == []
    mirrored(MemoryReader(parts[1]), tmp_path, to_s=end + (by_s if host_too else 0))
    told = mirrored(MemoryReader(lines), tmp_path, WALL - 3700)
    assert [one.partition(",")[0] for one in told] in ([], ["n1: clocks were ahead"])
    assert books(tmp_path) == site.books("n1")
    assert mirrored(MemoryReader(lines), tmp_path, WALL - 3700) == []
    if by_s < DAY_S:
        # And when the time has come that the clock was at; the node has gone on till then.
        last = [line for line in site.lines["n1"] if line.endswith(f" {stamps[-1]}")]
        reader = MemoryReader(lines)
        for more_s in range(60, max(by_s, 0) + 60, 60):
            reader.take(moved(last, WALL, NEVER, more_s))
        mirrored(reader, tmp_path, WALL - 3700, END + max(by_s, 0) + 60)
        assert [sums(one) for one in books(tmp_path)[0]] == [sums(one) for one in site.books("n1")[0]]


@pytest.mark.parametrize("by_s", [2 * 3600, 30 * 3600])
@pytest.mark.parametrize("seen", ["before", "never"])
def test_a_clock_that_was_ahead_of_a_node_that_is_silent_since_is_no_other_file(
    site: Site, tmp_path: Path, by_s: int, seen: str
) -> None:
    """When the time comes that its first points bear, they know less than those before: they are not added again."""
    reader = MemoryReader(moved(site.lines["n1"], WALL, WALL + 1500, by_s))
    if seen == "before":
        assert mirrored(reader, tmp_path) == []
    told = mirrored(reader, tmp_path, WALL - 10, END + by_s)
    assert [one.partition(":")[2].partition(":")[0] for one in told] == [" its clock was ahead"]
    assert [sums(one) for one in books(tmp_path)[0]] == [sums(one) for one in site.books("n1")[0]]


# -- what was put into a sum -----------------------------------------------------------------------------------------


def test_what_became_one_sum_is_not_had_twice(site: Site, tmp_path: Path) -> None:
    """A server that keeps points for years is read from its begin, when runs of then are in the past already."""
    later_s = 405 * DAY_S
    last = max(int(line.rpartition(" ")[2]) for line in site.lines["n1"])
    lines = [line for line in site.lines["n1"] if line.endswith(str(last))]
    reader = MemoryReader(site.lines["n1"])
    assert mirrored(reader, tmp_path) == []
    reader.take(moved(lines, WALL, END, later_s))
    assert mirrored(reader, tmp_path, WALL + later_s, END + later_s) == []
    assert "1" not in {run for (run,) in ask(tmp_path / "n1.sqlite", "SELECT run FROM run")}
    pruned = [sums(one) for one in books(tmp_path)[0]]
    assert pruned == [sums(one) for one in site.books("n1")[0]]
    assert mirrored(reader, tmp_path, WALL - 10, END + later_s) == []
    assert [sums(one) for one in books(tmp_path)[0]] == pruned


def sums(one: Any) -> tuple[int, ...]:
    return (one.measured_uj, one.jobs_uj, one.idle_uj, one.system_uj)
