"""What a long history costs on a real slurmdbd: `python -m tests.bench.slurm_history [JOBS] [DAYS]`.

The lab's slurmdbd and MariaDB get a month of jobs with two steps each, by SQL, and twelve nodes' files the runs. Each
question is the command that an admin types, a process of its own. Root, for the lab.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.accounting.world import World
from tests.bench.year import Step, step
from tests.bench.year_site import GIB, INVENTORY, NODES
from tests.labs.slurm.lab import SlurmLab, missing
from tests.labs.slurm.layout import Plan

from jobimpact.core.nodefile import node_file, open_for_writing

__all__ = ["main"]

HOUR, DAY = 3600, 86400
TO_S = int(datetime(2025, 12, 1, tzinfo=UTC).timestamp())
"""The end of the days that are accounted for in one go; the history has one more."""
SIZES = (1_000, 10_000, 100_000)
LANES_OF_A_NODE = 4
UNSET = 4294967294
STATES = {3: 80, 5: 8, 4: 6, 6: 5, 7: 1}
"""Slurm's numbers for COMPLETED, FAILED, CANCELLED, TIMEOUT and NODE_FAIL, and how often they are."""
REQUEUED = 1024
USERS = ((5, 2001, "physics"), (6, 2002, "physics"), (7, 2002, "bio"))
"""Association, uid and account, as the lab's `sacctmgr` makes them."""
JOB = (
    "job_db_inx", "mod_time", "account", "cpus_req", "exit_code", "job_name", "id_assoc", "id_array_job",
    "id_array_task", "id_job", "id_qos", "id_resv", "id_wckey", "id_user", "id_group", "het_job_id", "het_job_offset",
    "state_reason_prev", "mem_req", "nodelist", "nodes_alloc", "node_inx", "partition", "priority", "state",
    "timelimit", "time_submit", "time_eligible", "time_start", "time_end", "work_dir", "submit_line", "tres_alloc",
    "tres_req",
)  # fmt: skip
STEP = (
    "job_db_inx", "id_step", "nodelist", "nodes_alloc", "node_inx", "state", "step_name", "task_cnt", "time_start",
    "time_end", "user_sec", "tres_alloc", "tres_usage_in_ave", "tres_usage_in_max", "tres_usage_in_min",
    "tres_usage_in_tot",
)  # fmt: skip
ASK = """
import resource, sys, time
from jobimpact.schedulers.sacct import Sacct
begin = time.perf_counter()
found = Sacct("lab").finished(int(sys.argv[1]), int(sys.argv[2]))
took = time.perf_counter() - begin
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(len(found.records), len(found.problems), took, *(one.ru_maxrss for one in used))
"""


@dataclass(frozen=True)
class Job:
    """One life of a job."""

    id: int
    array: int
    task: int
    restart: int
    state: int
    submit: int
    start: int
    end: int
    nodes: tuple[str, ...]
    cpus: int
    """On each node, and so are GPUs."""
    mem_gib: int
    gpus: tuple[int, ...]


def jobs_of(count: int, days: int) -> list[Job]:
    """So many jobs over these days, and as many a day in the one after: one after the other on each node's lanes.

    The last lane of two nodes is one of jobs on both. Every seventh job is a task of an array, one in fifty is
    requeued on its way.
    """
    chance = random.Random(42)
    names = list(NODES)
    lanes = [((name,), lane) for name in names for lane in range(LANES_OF_A_NODE - 1)]
    lanes += [((one, other), LANES_OF_A_NODE - 1) for one, other in zip(names[::2], names[1::2], strict=True)]
    rows = 1.02 * len(lanes) * days * DAY / count
    """Seconds from one submission of a lane to its next: what is requeued has two rows."""
    found: list[Job] = []
    for number, (nodes, lane) in enumerate(lanes):
        kind = NODES[nodes[0]]
        at = TO_S - days * DAY + number * rows / len(lanes)
        while at < TO_S + DAY:
            submit, start = int(at), int(at) + chance.randint(0, int(rows / 10))
            end = start + int(rows * chance.uniform(0.05, 0.85))
            id_ = 1000 + len(found)
            gpus = (lane,) if kind.gpus and len({NODES[node].gpus for node in nodes}) == 1 else ()
            task = id_ % 10 if id_ % 7 == 0 else UNSET
            last = Job(
                id_, id_ - task if task < UNSET else 0, task, 0, chance.choices([*STATES], [*STATES.values()])[0],
                submit, start, end, nodes, kind.cores // LANES_OF_A_NODE, kind.mem_gib // LANES_OF_A_NODE, gpus,
            )  # fmt: skip
            found += _lives(last) if chance.random() < 0.02 and end - start > 10 else [last]
            at += rows
    return [one for one in found if one.end < TO_S + DAY]


