"""Every night, by the clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from jobimpact.core.config import Config, each_cluster
from jobimpact.core.errors import BusyError, JobImpactError
from jobimpact.nightly.extra import extra
from jobimpact.nightly.night import account

__all__ = ["night", "schedule"]

_log = logging.getLogger(__name__)


After = Callable[[Config, Sequence[str]], None]
"""What follows the accounting of a cluster, given what that ran into."""


def schedule(config: Config, clock: Callable[[], float], after: After | None = None) -> None:
    """Account every night at `nightly.at`, local time, until the process is told to stop.

    One night at a time; nights missed while the machine slept are made up for by one, however late. A night that
    fails is logged with its reason, and the next one looks back over it.

    Raises:
        ConfigError: what it needs is not installed.
    """
    with extra():
        from apscheduler.schedulers.blocking import BlockingScheduler

        import jobimpact.results.write  # noqa: F401 (a night would miss it: better now)

    hour, minute = config.nightly.at.split(":")
    scheduler = BlockingScheduler()
    scheduler.add_job(
        night,
        "cron",
        (config, clock, after),
        hour=hour,
        minute=minute,
        coalesce=True,
        max_instances=1,
        misfire_grace_time=None,
    )
    _log.info("accounting every night at %s", config.nightly.at)
    scheduler.start()


def night(config: Config, clock: Callable[[], float], after: After | None = None) -> bool:
    """One night of the schedule, cluster by cluster: whether it went well. Its outcome is logged."""
    went_well = [_account(one, clock, after) for one in each_cluster(config)]  # each, whatever became of those before
    return all(went_well)


def _account(config: Config, clock: Callable[[], float], after: After | None) -> bool:
    try:
        report = account(config, clock())
    except JobImpactError as error:
        _log.error("this night's accounting of %s failed: %s", config.cluster, error)
        if after is not None and not isinstance(error, BusyError):
            after(config, (str(error),))
        return False
    for problem in report.problems:
        _log.warning("%s: %s", config.cluster, problem)
    counts = (report.new, report.changed, report.unchanged, report.estimated, report.not_measured)
    _log.info("%s: %d new, %d changed, %d unchanged, %d estimated, %d not measured", config.cluster, *counts)
    if after is not None:
        after(config, report.problems)
    return True
