"""The results' page: its columns are the table's, and its questions have the answers that it says."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.accounting.period_world import DAY, MONTH, Jobs

from jobimpact.results.figures import KINDS, NUMBERS
from jobimpact.results.record import SCHEMA
from jobimpact.results.tables import job_result

PAGE = (Path(__file__).parents[2] / "docs/admin/results.md").read_text(encoding="utf-8")
MODELS, LAB = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
INTERNAL = {"exclusive", "off_books", "digest"}


def test_every_column_of_a_job_is_named() -> None:
    """As code, in the section's table."""
    section = PAGE.split("\n## job_result\n")[1].split("\n## ")[0]
    spelled = {*NUMBERS, *(f"{kind}_method" for kind in KINDS)}
    assert {found.name for found in job_result.columns} - INTERNAL - spelled <= set(re.findall(r"`(\w+)`", section))
    words = {word for name in spelled for word in name.split("_")} - {"j", "method"}
    assert words <= set(re.findall(r"`(\w+)`", section))
    assert {"gwp_total_central", "pe_use_high", "cpu_j", "cpu_method"} <= {*re.findall(r"`(\w+)`", section)} & spelled
    assert f"number, {SCHEMA} now" in PAGE


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two models and a job of none, of this month; one of the month before; one that never ran."""
    jobs = Jobs(tmp_path)
    labels = {"model": "resnet50", "steps": "100"}
    jobs.add(joules=3.6e6, labels=labels)
    jobs.add(joules=7.2e6, labels=labels, user="bob")
    jobs.add(joules=3.6e6, labels=labels, state="FAILED", exit_code="1:0")
    jobs.add(joules=None, labels=labels, impacts={"gwp_kgco2e": {"total": None}})
    jobs.add(joules=3.6e6, labels={"model": "bert", "steps": "many"})
    jobs.add(joules=1.0)
    jobs.add(joules=3.6e6, labels=labels, at_s=MONTH - DAY, account="vision", coverage=0.5)
    jobs.add(joules=0.0, labels=labels, state="CANCELLED", start_s=None)
    jobs.write()
    return jobs.world.results


def test_what_each_model_took(results: Path) -> None:
    """Steps are of jobs that completed and were measured as a whole; what was not measured is counted."""
    with closing(sqlite3.connect(results)) as db:
        found = db.execute(MODELS).fetchall()
    assert found == [("resnet50", 5, 1, 5.0, pytest.approx(10.8e6 / 200)), ("bert", 1, 0, 1.0, None)]


def test_a_labs_month_by_user(results: Path) -> None:
    """Only that lab's, of that month, that ran; a GWP that is not known is counted, and not 0."""
    with closing(sqlite3.connect(results)) as db:
        found = {user: (jobs, kgco2e, unknown) for user, jobs, kgco2e, unknown in db.execute(LAB)}
        (each,) = db.execute("SELECT json_extract(impacts, '$.gwp_kgco2e.total.central') FROM job_result LIMIT 1")
    assert found == {"alice": (5, pytest.approx(4 * each[0]), 1), "bob": (1, pytest.approx(each[0]), 0)}
