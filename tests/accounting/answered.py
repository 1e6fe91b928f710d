"""Results for the tests of answers: rows of several users, written as a night writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tests.accounting.world import T0, World, record

from jobimpact.core.records import DomainEnergy, JobEnergy, RunEnergy
from jobimpact.nightly.accounts import Accounts
from jobimpact.results.record import Entry, JobResult
from jobimpact.results.write import Results


def measured(world: World, job: str = "1", joules: float | None = 5000.0, **changes: Any) -> JobResult:
    """A job of 100 s on node01 with this energy, all of it of its CPU; None: nothing is known of it."""
    one = record(job, **changes)
    domains = (
        () if joules is None else (DomainEnergy("package-0", "cpu", "counter", round(joules * 1e6), 100 * 10**9),)
    )
    run = RunEnergy(
        node="node01",
        job=one.raw_id,
        restart=0,
        start_s=one.start_s or 0.0,
        end_s=one.end_s,
        elapsed_ns=round((one.elapsed_s or 0.0) * 1e9),
        state="ended",
        cpus=one.cpus,
        mem_bytes=one.mem_bytes,
        gpus=(),
        flags=(),
        domains=domains,
    )
    energy = JobEnergy((run,) if one.start_s is not None else (), {})
    with Accounts(world.config) as accounts:
        return accounts.result_of(one, energy)


def array(one: JobResult, name: str, size: int, **changes: Any) -> list[JobResult]:
    """So many tasks, all like one job, every tenth of them failed."""
    return [
        msgspec.structs.replace(
            one,
            job_id=f"{name}_{task}",
            raw_id=f"{name}{task:06}",
            array_id=name,
            key=f"{name}{task:06}@{T0}",
            state="FAILED" if task % 10 == 0 else "COMPLETED",
            **changes,
        )
        for task in range(size)
    ]


def write(world: World, *jobs: JobResult) -> None:
    """Put them into the results."""
    results = Results(world.config.results)
    try:
        results.write([Entry(one, {}, ()) for one in jobs], T0 + 9999.0)
    finally:
        results.close()


def site(folder: Path) -> World:
    """A site with nothing in it."""
    return World(folder)
