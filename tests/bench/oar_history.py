"""What a long history costs OAR's reader: `python -m tests.bench.oar_history [JOBS]`.

A PostgreSQL of its own gets a site of 100 nodes with 32 cores and 300,000 jobs of eight cores over 437 days. Each
question is asked by a process of its own, which is all that the night would need for its records. Then `jobimpact
account` itself, over 30 days that the nodes' books know as well, over the day after, and once more.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.accounting.oar.site import T0, Site
from tests.accounting.world import World
from tests.bench.node_books import BookedRun, write_node
from tests.bench.year import step
from tests.fakes.postgres import Postgres, missing

__all__ = ["main"]

DAY_S = 86400
DAYS = 437
NODES = 100
CORES = 32
CORES_OF_A_JOB = 8

_ASK = """
import resource, sys, time
from jobimpact.core.config import Oar
from jobimpact.schedulers.oar import OarRecords
dsn, from_s, to_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
begin = time.perf_counter()
found = OarRecords(Oar(dsn=dsn), "lab").finished(from_s, to_s)
took = time.perf_counter() - begin
print(len(found.records), len(found.problems), took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
_FILL = """
INSERT INTO resources (resource_id, network_address, cpuset, gpudevice)
SELECT n, format('node-%s.site.example', (n - 1) / {cores} + 1), ((n - 1) % {cores})::text,
  CASE WHEN n % 2 = 0 THEN ((n - 1) % {cores}) / 8 END
FROM generate_series(1, {nodes} * {cores}) n;

CREATE TEMP TABLE life AS
SELECT n, {last} - (({jobs} - n) * {days}::bigint * 86400 / {jobs})::int AS final,
  60 + (n * 7919::bigint % 7140)::int AS runs
FROM generate_series(1, {jobs}) n;

INSERT INTO jobs (job_id, array_id, array_index, job_name, job_user, project, queue_name, state, exit_code,
  submission_time, start_time, stop_time, assigned_moldable_job, resubmit_job_id, reservation, job_type, message,
  properties, suspended, accounted, command)
SELECT n, n, 1, 'job ' || n % 1000, 'user' || n % 200, 'project' || n % 30, 'default',
  CASE WHEN n % 20 = 0 THEN 'Error' ELSE 'Terminated' END, CASE WHEN n % 20 = 0 THEN NULL ELSE n % 7 * 256 END,
  final - runs - 60, final - runs - 4, final - 2, n, 0, 'None', 'PASSIVE', 'R=8,W=2:0:0,J=B,N=job,P=project',
  'desktop_computing = ''NO''', 'NO', 'YES', repeat('x', 200)
FROM life;

INSERT INTO moldable_job_descriptions SELECT n, n, 7200 FROM life;

INSERT INTO assigned_resources
SELECT n, (n::bigint * {each} + i) % ({nodes} * {cores}) + 1 FROM life, generate_series(0, {each} - 1) i;

INSERT INTO job_types (job_id, type) SELECT n, 'besteffort' FROM life WHERE n % 5 = 0;

INSERT INTO job_state_logs (job_id, job_state, date_start, date_stop)
SELECT n, state, begins, ends FROM life, LATERAL (VALUES
  ('Waiting', final - runs - 60, final - runs - 6), ('toLaunch', final - runs - 6, final - runs - 5),
  ('Launching', final - runs - 5, final - runs - 2), ('Running', final - runs - 2, final - 2),
  ('Finishing', final - 2, final), (CASE WHEN n % 20 = 0 THEN 'Error' ELSE 'Terminated' END, final, 0)
) log (state, begins, ends) ORDER BY begins, n;

INSERT INTO event_logs (type, job_id, date, description)
SELECT type, n, final - 2, '[bipbip ' || n || '] Ask to change the job state' FROM life, LATERAL (VALUES
  ('SWITCH_INTO_TERMINATE_STATE', true), ('FRAG_JOB_REQUEST', n % 20 = 0), ('WALLTIME', n % 20 = 0)
) happened (type, so) WHERE so ORDER BY final, n;

DROP TABLE life;
ANALYZE;
"""


def fill(site: Site, jobs: int) -> None:
    """Jobs that end evenly over the days, the last at T0."""
    numbers = {"jobs": jobs, "days": DAYS, "nodes": NODES, "cores": CORES, "each": CORES_OF_A_JOB, "last": T0}
    site.db.execute("SET jit = off")
    site.db.execute(_FILL.format(**numbers).encode())


RUNS = """
SELECT split_part(r.network_address, '.', 1), j.job_id, l.date_start, l.date_stop, count(*)
FROM jobs j
JOIN job_state_logs l ON l.job_id = j.job_id AND l.job_state = 'Running'
JOIN assigned_resources a ON a.moldable_job_id = j.assigned_moldable_job
JOIN resources r ON r.resource_id = a.resource_id
WHERE l.date_stop BETWEEN %s AND %s GROUP BY 1, 2, 3, 4 ORDER BY 1, 3
"""
INVENTORY = """
pue: 1.3
types:
  node: {nodes: "node-[1-100]", cpu: {model: AMD EPYC 7413 24-Core Processor, count: 2, cores: 16}, ram_gb: 256}
"""
CONFIG = {
    "cluster": "lab",
    "store": {"local": {"path": "nodes"}},
    "results": "sqlite:///results.db",
    "inventory": "nodes.yaml",
    "grid": {"zone": "FRA"},
}
WATTS = 50


def books(site: Site, world: World, from_s: int, to_s: int) -> int:
    """Files of the nodes that have each run of these days, of 50 W. Gives their energy in microjoules."""
    by_node: dict[str, list[BookedRun]] = {}
    for node, job, start_s, end_s, cores in site.db.execute(RUNS.encode(), (from_s, to_s)):
        name = node.decode() if isinstance(node, bytes) else node
        by_node.setdefault(name, []).append(BookedRun(str(job), start_s, end_s, cores))
    return sum(write_node(world, node, runs, WATTS) for node, runs in by_node.items())


def nights(server: Postgres, site: Site) -> None:
    """Account for 30 days, for the next night's three, and for these again."""
    to_s = T0 - DAY_S
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), json.dumps(CONFIG | {"scheduler": {"oar": {"dsn": site.dsn()}}}), INVENTORY)
        whole_uj = books(site, world, to_s - 30 * DAY_S, T0)
        print(f"{'jobimpact account':>34} {'wall':>8} {'CPU':>8} {'questions':>9} {'peak MB':>8}")
        windows = (
            ("30 days", to_s - 30 * DAY_S, to_s),
            ("the next night, 3 days back", T0 - 3 * DAY_S, T0),
            ("the same again", T0 - 3 * DAY_S, T0),
            ("31 days again", to_s - 30 * DAY_S, T0),
        )
        for name, from_s, until_s in windows:
            before = server.log.stat().st_size
            found = step(world, "account", "--from", str(from_s), "--to", str(until_s))
            asked = questions(server, before)
            said = found.said.splitlines()[-1].partition("UTC: ")[2]
            print(f"{name:>34} {found.wall_s:7.1f}s {found.cpu_s:7.1f}s {asked:9} {found.peak_mb:8.0f}  {said}")
        with sqlite3.connect(world.results) as db:
            [(told_j,)] = db.execute("SELECT sum(energy_j) FROM job_result").fetchall()
        print(f"energy in the results {told_j:.6f} J, in the nodes' books {whole_uj / 1e6:.6f} J")


