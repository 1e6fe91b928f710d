"""What a mail says, as text and as HTML with pictures inside. Who gets it, and how, is not known here."""

from __future__ import annotations

import msgspec

__all__ = ["Foot", "MailBody"]


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
    """Where there is more: an https address."""
