"""What a server has of one job, in files like the nodes' own: for who asks before it is accounted for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from jobimpact.core.config import Config
from jobimpact.core.errors import StoreError
from jobimpact.core.nodefile import node_file, open_for_writing
from jobimpact.core.series import JOB_ENERGY, JOB_LABEL, JOB_PROGRESS, JOB_RUN, NODE_DOMAIN
from jobimpact.mirror.memory import PUT, PUT_RUN, OwnFile, domain_row, put_said, run_row
from jobimpact.mirror.rows import Arrivals, Arrived
from jobimpact.store.series import HOUR_MS, SeriesReader

__all__ = ["LIVE_DAYS", "copy_job"]

LIVE_DAYS = 31
"""A job that runs, or is not accounted for yet, is looked for so far back."""
MOST_RESTARTS = 1000


def copy_job(reader: SeriesReader, folder: Path, config: Config, raw_id: str, now_s: float) -> None:
    """Write what the server has of one job into a folder, a file for each of its nodes.

    Raises:
        StoreError: the server cannot be read, or the folder written.
    """
    from_ms, to_ms = int((now_s - LIVE_DAYS * 86400) * 1000), int(now_s * 1000) + HOUR_MS
    cluster = {"cluster": config.cluster}
    arrivals = Arrivals(config.cluster)
    # One incarnation may have run where nobody metered it: the next one is looked for nevertheless.
    missed = 0
    for restart in range(MOST_RESTARTS):
        run = raw_id if not restart else f"{raw_id}#{restart}"
        before = sum(len(one.runs) for one in arrivals.nodes.values())
        arrivals.add(JOB_RUN, reader.latest(JOB_RUN, from_ms, to_ms, cluster | {"run": run}))
        missed = missed + 1 if before == sum(len(one.runs) for one in arrivals.nodes.values()) else 0
        if missed > 1:
            break
        if not missed:
            mine = cluster | {"run": run}
            arrivals.add(JOB_ENERGY, reader.edges(JOB_ENERGY, from_ms, to_ms, mine))
            arrivals.add(JOB_LABEL, reader.latest(JOB_LABEL, from_ms, to_ms, mine))
            arrivals.add(JOB_PROGRESS, reader.rows(JOB_PROGRESS, from_ms, to_ms, mine))
    for node, arrived in arrivals.nodes.items():
        arrivals.add(NODE_DOMAIN, reader.latest(NODE_DOMAIN, from_ms, to_ms, cluster | {"node": node}))
        _write(node_file(folder, node), node, config.cluster, arrived)


def _write(path: Path, node: str, cluster: str, arrived: Arrived) -> None:
    """Write what came of one job on one node, in a file of its own.

    Raises:
        StoreError: it cannot be written.
    """
    db = open_for_writing(path)
    nothing = OwnFile()
    try:
        with db:
            db.executemany("INSERT INTO meta VALUES (?, ?)", [("node", node), ("cluster", cluster)])
            latest = {name: one for _, cut in sorted(arrived.domains.items()) for name, one in cut.items()}
            rows = [domain_row(one, nothing) for one in latest.values()]
            db.executemany("INSERT INTO domain VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            runs = [run_row(one, one.elapsed_ns) for _, one in arrived.runs.values()]
            db.executemany(PUT_RUN, runs)
            put_said(db, arrived, nothing)
            for (run, domain), points in arrived.energy.items():
                best = max(uj for uj, _ in points.values()), max(known_ns for _, known_ns in points.values())
                db.execute(PUT, (domain, run, *best))
                each = [(run, domain, at / 1000, *found) for at, found in points.items()]
                db.executemany("INSERT INTO job_energy VALUES (?, ?, ?, ?, ?)", each)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    finally:
        db.close()
