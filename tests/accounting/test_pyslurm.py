"""Slurm's records by PySlurm: the child process that asks it, and what is made of its answers.

The real library is not here (it wants Slurm 25.11): `tests/fakes/pyslurm_api` has the shape of its API.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.config import Config, Scheduler, Slurm
from jobimpact.core.errors import SchedulerError
from jobimpact.core.records import JobRecord
from jobimpact.schedulers import job_source
from jobimpact.schedulers.base import Finished, held_at
from jobimpact.schedulers.pyslurm import CHILD, PySlurm, parse_answer
from jobimpact.schedulers.pyslurm_child import ATTRIBUTES
from jobimpact.schedulers.sacct_rows import FIELDS, UNIT_SEPARATOR, parse_rows

API = Path(__file__).parents[1] / "fakes/pyslurm_api"
NO_VAL = 0xFFFFFFFE
T0 = 1795190000
"""The window of these tests: an hour from here."""
T1 = T0 + 3600

ROW = {
    "cluster": "lab", "id_job": 123, "id_array_job": 0, "id_array_task": NO_VAL, "array_task_str": None,
    "het_job_id": 0, "het_job_offset": NO_VAL, "job_name": "train", "id_user": 2001, "account": "physics",
    "partition": "main", "qos": "normal", "state": "COMPLETED", "exit_code": 0, "time_submit": T0 + 10,
    "time_eligible": T0 + 10, "time_start": T0 + 11, "time_end": T0 + 111, "time_suspended": 0, "timelimit": 60,
    "nodelist": "node[01-02]", "tres_alloc": "1=4,2=500,4=2,5=4", "tres_req": "1=4,2=500,4=2,5=4", "restart_cnt": 0,
    "job_db_inx": 7, "kill_requid": NO_VAL,
}  # fmt: skip
"""A job as slurmdbd's table has it."""
SACCT = {
    "jobidraw": "123", "jobid": "123", "cluster": "lab", "user": "alice", "uid": "2001", "account": "physics",
    "partition": "main", "qos": "normal", "jobname": "train", "state": "COMPLETED", "exitcode": "0:0",
    "submit": f"{T0 + 10}", "eligible": f"{T0 + 10}", "start": f"{T0 + 11}", "end": f"{T0 + 111}",
    "elapsedraw": "100", "suspended": "00:00:00", "timelimitraw": "60", "reqtres": "billing=4,cpu=4,mem=500M,node=2",
    "alloctres": "billing=4,cpu=4,mem=500M,node=2", "ncpus": "4", "nnodes": "2", "nodelist": "node[01-02]",
}  # fmt: skip
"""The same job as sacct prints it."""

NEVER = {"time_start": 0, "nodelist": "None assigned", "tres_alloc": ""}
NEVER_SACCT = {"nodelist": "None assigned", "alloctres": "", "elapsedraw": "0", "nnodes": "1", "ncpus": "1"}

