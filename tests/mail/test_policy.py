"""Who gets a mail, of what, and why."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest

from jobimpact.core.config import Config, Lab, Mail
from jobimpact.mail.policy import Address, Known, Plan, decide, due_digest, due_labs, sends_on
from jobimpact.mail.subject import Span, digest_key, lab_key, parse, unit_key
from jobimpact.results.mailing import Unit

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
KWH = 3.6e6


def unit(name: str = "1", kwh: float | None = 2.0, **more: Any) -> Unit:
    """A job of alice's that completed."""
    fields: dict[str, Any] = {
        "kind": "job",
        "id": name,
        "user": "alice",
        "jobs": 1,
        "ran": 1,
        "failed": 0,
        "energy_j": None if kwh is None else kwh * KWH,
        "failed_j": None,
        "end_s": 1.0,
        "last_state": "COMPLETED",
    }
    return Unit(**fields | more)


def lost(name: str = "1", kwh: float = 0.2) -> Unit:
    """One that failed."""
    return unit(name, kwh, failed=1, failed_j=kwh * KWH, last_state="FAILED")


def known(**more: Any) -> Known:
    """Nothing was ever mailed, everybody has an address, nothing is found."""
    fields: dict[str, Any] = {
        "day": DAY,
        "told": set(),
        "keys": set(),
        "opted_out": set(),
        "had": {},
        "address_of": lambda user: Address(f"{user}@site.example"),
        "finding_of": lambda _unit: None,
    }
    return Known(**fields | more)


def planned(plan: Plan) -> dict[str, str]:
    """State by key."""
    return {one.subject: one.state for one in plan.mails}


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (unit(kwh=1.0), "used 1.00 kWh, more than 1 kWh"),
        (unit(kwh=0.99), None),
        (unit(kwh=None), None),
        (unit(ran=0, kwh=5.0), None),
        (lost(kwh=0.1), "0.100 kWh went into runs that did not complete"),
        (lost(kwh=0.09), None),
        (unit(kwh=0.5, failed=1, failed_j=0.05 * KWH), None),
        (unit(kwh=5.0, last_state="REQUEUED"), None),
        *((unit(kwh=5.0, last_state=one, end_s=NOON - 2 * 86400), None) for one in ("PREEMPTED", "NODE_FAIL")),
        (unit(kwh=5.0, last_state="PREEMPTED", end_s=NOON - 3 * 86400), "used 5.00 kWh, more than 1 kWh"),
        (unit(kwh=5.0, last_state="TIMEOUT", end_s=NOON), "used 5.00 kWh, more than 1 kWh"),
        (unit("6", 5.0, kind="array", jobs=100_000, ran=100_000), "used 5.00 kWh, more than 1 kWh"),
        (unit("10", 5.0, kind="het", jobs=2, ran=2), "used 5.00 kWh, more than 1 kWh"),
    ],
)
def test_thresholds(one: Unit, why: str | None) -> None:
    """From its energy on, or from that of its failed runs; what is not measured, not run or goes on gets none."""
    plan = decide([one], known(), Mail())
    assert [found.why for found in plan.mails] == ([] if why is None else [why])
    assert plan.skipped == ()


def test_a_finding_is_asked_for_only_where_it_decides() -> None:
    """Between the two thresholds; below and above nobody looks."""
    asked = []

    def finding_of(one: Unit) -> str | None:
        asked.append(one.id)
        return "a finding: 2 of 4 GPUs were never used" if one.id == "yes" else None

    units = [unit("small", 0.05), unit("yes", 0.5), unit("no", 0.5), unit("large", 5.0)]
    plan = decide(units, known(finding_of=finding_of), Mail())
    assert sorted(asked) == ["no", "yes"]
    assert {found.subject: found.why for found in plan.mails} == {
        "job/2026-11-20/yes": "a finding: 2 of 4 GPUs were never used",
        "job/2026-11-20/large": "used 5.00 kWh, more than 1 kWh",
    }


def test_what_was_told_is_not_told_again() -> None:
    """Whatever the day, and whatever a revision made of it: the unit counts, not the key."""
    plan = decide([unit("1"), unit("2")], known(told={("job", "1")}), Mail())
    assert planned(plan) == {"job/2026-11-20/2": "planned"}


def test_a_user_gets_the_weightiest_and_the_rest_in_the_digest() -> None:
    """The cap is over the day: mails that went already count, others' do not."""
    units = [unit(str(number), float(number)) for number in range(1, 8)] + [unit("9", 1.5, user="bob")]
    plan = decide(units, known(had={"alice": 1}), Mail(per_user=3))
    states = planned(plan)
    assert [key for key, state in states.items() if state == "planned"] == [
        *(f"job/2026-11-20/{number}" for number in (7, 6)),
        "job/2026-11-20/9",
    ]
    assert [key for key, state in states.items() if state == "digest"] == [
        f"job/2026-11-20/{number}" for number in (5, 4, 3, 2, 1)
    ]


