"""What a mail says, as text and as HTML with pictures inside. Who gets it, and how, is not known here."""

from __future__ import annotations

import textwrap

import msgspec

from jobimpact.report.page import energy_lines, energy_shares, is_running, keys, render
from jobimpact.report.palette import LIGHT
from jobimpact.report.plots import Picture, power_picture, quality_picture
from jobimpact.report.text import job_text, method_text
from jobimpact.report.view import JobView
from jobimpact.report.words import clean

__all__ = ["Foot", "MailBody", "foot_text", "job_mail", "mail_html", "subject_line"]

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
        preview=" ".join((*view.lead, *(one.title for one in view.advice))),
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
        impact_rows=[
            (one.label, one.use, one.embodied, one.total, f"{one.span} {one.unit}".strip()) for one in view.impacts
        ],
        beside_rows=[(one.label, one.gwp, one.adp, one.pe, one.said) for one in view.beside],
    )
    text = "\n".join(filter(None, (job_text(view), method_text(view), foot_text(foot))))
    return MailBody(subject, text, html, _images({POWER_CID: power, QUALITY_CID: quality}))


def job_subject(view: JobView) -> str:
    """`Job 124 (train): 1.72 kWh, completed`, or `Job 125 (train) failed after 1.4 kWh`."""
    name = textwrap.shorten(clean(view.name), _NAME, placeholder="...") if view.name else ""
    title = clean(view.title)
    job = f"{title[:1].upper()}{title[1:]}{f' ({name})' if name else ''}"
    state = clean(view.state).partition(" (")[0].partition(",")[0].strip()
    ended = _ENDED.get(state.partition(" ")[0])
    if ended is not None:
        return subject_line(f"{job} {ended}{f' after {view.total_kwh}' if view.total_kwh else ''}")
    return subject_line(f"{job}: {view.total_kwh or 'energy not known'}, {state.lower()}")


def subject_line(text: str) -> str:
    """One line that a header can bear: without control characters, and not long."""
    return textwrap.shorten(clean(text), _SUBJECT, placeholder="...")


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
    lines = [part for line in said for part in textwrap.wrap(clean(line), WIDTH)]
    lines += filter(None, [_web(foot.link)])
    return "-- \n" + "\n".join(lines) + "\n" if lines else ""


def _web(link: str) -> str:
    """An address of the web; of another sort, empty."""
    return clean(link) if link.startswith(("https://", "http://")) else ""


def _images(found: dict[str, Picture | None]) -> dict[str, bytes]:
    return {cid: picture.png for cid, picture in found.items() if picture is not None}