STORY: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "plain": ({}, {}),
    "no time limit": (
        {"id_job": 71, "timelimit": 0xFFFFFFFF},
        {"jobidraw": "71", "jobid": "71", "timelimitraw": "UNLIMITED"},
    ),
    "the partition's time limit": (
        {"id_job": 72, "timelimit": 0},
        {"jobidraw": "72", "jobid": "72", "timelimitraw": "Partition_Limit"},
    ),
    "gpus": (
        {"id_job": 1, "tres_alloc": "1=2,2=500,4=1,5=2,1001=3,1002=2,1003=1", "nodelist": "node03"},
        {
            "jobidraw": "1",
            "jobid": "1",
            "nodelist": "node03",
            "alloctres": "billing=2,cpu=2,gres/gpu:a100=2,gres/gpu:v100=1,gres/gpu=3,mem=500M,node=1",
        },
    ),
    "gpus of types alone": (
        {"id_job": 2, "tres_alloc": "1=2,2=1536,4=1,1002=2,1003=1"},
        {"jobidraw": "2", "jobid": "2", "alloctres": "cpu=2,gres/gpu:a100=2,gres/gpu:v100=1,mem=1.50G,node=1"},
    ),
    "array task 0": (
        {"id_job": 21, "id_array_job": 6, "id_array_task": 0},
        {"jobidraw": "21", "jobid": "6_0"},
    ),
    "an array's last task has the array's own id": (
        {"id_job": 6, "id_array_job": 6, "id_array_task": 3},
        {"jobidraw": "6", "jobid": "6_3"},
    ),
    "the rest of an array cancelled while pending": (
        {
            "id_job": 30, "id_array_job": 30, "array_task_str": "4-9", "state": "CANCELLED", "kill_requid": 2001,
            **NEVER,
        },
        {"jobidraw": "30", "jobid": "30_[4-9]", "state": "CANCELLED by 2001", "start": f"{T0 + 111}", **NEVER_SACCT},
    ),
    "het leader": (
        {"id_job": 10, "het_job_id": 10, "het_job_offset": 0},
        {"jobidraw": "10", "jobid": "10+0"},
    ),
    "het part": (
        {"id_job": 11, "het_job_id": 10, "het_job_offset": 1, "nodelist": "node03"},
        {"jobidraw": "11", "jobid": "10+1", "nodelist": "node03"},
    ),
    "failed": (
        {"id_job": 40, "state": "FAILED", "exit_code": 3 << 8},
        {"jobidraw": "40", "jobid": "40", "state": "FAILED", "exitcode": "3:0"},
    ),
    "signal": (
        {"id_job": 41, "state": "OUT_OF_MEMORY", "exit_code": 125},
        {"jobidraw": "41", "jobid": "41", "state": "OUT_OF_MEMORY", "exitcode": "0:125"},
    ),
    "status beyond 128": (
        {"id_job": 42, "state": "FAILED", "exit_code": 137 << 8},
        {"jobidraw": "42", "jobid": "42", "state": "FAILED", "exitcode": "9:0"},
    ),
    "cancelled by root while it ran": (
        {"id_job": 43, "state": "CANCELLED", "kill_requid": 0, "exit_code": 15},
        {"jobidraw": "43", "jobid": "43", "state": "CANCELLED by 0", "exitcode": "0:15"},
    ),
    "cancelled while pending": (
        {"id_job": 44, "state": "CANCELLED", "kill_requid": 2001, **NEVER},
        {"jobidraw": "44", "jobid": "44", "state": "CANCELLED by 2001", "start": f"{T0 + 111}", **NEVER_SACCT},
    ),
    "suspended for a while": (
        {"id_job": 45, "time_suspended": 40},
        {"jobidraw": "45", "jobid": "45", "suspended": "00:00:40", "elapsedraw": "60"},
    ),
    "shorter than a second": (
        {"id_job": 46, "time_end": T0 + 11},
        {"jobidraw": "46", "jobid": "46", "end": f"{T0 + 11}", "elapsedraw": "0"},
    ),
    "a user without a name here, no account": (
        {"id_job": 47, "id_user": 2999, "account": "", "partition": ""},
        {"jobidraw": "47", "jobid": "47", "user": "", "uid": "2999", "account": "", "partition": ""},
    ),
    "a hostile name": (
        {"id_job": 48, "job_name": "x\n{\"end\": 0}\n'; drop table job; \N{PILE OF POO}"},
        {"jobidraw": "48", "jobid": "48", "jobname": "x\n{\"end\": 0}\n'; drop table job; \N{PILE OF POO}"},
    ),
    "a name in Latin-1": (
        {"id_job": 49, "job_name": "caf\udce9"},
        {"jobidraw": "49", "jobid": "49", "jobname": "caf\N{REPLACEMENT CHARACTER}"},
    ),
    "first run of a requeued job": (
        {"id_job": 50, "state": "NODE_FAIL", "time_end": T0 + 60},
        {"jobidraw": "50", "jobid": "50", "state": "NODE_FAIL", "end": f"{T0 + 60}", "elapsedraw": "49"},
    ),
    "its second run": (
        {
            "id_job": 50, "state": "PREEMPTED", "time_submit": T0 + 61, "time_eligible": T0 + 182,
            "time_start": T0 + 190, "time_end": T0 + 200, "restart_cnt": 1,
        },
        {
            "jobidraw": "50", "jobid": "50", "state": "PREEMPTED", "submit": f"{T0 + 61}",
            "eligible": f"{T0 + 182}", "start": f"{T0 + 190}", "end": f"{T0 + 200}", "elapsedraw": "10",
        },
    ),
    "its third run": (
        {
            "id_job": 50, "time_submit": T0 + 201, "time_eligible": T0 + 322, "time_start": T0 + 330,
            "time_end": T0 + 340, "restart_cnt": 2,
        },
        {
            "jobidraw": "50", "jobid": "50", "submit": f"{T0 + 201}", "eligible": f"{T0 + 322}",
            "start": f"{T0 + 330}", "end": f"{T0 + 340}", "elapsedraw": "10",
        },
    ),
    "a job before its size was changed": (
        {"id_job": 55, "state": "RESIZING", "time_end": T0 + 50},
        {"jobidraw": "55", "jobid": "55", "state": "RESIZING", "end": f"{T0 + 50}", "elapsedraw": "39"},
    ),
    "and after": (
        {
            "id_job": 55, "time_submit": T0 + 50, "time_eligible": T0 + 50, "nodelist": "node01",
            "tres_alloc": "1=2,2=250,4=1,5=2",
        },
        {
            "jobidraw": "55", "jobid": "55", "submit": f"{T0 + 50}", "eligible": f"{T0 + 50}", "nodelist": "node01",
            "alloctres": "billing=2,cpu=2,mem=250M,node=1",
        },
    ),
}  # fmt: skip

