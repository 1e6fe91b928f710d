"""Some jobs beside each other and beside those of before: who held what, what it costs, and what is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from msgspec import Struct, convert
from msgspec.structs import replace

from jobimpact.core.records import JobEnergy, JobRecord, RunEnergy, Stay
from jobimpact.energy.local import EARLY_S, TAKEN, in_time
from jobimpact.energy.summary import EnergySummary, restored, summarise
from jobimpact.impact.occupancy import HeldHours, Hours, Occupancy
from jobimpact.nightly.accounts import Accounts
from jobimpact.results.record import Entry, JobResult

if TYPE_CHECKING:
    from jobimpact.results.write import Counts, Results

__all__ = ["BATCH", "Job", "Segment", "ended_before", "job_of", "kept", "measured"]

BATCH = 1000
"""Rows to a transaction: a night does not lock readers out for long."""


class Job(Struct, frozen=True):
    """One incarnation of a job, with its energy."""

    record: JobRecord
    energy: JobEnergy
    summary: EnergySummary


def job_of(row: JobResult) -> Job:
    """A job as it was accounted for: neither the scheduler nor the nodes need still know it."""
    summary = convert(row.energy, EnergySummary)
    record = JobRecord(**{name: getattr(row, name) for name in JobRecord.__struct_fields__})
    return Job(record, restored(record, summary), summary)


class Segment:
    """Jobs that ended between two closings of months.

    Args:
        accounts: the site.
        results: where they go.
        cluster: whose they are.
        others: stays of jobs that are not written yet, or not over: they hold their part meanwhile; by node.
        anew: what `others` has of a job comes before what is written of it.
        without: keys of jobs that are written down as running, and are not.
    """

    def __init__(
        self,
        accounts: Accounts,
        results: Results,
        cluster: str,
        others: Mapping[str, list[Stay]],
        *,
        anew: bool = False,
        without: Iterable[str] = (),
    ) -> None:
        self._accounts = accounts
        self._results = results
        self._cluster = cluster
        self._others = {node: {stay.key: stay for stay in some} for node, some in others.items()}
        self._anew = anew
        self._without = frozenset(without)

    def write(self, jobs: Sequence[Job], now_s: float) -> list[Counts]:
        """Account for jobs, and again for those of before whose part of a node they make smaller."""
        stays = {job.record.key: self._accounts.assessor.stays(job.record, job.energy) for job in jobs}
        new = _by_node(stays)
        # Where a job was before its record changed, others may hold more now.
        left = self._results.stays_of(self._cluster, list(stays))
        on = {node: self._occupancy(node, new.get(node, []), left.get(node, [])) for node in {**new, **left}}
        counts = [self._write(jobs, stays, {node: found[0] for node, found in on.items()}, now_s)]
        for node, some in new.items():
            waiting = self._others.get(node, {})
            for stay in some:
                waiting.pop(stay.key, None)
        return [*counts, *self._mend(on, now_s)]

    def free(self, gone: Mapping[str, Sequence[Stay]], now_s: float) -> list[Counts]:
        """Jobs of before whose part of a node is larger since some others turned out not to have been there."""
        return self._mend({node: self._occupancy(node, [], some) for node, some in gone.items()}, now_s)

    def redo(self, jobs: Sequence[Job], now_s: float) -> Counts:
        """Account again for jobs that are written, with what their nodes' other jobs leave them now.

        They are not of this time: those that stay as they are are not counted.
        """
        stays = {job.record.key: self._accounts.assessor.stays(job.record, job.energy) for job in jobs}
        on = {node: self._occupancy(node, some, [])[0] for node, some in _by_node(stays).items()}
        return replace(self._write(jobs, stays, on, now_s), unchanged=0)

    def _mend(self, on: Mapping[str, tuple[Occupancy, list[Stay]]], now_s: float) -> list[Counts]:
        """Jobs of before that hold other hours of a node than are booked of them."""
        changed = {key for node, (occupancy, before) in on.items() for key in self._changed(node, occupancy, before)}
        rows = self._results.rows(self._cluster, sorted(changed))
        return [self.redo([job_of(row) for row in rows], now_s)] if rows else []

    def occupancy(self, node: str, from_s: float, to_s: float) -> Occupancy:
        """Who held a node within a time, those that are not over included."""
        return Occupancy(self._around(node, from_s, to_s, frozenset()))

    def _write(
        self,
        jobs: Sequence[Job],
        stays: Mapping[str, Mapping[str, Stay]],
        on: Mapping[str, Occupancy],
        now_s: float,
    ) -> Counts:
        return self._results.write([self._entry(job, stays[job.record.key], on) for job in jobs], now_s)

    def _entry(self, job: Job, stays: Mapping[str, Stay], on: Mapping[str, Occupancy]) -> Entry:
        held = {node: self._accounts.assessor.held(node, stay, on[node]) for node, stay in stays.items()}
        return self._accounts.entry_of(job.record, job.energy, job.summary, stays, held)

    def _occupancy(self, node: str, new: Sequence[Stay], left: Sequence[Stay]) -> tuple[Occupancy, list[Stay]]:
        """A node with all who overlap some stays (as they are, and as they were), or those that do; and the former."""
        keys = frozenset(stay.key for stay in (*new, *left))
        from_s = min(one.start_s for one in (*new, *left))
        to_s = max(one.end_s for one in (*new, *left))
        touched = [one for one in self._over(node, from_s, to_s) if one.key not in keys]
        from_s = min([from_s, *(one.start_s for one in touched)])
        to_s = max([to_s, *(one.end_s for one in touched)])
        return Occupancy([*new, *self._around(node, from_s, to_s, keys)]), touched

    def _around(self, node: str, from_s: float, to_s: float, but: AbstractSet[str]) -> list[Stay]:
        """All but some who were on a node within a time."""
        written = {one.key: one for one in self._over(node, from_s, to_s)}
        waiting = {
            key: one for key, one in self._others.get(node, {}).items() if one.end_s >= from_s and one.start_s <= to_s
        }
        found = written | waiting if self._anew else waiting | written
        return [one for key, one in found.items() if key not in but]

    def _over(self, node: str, from_s: float, to_s: float) -> list[Stay]:
        found = self._results.stays_over(self._cluster, node, from_s, to_s)
        return [stay for stay in found if stay.key not in self._without] if self._without else found

    def _changed(self, node: str, occupancy: Occupancy, before: Iterable[Stay]) -> list[str]:
        """The jobs of before that hold other hours of a node now than are booked of them."""
        if self._accounts.inventory.type_of(node) is None:
            return []
        now = {stay.key: self._accounts.assessor.held(node, stay, occupancy) for stay in before}
        booked = self._results.booked_hours(self._cluster, node, sorted(now))
        return [key for key, held in now.items() if key in booked and not _same(held, booked[key])]


def _by_node(stays: Mapping[str, Mapping[str, Stay]]) -> dict[str, list[Stay]]:
    """Stays by job and node, by node alone."""
    found: dict[str, list[Stay]] = {}
    for mine in stays.values():
        for node, stay in mine.items():
            found.setdefault(node, []).append(stay)
    return found


def _same(held: Mapping[str, HeldHours], booked: Mapping[str, Mapping[str, float]]) -> bool:
    if set(held) != set(booked):
        return False
    return all(hours.whole == Hours(**{"gpu": 0.0, **booked[month]}) for month, hours in held.items())


def kept(job: Job, row: JobResult) -> Job:
    """A job with what was known before of nodes that do not know it now, and hours of the same energies as before."""
    was = job_of(row).energy
    job = _with_hours(job, was)
    missing = job.energy.missing
    again = [
        run
        for run in was.runs
        if run.state != "estimated" and missing.get(run.node, TAKEN) != TAKEN and in_time(run, job.record)
    ]
    if not again:
        return job
    back = {run.node for run in again}
    # In the record's order, as if all had been read now: the row stays as it is.
    at = {node: place for place, node in enumerate(job.record.nodes)}
    runs = sorted((*job.energy.runs, *again), key=lambda run: at.get(run.node, len(at)))
    energy = JobEnergy(tuple(runs), {node: why for node, why in missing.items() if node not in back})
    return Job(job.record, energy, summarise(job.record, energy))


def _with_hours(job: Job, was: JobEnergy) -> Job:
    """Where a mirror was begun anew, a server may have a run's energies, and not its hours or labels any more."""
    known = {(run.node, run.start_s): run for run in was.runs if run.hours and run.state != "estimated"}
    runs = []
    for run in job.energy.runs:
        then = known.get((run.node, run.start_s))
        same = then is not None and run.state == then.state != "open" and _energies(run) == _energies(then)
        if then is not None and same:
            run = replace(run, hours=then.hours, use=run.use or then.use, labels=then.labels | run.labels)
        runs.append(run)
    if tuple(runs) == job.energy.runs:
        return job
    energy = JobEnergy(tuple(runs), job.energy.missing)
    return Job(job.record, energy, summarise(job.record, energy))


def _energies(run: RunEnergy) -> dict[str, int]:
    return {one.domain: one.uj for one in run.domains if one.uj}


def ended_before(job: Job) -> Job:
    """A job that was requeued when it was over: Slurm moves its end to that time, days later maybe.

    The nodes know when it left them: what others had there since is not its own.
    """
    record, runs = job.record, job.energy.runs
    ends = [run.end_s for run in runs if run.end_s is not None and run.state == "ended"]
    if record.state != "REQUEUED" or record.end_s is None or not ends or len(ends) < len(runs):
        return job
    end_s = float(math.floor(max(ends)))
    over_s = record.end_s - end_s
    if over_s <= EARLY_S:
        return job
    elapsed_s = None if record.elapsed_s is None else max(record.elapsed_s - over_s, 0.0)
    record = replace(record, end_s=end_s, elapsed_s=elapsed_s)
    return Job(record, job.energy, summarise(record, job.energy))


def measured(accounts: Accounts, record: JobRecord, rivals: Sequence[JobRecord]) -> Job:
    """A record with what the nodes' books say of it."""
    energy = accounts.energy.job_energy(record, rivals)
    return Job(record, energy, summarise(record, energy))