def _lives(last: Job) -> list[Job]:
    """The same, requeued half-way."""
    middle = (last.start + last.end) // 2
    first = {**vars(last), "state": REQUEUED, "end": middle}
    return [Job(**first), Job(**{**vars(last), "restart": 1, "submit": middle + 1, "start": middle + 2})]


# -- slurmdbd -----------------------------------------------------------------------------------------------------


def load(lab: SlurmLab, jobs: list[Job]) -> None:
    """The history is these jobs, and nothing else."""
    gpu = _sql(lab, "SELECT id FROM tres_table WHERE type = 'gres' AND name = 'gpu'")
    path = lab.folder / "history.sql"
    with path.open("w", encoding="ascii") as file:
        file.write("SET autocommit=0; TRUNCATE lab_job_table; TRUNCATE lab_step_table;\n")
        for at in range(0, len(jobs), 500):
            some = list(enumerate(jobs[at : at + 500], at + 1))
            file.write(_insert("lab_job_table", JOB, [_job_row(number, one, gpu) for number, one in some]))
            steps = [row for number, one in some for row in _step_rows(number, one, gpu)]
            file.write(_insert("lab_step_table", STEP, steps))
        file.write("COMMIT;\n")
    _sql(lab, f"SOURCE {path}")
    path.unlink()


