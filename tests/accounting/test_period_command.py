"""`jobimpact report`: its text, document, page and mail, of good names and hostile ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.accounting.period_world import DAY, MONTH, Jobs, many

from jobimpact.answers.period import period
from jobimpact.answers.query import PeriodQuery, Who
from jobimpact.cli.main import main
from jobimpact.cli.report import span_of
from jobimpact.core.errors import ConfigError
from jobimpact.report.mail_body import Foot
from jobimpact.report.numbers import energy
from jobimpact.report.period import period_view
from jobimpact.report.period_mail import period_mail
from jobimpact.report.period_page import period_page
from jobimpact.results.read import Reader

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "period-1.json").read_text(encoding="utf-8"))
LABS = 'labs: {nlp: {name: "Language", heads: [root]}}\n'
HOSTILE = [
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "a\r\nBcc: all@example.org",
    "' OR 1=1 --",
    "\u202egnp.exe",
    "日本語" * 30,
    "{{ 7777*7 }}{% raw %}",
    "x" * 500,
]
Captured = pytest.CaptureFixture[str]


def told(jobs: Jobs, capsys: Captured, *words: str) -> str:
    assert main(["report", "--config", str(jobs.world.config_file), *words]) == 0
    return capsys.readouterr().out


def view_of(jobs: Jobs, name: str, of: Any = "user") -> Any:
    reader = Reader(jobs.world.config.results)
    query = PeriodQuery(of=of, name=name, from_s=MONTH, to_s=MONTH + 30 * DAY)
    found = period(reader, query, Who(0, "root", admin=True), jobs.world.config)
    reader.close()
    return period_view(found)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("whose", [("-u", "alice"), ("-A", "nlp"), ("--cluster",)])
@pytest.mark.parametrize(
    "when", [("--month", "2026-11"), ("--year", "2026"), ("-S", "2026-11-03", "-E", "2026-11-20T12:00")]
)
def test_text_and_document(
    tmp_path: Path, capsys: Captured, seed: int, whose: tuple[str, ...], when: tuple[str, ...]
) -> None:
    """The text fits a terminal; the document fits its schema, and tells the sum that the text rounds."""
    jobs = Jobs(tmp_path, LABS)
    many(jobs, seed, 150)
    jobs.write()
    text = told(jobs, capsys, *whose, *when)
    assert max(map(len, text.splitlines())) <= 80
    assert text.isprintable() or set(filter(lambda one: not one.isprintable(), text)) == {"\n"}
    document = json.loads(told(jobs, capsys, *whose, *when, "--json"))
    jsonschema.validate(document, SCHEMA)
    joules = document["period"]["sums"]["energy_j"]
    mine = [row for row in jobs.rows if whose[0] == "--cluster" or whose[1] in {row.user, row.account}]
    from_s, to_s = (moment(document["period"][edge]) for edge in ("from", "to"))
    known = [row.energy_j for row in mine if row.energy_j is not None and from_s <= (row.end_s or 0) < to_s]
    assert joules == pytest.approx(sum(known))
    assert energy(joules) in text


def moment(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_each_face(tmp_path: Path, capsys: Captured, name: str) -> None:
    """No control character, no tag, no header comes out of a user's, a lab's, a model's or a job's name."""
    jobs = Jobs(tmp_path, LABS)
    for user in ("alice", name):
        jobs.add(user, 5e6, state="FAILED", name=name, account="nlp", partition=name, labels={"model": name})
        jobs.add(user, 6e6, MONTH + 5 * DAY, name=name, account="nlp")
    jobs.write()
    text = told(jobs, capsys, "-A", "nlp", "--month", "2026-11")
    assert "Language" in text
    assert set(filter(lambda one: not one.isprintable(), text)) == {"\n"}
    jsonschema.validate(json.loads(told(jobs, capsys, "-A", "nlp", "--month", "2026-11", "--json")), SCHEMA)
    view = view_of(jobs, "nlp", "lab")
    mail = period_mail(view, Foot("why", link="https://example.org/"))
    assert mail.subject.isprintable()
    for page in (period_page(view), mail.html):
        tags = _Tags()
        tags.feed(page)
        assert not [tag for tag, _ in tags.found if tag in {"script", "img", "iframe", "link", "object"}]
        assert not [key for _, given in tags.found for key in given if key.startswith("on")]
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "54439" not in page


def test_a_page_is_one_file(tmp_path: Path, capsys: Captured) -> None:
    """It loads nothing, and has what the text has."""
    jobs = Jobs(tmp_path, LABS)
    many(jobs, 5, 120)
    jobs.write()
    file = tmp_path / "page.html"
    assert told(jobs, capsys, "-u", "alice", "--month", "2026-11", "--html", str(file)) == ""
    page = file.read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(page)
    assert not [given for _, given in tags.found if {"src", "href"} & set(given)]
    ids = [given["id"] for _, given in tags.found if "id" in given]
    assert len(ids) == len(set(ids))
    assert {given["aria-labelledby"] for _, given in tags.found if "aria-labelledby" in given} <= set(ids)
    view = view_of(jobs, "alice")
    for said in (view.total_kwh, view.method, *view.trend, *(one.job for one in view.most)):
        assert said.replace("'", "&#39;").replace("<", "&lt;") in page


NOW = MONTH + 20.5 * DAY  # a Saturday of week 47


@pytest.mark.parametrize(
    ("length", "when", "begin", "end"),
    [
        (None, None, "2026-11-01", "2026-12-01"),
        ("week", None, "2026-11-16", "2026-11-23"),
        ("year", None, "2026-01-01", "2027-01-01"),
        ("week", "2026-W47", "2026-11-16", "2026-11-23"),
        ("week", "2026-W01", "2025-12-29", "2026-01-05"),
        ("month", "2026-02", "2026-02-01", "2026-03-01"),
        ("month", "2024-12", "2024-12-01", "2025-01-01"),
        ("year", "2024", "2024-01-01", "2025-01-01"),
    ],
)
def test_times(length: str | None, when: str | None, begin: str, end: str) -> None:
    """Weeks, months and years are those of UTC; what is not named is the one that is not over."""
    assert span_of(length, when, NOW) == (moment(f"{begin}T00:00Z"), moment(f"{end}T00:00Z"))


@pytest.mark.parametrize(
    ("length", "when"),
    [
        ("week", "2026-47"),
        ("week", "2026-W54"),
        ("month", "2026-13"),
        ("month", "2026-W11"),
        ("year", "26"),
        ("year", "0000"),
    ],
)
def test_times_that_are_none(length: str, when: str) -> None:
    """They are named with the form that is wanted."""
    with pytest.raises(ConfigError, match=re.escape(repr(when))):
        span_of(length, when, NOW)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--month", "soon"), 2),
        (("-S", "2026-11-02", "-E", "2026-11-01"), 2),
        (("-E", "2026-11-01"), 2),
        (("-u", "nobody"), 1),
        (("--week", "--month"), 2),
        (("-u", "alice", "-A", "nlp"), 2),
    ],
)
def test_what_cannot_be_answered(tmp_path: Path, words: tuple[str, ...], status: int) -> None:
    """Wrong usage ends with 2, what is not there with 1, each with one line of why."""
    jobs = Jobs(tmp_path)
    jobs.add()
    jobs.write()
    command = [sys.executable, "-m", "jobimpact.cli", "report", "--config", str(jobs.world.config_file), *words]
    command[1:3] = ["-c", "import sys; from jobimpact.cli.main import main; sys.exit(main())"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.strip()
