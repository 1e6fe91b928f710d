"""RAPL on a powercap tree as the kernel lays it out, with every way in which a file can fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.rig_powercap import DRAM_RANGE_UJ, MAX_RANGE_UJ, PowercapTree
from tests.fakes.trees import EIO, holds_without_permission, write_tree

from jobimpact.core.records import Absent, Counter, Failed
from jobimpact_daemon.sources.rapl import Mirrors, Rapl

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
        (folder / "energy_uj").write_text("5000000\n")
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
    source = Rapl(tree.root)
    source.discover()
    source.close()

    def all_absent() -> bool:
        found = [reading for _ in range(2) for reading in source.read().values()]
        return len(found) == 8 and all(isinstance(one, Absent) and "root alone" in one.reason for one in found)

    assert holds_without_permission(tree.energy_file.values(), all_absent)


def _zones(root: Path, names: dict[str, str], energies: dict[str, int] | None = None, **more: object) -> Path:
    """Flat zones: by id (`0:1`) the kernel's name and the counter's value."""
    files: dict[str, object] = {}
    for zone, name in names.items():
        folder = f"intel-rapl:{zone}"
        files |= {f"{folder}/name": name, f"{folder}/energy_uj": (energies or {}).get(zone, 0)}
        files |= {f"{folder}/max_energy_range_uj": WRAP_UJ}
    return write_tree(root, files | more)


WRAP_UJ = 65_532_610_987
"""What AMD's counters wrap at."""


def _names(source: Rapl) -> list[str]:
    return [domain.name for domain in source.discover()]


@pytest.mark.parametrize(
    "below", ["class/powercap", "devices/virtual/powercap", "devices/virtual/powercap/intel-rapl"]
)
def test_flat_links_and_nested_folders_show_each_zone_once(tmp_path: Path, below: str) -> None:
    """The class folder has both at once: a link to every zone, and below them the zones once more."""
    tree = PowercapTree(tmp_path, DOMAINS)
    if below == "class/powercap":
        (tree.root / "intel-rapl:7").mkdir()
    source = Rapl(tmp_path / below)
    assert _names(source) == ["package-0", "dram-0", "package-1", "dram-1"]
    for number, name in enumerate(("package-0", "dram-0", "package-1", "dram-1")):
        tree.energy_file[name].write_text(f"{number}\n")
    assert [reading.uj for reading in source.read().values() if isinstance(reading, Counter)] == [0, 1, 2, 3]
    source.close()


def test_zone_ids_are_hexadecimal_and_packages_come_in_their_order(tmp_path: Path) -> None:
    """Zone `a` is the eleventh: a node with more than ten of them has all of them, and their dram with them."""
    ids = {f"{number:x}": f"package-{number}" for number in range(17)}
    source = Rapl(_zones(tmp_path, ids | {"a:0": "dram", "10:0": "dram"}))
    names = [f"package-{number}" for number in range(17)]
    names[names.index("package-11") : names.index("package-11")] = ["dram-10"]
    assert _names(source) == [*names, "dram-16"]
    source.close()


def test_a_strange_zone_costs_no_other_its_reading(tmp_path: Path) -> None:
    """New kernels bring new names; a name may be missing, unreadable, not text, or a pipe that nobody writes to."""
    root = _zones(tmp_path, {"0": "package-0", "1": "accelerator-3", "2": "package-1", "2:0": "package-x", "3": ""})
    write_tree(root, {"intel-rapl:4/name": EIO, "intel-rapl:x/name": "package-4", "intel-rapl:0:/name": "package-5"})
    (root / "intel-rapl:5").mkdir()
    (root / "intel-rapl:6").write_text("a file")
    (root / "intel-rapl:7").mkdir()
    os.mkfifo(root / "intel-rapl:7" / "name")
    (root / "intel-rapl:3" / "name").write_bytes(b"\xff\xfe\n")
    source = Rapl(root)
    assert _names(source) == ["package-0", "package-1"]
    assert source.problem is None
    source.close()


