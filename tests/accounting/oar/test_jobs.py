"""OAR's jobs, as a real OAR 2.5.9 left them in its database: when they ran, how they ended, what they held."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.accounting.oar.conftest import Make
from tests.accounting.oar.site import T0, Site

from jobimpact.core.records import JobRecord

HOUR = 3600
NEVER = {"start_s": None, "elapsed_s": None, "nodes": (), "cpus": None, "gpus": None, "exit_code": None}


def only(site: Site, **settings: Any) -> JobRecord:
    """The one job that ended in the hour."""
    found = site.records(**settings).finished(T0, T0 + HOUR)
    assert found.problems == ()
    [record] = found.records
    return record


def after(record: JobRecord, expected: dict[str, Any]) -> dict[str, Any]:
    """What is asked for of a record, times as seconds after T0."""
    found = {name: getattr(record, name) for name in expected}
    for name in ("submit_s", "start_s", "end_s"):
        if found.get(name) is not None:
            found[name] -= T0
    return found


def test_a_record_of_every_kind_of_field(site: Site) -> None:
    """The run is from the first second of `Running` to its last: start_time and stop_time are others."""
    site.job(7, resources=[1, 2, 5], exit_code=768, job_name="nn", project="p", queue_name="q", resubmit_job_id=3)
    record = only(site)
    assert after(record, dict.fromkeys(JobRecord.__struct_fields__)) | {"raw": {}} == {
        "cluster": "lab",
        "raw_id": "7",
        "job_id": "7",
        "key": f"7@{T0}",
        "user": "ana",
        "account": "p",
        "partition": "q",
        "name": "nn",
        "state": "FAILED",
        "exit_code": "3:0",
        "submit_s": 0,
        "start_s": 4,
        "end_s": 104,
        "elapsed_s": 100,
        "nodes": ("n1", "n2"),
        "cpus": 3,
        "mem_bytes": None,
        "gpus": 1,
        "raw": {},
        "exclusive": False,
        "array_id": None,
        "off_books": None,
        "time_limit_s": 3600.0,
        "labels": {},
    }


@pytest.mark.parametrize(("walltime", "expected"), [(60, 60.0), (0, None), (-5, None)])
def test_its_walltime_is_its_time_limit(site: Site, walltime: int, expected: float | None) -> None:
    """What OAR gave it in the end; a number that is no time is none."""
    site.job(7, resources=[1], walltime=walltime)
    assert only(site).time_limit_s == expected


def test_raw_is_all_that_oar_said(site: Site) -> None:
    """Columns of the job, its walltime, types, events, states and resources; the command stays with OAR."""
    types, events = ["besteffort", "idempotent"], [("X", 1), ("Y", 2), ("X", 9)]
    site.job(7, "Waiting 0-1, Running 1-9, Terminated 9", [1, 2, 3, 6], types, events, 60, resubmit_job_id=3)
    raw = only(site).raw
    assert {
        name: raw[name] for name in ("state", "exit_code", "resubmit_job_id", "moldable_walltime", "job_user")
    } == {
        "state": "Terminated",
        "exit_code": "0",
        "resubmit_job_id": "3",
        "moldable_walltime": "60",
        "job_user": "ana",
    }
    assert json.loads(raw["types"]) == types
    assert json.loads(raw["events"]) == [
        ["X", 2, T0 + 1, T0 + 9, "[OAR] X of 7"],
        ["Y", 1, T0 + 2, T0 + 2, "[OAR] Y of 7"],
    ]
    assert json.loads(raw["states"])[1] == ["Running", T0 + 1, T0 + 9]
    assert raw["resources"] == "1-3,6"
    assert json.loads(raw["cpusets"]) == {"n1": "0-2", "n2": "1"}
    assert json.loads(raw["gpus"]) == {"n1": "0-1"}
    assert "secret" not in json.dumps(raw)


def test_labels_stand_in_the_name(site: Site) -> None:
    """OAR has no comment; its `message` is the scheduler's own, and has the name in it."""
    name = "train jobimpact:model=gpt,steps=90"
    site.job(7, job_name=name)
    assert (only(site).name, only(site).labels) == (name, {"model": "gpt", "steps": "90"})