RUNNING: tuple[dict[str, Any], dict[str, str]] = (
    {"id_job": 60, "state": "RUNNING", "time_end": 0},
    {"jobidraw": "60", "jobid": "60", "state": "RUNNING", "end": "Unknown", "elapsedraw": "1489"},
)

Site = Callable[..., Path]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A cluster with these jobs, known to the `pyslurm` that the child finds."""

    def make(*changes: dict[str, Any], mode: str = "", version: str = "25.11.2") -> Path:
        rows = [ROW | change for change in changes]
        users = {"0": "root", "2001": "alice"}
        site = {"rows": rows, "users": users, "local": "lab", "version": version, "mode": mode, "now": T0 + 1500}
        file = tmp_path / "slurm.json"
        file.write_text(json.dumps(site), encoding="utf-8")
        monkeypatch.setenv("FAKE_PYSLURM", str(file))
        monkeypatch.setenv("PYTHONPATH", str(API))
        return file

    return make


def asked(file: Path) -> list[dict[str, Any]]:
    """What PySlurm was asked for."""
    return [json.loads(line) for line in Path(f"{file}.asked").read_text(encoding="utf-8").splitlines()]


def by_sacct(*changes: dict[str, str]) -> Finished:
    rows = [UNIT_SEPARATOR.join((SACCT | change)[field] for field in FIELDS) + "\n" for change in changes]
    # A name with newlines is in the story: the parser goes by the count of fields.
    return parse_rows("".join(rows), UNIT_SEPARATOR, "lab")


def sorted_without_raw(found: Finished) -> list[JobRecord]:
    records = (msgspec.structs.replace(one, raw={}) for one in found.records)
    return sorted(records, key=lambda one: (one.cluster, one.key))


# -- what a job's record says ----------------------------------------------------------------------------------------


def test_the_same_records_as_by_sacct(site: Site) -> None:
    """One story of a cluster, told by both, makes the same records field by field."""
    site(*(row for row, _ in STORY.values()))
    found = PySlurm("lab").finished(T0, T1)
    expected = by_sacct(*(row for _, row in STORY.values()))
    assert (found.problems, expected.problems) == ((), ())
    assert len(found.records) == len(STORY)
    assert sorted_without_raw(found) == sorted_without_raw(expected)


def test_the_same_running_jobs_as_by_sacct(site: Site) -> None:
    """A job that runs, among those that ended before, waited or never ran."""
    waiting = {"id_job": 61, "state": "PENDING", "time_end": 0, **NEVER}
    site(RUNNING[0], waiting, *(row for row, _ in STORY.values()))
    at_s = T0 + 150
    found = PySlurm("lab").running(at_s)
    expected = held_at(by_sacct(RUNNING[1]), at_s)
    assert found.problems == ()
    assert sorted_without_raw(found) == sorted_without_raw(expected)
    assert [one.end_s for one in found.records] == [None]


def test_a_run_before_a_requeue_is_held_at_its_time(site: Site) -> None:
    """A later run of the same id hides none of those that held nodes before it."""
    site(*(STORY[name][0] for name in ("first run of a requeued job", "its second run", "its third run")))
    held = [[one.key for one in PySlurm("lab").running(at_s).records] for at_s in (T0 + 30, T0 + 195, T0 + 335)]
    assert held == [[f"50@{T0 + 10}"], [f"50@{T0 + 61}"], [f"50@{T0 + 201}"]]


def test_the_scheduler_s_own_words_are_kept_as_text(site: Site) -> None:
    """Every attribute that was asked for, and resources as Slurm writes them."""
    site(STORY["gpus"][0])
    [job] = PySlurm("lab").finished(T0, T1).records
    assert set(job.raw) == set(ATTRIBUTES) - {"comment"}
    assert job.raw["allocated_tres"] == "billing=2,cpu=2,gres/gpu=3,gres/gpu:a100=2,gres/gpu:v100=1,mem=500M,node=1"
    assert {name: job.raw[name] for name in ("time_limit", "qos", "db_index", "cancelled_by", "array_id")} == {
        "time_limit": "60", "qos": "normal", "db_index": "7", "cancelled_by": "", "array_id": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("comment", "labels"), [(None, {}), ("mine\njobimpact:model=a,steps=7", {"model": "a", "steps": "7"})]
)
def test_labels_are_read_from_comments(site: Site, comment: str | None, labels: dict[str, str]) -> None:
    """Of which nothing else is kept."""
    site({"derived_es": comment})
    [job] = PySlurm("lab").finished(T0, T1).records
    assert job.labels == labels
    assert "mine" not in json.dumps(job.raw)


# -- which jobs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"time_end": T0}, True),
        ({"time_end": T0 - 1}, False),
        ({"time_end": T1}, True),
        ({"time_end": T1 + 1}, False),
        ({"time_submit": T1, "time_eligible": T1, "time_start": T1, "time_end": T1}, True),
        ({"state": "RUNNING", "time_end": 0}, False),
        ({"state": "PENDING", **NEVER, "time_end": 0}, False),
        ({"state": "SUSPENDED", "time_end": 0}, False),
        ({"state": "RESIZING", "time_end": T0 + 20}, True),
        ({"state": "REVOKED", **NEVER}, False),
    ],
)
def test_a_window_has_the_runs_that_ended_in_it(site: Site, changes: dict[str, Any], told: bool) -> None:
    """Both of its edges belong to it, whatever Slurm's filter lets through; what goes on has not ended."""
    before = {"time_submit": T0 - 60, "time_eligible": T0 - 60, "time_start": T0 - 50}
    site({**before, **changes}, {"id_job": 9, "time_end": T0 + 5, **before})
    found = PySlurm("lab").finished(T0, T1)
    assert found.problems == ()
    assert sorted(one.raw_id for one in found.records) == (["123", "9"] if told else ["9"])


