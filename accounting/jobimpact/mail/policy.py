"""Who gets a mail, of what, and why; and who gets none, and why not. Pure: rows in, a plan out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import msgspec

from jobimpact.core.config import Config, Lab, Mail
from jobimpact.mail.subject import Span, digest_key, lab_key, unit_key
from jobimpact.report.numbers import kwh
from jobimpact.results.mailing import State, Unit

__all__ = [
    "KEEP_DAYS",
    "Address",
    "Known",
    "Plan",
    "Planned",
    "Skipped",
    "decide",
    "due_digest",
    "due_labs",
    "sends_on",
]

KEEP_DAYS = 14
"""A job that ended longer ago is not mailed any more, however late its record came."""
J_PER_KWH = 3.6e6
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_GOES_ON = frozenset({"REQUEUED"})
"""The next incarnation is told, with this one in it."""
_MAY_GO_ON = frozenset({"PREEMPTED", "NODE_FAIL"})
"""Slurm may put such a job back into the queue, and says of its first run no more than this."""
WAIT_DAYS = 3
"""For so long it may wait there; then it is told as it is."""


class Address(msgspec.Struct, frozen=True):
    """Where a user's mail goes, or why nowhere."""

    at: str | None
    why: str = ""
    """Why there is none."""
    lasting: bool = True
    """False: it could not be asked for now."""


class Planned(msgspec.Struct, frozen=True):
    """A mail that is to be."""

    subject: str
    """Its key."""
    user: str
    address: str | None
    why: str
    """Why they get it: `5.2 kWh`."""
    state: State = "planned"
    """`digest`: it is beyond the cap, and told there."""


class Skipped(msgspec.Struct, frozen=True):
    """A mail that is not to be."""

    subject: str
    user: str
    why: str


class Plan(msgspec.Struct, frozen=True):
    """One night's mails."""

    mails: tuple[Planned, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def going(self) -> list[Planned]:
        """Those that are mails of their own."""
        return [one for one in self.mails if one.state == "planned"]


class Known(msgspec.Struct, frozen=True):
    """What a plan is made from, beside the units themselves."""

    day: date
    """Of the night, local."""
    told: Collection[tuple[str, str]]
    """Units that have a mail already: kind and id."""
    keys: Collection[str]
    """Keys that are written down already."""
    opted_out: Collection[str]
    had: Mapping[str, int]
    """How many mails of units each user has had today, or has waiting."""
    address_of: Callable[[str], Address]
    """Where a user's mail goes."""
    finding_of: Callable[[Unit], str | None]
    """The worst finding of a unit, in a few words; asked only where it decides."""
    digest_users: Sequence[str] = ()
    """Who had jobs in the digest's span that no mail of their own told."""
    digest: Span | None = None
    """The span that is due; None: none is."""
    labs_span: Span | None = None
    labs_with_jobs: Collection[str] = ()
    labs: Mapping[str, Lab] = {}


def decide(units: Iterable[Unit], known: Known, rules: Mail) -> Plan:
    """Make a plan.

    Args:
        units: what ended since mails began, at most KEEP_DAYS ago.
        known: what else is known.
        rules: the configuration's.
    """
    mails: list[Planned] = []
    skipped: list[Skipped] = []
    room: dict[str, int] = {}
    for unit, why in _by_weight(_worthy(units, known, rules)):
        key = unit_key(unit, known.day)
        address = _address(known, unit.user)
        if address.at is None:
            skipped.append(Skipped(key, unit.user, address.why))
            continue
        left = room.setdefault(unit.user, rules.per_user - known.had.get(unit.user, 0))
        room[unit.user] -= 1
        if left > 0:
            mails.append(Planned(key, unit.user, address.at, why))
        else:
            said = f"more than {rules.per_user} mails of one night: {_in_digest(rules)}"
            mails.append(Planned(key, unit.user, address.at, said, "digest"))
    for key, user, why in _reports(known):
        if key in known.keys:
            continue
        address = _address(known, user)
        if address.at is None:
            skipped.append(Skipped(key, user, address.why))
        else:
            mails.append(Planned(key, user, address.at, why))
    return Plan(tuple(mails), tuple(skipped))


def _in_digest(rules: Mail) -> str:
    return "told in the digest" if rules.digest != "off" else "told in no mail"


def _address(known: Known, user: str) -> Address:
    return Address(None, "opted out") if user in known.opted_out else known.address_of(user)


def _worthy(units: Iterable[Unit], known: Known, rules: Mail) -> Iterable[tuple[Unit, str]]:
    for unit in units:
        if (unit.kind, unit.id) in known.told or _goes_on(unit, known.day) or not unit.ran:
            continue
        why = _reason(unit, known, rules)
        if why is not None:
            yield unit, why


def _goes_on(unit: Unit, day: date) -> bool:
    """Whether a mail would tell but the first part of a job's story."""
    if unit.last_state in _MAY_GO_ON:
        return day - datetime.fromtimestamp(unit.end_s, UTC).date() < timedelta(days=WAIT_DAYS)
    return unit.last_state in _GOES_ON


def _reason(unit: Unit, known: Known, rules: Mail) -> str | None:
    """Why a unit gets a mail; None: it does not."""
    if unit.energy_j is None:
        return None
    used = unit.energy_j / J_PER_KWH
    if used >= rules.min_kwh:
        return f"used {kwh(used)}, more than {rules.min_kwh:g} kWh"
    lost = (unit.failed_j or 0.0) / J_PER_KWH
    if unit.failed and lost >= rules.min_failed_kwh:
        return f"{kwh(lost)} went into runs that did not complete"
    if used >= rules.min_failed_kwh:
        return known.finding_of(unit)
    return None


def _by_weight(found: Iterable[tuple[Unit, str]]) -> list[tuple[Unit, str]]:
    """The most energy first: where there is a cap, it is what matters most that is told."""
    return sorted(found, key=lambda one: (-(one[0].energy_j or 0.0), one[0].kind, one[0].id))


def _reports(known: Known) -> Iterable[tuple[str, str, str]]:
    if known.digest is not None:
        for user in known.digest_users:
            yield digest_key(user, known.digest), user, "the digest of their other jobs"
    if known.labs_span is not None:
        for account, lab in known.labs.items():
            if account in known.labs_with_jobs:
                for head in dict.fromkeys(lab.heads):
                    yield lab_key(account, head, known.labs_span), head, "their lab's report"


def sends_on(day: date, rules: Mail, holidays: Collection[date]) -> bool:
    """Whether users get mail on a day."""
    return _WEEKDAYS[day.weekday()] in rules.days and day not in holidays


def due_digest(day: date, rules: Mail) -> Span | None:
    """The last span that a digest is about: it goes on `digest_day`, or on the first day after it that mails do."""
    if rules.digest == "weekly":
        return _week(day, rules.digest_day)
    return _month(day) if rules.digest == "monthly" else None


def due_labs(day: date, config: Config) -> Span | None:
    """The same for labs."""
    rules = config.mail
    if not any(lab.heads for lab in config.labs.values()):
        return None
    if rules.labs == "weekly":
        return _week(day, rules.digest_day)
    return _month(day) if rules.labs == "monthly" else None


def _week(day: date, on: str) -> Span:
    last = day - timedelta(days=(day.weekday() - _WEEKDAYS.index(on)) % 7)
    return Span(last - timedelta(days=7), last)


def _month(day: date) -> Span:
    last = day.replace(day=1)
    return Span((last - timedelta(days=1)).replace(day=1), last)
