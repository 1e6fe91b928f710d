"""The mirror says what the nodes' own files say, whatever was read when, and tells what did not come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.accounting.mirror_world import CLUSTER, Day, MemoryReader, ask, dump, keep_day
from tests.accounting.world import record
from tests.bench.store_day import jobs_of

from jobimpact.core.errors import StoreError
from jobimpact.core.records import JobEnergy
from jobimpact.core.series import JOB_ENERGY, JOB_RUN, NODE_BOOKS, NODE_DOMAIN, Measurement
from jobimpact.energy.local import LocalEnergy
from jobimpact.mirror.refresh import Mirror
from jobimpact.store.series import Row

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
    assert several.asked == one.asked == 2 * 10  # of two days


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


@settings(deadline=None, max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
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


# -- what a server may do ------------------------------------------------------------------------------------------


class Altered(MemoryReader):
    """Rows that are changed on their way, and an answer that breaks off."""

    def __init__(
        self, lines: Iterable[str], change: Callable[[Measurement, Row], list[Row]], breaks_at: int = 0
    ) -> None:
        super().__init__(lines)
        self._change = change
        self._breaks_at = breaks_at
        self._broken = 0

    def _changed(self, of: Measurement, rows: Iterable[Row]) -> Iterable[Row]:
        for number, row in enumerate(rows):
            self._broken += number == 1
            if number == 1 and self._broken == self._breaks_at:
                raise StoreError("the answer is cut short")
            yield from self._change(of, row)

    def rows(self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None) -> Any:
        return self._changed(of, super().rows(of, from_ms, to_ms, where))

    def latest(self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None) -> Any:
        return self._changed(of, super().latest(of, from_ms, to_ms, where))

    def edges(self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None) -> Any:
        return self._changed(of, super().edges(of, from_ms, to_ms, where))


def lines_of(site: Site) -> list[str]:
    return [line for lines in site.lines.values() for line in lines]


def untouched(_: Measurement, row: Row) -> list[Row]:
    return [row]


@pytest.mark.parametrize("at", range(1, 5))
def test_an_answer_that_breaks_off_leaves_nothing(hours: Site, tmp_path: Path, at: int) -> None:
    begin, end = WALL - 10, WALL + 7000
    mirrored(
        MemoryReader(line for lines in hours.lines.values() for line in lines[: len(lines) // 2]), tmp_path, begin, end
    )
    before = dump(tmp_path)
    with pytest.raises(StoreError, match="cut short"):
        mirrored(Altered(lines_of(hours), untouched, at), tmp_path, begin, end)
    assert dump(tmp_path) == before


STRANGE: dict[str, tuple[Measurement, dict[str, str], dict[str, Any]]] = {
    "a path": (NODE_BOOKS, {"node": "../../etc/cron.d/n1"}, {}),
    "no name": (NODE_BOOKS, {"node": ""}, {}),
    "a name of another": (NODE_DOMAIN, {"node": ".n1"}, {}),
    "another cluster": (NODE_DOMAIN, {"cluster": "elsewhere"}, {}),
    "a kind of its own": (NODE_DOMAIN, {"kind": "moon"}, {}),
    "no energy": (NODE_DOMAIN, {"node": "n3"}, {"energy_uj": None}),
    "less than nothing": (JOB_ENERGY, {"run": "7"}, {"energy_uj": -1}),
    "more than there is": (JOB_ENERGY, {"run": "7"}, {"energy_uj": 1 << 70}),
    "a word for a number": (JOB_ENERGY, {"run": "7"}, {"energy_uj": "1; DROP TABLE run"}),
    "a name that is ours": (JOB_ENERGY, {"run": "past"}, {}),
    "a run of that name": (JOB_RUN, {"run": "ahead"}, {}),
    "a state of its own": (JOB_RUN, {"run": "7"}, {"state": "asleep"}),
    "GPUs that are none": (JOB_RUN, {"run": "7"}, {"gpus": "GPU-1"}),
    "flags of rubbish": (JOB_RUN, {"run": "7"}, {"flags": "{"}),
    "over and without an end": (JOB_RUN, {"run": "7"}, {"state": "ended", "end_ms": None}),
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_row_that_is_none_is_told_and_left_out(hours: Site, tmp_path: Path, what: str) -> None:
    of, tags, fields = STRANGE[what]

    def change(measurement: Measurement, row: Row) -> list[Row]:
        if measurement != of:
            return [row]
        changed = {name: value for name, value in {**row.fields, **fields}.items() if value is not None}
        return [row, Row({**row.tags, **tags}, row.stamp_ms, changed)]

    mirrored(MemoryReader(lines_of(hours)), tmp_path / "plain", WALL - 10, WALL + 7000)
    told = mirrored(Altered(lines_of(hours), change), tmp_path / "deep" / "changed", WALL - 10, WALL + 7000)
    assert len(told) == 1
    assert told[0].startswith(f"{of.name} of the server: ")
    assert told[0].endswith(": left out")
    assert dump(tmp_path / "deep" / "changed") == dump(tmp_path / "plain")
    assert sorted(one.name for one in tmp_path.rglob("*.sqlite")) == [
        "n1.sqlite",
        "n1.sqlite",
        "n2.sqlite",
        "n2.sqlite",
    ]


def test_what_does_not_arrive_is_missed(hours: Site, tmp_path: Path) -> None:
    """The proof is one: a run whose last points are lost leaves a difference, which is told."""
    job = next(job.id for job in hours.jobs["n1"] if 1000 < job.end_s < 5000)
    kept = [line for line in lines_of(hours) if f",run={job}," not in line]
    told = mirrored(MemoryReader(kept), tmp_path, WALL - 10, WALL + 7000)
    assert len(told) == 1
    assert told[0].startswith("n1: what came of it does not balance: ")
    lost = dict(ask(hours.nodes / "n1.sqlite", f"SELECT domain, uj FROM ledger WHERE holder = '{job}' AND uj > 0"))  # noqa: S608
    with LocalEnergy(tmp_path) as energy:
        assert {one.domain: one.difference_uj for one in energy.books()[0] if one.difference_uj} == lost
    mirrored(MemoryReader(lines_of(hours)), tmp_path, WALL - 10, WALL + 7000)
    with LocalEnergy(tmp_path) as energy, LocalEnergy(hours.nodes) as nodes:
        assert energy.books() == nodes.books()


def test_what_ended_since_the_last_commit_of_all_is_a_job_s_already(hours: Site, tmp_path: Path) -> None:
    """Its energy is whole, and the books, which stand at that commit, still balance."""
    node, lines = "n1", hours.lines["n1"]
    ends = [at for at, line in enumerate(lines) if line.startswith("job_run,") and 'state="ended"' in line]
    stamps = [int(line.rpartition(" ")[2]) for line in lines]
    at = next(
        at
        for at in ends
        if not any(line.startswith("node_books") and stamps[n] == stamps[at] for n, line in enumerate(lines))
    )
    job = lines[at].partition(",run=")[2].partition(" ")[0]
    known = [line for line, stamp in zip(lines, stamps, strict=True) if stamp <= stamps[at]]
    assert mirrored(MemoryReader(known), tmp_path, WALL - 10, WALL + 7000) == []
    with LocalEnergy(tmp_path) as energy, LocalEnergy(hours.nodes) as nodes:
        # The rest is settled in windows: this run's last one comes later, on the node as well.
        mine, theirs = ([one for one in of.runs_of(job)[0][0].domains if one.kind != "rest"] for of in (energy, nodes))
        assert mine == theirs
        assert not any(one.difference_uj for one in energy.books([node])[0])
        assert not any(meter.settled and meter.settled.difference_uj for meter in energy.meters([node])[0])
        for day in (MIDNIGHT - 86400, MIDNIGHT):
            spans = energy.span(day, day + 86400, [node])[0]
            assert not any(line.sums and line.sums.difference_uj for one in spans for line in one.lines)
    ahead = ask(tmp_path / "n1.sqlite", "SELECT sum(uj) FROM ledger WHERE holder = 'ahead'")[0][0]
    assert ahead < 0
    mirrored(MemoryReader(lines), tmp_path, WALL - 10, WALL + 7000)
    assert ask(tmp_path / "n1.sqlite", "SELECT count(*) FROM ledger WHERE holder = 'ahead'") == [(0,)]


# -- a node's own file that is begun anew --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def anew(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str], list[str]]:
    """A node whose own file was lost after two hours: the two files, and what was sent from each."""
    folder = tmp_path_factory.mktemp("anew")
    found = []
    for number, begin in ((1, WALL), (2, WALL + 6100)):
        (folder / str(number)).mkdir()
        jobs = jobs_of(number, 8, 6000, gpus=2, mean_s=1500.0)
        found.append(keep_day(folder / str(number), Day("n1", jobs, begin), 6000))
    return folder / "1", folder / "2", found[0], found[1]


@pytest.mark.parametrize("steps", ["at once", "one by one", "the second first"])
def test_a_file_that_is_begun_anew_adds_to_what_was(
    anew: tuple[Path, Path, list[str], list[str]], tmp_path: Path, steps: str
) -> None:
    first, second, before, after = anew
    end = WALL + 13_000
    reader = MemoryReader()
    told = []
    if steps == "one by one":
        reader.take(before)
        assert mirrored(reader, tmp_path, WALL - 10, WALL + 6100) == []
    if steps != "the second first":
        reader.take(before)
    reader.take(after)
    told = mirrored(reader, tmp_path, WALL - 10, end)
    once = dump(tmp_path)
    if steps == "the second first":
        assert told == []
        reader.take(before)
        assert mirrored(reader, tmp_path, WALL - 10, end) == [
            "n1: its books were begun anew before its mirror was: what they said before is not mirrored"
        ]
        assert dump(tmp_path) == once
        with LocalEnergy(tmp_path) as energy, LocalEnergy(second) as nodes:
            assert energy.books() == nodes.books()
        return
    assert told == ["n1: its books were begun anew: what they had before is added to what they say now"]
    for again in range(2):
        with LocalEnergy(tmp_path) as energy, LocalEnergy(first) as one, LocalEnergy(second) as other:
            sums = [[sums_of(book) for book in of.books()[0]] for of in (energy, one, other)]
            assert sums[0] == [tuple(map(sum, zip(a, b, strict=True))) for a, b in zip(sums[1], sums[2], strict=True)]
            assert not any(meter.settled and meter.settled.difference_uj for meter in energy.meters()[0])
            for number, own in ((1, one), (2, other)):
                for job in jobs_of(number, 8, 6000, gpus=2, mean_s=1500.0):
                    mine, theirs = energy.runs_of(job.id)[0][0], own.runs_of(job.id)[0][0]
                    assert mine.domains == theirs.domains
                    assert sum(uj for _, uj in mine.hours) == sum(uj for _, uj in theirs.hours)
                    if number == 1 and theirs.state == "open":
                        assert mine.state == "lost"
            for day in (MIDNIGHT - 86400, MIDNIGHT):
                assert not any(
                    line.sums and (line.sums.difference_uj or min(line.sums.each()) < 0)
                    for span in energy.span(day, day + 86400)[0]
                    for line in span.lines
                )
        if not again:
            assert mirrored(reader, tmp_path, WALL + 9000, end) == []
            assert dump(tmp_path)["n1.ledger"] == once["n1.ledger"]


def sums_of(book: Any) -> tuple[int, ...]:
    return (book.measured_uj, book.jobs_uj, book.idle_uj, book.system_uj)


def test_a_clock_that_was_set_back_is_no_file_begun_anew(
    anew: tuple[Path, Path, list[str], list[str]], tmp_path: Path
) -> None:
    """Sums fall by their stamps there, too; all energies are whole once the clock is past where it was."""
    first, _, lines, _ = anew
    set_back = WALL + 3000
    moved = []
    for line in lines:
        head, _, stamp = line.rpartition(" ")
        at = int(stamp)
        moved.append(f"{head} {at - (1_000_000 if at > set_back * 1000 else 0)}")
    with LocalEnergy(first) as nodes:
        wanted = nodes.books()
    assert mirrored(MemoryReader(moved), tmp_path, WALL - 10, WALL + 7000) == []
    with LocalEnergy(tmp_path) as energy:
        assert energy.books() == wanted
