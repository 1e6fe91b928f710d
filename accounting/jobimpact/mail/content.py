"""What mails say, put together from the results when they are sent: jobs, arrays, digests, labs' reports."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from jobimpact.answers.local import LocalAnswers
from jobimpact.answers.query import PeriodQuery, Query
from jobimpact.core.config import Config
from jobimpact.core.errors import MailError
from jobimpact.findings.judge import of_array, of_job
from jobimpact.mail.subject import About, parse
from jobimpact.report.group import group_view
from jobimpact.report.job import job_view
from jobimpact.report.mail_body import Foot, MailBody, group_mail, job_mail
from jobimpact.report.numbers import energy
from jobimpact.report.period import period_view
from jobimpact.report.period_mail import period_mail
from jobimpact.report.text import clean
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
        found = self._about(row, about)
        if not _is_one_of_several(self._config):
            return found
        return msgspec.structs.replace(found, subject=f"{self._config.cluster}: {found.subject}")

    def _about(self, row: MailRow, about: About) -> MailBody:
        foot = foot_of(row, about, self._config)
        if about.topic in {"digest", "lab"}:
            return self._period(about, foot)
        return self._unit(row, about, foot)

    def _unit(self, row: MailRow, about: About, foot: Foot) -> MailBody:
        query = Query(ids=(about.name,), users=(row.user,), clusters=(self._config.cluster,), rows=ROWS, live=False)
        group = self._answers.jobs(query).groups[0]
        if group.sums is None:
            raise MailError(f"{_WHAT[about.topic]} {about.name!r:.60} is not in the results")
        if about.topic == "job" and group.jobs:
            return self._job(group.jobs, foot)
        findings = of_array(group.sums.endings, group.jobs, self._config.findings, self._price)
        return group_mail(group_view(group, findings=findings, currency=self._config.report.currency), foot)

    def _job(self, runs: tuple[JobResult, ...], foot: Foot) -> MailBody:
        """Its last run, and what those before it used."""
        last = max(runs, key=lambda one: one.end_s or 0.0)
        view = job_view(
            last,
            findings=of_job(last, self._config.findings, self._price),
            details=self._answers.details(last.cluster, last.key),
            currency=self._config.report.currency,
        )
        known = [run.energy_j for run in runs if run.energy_j is not None]
        if len(runs) > 1 and known:
            lacking = f", without {len(runs) - len(known)} of which nothing is known" if len(known) < len(runs) else ""
            together = f"All its runs together{lacking}: {energy(fsum(known))}."
            said = f"It ran {len(runs)} times; this is the last. {together}"
            view = msgspec.structs.replace(view, notes=(*view.notes, said))
        return job_mail(view, foot)

    def _period(self, about: About, foot: Foot) -> MailBody:
        of: Literal["user", "lab"] = "lab" if about.topic == "lab" else "user"
        query = PeriodQuery(of, about.name, about.span.from_s, about.span.to_s, cluster=self._config.cluster)
        found = self._answers.period(query)
        return period_mail(period_view(found, self._config.findings, self._config.report), foot)

    @property
    def _price(self) -> float | None:
        return self._config.report.price_per_kwh


def foot_of(row: MailRow, about: About, config: Config) -> Foot:
    """What stands at the end: why they get it, and how to get none."""
    cluster = config.cluster if _is_one_of_several(config) else ""
    if about.topic == "digest":
        where = cluster or "the cluster"
        why = f"You get this because jobs of yours ran on {where} in this time. "
        why += "All of them are in its sums, those that had a mail of their own, too."
    elif about.topic == "lab":
        why = f"You get this because you head {clean(about.name)}."
    else:
        where = f" on {cluster}" if cluster else ""
        why = f"You get this because {_WHAT[about.topic]} {clean(about.name)}{where} {_told(row)}."
    settings = config.mail
    stop = f"No more of these: {_ask(settings.unsubscribe)}" if settings.unsubscribe else ""
    contact = f"Questions: {clean(config.report.contact)}" if config.report.contact else ""
    return Foot(why, stop, contact, config.report.link or "")


def _ask(unsubscribe: str) -> str:
    """Where to ask for none, in a reader's words: `mailto:a@b?subject=no%20mail` is for programs."""
    if not unsubscribe.startswith("mailto:"):
        return unsubscribe
    found = urlsplit(unsubscribe)
    subject = "".join(parse_qs(found.query).get("subject", [])[:1])
    return clean(f"write to {unquote(found.path)}" + (f", subject: {subject}" if subject else ""))


def _is_one_of_several(config: Config) -> bool:
    """Of these each has its own mails, and ids that the others have, too."""
    return config.scheduler.slurm is not None and len(config.scheduler.slurm.clusters) > 1


def _told(row: MailRow) -> str:
    why = row.why or ""
    return clean(why) if why.startswith("used ") else f"is worth a look: {clean(why.removeprefix('a finding: '))}"
