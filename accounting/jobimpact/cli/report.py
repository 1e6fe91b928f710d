"""`jobimpact report`: what a user, a lab or the cluster used over a time."""

from __future__ import annotations

import os
import pwd
import re
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from jobimpact.answers.query import PeriodQuery
from jobimpact.cli.answer import answerer, told_site
from jobimpact.core.config import config_path, load_config
from jobimpact.core.errors import ConfigError, UnknownError

__all__ = ["Asked", "Span", "myself", "run", "span_of"]

DAY_S = 86400.0
UNKNOWN = 1
"""The exit status, as of an unknown job."""
Span = tuple[float, float]
"""From when, and up to when it is no more in; epoch seconds."""
_FORMS = {
    "week": (re.compile(r"(\d{4})-W(\d{2})", re.ASCII), "2026-W47"),
    "month": (re.compile(r"(\d{4})-(\d{2})", re.ASCII), "2026-11"),
    "year": (re.compile(r"(\d{4})", re.ASCII), "2026"),
}


class Asked:
    """What the command line says.

    Args:
        of: `user`, `lab`, `cluster`.
        name: whose; None: the caller's, or this configuration's cluster.
        length: `week`, `month`, `year`; None: by its form.
        when: `2026-W47`, `2026-11`, `2026`; None: the one that is not over.
        begin: in place of these: from when.
        end: up to when; None: now.
        cluster: only jobs of this one.
    """

    def __init__(
        self,
        of: str,
        name: str | None,
        *,
        length: str | None = None,
        when: str | None = None,
        begin: str | None = None,
        end: str | None = None,
        cluster: str | None = None,
    ) -> None:
        self.of, self.name, self.cluster = of, name, cluster
        self.length, self.when, self.begin, self.end = length, when, begin, end

    def query(self, cluster: str, now_s: float) -> PeriodQuery:
        """As it is asked of the results.

        Raises:
            ConfigError: a time is none.
        """
        name = self.name or (cluster if self.of == "cluster" else myself())
        from_s, to_s = self._span(now_s)
        of = next(one for one in ("user", "lab", "cluster") if one == self.of)
        return PeriodQuery(of=of, name=name, from_s=from_s, to_s=to_s, cluster=self.cluster)

    def _span(self, now_s: float) -> Span:
        if self.begin is None and self.end is None:
            return span_of(self.length, self.when, now_s)
        if self.begin is None:
            raise ConfigError("-E: from when? give -S")
        from jobimpact.cli.times import moment

        from_s, to_s = moment(self.begin, now_s), now_s if self.end is None else moment(self.end, now_s)
        if to_s <= from_s:
            raise ConfigError(f"-E {self.end or 'now'}: not after -S {self.begin}")
        return from_s, to_s


def run(asked: Asked, config: str | None, *, as_json: bool, html: str | None, every: bool) -> int:
    """Print a report, or write it as a page.

    Returns:
        0; 1: there is no such user or lab, or it is not theirs.

    Raises:
        ConfigError: a time is none, or the page cannot be written.
        StoreError: nothing can be answered.
    """
    site = load_config(config_path(config))
    query = asked.query(site.cluster, time.time())
    answers = answerer(site)
    try:
        found = answers.period(query)
    except UnknownError as error:
        print(f"jobimpact: {error}", file=sys.stderr)
        return UNKNOWN
    finally:
        answers.close()
    site = told_site(site, answers)
    if as_json:
        from jobimpact.report.period_json import dumps

        print(dumps(found))
        return 0
    from jobimpact.report.period import period_view

    view = period_view(found, site.findings, site.report)
    if html is not None:
        from jobimpact.report.period_page import period_page

        _write(html, period_page(view))
        return 0
    from jobimpact.report.period_text import period_text

    print(period_text(view, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"), every=every), end="")
    return 0


def span_of(length: str | None, when: str | None, now_s: float) -> Span:
    """A week, month or year of UTC.

    Args:
        length: `week`, `month`, `year`; None: by the form, else a month.
        when: `2026-W47`, `2026-11`, `2026`; None: the one that is not over.
        now_s: epoch seconds.

    Raises:
        ConfigError: names what was given, and the form.
    """
    today = datetime.fromtimestamp(now_s, UTC).date()
    if when is None:
        return _span(length or "month", today)
    forms = {length: _FORMS[length]} if length else _FORMS
    for name, (form, _) in forms.items():
        match = form.fullmatch(when)
        if match:
            try:
                return _span(name, _first(name, [int(one) for one in match.groups()]))
            except (ValueError, OverflowError) as error:
                raise ConfigError(f"{when!r:.40}: no such {name}") from error
    like = " or ".join(f"{name}: {example}" for name, (_, example) in forms.items())
    raise ConfigError(f"{when!r:.40}: not a time; write a {like}")


def _first(length: str, numbers: list[int]) -> date:
    if numbers[0] < 1970:
        raise ValueError(numbers[0])
    if length == "week":
        return date.fromisocalendar(numbers[0], numbers[1], 1)
    return date(numbers[0], numbers[1] if length == "month" else 1, 1)


def _span(length: str, day: date) -> Span:
    if length == "week":
        begin = day - timedelta(days=day.weekday())
        end = begin + timedelta(days=7)
    elif length == "month":
        begin = day.replace(day=1)
        end = (begin + timedelta(days=31)).replace(day=1)
    else:
        begin = date(day.year, 1, 1)
        end = date(day.year + 1, 1, 1)
    return _midnight(begin), _midnight(end)


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def myself() -> str:
    """The caller's name; their uid where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _write(name: str, page: str) -> None:
    try:
        Path(name).write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from error
