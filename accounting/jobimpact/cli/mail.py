"""`jobimpact mail`: the night's mails, sent or shown; `mail status`, `mail resend KEY`."""

from __future__ import annotations

import sys
import textwrap
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jobimpact.core.config import Config, config_path, each_cluster, load_config
from jobimpact.core.errors import ConfigError, JobImpactError, MailError
from jobimpact.nightly.extra import extra

if TYPE_CHECKING:
    from jobimpact.results.mailing import MailRow

__all__ = ["after_night", "resend", "run", "status"]

_LEFT = 1
_WIDTH = 100
_LISTED = 50
_IN = " " * 6


def run(config: str | None, night: str | None, preview: str | None, to: str | None) -> int:
    """Send the mails of this night, or, unless `mail.send` is true, put them into a folder.

    Args:
        config: the configuration's file.
        night: a day whose mails are only shown.
        preview: a folder to show them in.
        to: an address to send all of them to.

    Returns:
        0; 1: some were refused, may or may not have arrived, or could not go.

    Raises:
        ConfigError: a setting or an argument is wrong.
        MailError: the mail server cannot be reached.
        StoreError: the results cannot be read or written.
    """
    site = load_config(config_path(config))
    with extra():
        from jobimpact.mail.lists import is_address
    if to is not None and not is_address(to):
        raise ConfigError(f"--to {to!r:.80}: not a mail address")
    day = None if night is None else _day(night)
    status = 0
    for one in each_cluster(site):
        looks = day is not None or preview is not None or to is not None
        if not looks and site.mail.enabled and site.mail.send:
            status = max(status, _send(one, ()))
        else:
            folder = preview or (site.mail.preview if to is None else None)
            status = max(status, _show(one, None if folder is None else Path(folder), to, day))
    return status


def after_night(config: Config, problems: Sequence[str]) -> None:
    """What follows the accounting of one cluster, if mail is enabled. What goes wrong is said, and is no error of it.

    Args:
        config: of that cluster.
        problems: what the accounting ran into.
    """
    if not config.mail.enabled:
        return
    try:
        if config.mail.send:
            _send(config, problems)
        else:
            _show(config, Path(config.mail.preview), None, None, problems)
    except JobImpactError as error:
        print(f"jobimpact: mail: {_plain(str(error))}", file=sys.stderr)
    except Exception as error:  # noqa: BLE001 (a bug here must not keep the next cluster from its accounting)
        traceback.print_exc()
        print(f"jobimpact: mail: {type(error).__name__}: {_plain(str(error))}", file=sys.stderr)


def _send(config: Config, problems: Sequence[str]) -> int:
    with extra():
        from jobimpact.mail.night import send_night
    done = send_night(config, time.time, problems)
    for line in (*done.stopped, *done.delivered.problems):
        print(f"jobimpact: mail: {_plain(line)}", file=sys.stderr)
    for key in done.found_uncertain:
        print(
            f"jobimpact: mail: {_plain(key)}: may or may not have arrived: see jobimpact mail status", file=sys.stderr
        )
    counts = done.delivered
    said = [f"{counts.sent} sent"]
    said += [
        f"{count} {what}"
        for count, what in (
            (counts.retry, "to be tried again"),
            (counts.failed, "refused"),
            (counts.uncertain, "uncertain"),
        )
        if count
    ]
    said += [f"{done.waiting} waiting"] if done.waiting else []
    print(f"mail: {', '.join(said)}{f' ({_plain(done.quiet)})' if done.quiet else ''}")
    wrong = done.stopped or counts.failed or counts.uncertain or done.found_uncertain
    return _LEFT if wrong else 0


def _show(config: Config, folder: Path | None, to: str | None, day: date | None, problems: Sequence[str] = ()) -> int:
    with extra():
        from jobimpact.mail.night import show
    shown = show(config, time.time, folder=folder, to=to, night=day, problems=problems)
    rows = [(one.user, one.address or "", _key(one.subject), one.why) for one in shown.plan.going]
    if rows:
        _table(("user", "address", "about", "why"), rows)
    told = [
        (one.user, "in the digest", _key(one.subject), one.why)
        for one in shown.plan.mails
        if one not in shown.plan.going
    ]
    skipped = [(one.user, "no mail", _key(one.subject), one.why) for one in shown.plan.skipped]
    if told or skipped:
        print()
        _table(("user", "not mailed", "about", "why"), [*told, *skipped])
    for line in (*shown.stopped, *shown.problems):
        print(f"jobimpact: mail: {_plain(line)}", file=sys.stderr)
    if shown.quiet:
        print(_plain(shown.quiet))
    where = f", {_many(shown.files, 'file')} in {folder}" if folder is not None else ""
    sent = f"all to {to}: {shown.sent} sent" if to is not None else "nothing is sent"
    print(f"{_many(shown.plan.going, 'mail')}{where}; {sent}, and nothing is noted")
    return _LEFT if shown.stopped or shown.problems else 0


