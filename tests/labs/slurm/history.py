"""Jobs for slurmdbd: rows of the past as its own table has them, and some of every shape that are run."""

from __future__ import annotations

import calendar
import time

from tests.labs.lab import PATIENCE_S, until
from tests.labs.slurm.lab import SlurmLab

ALL_TASKS = 100_000
HOUR = 3600
DAY = 24 * HOUR
AUTUMN = calendar.timegm((2026, 10, 25, 1, 0, 0))
"""When it is 2 o'clock in Paris again."""
SPRING = calendar.timegm((2026, 3, 29, 1, 0, 0))
"""When it is 3 o'clock there after 2."""
MIDNIGHT = calendar.timegm((2026, 10, 21, 0, 0, 0))
HOSTILE = "a|b\nc\x1fd\x01\x1b[31m 'l\u00e9' \u6f22\u5b57\n1\x1f1\x1f"
COMMENT = "mine\n'\"\x1f|\\ é\n124|jobimpact:model=resnet50,steps=90000 and jobimpact:unit=image"

_NO_NUMBER = 4294967294
_PENDING, _COMPLETED, _NODE_FAIL, _PREEMPTED, _REVOKED = 0, 3, 7, 8, 1 << 19
_NOWHERE = {"nodelist": "None assigned", "tres_alloc": ""}
_ROW = {
    "account": "physics",
    "partition": "main",
    "nodelist": "jilab01",
    "nodes_alloc": 1,
    "priority": 1,
    "cpus_req": 2,
    "id_assoc": 5,
    "id_qos": 1,
    "id_resv": 0,
    "id_wckey": 0,
    "id_user": 2001,
    "id_group": 2001,
    "id_array_job": 0,
    "id_array_task": _NO_NUMBER,
    "array_task_str": "",
    "array_max_tasks": 0,
    "array_task_pending": 0,
    "het_job_id": 0,
    "het_job_offset": _NO_NUMBER,
    "state_reason_prev": 0,
    "state": _COMPLETED,
    "timelimit": 600,
    "time_suspended": 0,
    "tres_req": "1=2",
    "tres_alloc": "1=2,2=500,3=18446744073709551614,4=1,5=2",
}


def past(number: int, submit_s: int, start_s: int, end_s: int, **more: object) -> dict[str, object]:
    """A row of slurmdbd's table of jobs; its state is COMPLETED."""
    times = {"time_submit": submit_s, "time_eligible": submit_s, "time_start": start_s, "time_end": end_s}
    return {**_ROW, "id_job": number, "job_name": f"past{number}", **times, **more}