def test_revoked_siblings_that_slurmdbd_hands_over_are_no_runs(site: Site) -> None:
    """Here it does: the word is enough."""
    site({"state": "REVOKED", **NEVER}, {"id_job": 124}, mode="federation")
    assert [one.raw_id for one in PySlurm("lab").finished(T0, T1).records] == ["124"]
    assert [one.raw_id for one in PySlurm("lab").running(T0 + 50).records] == ["124"]


@pytest.mark.parametrize(("ask", "expected"), [(None, f"123@{T0 + 10}"), ("big", f"123@{T0 + 20}")])
def test_one_cluster_s_jobs_under_its_own_name(site: Site, ask: str | None, expected: str) -> None:
    """The same id in two clusters is two jobs; without a name it is slurm.conf's cluster."""
    file = site(
        {}, {"cluster": "big", "time_submit": T0 + 20, "time_start": T0 + 30}, {"cluster": "other", "id_job": 5}
    )
    found = PySlurm("ours", ask=ask).finished(T0, T1)
    assert found.problems == ()
    assert [(one.cluster, one.key) for one in found.records] == [("ours", expected)]
    assert [one.get("clusters") for one in asked(file)] == [None if ask is None else [ask]]


def test_a_job_of_another_cluster_is_a_problem() -> None:
    """It is not booked under a name that is not its own."""
    found = answered([{"job": {**MINIMAL, "cluster": "big"}}, {"job": {**MINIMAL, "id": 2, "cluster": "other"}}])
    assert [one.raw_id for one in found.records] == ["1"]
    assert [str(one) for one in found.problems] == ["PySlurm job '2': of cluster 'other', not 'big'"]


def test_a_window_from_the_beginning_of_time(site: Site) -> None:
    """0 means "not given" to Slurm, which then takes today."""
    file = site({})
    assert len(PySlurm("lab").finished(0, T1).records) == 1
    assert asked(file)[0]["start_time"] > 0


