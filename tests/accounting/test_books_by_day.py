"""The books of days, from node files that the daemon's own path has written: they balance, and days join."""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.accounting.world import CONFIG, World
from tests.daemon.books import GIB, WALL, Json, write
from tests.daemon.stories import stories

from jobimpact.cli.main import main
from jobimpact.core.config import Config, Node
from jobimpact.core.nodefile import node_file
from jobimpact.core.records import NodeFacts
from jobimpact.energy.books import NodeSpan, SpanLine
from jobimpact.energy.local import LocalEnergy
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.recording import read_recording
from jobimpact_daemon.replay import _Player, make_books

J = 1_000_000
DAY_S = 86400

Ledgers = dict[float, dict[str, dict[str, int]]]
"""By the stamp of a commit: what each holder had of each domain, and `measured`."""


def live(
    folder: Path,
    name: str,
    lines: Sequence[Json],
    *,
    watch: bool = False,
    restart_at: Collection[int] = (),
    **how: Any,
) -> Ledgers:
    """Let a daemon live through a recording; before each line of `restart_at` it is stopped and started.

    Gives the whole ledger as it was at each commit, if asked to.
    """
    config = msgspec.structs.replace(Config(), node=Node(name=name, cpus=4, mem_bytes=4 * GIB))
    ledger, player = opened(folder, config, **how)
    recording = write(folder / f"{name}.jsonl", lines)
    seen: Ledgers = {}
    for number, one in enumerate(read_recording(recording)):
        if number in restart_at:
            ledger.close()
            waiting, t_ns = player._marks, player._t_ns
            ledger, player = opened(folder, config, **how)
            player._marks, player._t_ns = waiting, t_ns
        player._line(one, recording)
        if watch and one.seen is not None:
            seen[player._books.state.wall_s] = ledger_of(ledger.path)
    assert ledger.commit(player._books)
    ledger.close()
    return seen


def opened(folder: Path, config: Config, *, keep: bool = True) -> tuple[Ledger, _Player]:
    """A daemon's start, on a new file or on one that is there."""
    ledger = Ledger(node_file(folder, config.node.name), config.node.name, "lab", keep=keep)
    state, _, resumed = ledger.load(NodeFacts(4, 4 * GIB))
    books = make_books(config, state, ledger)
    books.accounts = ledger.accounts(state)
    if resumed:
        books.resume()
    return ledger, _Player(books, ledger)


def ledger_of(path: Path) -> dict[str, dict[str, int]]:
    """The ledger of a node's file."""
    with sqlite3.connect(path) as db:
        found = {name: {"measured": uj} for name, uj in db.execute("SELECT name, measured_uj FROM domain")}
        for domain, holder, uj in db.execute("SELECT domain, holder, uj FROM ledger"):
            found[domain][holder] = uj
    return found


def span(folder: Path, name: str, from_s: float, to_s: float) -> NodeSpan:
    """One node's books over a time."""
    with LocalEnergy(folder) as energy:
        [found], unread = energy.span(from_s, to_s, [name])
    assert not unread
    return found


FIELDS = ("measured_uj", "jobs_uj", "idle_uj", "system_uj", "difference_uj")


def sums(line: SpanLine) -> tuple[int, ...]:
    """A line's sums; one of which nothing was told has grown by nothing."""
    return tuple(getattr(line.sums, name) for name in FIELDS) if line.sums else (0,) * len(FIELDS)


