"""What users write, by the columns that it takes on a screen and in cells: never longer, and never more than text."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.report.stories import stories

from jobimpact.answers.query import Details, Group
from jobimpact.core.config import Findings
from jobimpact.core.records import Progress
from jobimpact.findings.judge import of_job
from jobimpact.report.columns import cut, width_of, wrap
from jobimpact.report.csv import comma_separated
from jobimpact.report.group import group_view
from jobimpact.report.job import job_view
from jobimpact.report.mail_body import group_subject, job_subject
from jobimpact.report.text import group_text, job_text
from jobimpact.report.words import clean
from jobimpact.results.sums import sums_of

LONG = (
    "train_resnet50_imagenet_lr0.1_bs256_warmup5_seed42_mixup0.2_ema_ablation_17_rerun_final2",
    "日本語の学習ジョブ" * 20,
    "แก้ปัญหา" * 30,
    "😀" * 200,
    "e\u0301" * 90,
    "שלום עולם " * 40,
    "a" * 10_000,
)
"""Names without a blank where a line could break, and of characters that take two columns, or none."""


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("日本", 4), ("e\u0301", 1), ("ก็", 1), ("😀", 2), ("ﬁ", 1), ("\uff21", 2), ("", 0)],
)
def test_what_a_text_takes_on_a_screen(text: str, columns: int) -> None:
    """As terminals show it."""
    assert width_of(text) == columns


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 10, "short"),
        ("exactly ten", 11, "exactly ten"),
        ("exactly_eleven", 11, "exactly_..."),
        ("日本語日本語", 9, "日本語..."),
        ("日本語日本語", 10, "日本語..."),
        ("e\u0301e\u0301e\u0301e\u0301e\u0301", 4, "e\u0301..."),
        ("a  b\n c", 9, "a b c"),
        ("a" + "\u0301" * 10_000, 10, "a" + "\u0301" * 16 + "..."),
    ],
)
def test_a_text_is_cut_where_its_columns_end(text: str, width: int, shown: str) -> None:
    """Its beginning stays, of one long word too, and marks stay with what they stand on."""
    assert cut(text, width) == shown


@given(st.text(max_size=300), st.integers(20, 90))
@example("日本語 " * 40, 40)
@example("x" + "日" * 200, 21)
def test_nothing_is_lost_between_lines(text: str, width: int) -> None:
    """Each line within its columns, and all words in them."""
    plain = clean(text)
    lines = wrap(plain, width, "  ", "    ")
    assert all(width_of(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(plain.split())


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("story", ["crash", "good", "array_300"])
def test_whatever_users_write_stays_within_80_columns(name: str, story: str) -> None:
    """In each place that has their words, and its beginning is told."""
    told = stories()[story]
    changes = {"name": name, "user": name, "account": name, "partition": name, "exit_code": name, "cluster": name}
    jobs = tuple(msgspec.structs.replace(one, **changes, labels={"model": name, name: name}) for one in told.jobs)
    if story == "array_300":
        view = group_view(Group("200", jobs, sums_of(jobs)))
        text, subject = group_text(view, cluster=True), group_subject(view)
    else:
        details = Details(progress=(Progress(1.0, 1, {name: 0.1}, 1), Progress(2.0, 2, {name: 0.2}, 9)))
        of_it = job_view(jobs[0], findings=of_job(jobs[0], Findings()), details=details)
        text, subject = job_text(of_it, cluster=True), job_subject(of_it)
    assert max(map(width_of, text.splitlines())) <= 80
    second = text.splitlines()[1]
    assert second.strip().startswith(clean(name).split()[0][:12])
    assert clean(name).split()[0][:12] in subject


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1+1", "\t=1+1", "\r\n=1+1", "\uff1d1+1", "\uff20SUM"]
)
def test_no_cell_of_a_users_text_is_a_formula(name: str) -> None:
    """Nor by a wide character, nor after blanks; what is none stays as it is."""
    told = stories()["good"].job
    cells = {}
    for text in (name, "train=1"):
        one = msgspec.structs.replace(told, name=text, user=text, account=text, partition=text)
        (row,) = csv.DictReader(io.StringIO("".join(comma_separated([one])), newline=""))
        cells[text] = [row[column] for column in ("name", "user", "account", "partition")]
    assert all(cell.startswith("'") for cell in cells[name])
    assert set(cells["train=1"]) == {"train=1"}
