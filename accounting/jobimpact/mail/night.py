"""One night's mails: planned from the results, written down, sent. Or only shown, and nothing written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from email.utils import make_msgid
from pathlib import Path

import msgspec

from jobimpact.core.config import Config
from jobimpact.core.errors import ConfigError, MailError, StoreError
from jobimpact.findings.judge import of_array, of_job
from jobimpact.mail.addresses import AddressBook
from jobimpact.mail.content import SiteContents
from jobimpact.mail.delivery import ODD, Contents, Delivered, deliver, in_words, is_due
from jobimpact.mail.health import Health, health_mail, late_days, silent_nodes, store_troubles
from jobimpact.mail.lists import read_holidays, read_opt_out
from jobimpact.mail.message import Letter, check_sender, message_bytes, message_id
from jobimpact.mail.policy import KEEP_DAYS, Known, Plan, decide, due_digest, due_labs, sends_on
from jobimpact.mail.preview import write_previews
from jobimpact.mail.smtp import Server
from jobimpact.mail.subject import Span, health_key, parse, units_told
from jobimpact.nightly.extra import opened
from jobimpact.report.advice import advise
from jobimpact.results.mailing import Mailing, MailRow, Unit

__all__ = ["Night", "Shown", "resend", "send_night", "show"]

DAY_S = 86400.0
TOLD_DAYS = 366
"""For so long it is known what was mailed: a scheduler that begins to count anew is told anew."""
STALE_DAYS = 30
LOOKED_AT = 200
"""Of an array's tasks so many, those with the most energy, say whether there is a finding."""
_WAITING = ("planned", "retry")
_UNITS = ("job/", "array/", "het/")

Clock = Callable[[], float]


class Night(msgspec.Struct, frozen=True):
    """What a night's mailing came to."""

    plan: Plan
    delivered: Delivered
    waiting: int
    """Mails that go another night."""
    stopped: tuple[str, ...]
    """Why users got none, or not all."""
    found_uncertain: tuple[str, ...]
    """Keys of mails over which a run before died."""
    quiet: str = ""
    """Why users get none today, or not all: it is no day for mail, or the first, or there are too many."""


class Shown(msgspec.Struct, frozen=True):
    """What a look came to."""

    plan: Plan
    files: tuple[Path, ...]
    sent: int
    stopped: tuple[str, ...]
    problems: tuple[str, ...]
    quiet: str = ""