@st.composite
def long_stories(draw: st.DrawFn) -> list[Json]:
    """Stories of minutes to days, with a clock that is set back and forth, and time off between boots."""
    slower = draw(st.sampled_from([1, 7, 60, 700, 6000]))
    found = draw(stories()).lines
    steps = draw(
        st.dictionaries(st.integers(1, 60), st.sampled_from([-90000, -3600, -100, -59, -20, 30, 5000]), max_size=2)
    )
    metered = draw(st.booleans())
    lines: list[Json] = []
    offset_s, last_s, boot = 0.0, 0.0, None
    for number, one in enumerate(found):
        if "boot" in one and boot not in (None, one["boot"]):
            offset_s += last_s + draw(st.sampled_from([0.0, 30.0, 7200.0]))
        boot = one.get("boot", boot)
        offset_s += steps.get(number, 0)
        last_s = max(0.0, one["t"] * slower)
        lines.append({**one, "t": last_s, "wall": WALL + offset_s + last_s})
        if metered and "read" in one:
            bmc = draw(st.sampled_from([{"w": 60.0}, {"w": 500.0}, {"w": 2000.0}, {"failed": "no answer"}]))
            lines[-1]["read"] = one["read"] | {"redfish": {"node": bmc}}
    return lines


@settings(max_examples=80, deadline=None)
@given(long_stories(), st.data())
def test_for_any_story_times_balance_and_join(lines: list[Json], data: st.DataObject) -> None:
    """Wherever it is cut: each part balances, its cuts are the ledger's own, and parts sum to the whole books."""
    walls = [one["wall"] for one in lines]
    moments = st.floats(min(walls) - 100, max(walls) + 100)
    edges = sorted(data.draw(st.lists(moments, max_size=4), label="edges"))
    edges = [0.0, *edges, max(walls) + 1e6]
    restart_at = data.draw(st.sets(st.integers(1, 60), max_size=2), label="restart_at")
    with tempfile.TemporaryDirectory() as folder:
        seen = live(Path(folder), "n1", lines, watch=True, restart_at=restart_at)
        seen[float("inf")] = ledger_of(Path(folder, "n1.sqlite"))
        spans = [span(Path(folder), "n1", *pair) for pair in pairwise(edges)]
        whole = span(Path(folder), "n1", edges[0], edges[-1])
    told = sum(sums(line)[1] for line in whole.lines)
    assert whole.runs is not None
    assert sum(one.uj for one in whole.runs) == told
    for number, line in enumerate(whole.lines):
        parts = [one.lines[number] for one in spans]
        for one in parts:
            check(one, seen)
        if line.reason and ("not there any more" in line.reason or "no points" in line.reason):
            continue  # the clock was set back by just as long as its first point took
        assert [sum(column) for column in zip(*map(sums, parts), strict=True)] == list(sums(line))
        ledger = seen[float("inf")][line.domain]
        assert sums(line)[0] == ledger["measured"]
        assert sums(line)[2:] == (ledger.get("idle", 0), ledger.get("system", 0), 0)
    for one in spans:
        if one.runs is not None:
            assert sum(run.uj for run in one.runs) == sum(sums(line)[1] for line in one.lines)


def check(line: SpanLine, seen: Ledgers) -> None:
    """What a line says is what the ledger said at its cuts, and nothing in it is below zero."""
    assert sums(line)[4] == 0
    assert all(uj >= 0 for uj in sums(line))
    if line.sums is None or line.to_s not in seen or (line.from_s is not None and line.from_s not in seen):
        return
    if line.jobs_low_uj is not None and line.jobs_high_uj is not None:
        assert line.jobs_low_uj <= line.sums.jobs_uj <= line.jobs_high_uj
    then = four(seen[line.from_s].get(line.domain, {}) if line.from_s is not None else {})
    # One that ends now has what the ledger had after the last point.
    ends = [four(seen[at][line.domain]) for at in (line.to_s, float("inf"))]
    assert sums(line)[:4] in [tuple(b - a for a, b in zip(then, now, strict=True)) for now in ends]


def four(ledger: dict[str, int]) -> tuple[int, ...]:
    """What was measured, and what jobs, idle and system had."""
    return (ledger.get("measured", 0), jobs_of(ledger), ledger.get("idle", 0), ledger.get("system", 0))


def jobs_of(ledger: dict[str, int]) -> int:
    """What jobs have of a domain."""
    return sum(uj for holder, uj in ledger.items() if holder not in ("measured", "idle", "system"))


# -- days that can be worked out by hand -----------------------------------------------------------------------------

