"""Records from a JSON Lines file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.accounting.world import T0, World

from jobimpact.core.errors import SchedulerError
from jobimpact.schedulers.local import LocalRecords


def test_a_later_line_replaces_an_earlier_one(tmp_path: Path) -> None:
    """A job's start, then its end: one record, the later."""
    world = World(tmp_path)
    world.say(state="RUNNING", end=None)
    world.say(end=T0 + 7.5)
    [job] = LocalRecords(tmp_path / "jobs.jsonl", "lab").finished(T0, T0 + 10).records
    assert (job.state, job.end_s, job.elapsed_s, job.key) == ("COMPLETED", T0 + 7.5, 7.5, f"1@{T0}")


def test_a_time_limit_is_told_or_not_known(tmp_path: Path) -> None:
    """In seconds; without one, there is none."""
    world = World(tmp_path)
    world.say("1", time_limit_s=90)
    world.say("2")
    found = LocalRecords(tmp_path / "jobs.jsonl", "lab").finished(T0, T0 + 200).records
    assert [one.time_limit_s for one in found] == [90.0, None]


def test_labels_are_told_or_stand_in_a_comment(tmp_path: Path) -> None:
    """What is told comes first; what is malformed is left out, and costs no record."""
    world = World(tmp_path)
    world.say("1", comment="x jobimpact:model=a,steps=7", labels={"model": "b", "a b": "c", "unit": "\u001b[31m"})
    world.say("2")
    found = LocalRecords(tmp_path / "jobs.jsonl", "lab").finished(T0, T0 + 200)
    assert found.problems == ()
    assert [one.labels for one in found.records] == [{"model": "b", "steps": "7"}, {}]


def test_only_jobs_that_ended_in_the_window(tmp_path: Path) -> None:
    """Both edges are inclusive; a job without an end is not finished."""
    world = World(tmp_path)
    for job, end in (("1", 0), ("2", 10), ("3", 20), ("4", 21), ("5", None)):
        world.say(job, end=None if end is None else T0 + end)
    found = LocalRecords(tmp_path / "jobs.jsonl", "lab").finished(T0 + 10, T0 + 20)
    assert [job.raw_id for job in found.records] == ["2", "3"]


def test_a_host_list_is_expanded(tmp_path: Path) -> None:
    """As one string or as a list."""
    world = World(tmp_path)
    world.say("1", nodes="node[01-02]")
    world.say("2", nodes=["a", "b"])
    one, other = LocalRecords(tmp_path / "jobs.jsonl", "lab").finished(T0, T0 + 200).records
    assert (one.nodes, other.nodes) == (("node01", "node02"), ("a", "b"))


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b'{"id": "7"}',
        b'{"id": "../7", "user": "a", "name": "", "state": "CD", "submit": 1}',
        b'{"id": "7", "user": "a", "name": "", "state": "CD", "submit": 1, "start": 9, "end": 3}',
        b'{"id": "7", "user": "a", "name": "", "state": "CD", "submit": 1, "colour": "red"}',
        b'{"id": "7", "user": "a", "name": "\xff", "state": "CD", "submit": 1}',
        b'{"id": "7", "user": "a", "name": "", "state": "CD", "submit": 1, "nodes": ["../../etc"]}',
    ],
)
def test_a_bad_line_is_named_and_the_others_go_on(tmp_path: Path, line: bytes) -> None:
    """The problem has file and line."""
    world = World(tmp_path)
    world.say("1")
    with (tmp_path / "jobs.jsonl").open("ab") as file:
        file.write(line + b"\n")
    world.say("2")
    found = LocalRecords(tmp_path / "jobs.jsonl", "lab").finished(T0, T0 + 200)
    assert [job.raw_id for job in found.records] == ["1", "2"]
    assert "jobs.jsonl:2: " in str(found.problems[0])


def test_no_file_is_a_scheduler_that_does_not_answer(tmp_path: Path) -> None:
    """It names the file."""
    with pytest.raises(SchedulerError, match=r"jobs\.jsonl"):
        LocalRecords(tmp_path / "jobs.jsonl", "lab").finished(0, 1)
