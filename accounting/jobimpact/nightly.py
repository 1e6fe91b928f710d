"""The night's steps: each does one thing, and says whether it did. A night run twice changes nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jobimpact.core.config import Config
from jobimpact.core.errors import ConfigError, JobImpactError
from jobimpact.core.records import JobEnergy, JobRecord
from jobimpact.energy.local import LocalEnergy
from jobimpact.energy.summary import summarise
from jobimpact.impact.assess import Assessor
from jobimpact.impact.factors import load_factors
from jobimpact.impact.inventory import Inventory, load_inventory
from jobimpact.results.record import JobResult
from jobimpact.schedulers import job_source

if TYPE_CHECKING:
    from jobimpact.results.write import Results

__all__ = ["Accounts", "NightReport", "account", "schedule"]

DAY_S = 86400
BATCH = 1000
"""Rows to a transaction: a night does not lock readers out for long."""

_log = logging.getLogger(__name__)


class NightReport(msgspec.Struct, frozen=True):
    """What one night came to."""

    from_s: int
    to_s: int
    new: int
    changed: int
    unchanged: int
    not_measured: int
    problems: tuple[str, ...]
    """Rows of the scheduler that could not be read, and files that are not there."""


class Accounts:
    """A site's inventory, factors and node files: from a record to its result.

    Raises:
        ConfigError: the inventory is wrong, or the zone is not in the factors.
    """

    def __init__(self, config: Config) -> None:
        self.inventory = load_inventory(Path(config.inventory))
        self.energy = LocalEnergy(Path(config.store.local.path))
        self._assessor = Assessor(load_factors(), self.inventory, config.grid.zone)

    def result(self, record: JobRecord, rivals: list[JobRecord]) -> JobResult:
        """One incarnation of a job, from the nodes' books."""
        return self.result_of(record, self.energy.job_energy(record, rivals))

    def result_of(self, record: JobRecord, energy: JobEnergy) -> JobResult:
        """One incarnation of a job, from energies that were read already."""
        summary = summarise(record, energy)
        found = self._assessor.assess(record, energy)
        return JobResult.of(
            record,
            energy_j=summary.total_j,
            coverage=summary.coverage,
            energy=_plain(summary),
            impacts=_plain(found.indicators()),
            factors=_plain(found.factors),
            inventory=_inventory(self.inventory, record),
            warnings=found.warnings,
        )


def _plain(found: object) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def _inventory(inventory: Inventory, record: JobRecord) -> dict[str, Any]:
    types = {node: inventory.type_of_node.get(node) for node in record.nodes}
    return {"version": inventory.version, "types": types, "reason": inventory.reason}


def account(config: Config, now_s: float, from_s: int | None = None, to_s: int | None = None) -> NightReport:
    """Account for the jobs that ended in a window.

    Args:
        config: the site's.
        now_s: the time, epoch seconds.
        from_s: the window's begin; None: `nightly.look_back_days` ago, or earlier, where the last night that
            went well ended before that.
        to_s: the window's end, inclusive; None: now.

    Returns:
        What changed.

    Raises:
        ConfigError, SchedulerError, StoreError: nothing was accounted, or only whole batches were.
    """
    with _extra():  # not for those who only want `Accounts`
        from jobimpact.results.write import Results

    results = Results(config.results)
    try:
        window = _window(config, results, now_s, from_s, to_s)
        report = _account(config, results, *window, now_s)
        if from_s is None:
            results.set_watermark(config.cluster, window[1])
        return report
    finally:
        results.close()


@contextmanager
def _extra() -> Iterator[None]:
    """Around imports of what only the extra `accounting` brings."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {"sqlalchemy", "apscheduler"}:
            raise
        raise ConfigError(f"{missing} is not installed: install the extra, jobimpact[accounting]") from error


def _window(config: Config, results: Results, now_s: float, from_s: int | None, to_s: int | None) -> tuple[int, int]:
    end_s = math.ceil(now_s) if to_s is None else to_s
    if from_s is not None:
        return from_s, end_s
    look_back_s = int(now_s) - config.nightly.look_back_days * DAY_S
    watermark_s = results.watermark(config.cluster)
    return (look_back_s if watermark_s is None else min(look_back_s, int(watermark_s))), end_s


def _account(config: Config, results: Results, from_s: int, to_s: int, now_s: float) -> NightReport:
    accounts = Accounts(config)
    finished = job_source(config).finished(from_s, to_s)
    counts, not_measured = [], 0
    with accounts.energy:
        accounts.energy.nodes()  # a store that is not there is an error, not a night without a measurement
        rows = _results(accounts, finished.records)
        while batch := list(islice(rows, BATCH)):
            not_measured += sum(row.energy_j is None for row in batch)
            counts.append(results.write(batch, now_s))
    problems = [str(problem) for problem in finished.problems]
    if accounts.inventory.reason:
        problems.append(accounts.inventory.reason)
    return NightReport(
        from_s=from_s,
        to_s=to_s,
        new=sum(one.new for one in counts),
        changed=sum(one.changed for one in counts),
        unchanged=sum(one.unchanged for one in counts),
        not_measured=not_measured,
        problems=tuple(problems),
    )


def _results(accounts: Accounts, records: tuple[JobRecord, ...]) -> Iterator[JobResult]:
    for _, same_id in groupby(sorted(records, key=lambda one: one.raw_id), key=lambda one: one.raw_id):
        incarnations = list(same_id)
        for record in incarnations:
            yield accounts.result(record, incarnations)


def schedule(config: Config, clock: Callable[[], float]) -> None:
    """Account every night at `nightly.at`, local time, until the process is told to stop.

    One night at a time; nights missed while the machine was off are made up for by one. A night that fails is
    logged with its reason, and the next one looks back over it.

    Raises:
        ConfigError: what it needs is not installed.
    """
    with _extra():
        from apscheduler.schedulers.blocking import BlockingScheduler

        import jobimpact.results.write  # noqa: F401 (a night would miss it: better now)

    hour, minute = config.nightly.at.split(":")
    scheduler = BlockingScheduler()
    scheduler.add_job(
        night, "cron", (config, clock), hour=hour, minute=minute, coalesce=True, max_instances=1,
        misfire_grace_time=DAY_S // 2,
    )  # fmt: skip
    _log.info("accounting every night at %s", config.nightly.at)
    scheduler.start()


def night(config: Config, clock: Callable[[], float]) -> bool:
    """One night of the schedule: whether it went well. Its outcome is logged."""
    try:
        report = account(config, clock())
    except JobImpactError as error:
        _log.error("this night's accounting failed: %s", error)
        return False
    for problem in report.problems:
        _log.warning("%s", problem)
    counts = (report.new, report.changed, report.unchanged, report.not_measured)
    _log.info("accounted: %d new, %d changed, %d unchanged, %d not measured", *counts)
    return True