# -- runs under one id -----------------------------------------------------------------------------------------------


def test_earlier_runs_before_the_window_are_not_told_and_not_missed(site: Site) -> None:
    """The walk back from run to run ends where the window begins."""
    first = {"id_job": 50, "state": "NODE_FAIL", "time_submit": T0 - 900, "time_eligible": T0 - 900,
             "time_start": T0 - 800, "time_end": T0 - 700}  # fmt: skip
    second = {"id_job": 50, "state": "NODE_FAIL", "time_submit": T0 - 690, "time_eligible": T0 - 600,
              "time_start": T0 - 500, "time_end": T0 + 50, "restart_cnt": 1}  # fmt: skip
    third = {"id_job": 50, "time_submit": T0 + 51, "time_eligible": T0 + 100, "time_start": T0 + 101,
             "restart_cnt": 2}  # fmt: skip
    file = site(first, second, third)
    found = PySlurm("lab").finished(T0, T1)
    assert found.problems == ()
    assert sorted(one.end_s or 0 for one in found.records) == [T0 + 50, T0 + 111]
    assert len(asked(file)) == 2


def test_a_pending_requeue_does_not_hide_the_run_that_ended(site: Site) -> None:
    """The run that waits is what Slurm's window has; the one before it has ended in it."""
    waiting = {"id_job": 50, "state": "PENDING", "time_submit": T0 + 61, "time_eligible": T0 + 182, "restart_cnt": 1}
    site(STORY["first run of a requeued job"][0], {**waiting, **NEVER, "time_end": 0})
    found = PySlurm("lab").finished(T0, T1)
    assert [(one.key, one.state) for one in found.records] == [(f"50@{T0 + 10}", "NODE_FAIL")]
    assert found.problems == ()


def test_a_requeued_task_is_not_mixed_up_with_its_array(site: Site) -> None:
    """By the id of an array's last task all its tasks come."""
    array = {"id_array_job": 6, "state": "NODE_FAIL", "time_end": T0 + 60}
    site(
        {**array, "id_job": 5, "id_array_task": 0},
        {**array, "id_job": 6, "id_array_task": 1},
        {"id_job": 6, "id_array_job": 6, "id_array_task": 1, "time_submit": T0 + 61, "time_eligible": T0 + 70,
         "time_start": T0 + 80, "restart_cnt": 1},
    )  # fmt: skip
    found = PySlurm("lab").finished(T0, T1)
    assert found.problems == ()
    assert sorted((one.job_id, one.submit_s) for one in found.records) == [
        ("6_0", T0 + 10),
        ("6_1", T0 + 10),
        ("6_1", T0 + 61),
    ]


@pytest.mark.parametrize(
    ("restarts", "said"), [(1, "1 earlier run under this id is"), (3, "3 earlier runs under this id are")]
)
def test_earlier_runs_that_do_not_come_are_a_problem_once(site: Site, restarts: int, said: str) -> None:
    """The job itself is told, and so is that something is missing."""
    site(STORY["first run of a requeued job"][0], {**STORY["its third run"][0], "restart_cnt": restarts}, mode="deaf")
    found = PySlurm("lab").finished(T0, T1)
    assert [one.key for one in found.records] == [f"50@{T0 + 201}"]
    assert [str(one) for one in found.problems] == [f"PySlurm job '50': {said} not told by PySlurm: use via: sacct"]


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("fatal", "exit 1: .*fatal: Could not establish a configuration source$"),
        ("import", r"libslurmfull.so: cannot open.*: install jobimpact\[slurm\] there.* scheduler\.slurm\.python$"),
        ("no db", r"^PySlurm: PySlurm 18\.8\.0 has no pyslurm\.db\.JobFilter.*needs PySlurm 25\.11$"),
        ("segfault", r"^PySlurm: killed by signal 11 \(Segmentation fault\): no word why$"),
        ("broken off", r"^PySlurm: its answer broke off after \d jobs$"),
        ("no slurmdbd", "exit 1: RPCError: Failed to open connection to slurmdbd$"),
        ("refused", "exit 1: RPCError: Failed to get Jobs from slurmdbd$"),
    ],
)
def test_every_way_to_fail_is_told_in_the_child_s_own_words(site: Site, mode: str, said: str) -> None:
    """No exception, no half answer and no death of the library passes for one without jobs."""
    site({}, {"id_job": 124}, mode=mode, version="18.8.0" if mode == "no db" else "25.11.2")
    with pytest.raises(SchedulerError, match=said):
        PySlurm("lab").finished(T0, T1)