MIDNIGHT = 1_795_219_200.0
"""2026-11-21, UTC; stories begin two hours before."""
BEGIN = MIDNIGHT - 7200
Captured = pytest.CaptureFixture[str]


def line(t: float, **parts: Any) -> Json:
    """One line of a recording, `t` seconds after 22:00."""
    return {"t": t, "wall": BEGIN + t, **parts}


def node(boot: str = "b1", t: float = 0.0) -> Json:
    """The node's size."""
    return line(t, boot=boot, node={"cpus": 4, "mem_bytes": 4 * GIB, "gpus": []})


def start(t: float, job: str, **parts: Any) -> Json:
    """A job of two of the four cores."""
    return line(t, mark={"event": "start", "job": job, "cpus": 2, "mem_bytes": GIB, **parts})


def end(t: float, job: str, **parts: Any) -> Json:
    """Its end."""
    return line(t, mark={"event": "end", "job": job, **parts})


def reads(first: int = 0, last: int = 4 * 3600, step: int = 20, **watts: float) -> list[Json]:
    """A package of 100 W, other counters (`dram_0`), and `redfish` the node's own meter."""
    lines = []
    for t in range(first, last + 1, step):
        found: Json = {"rapl": {"package-0": {"uj": 100 * t * J}}}
        for name, w in watts.items():
            if name == "redfish":
                found[name] = {"node": {"w": w}}
            else:
                found["rapl"][name.replace("_", "-")] = {"uj": round(w * t * J)}
        lines.append(line(t, read=found))
    return lines


def told_by(*parts: Json | Sequence[Json]) -> list[Json]:
    """A recording in order of time."""
    lines = [one for part in parts for one in ([part] if isinstance(part, dict) else part)]
    return sorted(lines, key=lambda one: one["t"])


def shifted(lines: Sequence[Json], since: float, by_s: float) -> list[Json]:
    """The clock is set by so much, from a boot time on."""
    return [{**one, "wall": one["wall"] + by_s} if one["t"] >= since else one for one in lines]


JOB = (start(5410.0, "1", uid=1000), end(9010.0, "1"))
"""From 23:30:10 to 00:30:10 at 50 W."""


class Site(World):
    """A site whose nodes' files a daemon has written."""

    def live(self, lines: Sequence[Json], name: str = "node01", **how: Any) -> Site:
        """A node's life."""
        live(self.folder / "nodes", name, lines, **how)
        return self

    def ask(self, *words: str) -> int:
        """`jobimpact books ...`."""
        return main(["books", *words, "--config", str(self.config_file)])

    def told(self, capsys: Captured, *words: str, status: int = 0) -> Json:
        """The document."""
        assert self.ask(*words, "--json") == status
        found: Json = json.loads(capsys.readouterr().out)
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty one."""
    return Site(tmp_path)


def joules(one: Json) -> tuple[float | None, ...]:
    """What was measured, jobs', idle, system's, and the difference."""
    return tuple(None if one[name] is None else one[name] / J for name in FIELDS)


def test_two_days_are_cut_at_midnight_and_join(site: Site, capsys: Captured) -> None:
    """A job of 50 W over midnight: 29 min 50 s of it are the first day's, to the microjoule."""
    site.live(told_by(node(), reads(), JOB))
    first, second = (site.told(capsys, "--day", day) for day in ("2026-11-20", "2026-11-21"))
    [before], [after] = first["books"], second["books"]
    assert joules(before) == (720_000, 50 * 1790, 720_000 - 50 * 1790, 0, 0)
    assert joules(after) == (720_000, 50 * 1810, 720_000 - 50 * 1810, 0, 0)
    assert (before["from"], before["began"], before["to"]) == (
        None,
        "2026-11-20T22:00:00.000Z",
        "2026-11-21T00:00:00.000Z",
    )
    assert (after["from"], after["to"], after["unknown_s"]) == (before["to"], "2026-11-21T02:00:00.000Z", 0)
    month = site.told(capsys, "--month", "2026-11")
    assert [a + b for a, b in zip(joules(first["total"]), joules(second["total"]), strict=True)] == list(
        joules(month["total"])
    )
    whole = site.told(capsys)["books"][0]
    assert joules(month["books"][0]) == joules(whole)
    assert (first["schema"], first["time"], first["balanced"], first["errors"]) == (1, "2026-11-20", True, [])
    assert [one["results"] for one in first["nodes"]] == [None]


