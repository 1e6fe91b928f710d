"""What users' documents show is what comes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.report.months import COMPARE, samples
from tests.report.shots import view_of
from tests.report.stories import stories

from jobimpact.report.text import job_text

USER = Path(__file__).parents[2] / "docs/user"


def block(name: str, begins: str) -> str:
    """The fenced block of a page that begins so, without its first line if that is the command."""
    found = re.findall(r"^```\n(.*?)^```$", (USER / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (one,) = (text for text in found if text.startswith(begins))
    return one.partition("\n")[2] if begins.startswith("$") else one


@pytest.mark.parametrize(
    ("name", "begins", "index"),
    [
        ("period.md", "$ jobimpact report --month 2026-11", 0),
        ("period.md", "  By user", 1),
        ("compare.md", f"$ jobimpact {' '.join(COMPARE)}", 2),
    ],
)
def test_a_month(name: str, begins: str, index: int) -> None:
    """`python -m tests.report.months` prints them."""
    assert block(name, begins) == samples()[index]


@pytest.mark.parametrize(("story", "begins"), [("idle_gpu", "job 126"), ("good", "  model resnet50")])
def test_findings_and_steps(story: str, begins: str) -> None:
    """Of the jobs that the reports' tests tell of."""
    assert block("findings.md", begins) in job_text(view_of(stories()[story]))