def test_a_library_that_hangs_is_killed(site: Site) -> None:
    """After the deadline there is an error with its last words, and no process is left."""
    file = site({}, mode="hang")
    with pytest.raises(SchedulerError, match=r"^PySlurm: no answer within 1\.5 s"):
        PySlurm("lab", timeout_s=1.5).finished(T0, T1)
    _until_gone(file)


def test_a_hanging_interpreter_behind_a_script_is_killed_too(site: Site, tmp_path: Path) -> None:
    """`scheduler.slurm.python` may be a script that sets things up."""
    file = site({}, mode="hang")
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit 0\n', encoding="utf-8")
    script.chmod(0o755)
    with pytest.raises(SchedulerError, match="no answer within"):
        PySlurm("lab", python=str(script), timeout_s=1.5).finished(T0, T1)
    _until_gone(file)


def _until_gone(file: Path) -> None:
    """Wait until no process but ours has the file in its environment."""
    deadline = time.monotonic() + 60
    while left := [one for one in psutil.process_iter() if one.pid != os.getpid() and _has(one, file)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _has(process: psutil.Process, file: Path) -> bool:
    try:
        return process.environ().get("FAKE_PYSLURM") == str(file) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def test_an_error_without_a_failure_is_told(site: Site) -> None:
    """Beside records it is a problem; where nothing came at all, the answer is not believed."""
    site({}, mode="grumbles")
    found = PySlurm("lab").finished(T0, T1)
    assert len(found.records) == 1
    assert [str(one) for one in found.problems] == ["PySlurm said: python: error: Conn closed"]
    site(mode="grumbles")
    with pytest.raises(SchedulerError, match=r"^PySlurm: python: error: Conn closed$"):
        PySlurm("lab").finished(T0, T1)


def test_noise_on_stdout_is_not_the_answer(site: Site) -> None:
    """Even noise that looks like one."""
    site({}, mode="noise")
    assert len(PySlurm("lab").finished(T0, T1).records) == 1


def test_no_such_interpreter(tmp_path: Path) -> None:
    """The key is named."""
    with pytest.raises(SchedulerError, match=r"nowhere \(scheduler\.slurm\.python\): No such file"):
        PySlurm("lab", python=str(tmp_path / "nowhere")).finished(T0, T1)


def test_an_interpreter_without_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own `pyslurm.py` lies beside the child, and is not taken for it."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    isolated = subprocess.run(
        [sys.executable, "-c", "import pyslurm"], capture_output=True, check=False, cwd=CHILD.parents[2]
    )
    if isolated.returncode == 0:
        pytest.skip("PySlurm is installed here")
    with pytest.raises(SchedulerError, match=r"No module named 'pyslurm': install jobimpact\[slurm\] there"):
        PySlurm("lab").finished(T0, T1)


def test_pyslurm_without_resources_leaves_them_unknown(site: Site) -> None:
    """24.11 has no allocated_tres: not 0 CPUs, and said once for all jobs."""
    site({}, {"id_job": 124, "restart_cnt": 1}, mode="old", version="24.11.0")
    found = PySlurm("lab").finished(T0, T1)
    assert [(one.cpus, one.mem_bytes, one.gpus) for one in found.records] == [(None, None, None)] * 2
    assert [str(one) for one in found.problems] == [
        "PySlurm 24.11.0 has no allocated_tres: CPUs, memory and GPUs are not known",
        "PySlurm 24.11.0 has no requeue_count: earlier runs of requeued jobs are not told: use via: sacct",
    ]


def test_the_child_is_written_for_older_pythons_and_needs_nothing() -> None:
    """Its Python is the one that has PySlurm: 3.9 syntax, the standard library alone."""
    tree = ast.parse(CHILD.read_text(encoding="utf-8"), feature_version=(3, 9))
    named = [one.names[0].name for one in ast.walk(tree) if isinstance(one, ast.Import)]
    named += [str(one.module) for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in named} <= set(sys.stdlib_module_names)


# -- answers ---------------------------------------------------------------------------------------------------------