def _insert(table: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    values = ",".join(f"({','.join(map(repr, row))})" for row in rows)
    names = ",".join(f"`{name}`" for name in columns)
    return " ".join(["INSERT INTO", table, f"({names})", "VALUES", values, ";\n"])


def _job_row(number: int, one: Job, gpu: str) -> tuple[object, ...]:
    assoc, uid, account = USERS[one.id % len(USERS)]
    count, tres = len(one.nodes), _tres(one, gpu)
    return (
        number, one.end, account, one.cpus * count, 256 * (one.state == 5), f"train {one.id % 50}", assoc, one.array,
        one.task, one.id, 1, 0, 0, uid, uid, 0, UNSET, 0, one.mem_gib * 1024, _nodelist(one), count, "0", "main", 1,
        one.state, 1440, one.submit, one.submit, one.start, one.end, "/home/user", "sbatch run.sh", tres, tres,
    )  # fmt: skip


def _step_rows(number: int, one: Job, gpu: str) -> Iterator[tuple[object, ...]]:
    tres, used = _tres(one, gpu), f"1={(one.end - one.start) * one.cpus * 800},2={one.mem_gib * GIB}"
    for id_, name in ((-5, "batch"), (0, "python")):
        count = len(one.nodes) if id_ == 0 else 1
        seconds = (one.end - one.start) * one.cpus
        row = (number, id_, _nodelist(one), count, "0", one.state & 0xFF, name, 1, one.start, one.end, seconds, tres)
        yield (*row, used, used, used, used)


def _nodelist(one: Job) -> str:
    return ",".join(one.nodes)


def _tres(one: Job, gpu: str) -> str:
    count = len(one.nodes)
    whole = f"1={one.cpus * count},2={one.mem_gib * 1024 * count},4={count},5={one.cpus * count}"
    return f"{whole},{gpu}={len(one.gpus) * count}" if one.gpus else whole


def _sql(lab: SlurmLab, statement: str) -> str:
    command = ["mariadb", "--no-defaults", f"--socket={lab.folder}/run/mysql.sock", "-N", "slurm_acct_db"]
    return lab.run(command, stdin=f"{statement};\n", timeout=600).stdout.strip()


def questions(lab: SlurmLab) -> int:
    """How many statements MariaDB has had."""
    return int(_sql(lab, "SHOW GLOBAL STATUS LIKE 'Questions'").split()[1])


# -- nodes --------------------------------------------------------------------------------------------------------


def site(folder: Path, jobs: list[Job], days: int) -> World:
    """Configuration, inventory, and a file for each node with the runs of its jobs."""
    config = {
        "cluster": "lab",
        "store": {"local": {"path": "nodes"}},
        "results": "sqlite:///results.db",
        "scheduler": {"slurm": {"via": "sacct"}},
        "inventory": "nodes.yaml",
        "grid": {"zone": "FRA"},
    }
    world = World(folder, json.dumps(config), INVENTORY)
    for name in NODES:
        _write_node(folder / "nodes", name, [one for one in jobs if name in one.nodes], days)
    return world


def _write_node(folder: Path, name: str, jobs: list[Job], days: int) -> None:
    kind = NODES[name]
    db = open_for_writing(node_file(folder, name))
    db.execute("PRAGMA synchronous=OFF")
    db.execute("BEGIN")
    gpus = [f"GPU-{name}-{number}" for number in range(kind.gpus)]
    sums: dict[str, int] = {"package-0": 0, "dram-0": 0, **{f"gpu:{gpu}": 0 for gpu in gpus}}
    for one in jobs:
        mine = [gpus[gpu] for gpu in one.gpus]
        watts = {"package-0": 200 * one.cpus // kind.cores, "dram-0": 10, **{f"gpu:{gpu}": 220 for gpu in mine}}
        for domain, uj in _write_run(db, one, mine, watts, len(mine) / max(1, kind.gpus)).items():
            sums[domain] += uj
    known_ns = (days + 1) * DAY * 10**9
    for domain, uj in sums.items():
        kind_of = {"package-0": "cpu", "dram-0": "dram"}.get(domain, "gpu")
        idle_uj = 30 * known_ns // 1000
        row = (domain, kind_of, "nvml" if kind_of == "gpu" else "rapl", uj + idle_uj, known_ns)
        db.execute("INSERT INTO domain VALUES (?, ?, ?, 'counter', ?, 0, ?, NULL)", row)
        db.execute("INSERT INTO ledger VALUES (?, 'idle', ?, ?)", (domain, idle_uj, known_ns))
    db.execute("COMMIT")
    db.close()


def _write_run(
    db: sqlite3.Connection, one: Job, gpus: list[str], watts: dict[str, int], gpu_share: float
) -> dict[str, int]:
    """A run with its points at its begin, each full hour and its end; gives its energy by domain, in microjoules."""
    job, start, end = str(one.id), one.start + 0.5, one.end + 0.5
    key = job if one.restart == 0 else f"{job}#{one.restart}"
    elapsed_ns = (one.end - one.start) * 10**9
    row = (key, job, one.restart, 2001, one.cpus, one.mem_gib * GIB, json.dumps(gpus), start, end, elapsed_ns)
    held = json.dumps({"gpu": round(gpu_share * elapsed_ns)})
    db.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'ended', '[]', ?, '{}')", (*row, held))
    edges = [start, *range(int(start // HOUR + 1) * HOUR, math.ceil(end), HOUR), end]
    for domain, w in watts.items():
        points = [(key, domain, at, round(w * (at - start) * 1e6), round((at - start) * 1e9)) for at in edges]
        db.executemany("INSERT OR REPLACE INTO job_energy VALUES (?, ?, ?, ?, ?)", points)
        db.execute(
            "INSERT INTO ledger VALUES (?, ?, ?, ?)", (domain, key, w * (one.end - one.start) * 10**6, elapsed_ns)
        )
    return {domain: w * (one.end - one.start) * 10**6 for domain, w in watts.items()}


# -- what it costs ------------------------------------------------------------------------------------------------


def nights(lab: SlurmLab, world: World, days: int) -> Iterator[str]:
    """The days in one go, the next night, and that night again."""
    whole = ("account", "--from", str(TO_S - days * DAY), "--to", str(TO_S - 1))
    night = ("account", "--from", str(TO_S - 2 * DAY), "--to", str(TO_S + DAY - 1))
    asked = {
        f"the {days} days in one go": whole,
        "the next night: its three days": night,
        "the same night again": night,
    }
    asked["the days again"] = whole
    for what, words in asked.items():
        found, asks = _counted(lab, world, words)
        yield _row(what, found, asks)


def _counted(lab: SlurmLab, world: World, words: tuple[str, ...]) -> tuple[Step, int]:
    before = questions(lab)
    own = questions(lab) - before
    before += own
    found = step(world, *words)
    return found, questions(lab) - before - own


def _row(what: str, found: Step, asks: int) -> str:
    *said, counts = found.said.splitlines() or [""]
    counts = next((line.partition(": ")[2] for line in (counts, *said) if " unchanged" in line), counts)
    return (
        f"{what:32} {found.wall_s:7.2f} s, {found.cpu_s:7.2f} s of CPU, {found.peak_mb:4.0f} MB, "
        f"{asks:4} questions; {counts}"
    )


def out_by(world: World) -> float:
    """How far all results together are from what the nodes' books have of jobs, in J."""
    (told,) = sqlite3.connect(world.results).execute("SELECT sum(energy_j) FROM job_result").fetchone()
    booked = 0
    for name in NODES:
        db = sqlite3.connect(node_file(world.folder / "nodes", name))
        booked += db.execute("SELECT sum(uj) FROM ledger WHERE holder != 'idle'").fetchone()[0]
        db.close()
    return float(told) - booked / 1e6


def sacct_alone(days: int) -> tuple[int, float, float, float]:
    """Its records, in how many seconds, and the peaks in MB of the reader and of sacct."""
    command = [sys.executable, "-c", ASK, str(TO_S - days * DAY), str(TO_S - 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    jobs, problems, took, own_kb, other_kb = done.stdout.split()
    if problems != "0":
        raise SystemExit(f"{problems} rows could not be read")
    return int(jobs), float(took), int(own_kb) / 1e3, int(other_kb) / 1e3


def by_size(lab: SlurmLab, days: int, most: int) -> Iterator[str]:
    """What the same days cost with other numbers of jobs."""
    alone = f"{'jobs':>8} {'sacct alone':>13}{'ms a job':>10}{'peaks':>14}"
    yield f"{alone}{'account':>11}{'CPU':>9}{'ms a job':>10}{'peak':>8}"
    for count in (size for size in SIZES if size <= most):
        jobs = jobs_of(count, days)
        load(lab, jobs)
        found, took, own, other = sacct_alone(days)
        with tempfile.TemporaryDirectory() as name:
            world = site(Path(name), jobs, days)
            whole = step(world, "account", "--from", str(TO_S - days * DAY), "--to", str(TO_S - 1))
        alone = f"{found:8,} {took:11.2f} s{took / found * 1e3:10.3f}{own:5.0f} +{other:3.0f} MB"
        accounted = (
            f"{whole.wall_s:9.1f} s{whole.cpu_s:7.1f} s{whole.cpu_s / found * 1e3:10.2f}{whole.peak_mb:5.0f} MB"
        )
        yield alone + accounted


def main(count: int = 20_000, days: int = 30, most: int = SIZES[-1]) -> None:
    """Bring the lab up, load, and print."""
    reason = missing()
    if reason:
        print(f"not measured: {reason}")
        return
    with SlurmLab(Plan(nodes=2)) as lab, tempfile.TemporaryDirectory() as name:
        os.environ["PATH"] = f"{lab.bin_dir}:{os.environ['PATH']}"
        begin = time.perf_counter()
        jobs = jobs_of(count, days)
        load(lab, jobs)
        loaded_s = time.perf_counter() - begin
        world = site(Path(name), jobs, days)
        lives = sum(one.end < TO_S for one in jobs)
        version = re.sub(r"\s", " ", lab.run(["sacct", "--version"]).stdout).strip()
        print(
            f"{version}: {lives:,} rows of jobs and {2 * lives:,} of steps in {days} days, {len(NODES)} nodes", end=""
        )
        print(f" (loaded in {loaded_s:.0f} s)")
        for line in nights(lab, world, days):
            print(line, flush=True)
        print(f"{'results less nodes':32} {out_by(world):.6f} J")
        print(f"{'results.db':32} {world.results.stat().st_size / lives / 1e3:.1f} kB a job")
        for line in by_size(lab, days, most):
            print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.slurm_history", description=main.__doc__)
    parser.add_argument("jobs", nargs="?", type=int, default=20_000, help="how many (20000)")
    parser.add_argument("days", nargs="?", type=int, default=30, help="over how many days (30)")
    parser.add_argument("--most", type=int, default=SIZES[-1], help=f"the largest of {SIZES} to compare (the last)")
    told = parser.parse_args()
    main(told.jobs, told.days, told.most)
