"""The results: written once, however often; found by every word that a user knows a job by."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.accounting.world import T0, record

from jobimpact.core.errors import SchemaTooNewError, StoreError
from jobimpact.results.figures import expressions, figures_of
from jobimpact.results.read import Reader
from jobimpact.results.record import Entry, JobResult
from jobimpact.results.select import Selection, condition
from jobimpact.results.write import Counts, Results


def result(job: str = "1", joules: float | None = 5.0, **changes: Any) -> JobResult:
    found: dict[str, Any] = {"energy": {}, "impacts": {}, "factors": {}, "inventory": {}, "warnings": ()}
    return JobResult.of(record(job, **changes), energy_j=joules, coverage=1.0, **found)


def told(job: str) -> JobResult:
    """With numbers: some are known, some are not, and of one kind there is no part."""
    edges = {"low": 1.0, "central": 2.0, "high": 4.5}
    domains = {
        "cpu": {"energy_j": 3.25, "method": "counter+gauge"},
        "dram": {"energy_j": None, "method": None},
        "gpu": {"energy_j": 0.0, "method": "none held"},
    }
    return msgspec.structs.replace(
        result(job),
        impacts={"gwp_kgco2e": {"use": edges, "embodied": None, "total": None}, "pe_mj": {"use": edges}},
        energy={"domains": domains},
        factors={"version": "2026.2+x"},
    )


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/results.db"


def write(folder: Path, *results: JobResult, at: float = 1.0) -> Counts:
    writer = Results(url(folder))
    try:
        return writer.write([Entry(one, {}, ()) for one in results], at)
    finally:
        writer.close()


def found(folder: Path, job: str) -> list[str]:
    reader = Reader(url(folder))
    try:
        return [one.job_id for one in reader.find(job)]
    finally:
        reader.close()


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """Every field comes back, with its revision and when it was written."""
    given_ = result(name="caf\N{LATIN SMALL LETTER E WITH ACUTE} | \x1b[31m\n", nodes=("a", "b"), raw={"jobid": "1"})
    write(tmp_path, given_, at=77.0)
    [back] = Reader(url(tmp_path)).find("1")
    assert back == msgspec.structs.replace(given_, revision=1, accounted_s=77.0)


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    """Not even when the row was written."""
    assert write(tmp_path, result("1"), result("2")) == Counts(2, 0, 0)
    before = (tmp_path / "results.db").read_bytes()
    assert write(tmp_path, result("1"), result("2"), at=99.0) == Counts(0, 0, 2)
    with sqlite3.connect(tmp_path / "results.db") as db:
        assert db.execute("SELECT DISTINCT revision, accounted_s FROM job_result").fetchall() == [(1, 1.0)]
    assert len(before) == (tmp_path / "results.db").stat().st_size


def test_a_changed_row_is_replaced_and_counts_on(tmp_path: Path) -> None:
    """Only that row; its revision says that it is not the first."""
    write(tmp_path, result("1"), result("2"))
    assert write(tmp_path, result("1", joules=6.0), result("2"), result("3")) == Counts(1, 1, 1)
    reader = Reader(url(tmp_path))
    assert [(reader.find(job)[0].revision, reader.find(job)[0].energy_j) for job in "123"] == [(2, 6), (1, 5), (1, 5)]


@settings(deadline=None)  # how long a night takes is the machine's
@given(nights=st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=6), max_size=6))
def test_revisions_count_changes_and_nothing_else(
    nights: list[list[tuple[str, int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Over any order of nights, a row's revision is 1 + how often its content differed from what was there."""
    folder = tmp_path_factory.mktemp("results")
    content: dict[str, int] = {}
    revisions: dict[str, int] = {}
    for night in nights:
        write(folder, *(result(job, joules=float(joules)) for job, joules in night))
        for job, joules in night:
            if content.get(job) != joules:
                content[job] = joules
                revisions[job] = revisions.get(job, 0) + 1
    reader = Reader(url(folder))
    assert {job: one.revision for job in "abc" for one in reader.find(job)} == revisions
    reader.close()


def test_every_word_that_a_user_knows_a_job_by(tmp_path: Path) -> None:
    """Display ids, raw ids, an array's base and a heterogeneous job's leader."""
    write(
        tmp_path,
        result("21", job_id="6_0", array_id="6", key="21@1"),
        result("22", job_id="6_10", array_id="6", key="22@1"),
        result("6", job_id="6_3", array_id="6", key="6@1"),
        result("10", job_id="10+0", key="10@1"),
        result("11", job_id="10+1", key="11@1"),
        result("7"),
    )
    assert found(tmp_path, "6") == ["6_0", "6_3", "6_10"]
    assert found(tmp_path, "6_3") == ["6_3"]
    assert found(tmp_path, "21") == ["6_0"]
    assert found(tmp_path, "10") == ["10+0", "10+1"]
    assert found(tmp_path, "10+1") == ["10+1"]
    assert found(tmp_path, "7") == ["7"]
    assert found(tmp_path, "8' OR 1=1 --") == []


