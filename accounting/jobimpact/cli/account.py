"""`jobimpact account` and `jobimpact schedule`."""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from jobimpact.cli.mail import after_night
from jobimpact.core.config import Config, config_path, each_cluster, load_config
from jobimpact.core.errors import BusyError, ConfigError, JobImpactError
from jobimpact.nightly.night import NightReport, account, recompute
from jobimpact.nightly.schedule import schedule
from jobimpact.results.record import database_path
from jobimpact.results.rights import open_to_all

__all__ = ["moment", "run", "run_schedule"]

_LOG = logging.getLogger(__name__)


def run(begin: str | None, end: str | None, config: str | None, *, again: bool = False) -> int:
    """Account for a window, or redo its impacts, and say what changed.

    Raises:
        BusyError, ConfigError, SchedulerError, StoreError: it could not be done.
    """
    site = load_config(config_path(config))
    from_s, to_s = (None if text is None else moment(text) for text in (begin, end))
    if from_s is not None and to_s is not None and to_s < from_s:
        raise ConfigError(f"--to {end}: before --from {begin}")
    now_s = time.time()
    if again and from_s is None:
        raise ConfigError("--recompute: from when? give --from")
    clusters = each_cluster(site)
    failed: list[JobImpactError] = []
    for one in clusters:
        whose = f"{one.cluster}: " if len(clusters) > 1 else ""
        try:
            if from_s is not None and again:
                _say(recompute(one, now_s, from_s, int(now_s) if to_s is None else to_s), whose, ", recomputed")
            else:
                _account(one, now_s, from_s, to_s, whose)
        except JobImpactError as error:
            # The other clusters' jobs are not to wait for this one's.
            failed.append(error)
    exposed = open_to_all(Path(database_path(site.results)))
    if exposed is not None:
        print(f"jobimpact: {exposed}", file=sys.stderr)
    *others, last = {str(error): error for error in failed}.values() or [None]
    for trouble in others:
        print(f"jobimpact: {trouble}", file=sys.stderr)
    if last is not None:
        raise last
    return 0


def _account(config: Config, now_s: float, from_s: int | None, to_s: int | None, whose: str) -> None:
    """One cluster, and the mails after it; if it fails, admins are told of that."""
    try:
        report = account(config, now_s, from_s, to_s)
    except BusyError:
        raise  # the other one mails
    except JobImpactError as error:
        after_night(config, (str(error),))
        raise
    _say(report, whose, "")
    after_night(config, report.problems)


def _say(report: NightReport, whose: str, how: str) -> None:
    for problem in report.problems:
        print(whose + "".join(c if c.isprintable() else "?" for c in problem), file=sys.stderr)
    counts = f"{report.new} new, {report.changed} changed, {report.unchanged} unchanged"
    print(f"{whose}jobs that ended {_shown(report.from_s)} to {_shown(report.to_s)} UTC{how}: {counts}", end="")
    print(f"; {report.estimated} estimated" if report.estimated else "", end="")
    print(f"; {report.not_measured} not measured" if report.not_measured else "")
    if report.closed:
        print(f"{whose}months closed{how}: {', '.join(report.closed)}")


def run_schedule(config: str | None) -> int:
    """Account every night until told to stop.

    Raises:
        ConfigError: the configuration is wrong.
    """
    site = load_config(config_path(config))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    schedule(site, time.time, after_night)
    return 0


def moment(text: str) -> int:
    """Epoch seconds of `1795190300`, `2026-11-20` or `2026-11-20T14:00:05+01:00`; UTC without a zone.

    Raises:
        ConfigError: not a time.
    """
    if text.isascii() and text.isdigit():
        if len(text) > 11:
            raise ConfigError(f"{text!r:.60}: epoch seconds of no time of ours")
        if len(text) == 8:
            raise ConfigError(f"{text!r}: a day, or epoch seconds of the 1970s? A day is like 2026-11-20")
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r}: not a time: epoch seconds, or like 2026-11-20T14:00:05") from error
    at_s = int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    if at_s < 0:
        raise ConfigError(f"{text!r}: before 1970")
    return at_s


def _shown(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}"