class _Site:
    """What a plan is made from: the results, the admins' lists, the calendar.

    Args:
        config: of one cluster.
        mailing: its mails.
        now_s: the time.
    """

    def __init__(self, config: Config, mailing: Mailing, now_s: float) -> None:
        self._config = config
        self._mailing = mailing
        self._now_s = now_s
        self.day = datetime.fromtimestamp(now_s).astimezone().date()
        self._utc_day = datetime.fromtimestamp(now_s, UTC).date()
        self.stopped: list[str] = []
        self.problems: list[str] = []
        self.opted_out: frozenset[str] = frozenset()
        self.quiet = ""
        self._book: AddressBook | None = None
        self._read_lists()

    def _read_lists(self) -> None:
        """With one of them missing, nobody gets mail: it might be one who must not."""
        rules = self._config.mail
        try:
            self.opted_out = read_opt_out(rules.opt_out_file)
            holidays = read_holidays(rules.holidays_file)
            self._book = AddressBook(rules.addresses)
        except ConfigError as error:
            self.stopped.append(str(error))
            return
        if not sends_on(self.day, rules, holidays):
            self.quiet = f"{self.day:%A} {self.day} is no day for mail: what there is waits"

    def readdressed(self, row: MailRow) -> MailRow:
        """A mail that waits, to where its user's mail goes now; where that is not known any more, as it was."""
        found = self._book.address_of(row.user).at if self._book else None
        return row if found is None or found == row.address else self._mailing.readdress(row, found)

    def midnight_s(self) -> float:
        """The begin of the day, local."""
        return datetime(self.day.year, self.day.month, self.day.day).astimezone().timestamp()

    def plan(self, from_s: float, to_s: float, *, begun_s: float | None, fresh: bool = False) -> Plan:
        """Who gets which.

        Args:
            from_s: units that ended then or later.
            to_s: and before this.
            begun_s: digests of times that were over by then are not made.
            fresh: as if nothing had ever been mailed.
        """
        book = self._book
        if book is None:
            return Plan()
        config = self._config
        rows = [] if fresh else self._mailing.rows(since_s=self._now_s - TOLD_DAYS * DAY_S)
        digest, labs = due_digest(self._utc_day, config.mail), due_labs(self._utc_day, config)
        digest = digest if digest and (begun_s is None or digest.to_s > begun_s) else None
        labs = labs if labs and (begun_s is None or labs.to_s > begun_s) else None
        units = self._mailing.units(from_s, to_s)

        def finding_of(unit: Unit) -> str | None:
            try:
                return self._finding(unit, from_s, to_s)
            except ODD as error:
                self.problems.append(f"{unit.kind} {unit.id}: no findings: {in_words(error)}")
                return None

        known = Known(
            day=self.day,
            told=units_told(rows),
            keys={row.subject for row in rows},
            opted_out=self.opted_out,
            had=self._had(rows),
            address_of=book.address_of,
            finding_of=finding_of,
            digest_users=self._digest_users(digest, rows) if digest else (),
            digest=digest,
            labs_span=labs,
            labs_with_jobs=self._mailing.accounts(labs.from_s, labs.to_s) if labs else (),
            labs=config.labs,
        )
        plan = decide(units, known, config.mail)
        if book.trouble is not None:
            self.stopped.append(book.trouble)
        return plan

    def _had(self, rows: Sequence[MailRow]) -> dict[str, int]:
        found: dict[str, int] = {}
        since_s = self.midnight_s()
        for row in rows:
            counts = row.state in _WAITING or (row.made_s >= since_s and row.state != "digest")
            if counts and row.subject.startswith(_UNITS):
                found[row.user] = found.get(row.user, 0) + 1
        return found

    def _digest_users(self, span: Span, rows: Sequence[MailRow]) -> list[str]:
        """Who had jobs that no mail of their own told."""
        own = units_told(row for row in rows if row.state != "digest")
        units = self._mailing.units(span.from_s, span.to_s)
        return sorted({unit.user for unit in units if unit.ran and (unit.kind, unit.id) not in own})

    def _finding(self, unit: Unit, from_s: float, to_s: float) -> str | None:
        limits = self._config.findings
        jobs = self._mailing.jobs(unit, from_s, to_s, LOOKED_AT)
        each = (
            of_array([], jobs, limits)
            if unit.kind == "array"
            else [one for job in jobs for one in of_job(job, limits)]
        )
        used = [one for one in each if one.kind == "use"]
        return None if not used else f"a finding: {advise(used[0], self._config.report.currency).title}"


def send_night(config: Config, clock: Clock, problems: Sequence[str] = ()) -> Night:
    """Send one cluster's mails.

    Args:
        config: of that cluster.
        clock: the time, epoch seconds.
        problems: what the accounting ran into, for the admins.

    Raises:
        ConfigError: a setting is wrong.
        StoreError: the results cannot be read or written.
    """
    check_sender(config.mail)
    now_s = clock()
    with closing(Mailing(config.results, config.cluster)) as mailing:
        dead = mailing.bury(now_s)
        begun_s = mailing.begin(now_s)
        site = _Site(config, mailing, now_s)
        plan = Plan()
        done = Delivered()
        left = 0
        if not site.quiet and not site.stopped:
            plan = site.plan(max(begun_s, now_s - KEEP_DAYS * DAY_S), now_s + 1, begun_s=begun_s)
            mailing.plan(_rows(plan, now_s))
            _drop_unwanted(mailing, site, clock())
            queue, left = _queue(mailing, site, config, now_s)
            with closing(SiteContents(config)) as contents:
                done = deliver(queue, mailing, config.cluster, config.mail, contents, clock)
        stopped = [*site.stopped, *([done.trouble] if done.trouble else [])]
        told = _tell_admins(config, mailing, site, Plan(skipped=plan.skipped), problems, stopped, clock)
        done.problems += (
            site.problems + told.problems + ([told.trouble] if told.trouble and told.trouble != done.trouble else [])
        )
        waiting = len(mailing.rows(_WAITING))
    first = "" if begun_s < now_s else "the first night: jobs that end from now on are mailed"
    full = f"mail.per_night is reached: {left} go another night" if left else ""
    return Night(plan, done, waiting, tuple(stopped), tuple(dead), site.quiet or full or first)