def test_a_counter_without_a_range_is_read_and_never_wraps(tmp_path: Path) -> None:
    """Where the kernel does not say at what it wraps, a fall is a reset."""
    root = _zones(tmp_path, {"0": "package-0"})
    for text in (None, "", "0", "-1", "many"):
        path = root / "intel-rapl:0" / "max_energy_range_uj"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        source = Rapl(root)
        source.discover()
        assert source.read() == {"package-0": Counter(0, None, None, 1000.0)}
        source.close()


@pytest.mark.parametrize("fault", ["eio", "pipe", "folder", "gone", "empty", "negative"])
def test_a_counter_that_dies_midway_is_failed_alone_and_comes_back(tmp_path: Path, fault: str) -> None:
    """Whatever lies in its place: the error names the file, the others go on, and nothing hangs."""
    root = _zones(tmp_path, {"0": "package-0", "1": "package-1"})
    source = Rapl(root)
    assert _names(source) == ["package-0", "package-1"]
    file = root / "intel-rapl:0" / "energy_uj"
    file.unlink()
    if fault == "eio":
        file.symlink_to(EIO)
    elif fault == "pipe":
        os.mkfifo(file)
    elif fault == "folder":
        file.mkdir()
    elif fault != "gone":
        file.write_text({"empty": "", "negative": "-5\n"}[fault])
    for _ in range(3):
        found = source.read()
        assert isinstance(found["package-0"], Failed)
        assert found["package-0"].error.startswith(f"{file}: ")
        assert isinstance(found["package-1"], Counter)
    file.rmdir() if fault == "folder" else file.unlink(missing_ok=True)
    file.write_text("9\n")
    assert source.read()["package-0"] == Counter(9, WRAP_UJ, None, 1000.0)
    source.close()


def test_a_reloaded_driver_may_number_its_zones_anew(tmp_path: Path) -> None:
    """One package must never be read as another: until the zones are looked for again, they have failed."""
    root = _zones(tmp_path, {"0": "package-0", "1": "package-1"}, {"0": 10, "1": 20})
    source = Rapl(root)
    assert _names(source) == ["package-0", "package-1"]
    shutil.rmtree(root)
    assert all(isinstance(reading, Failed) for reading in source.read().values())
    assert _names(source) == ["package-0", "package-1"]
    assert source.problem == f"{root}: No such file or directory"
    _zones(root, {"0": "package-1", "1": "package-0", "1:0": "dram"}, {"0": 21, "1": 11, "1:0": 5})
    assert all(isinstance(reading, Failed) for reading in source.read().values())
    assert _names(source) == ["package-0", "package-1", "dram-0"]
    assert {name: reading.uj for name, reading in source.read().items() if isinstance(reading, Counter)} == {
        "package-0": 11,
        "package-1": 21,
        "dram-0": 5,
    }
    source.close()


def test_a_reloaded_driver_with_the_same_numbers_is_read_on_at_once(tmp_path: Path) -> None:
    """No look for zones is needed where each is where it was."""
    root = _zones(tmp_path, {"0": "package-0"}, {"0": 10})
    source = Rapl(root)
    source.discover()
    shutil.rmtree(root)
    assert isinstance(source.read()["package-0"], Failed)
    _zones(root, {"0": "package-0"}, {"0": 12})
    assert source.read()["package-0"] == Counter(12, WRAP_UJ, None, 1000.0)
    source.close()


def test_two_drams_of_one_number_are_two(tmp_path: Path) -> None:
    """One below package-1, and one at the top whose number is 1: neither hides the other, in whatever order."""
    names = {"0": "package-0", "1": "dram", "2": "package-1", "2:0": "dram"}
    source = Rapl(_zones(tmp_path, names, {"1": 1, "2:0": 2}))
    assert _names(source) == ["package-0", "dram-1", "package-1", "dram-1-zone-2-0"]
    found = source.read()
    assert [reading.uj for reading in found.values() if isinstance(reading, Counter)] == [0, 1, 0, 2]
    _zones(tmp_path, {"0:0": "dram", "0:1": "dram"})
    assert _names(source)[:4] == ["package-0", "dram-1", "package-1", "dram-1-zone-2-0"]
    source.close()