HISTORY = [
    # over the hour that Paris has twice, and over the one that it has not
    *(past(100_005 + at, AUTUMN - 9 * HOUR, AUTUMN - 9 * HOUR, AUTUMN + at * HOUR // 2) for at in range(-4, 5)),
    *(past(100_015 + at, SPRING - 9 * HOUR, SPRING - 9 * HOUR, SPRING + at * HOUR // 2) for at in range(-4, 5)),
    past(100_020, MIDNIGHT - HOUR, MIDNIGHT - HOUR, MIDNIGHT),
    past(100_021, MIDNIGHT - HOUR, MIDNIGHT - HOUR, MIDNIGHT - 1),
    past(100_022, MIDNIGHT - HOUR, MIDNIGHT - HOUR, MIDNIGHT + 3 * DAY, time_suspended=DAY),
    past(100_023, MIDNIGHT + 60, MIDNIGHT + 70, MIDNIGHT + 70),
    # one id, three lives
    past(100_030, MIDNIGHT + 100, MIDNIGHT + 200, MIDNIGHT + 300, state=_NODE_FAIL),
    past(100_030, MIDNIGHT + 300, MIDNIGHT + 400, MIDNIGHT + 500, state=_PREEMPTED),
    past(100_030, MIDNIGHT + 500, MIDNIGHT + 700, MIDNIGHT + 900),
    # a federation's sibling that another cluster ran, and one that waits
    past(100_040, MIDNIGHT + 100, MIDNIGHT + 200, MIDNIGHT + 250, state=_REVOKED, **_NOWHERE),
    past(100_041, MIDNIGHT + 100, 0, 0, state=_PENDING, **_NOWHERE),
    # before its submission: a clock that was set, or a resize as 22.05 writes it; and an end before its start
    past(100_050, MIDNIGHT + 100, MIDNIGHT + 90, MIDNIGHT + 150),
    past(100_051, MIDNIGHT + 100, MIDNIGHT + 120, MIDNIGHT + 110),
    past(100_052, MIDNIGHT + 100, 0, MIDNIGHT + 110),
    past(
        100_060,
        MIDNIGHT + 100,
        0,
        0,
        state=_PENDING,
        id_array_job=100_060,
        array_task_str="0x" + "F" * (ALL_TASKS // 4),
        array_max_tasks=4,
        array_task_pending=ALL_TASKS,
        **_NOWHERE,
    ),
    past(100_061, MIDNIGHT + 100, MIDNIGHT + 200, MIDNIGHT + 300, id_array_job=100_060, id_array_task=ALL_TASKS - 1),
]
"""Of the cluster `lab`."""
OTHERS = [past(100_020, MIDNIGHT - HOUR, MIDNIGHT - HOUR, MIDNIGHT, job_name="other's", nodelist="n[1-2]")]
"""Of the cluster `other`."""


def write_history(lab: SlurmLab) -> None:
    """Add the cluster `other`, and both clusters' rows."""
    lab.run(["sacctmgr", "-i", "add", "cluster", "other"])
    columns = ",".join(f"`{name}`" for name in HISTORY[0])
    for cluster, rows in (("lab", HISTORY), ("other", OTHERS)):
        values = ",".join("(" + ",".join(map(_sql, row.values())) + ")" for row in rows)
        query = f"INSERT INTO {cluster}_job_table ({columns}) VALUES {values};"  # noqa: S608 (ours alone)
        lab.run("mariadb --no-defaults -S $LAB/run/mysql.sock slurm_acct_db", stdin=query)


def _sql(value: object) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def run_jobs(lab: SlurmLab) -> dict[str, str]:
    """Run jobs on four nodes, until all but two are over and recorded.

    Returns:
        Job ids by what they are; `runs` and `waits` are for the caller to cancel.
    """
    first, second, third, fourth = lab.nodes[:4]
    go_on = lab.home / "history-goes-on"
    ids = {
        "runs": lab.sbatch("sleep 1000", "-w", fourth, "--mem=100"),
        "waits": lab.sbatch("true", "--hold", "--array=0-29999%4"),
        "resized": lab.sbatch("sleep 1000", "-N2", "-w", f"{second},{third}", "--mem=100"),
        "suspended": lab.sbatch(f"until [ -e {go_on} ]; do sleep 0.2; done", "-w", second, "--mem=100"),
        "again": lab.sbatch("true", "-w", second, "--mem=100"),
        "hostile": lab.sbatch("true", "-w", second, "--mem=100", "-J", HOSTILE, "--comment", COMMENT),
        "array": lab.sbatch("true", "-w", second, "--mem=100", "--array=0-1"),
        "gone": lab.sbatch("true", "--hold"),
        "exclusive": lab.sbatch("sleep 1", "-w", first, "--mem=100", "--exclusive"),
    }
    het = ["sbatch", "--parsable", "-w", second, "--mem=100", ":", "-w", third, "--mem=100", "--wrap", "true"]
    ids["het"] = lab.run(het, user="alice").stdout.strip()
    lab.wait_running(ids["resized"], ids["suspended"], ids["runs"], timeout=PATIENCE_S)
    lab.run(["scontrol", "suspend", ids["suspended"]])
    goes_by(2.5)
    lab.run(["scontrol", "resume", ids["suspended"]])
    go_on.touch()
    lab.run(["scontrol", "update", f"jobid={ids['resized']}", "NumNodes=1"])
    goes_by(2.5)
    lab.scancel(ids["resized"], ids["gone"])
    lab.wait([one for name, one in ids.items() if name not in {"runs", "waits"}], timeout=PATIENCE_S)
    waits = ("-X", "-j", ids["waits"], "-o", "jobid")
    until(lambda: f"{ids['waits']}_[" in lab.sacct(*waits), PATIENCE_S, lab.logs)
    return ids


def goes_by(seconds: float) -> None:
    """Let the scheduler's clock move on: it counts whole seconds."""
    time.sleep(seconds)
