"""Which jobs a window has: by when they ended, and by when OAR was done with them."""

from __future__ import annotations

import random

import pytest
from tests.accounting.oar.site import T0, Site

DAY = 86400
LATE = "Waiting 0-1, Running 1-{end}, Finishing {end}-{final}, Terminated {final}"


def ids(site: Site, low: int, high: int) -> list[int]:
    """Of the jobs of a window, in seconds after T0."""
    found = site.records().finished(T0 + low, T0 + high)
    assert found.problems == ()
    return [int(one.job_id) for one in found.records]


@pytest.mark.parametrize(
    ("end", "final", "found"),
    [
        (99, 99, False),
        (100, 100, True),
        (200, 200, True),
        (200, 300, True),
        (201, 201, False),
        (50, 100, True),
        (50, 200, True),
        (50, 300, False),
        (150, 150 + 20 * 3600, True),
        (150, 150 + 20 * DAY, True),
    ],
)
def test_by_the_end_or_by_being_done(site: Site, end: int, final: int, found: bool) -> None:
    """Both edges are inclusive. A job that was Finishing at the last night, or whose node had died, comes late."""
    site.job(1, LATE.format(end=end, final=final), [1])
    assert ids(site, 100, 200) == ([1] if found else [])


def test_one_whose_stop_is_written_late(site: Site) -> None:
    """A long epilogue: it left its nodes in the window, and everything else of it came afterwards."""
    site.job(1, "Waiting 0-1, Running 1-150, Finishing 150-260, Terminated 260", [1], stop_time=250)
    assert ids(site, 100, 200) == [1]


def test_one_that_is_finishing_is_not_finished(site: Site) -> None:
    """It is in the window of a later night."""
    site.job(1, "Waiting 0-1, Running 1-150, Finishing 150", [1], stop_time=150)
    assert ids(site, 0, 1000) == []


def test_a_deleted_job_without_any_time_is_found_by_the_log(site: Site) -> None:
    """It waited, and OAR wrote neither a start nor a stop."""
    site.job(1, "Waiting 0-150, Error 150")
    assert ids(site, 100, 200) == [1]
    assert ids(site, 0, 100) == []


def test_one_without_any_log_is_found_by_its_stop(site: Site) -> None:
    """Logs may have been cleared away: then it is not known that it ever ran."""
    site.job(1, "Waiting 0-1, Running 1-150, Terminated 150", [1])
    site.db.execute("DELETE FROM job_state_logs")
    [record] = site.records().finished(T0, T0 + 1000).records
    assert (record.start_s, record.end_s, record.nodes) == (None, T0 + 150, ())


def test_an_empty_database_has_no_jobs(site: Site) -> None:
    """And that is no error."""
    assert ids(site, 0, DAY) == []
    assert site.records().running(T0).records == ()


def fill(site: Site, seed: int) -> list[tuple[int, int]]:
    """Jobs over ten days, their log in the disorder of late commits. Gives end and final time of each."""
    lots = random.Random(seed)
    edges = []
    for job in range(1, 151):
        end = lots.randrange(1000, 10 * DAY)
        final = end + lots.choice([0, 1, 5, 700, 90000])
        site.job(job, f"Running {end - 900}-{end}, Terminated {final}", [1], stop_time=end)
        edges.append((end, final))
    rows = site.db.execute("SELECT job_id, job_state, date_start, date_stop FROM job_state_logs").fetchall()
    rows.sort(key=lambda row: row[2] + lots.randrange(-1500, 1500))
    rows[80:80] = [(9999, "Waiting", 0, 0), (9999, "Error", -5, 0)]
    site.db.execute("TRUNCATE job_state_logs")
    with site.db.cursor().copy("COPY job_state_logs FROM STDIN") as copy:
        number = 0
        for row in rows:
            number += lots.choice([1, 1, 1, 2, 1000, 10**6])
            copy.write_row((number, *row))
    return edges


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_missed_in_a_log_out_of_order(site: Site, seed: int) -> None:
    """Ids with gaps, rows without a date, neighbours swapped: the same jobs as by looking at every one."""
    edges = fill(site, seed)
    lots = random.Random(seed)
    for _ in range(8):
        low = lots.randrange(0, 10 * DAY)
        high = low + lots.choice([0, 60, DAY, 3 * DAY])
        expected = [job for job, at in enumerate(edges, 1) if any(low <= one <= high for one in at)]
        assert ids(site, low, high) == expected


