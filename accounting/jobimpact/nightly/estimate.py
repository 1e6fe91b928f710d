"""Energies of jobs that no node's books have, where the site asks for them: `load_w` in the inventory. Pure.

What a whole part of a node draws in use, times the job's share of it, times how long the job ran. It is flagged up to
the report, has the model's wide range, and gives way to a measurement that comes later.
"""

from __future__ import annotations

from msgspec.structs import replace

from jobimpact.core.records import DomainEnergy, DomainKind, JobEnergy, RunEnergy, Shares, Stay
from jobimpact.core.units import NS
from jobimpact.energy.local import TAKEN
from jobimpact.energy.summary import summarise
from jobimpact.impact.assess import Assessor
from jobimpact.impact.inventory import NodeType, Part
from jobimpact.nightly.segment import Job

__all__ = ["ESTIMATED", "estimated", "unestimated"]

ESTIMATED = "energy estimated by load_w in the inventory, not measured"
HOUR_S = 3600
_KINDS: dict[Part, DomainKind] = {"cpu": "cpu", "ram": "dram", "gpu": "gpu", "rest": "rest"}


def estimated(assessor: Assessor, job: Job) -> Job:
    """A job with an estimate for each node that does not know it and whose type has a `load_w`."""
    record, energy = job.record, job.energy
    if not energy.missing or not record.elapsed_s:
        return job
    stays = assessor.stays(record, JobEnergy((), {}))
    runs = []
    for node, why in energy.missing.items():
        node_type = assessor.inventory.type_of(node)
        if why != TAKEN and node in stays and node_type is not None and node_type.load_w:
            runs.append(_run(job, node, stays[node], node_type, why))
    if not runs:
        return job
    done = {run.node for run in runs}
    missing = {node: why for node, why in energy.missing.items() if node not in done}
    whole = JobEnergy((*energy.runs, *runs), missing)
    return Job(record, whole, summarise(record, whole))


def unestimated(job: Job) -> Job:
    """The same without estimates: what was missing is missing again, for the reason of then."""
    guessed = {run.node: run.flags[0] for run in job.energy.runs if run.state == "estimated"}
    if not guessed:
        return job
    runs = tuple(run for run in job.energy.runs if run.node not in guessed)
    energy = JobEnergy(runs, job.energy.missing | guessed)
    return Job(job.record, energy, summarise(job.record, energy))


def _run(job: Job, node: str, stay: Stay, node_type: NodeType, why: str) -> RunEnergy:
    elapsed_s = job.record.elapsed_s or 0.0
    run = RunEnergy(
        node=node,
        job=job.record.raw_id,
        restart=0,
        start_s=stay.start_s,
        end_s=stay.end_s,
        elapsed_ns=round(elapsed_s * NS),
        state="estimated",
        cpus=None,
        mem_bytes=None,
        gpus=(),
        flags=(why, ESTIMATED),
        domains=tuple(_domains(stay.shares, node_type, elapsed_s)),
    )
    return replace(run, hours=_hours(stay, sum(one.uj for one in run.domains)))


def _domains(shares: Shares, node_type: NodeType, elapsed_s: float) -> list[DomainEnergy]:
    found = []
    for part, kind in _KINDS.items():
        share, watts = getattr(shares, part), node_type.load_w.get(part)
        if watts is not None and (share or part != "gpu"):
            uj = round(watts * share * elapsed_s * 1e6)
            found.append(DomainEnergy(kind, kind, "modelled", uj, round(elapsed_s * NS)))
        elif share and part != "rest":
            found.append(DomainEnergy(kind, kind, "modelled", 0, 0, f"load_w has no {part}"))
    return found


def _hours(stay: Stay, uj: int) -> tuple[tuple[int, int], ...]:
    """An even part of the energy to each second, by hour; together they are all of it."""
    lasted_s = stay.end_s - stay.start_s
    if lasted_s <= 0:
        return ()
    first_s = int(stay.start_s // HOUR_S) * HOUR_S
    found, told = [], 0
    for hour_s in range(first_s, int(stay.end_s) + 1, HOUR_S):
        until = round(uj * (min(hour_s + HOUR_S, stay.end_s) - stay.start_s) / lasted_s)
        found.append((hour_s, until - told))
        told = until
    return tuple(found)