def test_a_running_job_is_proved_by_its_own_point(site: Site, capsys: Captured) -> None:
    """It has one in the commit at which the day is cut: a microjoule more or less there is a difference."""
    [day] = site.live(told_by(node(), reads(), JOB)).told(capsys, "--day", "2026-11-20")["books"]
    assert day["jobs_low_uj"] == day["jobs_uj"] == day["jobs_high_uj"] == 50 * 1790 * J
    change = "UPDATE job_energy SET uj = uj + 1 WHERE run = '1' AND wall_s = ?"
    site.node("node01").db.execute(change, (MIDNIGHT,))
    for day_name, difference in (("2026-11-20", -1), ("2026-11-21", 1)):
        found = site.told(capsys, "--day", day_name, status=1)["books"][0]
        assert found["difference_uj"] == difference


def test_without_a_point_at_the_cut_its_others_bound_it(site: Site, capsys: Captured) -> None:
    """As earlier releases wrote them: at midnight it has 50 W x 29 min 50 s, and its points allow 3 minutes."""
    site.live(told_by(node(), reads(), JOB))
    site.node("node01").db.execute("DELETE FROM job_energy WHERE run = '1' AND wall_s = ?", (MIDNIGHT,))
    [day] = site.told(capsys, "--day", "2026-11-20")["books"]
    assert day["jobs_low_uj"] < day["jobs_uj"] < day["jobs_high_uj"]
    assert day["jobs_high_uj"] - day["jobs_low_uj"] <= 50 * 180 * J


def test_where_no_job_runs_at_the_cuts_one_microjoule_is_seen(site: Site, capsys: Captured) -> None:
    """A job that ended before midnight is exact; idle that has lost 1 uJ at the cut is told, by node and domain."""
    site.live(told_by(node(), reads(), start(610, "1"), end(3010, "1")))
    [day] = site.told(capsys, "--day", "2026-11-20")["books"]
    assert day["jobs_low_uj"] == day["jobs_uj"] == day["jobs_high_uj"] == 50 * 2400 * J
    file = site.node("node01").db
    file.execute("UPDATE job_energy SET uj = uj - 1 WHERE run = 'idle' AND wall_s = ?", (MIDNIGHT,))
    for words, difference in ((["--day", "2026-11-20"], 1), (["--day", "2026-11-21"], -1)):
        found = site.told(capsys, *words, status=1)
        assert (found["balanced"], found["books"][0]["difference_uj"]) == (False, difference)
    assert site.ask("--day", "2026-11-20") == 1
    said = capsys.readouterr().out
    assert "node01 package-0: out by 0.000001 J\nTHE BOOKS DO NOT BALANCE" in said
    assert site.told(capsys, "--month", "2026-11")["balanced"]


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE node_power SET measured_uj = measured_uj + 50000000000 WHERE wall_s = 1795219200",
        "UPDATE job_energy SET uj = uj - 50000000000 WHERE run = '1'",
        "UPDATE job_energy SET uj = uj + 50000000000 WHERE run = 'idle' AND wall_s >= 1795219200",
    ],
)
def test_more_than_jobs_points_allow_is_a_difference(site: Site, capsys: Captured, forgery: str) -> None:
    """50 kJ that are not where they were, while a job of 50 W runs: status 1, though all sums over all time fit."""
    site.live(told_by(node(), reads(), JOB)).node("node01").db.execute(forgery)
    [day] = site.told(capsys, "--day", "2026-11-20", status=1)["books"]
    assert 40_000 * J < abs(day["difference_uj"]) <= 50_000 * J
    assert site.told(capsys)["books"][0]["difference_uj"] == 0


