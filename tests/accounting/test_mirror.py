"""The mirror says what the nodes' own files say, whatever was read when, and tells what did not come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.accounting.mirror_world import CLUSTER, Day, MemoryReader, ask, dump, keep_day
from tests.accounting.world import record
from tests.bench.store_day import jobs_of

from jobimpact.core.records import JobEnergy
from jobimpact.energy.local import LocalEnergy
from jobimpact.energy.mirror import Mirror

WALL = 1795208400.0 - 300.0
"""2026-11-20, 20:55 UTC: the night falls within."""
LASTS = 5 * 3600
MIDNIGHT = 1795219200
NOW = WALL + LASTS + 100
HOUR = 3600
MS_UJ = 2_000 * 1000
"""A stamp is of milliseconds: at a full hour, so much of 2 kW."""


class Site:
    """Two nodes' own files, and what they have sent."""

    def __init__(self, folder: Path, lasts: int = LASTS) -> None:
        self.nodes = folder / "nodes"
        self.nodes.mkdir()
        self.jobs = {f"n{one}": jobs_of(one, 14, lasts, gpus=2, mean_s=3000.0) for one in (1, 2)}
        self.lines = {node: keep_day(self.nodes, Day(node, jobs, WALL), lasts) for node, jobs in self.jobs.items()}

    def ids(self) -> list[str]:
        return [job.id for jobs in self.jobs.values() for job in jobs]

    def reader(self) -> MemoryReader:
        return MemoryReader(line for lines in self.lines.values() for line in lines)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The same, of less than two hours."""
    return Site(tmp_path_factory.mktemp("hours"), 6000)


def mirrored(reader: Any, folder: Path, from_s: float = WALL - 10, to_s: float = NOW) -> list[str]:
    with Mirror(reader, folder, CLUSTER) as mirror:
        return mirror.refresh(from_s, to_s)


@pytest.fixture(scope="module")
def mirror(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    assert mirrored(site.reader(), folder) == []
    return folder


def of_jobs(energy: LocalEnergy, site: Site) -> dict[str, JobEnergy]:
    found = {}
    for node, jobs in site.jobs.items():
        for job in jobs:
            start, end = WALL + job.start_s, WALL + job.end_s
            said = record(job.id, nodes=(node,), start_s=start, end_s=end, elapsed_s=end - start)
            found[job.id] = energy.job_energy(said)
    return found


QUESTIONS: dict[str, Callable[[LocalEnergy, Site], Any]] = {
    "books": lambda energy, _: energy.books(),
    "meters": lambda energy, _: energy.meters(),
    "ended": lambda energy, _: energy.ended(WALL, NOW),
    "idle_hours": lambda energy, _: energy.idle_hours(WALL, NOW),
    "node_hours": lambda energy, _: energy.node_hours(lambda _: WALL, NOW),
    "the day before": lambda energy, _: energy.span(MIDNIGHT - 86400, MIDNIGHT),
    "the day after": lambda energy, _: energy.span(MIDNIGHT, MIDNIGHT + 86400),
    "the month": lambda energy, _: energy.span(1793491200, 1796083200),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_mirror_says_what_the_nodes_say(site: Site, mirror: Path, question: str) -> None:
    with LocalEnergy(site.nodes) as nodes, LocalEnergy(mirror) as found:
        wanted = QUESTIONS[question](nodes, site)
        assert wanted[0]
        assert QUESTIONS[question](found, site) == wanted


@pytest.mark.parametrize("by_record", [True, False])
def test_every_job_has_what_it_has(site: Site, mirror: Path, by_record: bool) -> None:
    """To the microjoule; in its hours to what a millisecond of a stamp is worth."""
    with LocalEnergy(site.nodes) as nodes, LocalEnergy(mirror) as found:
        if by_record:
            pairs = list(zip(of_jobs(nodes, site).values(), of_jobs(found, site).values(), strict=True))
            there = [(one, other) for was, now in pairs for one, other in zip(was.runs, now.runs, strict=True)]
            assert all(was.missing == now.missing for was, now in pairs)
        else:
            both = [(nodes.runs_of(job), found.runs_of(job)) for job in site.ids()]
            assert all(was[1] == now[1] == [] for was, now in both)
            there = [(one, other) for was, now in both for one, other in zip(was[0], now[0], strict=True)]
    assert len(there) == len(site.ids())
    assert any(run.state == "open" for run, _ in there)
    assert any(len(run.hours) > 1 for run, _ in there)
    for was, now in there:
        assert msgspec.structs.replace(now, hours=()) == msgspec.structs.replace(was, hours=())
        assert [hour for hour, _ in now.hours] == [hour for hour, _ in was.hours]
        assert sum(uj for _, uj in now.hours) == sum(uj for _, uj in was.hours)
        assert all(abs(one - other) <= MS_UJ for (_, one), (_, other) in zip(now.hours, was.hours, strict=True))


def test_a_day_s_questions_are_few_however_many_jobs_there_are(site: Site, tmp_path: Path) -> None:
    several = site.reader()
    mirrored(several, tmp_path / "many")
    one = MemoryReader(site.lines["n1"])
    mirrored(one, tmp_path / "few")
    assert several.asked == one.asked == 2 * 8  # of two days


def test_what_came_before_the_mirror_is_the_past_s(site: Site, tmp_path: Path) -> None:
    """Books balance from its first commit on; energies are whole, and hours are known where their points are."""
    begin = WALL + 2 * HOUR
    assert mirrored(site.reader(), tmp_path, begin) == []
    with LocalEnergy(site.nodes) as nodes, LocalEnergy(tmp_path) as found:
        books, wanted = found.books()[0], nodes.books()[0]
        assert books == wanted
        assert not any(one.difference_uj for one in books)
        for day in (MIDNIGHT - 86400, MIDNIGHT):
            assert all(
                not line.sums or not line.sums.difference_uj
                for one in found.span(day, day + 86400)[0]
                for line in one.lines
            )
        assert found.span(MIDNIGHT, MIDNIGHT + 86400) == nodes.span(MIDNIGHT, MIDNIGHT + 86400)
        known = 0
        for job in site.ids():
            was, now = nodes.runs_of(job)[0][0], found.runs_of(job)[0]
            if not now:
                assert (was.end_s or NOW) < begin
                continue
            assert now[0].domains == was.domains
            known += bool(now[0].hours)
            if was.start_s < begin - HOUR - 3600:
                assert now[0].hours == ()
        assert known > 3
    past = ask(tmp_path / "n1.sqlite", "SELECT sum(uj) FROM ledger WHERE holder = 'past'")[0][0]
    gone = ask(site.nodes / "n1.sqlite", "SELECT run FROM run")
    kept = {run for (run,) in ask(tmp_path / "n1.sqlite", "SELECT run FROM run")}
    sums = dict(ask(site.nodes / "n1.sqlite", "SELECT holder, sum(uj) FROM ledger GROUP BY holder"))
    assert past == sum(sums[run] for (run,) in gone if run not in kept) > 0


def test_a_mirror_that_is_read_further_back_is_the_same_as_one_that_began_there(
    site: Site, mirror: Path, tmp_path: Path
) -> None:
    mirrored(site.reader(), tmp_path, WALL + 3 * HOUR)
    assert dump(tmp_path) != dump(mirror)
    mirrored(site.reader(), tmp_path, WALL - 10)
    assert dump(tmp_path) == dump(mirror)


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_any_way_to_read_ends_the_same(
    hours: Site, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """In pieces, again and again, over each other, with nodes whose points come late and out of step."""
    folder = tmp_path_factory.mktemp("any")
    mirrored(hours.reader(), folder / "once", WALL - 10, WALL + 7000)
    reader = MemoryReader()
    sent = dict.fromkeys(hours.lines, 0)
    for _ in range(data.draw(st.integers(1, 6), "rounds")):
        for node, lines in hours.lines.items():
            more = data.draw(st.integers(0, len(lines)), f"sent by {node}")
            reader.take(lines[sent[node] : more])
            sent[node] = max(sent[node], more)
        begin, end = (data.draw(st.floats(-100, 7000), name) for name in ("from", "to"))
        mirrored(reader, folder / "often", WALL + begin, WALL + end)
        if (folder / "often").exists():
            with LocalEnergy(folder / "often") as energy:
                assert not any(one.difference_uj for one in energy.books()[0])
    for node, lines in hours.lines.items():
        reader.take(lines[sent[node] :])
    mirrored(reader, folder / "often", WALL - 10, WALL + 7000)
    assert dump(folder / "often") == dump(folder / "once")
    mirrored(reader, folder / "often", WALL + 5000, WALL + 7000)
    assert dump(folder / "often") == dump(folder / "once")