def _move(root: Path, step: dict[str, int]) -> None:
    for zone, uj in step.items():
        file = root / f"intel-rapl:{zone}" / "energy_uj"
        file.write_text(f"{(int(file.read_text()) + uj) % WRAP_UJ}\n")


DIES = {"0": "package-0-die-0", "1": "package-0-die-1", "2": "package-1-die-0", "3": "package-1-die-1"}


def test_mirrored_dies_are_counted_once_through_every_wrap(tmp_path: Path) -> None:
    """Two sockets of two dies, one counter behind each socket: two domains, and the node is told why."""
    near = WRAP_UJ - 150_008_000  # at the third reading one has wrapped, and the other not yet
    root = _zones(tmp_path, DIES, {"0": near, "1": near, "2": 7, "3": 7})
    source = Rapl(root)
    assert _names(source) == ["package-0-die-0", "package-1-die-0"]
    assert "package-0-die-1 not told from package-0-die-0 yet" in (source.problem or "")
    for _ in range(20):
        _move(root, {"0": 50_000_000, "1": 50_003_000, "2": 30_000_000, "3": 30_000_000})
        assert list(source.read()) == ["package-0-die-0", "package-1-die-0"]
        _move(root, {"0": 3000})
    assert source.problem == (
        "package-0-die-1 mirrors package-0-die-0: counted once; package-1-die-1 mirrors package-1-die-0: counted once"
    )
    assert _names(source) == ["package-0-die-0", "package-1-die-0"]
    source.close()


def test_dies_that_differ_are_known_at_once(tmp_path: Path) -> None:
    """Values of one register cannot be apart: no need to wait, and two packages are never each other's mirrors."""
    source = Rapl(_zones(tmp_path, DIES, {"0": 5_000_000_000, "1": 4_000_000_000, "2": 9, "3": 90_000_000_000}))
    assert _names(source) == list(DIES.values())
    assert source.problem is None
    equal = Rapl(_zones(tmp_path / "equal", {"0": "package-0", "1": "package-1", "0:0": "dram", "1:0": "dram"}))
    assert _names(equal) == ["package-0", "dram-0", "package-1", "dram-1"]
    source.close()
    equal.close()


def test_dies_that_were_equal_after_boot_are_two_once_they_drift_apart(tmp_path: Path) -> None:
    """Equal is not proof: each has a counter of its own, and from the moment when that shows both are counted."""
    root = _zones(tmp_path, DIES)
    source = Rapl(root)
    assert _names(source) == ["package-0-die-0", "package-1-die-0"]
    _move(root, {"0": 60_000_000, "1": 60_100_000, "2": 60_000_000, "3": 60_000_000})
    assert len(source.read()) == 2
    _move(root, {"0": 60_000_000, "1": 99_000_000})
    assert list(source.read()) == ["package-0-die-0", "package-0-die-1", "package-1-die-0"]
    _move(root, {"0": 39_100_000})
    assert len(source.read()) == 3
    assert _names(source) == ["package-0-die-0", "package-0-die-1", "package-1-die-0"]
    assert source.problem == "package-1-die-1 not told from package-1-die-0 yet: counted once until they drift apart"
    source.close()


def test_a_die_is_not_counted_while_its_likeness_cannot_be_read(tmp_path: Path) -> None:
    """One that cannot be compared stays undecided, which is no reason to count it or to drop it for ever."""
    root = _zones(tmp_path, {"0": DIES["0"], "1": DIES["1"]}, {"0": 1, "1": 500_000_000})
    write_tree(root, {"intel-rapl:0/energy_uj": EIO})
    source = Rapl(root)
    assert _names(source) == ["package-0-die-0"]
    assert [type(reading) for reading in source.read().values()] == [Failed]
    write_tree(root, {"intel-rapl:0/energy_uj": 1})
    assert source.read().keys() == {"package-0-die-0", "package-0-die-1"}
    source.close()