DEAD = (reads(last=3600), reads(first=10800))
"""Nothing was read from 23:00 to 01:00; the counter holds what came."""


@pytest.mark.parametrize("restart", [False, True])
def test_a_daemon_that_was_dead_over_midnight(site: Site, capsys: Captured, restart: bool) -> None:
    """The day before is cut where the daemon wrote last, 23:00, and what the counter held is in the day after."""
    lines = told_by(node(), *DEAD, start(3000, "1"), end(11000, "1"))
    back = next(number for number, one in enumerate(lines) if one["t"] >= 10800)
    site.live(lines, restart_at=[back] if restart else [])
    before, after = (site.told(capsys, "--day", day)["books"][0] for day in ("2026-11-20", "2026-11-21"))
    assert (before["to"], after["from"]) == ("2026-11-20T23:00:00.000Z",) * 2
    assert joules(before) == (360_000, 50 * 600, 330_000, 0, 0)
    assert joules(after) == (1_080_000, 50 * 7400, 1_080_000 - 50 * 7400, 0, 0)
    assert (after["unknown_s"], after["known_s"]) == (0, 10800)
    site.ask("--day", "2026-11-20")
    assert "  node01: from its begin, 2026-11-20 22:00:00, to 2026-11-20 23:00:00\n" in capsys.readouterr().out


def test_days_in_which_nothing_was_written_are_not_zero(site: Site, capsys: Captured) -> None:
    """Two days off: their lines are null with the reason, and the whole is in the day when the daemon came back."""
    site.live(told_by(node(), reads(last=3600), reads(first=3 * 86400, last=3 * 86400 + 3600)))
    days = [site.told(capsys, "--day", f"2026-11-{day}")["books"][0] for day in (20, 21, 22, 23)]
    assert [one["measured_uj"] for one in days] == [360_000 * J, None, None, (259_200 + 3600 - 3600) * 100 * J]
    assert days[1]["reason"] == (
        "nothing was written from 2026-11-20 23:00:00 to 2026-11-23 22:00:00: what came then is booked there"
    )
    assert site.ask("--day", "2026-11-22") == 0
    said = capsys.readouterr().out
    assert "nothing is known of this time: there is nothing to balance" in said
    assert "0.000000" not in said


def test_a_reboot_at_midnight_and_time_off(site: Site, capsys: Captured) -> None:
    """A node that is off from 23:30 to 00:30: its job ended with it, its time off is neither known nor unknown."""
    after = [{**one, "wall": one["wall"] + 9000} for one in told_by(node("b2"), reads(last=3600))]
    site.live([*told_by(node(), reads(last=5400), start(3000, "1")), *after])
    before, after_it = (site.told(capsys, "--day", day)["books"][0] for day in ("2026-11-20", "2026-11-21"))
    assert joules(before) == (540_000, 50 * 2400, 540_000 - 50 * 2400, 0, 0)
    assert joules(after_it) == (360_000, 0, 360_000, 0, 0)
    assert (after_it["from"], after_it["known_s"], after_it["unknown_s"]) == ("2026-11-20T23:30:00.000Z", 3600, 0)
    assert site.ask("--day", "2026-11-21") == 0
    assert "  node01 package-0: 1 h 0 min\n" in capsys.readouterr().out