def _rows(plan: Plan, now_s: float) -> list[MailRow]:
    return [
        MailRow(one.subject, one.user, one.address, one.state, 0, None, None, one.why, now_s, now_s)
        for one in plan.mails
    ]


def _drop_unwanted(mailing: Mailing, site: _Site, now_s: float) -> None:
    """Mails that wait, of users who want none by now, or of so long ago that nobody remembers the job."""
    for row in mailing.rows(_WAITING):
        if row.user in site.opted_out:
            mailing.put_off(row, "dropped", "opted out", now_s)
        elif row.made_s < now_s - STALE_DAYS * DAY_S:
            mailing.put_off(row, "dropped", f"waited for more than {STALE_DAYS} days", now_s)


def _queue(mailing: Mailing, site: _Site, config: Config, now_s: float) -> tuple[list[MailRow], int]:
    """Those that are due, the oldest first, as many as the night still has room for; and how many more there are."""
    since_s = site.midnight_s()
    gone = [
        row
        for row in mailing.rows(("sending", "sent", "uncertain", "failed"), now_s - TOLD_DAYS * DAY_S)
        if row.changed_s >= since_s and not row.subject.startswith("health/")
    ]
    room = max(config.mail.per_night - len(gone), 0)
    due = [row for row in mailing.rows(_WAITING) if is_due(row, now_s) and not row.subject.startswith("health/")]
    return [site.readdressed(row) for row in due[:room]], len(due[room:])


def _tell_admins(
    config: Config,
    mailing: Mailing,
    site: _Site,
    plan: Plan,
    problems: Sequence[str],
    stopped: Sequence[str],
    clock: Clock,
) -> Delivered:
    """One mail for each admin, if anything is wrong; once a day."""
    now_s = clock()
    health = _health(config, mailing, plan, problems, stopped, now_s)
    if health.fine or not config.mail.admins:
        return Delivered()
    for row in mailing.rows(_WAITING):
        if row.subject.startswith("health/") and parse(row.subject).span.first < site.day:
            mailing.put_off(row, "dropped", "a later one tells it", now_s)
    keys = {health_key(address, site.day): address for address in dict.fromkeys(config.mail.admins)}
    body = health_mail(health, config.cluster, now_s)
    mailing.plan(
        MailRow(key, "", address, "planned", 0, None, None, "something is wrong", now_s, now_s)
        for key, address in keys.items()
    )
    rows = [row for row in mailing.rows(_WAITING) if row.subject in keys]
    with closing(SiteContents(config, dict.fromkeys(keys, body))) as contents:
        return deliver(rows, mailing, config.cluster, config.mail, contents, clock)


def _health(
    config: Config, mailing: Mailing, plan: Plan, problems: Sequence[str], stopped: Sequence[str], now_s: float
) -> Health:
    told = [row.changed_s for row in mailing.rows(["sent"]) if row.subject.startswith("health/")]
    since_s = max(told, default=0.0)
    days: list[int] = []
    if config.store.server is not None:
        with opened(config) as results:
            days = results.published(config.cluster).days()
    wrong = [row for row in mailing.rows(("uncertain", "failed")) if row.changed_s > since_s]
    return Health(
        night=tuple(problems),
        stopped=tuple(stopped),
        nodes=tuple(silent_nodes(config, now_s)),
        store=(*store_troubles(config, now_s), *late_days(days, now_s)),
        mails=tuple(wrong),
        nowhere=tuple(one for one in plan.skipped if one.why != "opted out"),
    )


