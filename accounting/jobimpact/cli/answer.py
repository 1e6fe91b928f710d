"""`jobimpact JOBID...`, `jobimpact -u USER`: asks for jobs, and tells what is found in the form that is wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobimpact.answers.query import Answerer, Answers, Details, Group
from jobimpact.cli.asked import Asked, asked
from jobimpact.core.config import Config, config_path, load_config
from jobimpact.core.errors import ConfigError, JobImpactError, StoreError
from jobimpact.results.record import JobResult, database_path
from jobimpact.results.sums import Sums, merged, sums_of

if TYPE_CHECKING:
    from jobimpact.findings.finding import Finding

__all__ = ["answerer", "run", "told_site"]

MANY = 5
"""More ids than these are a table."""
_FEW = 20
"""Jobs of which power over time is fetched for a report."""
_SOME_UNKNOWN, _UNREACHABLE = 1, 3


def run(words: Sequence[str], commands: Collection[str]) -> int:
    """Answer for each job, in the order asked, or for all that fit.

    Args:
        words: of the command line.
        commands: what no id may be called.

    Returns:
        0: all answered; 1: some are unknown; 3: for some the nodes' books cannot be asked, the others are answered.

    Raises:
        ConfigError, StoreError: nothing can be answered.
    """
    want = asked(words, commands)
    site = load_config(config_path(want.config))
    found = answerer(site)
    try:
        answers = found.jobs(want.query)
        if want.cut:
            answers = msgspec.structs.replace(answers, groups=tuple(_cut(one, want) for one in answers.groups))
        complaints = _complaints(answers, want)
        _Teller(want, told_site(site, found), found, answers).tell(complaints)
    finally:
        found.close()
    _complain(answers, complaints, want)
    if any(group.trouble for group in answers.groups):
        return _UNREACHABLE
    return _SOME_UNKNOWN if complaints else 0


def answerer(site: Config) -> Answerer:
    """Who answers: this process where it may read the results, else the site's service.

    Raises:
        StoreError: neither can.
    """
    path = Path(database_path(site.results))
    service = site.service
    if not os.access(path, os.R_OK) and (service.ask is not None or os.access(service.socket, os.F_OK)):
        from jobimpact.answers.remote import RemoteAnswers

        return RemoteAnswers(service)
    if os.access(path, os.F_OK) and not os.access(path, os.R_OK):
        raise StoreError(f"{path}: not yours to read, and no service answers at {service.socket}")
    if not os.access(path.parent, os.X_OK):
        missing = f"{path.parent}: no such folder, or not yours to read"
        raise StoreError(f"{missing}, and no service answers at {service.socket}")
    from jobimpact.answers.local import LocalAnswers

    return LocalAnswers(site, None)


def told_site(site: Config, source: Answerer) -> Config:
    """The configuration by which an answer is told: findings and prices are those of the host that answered."""
    told: Callable[[Config], Config] | None = getattr(source, "site", None)
    return site if told is None else told(site)


def _cut(group: Group, want: Asked) -> Group:
    if group.sums is None:
        return group
    if not group.jobs:
        what = group.asked or "what was asked"
        raise ConfigError(f"-T: {what} is {group.sums.jobs:,} jobs, too many to be cut each: ask for a shorter time")
    from jobimpact.answers.cut import cut

    jobs = tuple(cut(one, want.query.from_s, want.query.to_s) for one in group.jobs)
    return msgspec.structs.replace(group, jobs=jobs, sums=sums_of(jobs))


def _is_whole(group: Group) -> bool:
    """Whether it is an array, or a heterogeneous job, that is told together: by its own id, of one task too."""
    if not group.asked or not group.jobs:
        return bool(group.asked)
    ids = {one.job_id for one in group.jobs}
    return len(ids) > 1 or (group.asked not in ids and all(_is_part(one, group.asked) for one in group.jobs))


def _is_part(one: JobResult, whole: str) -> bool:
    """Whether a job is a task of this array, or a part of this heterogeneous job."""
    return one.array_id == whole or one.job_id.startswith(f"{whole}+")


# -- what is not answered --------------------------------------------------------------------------------------------


def _complaints(answers: Answers, want: Asked) -> list[str]:
    """A line for each id that is not answered, or not in full."""
    found = []
    for group in answers.groups:
        if group.trouble is not None:
            what = "perhaps not all" if group.sums else "not in the results"
            found.append(f"job {group.asked}: {what}, and the nodes' books cannot be asked")
        elif group.sums is None and group.asked:
            found.append(f"job {group.asked}: unknown, or not yours")
        elif group.sums is not None and not group.jobs and (want.form in {"csv", "parsable2"} or want.each_task):
            what = f"job {group.asked}" if group.asked else "what was asked"
            found.append(
                f"{what}: {group.sums.jobs:,} jobs are too many to be listed: ask for fewer, or a shorter time"
            )
    return found


def _reasons(answers: Answers) -> list[str]:
    return list(dict.fromkeys(group.trouble for group in answers.groups if group.trouble))


def _complain(answers: Answers, complaints: list[str], want: Asked) -> None:
    reasons = _reasons(answers)
    if want.form != "json":
        for one in complaints:
            _say(one)
        if answers.nothing_yet and not reasons and not any(group.sums for group in answers.groups):
            _say("nothing is accounted yet: `jobimpact account` has not run")
        for why in reasons:
            _say(f"jobimpact: {why}")
    if want.steps:
        first = want.steps[0]
        _say(f"jobimpact: steps are not metered by themselves: {first} is answered with its whole job")


def _say(text: str) -> None:
    print("".join(char if char.isprintable() else "?" for char in text), file=sys.stderr)


# -- what is ---------------------------------------------------------------------------------------------------------


class _Teller:
    """One answer, in the form that is wanted."""

    def __init__(self, want: Asked, site: Config, source: Answerer, answers: Answers) -> None:
        self._want = want
        self._site = site
        self._source = source
        self._groups = [group for group in answers.groups if group.sums is not None]
        self._all = answers.groups
        self._reasons = _reasons(answers)
        seen = {(one.cluster, one.key): one for group in self._groups for one in group.jobs}
        self._jobs = tuple(seen.values())
        """Each once, though an array and its task may both have been asked for."""
        self._colour = want.colour and sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def tell(self, complaints: list[str]) -> None:
        """Write it out."""
        form = self._want.form
        if form == "json":
            self._put(self._json(complaints))
        elif form in {"csv", "parsable2"}:
            self._rows(form)
        elif form == "html":
            self._page()
        elif self._want.is_table or len(self._groups) > MANY:
            self._put(self._table())
        else:
            self._put(self._reports())

    def _put(self, text: str) -> None:
        from jobimpact.cli.pager import put

        put(text, paged=self._want.pager and self._want.form == "text")

    def _json(self, complaints: list[str]) -> str:
        from jobimpact.report.json import document, dumps

        query = self._want.query
        timed = query.from_s is not None or query.to_s is not None
        found = document(
            self._all,
            [*complaints, *self._reasons],
            window=(query.from_s, query.to_s, self._want.cut) if timed else None,
            findings=self._findings,
            findings_of_group=lambda group: self._of_array(group) if _is_whole(group) else (),
            details=self._details if self._want.profile else None,
        )
        return dumps(found) + "\n"

    def _rows(self, form: str) -> None:
        from jobimpact.report.csv import comma_separated, parsable

        rows = comma_separated if form == "csv" else parsable
        # The rows' ends are theirs: Python must not make them the system's.
        for line in rows(self._jobs, header=self._want.header):
            sys.stdout.write(line)

    def _page(self) -> None:
        from heapq import nlargest

        from jobimpact.report.group import group_view
        from jobimpact.report.job import job_view
        from jobimpact.report.page import MOST_JOBS, job_page
        from jobimpact.report.view import GroupView, JobView

        currency = self._site.report.currency
        views: list[JobView | GroupView] = []
        left_out = 0
        for group in self._groups:
            if _is_whole(group):
                views.append(group_view(group, findings=self._of_array(group), currency=currency))
                continue
            if not group.jobs and group.sums:
                raise ConfigError(f"--html: {group.sums.jobs:,} jobs are too many for a page: ask for a shorter time")
            largest = {one.key for one in nlargest(MOST_JOBS, group.jobs, key=lambda one: one.energy_j or 0.0)}
            left_out += len(group.jobs) - len(largest)
            views += [
                job_view(one, findings=self._findings(one), details=self._details(one), currency=currency)
                for one in group.jobs
                if one.key in largest
            ]
        if not views:
            return  # each is complained of
        title = views[0].title if len(views) == 1 else f"{len(views)} reports"
        text = job_page(views, title=title, left_out=left_out)
        if self._want.page in {None, "-"}:
            sys.stdout.write(text)
            return
        try:
            Path(self._want.page or "").write_text(text, encoding="utf-8")
        except OSError as error:
            raise JobImpactError(f"{self._want.page}: {error.strerror}") from error

    def _table(self) -> str:
        from jobimpact.cli.pager import width
        from jobimpact.report.table import Units, job_line, sums_line, table

        lines = [job_line(one) for one in self._jobs]
        lines += [sums_line(one.asked, one.sums) for one in self._groups if one.sums and one.asked and not one.jobs]
        units = Units(*self._want.units) if self._want.units else None
        return table(
            self._title(),
            lines,
            self._sums(),
            units=units,
            width=width(),
            colour=self._colour,
            header=self._want.header,
        )

    def _title(self) -> str:
        query = self._want.query
        of = [f"of {', '.join(query.users)}"] if query.users else []
        of += [f"of account {', '.join(query.accounts)}"] if query.accounts else []
        of += [f"on {', '.join(query.clusters)}"] if query.clusters else []
        when = ""
        if query.from_s is not None or query.to_s is not None:
            from jobimpact.cli.times import said, zone

            begin = "" if query.from_s is None else f" from {said(query.from_s)}"
            end = " until now" if query.to_s is None else f" to {said(query.to_s)}"
            when = f"{begin}{end} ({zone(query.from_s or query.to_s or 0)})"
        if not of and not when:
            return ""
        from jobimpact.report.words import clean

        return clean(f"{' '.join(['Jobs', *of])}{when}{', cut' if self._want.cut else ''}")

    def _sums(self) -> Sums | None:
        whole = [group for group in self._groups if not group.jobs]
        # A task beside its array, of which there are only sums, is in these already.
        known = tuple(f"{group.asked}{mark}" for group in whole for mark in "_+")
        apart = [one for one in self._jobs if not one.job_id.startswith(known)]
        parts = [sums_of(apart), *(group.sums for group in whole)]
        return merged([one for one in parts if one is not None])

    def _reports(self) -> str:
        from jobimpact.report.job import job_view
        from jobimpact.report.text import group_text, job_text, method_text

        currency = self._site.report.currency
        blocks: list[str] = []
        methods: dict[str, None] = {}
        several = len({one.cluster for one in self._jobs}) > 1
        for group in self._groups:
            if _is_whole(group):
                from jobimpact.report.group import group_view

                whole = group_view(group, findings=self._of_array(group), currency=currency)
                blocks.append(group_text(whole, colour=self._colour, cluster=several))
                methods[method_text(whole)] = None
                continue
            for one in group.jobs:
                details = self._details(one) if len(self._jobs) <= _FEW else None
                view = job_view(one, findings=self._findings(one), details=details, currency=currency)
                blocks.append(job_text(view, colour=self._colour, cluster=several))
                methods[method_text(view)] = None
        return "\n".join(filter(None, [*blocks, *methods]))

    def _findings(self, one: JobResult) -> tuple[Finding, ...]:
        from jobimpact.findings.judge import of_job

        return of_job(one, self._site.findings, self._site.report.price_per_kwh)

    def _of_array(self, group: Group) -> tuple[Finding, ...]:
        from jobimpact.findings.judge import of_array

        endings = group.sums.endings if group.sums else ()
        return of_array(endings, group.jobs, self._site.findings, self._site.report.price_per_kwh)

    def _details(self, one: JobResult) -> Details:
        if one.accounted_s is None:
            return Details()  # it is put together from the nodes' books just now
        return self._source.details(one.cluster, one.key)
