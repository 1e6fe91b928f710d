"""Books of days under what a node's life does to them: odd rhythms, clocks set while a daemon starts, late windows."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from tests.accounting.test_books_by_day import (
    BEGIN,
    DAY_S,
    MIDNIGHT,
    J,
    end,
    line,
    live,
    node,
    span,
    start,
    sums,
    told_by,
)
from tests.daemon.books import Json
from tests.daemon.test_upgrade import old_file

from jobimpact.core.nodefile import node_file
from jobimpact.energy.books import NodeSpan
from jobimpact.energy.local import LocalEnergy


def days(folder: Path, name: str = "n1") -> tuple[NodeSpan, NodeSpan]:
    """The two days on both sides of midnight, of which each balances."""
    found = tuple(span(folder, name, at, at + DAY_S) for at in (MIDNIGHT - DAY_S, MIDNIGHT))
    for one in found:
        for each in one.lines:
            assert sums(each)[4] == 0, each
    return found[0], found[1]


def package(times: Sequence[float]) -> list[Json]:
    """Readings of 100 W at these times."""
    return [line(t, read={"rapl": {"package-0": {"uj": round(100 * t * J)}}}) for t in times]


@pytest.mark.parametrize("apart_s", [1.7, 4.9, 8.5])
def test_commits_at_any_time_can_be_cut_each_minute(tmp_path: Path, apart_s: float) -> None:
    """Marks commit when they come: all holders' points of a minute are in one commit with what was measured."""
    luck, times = random.Random(1), [0.0]
    while times[-1] < 10_000:
        times.append(times[-1] + luck.uniform(0.5, 1.5) * apart_s)
    live(tmp_path, "n1", told_by(node(), package(times), start(3000, "1")))
    with sqlite3.connect(node_file(tmp_path, "n1")) as db:
        cuts = [at_s for (at_s,) in db.execute("SELECT wall_s FROM job_energy WHERE run = 'idle' ORDER BY wall_s")]
    assert max(b - a for a, b in pairwise(cuts)) < 60 + 2 * apart_s
    before, after = days(tmp_path)
    assert before.lines[0].to_s == after.lines[0].from_s == max(at_s for at_s in cuts if at_s <= MIDNIGHT)


def test_a_job_that_began_later_by_the_clock_than_the_cut_at_which_it_ran(tmp_path: Path) -> None:
    """Set back by 25 s while the daemon starts anew: its first commit is stamped before the start of the job."""
    lines = told_by(node(), package([*range(0, 7171, 10), 7175, *range(7400, 9000, 10)]), start(7160, "1"))
    back = next(number for number, one in enumerate(lines) if one["t"] >= 7175)
    lines[back:] = [{**one, "wall": one["wall"] - 25} for one in lines[back:]]
    live(tmp_path, "n1", lines, restart_at=[back])
    before, after = days(tmp_path)
    assert before.lines[0].to_s == BEGIN + 7150
    assert [sums(one.lines[0])[1] for one in (before, after)] == [50 * 15 * J, 50 * (8990 - 7175) * J]
    assert before.lines[0].slack_uj == 0


def test_the_rest_of_a_job_that_ended_long_before_comes_two_growths_later(tmp_path: Path) -> None:
    """A window waits for a part until 23:59:10, the next one for the meter until after midnight."""
    lines = []
    for t in range(0, 14400, 10):
        part: Json = {"failed": "EIO"} if 6180 <= t < 7150 else {"uj": 100 * t * J}
        meter: Json = {"failed": "EIO"} if 6200 <= t < 7300 else {"uj": 350 * t * J}
        lines.append(line(t, read={"rapl": {"package-0": part}, "pmcounters": {"node": meter}}))
    live(tmp_path, "n1", told_by(node(), lines, start(6000, "1"), end(6700, "1")))
    before, after = days(tmp_path)
    [_, first], [_, second] = before.lines, after.lines
    assert (first.domain, sums(second)[1] > 0) == ("rest", True)
    whole = span(tmp_path, "n1", 0.0, MIDNIGHT + DAY_S)
    assert sums(first)[1] + sums(second)[1] == sums(whole.lines[1])[1]


