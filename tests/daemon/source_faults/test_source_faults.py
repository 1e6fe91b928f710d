"""Each source under each fault, through the real daemon and the real `check`; `__main__` plays it with full minutes.

All nodes run at once, a fault is there for twelve seconds, and settings that are times are scaled down to it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

import pytest
from tests.daemon.source_faults.stands import GPU_WATTS, WATTS
from tests.daemon.source_faults.table import Cell, cells, rates
from tests.daemon.source_faults.world import NO_MOUNT, Node, TooBusyError, Worlds, lacking
from tests.fakes.curve import NS_PER_S
from tests.fakes.rig import NoCompilerError, build

TICK_S = 0.2
FAULT_S, SOON_S = 12, 5
"""How long a fault lasts, and within which time each source is back."""
SEEN_S = FAULT_S - 3
"""What of it is unknown at least, but for the time after the last look: a scan is stale after two seconds."""
BUSY_S = 0.6
"""What a busy machine and the first deadlines of two hung drivers may cost others."""

COUNTERS = ("nvml", "amdsmi", "pmcounters", "rapl", "wattmeter kwollect")
"""What holds the energy of a time in which it could not be read: counters, and a server that has the history."""
GAUGES = ("hwmon", "ipmi", "redfish", "wattmeter csv")
ROWS = (*COUNTERS, *GAUGES)
FOUND_LATER = ("nvml", "amdsmi", "hwmon", "pmcounters", "ipmi", "redfish", "rapl")
"""Those that have no domain until they have answered once; a wattmeter is what somebody has configured."""
LOGIN = ("ipmi", "redfish")

ABSENT = {
    "nvml": "note .*driver is not loaded",
    "amdsmi": "note .*driver is not loaded",
    "hwmon": "note .*no power sensor",
    "pmcounters": "note .*No such file",
    "rapl": "note .*No such file",
    "ipmi": "MEND .*Could not open device",
    "redfish": r"MEND .*404",
    "wattmeter csv": "MEND .*No such file",
    "wattmeter kwollect": "MEND .*no wattmetre_power_watt of n1",
}
REFUSED = {
    "nvml": "does not tell this user",
    "amdsmi": "this user may not ask",
    "hwmon": "power1_average: not readable by this user",
    "pmcounters": "energy: not readable by this user",
    "rapl": "energy_uj: not readable by this user",
    "ipmi": "Unable to establish",
    "redfish": "401 .*password_file",
    "wattmeter csv": "watts.csv: ",
    "wattmeter kwollect": "403 ",
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """All nodes, played to the end."""
    try:
        build()
    except NoCompilerError as error:
        pytest.skip(str(error))
    for patience in (1, 2):
        found = Worlds(tmp_path_factory.mktemp("worlds"), full=False, patience=patience)
        with suppress(TooBusyError):
            found.run()
            if found.paused_s < BUSY_S:
                return found
    found = Worlds(tmp_path_factory.mktemp("worlds"), full=False, patience=4)
    found.run()
    return found


@pytest.fixture(scope="module")
def table(worlds: Worlds) -> dict[tuple[str, str], Cell]:
    """What was seen."""
    return cells(worlds)


def the(table: dict[tuple[str, str], Cell], row: str, state: str) -> Cell:
    """One source in one state; skipped where it cannot be stood in for."""
    why = lacking().get(row)
    if why and why != NO_MOUNT and os.environ.get("REQUIRE_LABS") == "1":
        pytest.fail(why, pytrace=False)
    if why:
        pytest.skip(why)
    return table[row, state]


# -- the books --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [*ROWS, "model"])
def test_present_is_known(table: dict[tuple[str, str], Cell], row: str) -> None:
    """A source that is well is known since its first value, and `check` has nothing to mend about it."""
    cell = the(table, row, "present")
    assert (cell.reason, cell.unknown_s) == (None, pytest.approx(0, abs=2))
    assert cell.told_s
    assert cell.known_s == pytest.approx(cell.told_s, abs=1)
    assert "MEND" not in cell.words, cell.said
    assert cell.failures == 0


@pytest.mark.parametrize("row", ROWS)
def test_absent_is_no_zero(table: dict[tuple[str, str], Cell], row: str) -> None:
    """What is not there has no energy and is never known; `check` says which, and whether somebody should mend it."""
    cell = the(table, row, "absent")
    if row in FOUND_LATER:
        assert cell.unknown_s is None
    else:
        assert (cell.uj, cell.known_s) == (0, 0)
        assert str(cell.reason).startswith("absent: ")
    assert re.search(ABSENT[row], cell.said), cell.said


@pytest.mark.parametrize("row", ROWS)
def test_no_permission_is_absent_with_the_reason(table: dict[tuple[str, str], Cell], row: str) -> None:
    """A source that may not read says so, and that somebody has something to do."""
    cell = the(table, row, "refused")
    if row in LOGIN:
        assert cell.unknown_s is None
    else:
        assert (cell.uj, cell.known_s) == (0, 0)
        assert re.search(REFUSED[row], str(cell.reason))
        assert str(cell.reason).startswith("absent: ")
    assert re.search(f"MEND .*{REFUSED[row]}", cell.said), cell.said


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("state", ["dies", "hangs"])
def test_a_fault_is_unknown_and_failed(
    worlds: Worlds, table: dict[tuple[str, str], Cell], row: str, state: str
) -> None:
    """While it lasts, the time is not known, with the reason; the energy stays that of before."""
    cell = the(table, row, state)
    seen_s = SEEN_S - worlds.edge_ns / NS_PER_S
    assert (cell.unknown_s or 0) >= seen_s
    assert str(cell.reason).startswith("failed: ")
    assert {kind for kind, _ in cell.findings} - {"no idle power"} == {"failed"}
    assert cell.failures > 0
    assert (cell.age_s or 0) >= seen_s - 3


@pytest.mark.parametrize("row", COUNTERS)
@pytest.mark.parametrize("state", ["dies", "hangs"])
def test_a_counter_holds_the_energy_of_its_gap(table: dict[tuple[str, str], Cell], row: str, state: str) -> None:
    """Back again, nothing is missing, and nothing is invented."""
    cell = the(table, row, f"back after {state}")
    assert cell.reason is None
    assert cell.lost_s == pytest.approx(0, abs=1)
    _check_power(cell, row)


@pytest.mark.parametrize("row", GAUGES)
@pytest.mark.parametrize("state", ["dies", "hangs"])
def test_a_gauges_gap_stays_unknown(table: dict[tuple[str, str], Cell], row: str, state: str) -> None:
    """Back again, the time of the fault is unknown for good, the rest is known, and no energy comes from the gap."""
    cell = the(table, row, f"back after {state}")
    assert cell.reason is None
    assert FAULT_S - 2 <= (cell.lost_s or 0) <= FAULT_S + SOON_S
    _check_power(cell, row)


def _check_power(cell: Cell, row: str) -> None:
    """Energy over known time is the power that it really was."""
    if row == "rapl":
        return  # its curve has bursts: see the exact test
    watts = GPU_WATTS if row in {"nvml", "amdsmi"} else WATTS
    assert (cell.uj or 0) / 1e6 / (cell.known_s or 1) == pytest.approx(watts, rel=0.05)


@pytest.mark.parametrize("kind", ["dies", "hangs"])
def test_rapl_loses_nothing(worlds: Worlds, kind: str) -> None:
    """What the counters rose by from first to last is in the books, to the microjoule."""
    node = _node(worlds, "plug", kind)
    measured = dict(node.ask("SELECT name, measured_uj FROM domain"))
    for domain in ("package-0", "dram-0"):
        values = node.raw(domain)
        assert measured[domain] == values[-1] - values[0] > 0, domain


def test_the_books_balance_at_each_look(worlds: Worlds) -> None:
    """Of each part, what holders have is what was measured, in mid fault too."""
    for node in worlds.nodes.values():
        for phase, seen in node.seen.items():
            for name, book in seen.domains.items():
                if not name.startswith("node"):
                    assert seen.ledger.get(name, 0) == book["uj"], (node.folder.name, phase, name)


# -- what others feel -------------------------------------------------------------------------------------------------

NODES = [(name, kind) for name in ("many", "plug") for kind in ("absent", "refused", "dies", "hangs")]
NODES += [("modelled", "dies")]


@pytest.mark.parametrize(("name", "kind"), NODES)
def test_others_keep_their_rate(worlds: Worlds, name: str, kind: str) -> None:
    """A source that is well is read as often as ever, and never waits much longer than the deadlines say."""
    node = _node(worlds, name, kind)
    found = rates(worlds, node)
    for each, gap in found.values():
        assert each >= 0.9 * found["before"][0], found
        assert gap <= TICK_S + BUSY_S, found


@pytest.mark.parametrize(("name", "kind"), NODES)
def test_no_fault_ends_the_daemon(worlds: Worlds, name: str, kind: str) -> None:
    """It ends when it is told to, cleanly."""
    node = _node(worlds, name, kind)
    assert "Traceback" not in node.log
    assert "ended cleanly" in node.log


@pytest.mark.parametrize(("name", "kind"), [one for one in NODES if one[0] != "modelled"])
def test_a_fault_is_logged_and_not_at_each_tick(worlds: Worlds, name: str, kind: str) -> None:
    """A handful of lines for one outage of one source."""
    lines = _node(worlds, name, kind).log.splitlines()
    for source in ("nvml", "amdsmi", "hwmon", "pmcounters", "ipmi", "redfish", "wattmeter", "rapl"):
        mine = [line for line in lines if re.search(rf": {source}: |sources\.{source}:", line)]
        assert len(mine) <= 6, mine


def _node(worlds: Worlds, name: str, kind: str) -> Node:
    return worlds.nodes[name, kind]  # type: ignore[index]


# -- check ------------------------------------------------------------------------------------------------------------

FAULTS = [(row, state) for state in ("dies", "hangs") for row in ROWS]


@pytest.mark.parametrize(("row", "state"), FAULTS)
def test_check_asks_to_mend_a_source_in_its_fault(table: dict[tuple[str, str], Cell], row: str, state: str) -> None:
    """What the daemon measured a moment ago and does not now is something to mend."""
    cell = the(table, row, state)
    assert "MEND" in cell.words, cell.said


@pytest.mark.parametrize(("row", "state"), FAULTS)
def test_check_is_content_once_it_is_back(table: dict[tuple[str, str], Cell], row: str, state: str) -> None:
    """Nothing is left to mend."""
    cell = the(table, row, f"back after {state}")
    assert "MEND" not in cell.words, cell.said
    assert cell.status == 0


@pytest.mark.parametrize("row", [row for row in ROWS if row not in LOGIN])
def test_never_a_value_is_not_ok(table: dict[tuple[str, str], Cell], row: str) -> None:
    """A source that never had a value is not told as one that does well."""
    for line in the(table, row, "refused").check:
        assert not (line.startswith("ok") and "never a value" in line), line


@pytest.mark.parametrize(("name", "kind"), NODES)
def test_check_says_all_on_standard_output(worlds: Worlds, name: str, kind: str) -> None:
    """No traceback and no stray line, whatever it meets."""
    for seen in _node(worlds, name, kind).seen.values():
        assert not [line for line in seen.check if line.startswith("stderr")]


@pytest.mark.parametrize("row", ["ipmi", "redfish"])
def test_check_tells_how_long_a_poll_takes(table: dict[tuple[str, str], Cell], row: str) -> None:
    """No poll takes longer than its deadline: a mean of more is wrong."""
    found = re.search(r"([0-9.]+) ms each", the(table, row, "back after hangs").said)
    assert found
    assert float(found[1]) <= {"ipmi": 2200, "redfish": 1200}[row]


@pytest.mark.parametrize("row", ["hwmon"])
def test_check_tells_a_gauge_in_watts(table: dict[tuple[str, str], Cell], row: str) -> None:
    """An admin knows what a node draws, not what it drew since `check` began."""
    assert f"gauge, {WATTS}.0 W" in the(table, row, "present").said


def test_check_misses_a_daemon_that_is_not_there(worlds: Worlds) -> None:
    """All daemons have ended: `check` says so."""
    node = worlds.nodes["plug", "dies"]
    node.check("ended")
    assert re.search(r"MEND .*(not running|no daemon)", "\n".join(node.seen["ended"].check))
