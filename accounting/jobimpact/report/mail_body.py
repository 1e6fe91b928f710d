"""What a mail says, as text and as HTML with pictures inside. Who gets it, and how, is not known here."""

from __future__ import annotations

import msgspec

from jobimpact.report.columns import cut, wrap
from jobimpact.report.page import (
    ending_lines,
    ending_shares,
    energy_lines,
    energy_shares,
    headline,
    is_running,
    keys,
    render,
)
from jobimpact.report.palette import LIGHT
from jobimpact.report.plots import Picture, power_picture, quality_picture
from jobimpact.report.text import group_text, job_text, method_text
from jobimpact.report.view import GroupView, JobView
from jobimpact.report.words import clean

__all__ = ["Foot", "MailBody", "foot_text", "group_mail", "job_mail", "mail_html", "subject_line"]

WIDTH = 80
_SUBJECT = 120
_NAME = 40
_ENDED = {
    "FAILED": "failed",
    "TIMEOUT": "hit its time limit",
    "NODE_FAIL": "lost its node",
    "OUT_OF_MEMORY": "was out of memory",
    "CANCELLED": "was cancelled",
    "PREEMPTED": "was preempted",
    "REQUEUED": "was requeued",
    "DEADLINE": "missed its deadline",
    "BOOT_FAIL": "could not be launched",
}
POWER_CID = "power"
QUALITY_CID = "quality"


class MailBody(msgspec.Struct, frozen=True):
    """A mail without its addresses."""

    subject: str
    """One line, without control characters."""
    text: str
    html: str
    images: dict[str, bytes] = {}
    """PNG by content id, as `cid:` in the HTML names it."""


class Foot(msgspec.Struct, frozen=True):
    """What stands at a mail's end. Each is a sentence or empty."""

    why: str
    """`You get this because job 124 used more than 1 kWh.`"""
    stop: str = ""
    """How to get none."""
    contact: str = ""
    """Who is asked."""
    link: str = ""
    """Where there is more: an http or https address; others are left out."""


def job_mail(view: JobView, foot: Foot) -> MailBody:
    """One job.

    Args:
        view: what is said of it.
        foot: why it is sent, and how to get none.

    Returns:
        The body, with a picture of its power over time where that is known.
    """
    power = power_picture(view.profile, view.progress, of=view.title, form="png", running=is_running(view))
    quality = quality_picture(view.progress, of=view.title, form="png")
    subject = job_subject(view)
    lines = energy_lines(view.energy)
    html = mail_html(
        "job_mail.html.j2",
        subject,
        foot,
        preview=_preview(view),
        view=view,
        keys=keys(view),
        power=power,
        power_cid=POWER_CID,
        quality=quality,
        quality_cid=QUALITY_CID,
        energy=lines,
        shares=energy_shares(view.energy),
        energy_rows=[(one.label, one.amount, one.said) for one in lines],
        energy_colours=[one.colour for one in lines],
        impacts=view.impacts,
        impact_rows=_impact_rows(view),
        beside_rows=[(one.label, one.gwp, one.adp, one.pe, one.said) for one in view.beside],
    )
    text = "\n".join(filter(None, (job_text(view), method_text(view), foot_text(foot))))
    return MailBody(subject, text, html, _images({POWER_CID: power, QUALITY_CID: quality}))


def group_mail(view: GroupView, foot: Foot) -> MailBody:
    """An array, or the parts of a heterogeneous job, in one mail.

    Args:
        view: what is said of it.
        foot: why it is sent, and how to get none.
    """
    subject = group_subject(view)
    endings = ending_lines(view.endings)
    html = mail_html(
        "group_mail.html.j2",
        subject,
        foot,
        preview=_preview(view),
        view=view,
        keys=keys(view),
        shares=ending_shares(view.endings),
        ending_rows=[(one.label, one.jobs, one.share, one.energy) for one in endings],
        ending_colours=[one.colour for one in endings],
        impact_rows=_impact_rows(view),
        task_rows=[(one.job, one.state, one.elapsed, one.energy, one.gwp) for one in view.tasks],
    )
    text = "\n".join(filter(None, (group_text(view), method_text(view), foot_text(foot))))
    return MailBody(subject, text, html)


def group_subject(view: GroupView) -> str:
    """`Job 200 (sweep): 300 tasks, 2.46 kWh, 43 did not complete`."""
    title, _, size = clean(view.title).partition(": ")
    ended = f"{view.failed:,} did not complete" if view.failed else ""
    said = ", ".join(filter(None, (size, _energy(view) or "energy not known", ended)))
    return subject_line(f"{_named(title, view.name)}: {said}")


def job_subject(view: JobView) -> str:
    """`Job 124 (train): 1.72 kWh, completed`, or `Job 125 (train) failed after 1.4 kWh`."""
    job = _named(clean(view.title), view.name)
    state = clean(view.state).partition(" (")[0].partition(",")[0].strip()
    ended = _ENDED.get(state.partition(" ")[0])
    if ended is not None:
        return subject_line(f"{job} {ended}{f' after {_energy(view)}' if _energy(view) else ''}")
    return subject_line(f"{job}: {_energy(view) or 'energy not known'}, {state.lower()}")


def _named(title: str, name: str) -> str:
    short = cut(clean(name), _NAME)
    return f"{title[:1].upper()}{title[1:]}{f' ({short})' if short else ''}"


def _energy(view: JobView | GroupView) -> str:
    part = f" ({view.in_part})" if view.in_part else ""
    return f"{clean(headline(view)[0])}{part}" if view.total else ""


def _preview(view: JobView | GroupView) -> str:
    return " ".join((*view.lead, *(one.title for one in view.advice)))


def _impact_rows(view: JobView | GroupView) -> list[tuple[str, ...]]:
    return [(one.label, one.use, one.embodied, one.total, f"{one.span} {one.unit}".strip()) for one in view.impacts]


def subject_line(text: str) -> str:
    """One line that a header can bear: without control characters, and not long."""
    return cut(clean(text), _SUBJECT)


def mail_html(template: str, subject: str, foot: Foot, *, preview: str, **values: object) -> str:
    """A mail's template, filled.

    Args:
        template: it extends `mail_base.html.j2`.
        subject: as it is sent.
        foot: what stands at the end.
        preview: what mail programs show beside the subject.
        values: what else the template names.
    """
    safe = msgspec.structs.replace(foot, link=_web(foot.link))
    return render(template, subject=subject, foot=safe, preview=preview, c=LIGHT, **values)


def foot_text(foot: Foot) -> str:
    """The same as text; empty lines are left out."""
    said = [line for line in (foot.why, foot.stop, foot.contact) if line]
    lines = [part for line in said for part in wrap(clean(line), WIDTH)]
    lines += filter(None, [_web(foot.link)])
    return "-- \n" + "\n".join(lines) + "\n" if lines else ""


def _web(link: str) -> str:
    """An address of the web; of another sort, empty."""
    return clean(link) if link.startswith(("https://", "http://")) else ""


def _images(found: dict[str, Picture | None]) -> dict[str, bytes]:
    return {cid: picture.png for cid, picture in found.items() if picture is not None}