def _many(things: Sequence[object], what: str) -> str:
    return f"{len(things):,} {what}{'' if len(things) == 1 else 's'}"


def status(config: str | None) -> int:
    """Say how mails stand, and list those that a person should look at.

    Returns:
        0; 1: there are some that were refused, or that may or may not have arrived.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the results cannot be read.
    """
    site = load_config(config_path(config))
    with extra():
        from jobimpact.results.mailing import Mailing
    left = 0
    for one in each_cluster(site):
        mailing = Mailing(one.results, one.cluster)
        try:
            mailing.bury(time.time())
            counts, begun_s = mailing.counts(), mailing.begun()
            rows = mailing.rows(("uncertain", "failed", "sending", "retry", "planned"))
        finally:
            mailing.close()
        since = (
            "nothing was ever sent" if begun_s is None else f"mails of jobs that ended after {_moment(begun_s)} UTC"
        )
        print(f"{one.cluster}: {since}")
        for state, said in _SAID.items():
            if counts.get(state):
                print(f"  {counts[state]:>6} {state:<10} {said}")
        for state in ("uncertain", "failed", "sending", "retry", "planned"):
            _list([row for row in rows if row.state == state], state)
        left += counts.get("uncertain", 0) + counts.get("failed", 0)
    return _LEFT if left else 0


_SAID = {
    "sent": "taken by the mail server",
    "planned": "wait to be sent",
    "retry": "could not be sent for now, and wait for another night",
    "sending": "are being sent",
    "uncertain": "may or may not have arrived: look, then `jobimpact mail resend KEY`",
    "failed": "refused for good, with the server's words",
    "digest": "told in the user's digest",
    "dropped": "not wanted any more",
}


def _list(rows: Sequence[MailRow], state: str) -> None:
    if not rows:
        return
    print(f"\n{state}:")
    for row in rows[:_LISTED]:
        print(f"  {_plain(row.subject)}")
        tried = f"tried {row.attempts} times" if row.attempts > 1 else f"{_moment(row.changed_s)} UTC"
        name = f", Message-ID {row.message_id}" if row.message_id else ""
        said = f"to {row.address}, {tried}{name}: {row.why or '-'}"
        print(textwrap.fill(_plain(said), _WIDTH, initial_indent=_IN, subsequent_indent=_IN, break_on_hyphens=False))
    if len(rows) > _LISTED:
        print(f"  and {len(rows) - _LISTED} more")


def resend(config: str | None, key: str) -> int:
    """Send a mail that is uncertain, or was refused, once more.

    Returns:
        0: sent; 1: not.

    Raises:
        ConfigError: the configuration is wrong, or does not let mails go.
        MailError: the mail server cannot be reached.
        StoreError: the results cannot be read or written.
    """
    site = load_config(config_path(config))
    if not (site.mail.enabled and site.mail.send):
        raise ConfigError("mail.enabled and mail.send must be true for a mail to go")
    with extra():
        from jobimpact.mail import night
    for one in each_cluster(site):
        done = night.resend(one, key, time.time)
        if done is not None:
            if done.trouble and not done.retry:
                raise MailError(done.trouble)
            for line in filter(None, (*done.problems, done.trouble)):
                print(f"jobimpact: mail: {_plain(line)}", file=sys.stderr)
            print("sent" if done.sent else "not sent: see jobimpact mail status")
            return 0 if done.sent else _LEFT
    raise ConfigError(f"{key!r:.100}: no such mail that is uncertain, refused or waiting: see jobimpact mail status")


def _day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--night {text!r:.40}: not a day like 2026-11-20") from error
    if not 1970 < found.year < 9999:
        raise ConfigError(f"--night {text}: a day on which no job ended")
    return found


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    plain = [(*(_plain(cell)[:60] for cell in row[:-1]), _plain(row[-1])[:200]) for row in rows]
    widths = [max(len(row[at]) for row in (head, *plain)) for at in range(len(head) - 1)]
    for row in (head, *plain):
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))


def _key(subject: str) -> str:
    topic, _, rest = subject.partition("/")
    return f"{topic} {rest.partition('/')[2]}" if topic in {"job", "array", "het"} else subject


def _moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M}"


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