@pytest.mark.parametrize("came", [7200, 7215, 9000])
def test_a_domain_that_comes_later(site: Site, capsys: Captured, came: int) -> None:
    """Memory that is metered from midnight on, or later: it has nothing of the day before, and that is said."""
    later = [one for one in reads(first=came // 20 * 20, step=20, dram_0=20) if one["t"] >= came]
    site.live(told_by(node(), [one for one in reads() if one["t"] < came], later))
    first, second = (site.told(capsys, "--day", day) for day in ("2026-11-20", "2026-11-21"))
    before = {one["domain"]: one for one in first["books"]}
    after = {one["domain"]: one for one in second["books"]}
    assert joules(after["dram-0"])[0] == 20 * (14400 - later[0]["t"])
    assert joules(first["total"])[0] == 720_000
    assert before["dram-0"]["measured_uj"] is None
    assert "begin" in before["dram-0"]["reason"] or "not read" in before["dram-0"]["reason"]


def test_two_runs_of_one_name(site: Site, capsys: Captured) -> None:
    """A job that was requeued over midnight: each day has its run's, and a result of the first claims no more."""
    again = (start(3000, "7"), start(8000, "7", restart=1), end(12000, "7", restart=1))
    site.live(told_by(node(), reads(), *again))
    site.say("7", start=BEGIN + 3000, end=BEGIN + 8000, state="REQUEUED")
    assert main(["account", "--from", "2026-11-20", "--to", "2026-11-22", "--config", str(site.config_file)]) == 0
    capsys.readouterr()
    found = site.told(capsys, "--month", "2026-11")
    assert found["books"][0]["jobs_uj"] == 50 * 9000 * J
    assert found["nodes"][0]["results"] == {
        "in_results_uj": 50 * 5000 * J,
        "running_uj": 0,
        "unaccounted_uj": 50 * 4000 * J,
        "unaccounted": ["7"],
        "changed": [],
    }


def test_from_the_meter_to_the_results(site: Site, capsys: Captured) -> None:
    """Each day: a job in the results over midnight, one that nobody knows, one that goes on: they sum to the jobs'."""
    others = (start(600, "2"), end(1800, "2"), start(9600, "3"))
    site.live(told_by(node(), reads(), JOB, *others))
    site.say("1", start=BEGIN + 5410, end=BEGIN + 9010)
    assert main(["account", "--from", "2026-11-20", "--to", "2026-11-22", "--config", str(site.config_file)]) == 0
    capsys.readouterr()
    first, second = (site.told(capsys, "--day", day)["nodes"][0] for day in ("2026-11-20", "2026-11-21"))
    parts = ("in_results_uj", "running_uj", "unaccounted_uj")
    assert [first["results"][name] / J for name in parts] == [50 * 1790, 0, 50 * 1200]
    assert [second["results"][name] / J for name in parts] == [50 * 1810, 50 * 4800, 0]
    for day in (first, second):
        assert sum(day["results"][name] for name in parts) == day["jobs_uj"]
    site.ask("--day", "2026-11-20")
    said = capsys.readouterr().out
    assert "  node01: over, and in no result (yet): 2\n" in said
    assert re.search(r"^node01 +149500.000000 +89500.000000 +0.000000 +60000.000000$", said, re.MULTILINE)


def test_a_result_with_other_joules_is_told(site: Site, capsys: Captured) -> None:
    """The node's books had more of it after it was accounted for."""
    site.live(told_by(node(), reads(), JOB)).say("1", start=BEGIN + 5410, end=BEGIN + 9010)
    assert main(["account", "--from", "2026-11-20", "--to", "2026-11-22", "--config", str(site.config_file)]) == 0
    file = site.node("node01").db
    file.execute("UPDATE ledger SET uj = uj + 100 WHERE holder = '1'")
    file.execute("UPDATE ledger SET uj = uj - 100 WHERE holder = 'idle'")
    capsys.readouterr()
    assert site.told(capsys, "--day", "2026-11-21")["nodes"][0]["results"]["changed"] == ["1"]
    site.ask("--day", "2026-11-21")
    assert "its books have other joules than the result by now: 1\n" in capsys.readouterr().out


def test_a_whole_node_s_meter_over_a_day(site: Site, capsys: Captured) -> None:
    """350 W at the BMC over a package of 100 W: parts, rest, and what is in windows that are open at the edges."""
    site.live(told_by(node(), reads(redfish=350.0), JOB))
    first, second = (site.told(capsys, "--day", day) for day in ("2026-11-20", "2026-11-21"))
    [before], [after] = first["meters"], second["meters"]
    for day, meter in ((first, before), (second, after)):
        assert meter["measured_uj"] == 350 * 7200 * J == meter["parts_uj"] + meter["rest_uj"] + meter["open_uj"]
        assert meter["parts_uj"] == day["books"][0]["measured_uj"]
        assert meter["rest_uj"] == day["books"][1]["measured_uj"]
        assert abs(meter["open_uj"]) <= 250 * 300 * J
    assert (before["deficit_uj"], after["deficit_uj"]) == (None, 0)
    [whole] = site.told(capsys)["meters"]
    assert before["open_uj"] + after["open_uj"] == whole["open_uj"] - 100 * J * (whole["open_uj"] // (350 * J))


def test_a_deficit_is_told_while_it_stands(site: Site, capsys: Captured) -> None:
    """A BMC that sees 60 of 100 W: open is below zero, and what is owed now is said."""
    site.live(told_by(node(), reads(redfish=60.0)))
    [meter] = site.told(capsys, "--day", "2026-11-21")["meters"]
    assert meter["open_uj"] == -40 * 7200 * J
    assert meter["deficit_uj"] > 0
    site.ask("--day", "2026-11-21")
    assert "J of deficit now: the next windows pay it back first" in capsys.readouterr().out


@pytest.mark.parametrize(("since", "by_s"), [(9000, -3607), (9000, -40), (6000, -4000), (5000, 3600), (9000, -7000)])
def test_a_clock_that_is_set(site: Site, capsys: Captured, since: float, by_s: float) -> None:
    """Days are those of the clock; they balance and join, and where it was set back over midnight that is said."""
    site.live(shifted(told_by(node(), reads(), JOB), since, by_s))
    first, second = (site.told(capsys, "--day", day)["books"][0] for day in ("2026-11-20", "2026-11-21"))
    whole = site.told(capsys)["books"][0]
    assert [a + b for a, b in zip(joules(first), joules(second), strict=True)] == list(joules(whole))
    assert min(*joules(first), *joules(second)) == 0
    over_midnight = by_s < -60 and BEGIN + since + by_s < MIDNIGHT - 60 and BEGIN + since > MIDNIGHT + 60
    assert (first["jobs_low_uj"] is None) == over_midnight
    site.ask("--day", "2026-11-20")
    assert ("the clock was set back over an edge" in capsys.readouterr().out) == over_midnight


def test_points_that_are_gone_are_not_zero(site: Site, capsys: Captured) -> None:
    """After 95 days the first five are gone: not known, and the months after are as they were; all time balances."""
    hours = [line(t, read={"rapl": {"package-0": {"uj": 100 * t * J}}}) for t in range(0, 95 * 86400, 7200)]
    site.live(told_by(node(), hours, JOB), keep=False)
    for words in (["--day", "2026-11-20"], ["--day", "2026-11-22"], ["--month", "2026-11"]):
        found = site.told(capsys, *words)
        assert (found["books"][0]["measured_uj"], found["total"]["measured_uj"]) == (None, None)
        assert re.fullmatch(r"its points before 2026-11-2\d .* are not there any more", found["books"][0]["reason"])
    december = site.told(capsys, "--month", "2026-12")["books"][0]
    assert joules(december) == (31 * 86400 * 100, 0, 31 * 86400 * 100, 0, 0)
    assert site.told(capsys)["books"][0]["difference_uj"] == 0


def test_a_file_without_points_of_idle(site: Site, capsys: Captured) -> None:
    """An earlier release wrote none: nothing tells where to cut."""
    site.live(told_by(node(), reads())).node("node01").db.execute("DELETE FROM job_energy WHERE run = 'idle'")
    assert site.told(capsys, "--day", "2026-11-20")["books"][0]["reason"] == "its node wrote no points of it"


def test_a_meter_that_was_silent_all_day_is_not_zero(site: Site, capsys: Captured) -> None:
    """Memory that cannot be read since 23:00: the day after has no joules of it, and 2 h that are unknown."""
    lines = reads(dram_0=20)
    for one in lines:
        if one["t"] > 3600:
            one["read"]["rapl"]["dram-0"] = {"failed": "EIO"}
    site.live(told_by(node(), lines))
    dram = site.told(capsys, "--day", "2026-11-21")["books"][1]
    assert (dram["measured_uj"], dram["reason"], dram["unknown_s"]) == (None, "failed: EIO", 7200)


def test_an_outage_that_a_counter_bridges_was_none(site: Site, capsys: Captured) -> None:
    """Failed from 23:00 to 01:00: no second is unknown on either day, and what came is in the second."""
    lines = reads(dram_0=20)
    for one in lines:
        if 3600 < one["t"] < 10800:
            one["read"]["rapl"]["dram-0"] = {"failed": "EIO"}
    site.live(told_by(node(), lines))
    days = [site.told(capsys, "--day", day)["books"][1] for day in ("2026-11-20", "2026-11-21")]
    assert [one["unknown_s"] for one in days] == [0, 0]
    assert [joules(one)[0] for one in days] == [20 * 3600, 20 * 10800]


def test_nodes_alone(site: Site, capsys: Captured) -> None:
    """`--node` narrows days and the whole books; a name that has no file is a mistake."""
    for name in ("node01", "node02", "node03"):
        site.live(told_by(node(), reads(last=600)), name=name)
    for words in (["--day", "2026-11-20"], ["--month", "2026-11"], []):
        found = site.told(capsys, *words, "--node", "node03", "--node", "node01")
        assert {one["node"] for one in found["books"]} == {"node01", "node03"}
        assert site.ask(*words, "--node", "node04") == 2
        assert "'node04': the store has no file of it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--day", "2026-11-31"], ["--day", "2026-11"], ["--day", "20261120"], ["--day", "today"], ["--day", ""],
        ["--month", "2026-13"], ["--month", "2026-11-20"], ["--month", "\u0662\u0660\u0662\u0666-11"],
        ["--month", "9999-12"],
    ],
)  # fmt: skip
def test_what_is_no_day_or_month(site: Site, capsys: Captured, words: list[str]) -> None:
    """One line that names the option."""
    assert site.ask(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"jobimpact: {words[0]} {words[1]!r}: not a ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["--day", "2026-11-20", "--month", "2026-11"], ["--month", "2026-11", "--embodied", "2026"],
              ["--embodied", "2026", "--node", "node01"]]
)  # fmt: skip
def test_options_that_do_not_go_together(site: Site, words: list[str]) -> None:
    """Usage."""
    with pytest.raises(SystemExit, match="2"):
        site.ask(*words)


