"""sacct's records from a real slurmdbd, whose clock is in Paris: jobs that ran, and rows of history.

With LAB_ROOT=FOLDER the Slurm of another Debian runs them, from that root: `make lab-slurm-24`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.labs.lab import PATIENCE_S, until
from tests.labs.slurm.foreign import ForeignLab
from tests.labs.slurm.history import (
    ALL_TASKS,
    AUTUMN,
    DAY,
    HOSTILE,
    HOUR,
    MIDNIGHT,
    SPRING,
    goes_by,
    run_jobs,
    write_history,
)
from tests.labs.slurm.lab import SlurmLab

from jobimpact.core.errors import SchedulerError
from jobimpact.core.records import JobRecord
from jobimpact.schedulers.sacct import Sacct

pytestmark = pytest.mark.lab

PARIS = "CET-1CEST,M3.5.0,M10.5.0/3"
"""Europe/Paris, without a file of time zones."""


def restart_slurmdbd(lab: SlurmLab) -> None:
    """In Paris."""
    pid = (lab.folder / "run/slurmdbd.pid").read_text().strip()
    lab.run(f"kill {pid}")
    until(lambda: lab.run(f"kill -0 {pid}", check=False).returncode != 0, PATIENCE_S, lambda: "slurmdbd stays")
    lab.run(f"TZ={PARIS} slurmdbd")
    show = "sacctmgr -n show cluster"
    until(lambda: lab.run(show, check=False).returncode == 0, PATIENCE_S, lambda: lab.logs())


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[SlurmLab]:
    """This machine's Slurm, or that of LAB_ROOT, with a second cluster in its slurmdbd and a history in both."""
    root = os.environ.get("LAB_ROOT")
    if root:
        with ForeignLab(Path(root)) as lab:
            prepare(lab)
            yield lab
    else:
        lab = request.getfixturevalue("slurm_lab")
        prepare(lab)
        yield lab


def prepare(lab: SlurmLab) -> None:
    """A second cluster and the history."""
    restart_slurmdbd(lab)
    write_history(lab)


