"""The books of nodes that the daemon itself has kept, with meters of the whole node and without."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.accounting.world import World, record
from tests.daemon.books import GIB, WALL, Json, end, line, node, start, write

from jobimpact.cli.main import main
from jobimpact.core.config import Config, Node
from jobimpact.core.nodefile import node_file
from jobimpact.core.records import NodeFacts
from jobimpact.energy.local import LocalEnergy
from jobimpact.energy.summary import summarise
from jobimpact_daemon.bookkeeper import State
from jobimpact_daemon.holdings import Holdings
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.recording import read_recording
from jobimpact_daemon.replay import _Player, make_books

J = 1_000_000
Captured = pytest.CaptureFixture[str]


def live(world: World, name: str, lines: Sequence[Json]) -> None:
    """Let a daemon live through a recording, and leave its node file as it was at the last commit."""
    config = msgspec.structs.replace(world.config, node=Node(name=name, cpus=4, mem_bytes=4 * GIB))
    ledger = Ledger(node_file(world.folder / "nodes", name), name, "lab", keep=True)
    books = make_books(config, State(Holdings(NodeFacts(4, 4 * GIB))), ledger)
    player = _Player(books, ledger)
    recording = write(world.folder / f"{name}.jsonl", lines)
    for one in read_recording(recording):
        player._line(one, recording)
    assert ledger.commit(books)
    ledger.close()


def told(world: World, capsys: Captured) -> tuple[int, Json]:
    """What `jobimpact books --json` says, and its exit status."""
    status = main(["books", "--json", "--config", str(world.config_file)])
    found: Json = json.loads(capsys.readouterr().out)
    return status, found


def a_node(seconds: int = 400, cpu_w: float = 100.0, **meters: float) -> list[Json]:
    """One package and its node's meters, with a job of two of four cores from 10 to 200 s."""
    lines = [node(), start(10, "1", cpus=2, mem_bytes=GIB), end(200, "1")]
    for t in range(seconds + 1):
        read: dict[str, Any] = {"rapl": {"package-0": {"uj": round(cpu_w * t * J)}}}
        if t % 5 == 0:
            read |= {name: {"node": {"w": watts}} for name, watts in meters.items()}
        lines.append(line(t, read=read))
    return sorted(lines, key=lambda one: one["t"])


def test_a_meter_is_its_parts_and_the_rest(tmp_path: Path, capsys: Captured) -> None:
    """350 W at the BMC over a package of 100 W: two windows of 150 s are settled, 100 s are open."""
    world = World(tmp_path)
    live(world, "node01", a_node(redfish=350.0))
    status, said = told(world, capsys)
    assert status == 0
    assert [one["domain"] for one in said["books"]] == ["package-0", "rest"]
    rest = said["books"][1]
    assert (rest["kind"], rest["method"], rest["measured_uj"], rest["difference_uj"]) == (
        "rest",
        "gauge",
        75000 * J,
        0,
    )
    [meter] = said["meters"]
    assert (meter["node"], meter["meter"], meter["method"]) == ("node01", "node:redfish", "gauge")
    assert (meter["measured_uj"], meter["open_uj"]) == (140_000 * J, 35_000 * J)
    assert meter["settled"] == {
        "meter_uj": 105_000 * J,
        "parts_uj": 30_000 * J,
        "rest_uj": 75_000 * J,
        "deficit_uj": 0,
        "difference_uj": 0,
    }
    assert "reason" not in meter


def test_a_job_s_rest_is_what_its_node_s_daemon_gave_it(tmp_path: Path) -> None:
    """Half of the node for 190 s of two windows of 250 W: 23.75 kJ, known to the end; its package's part beside it."""
    world = World(tmp_path)
    live(world, "node01", a_node(redfish=350.0))
    job = record(start_s=WALL + 10, end_s=WALL + 200, elapsed_s=190.0)
    with LocalEnergy(tmp_path / "nodes") as energy:
        found = summarise(job, energy.job_energy(job))
    assert (found.domains["rest"].energy_j, found.domains["cpu"].energy_j) == (125 * 190, 50 * 190)
    assert (found.total_j, found.coverage) == (175 * 190, 1.0)