def questions(server: Postgres, before: int) -> int:
    """How many statements were logged since."""
    with server.log.open(errors="replace") as log:
        log.seek(before)
        return len(re.findall(r"LOG:  (?:statement|execute)", log.read()))


def ask(server: Postgres, site: Site, from_s: int, to_s: int) -> tuple[int, float, int, float]:
    """How many jobs, in how many seconds and questions, and the process's peak in MB."""
    before = server.log.stat().st_size
    command = [sys.executable, "-c", _ASK, site.dsn(), str(from_s), str(to_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    jobs, problems, took, peak_kb = done.stdout.split()
    if problems != "0":
        raise SystemExit(f"{problems} rows could not be read")
    return int(jobs), float(took), questions(server, before), int(peak_kb) / 1e3


def main(jobs: int = 300_000) -> None:
    """Print the table."""
    reason = missing()
    if reason:
        print(f"not measured: {reason}")
        return
    second_per_job = DAYS * DAY_S / jobs
    with Postgres(shared_buffers="128MB", max_wal_size="4GB") as server:
        with server.connect() as db:
            db.execute("CREATE ROLE oar_ro LOGIN")
        site = Site(server, "oar")
        fill(site, jobs)
        with server.connect() as db:
            db.execute("ALTER ROLE oar_ro SET log_statement = 'all'")
            [(size,)] = db.execute("SELECT pg_database_size(current_database())")
        asked = [("30 days", 30 * DAY_S), ("3 days", 3 * DAY_S), ("1 day", DAY_S), ("no job", 0)]
        asked += [(f"{n:,} jobs", int(n * second_per_job)) for n in (1_000, 10_000, 100_000) if n < jobs]
        print(
            f"{jobs:,} jobs, {jobs * CORES_OF_A_JOB:,} assigned rows, {NODES * CORES:,} resources, {size / 1e6:.0f} MB"
        )
        print(f"{'window':>13} {'jobs':>8} {'seconds':>8} {'ms per job':>10} {'questions':>9} {'peak MB':>8}")
        for name, length_s in asked:
            to_s = T0 + 1 if length_s else T0 + 10 * DAY_S
            found, took, asked_for, peak = ask(server, site, to_s - length_s, to_s)
            each = f"{took / found * 1e3:10.3f}" if found else f"{'-':>10}"
            print(f"{name:>13} {found:8,} {took:8.2f} {each} {asked_for:9} {peak:8.0f}")
        nights(server, site)
        site.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.oar_history", description=main.__doc__)
    parser.add_argument("jobs", nargs="?", type=int, default=300_000, help="in the database (300000)")
    main(parser.parse_args().jobs)