FRAG, KILL = "FRAG_JOB_REQUEST", "SEND_KILL_JOB"
ENDED = "Waiting 0-1, toLaunch 1-2, Launching 2-4, Running 4-30, Finishing 30-31, "
NOT_LAUNCHED = "Waiting 0-0, toLaunch 0-0, Launching 0-2, Finishing 2-2, Error 2"
STORIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "it went well": ({}, {"state": "COMPLETED", "exit_code": "0:0"}),
    "it failed": ({"exit_code": 256}, {"state": "FAILED", "exit_code": "1:0"}),
    "it was killed by a signal": ({"exit_code": 9}, {"state": "FAILED", "exit_code": "0:9"}),
    "it dumped core": ({"exit_code": 139}, {"state": "FAILED", "exit_code": "0:11"}),
    "a status that is none": ({"exit_code": -1}, {"state": "FAILED", "exit_code": None}),
    "interactive, and left": ({"exit_code": None}, {"state": "COMPLETED", "exit_code": None}),
    "deleted when it was over": ({"events": [(FRAG, 500)]}, {"state": "COMPLETED"}),
    "failed, and deleted when it was over": ({"exit_code": 256, "events": [(FRAG, 500)]}, {"state": "FAILED"}),
    "killed, and its exit status was 0": (
        {"log": ENDED + "Error 31", "exit_code": 0, "events": [("WALLTIME", 28)]},
        {"state": "TIMEOUT", "exit_code": "0:0"},
    ),
    "deleted, and done before the signal": ({"events": [(FRAG, 3), (KILL, 5)]}, {"state": "COMPLETED"}),
    "deleted": (
        {"log": ENDED + "Error 31", "events": [(FRAG, 28), (KILL, 29)]},
        {"state": "CANCELLED", "exit_code": None, "end_s": 30, "elapsed_s": 26},
    ),
    "walltime": (
        {"log": ENDED + "Error 31", "events": [(FRAG, 28), ("WALLTIME", 28), (KILL, 29)]},
        {"state": "TIMEOUT", "exit_code": None},
    ),
    "a besteffort job made way": (
        {
            "log": ENDED + "Error 31",
            "types": ["besteffort", "idempotent"],
            "events": [(FRAG, 29), (KILL, 29), ("BESTEFFORT_KILL", 30), ("RESUBMIT_JOB_AUTOMATICALLY", 31)],
        },
        {"state": "PREEMPTED", "start_s": 4},
    ),
    "its node died": (
        {
            "log": "Waiting 0-0, toLaunch 0-0, Launching 0-1, Running 1-343, Finishing 343-344, Error 344",
            "events": [
                (FRAG, 31),
                ("WALLTIME", 31),
                (KILL, 31),
                ("EXTERMINATE_JOB", 344),
                ("CPUSET_CLEAN_ERROR", 344),
            ],
        },
        {"state": "NODE_FAIL", "start_s": 1, "end_s": 343, "nodes": ("n1",)},
    ),
    "its prologue failed": (
        {"log": NOT_LAUNCHED, "start_time": 1, "stop_time": 2, "events": [("PROLOGUE_ERROR", 2)]},
        NEVER | {"state": "BOOT_FAIL", "end_s": 2},
    ),
    "the server's prologue hung": (
        {
            "log": "Waiting 0-0, Launching 0-23, Error 23",
            "stop_time": None,
            "events": [("SERVER_PROLOGUE_TIMEOUT", 23), ("RESUBMIT_JOB_AUTOMATICALLY", 23)],
        },
        NEVER | {"state": "BOOT_FAIL", "end_s": 23},
    ),
    "no cgroup for it": (
        {"log": "Waiting 0-0, toLaunch 0-1, Launching 1-1, Error 1", "stop_time": 1, "events": [("CPUSET_ERROR", 1)]},
        NEVER | {"state": "BOOT_FAIL", "end_s": 1},
    ),
    "launched for ever": (
        {
            "log": "Waiting 0-1, Launching 1-172, Finishing 172-193, Error 193",
            "stop_time": 172,
            "events": [(FRAG, 35), (KILL, 35), ("LAUNCHING_OAREXEC_TIMEOUT", 192)],
        },
        NEVER | {"state": "NODE_FAIL", "end_s": 172},
    ),
    "deleted while it waited": (
        {"log": "Waiting 0-35, Error 35", "resources": [], "events": [(FRAG, 35)]},
        NEVER | {"state": "CANCELLED", "end_s": 35},
    ),
    "a reservation nobody could be told of": (
        {
            "log": "Waiting 0-0, toAckReservation 0-311, Finishing 311-311, Error 311",
            "resources": [],
            "reservation": "Scheduled",
            "start_time": 59,
            "stop_time": 311,
            "events": [("CANNOT_NOTIFY_OARSUB", 0), (FRAG, 0), ("EXTERMINATE_JOB", 311)],
        },
        NEVER | {"state": "CANCELLED", "end_s": 311},
    ),
    "a reservation taken back before its time": (
        {
            "log": "Waiting 0-50, Error 50",
            "reservation": "Scheduled",
            "start_time": 9000,
            "stop_time": 9000,
            "events": [(FRAG, 49)],
        },
        NEVER | {"state": "CANCELLED", "end_s": 50},
    ),
    "a reservation that ran, and was cut": (
        {"reservation": "Scheduled", "walltime": 27, "events": [("REDUCE_RESERVATION_WALLTIME", 2)]},
        {"state": "COMPLETED", "start_s": 4},
    ),
    "it never ran, and nobody says why": (
        {"log": "Waiting 0-35, Error 35", "resources": []},
        NEVER | {"state": "CANCELLED", "end_s": 35},
    ),
    "its folder was not there": (
        {"log": NOT_LAUNCHED, "events": [("WORKING_DIRECTORY", 2)]},
        NEVER | {"state": "FAILED"},
    ),
    "suspended for a while": (
        {
            "log": "Waiting 0-2, toLaunch 2-2, Launching 2-4, Running 4-8, Suspended 8-17, Resuming 17-72, "
            "Running 72-86, Finishing 86-87, Terminated 87",
            "suspended": "YES",
        },
        {"state": "COMPLETED", "start_s": 4, "end_s": 86, "elapsed_s": 18},
    ),
    "killed while suspended": (
        {"log": "Waiting 0-2, Running 2-10, Suspended 10-40, Error 40", "events": [(FRAG, 39)]},
        {"state": "CANCELLED", "start_s": 2, "end_s": 40, "elapsed_s": 8},
    ),
    "a noop job's walltime is its end": (
        {
            "log": "Waiting 0-8, toLaunch 8-8, Launching 8-8, Running 8-49, Terminated 49",
            "types": ["noop"],
            "exit_code": None,
            "stop_time": 49,
            "events": [(FRAG, 49), ("WALLTIME", 49)],
        },
        {"state": "COMPLETED", "elapsed_s": 41, "exit_code": None, "exclusive": False},
    ),
    "a log that lost an end": (
        {"log": "Waiting 0-1, Running 4, Suspended 64-84, Running 84, Terminated 124", "stop_time": 130},
        {"start_s": 4, "end_s": 124, "elapsed_s": 100},
    ),
    "over, and its log not written yet": (
        {"log": "Waiting 0-1, Running 4", "state": "Terminated", "stop_time": 104, "exit_code": 0},
        {"state": "COMPLETED", "start_s": 4, "end_s": 104, "elapsed_s": 100},
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_how_jobs_end(site: Site, story: str) -> None:
    """Each as OAR's own log tells it, in the words that reports know."""
    told, expected = STORIES[story]
    site.job(**{"resources": [1]} | told)
    assert after(only(site), expected) == expected


@pytest.mark.parametrize(
    ("types", "exclusive", "off_books"),
    [
        ([], False, None),
        (["besteffort", "idempotent"], False, None),
        (["timesharing=*,*"], False, None),
        (["container"], False, None),
        (["inner=63"], False, None),
        (["deploy"], True, "deploy job"),
        (["deploy=standby"], True, "deploy job"),
        (["cosystem"], False, "cosystem job"),
        (["noop=standby"], False, "noop job"),
        (["desktop_computing"], False, "desktop_computing job"),
    ],
)
def test_jobs_that_no_node_can_have_booked(
    site: Site, types: list[str], exclusive: bool, off_books: str | None
) -> None:
    """OAR starts nothing on the nodes of some, and a deploy job's own system runs where the daemon did."""
    site.job(resources=[1, 2], types=types)
    record = only(site)
    assert (record.exclusive, record.nodes, record.cpus) == (exclusive, ("n1",), 2)
    assert record.off_books is None if off_books is None else off_books in (record.off_books or "")


def test_container_and_inner_jobs_both_hold_their_cores(site: Site) -> None:
    """The accounts lay jobs that share cores over each other."""
    site.job(63, resources=[5, 6], types=["container"])
    site.job(64, resources=[5], types=["inner=63"])
    container, inner = site.records().finished(T0, T0 + HOUR).records
    assert (container.nodes, container.cpus) == (("n2",), 2)
    assert (inner.nodes, inner.cpus, json.loads(inner.raw["types"])) == (("n2",), 1, ["inner=63"])


def test_an_array_has_several_members(site: Site) -> None:
    """A job that was submitted again keeps its forerunner's array: that is none."""
    for job, index in ((8, 1), (9, 2), (10, 3)):
        site.job(job, array_id=8, array_index=index, resources=[job - 7])
    site.job(21, resources=[1])
    site.job(26, array_id=21, resubmit_job_id=21, resources=[1])
    found = site.records().finished(T0, T0 + HOUR).records
    arrays = {one.job_id: one.array_id for one in found}
    assert arrays == {"8": "8", "9": "8", "10": "8", "21": None, "26": None}


def test_what_is_on_no_node_is_not_held(site: Site) -> None:
    """Licences and disks are resources too."""
    site.put("resources", resource_id=90, type="licence", network_address="n9", cpuset="0")
    site.put("resources", resource_id=91, type="default", network_address="", cpuset="0")
    site.job(resources=[1, 90, 91])
    assert only(site).nodes == ("n1",)


@pytest.mark.parametrize(
    ("address", "full_names", "name"),
    [
        ("gros-1.nancy.grid5000.fr", False, "gros-1"),
        ("gros-1.nancy.grid5000.fr", True, "gros-1.nancy.grid5000.fr"),
        ("gros-1", False, "gros-1"),
        ("10.77.0.1", False, "10.77.0.1"),
    ],
)
def test_a_node_s_name(make: Make, address: str, full_names: bool, name: str) -> None:
    """Up to the first dot, as the daemon's own; a number stays whole."""
    site = make()
    site.node(address, [0], 1)
    site.job(resources=[1])
    assert only(site, full_names=full_names).nodes == (name,)


@pytest.mark.parametrize(
    ("properties", "cpusets", "values", "cpus", "gpus"),
    [
        ({"gpudevice": "int"}, ["0", "1", "2"], [0, 0, None], 3, 1),
        ({"gpudevice": "int"}, ["0", "1"], [None, None], 2, 0),
        ({"gpudevice": "varchar(255)", "gpu": "int"}, ["0,32", "1+33", "2 34"], ["/dev/nvidia0"] * 2 + [None], 6, 1),
        ({"gpudevice": "text"}, ["0-3"], ["/dev/dri/card1+/dev/dri/renderD128"], 4, 1),
        ({"gpudevice": "text"}, ["0"], ["/dev/nvidia0,/dev/nvidia1 /dev/nvidiactl"], 1, 2),
        ({"gpudevice": "text"}, ["0"], [""], 1, 0),
        ({"gpu": "int"}, ["0", "1", "2"], [7, 8, 7], 3, 2),
        ({"core": "int"}, ["0", "1"], [1, 2], 2, None),
        ({"gpu": "int"}, ["0", ""], [1, 1], None, 1),
        ({"gpu": "int"}, ["0", "all"], [None, None], None, 0),
    ],
)
def test_cpus_and_gpus_by_the_site_s_own_properties(
    make: Make, properties: dict[str, str], cpusets: list[str], values: list[Any], cpus: int | None, gpus: int | None
) -> None:
    """OAR 2.5 has numbers, 2.6 and 3 lists and device files; device 0 is a GPU, and NULL is none."""
    site = make(properties=properties)
    site.node("n1", cpusets, 1, **{next(iter(properties)): values})
    site.job(resources=range(1, len(cpusets) + 1))
    record = only(site)
    assert (record.cpus, record.gpus) == (cpus, gpus)


def test_gpus_of_several_nodes_are_several(make: Make) -> None:
    """Each node counts its devices from 0 on."""
    site = make()
    site.node("n1", [0, 1], 1, gpudevice=[0, 1])
    site.node("n2", [0, 1], 3, gpudevice=[0, 1])
    site.job(resources=[1, 2, 3, 4])
    record = only(site)
    assert (record.gpus, record.cpus, record.nodes) == (4, 4, ("n1", "n2"))


def test_columns_of_other_versions(site: Site) -> None:
    """OAR 3 has more of them, and they are kept; a column that the role may not read is left out."""
    site.db.execute("ALTER TABLE jobs ADD COLUMN last_karma float DEFAULT 0.5, ADD COLUMN hidden text DEFAULT 'x'")
    site.db.execute("REVOKE SELECT ON jobs FROM oar_ro")
    names = [row[0] for row in site.db.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'jobs'::regclass")]
    shown = ", ".join(sorted({*names} - {"hidden", "tableoid", "cmax", "xmax", "cmin", "xmin", "ctid"}))
    site.db.execute(f"GRANT SELECT ({shown}) ON jobs TO oar_ro")
    site.job(resources=[1])
    raw = only(site).raw
    assert raw["last_karma"] == "0.5"
    assert "hidden" not in raw