MINIMAL: dict[str, Any] = {"id": 1, "state": "COMPLETED", "submit_time": T0, "end_time": T0 + 9}


def answered(lines: list[dict[str, Any]]) -> Finished:
    whole = [{"pyslurm": "25.11.2", "lacks": []}, *lines, {"end": sum("job" in line for line in lines)}]
    data = "".join(json.dumps(line) + "\n" for line in whole).encode()
    return parse_answer(data, "lab", lambda job: job.state != "REVOKED")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"submit_time": None}, "PySlurm job '1': no submit time"),
        ({"start_time": "soon"}, "start_time"),
        ({"end_time": 12}, "end_time"),
        ({"id": None}, "PySlurm job '': "),
        ({"state": None}, r"\$\.state"),
        ({"nodelist": "../../etc/passwd"}, "node list"),
        ({"nodelist": "node[1-"}, "node list"),
        ({"allocated_tres": {"cpu": -1}}, "allocated_tres"),
        ({"allocated_tres": {"mem": 1 << 62}}, "mem .* more than there can be"),
        ({"broken": "gpus: ValueError: too many values"}, "gpus: ValueError: too many values"),
    ],
)
def test_a_job_that_cannot_be_read_is_named_and_the_others_go_on(changes: dict[str, Any], said: str) -> None:
    """One bad job is one problem."""
    found = answered([{"job": MINIMAL}, {"job": {**MINIMAL, **changes}}, {"job": {**MINIMAL, "id": 2}}])
    assert [one.raw_id for one in found.records] == ["1", "2"]
    [problem] = found.problems
    assert re.search(said, str(problem))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "has no version"),
        (b'{"end": 0}\n', "has no version"),
        (b'{"pyslurm": "25.11.2"}\n', "broke off after 0 jobs"),
        (b'{"pyslurm": "25.11.2"}\n{"job": {"id": 1}}\n{"end": 2}\n', "broke off after 1 jobs"),
        (b'{"pyslurm": "25.11.2"}\n{"job": {"id"', "line 2 of its answer"),
        (b'{"pyslurm": "25.11.2"}\nhello\n', "line 2 of its answer.*hello"),
        (b'{"pyslurm": "25.11.2"}\n\xff\n', "line 2 of its answer"),
    ],
)
def test_an_answer_that_is_not_whole_or_not_json_is_an_error(answer: bytes, said: str) -> None:
    """It is never taken for fewer jobs."""
    with pytest.raises(SchedulerError, match=said):
        parse_answer(answer, "lab", lambda _: True)


strange = st.one_of(
    st.none(),
    st.integers(-(1 << 70), 1 << 70),
    st.sampled_from([T0, 0, 1, -1, NO_VAL, "None assigned", "node[1-3]", "UNLIMITED"]),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.booleans(),
    st.dictionaries(st.sampled_from(["cpu", "mem", "gres/gpu", "gres/gpu:a100", "x"]), st.integers(-5, 1 << 64)),
)


@given(st.dictionaries(st.sampled_from([*ATTRIBUTES, "broken", "new"]), strange, max_size=8))
def test_no_attribute_can_crash_it(changes: dict[str, Any]) -> None:
    """Of whatever kind and size: there is a record with sensible numbers, or a problem that names the job."""
    found = answered([{"job": {**MINIMAL, **changes}}])
    if changes.get("state") == "REVOKED":
        return
    assert len(found.records) + len(found.problems) == 1
    for one in found.records:
        counts = (one.cpus, one.mem_bytes, one.gpus, one.elapsed_s, one.start_s, one.end_s, one.submit_s)
        assert all(count is None or 0 <= count <= 1 << 62 for count in counts)
        assert all(isinstance(text, str) for text in one.raw.values())
    for problem in found.problems:
        assert str(problem).startswith("PySlurm job ")


# -- wiring ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "expected"), [((), None), (("lab", "big"), ["lab"])])
def test_the_configuration_chooses_it(site: Site, names: tuple[str, ...], expected: list[str] | None) -> None:
    """With several clusters each is asked for by itself."""
    file = site({}, {"cluster": "big"})
    slurm = Slurm(via="pyslurm", clusters=names, python=sys.executable)
    source = job_source(Config(cluster="lab", scheduler=Scheduler(slurm=slurm)))
    assert [one.cluster for one in source.finished(T0, T1).records] == ["lab"]
    assert asked(file)[0].get("clusters") == expected