def test_a_package_that_comes_twice_is_one_or_two_as_it_moves(tmp_path: Path) -> None:
    """Two zones of one name: the same steps from other beginnings are one counter in two places; others are two."""
    root = _zones(tmp_path, {"0": "package-0", "1": "package-0", "2": "package-0"}, {"0": 9_000_000_000, "2": 5})
    source = Rapl(root)
    assert _names(source) == ["package-0"]
    for _ in range(8):
        _move(root, {"0": 80_000_000, "1": 80_000_000, "2": 30_000_000})
        found = source.read()
    assert list(found) == ["package-0", "package-0-zone-2"]
    assert found["package-0-zone-2"] == Counter(240_000_005, WRAP_UJ, None, 1000.0)
    assert source.problem == "package-0-zone-1 mirrors package-0: counted once"
    source.close()


watts = st.floats(min_value=5, max_value=400)


@given(
    start=st.integers(0, WRAP_UJ - 1),
    powers=st.lists(watts, min_size=1, max_size=40),
    took_us=st.lists(st.sampled_from([5, 400, 20_000]), min_size=1),
    dies=st.integers(2, 8),
)
def test_one_register_is_one_domain_whatever_its_power(
    start: int, powers: list[float], took_us: list[int], dies: int
) -> None:
    """Law: dies that read one register a little later each, or much later if the daemon had to wait, stay so."""
    mirrors = Mirrors()
    names = [f"package-0-die-{number}" for number in range(dies)]
    for number, name in enumerate(names):
        mirrors.suspect(name, dict.fromkeys(names[:number], False))
    uj = float(start)
    for tick, power_w in enumerate(powers):
        late_us = took_us[tick % len(took_us)]
        uj += power_w * 1e6
        at = {name: round(uj + number * late_us * power_w) % WRAP_UJ for number, name in enumerate(names)}
        uj += dies * late_us * power_w
        mirrors.compare({name: Counter(at[name], WRAP_UJ, None, 400.0) for name in names}, dies * late_us * 1000)
        assert set(mirrors.held_back) == set(names[1:])


@given(
    starts=st.lists(st.integers(0, WRAP_UJ - 1), min_size=3, max_size=3),
    powers=st.lists(st.tuples(watts, watts), min_size=1, max_size=60),
    again=st.booleans(),
)
def test_nothing_is_counted_twice_and_real_dies_are_lost_for_moments_only(
    starts: list[int], powers: list[tuple[float, float]], again: bool
) -> None:
    """Law: of two registers, the first shown twice, the mirror never counts; the other does once it has drifted."""
    mirrors = Mirrors()
    mirrors.suspect("b", {"a": again})
    mirrors.suspect("c", {"a": again, "b": again})
    a, c = float(starts[0]), float(starts[2])
    offset = starts[1] if again else 0
    apart = not again and _apart(a, c) > 2_000_000
    start = c - a
    for power_a, power_c in [(0.0, 0.0), *powers]:
        a, c = a + power_a * 1e6, c + power_c * 1e6
        apart = apart or _apart(a, c, start if again else 0) > 2_000_000
        values = {"a": round(a), "b": round(a) + offset, "c": round(c)}
        mirrors.compare({name: Counter(uj % WRAP_UJ, WRAP_UJ, None, 1000.0) for name, uj in values.items()}, 0)
        assert "b" in mirrors.held_back
        assert ("c" not in mirrors.held_back) == apart


def _apart(a: float, c: float, ahead: float = 0) -> int:
    drift = round(c) - round(a) - round(ahead)
    return abs((drift + WRAP_UJ // 2) % WRAP_UJ - WRAP_UJ // 2)
