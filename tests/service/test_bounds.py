"""What one question may cost the accounting host, on a real site's books."""

from __future__ import annotations

from pathlib import Path

from tests.accounting.world import World

from jobimpact.answers.local import LocalAnswers
from jobimpact.answers.query import Query, Who

ALICE = Who(1001, "alice")


def test_so_many_jobs_are_looked_for_in_the_nodes_books(tmp_path: Path) -> None:
    """Those beyond are not told as unknown, but that they were not looked for; the next question has its own count."""
    made = World(tmp_path)
    made.node().measured("9", start=10, end=None, uid=1001)
    answers = LocalAnswers(made.config, ALICE, most_live=2)
    found = answers.jobs(Query(("1", "9", "2", "3"))).groups
    assert [group.sums is not None for group in found] == [False, True, False, False]
    assert [group.trouble for group in found[:2]] == [None, None]
    assert {group.trouble for group in found[2:]} == {"more than 2 jobs are not in the results: ask for fewer at once"}
    assert answers.jobs(Query(("9",))).groups[0].sums is not None
    answers.close()
