"""Mails that wait go to the server, each at most once: claimed in the database before the first byte of its text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from jobimpact.core.config import Mail
from jobimpact.core.errors import ConfigError, JobImpactError, MailError
from jobimpact.mail.message import Letter, check_sender, message_bytes, message_id
from jobimpact.mail.smtp import Outcome, Server
from jobimpact.report.mail_body import MailBody
from jobimpact.results.mailing import Mailing, MailRow, State

__all__ = ["MOST_ATTEMPTS", "ODD", "Contents", "Delivered", "deliver", "in_words", "is_due"]

MOST_ATTEMPTS = 5
ODD: tuple[type[Exception], ...] = (
    *(JobImpactError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
)
"""What a row that is not as it should be may bring about: one job must not keep all others' mails."""
_WAIT_S = (0.0, 18 * 3600.0, 42 * 3600.0, 90 * 3600.0, 186 * 3600.0)
"""After so many attempts: the next night, the one after the next, ... with six hours to spare."""


class Contents(Protocol):
    """What mails say.

    Raises:
        JobImpactError: it cannot be put together.
    """

    def body(self, row: MailRow) -> MailBody:
        """Of one mail."""


class Delivered(msgspec.Struct):
    """What became of them."""

    sent: int = 0
    retry: int = 0
    failed: int = 0
    uncertain: int = 0
    taken: int = 0
    """By another run at the same time."""
    trouble: str | None = None
    """Why the rest was not tried."""
    problems: list[str] = []


def in_words(error: Exception) -> str:
    """An error, and of one that is not ours its kind, too."""
    return str(error) if isinstance(error, JobImpactError) else f"{type(error).__name__}: {error}"


def is_due(row: MailRow, now_s: float) -> bool:
    """Whether it has waited for long enough."""
    return now_s >= row.changed_s + _WAIT_S[min(row.attempts, len(_WAIT_S) - 1)]


def deliver(
    rows: Iterable[MailRow],
    mailing: Mailing,
    cluster: str,
    settings: Mail,
    contents: Contents,
    clock: Callable[[], float],
) -> Delivered:
    """Send mails one after the other.

    Args:
        rows: that wait.
        mailing: where it is written down what becomes of each.
        cluster: whose they are.
        settings: of mail.
        contents: what they say.
        clock: the time, epoch seconds.

    Raises:
        StoreError: it could not be written down; what was on its way then will be found uncertain.
    """
    done = Delivered(problems=[])
    server: Server | None = None
    try:
        for row in rows:
            if row.address is None:
                continue
            try:
                name, message = _written(row, cluster, settings, contents, clock())
            except ConfigError as error:
                done.trouble = str(error)  # of the site, and not of this mail: none of them is to be lost for it
                break
            except ODD as error:
                _put_off(mailing, row, f"could not be written: {in_words(error)}", done, clock())
                continue
            try:
                server = server or Server(settings.smtp)
                outcome = _send(server, mailing, check_sender(settings), row, name, message, clock)
            except (MailError, ConfigError) as error:
                done.trouble = str(error)
                break
            _note(outcome, mailing, row, done, clock())
            if not outcome.go_on:
                done.trouble = outcome.said
                break
    finally:
        if server is not None:
            server.close()
    return done


def _written(row: MailRow, cluster: str, settings: Mail, contents: Contents, now_s: float) -> tuple[str, bytes]:
    """A mail's Message-ID, and all of it."""
    name = message_id(cluster, row.subject, check_sender(settings))
    letter = Letter(row.address or "", name, contents.body(row), not row.subject.startswith("health/"))
    return name, message_bytes(letter, settings, now_s)


def _send(
    server: Server,
    mailing: Mailing,
    sender: str,
    row: MailRow,
    name: str,
    message: bytes,
    clock: Callable[[], float],
) -> Outcome:
    """Claim and send; what is not certain stays claimed, until it is noted."""
    return server.send(sender, row.address or "", message, lambda: mailing.claim(row, name, clock()))


def _note(outcome: Outcome, mailing: Mailing, row: MailRow, done: Delivered, now_s: float) -> None:
    if outcome.kind == "taken":
        done.taken += 1
    elif outcome.kind == "retry":
        _put_off(mailing, row, outcome.said, done, now_s)
    else:
        state: State = outcome.kind
        why = row.why if state == "sent" else outcome.said
        if not mailing.settle(row.subject, state, why, now_s):
            mailing.put_off(row, state, why or "", now_s)  # refused before it was claimed
        setattr(done, state, getattr(done, state) + 1)
        if state != "sent":
            done.problems.append(f"{row.subject} to {row.address}: {state}: {outcome.said}")


def _put_off(mailing: Mailing, row: MailRow, why: str, done: Delivered, now_s: float) -> None:
    """To another night; after the last attempt, for good."""
    state: State = "failed" if row.attempts + 1 >= MOST_ATTEMPTS else "retry"
    if not mailing.settle(row.subject, state, why, now_s):
        mailing.put_off(row, state, why, now_s)
    if state == "failed":
        done.failed += 1
        done.problems.append(f"{row.subject} to {row.address}: failed: {why}")
    else:
        done.retry += 1
