"""A mail as bytes: headers that nobody else writes into, and text, HTML and pictures in the parts that readers expect.

Users' text reaches two headers, the subject and the recipient. Python takes a header's text apart before it writes it,
and would turn encoded words (`=?utf-8?q?=0D=0ABcc:...?=`) into what they stand for: line ends, too.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from typing import Any, cast

import msgspec

from jobimpact.core.config import Mail
from jobimpact.core.errors import ConfigError
from jobimpact.mail.lists import is_address
from jobimpact.report.mail_body import MailBody
from jobimpact.report.text import clean

__all__ = ["Letter", "check_sender", "message_bytes", "message_id", "plain_header"]

SUBJECT_LENGTH = 150


class Letter(msgspec.Struct, frozen=True):
    """What goes to whom."""

    to: str
    message_id: str
    body: MailBody
    unsubscribe: bool = True
    """Whether it says how to get none: mails to admins do not."""


class _Verbatim(UnstructuredHeader):
    """A header that is not folded: an address of the web is no longer one when it is."""

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        kwds["parse_tree"] = cls.value_parser("")
        kwds["decoded"] = value

    def fold(self, *, policy: Any) -> str:
        return f"{self.name}: {self}{policy.linesep}"  # type: ignore[attr-defined] # the registry's mixture has it


class _Subject(UnstructuredHeader):
    """On one line where it is plain: folded, it would begin with a blank line."""

    def fold(self, *, policy: Any) -> str:
        if str(self).isascii():
            return f"Subject: {self}{policy.linesep}"
        return str(super().fold(policy=policy))  # type: ignore[misc] # the registry's mixture has it


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("subject", _Subject)  # type: ignore[arg-type] # a mixture takes a part
for _name in ("list-unsubscribe", "message-id"):
    _HEADERS.map_to_type(_name, _Verbatim)  # type: ignore[arg-type] # a mixture takes a part
_POLICY = policy.SMTP.clone(header_factory=_HEADERS)


def check_sender(settings: Mail) -> str:
    """The address that mails come from.

    Raises:
        ConfigError: it is not set, or one of the site's own addresses is not plain ASCII.
    """
    if settings.sender is None:
        raise ConfigError("mail.sender: an address that reports come from is needed")
    own = [("sender", settings.sender), ("reply_to", settings.reply_to)]
    for key, address in [*own, *(("admins", one) for one in settings.admins)]:
        if address is not None and not is_address(address):
            raise ConfigError(f"mail.{key}: {address!r:.80}: not an address of plain ASCII")
    if settings.unsubscribe is not None and not re.fullmatch(r"[!-;=?-~]+", settings.unsubscribe):
        raise ConfigError("mail.unsubscribe: printable ASCII without < and > alone: write the rest as %XX")
    return settings.sender


def message_id(cluster: str, subject: str, sender: str) -> str:
    """The same for the same mail, whoever makes it and however often: readers that know it drop the second one."""
    found = hashlib.sha256(f"{cluster}\0{subject}".encode(errors="surrogatepass")).hexdigest()
    return f"<{found[:40]}.jobimpact@{sender.partition('@')[2]}>"


def plain_header(text: str, longest: int = SUBJECT_LENGTH) -> str:
    """Text that means only itself in a header."""
    # Cut first: what is cleaned of 10 kB is not worth it.
    found = " ".join(clean(text[: longest * 8]).split()).replace("=?", "= ?")
    return found if len(found) <= longest else f"{found[: longest - 3].rstrip()}..."


def message_bytes(letter: Letter, settings: Mail, now_s: float) -> bytes:
    """A whole message, its lines ended by CR LF.

    Args:
        letter: what it says, and who gets it.
        settings: who it comes from.
        now_s: its date, epoch seconds.
    """
    sender = check_sender(settings)
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(plain_header(settings.sender_name, 100), addr_spec=sender)
    if settings.reply_to is not None:
        message["Reply-To"] = Address(addr_spec=settings.reply_to)
    message["To"] = Address(addr_spec=letter.to)
    message["Subject"] = plain_header(letter.body.subject) or "jobimpact"
    message["Date"] = datetime.fromtimestamp(int(now_s), UTC)
    message["Message-ID"] = letter.message_id
    if letter.unsubscribe and settings.unsubscribe is not None:
        message["List-Unsubscribe"] = f"<{settings.unsubscribe}>"
        if settings.unsubscribe.startswith("https:"):
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    # Out-of-office answers and lists of other lists are not to answer.
    message["Auto-Submitted"] = "auto-generated"
    message["Precedence"] = "bulk"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(_text(letter.body.text), cte="quoted-printable")
    if letter.body.html:
        message.add_alternative(_text(letter.body.html), subtype="html", cte="quoted-printable")
        page = cast("EmailMessage", list(message.iter_parts())[1])
        for name, picture in letter.body.images.items():
            page.add_related(picture, "image", "png", cid=f"<{name}>", disposition="inline", filename=f"{name}.png")
    return message.as_bytes()


def _text(text: str) -> str:
    """UTF-8 can write it, and its lines end as the policy says."""
    return text.encode("utf-8", errors="replace").decode().replace("\r\n", "\n").replace("\r", "\n")