def test_books_of_no_node_are_not_said_to_balance(tmp_path: Path, capsys: Captured) -> None:
    world = World(tmp_path)
    (tmp_path / "nodes").mkdir(exist_ok=True)
    assert main(["books", "--config", str(world.config_file)]) == 0
    said = capsys.readouterr().out
    assert said.endswith("no node has any books yet: nothing is known\n")
    assert "measured = " not in said


def test_a_job_of_before_the_meter_has_no_part_of_it(tmp_path: Path) -> None:
    """The BMC is read from 250 s on, the job ended at 200: the sum is that of its parts, and nothing is missing."""
    world = World(tmp_path)
    late = [one for one in a_node(600, redfish=350.0) if one["t"] >= 250]
    live(world, "node01", [one for one in a_node() if one["t"] < 250] + late)
    job = record(start_s=WALL + 10, end_s=WALL + 200, elapsed_s=190.0)
    with LocalEnergy(tmp_path / "nodes") as energy:
        found = summarise(job, energy.job_energy(job))
        [_, rest] = energy.books()[0]
    assert rest.idle_uj == 250 * 300 * J
    assert (found.total_j, found.coverage) == (50 * 190, 1.0)
    assert found.domains["rest"].reason == "no node meter on node01"


def test_books_in_words(tmp_path: Path, capsys: Captured) -> None:
    """The meter is no domain of the first table and not in its totals; what is open is said below its line."""
    world = World(tmp_path)
    live(world, "node01", a_node(redfish=350.0))
    live(world, "node02", a_node())
    assert main(["books", "--config", str(world.config_file)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^node01  rest +75000\.000000 ", said, re.MULTILINE)
    assert re.search(r"^all +155000\.000000 ", said, re.MULTILINE)
    assert re.search(
        r"^node01  node:redfish  140000\.000000  105000\.000000  30000\.000000  75000\.000000   0\.000000 +0\.000000",
        said,
        re.MULTILINE,
    )
    assert "node01 node:redfish: 35000.000000 J outside settled windows: in the open one, or beside a gap\n" in said
    assert said.count("node02") == 1
    assert said.endswith("\nmeasured = jobs + idle + system; of whole nodes, settled = parts + rest - deficit\n")


def test_parts_that_measure_more_than_the_meter_leave_a_deficit(tmp_path: Path, capsys: Captured) -> None:
    """A BMC that sees 60 of 100 W: no rest is negative, and what is owed is a column of its own."""
    world = World(tmp_path)
    live(world, "node01", a_node(redfish=60.0))
    status, said = told(world, capsys)
    assert status == 0
    assert said["meters"][0]["settled"] == {
        "meter_uj": 18_000 * J,
        "parts_uj": 30_000 * J,
        "rest_uj": 0,
        "deficit_uj": 12_000 * J,
        "difference_uj": 0,
    }
    main(["books", "--config", str(world.config_file)])
    assert "deficit: the parts have measured more than the meter" in capsys.readouterr().out


def test_of_two_meters_one_is_set_against_the_parts(tmp_path: Path, capsys: Captured) -> None:
    """The other has a line all the same, and what nobody can tell is null with its reason."""
    world = World(tmp_path)
    live(world, "node01", a_node(redfish=350.0, wattmeter=380.0))
    status, said = told(world, capsys)
    assert status == 0
    bmc, plug = said["meters"]
    assert (bmc["meter"], bmc["measured_uj"], bmc["settled"], bmc["open_uj"]) == (
        "node:redfish",
        140_000 * J,
        None,
        None,
    )
    assert bmc["reason"] == "the rest is taken from another meter"
    assert (plug["meter"], plug["open_uj"]) == ("node:wattmeter", None)
    assert plug["reason"] == "its node's windows were settled with several meters"
    assert plug["settled"]["difference_uj"] == 0
    assert plug["settled"]["rest_uj"] > 0


def test_before_the_first_window_nothing_is_known_of_the_rest(tmp_path: Path, capsys: Captured) -> None:
    """A dash and not 0: a minute after its start a node with a BMC has no rest yet."""
    world = World(tmp_path)
    live(world, "node01", a_node(60, redfish=350.0))
    status, said = told(world, capsys)
    assert status == 0
    assert (said["books"][1]["measured_uj"], said["books"][1]["reason"]) == (
        None,
        "its first window is not settled yet",
    )
    assert (said["meters"][0]["measured_uj"], said["meters"][0]["settled"]["rest_uj"]) == (350 * 60 * J, 0)
    assert said["meters"][0]["open_uj"] == 350 * 60 * J


def test_a_rest_that_is_not_the_meter_s_is_told(tmp_path: Path, capsys: Captured) -> None:
    """One microjoule that nobody measured, though the rest's own holders add up: status 1 and a loud line."""
    world = World(tmp_path)
    live(world, "node01", a_node(redfish=350.0))
    file = world.node("node01").db
    file.execute("UPDATE domain SET measured_uj = measured_uj + 1 WHERE name = 'rest'")
    file.execute("UPDATE ledger SET uj = uj + 1 WHERE domain = 'rest' AND holder = 'idle'")
    status, said = told(world, capsys)
    assert status == 1
    assert (said["books"][1]["difference_uj"], said["meters"][0]["settled"]["difference_uj"]) == (0, -1)
    assert main(["books", "--config", str(world.config_file)]) == 1
    said_text = capsys.readouterr().out
    assert "DO NOT BALANCE" in said_text
    assert "-0.000001" in said_text


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE whole SET parts_uj = parts_uj + 200000000000, deficit_uj = deficit_uj + 200000000000",
        "UPDATE whole SET parts_uj = parts_uj + 200000000000, meter_uj = meter_uj + 200000000000",
    ],
)
def test_more_cannot_be_settled_than_was_measured(tmp_path: Path, capsys: Captured, forgery: str) -> None:
    """A sum that fits, of figures that nobody measured: status 1, and by how much."""
    world = World(tmp_path)
    live(world, "node01", a_node(redfish=350.0))
    world.node("node01").db.execute(forgery)
    status, said = told(world, capsys)
    assert (status, said["meters"][0]["settled"]["difference_uj"]) == (1, 0)
    assert main(["books", "--config", str(world.config_file)]) == 1
    said_text = capsys.readouterr().out
    assert "MORE ARE SETTLED THAN WERE EVER MEASURED" in said_text
    assert "DO NOT BALANCE" in said_text


