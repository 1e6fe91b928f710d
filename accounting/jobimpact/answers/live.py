"""Jobs that are not in the results yet: what the nodes' books say of them so far."""

from __future__ import annotations

import itertools
import pwd
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jobimpact.core.config import Config, each_cluster
from jobimpact.core.errors import ConfigError, StoreError
from jobimpact.core.records import JobEnergy, JobRecord, RunEnergy
from jobimpact.core.units import NS
from jobimpact.nightly.accounts import Accounts
from jobimpact.results.record import JobResult

__all__ = ["ENDED", "IN_PROGRESS", "live_results", "user_of"]

IN_PROGRESS = "in progress"
ENDED = "ended, preliminary until the next accounting"


def live_results(
    raw_id: str,
    site: Config,
    after_s: float | None = None,
    cluster: str | None = None,
    *,
    owner: Callable[[int | None], bool] | None = None,
) -> list[JobResult]:
    """What is known of a job that has not been accounted for.

    Args:
        raw_id: what hooks and marks know the job by.
        site: the configuration.
        after_s: only incarnations that began after this, in epoch seconds.
        cluster: of several, this one's alone.
        owner: says of a run's uid whether the asker may see it; None: any.

    Returns:
        One result an incarnation, by start, cluster by cluster; none where no node knows the job.

    Raises:
        ConfigError: the inventory is wrong.
        StoreError: the nodes' files, or the server that is the store, cannot be read; or one node's cannot, and no
            other one knows the job.
    """
    several = each_cluster(site)
    asked = [one for one in several if len(several) == 1 or cluster in (None, one.cluster)]
    told = [_of_cluster(raw_id, one, after_s, owner) for one in asked]
    found = [one for results, _ in told for one in results]
    unread = [why for _, reasons in told for why in reasons]
    if unread and not found and after_s is None:
        # It may be there. Whether it is there and another's is not to be told apart from that.
        more = f", and {len(unread) - 1} more" if len(unread) > 1 else ""
        raise StoreError(f"{unread[0]}{more}")
    return found


def _of_cluster(
    raw_id: str, site: Config, after_s: float | None, owner: Callable[[int | None], bool] | None
) -> tuple[list[JobResult], list[str]]:
    """Of one cluster: another one's job of the same id is another job. And why a node's file could not be asked."""
    with tempfile.TemporaryDirectory(prefix="jobimpact-") as folder:
        accounts = Accounts(site, folder=_copied(raw_id, site, Path(folder)) if site.store.server else None)
        with accounts.energy as energy:
            runs, unread = energy.runs_of(raw_id)
    runs = [run for run in runs if after_s is None or run.start_s > after_s]
    found = []
    for _, same in itertools.groupby(sorted(runs, key=lambda run: run.restart), key=lambda run: run.restart):
        incarnation = tuple(same)
        if owner is not None and not owner(_uid(incarnation)):
            continue
        record = _record(site.cluster, raw_id, incarnation, unread)
        found.append(accounts.result_of(record, JobEnergy(incarnation, {})))
    return found, unread


def _copied(raw_id: str, site: Config, folder: Path) -> Path:
    """What the server has of the job: who asks may not write to the mirror, and the last night was long ago."""
    from jobimpact.mirror.job import copy_job
    from jobimpact.store.reader import reader_of

    try:
        reader = reader_of(site.store)
        try:
            copy_job(reader, folder, site, raw_id, time.time())
        finally:
            reader.close()
    except ConfigError as error:
        why = "what is not accounted yet is in the server, which you cannot ask: try again after the night"
        raise StoreError(f"{why} ({error})") from None
    return folder


def _record(cluster: str, raw_id: str, runs: tuple[RunEnergy, ...], unread: list[str]) -> JobRecord:
    """What a scheduler would say, as far as the marks carried it."""
    ended = all(run.state != "open" for run in runs)
    start_s = min(run.start_s for run in runs)
    return JobRecord(
        cluster=cluster,
        raw_id=raw_id,
        job_id=raw_id,
        key=f"{raw_id}@{start_s}",
        user=_user(runs),
        account=None,
        partition=None,
        name="",
        state=ENDED if ended else IN_PROGRESS,
        exit_code=None,
        submit_s=None,
        start_s=start_s,
        end_s=max(run.end_s or run.start_s for run in runs) if ended else None,
        elapsed_s=max(run.elapsed_ns for run in runs) / NS,
        nodes=tuple(run.node for run in runs),
        cpus=sum(run.cpus or 0 for run in runs) or None,
        mem_bytes=sum(run.mem_bytes or 0 for run in runs) or None,
        gpus=sum(len(run.gpus) for run in runs),
        raw={f"unread {number}": why for number, why in enumerate(unread)},
    )


def user_of(uid: int) -> str:
    """The name of a uid on this host, or its digits."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _uid(runs: tuple[RunEnergy, ...]) -> int | None:
    """Whose it is; None: no node knows, or they do not agree."""
    uids = {run.uid for run in runs if run.uid is not None}
    return uids.pop() if len(uids) == 1 else None


def _user(runs: tuple[RunEnergy, ...]) -> str:
    uid = _uid(runs)
    return "unknown" if uid is None else user_of(uid)
