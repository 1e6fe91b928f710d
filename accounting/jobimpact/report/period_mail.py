"""The mail of a time: a user's digest, or a lab's report for its heads. Short, without pictures."""

from __future__ import annotations

from jobimpact.report.mail_body import Foot, MailBody, foot_text, mail_html, subject_line
from jobimpact.report.period import JobLine, PeriodView, Split
from jobimpact.report.period_page import period_keys
from jobimpact.report.period_text import period_text

__all__ = ["period_mail"]

_ROWS = 10


def period_mail(view: PeriodView, foot: Foot) -> MailBody:
    """A digest.

    Args:
        view: what is said of the time.
        foot: why it is sent, and how to get none.

    Returns:
        The body, without pictures.
    """
    part = f" ({view.in_part})" if view.in_part else ""
    subject = subject_line(f"{view.title}, {view.time}: {view.total_kwh or 'energy not known'}{part}")
    whose = ("User",) if view.of_many else ()
    head = ("Job", *whose, "Energy", "State", "Name")
    right = (len(whose) + 1,)
    tables: list[tuple[str, tuple[str, ...], list[tuple[str, ...]], tuple[int, ...], str]] = [
        (split.label, ("", "Jobs", "Energy", "Share", "Not completed"), _split(split), (1, 2, 3, 4), split.note)
        for split in view.splits
        if split.of in {"user", "lab", "model"}
    ]
    tables.append(("Jobs that did not complete", head, _jobs(view.worst, of_many=view.of_many), right, ""))
    tables.append(("Jobs with the most energy", head, _jobs(view.most, of_many=view.of_many), right, ""))
    html = mail_html(
        "period_mail.html.j2",
        subject,
        foot,
        preview=" ".join((*view.lead, *view.trend, *(one.title for one in view.advice))),
        view=view,
        keys=period_keys(view),
        impact_rows=[
            (one.label, one.use, one.embodied, one.total, f"{one.span} {one.unit}".strip() if one.span else "")
            for one in view.impacts
        ],
        tables=tables,
    )
    return MailBody(subject, "\n".join(filter(None, (period_text(view), foot_text(foot)))), html)


def _split(split: Split) -> list[tuple[str, ...]]:
    rows = [(one.name, one.jobs, one.energy, one.share, one.failed) for one in split.rows[:_ROWS]]
    more = len(split.rows) - _ROWS
    return [*rows, (f"and {more} more", " ", " ", " ", " ")] if more > 0 else [*rows]


def _jobs(jobs: tuple[JobLine, ...], *, of_many: bool) -> list[tuple[str, ...]]:
    return [(one.job, *((one.user,) if of_many else ()), one.kwh, one.state, one.name) for one in jobs]
