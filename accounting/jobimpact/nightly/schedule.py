"""Every night, by the clock."""

from __future__ import annotations

import logging
from collections.abc import Callable

from jobimpact.core.config import Config
from jobimpact.core.errors import JobImpactError
from jobimpact.nightly.extra import extra
from jobimpact.nightly.night import DAY_S, account

__all__ = ["night", "schedule"]

_log = logging.getLogger(__name__)


def schedule(config: Config, clock: Callable[[], float]) -> None:
    """Account every night at `nightly.at`, local time, until the process is told to stop.

    One night at a time; nights missed while the machine was off are made up for by one. A night that fails is
    logged with its reason, and the next one looks back over it.

    Raises:
        ConfigError: what it needs is not installed.
    """
    with extra():
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
