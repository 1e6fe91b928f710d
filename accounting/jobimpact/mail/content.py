"""What mails say, put together from the results when they are sent: jobs, arrays, digests, labs' reports."""

from __future__ import annotations

import html
from collections.abc import Mapping
from math import fsum
from typing import Literal

import msgspec

from jobimpact.answers.local import LocalAnswers
from jobimpact.answers.query import Group, PeriodQuery, Query, Sums
from jobimpact.core.config import Config
from jobimpact.core.errors import MailError
from jobimpact.findings.judge import of_array, of_job
from jobimpact.mail.subject import About, parse
from jobimpact.report.advice import advice_of
from jobimpact.report.job import job_view
from jobimpact.report.mail_body import Foot, MailBody, foot_text, job_mail, subject_line
from jobimpact.report.numbers import energy, kwh
from jobimpact.report.text import advice_lines, clean
from jobimpact.results.mailing import MailRow
from jobimpact.results.record import JobResult

__all__ = ["SiteContents", "foot_of"]

ROWS = 2000
"""Of a larger array there are only the sums."""
_WHAT = {"job": "job", "array": "array", "het": "heterogeneous job"}


class SiteContents:
    """Bodies of mails about one cluster.

    Args:
        config: of that cluster.
        ready: bodies that are made already, by key: what admins are told.

    Raises:
        StoreError: the results cannot be read.
    """

    def __init__(self, config: Config, ready: Mapping[str, MailBody] | None = None) -> None:
        self._config = config
        self._ready = ready or {}
        self._answers = LocalAnswers(config, None)

    def close(self) -> None:
        """Let go of the results."""
        self._answers.close()

    def body(self, row: MailRow) -> MailBody:
        """Of one mail.

        Raises:
            MailError: there is nothing to be told any more.
            StoreError: the results cannot be read.
        """
        if row.subject in self._ready:
            return self._ready[row.subject]
        try:
            about = parse(row.subject)
        except ValueError as error:
            raise MailError(str(error)) from error
        if about.topic == "health":
            raise MailError(f"{row.subject}: what was wrong then is told no more")
        foot = foot_of(row, about, self._config)
        if about.topic in {"digest", "lab"}:
            return self._period(about, foot)
        return self._unit(row, about, foot)

    def _unit(self, row: MailRow, about: About, foot: Foot) -> MailBody:
        query = Query(ids=(about.name,), users=(row.user,), clusters=(self._config.cluster,), rows=ROWS, live=False)
        group = self._answers.jobs(query).groups[0]
        if group.sums is None:
            raise MailError(f"{_WHAT[about.topic]} {about.name!r:.60} is not in the results")
        last = max(group.jobs, key=lambda one: one.end_s or 0.0) if about.topic == "job" and group.jobs else None
        if last is not None:
            return self._job(last, group.jobs, foot)
        return self._group(about, group, group.sums, foot)

    def _job(self, one: JobResult, each: tuple[JobResult, ...], foot: Foot) -> MailBody:
        settings = self._config
        found = of_job(one, settings.findings, settings.report.price_per_kwh)
        view = job_view(
            one,
            findings=found,
            details=self._answers.details(one.cluster, one.key),
            currency=settings.report.currency,
        )
        if len(each) > 1:
            known = [run.energy_j for run in each if run.energy_j is not None]
            said = f"It ran {len(each)} times; all its runs together: {energy(fsum(known))}." if known else ""
            view = msgspec.structs.replace(view, notes=(*view.notes, *filter(None, [said])))
        return job_mail(view, foot)

    def _group(self, about: About, group: Group, sums: Sums, foot: Foot) -> MailBody:
        title = f"{_WHAT[about.topic]} {clean(about.name)}"
        used = "not measured" if sums.energy_j is None else f"{energy(sums.energy_j)} ({kwh(sums.energy_j / 3.6e6)})"
        lines = [
            f"{title}: {sums.jobs:,} jobs, {sums.ran:,} ran, {sums.failed:,} did not complete",
            "",
            f"  Energy {used}",
        ]
        if sums.failed and sums.failed_energy_j:
            lines.append(f"  of which {energy(sums.failed_energy_j)} went into runs that did not complete")
        if sums.measured < sums.ran:
            lines.append(f"  The sum lacks {sums.ran - sums.measured:,} of {sums.ran:,}: not measured.")
        settings = self._config
        found = of_array(sums.endings, group.jobs, settings.findings, settings.report.price_per_kwh)
        for part in advice_lines(advice_of(found, settings.report.currency)):
            lines += ["", *part]
        return _plain(f"{title}: {sums.jobs:,} jobs, {used}", "\n".join(lines) + "\n", foot)

    def _period(self, about: About, foot: Foot) -> MailBody:
        of: Literal["user", "lab"] = "lab" if about.topic == "lab" else "user"
        query = PeriodQuery(of, about.name, about.span.from_s, about.span.to_s, cluster=self._config.cluster)
        found = self._answers.period(query)
        from jobimpact.report.period import period_view
        from jobimpact.report.period_text import period_text

        view = period_view(found, self._config.findings, self._config.report)
        return _plain(f"{view.title}, {view.time}", period_text(view), foot)


def foot_of(row: MailRow, about: About, config: Config) -> Foot:
    """What stands at the end: why they get it, and how to get none."""
    if about.topic == "digest":
        why = "You get this because jobs of yours ran on the cluster in this time."
    elif about.topic == "lab":
        why = f"You get this because you head {clean(about.name)}."
    else:
        why = f"You get this because {_WHAT[about.topic]} {clean(about.name)} {_told(row)}."
    settings = config.mail
    stop = f"No more of these: {settings.unsubscribe.removeprefix('mailto:')}" if settings.unsubscribe else ""
    contact = f"Questions: {clean(config.report.contact)}" if config.report.contact else ""
    return Foot(why, stop, contact, config.report.link or "")


def _told(row: MailRow) -> str:
    why = row.why or ""
    return clean(why) if why.startswith("used ") else f"is worth a look: {clean(why)}"


def _plain(subject: str, text: str, foot: Foot) -> MailBody:
    whole = f"{text}\n{foot_text(foot)}"
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>jobimpact</title></head><body>'
    return MailBody(subject_line(subject), whole, f"{head}<pre>{html.escape(whole)}</pre></body></html>\n")
