"""RAPL on a powercap tree as the kernel lays it out, with every way in which a file can fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.rig_powercap import DRAM_RANGE_UJ, MAX_RANGE_UJ, PowercapTree

from jobimpact.core.records import Absent, Counter, Failed
from jobimpact_daemon.sources.rapl import Rapl

DOMAINS = ["package-0", "dram-0", "core-0", "package-1", "dram-1", "mmio-0", "psys"]


@pytest.fixture
def tree(tmp_path: Path) -> PowercapTree:
    """Two sockets, with the zones that must not be added."""
    return PowercapTree(tmp_path, DOMAINS)


@pytest.fixture
def rapl(tree: PowercapTree) -> Iterator[Rapl]:
    """The source over that tree."""
    source = Rapl(tree.root)
    yield source
    source.close()


def test_packages_and_dram_are_read_and_nothing_twice(tree: PowercapTree, rapl: Rapl) -> None:
    """Core lies inside its package, psys around all, and mmio is package-0 again: none of them is added."""
    found = {domain.name: domain.kind for domain in rapl.discover()}
    assert found == {"package-0": "cpu", "package-1": "cpu", "dram-0": "dram", "dram-1": "dram"}
    for number, name in enumerate(found, 1):
        tree.energy_file[name].write_text(f"{number}\n")
    readings = rapl.read()
    assert readings["package-0"] == Counter(1, MAX_RANGE_UJ, None, 375.0)
    assert readings["dram-1"].max_uj == DRAM_RANGE_UJ  # type: ignore[union-attr]
    assert rapl.problem is None


def test_a_file_that_fails_fails_alone_and_comes_back(tree: PowercapTree, rapl: Rapl) -> None:
    """Empty, garbage or gone: a reading with the reason, and the next one may be good again."""
    rapl.discover()
    file = tree.energy_file["package-0"]
    for text in ("", "\n", "abc\n", "1 2\n"):
        file.write_text(text)
        assert rapl.read()["package-0"] == Failed(f"{tree.root}/intel-rapl:0/energy_uj: not a number")
    file.unlink()
    assert rapl.read()["package-0"] == Failed(f"{tree.root}/intel-rapl:0/energy_uj: No such file or directory")
    assert isinstance(rapl.read()["package-1"], Counter)
    file.write_text("77\n")
    assert rapl.read()["package-0"] == Counter(77, MAX_RANGE_UJ, None, 375.0)


def test_no_tree_and_an_empty_tree_say_why(tmp_path: Path) -> None:
    """No powercap at all, no zones, and zones of other kinds are three different answers."""
    assert Rapl(tmp_path / "none").discover() == []
    missing, empty = Rapl(tmp_path / "none"), Rapl(tmp_path)
    assert (missing.discover(), empty.discover()) == ([], [])
    assert missing.problem == f"{tmp_path / 'none'}: No such file or directory"
    assert empty.problem == f"{tmp_path}: no intel-rapl zones"
    other = Rapl(PowercapTree(tmp_path / "sys", ["psys"]).root)
    assert other.discover() == []
    assert other.problem is not None
    assert "no package or dram zone" in other.problem


def test_hardware_may_come_later(tmp_path: Path) -> None:
    """A module that is loaded after the daemon: the next discovery finds its zones."""
    source = Rapl(tmp_path / "class" / "powercap")
    assert source.discover() == []
    PowercapTree(tmp_path, ["package-0"])
    assert [domain.name for domain in source.discover()] == ["package-0"]
    assert source.problem is None
    source.close()


def test_dies_and_top_level_dram_have_names_of_their_own(tree: PowercapTree, rapl: Rapl) -> None:
    """`package-0-die-1` is a package of its own; a zone number may be hexadecimal; dram may lie at the top."""
    for zone, name in (("intel-rapl:a", "package-0-die-1"), ("intel-rapl:a:0", "dram"), ("intel-rapl:b", "dram")):
        folder = tree.root / zone
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text("5\n")
    names = {domain.name for domain in rapl.discover()}
    assert {"package-0-die-1", "dram-0-die-1", "dram-11"} <= names
    assert len(names) == 7


def test_the_power_limit_of_a_client_part_is_what_it_can_draw(tree: PowercapTree) -> None:
    """Rated 45 W and allowed 107 W for seconds: at 107 W its counter must not look reset."""
    folder = tree.root / "intel-rapl:0"
    (folder / "constraint_0_max_power_uw").write_text("45000000\n")
    (folder / "constraint_1_max_power_uw").write_text("0\n")
    (folder / "constraint_1_power_limit_uw").write_text("107000000\n")
    assert _max_w(tree, "package-0") == 375.0
    (folder / "constraint_0_power_limit_uw").write_text("45000000\n")
    assert _max_w(tree, "package-0") == 160.5
    (folder / "constraint_1_power_limit_uw").write_text("4095000000\n")
    assert _max_w(tree, "package-0") == 1000.0
    assert _max_w(tree, "package-0", {"package-0": 99.0}) == 99.0
    for file in folder.glob("constraint_*_max_power_uw"):
        file.unlink()
    assert _max_w(tree, "package-0") == 1000.0


def _max_w(tree: PowercapTree, name: str, configured: dict[str, float] | None = None) -> float | None:
    source = Rapl(tree.root, configured)
    source.discover()
    reading = source.read()[name]
    source.close()
    assert isinstance(reading, Counter)
    return reading.max_w


def test_a_counter_that_only_root_may_read_is_absent_and_says_so(tree: PowercapTree) -> None:
    """0400 since 2020: not a failure to retry, and the reason is in plain words."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    for file in tree.energy_file.values():
        file.chmod(0o400)
    for folder in (tree.root, *tree.root.parents):
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        source = Rapl(tree.root)
        source.discover()
        found = source.read().values()
        os._exit(0 if len(found) == 4 and all(isinstance(one, Absent) for one in found) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