@pytest.mark.parametrize(("digest", "said"), [("off", "told in no mail"), ("weekly", "told in the digest")])
def test_the_cap_says_where_the_rest_is_told(digest: Any, said: str) -> None:
    """Without a digest, nowhere: that is not promised."""
    plan = decide([unit()], known(), Mail(per_user=0, digest=digest))
    assert plan.mails[0].why.endswith(said)


def test_who_opted_out_or_has_no_address_is_listed_and_leaves_no_trace() -> None:
    """No row is planned for them, so that an address that comes later is in time; LDAP is not asked for the former."""
    asked = []

    def address_of(user: str) -> Address:
        asked.append(user)
        return Address(None, "no address is known")

    units = [unit("1"), unit("2", user="bob")]
    plan = decide(units, known(opted_out={"alice"}, address_of=address_of), Mail())
    assert plan.mails == ()
    assert {one.user: one.why for one in plan.skipped} == {"alice": "opted out", "bob": "no address is known"}
    assert asked == ["bob"]


def test_reports_are_planned_once_for_each() -> None:
    """A digest for each user, a lab's report for each head, if the lab had jobs; what is written down stays."""
    week = Span(date(2026, 11, 9), date(2026, 11, 16))
    labs = {"nlp": Lab(heads=("carol", "dave", "carol")), "bio": Lab(heads=("eve",)), "none": Lab()}
    more = {
        "digest": week,
        "digest_users": ["alice", "bob"],
        "keys": {digest_key("bob", week)},
        "labs": labs,
        "labs_span": week,
        "labs_with_jobs": {"nlp", "none"},
    }
    assert set(planned(decide([], known(**more), Mail()))) == {
        "digest/2026-11-09/2026-11-16/alice",
        "lab/2026-11-09/2026-11-16/carol/nlp",
        "lab/2026-11-09/2026-11-16/dave/nlp",
    }


@pytest.mark.parametrize(
    ("day", "settings", "first", "last"),
    [
        (date(2026, 11, 16), {}, date(2026, 11, 9), date(2026, 11, 16)),  # a Monday
        (date(2026, 11, 20), {}, date(2026, 11, 9), date(2026, 11, 16)),  # the Friday after it: it was missed
        (date(2026, 11, 20), {"digest_day": "friday"}, date(2026, 11, 13), date(2026, 11, 20)),
        (date(2026, 11, 19), {"digest_day": "friday"}, date(2026, 11, 6), date(2026, 11, 13)),
        (date(2026, 11, 20), {"digest": "monthly"}, date(2026, 10, 1), date(2026, 11, 1)),
        (date(2027, 1, 1), {"digest": "monthly"}, date(2026, 12, 1), date(2027, 1, 1)),
    ],
)
def test_spans_of_digests(day: date, settings: dict[str, Any], first: date, last: date) -> None:
    """The last week or month that is over, on its day or on any after it."""
    assert due_digest(day, Mail(**settings)) == Span(first, last)


def test_nothing_is_due_that_is_switched_off() -> None:
    """No digest, and no lab's report without a head."""
    assert due_digest(DAY, Mail(digest="off")) is None
    assert due_labs(DAY, Config(labs={"nlp": Lab()})) is None
    headed = Config(labs={"nlp": Lab(heads=("carol",))})
    assert due_labs(DAY, headed) == Span(date(2026, 10, 1), date(2026, 11, 1))
    assert due_labs(DAY, msgspec.structs.replace(headed, mail=Mail(labs="off"))) is None


def test_days_of_mail() -> None:
    """Workdays, but holidays."""
    assert sends_on(date(2026, 11, 20), Mail(), set())
    assert not sends_on(date(2026, 11, 21), Mail(), set())
    assert sends_on(date(2026, 11, 21), Mail(days=("saturday",)), set())
    assert not sends_on(date(2026, 12, 25), Mail(), {date(2026, 12, 25)})


@pytest.mark.parametrize("name", ["1", "6_3", "a/b", "a/2026-01-01/b", "\n", " ", "x" * 10_000])
def test_keys_come_apart_as_they_were_put_together(name: str) -> None:
    """Whatever ids and users hold."""
    week = Span(date(2026, 11, 9), date(2026, 11, 16))
    found = parse(unit_key(unit(name), DAY))
    assert (found.topic, found.name, found.span) == ("job", name, Span(DAY, DAY))
    assert (parse(digest_key(name, week)).name, parse(digest_key(name, week)).span) == (name, week)
    lab = parse(lab_key(name, "carol", week))
    assert (lab.topic, lab.name, lab.head, lab.span) == ("lab", name, "carol", week)


@pytest.mark.parametrize("key", ["", "job", "job/1", "job/2026-11-20/", "digest/x/y/z", "lab/2026-11-09", "x/y/z"])
def test_what_is_no_key_is_an_error(key: str) -> None:
    """And never another one."""
    with pytest.raises(ValueError):  # noqa: PT011 (the standard library's words for some)
        parse(key)