def test_incarnations_are_all_found_in_order(tmp_path: Path) -> None:
    """A requeued job has several rows under one id."""
    write(tmp_path, result("1", key="1@2", submit_s=T0 + 9, state="COMPLETED"), result("1", state="REQUEUED"))
    assert [one.state for one in Reader(url(tmp_path)).find("1")] == ["REQUEUED", "COMPLETED"]


def test_each_way_of_asking_goes_by_an_index(tmp_path: Path) -> None:
    """However many jobs there are, none is looked at in vain: SQLite's own plan has no scan."""
    write(tmp_path, result())
    with sqlite3.connect(tmp_path / "results.db") as db:
        where, parameters = condition(Selection(job="1"))
        plan = [
            row[3]
            for row in db.execute(f"EXPLAIN QUERY PLAN SELECT key FROM job_result WHERE {where}", parameters)  # noqa: S608
        ]
    searches = [step for step in plan if "job_result" in step]
    assert searches.pop(0) == "SEARCH job_result USING INTEGER PRIMARY KEY (rowid=?)"
    assert len(searches) == 4
    assert all(step.startswith("SEARCH job_result USING COVERING INDEX") for step in searches)


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_a_file_of_an_earlier_schema_is_read_and_brought_up(tmp_path: Path, schema: int) -> None:
    """A reader takes it as it is; a writer adds what is new, and leaves a copy of the file as it was."""
    five = told("5")
    write(tmp_path, five)
    gone = {1: ("exclusive", "off_books"), 2: ("off_books",), 3: ()}[schema]
    with sqlite3.connect(tmp_path / "results.db") as db:
        db.executescript("DROP TABLE job_profile; DROP TABLE mail; DROP INDEX job_result_by_account")
        gone += ("labels", "time_limit_s", *expressions())
        for column in gone:
            db.execute(f"ALTER TABLE job_result DROP COLUMN {column}")
        db.execute(f"PRAGMA user_version = {schema}")
    assert found(tmp_path, "5") == ["5"]
    write(tmp_path, result("6", off_books="deployed", labels={"model": "resnet50"}, time_limit_s=60.0))
    ((five,), (six,)) = (Reader(url(tmp_path)).find(job) for job in "56")
    assert (five.exclusive, five.off_books, six.off_books) == (False, None, "deployed")
    assert (five.labels, five.time_limit_s, six.labels, six.time_limit_s) == ({}, None, {"model": "resnet50"}, 60.0)
    with sqlite3.connect(tmp_path / "results.db") as db:
        figures = figures_of(told("5"))
        query = f"SELECT {', '.join(figures)} FROM job_result WHERE job_id = 5"  # noqa: S608 (ours)
        assert db.execute(query).fetchone() == tuple(figures.values())
    with sqlite3.connect(tmp_path / f"results.db.schema{schema}") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (schema,)


@pytest.mark.parametrize("open_", [Reader, Results])
def test_a_newer_release_s_file_is_left_alone(tmp_path: Path, open_: type[Reader | Results]) -> None:
    """Reader and writer refuse it with a clear word."""
    write(tmp_path, result())
    with sqlite3.connect(tmp_path / "results.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaTooNewError, match="newer release"):
        open_(url(tmp_path))


@pytest.mark.parametrize("open_", [Reader, Results])
def test_a_corrupt_file_is_named(tmp_path: Path, open_: type[Reader | Results]) -> None:
    """Not a traceback."""
    (tmp_path / "results.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match=r"results\.db"):
        open_(url(tmp_path))


@pytest.mark.parametrize("open_", [Reader, Results])
def test_somebody_else_s_database_is_refused(tmp_path: Path, open_: type[Reader | Results]) -> None:
    """No tables are added to it."""
    with sqlite3.connect(tmp_path / "results.db") as db:
        db.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreError, match="not"):
        open_(url(tmp_path))


def test_a_watermark_only_moves_on(tmp_path: Path) -> None:
    """An earlier night that ends later does not take it back."""
    writer = Results(url(tmp_path))
    assert writer.watermark("lab") is None
    for at in (10.0, 5.0):
        writer.set_watermark("lab", at)
    assert (writer.watermark("lab"), writer.watermark("other")) == (10.0, None)


def test_the_results_keep_a_rollback_journal(tmp_path: Path) -> None:
    """A group can read them without the right to write beside them."""
    write(tmp_path, result())
    with sqlite3.connect(tmp_path / "results.db") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert [path.name for path in tmp_path.iterdir()] == ["results.db"]