def test_a_file_of_the_last_schema_is_read(tmp_path: Path) -> None:
    """It has no table of the whole node, and no such meter: its domains are told as they were."""
    world = World(tmp_path)
    file = world.node().measured().db
    file.execute("DROP TABLE whole")
    file.execute("PRAGMA user_version = 1")
    with LocalEnergy(tmp_path / "nodes") as energy:
        assert [one.domain for one in energy.books()[0]] == ["package-0"]
        assert energy.meters() == ([], [])


@settings(max_examples=30, deadline=None)
@given(
    cpu_w=st.lists(st.integers(1, 400), min_size=2, max_size=40),
    rest_w=st.integers(0, 300),
    lag=st.integers(0, 3),
    silent=st.sets(st.integers(0, 39)),
)
def test_every_meter_balances_for_any_lag_and_silence(
    cpu_w: list[int], rest_w: int, lag: int, silent: set[int]
) -> None:
    """Whatever was measured, lost and late: settled = parts + rest - deficit, and no more is settled than measured."""
    lines = [node(), start(3, "1", cpus=1, mem_bytes=GIB)]
    uj = 0
    for step, watts in enumerate(cpu_w):
        late = cpu_w[max(0, step - lag)] + rest_w
        read: dict[str, Any] = {"rapl": {"package-0": {"uj": uj}}}
        read["redfish"] = {"node": {"failed": "no answer"} if step in silent else {"w": float(late)}}
        lines.append(line(step * 20.0, read=read))
        uj += watts * 20 * J
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        live(world, "node01", sorted(lines, key=lambda one: one["t"]))
        with LocalEnergy(world.folder / "nodes") as energy:
            books, meters = energy.books()[0], energy.meters()[0]
    assert all(one.difference_uj == 0 for one in books)
    for meter in meters:
        if meter.settled:
            assert (meter.settled.difference_uj, meter.settled.more_uj) == (0, 0)
            assert 0 <= meter.settled.meter_uj <= meter.measured_uj
            assert meter.settled.deficit_uj >= 0


def test_the_configuration_of_these_nodes_is_the_default_one() -> None:
    """The gap that a gauge may have, on which the silence above rests."""
    assert Config().node.max_gap_s == 30