@pytest.fixture(autouse=True)
def _on_path(lab: SlurmLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{lab.bin_dir}:{os.environ['PATH']}")
    monkeypatch.setenv("TZ", PARIS)


@dataclass(frozen=True)
class Ran:
    """Jobs of this test's own, by what they are."""

    from_s: int
    ids: dict[str, str]


@pytest.fixture(scope="module")
def ran(lab: SlurmLab) -> Iterator[Ran]:
    """Some that are over and recorded, one that runs, one that waits."""
    from_s = int(time.time()) - 1
    ids = run_jobs(lab)
    yield Ran(from_s, ids)
    lab.scancel(ids["runs"], ids["waits"])


def records(from_s: int, to_s: int, source: Sacct | None = None) -> list[JobRecord]:
    """That ended then; all rows can be read."""
    found = (source or Sacct("books")).finished(from_s, to_s)
    assert found.problems == ()
    assert {job.cluster for job in found.records} <= {"books"}
    return list(found.records)


def mine(ran: Ran, name: str) -> list[JobRecord]:
    """The records of one of the jobs, by time."""
    job = ran.ids[name]
    found = [
        one for one in records(ran.from_s, int(time.time())) if one.job_id.partition("_")[0].partition("+")[0] == job
    ]
    return sorted(found, key=lambda one: (one.submit_s or 0, one.raw_id))


@pytest.mark.parametrize("change_s", [AUTUMN, SPRING])
def test_each_end_is_in_one_hour_where_the_clocks_change(lab: SlurmLab, change_s: int) -> None:
    """Hours follow each other without a gap or an overlap, and times are epochs."""
    first = 100_005 if change_s == AUTUMN else 100_015
    found = {
        int(job.raw_id) - first: job
        for hour in range(-2, 3)
        for job in records(change_s + hour * HOUR, change_s + (hour + 1) * HOUR - 1)
        if abs(int(job.raw_id) - first) < 5
    }
    assert sorted(found) == list(range(-4, 5))
    for at, job in found.items():
        assert job.end_s == change_s + at * HOUR // 2
        assert job.start_s == change_s - 9 * HOUR
        assert job.elapsed_s == 9 * HOUR + at * HOUR // 2


def test_a_day_s_both_ends_belong_to_it(lab: SlurmLab) -> None:
    """An end at midnight is in the day that begins, and only there."""
    before = {job.raw_id for job in records(MIDNIGHT - DAY, MIDNIGHT - 1)}
    after = {job.raw_id for job in records(MIDNIGHT, MIDNIGHT + DAY - 1)}
    assert "100021" in before
    assert "100020" in after
    assert not before & after


def test_suspended_time_is_not_elapsed(lab: SlurmLab) -> None:
    """Three days, one of which it was stopped."""
    [job] = [one for one in records(MIDNIGHT, MIDNIGHT + 4 * DAY) if one.raw_id == "100022"]
    assert job.end_s is not None
    assert job.start_s is not None
    assert (job.end_s - job.start_s, job.elapsed_s) == (73 * HOUR, 49 * HOUR)


def test_each_life_of_an_id_is_a_record(lab: SlurmLab) -> None:
    """A node's failure, a preemption, an end: told apart by when each was submitted."""
    found = [one for one in records(MIDNIGHT, MIDNIGHT + HOUR) if one.raw_id == "100030"]
    assert sorted((one.state, one.key, one.elapsed_s) for one in found) == [
        ("COMPLETED", f"100030@{MIDNIGHT + 500}", 200),
        ("NODE_FAIL", f"100030@{MIDNIGHT + 100}", 100),
        ("PREEMPTED", f"100030@{MIDNIGHT + 300}", 100),
    ]


def test_what_never_ran_here_is_no_run(lab: SlurmLab) -> None:
    """Not a federation's sibling that was revoked, nor what waits: neither over nor running. A run of no time is."""
    over = {one.raw_id: one for one in records(MIDNIGHT, MIDNIGHT + HOUR)}
    assert not {"100040", "100041", "100060"} & set(over)
    assert (over["100023"].elapsed_s, over["100023"].nodes) == (0, ("jilab01",))
    held = {at: {one.raw_id for one in Sacct("books").running(MIDNIGHT + at).records} for at in (-600, 210, 450)}
    assert held == {
        -600: {"100020", "100021", "100022"},
        210: {"100022", "100030", "100061"},
        450: {"100022", "100030"},
    }


def test_an_array_of_100_000_is_one_row_while_it_waits(lab: SlurmLab) -> None:
    """And its tasks are its own once they have run."""
    rows = lab.sacct("-X", "-S", f"uts{MIDNIGHT}", "-E", f"uts{MIDNIGHT + 150}", "-o", "jobid,jobidraw").split()
    assert f"100060_[0-{ALL_TASKS - 1}%4]|100060" in rows
    [task] = [one for one in records(MIDNIGHT, MIDNIGHT + HOUR) if one.raw_id == "100061"]
    assert (task.job_id, task.array_id) == (f"100060_{ALL_TASKS - 1}", "100060")


def test_a_start_before_its_submission_begins_with_it(lab: SlurmLab) -> None:
    """A run cannot be older than its row; nor does it end before it starts."""
    found = {one.raw_id: one for one in records(MIDNIGHT, MIDNIGHT + HOUR)}
    assert (found["100050"].start_s, found["100050"].elapsed_s) == (MIDNIGHT + 100, 50)
    assert found["100050"].raw["start"] == str(MIDNIGHT + 90)
    assert found["100051"].elapsed_s == 0
    assert (found["100052"].start_s, found["100052"].nodes) == (None, ("jilab01",))


def test_a_cluster_of_several_is_read_alone(lab: SlurmLab) -> None:
    """The same id and time in two clusters of one slurmdbd; a third cluster is not there."""
    [job] = records(MIDNIGHT, MIDNIGHT + HOUR, Sacct("books", ask="other"))
    assert (job.name, job.key, job.nodes) == ("other's", f"100020@{MIDNIGHT - HOUR}", ("n1", "n2"))
    same = [one for one in records(MIDNIGHT, MIDNIGHT + HOUR, Sacct("books", ask="LAB")) if one.key == job.key]
    assert [one.name for one in same] == ["past100020"]
    assert records(0, 2_000_000, Sacct("books", ask="other")) == []
    with pytest.raises(SchedulerError, match=r"no cluster 'third' \(it has lab, other\)"):
        Sacct("books", ask="third").finished(MIDNIGHT, MIDNIGHT + HOUR)


def test_a_resized_job_holds_each_node_once(lab: SlurmLab, ran: Ran) -> None:
    """Two nodes until it was cut down to one, in two rows that follow each other."""
    before, after = mine(ran, "resized")
    assert (before.state, after.state) == ("RESIZING", "CANCELLED")
    assert (len(before.nodes), len(after.nodes)) == (2, 1)
    assert before.end_s == after.start_s == after.submit_s
    for one in (before, after):
        assert one.end_s is not None
        assert one.start_s is not None
        assert one.elapsed_s == one.end_s - one.start_s


def test_jobs_of_every_shape(lab: SlurmLab, ran: Ran) -> None:
    """Names come out as Slurm has them, suspended time is out, an array's tasks and a het job's parts have raw ids."""
    [hostile] = mine(ran, "hostile")
    # Where its database has Latin-1, Slurm stores a question mark for what that lacks.
    assert hostile.name in {HOSTILE, HOSTILE.encode("latin-1", "replace").decode("latin-1")}
    [suspended] = mine(ran, "suspended")
    assert suspended.end_s is not None
    assert suspended.start_s is not None
    assert suspended.elapsed_s is not None
    assert suspended.end_s - suspended.start_s - suspended.elapsed_s >= 2
    tasks = mine(ran, "array")
    assert sorted(one.job_id for one in tasks) == [f"{ran.ids['array']}_{task}" for task in (0, 1)]
    assert ran.ids["array"] in {one.raw_id for one in tasks}
    parts = mine(ran, "het")
    assert [(one.job_id, int(one.raw_id) - int(ran.ids["het"])) for one in parts] == [
        (f"{ran.ids['het']}+{part}", part) for part in (0, 1)
    ]
    [gone] = mine(ran, "gone")
    assert (gone.state, gone.start_s, gone.nodes, gone.cpus) == ("CANCELLED", None, (), None)
    [exclusive] = mine(ran, "exclusive")
    assert exclusive.cpus == 8
    assert exclusive.exclusive == ("exclusive" in exclusive.raw)


def test_labels_come_by_the_comment_and_a_limit_is_a_limit(lab: SlurmLab, ran: Ran) -> None:
    """Of the comment nothing else is kept; the limit of a job that did not ask for one is its partition's."""
    [hostile] = mine(ran, "hostile")
    assert hostile.labels == {"model": "resnet50", "steps": "90000", "unit": "image"}
    assert "mine" not in "".join(hostile.raw.values())
    assert all(one.labels == {} for one in mine(ran, "array"))
    [past] = [one for one in records(MIDNIGHT, MIDNIGHT) if one.raw_id == "100020"]
    assert past.time_limit_s == 600 * 60
    assert hostile.time_limit_s == 600


def test_what_runs_and_what_waits(lab: SlurmLab, ran: Ran) -> None:
    """Only the first holds nodes, and neither is over."""
    source = Sacct("books")
    found = source.running(int(time.time()))
    assert found.problems == ()
    held = {one.raw_id: one for one in found.records}
    assert (held[ran.ids["runs"]].end_s, held[ran.ids["runs"]].state) == (None, "RUNNING")
    assert ran.ids["waits"] not in held
    over = {one.raw_id for one in records(ran.from_s, int(time.time()), source)}
    assert not over & {ran.ids["runs"], ran.ids["waits"]}


def test_a_requeue_of_what_was_over_leaves_its_row_the_same_key(lab: SlurmLab, ran: Ran) -> None:
    """The row that is there may change, and another comes."""
    [before] = mine(ran, "again")
    assert before.end_s is not None
    goes_by(2)
    lab.run(["scontrol", "requeue", ran.ids["again"]])
    lab.run(["scontrol", "hold", ran.ids["again"]])
    until(lambda: "PENDING" in lab.sacct("-X", "-j", ran.ids["again"], "-o", "state"), PATIENCE_S, lab.logs)
    lab.scancel(ran.ids["again"])
    until(lambda: len(mine(ran, "again")) == 2, PATIENCE_S, lab.logs)
    first, second = mine(ran, "again")
    assert first.key == before.key
    assert (second.state, second.nodes) == ("CANCELLED", ())
    if "exclusive" in first.raw:  # 26.05 leaves the row as it was
        assert first == before
    else:
        assert first.state == "REQUEUED"
        assert (first.end_s or 0) > before.end_s