def test_a_row_that_was_committed_late(site: Site) -> None:
    """Its id was given out before that of an earlier moment."""
    site.job(1, "Running 10-50, Terminated 100", [1], stop_time=50)
    site.db.execute("DELETE FROM job_state_logs WHERE job_state = 'Terminated'")
    site.db.execute("UPDATE job_state_logs SET job_state_log_id = 1")
    for number, job, at in ((2, 1, 100), (3, 9, 94), (4, 9, 200), (5, 9, 210)):
        row = {"job_state_log_id": number, "job_id": job, "date_start": T0 + at, "date_stop": 0}
        site.put("job_state_logs", job_state="Terminated", **row)
    assert ids(site, 95, 150) == [1]


def test_more_jobs_than_a_page(site: Site) -> None:
    """Each once, in the order of their ids."""
    site.job(1, resources=[1])
    tables = {
        "jobs": "job_id",
        "moldable_job_descriptions": "moldable_id",
        "assigned_resources": "moldable_job_id",
    }
    for table, key in tables.items():
        columns = [row[0] for row in site.db.execute(f"SELECT * FROM {table} LIMIT 0").description or ()]  # noqa: S608
        numbered = {key, "array_id", "assigned_moldable_job", "moldable_job_id"}
        wanted = ", ".join("n" if name in numbered else name for name in columns)
        site.db.execute(f"INSERT INTO {table} SELECT {wanted} FROM {table}, generate_series(2, 2500) n")  # noqa: S608
    site.db.execute(
        "INSERT INTO job_state_logs (job_id, job_state, date_start, date_stop) "
        "SELECT n, job_state, date_start, date_stop FROM job_state_logs, generate_series(2, 2500) n"
    )
    found = site.records().finished(T0, T0 + DAY).records
    assert [int(one.job_id) for one in found] == list(range(1, 2501))
    assert {(one.start_s, one.nodes, one.raw["moldable_walltime"]) for one in found} == {(T0 + 4, ("n1",), "3600")}


HELD = {
    "Waiting 0": None,
    "Waiting 0-1, toLaunch 1-2, Launching 2": None,
    "Waiting 0-1, Running 1-50, Terminated 50": None,
    "Waiting 0-1, Running 1-50, Finishing 50": None,
    "Waiting 0-1, Running 150": None,
    "Waiting 0-1, Running 1": ("RUNNING", None, None),
    "Waiting 0-1, Running 1-20, Suspended 20": ("SUSPENDED", None, None),
    "Waiting 0-1, Running 1-20, Suspended 20-30, Resuming 30": ("SUSPENDED", None, None),
    "Waiting 0-1, Running 1-150, Finishing 150": ("COMPLETING", 150, 149),
    "Waiting 0-1, Running 1-150, Terminated 150": ("COMPLETED", 150, 149),
}


def test_a_planned_start_after_the_true_one(site: Site) -> None:
    """OAR rounds it up."""
    site.job(1, "Waiting 0-1, Running 99", [1], start_time=101)
    assert [one.job_id for one in site.records().running(T0 + 100).records] == ["1"]


@pytest.mark.parametrize("log", HELD)
def test_who_held_nodes_at_a_time(site: Site, log: str) -> None:
    """Whoever had begun and not left, ended since or not; who only waits, or is being launched, runs nothing yet."""
    site.job(1, log, [1], start_time=None if log == "Waiting 0" else 1, exit_code=0)
    found = site.records().running(T0 + 100)
    expected = HELD[log]
    assert found.problems == ()
    assert [(one.state, one.end_s, one.elapsed_s, one.nodes) for one in found.records] == (
        [] if expected is None else [(expected[0], expected[1] and T0 + expected[1], expected[2], ("n1",))]
    )
