"""Cray's counters on folders as XC and EX nodes show them, and with every way in which a file can fail."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.trees import EIO, holds_without_permission, write_tree

from jobimpact.core.records import Absent, Counter, Domain, Failed
from jobimpact.core.units import NS
from jobimpact_daemon.counters import Baseline, compare
from jobimpact_daemon.sources.pmcounters import PmCounters

STAMP = "1600000000000000 us"
STARTUP = 1_599_999_000_000_000


def energies(**joules: int) -> dict[str, object]:
    """Energy files, by name."""
    return {name: f"{value} J {STAMP}" for name, value in joules.items()}


def scan(number: int, startup: int = STARTUP, generation: int = 3) -> dict[str, object]:
    """What tells of the scans."""
    return {"freshness": number, "startup": startup, "generation": generation, "raw_scan_hz": 10, "version": 2}


EX = energies(energy=5000, cpu_energy=1000, memory_energy=300, accel0_energy=900, accel1_energy=901) | scan(1)


def uj(source: PmCounters) -> dict[str, int]:
    """What is read, in microjoules."""
    return {name: reading.uj for name, reading in source.read().items() if isinstance(reading, Counter)}


def test_the_node_and_its_parts_are_read_in_whole_joules(tmp_path: Path) -> None:
    """Power, caps and temperatures beside them are not energies; the node's own meter lags by two scans at most."""
    write_tree(tmp_path, EX | {"power": f"400 W {STAMP}", "cpu_temp": f"40 C {STAMP}", "accel0_power_cap": "0 W"})
    source = PmCounters(tmp_path)
    assert {domain.name: domain for domain in source.discover()} == {
        "node": Domain("node", "node", "pmcounters", latency_s=0.2),
        "cpu": Domain("cpu", "cpu", "pmcounters", latency_s=0.2),
        "dram": Domain("dram", "dram", "pmcounters", latency_s=0.2),
        "gpu:accel0": Domain("gpu:accel0", "gpu", "pmcounters", latency_s=0.2),
        "gpu:accel1": Domain("gpu:accel1", "gpu", "pmcounters", latency_s=0.2),
    }
    assert source.read()["node"] == Counter(5_000_000_000, None, str(STARTUP))
    assert uj(source)["gpu:accel1"] == 901_000_000
    assert source.problem is None
    source.close()


def test_parts_one_by_one_are_not_added_to_the_same_parts_together(tmp_path: Path) -> None:
    """Four superchips: their CPUs by socket, their accelerators by number, and neither sum beside them."""
    singles = {f"cpu{number}_energy": 100 + number for number in range(2)}
    write_tree(tmp_path, EX | energies(accel_energy=1801, **singles))
    source = PmCounters(tmp_path)
    names = {domain.name for domain in source.discover()}
    assert names == {"node", "package-0", "package-1", "dram", "gpu:accel0", "gpu:accel1"}
    assert uj(source)["package-1"] == 101_000_000
    source.close()


def test_an_xc_node_has_its_accelerator_only_if_it_has_one(tmp_path: Path) -> None:
    """The file of all accelerators is there on every node, and says nothing but zero where there are none."""
    write_tree(tmp_path, {"energy": "77 J", "accel_energy": f"0 J {STAMP}", "freshness": 1})
    source = PmCounters(tmp_path)
    assert [domain.name for domain in source.discover()] == ["node"]
    assert source.read() == {"node": Counter(77_000_000)}
    write_tree(tmp_path, energies(accel_energy=12))
    assert {domain.name for domain in source.discover()} == {"node", "gpu:accel0"}
    source.close()


def test_no_folder_and_no_counter_say_why_and_one_may_come_later(tmp_path: Path) -> None:
    """Most machines are no Cray: nothing is found, and nothing read."""
    root = tmp_path / "pm_counters"
    source = PmCounters(root)
    assert (source.discover(), source.read()) == ([], {})
    assert source.problem == f"{root}: No such file or directory"
    write_tree(root, {"power": f"400 W {STAMP}"})
    assert source.discover() == []
    assert source.problem == f"{root}: no energy counter"
    write_tree(root, EX)
    assert len(source.discover()) == 5
    assert source.problem is None
    source.close()


def test_counters_that_stand_still_have_failed_until_they_move(tmp_path: Path) -> None:
    """A stopped controller leaves its last values for ever; faster readings than scans are no fault."""
    write_tree(tmp_path, EX)
    source = PmCounters(tmp_path, stale_s=0.05)
    source.discover()
    assert len(uj(source)) == len(uj(source)) == 5
    time.sleep(0.06)
    found = source.read()
    assert len(found) == 5
    for reading in found.values():
        assert isinstance(reading, Failed)
        assert reading.error.startswith(f"{tmp_path}/freshness: stale: no new measurement for 0.")
    write_tree(tmp_path, scan(2))
    assert len(uj(source)) == 5
    source.close()


