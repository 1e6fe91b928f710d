"""A mail's bytes: headers that users' text cannot add to, and parts that readers expect."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.config import Mail
from jobimpact.core.errors import ConfigError
from jobimpact.mail.message import Letter, check_sender, message_bytes, message_id, plain_header
from jobimpact.report.mail_body import MailBody

SETTINGS = Mail(sender="jobimpact@site.example", sender_name="jobimpact, labia")
NAMES = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "Precedence",
    "X-Auto-Response-Suppress",
    "MIME-Version",
    "Content-Type",
]
HOSTILE = [
    "a\r\nBcc: evil@x.example",
    "a\nBcc: evil@x.example\n\nbody",
    "a\rBcc: evil@x.example",
    "=?utf-8?q?a=0D=0ABcc:_evil@x.example?=",
    "=?utf-8?b?YQ0KQmNjOiBldmlsQHguZXhhbXBsZQ==?=",
    "\u202ereversed\u2066",
    "a\0b\x1b[31mred\x07",
    "a\x0bb\x0cc\x85d\u2028e\u2029f",
    "x" * 10_000,
    "é" * 10_000,
    "\ud800 lone",
    "a, b <c@d.example>",
    '"',
    "",
    " \t ",
]


def made(body: MailBody, settings: Mail = SETTINGS, to: str = "alice@site.example", **more: Any) -> bytes:
    """A message of 2026-11-20."""
    letter = Letter(to, message_id("lab", "job/2026-11-20/1", "jobimpact@site.example"), body, **more)
    return message_bytes(letter, settings, 1795190300.0)


def parsed(content: bytes) -> EmailMessage:
    """As a reader takes it apart."""
    return cast("EmailMessage", message_from_bytes(content, policy=policy.default))


def raw_names(content: bytes) -> list[str]:
    """The names of a message's headers, as its bytes have them."""
    head = content.partition(b"\r\n\r\n")[0]
    return [line.partition(b":")[0].decode() for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]


def test_headers() -> None:
    """Who, what, and that nobody is to answer by itself."""
    settings = Mail(
        sender="jobimpact@site.example",
        sender_name="Énergie, labia",
        reply_to="help@site.example",
        unsubscribe=f"https://site.example/{'a' * 200}?user=%20x",
    )
    content = made(MailBody("Énergie: 5 kWh", "t", "<p>h</p>"), settings)
    message = parsed(content)
    assert message["From"].addresses[0].display_name == "Énergie, labia"
    assert message["From"].addresses[0].addr_spec == "jobimpact@site.example"
    assert message["To"] == "alice@site.example"
    assert message["Reply-To"] == "help@site.example"
    assert message["Subject"] == "Énergie: 5 kWh"
    assert message["Date"].datetime.timestamp() == 1795190300.0
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Precedence"] == "bulk"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    # As it stands in the bytes: folded or encoded, it would be no address any more.
    assert f"\r\nList-Unsubscribe: <{settings.unsubscribe}>\r\n".encode() in content
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "subject", ["job " * 30, "é" * 100, "Lab Language (nlp) on lab, 2026-11-15 to 2026-11-22: 0.00417 kWh"]
)
def test_a_long_subject_is_one_text(subject: str) -> None:
    """Folded or not, readers see no blank before it."""
    assert str(parsed(made(MailBody(subject, "t", "h")))["Subject"]) == plain_header(subject)


@pytest.mark.parametrize(
    ("unsubscribe", "wanted", "names"),
    [
        ("mailto:stop@site.example?subject=stop", True, ["List-Unsubscribe"]),
        ("https://site.example/stop", True, ["List-Unsubscribe", "List-Unsubscribe-Post"]),
        ("https://site.example/stop", False, []),
        (None, True, []),
    ],
)
def test_one_click_is_for_https_alone(unsubscribe: str | None, wanted: bool, names: list[str]) -> None:
    """And mails to admins have none."""
    settings = Mail(sender="a@b.example", unsubscribe=unsubscribe)
    found = raw_names(made(MailBody("s", "t", "h"), settings, unsubscribe=wanted))
    assert [name for name in found if name.startswith("List-")] == names


def test_parts() -> None:
    """Text, else HTML with its pictures inside; every byte of each comes back."""
    text = "first\n.\n..two\n" + "long " * 400 + "\nénergie\n"
    page = '<img src="cid:power">' + "é" * 2000
    message = parsed(made(MailBody("s", text, page, {"power": b"\x89PNG\r\n\x1a\n\x00\xff"})))
    assert message.get_content_type() == "multipart/alternative"
    plain, related = message.iter_parts()
    assert plain.get_content_type() == "text/plain"
    assert cast("EmailMessage", plain).get_content().replace("\r\n", "\n") == text
    assert related.get_content_type() == "multipart/related"
    html, picture = cast("EmailMessage", related).iter_parts()
    assert cast("EmailMessage", html).get_content().rstrip() == page
    assert picture.get_content_type() == "image/png"
    assert picture["Content-ID"] == "<power>"
    assert picture.get_content_disposition() == "inline"
    assert picture.get_payload(decode=True) == b"\x89PNG\r\n\x1a\n\x00\xff"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_users_becomes_a_header(text: str) -> None:
    """In the subject, the body, and what stands before both."""
    content = made(MailBody(text, text, f"<p>{text}"))
    assert raw_names(content) == NAMES
    message = parsed(content)
    subject = str(message["Subject"])
    assert subject
    assert subject.isprintable()
    assert len(subject) <= 150
    assert message.get_all("Bcc") is None
    assert content.replace(b"\r\n", b"").find(b"\n") == content.replace(b"\r\n", b"").find(b"\r") == -1


@given(st.text(max_size=300))
def test_headers_are_what_they_are_whatever_is_in_them(text: str) -> None:
    """For any text: the same headers, and a subject that reads as it was cleaned."""
    content = made(MailBody(text, text, f"<p>{text}"), Mail(sender="a@b.example", sender_name=text or "x"))
    assert raw_names(content) == NAMES
    assert str(parsed(content)["Subject"]).split() == (plain_header(text) or "jobimpact").split()


@pytest.mark.parametrize("to", ["a@b\r\nBcc: x@y", "a@b, c@d", "Alice <a@b>", "a b@c", "=?utf-8?q?a=0D=0A?=@b"])
def test_a_recipient_is_one_address(to: str) -> None:
    """Whatever came through, no message is made of it, or it holds one recipient."""
    try:
        content = made(MailBody("s", "t", "h"), to=to)
    except ValueError:
        return
    assert raw_names(content) == NAMES
    assert [one.addr_spec for one in parsed(content)["To"].addresses] == [to]


def test_the_same_mail_has_the_same_name() -> None:
    """By cluster and key; of the sender's domain."""
    name = message_id("lab", "job/2026-11-20/1", "x@site.example")
    assert name == message_id("lab", "job/2026-11-20/1", "y@site.example")
    assert len({name, *(message_id(c, k, "x@site.example") for c, k in (("lab", "job/2"), ("la", "bjob/2")))}) == 3
    assert name.endswith(".jobimpact@site.example>")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Mail(), "mail.sender: an address that reports come from is needed"),
        (Mail(sender="é@b.example"), "mail.sender: 'é@b.example': not an address of plain ASCII"),
        (Mail(sender="a@b.example", admins=("é@b.example",)), "mail.admins"),
        (Mail(sender="a@b.example", unsubscribe="https://x/a>b"), "mail.unsubscribe"),
    ],
)
def test_settings_of_which_no_mail_can_be_made(settings: Mail, said: str) -> None:
    """Are told before anything goes."""
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        check_sender(settings)