def test_a_meter_is_not_set_against_parts_that_it_does_not_see(tmp_path: Path) -> None:
    """A plug of 350 W beside GPUs of 200 W with a supply of their own: open is a window at most, not 1.4 MJ below."""
    lines = []
    for t in range(0, 14400, 10):
        plug = {"w": 350.0, "excludes": ["gpu"], "latency_s": 1.0}
        lines.append(
            line(
                t,
                read={
                    "rapl": {"package-0": {"uj": 100 * t * J}},
                    "nvml": {"gpu:GPU-a": {"uj": 200 * t * J}},
                    "wattmeter": {"node": plug},
                },
            )
        )
    live(tmp_path, "n1", told_by(node(), lines))
    for day in days(tmp_path):
        [meter] = day.meters
        [rest] = [one for one in day.lines if one.kind == "rest"]
        assert meter.parts_uj == sums(day.lines[0])[0]
        assert meter.rest_uj == sums(rest)[0]
        assert meter.open_uj is not None
        assert 0 <= meter.open_uj <= 350 * 20 * J


@pytest.mark.parametrize("back_s", [86400, 40 * 86400])
def test_a_clock_that_was_far_ahead_when_the_node_s_books_began(tmp_path: Path, back_s: float) -> None:
    """Set back before its first point: nothing is gone, and the days sum to all that was measured."""
    lines = told_by(node(), package(range(0, 14401, 20)), start(5410, "1"), end(9010, "1"))
    live(tmp_path, "n1", [{**one, "wall": one["wall"] - back_s} if one["t"] >= 7210 else one for one in lines])
    edges = [0.0, *(MIDNIGHT + DAY_S * day for day in range(-42, 3))]
    parts = [sums(span(tmp_path, "n1", *pair).lines[0]) for pair in pairwise(edges)]
    assert [sum(column) for column in zip(*parts, strict=True)] == [1_440_000 * J, 180_000 * J, 1_260_000 * J, 0, 0]


def test_a_job_that_begins_a_moment_after_the_cut_has_nothing_of_the_day_before(tmp_path: Path) -> None:
    """Another ended a moment before: what it has at the cut lies between bounds, and is not shared with who came."""
    lines = told_by(node(), package(range(0, 9000, 10)), start(5000, "1"), end(7185, "1"), start(7215, "2"))
    live(tmp_path, "n1", lines)
    before, after = days(tmp_path)
    assert before.lines[0].slack_uj
    assert [(one.job, one.uj) for one in before.runs or ()] == [("1", 50 * 2185 * J)]
    assert [one.job for one in after.runs or ()] == ["2"]


@pytest.mark.parametrize("schema", [1, 2])
def test_a_file_of_an_earlier_schema_goes_on(tmp_path: Path, schema: int) -> None:
    """Its days are told or not known, and what comes after the upgrade balances and joins."""
    old_file(node_file(tmp_path, "n1"), schema)
    with LocalEnergy(tmp_path) as energy:
        [found], unread = energy.span(0.0, 4e9, ["n1"])
    assert not unread
    assert not any(sums(one)[4] for one in found.lines)
    lines = told_by(node("b9"), package(range(0, 14401, 20)))
    live(tmp_path, "n1", [{**one, "wall": one["wall"] + 100 * DAY_S} for one in lines])
    edges = [0.0, *(MIDNIGHT + at for at in (100 * DAY_S - 7300, 100 * DAY_S, 101 * DAY_S))]
    parts = [span(tmp_path, "n1", *pair) for pair in pairwise(edges)]
    whole = span(tmp_path, "n1", edges[0], edges[-1])
    package_0 = [one.lines[0] for one in (*parts, whole)]
    assert not any(sums(line)[4] for one in (*parts, whole) for line in one.lines)
    assert [sum(column) for column in zip(*map(sums, package_0[:-1]), strict=True)] == list(sums(package_0[-1]))
    assert sums(package_0[2])[0] == 720_000 * J