def show(
    config: Config,
    clock: Clock,
    *,
    folder: Path | None = None,
    to: str | None = None,
    night: date | None = None,
    problems: Sequence[str] = (),
) -> Shown:
    """Put a night's mails into a folder, or send all of them to one address. Nothing is written down.

    Args:
        config: of one cluster.
        clock: the time, epoch seconds.
        folder: where each becomes a file; None: nowhere.
        to: who gets all of them; None: nobody.
        night: of jobs that ended on this day (UTC), as if none had been mailed; None: what would go now.
        problems: what the accounting ran into.

    Raises:
        ConfigError: a setting is wrong.
        MailError: the mail server cannot be reached.
        StoreError: the results cannot be read, or the folder not be written.
    """
    sender = check_sender(config.mail)
    now_s = clock()
    with closing(Mailing(config.results, config.cluster)) as mailing, closing(SiteContents(config)) as contents:
        if night is None:
            site = _Site(config, mailing, now_s)
            begun_s = mailing.begun()
            from_s = now_s - DAY_S if begun_s is None else max(begun_s, now_s - KEEP_DAYS * DAY_S)
            plan = site.plan(from_s, now_s + 1, begun_s=begun_s)
            health = _health(config, mailing, plan, problems, site.stopped, now_s)
        else:
            from_s = datetime(night.year, night.month, night.day, tzinfo=UTC).timestamp()
            after = night + timedelta(days=1)
            # Shortly after midnight, where the site is: the digests and reports that are due on the day after it.
            site = _Site(config, mailing, datetime(after.year, after.month, after.day, 12, tzinfo=UTC).timestamp())
            plan = site.plan(from_s, from_s + DAY_S, begun_s=None, fresh=True)
            health = Health()
        rows = [row for row in _rows(plan, now_s) if row.state == "planned"]
        wrong = site.problems
        letters = _letters(rows, contents, config, sender, wrong)
        if not health.fine:
            body = health_mail(health, config.cluster, now_s)
            for address in config.mail.admins:
                key = health_key(address, site.day)
                letters.append(
                    (key, Letter(address, message_id(config.cluster, key, sender), body, unsubscribe=False))
                )
        files: list[Path] = []
        if folder is not None:
            made = ((key, message_bytes(letter, config.mail, now_s)) for key, letter in letters)
            files = write_previews(folder, config.cluster, made)
        sent = _send_all(config, sender, letters, to, clock, wrong) if to is not None else 0
    return Shown(plan, tuple(files), sent, tuple(site.stopped), tuple(wrong), site.quiet)


def _letters(
    rows: Sequence[MailRow], contents: Contents, config: Config, sender: str, wrong: list[str]
) -> list[tuple[str, Letter]]:
    found = []
    for row in rows:
        try:
            body = contents.body(row)
        except ODD as error:
            wrong.append(f"{row.subject}: could not be written: {in_words(error)}")
            continue
        found.append((row.subject, Letter(row.address or "", message_id(config.cluster, row.subject, sender), body)))
    return found


def _send_all(
    config: Config, sender: str, letters: Sequence[tuple[str, Letter]], to: str, clock: Clock, wrong: list[str]
) -> int:
    """All to one address, as messages of their own: the true ones are not to be taken for their copies."""
    sent = 0
    with closing(Server(config.mail.smtp)) as server:
        for key, letter in letters[: config.mail.per_night]:
            copy = msgspec.structs.replace(letter, to=to, message_id=make_msgid(domain=sender.partition("@")[2]))
            outcome = server.send(sender, to, message_bytes(copy, config.mail, clock()), lambda: True)
            sent += outcome.kind == "sent"
            if outcome.kind != "sent":
                wrong.append(f"{key}: {outcome.kind}: {outcome.said}")
            if not outcome.go_on:
                raise MailError(outcome.said)
    return sent


def resend(config: Config, key: str, clock: Clock) -> Delivered | None:
    """Send a mail that is uncertain or has failed once more, now.

    Returns:
        What became of it; None: there is no such mail that could be.

    Raises:
        ConfigError: a setting or a list is wrong, or its user has opted out.
        StoreError: the results cannot be read or written.
    """
    check_sender(config.mail)
    try:
        mailing = Mailing(config.results, config.cluster)
    except StoreError:
        return None
    with closing(mailing):
        now_s = clock()
        mailing.bury(now_s)
        site = _Site(config, mailing, now_s)
        row = mailing.row(key)
        if site.stopped:
            raise ConfigError(site.stopped[0])
        if row is not None and row.user in site.opted_out:
            raise ConfigError(f"{key}: {row.user!r:.60} has opted out")
        if row is None or not mailing.again(key, now_s):
            return None
        row = mailing.row(key)
        row = row if row is None or not row.user else site.readdressed(row)
        with closing(SiteContents(config)) as contents:
            return deliver([row] if row else [], mailing, config.cluster, config.mail, contents, clock)