def test_counters_without_a_freshness_are_never_stale(tmp_path: Path) -> None:
    """Where the scans are not told of, nothing is made of it."""
    write_tree(tmp_path, energies(energy=1))
    source = PmCounters(tmp_path, stale_s=0)
    source.discover()
    assert uj(source) == uj(source) == {"node": 1_000_000}
    source.close()


def test_a_new_start_is_a_reset_and_a_new_power_cap_is_not(tmp_path: Path) -> None:
    """The controller was started anew: what it counted before is gone. A cap changes no counter."""
    write_tree(tmp_path, EX)
    source = PmCounters(tmp_path)
    source.discover()
    first = source.read()["node"]
    assert isinstance(first, Counter)
    base = Baseline(first.uj, 0, first.epoch)
    write_tree(tmp_path, energies(energy=5100) | scan(2, generation=4))
    now = source.read()["node"]
    assert isinstance(now, Counter)
    assert (compare(base, now, NS).verdict, compare(base, now, NS).uj) == ("counted", 100_000_000)
    write_tree(tmp_path, energies(energy=6000) | scan(3, startup=STARTUP + 1))
    now = source.read()["node"]
    assert isinstance(now, Counter)
    assert compare(base, now, NS).verdict == "reset"
    write_tree(tmp_path, {"startup": EIO})
    assert source.read()["node"] == now
    source.close()


@pytest.mark.parametrize("fault", ["eio", "pipe", "gone", "empty", "watts", "text", "negative"])
def test_a_counter_that_dies_midway_is_failed_alone_and_comes_back(tmp_path: Path, fault: str) -> None:
    """Whatever lies in its place: the error names the file, the others go on, and nothing hangs."""
    write_tree(tmp_path, EX)
    source = PmCounters(tmp_path)
    source.discover()
    file = tmp_path / "cpu_energy"
    assert uj(source)["cpu"] == 1_000_000_000
    file.unlink()
    if fault == "eio":
        file.symlink_to(EIO)
    elif fault == "pipe":
        os.mkfifo(file)
    elif fault != "gone":
        file.write_text({"empty": "", "watts": f"5 W {STAMP}", "text": "none J", "negative": f"-5 J {STAMP}"}[fault])
    for _ in range(2):
        found = source.read()
        assert isinstance(found["cpu"], Failed)
        assert found["cpu"].error.startswith(f"{file}: ")
        assert len(uj(source)) == 4
    file.unlink(missing_ok=True)
    write_tree(tmp_path, energies(cpu_energy=1001))
    assert uj(source)["cpu"] == 1_001_000_000
    source.close()


def test_a_folder_that_vanishes_and_comes_back_is_read_on(tmp_path: Path) -> None:
    """Its domains stay known meanwhile: failed, not forgotten."""
    root = tmp_path / "pm_counters"
    write_tree(root, EX)
    source = PmCounters(root)
    source.discover()
    assert len(uj(source)) == 5
    shutil.rmtree(root)
    assert all(isinstance(reading, Failed) for reading in source.read().values())
    assert len(source.discover()) == 5
    assert source.problem == f"{root}: No such file or directory"
    write_tree(root, EX | scan(9))
    assert len(uj(source)) == 5
    source.close()


def test_counters_that_this_user_may_not_read_are_absent_and_say_so(tmp_path: Path) -> None:
    """Not a failure to retry."""
    write_tree(tmp_path, EX)
    source = PmCounters(tmp_path)

    def absent() -> bool:
        source.discover()
        found = source.read().values()
        return len(found) == 5 and all(isinstance(one, Absent) and "not readable" in one.reason for one in found)

    assert holds_without_permission(tmp_path.glob("*energy"), absent)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    together=st.sets(st.sampled_from(["cpu", "memory", "accel"])),
    singles=st.sets(st.tuples(st.sampled_from(["cpu", "accel"]), st.integers(0, 15))),
)
def test_no_part_is_read_twice(tmp_path: Path, together: set[str], singles: set[tuple[str, int]]) -> None:
    """Law: whichever files there are, each part is read as a whole or one by one, never both, and none is left out."""
    shutil.rmtree(tmp_path, ignore_errors=True)
    joules = dict.fromkeys((f"{part}_energy" for part in together), 7)
    joules |= dict.fromkeys((f"{part}{number}_energy" for part, number in singles), 5)
    write_tree(tmp_path, energies(energy=1, **joules))
    source = PmCounters(tmp_path)
    kinds = [domain.kind for domain in source.discover()]
    for part, kind in (("cpu", "cpu"), ("memory", "dram"), ("accel", "gpu")):
        alone = sum(one == part for one, _ in singles)
        assert kinds.count(kind) == (alone or int(part in together))  # type: ignore[arg-type]
    assert sum(uj(source).values()) == 1_000_000 + sum(
        5_000_000 if kind in {_kind(part) for part, _ in singles} else 7_000_000 for kind in kinds if kind != "node"
    )
    source.close()


def _kind(part: str) -> str:
    return {"cpu": "cpu", "memory": "dram", "accel": "gpu"}[part]
