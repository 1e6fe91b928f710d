"""What stands at a mail's end."""

from __future__ import annotations

import pytest

from jobimpact.core.config import Config, Mail
from jobimpact.mail.content import foot_of
from jobimpact.mail.subject import parse
from jobimpact.results.mailing import MailRow


@pytest.mark.parametrize(
    ("unsubscribe", "said"),
    [
        (None, ""),
        ("https://site.example/none?user=%20x", "No more of these: https://site.example/none?user=%20x"),
        ("mailto:help@site.example", "No more of these: write to help@site.example"),
        (
            "mailto:help@site.example?subject=no%20mail",
            "No more of these: write to help@site.example, subject: no mail",
        ),
        (
            "mailto:help@site.example?body=x&subject=a%26b",
            "No more of these: write to help@site.example, subject: a&b",
        ),
        ("mailto:a@b.example?subject=x%0D%0ABcc:y", "No more of these: write to a@b.example, subject: x Bcc:y"),
    ],
)
def test_how_to_get_none_is_told_in_words(unsubscribe: str | None, said: str) -> None:
    """A `mailto:` address is for programs: people read whom to write to, and what."""
    about = parse("job/2026-11-20/1")
    row = MailRow("job/2026-11-20/1", "alice", None, "planned", 0, None, None, "used 2.00 kWh", 0.0, 0.0)
    assert foot_of(row, about, Config(mail=Mail(unsubscribe=unsubscribe))).stop == said


def test_a_digest_says_that_it_has_all_jobs() -> None:
    """Whoever adds it to the mails of the week would count jobs twice."""
    key = "digest/2026-11-09/2026-11-16/alice"
    row = MailRow(key, "alice", None, "planned", 0, None, None, "the digest of their other jobs", 0.0, 0.0)
    why = foot_of(row, parse(key), Config()).why
    assert why == (
        "You get this because jobs of yours ran on the cluster in this time. All of them are in its sums, those that"
        " had a mail of their own, too."
    )