def test_a_store_that_is_not_there(site: Site, capsys: Captured) -> None:
    """Status 3."""
    (site.folder / "nodes").rmdir()
    assert site.ask("--day", "2026-11-20") == 3
    assert "No such file or directory" in capsys.readouterr().err


def test_a_file_that_cannot_be_read(site: Site, capsys: Captured) -> None:
    """It is told, the others are answered, and the status is 1: all is not proved."""
    site.live(told_by(node(), reads(last=600)))
    (site.folder / "nodes/node02.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 99)
    found = site.told(capsys, "--day", "2026-11-20", status=1)
    assert [one["node"] for one in found["books"]] == ["node01"]
    assert "node02.sqlite" in found["errors"][0]


@pytest.mark.parametrize(("results", "status"), [("nowhere/results.db", 0), ("nodes.yaml", 3)])
def test_results_that_are_not_there_or_no_results(tmp_path: Path, capsys: Captured, results: str, status: int) -> None:
    """Without results the books balance all the same; a file that is none is an error, and not no results."""
    site = Site(tmp_path, CONFIG.replace("results.db", results))
    site.live(told_by(node(), reads(last=600)))
    assert site.ask("--day", "2026-11-20") == status
    assert ("nodes.yaml" in capsys.readouterr().err) == (status == 3)
