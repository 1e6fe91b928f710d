"""Whose a run is where a job ran more than once under one id: it belongs to one record, whatever the window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from jobimpact.core.records import JobRecord
from jobimpact.nightly.accounts import Accounts
from jobimpact.nightly.segment import Job, job_of, measured
from jobimpact.results.record import JobResult

if TYPE_CHECKING:
    from jobimpact.results.write import Results

__all__ = ["Incarnations"]


class Incarnations:
    """Some records beside each other, and beside those of the same ids that are written.

    Args:
        accounts: the site.
        results: what is written.
        cluster: whose they are.
        records: all that are to be measured, in whatever order.
    """

    def __init__(self, accounts: Accounts, results: Results, cluster: str, records: Iterable[JobRecord]) -> None:
        self._accounts = accounts
        self._results = results
        self._cluster = cluster
        self._known = {record.key: record for record in records}
        self._by_id: dict[str, list[JobRecord]] = {}
        for record in self._known.values():
            self._by_id.setdefault(record.raw_id, []).append(record)

    def measured(self, keys: Sequence[str]) -> list[Job]:
        """Some of the records with what the nodes' books say of them.

        Returns:
            Them, and after them those of before that have a run which is one of theirs.
        """
        records = [self._known[key] for key in keys]
        ids = sorted({record.raw_id for record in records})
        before = self._results.incarnations(self._cluster, ids, self._known)
        rivals = {job: list(self._by_id[job]) for job in ids}
        for row in before:
            rivals[row.raw_id].append(job_of(row).record)
        jobs = [measured(self._accounts, record, rivals[record.raw_id]) for record in records]
        while True:  # who loses a run may take another one's
            runs = {(run.node, run.job, run.start_s) for job in jobs for run in job.energy.runs}
            losers = [row for row in before if not runs.isdisjoint(_runs_of(row))]
            if not losers:
                return jobs
            jobs += [measured(self._accounts, job_of(row).record, rivals[row.raw_id]) for row in losers]
            lost = {row.key for row in losers}
            before = [row for row in before if row.key not in lost]


def _runs_of(row: JobResult) -> set[tuple[str, str, float]]:
    runs = job_of(row).energy.runs
    return {(run.node, row.raw_id, run.start_s) for run in runs if run.state != "estimated"}
