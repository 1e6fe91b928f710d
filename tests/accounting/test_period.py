"""A time of a user, a lab or the cluster: what is summed, whose it is, and what it is held against."""

from __future__ import annotations

import os
import re
import sqlite3
from math import fsum
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import pytest
from tests.accounting.period_world import DAY, MONTH, Jobs, many, within
from tests.service.running import running

from jobimpact.answers.local import LocalAnswers
from jobimpact.answers.period import MEDIAN_USERS, MOST_BEFORE, MOST_MODELS, period
from jobimpact.answers.query import Period, PeriodQuery, Sums, Who
from jobimpact.answers.remote import RemoteAnswers
from jobimpact.core.errors import StoreError, UnknownError
from jobimpact.report.mail_body import Foot
from jobimpact.report.period import period_view, trend_of
from jobimpact.report.period_mail import period_mail
from jobimpact.report.period_page import period_page
from jobimpact.report.period_text import period_text
from jobimpact.results.figures import expressions
from jobimpact.results.outcome import FAILED
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult

ROOT = Who(0, "root", admin=True)
ALICE = Who(1000, "alice")
NOVEMBER = (MONTH, MONTH + 30 * DAY)
FIELD = {"user": "user", "lab": "account", "cluster": "cluster"}


def asked(jobs: Jobs, query: PeriodQuery, who: Who = ROOT) -> Period:
    reader = Reader(jobs.world.config.results)
    try:
        return period(reader, query, who, jobs.world.config)
    finally:
        reader.close()


def of(name: str = "alice", what: Any = "user", span: tuple[float, float] = NOVEMBER, **more: Any) -> PeriodQuery:
    return PeriodQuery(of=what, name=name, from_s=span[0], to_s=span[1], **more)


def check(sums: Sums, rows: list[JobResult], *, light: bool = False) -> None:
    """Sums beside the rows themselves, taken apart in another way."""
    ran = [row for row in rows if row.start_s is not None or row.energy_j != 0]
    bad = [row for row in ran if row.state in FAILED]
    known = [row.energy_j for row in ran if row.energy_j is not None]
    lost = [row.energy_j for row in bad if row.energy_j is not None]
    assert (sums.jobs, sums.ran, sums.failed, sums.measured) == (len(rows), len(ran), len(bad), len(known))
    assert sums.energy_j == (pytest.approx(fsum(known)) if known or not ran else None)
    assert sums.failed_energy_j == (pytest.approx(fsum(lost)) if lost or not bad else None)
    held = [100.0 if row.elapsed_s is None and row.start_s is not None else row.elapsed_s or 0.0 for row in ran]
    assert sums.node_hours == pytest.approx(fsum(held) / 3600)
    gpus = [(row.gpus or 0) * seconds for row, seconds in zip(ran, held, strict=True)]
    assert sums.gpu_hours == pytest.approx(fsum(gpus) / 3600)
    if fsum(held):
        measured = fsum(seconds * row.coverage for row, seconds in zip(ran, held, strict=True))
        assert sums.coverage == pytest.approx(measured / fsum(held))
    assert sum(one.jobs for one in sums.endings) == len(rows)
    assert fsum(one.energy_j or 0.0 for one in sums.endings) == pytest.approx(fsum(known))
    if light:
        assert sums.impacts == {}
        return
    for name, impact in sums.impacts.items():
        for part in ("use", "embodied", "total"):
            each = [row.impacts[name][part] for row in ran if row.impacts[name][part]]
            added = tuple(fsum(one[end] for one in each) for end in ("low", "central", "high"))
            assert getattr(impact, part) == (pytest.approx(added) if each else None)
        assert impact.known == sum(row.impacts[name]["total"] is not None for row in ran)


def check_kinds(found: Period, rows: list[JobResult]) -> None:
    """Joules of each kind of part, of how many jobs they are not known, and the methods; none is not to be known."""
    ran = [row for row in rows if row.start_s is not None or row.energy_j != 0]
    for kind in ("cpu", "dram", "gpu", "rest"):
        had = [one for row in ran if (one := row.energy["domains"][kind])["method"] != "none held"]
        known = [one for one in had if one["energy_j"] is not None]
        assert (kind in found.kinds) == bool(had)
        assert found.kinds.get(kind) == (pytest.approx(fsum(one["energy_j"] for one in known)) if known else None)
        assert found.lacking.get(kind, 0) == len(had) - len(known)
        methods = {word for one in known for word in (one["method"] or "").split("+") if word}
        assert found.methods.get(kind, ()) == tuple(sorted(methods))
    assert found.factors == ((ran[0].factors["version"],) if ran else ())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("what", "name"), [("user", "alice"), ("lab", "nlp"), ("cluster", "lab")])
def test_sums_and_splits_are_those_of_the_rows(tmp_path: Path, seed: int, what: str, name: str) -> None:
    """The whole, each split, each day and each span before are what the rows come to; the largest are the largest."""
    jobs = Jobs(tmp_path)
    many(jobs, seed)
    jobs.write()
    found = asked(jobs, of(name, what))
    mine = [row for row in jobs.rows if getattr(row, FIELD[what]) == name]
    now = within(mine, *NOVEMBER)
    check(found.sums, now)
    for split, field in (("user", "user"), ("lab", "account"), ("partition", "partition")):
        for place in found.by.get(split, ()):
            check(place.sums, [row for row in now if (getattr(row, field) or "") == place.name])
    models = {place.name: place.sums for place in found.by["model"]}
    for model, sums in models.items():
        check(sums, [row for row in now if row.labels.get("model", "") == model])
    assert [place.name for place in found.by["day"]] == sorted(place.name for place in found.by["day"])
    for place in found.by["day"]:
        day = [row for row in now if int(row.end_s or 0) // DAY == (_day(place.name) // DAY)]
        check(place.sums, day, light=True)
    assert len(found.before) == 3
    for number, sums in enumerate(found.before, 1):
        check(sums, within(mine, MONTH - number * 30 * DAY, MONTH - (number - 1) * 30 * DAY), light=True)
    most = sorted(now, key=lambda row: -(row.energy_j or 0.0))[:5]
    assert [row.key for row in found.most] == [row.key for row in most]
    worst = [row for row in now if row.state in FAILED and row.energy_j]
    worst.sort(key=lambda row: -(row.energy_j or 0.0))
    assert [row.key for row in found.worst] == [row.key for row in worst[:5]]
    check_kinds(found, now)


def _day(name: str) -> float:
    from datetime import UTC, datetime

    return datetime.fromisoformat(name).replace(tzinfo=UTC).timestamp()


MAY = [
    ("user", "alice", ALICE, True),
    ("user", "1000", ALICE, True),
    ("user", "bob", ALICE, False),
    ("user", "nobody", ALICE, False),
    ("lab", "nlp", ALICE, False),
    ("lab", "nlp", Who(1000, "alice", labs=("nlp",)), True),
    ("lab", "vision", Who(1000, "alice", labs=("nlp",)), False),
    ("user", "bob", Who(1000, "alice", labs=("nlp",)), False),
    ("cluster", "lab", Who(1000, "alice", labs=("nlp",)), False),
    ("cluster", "lab", ROOT, True),
    ("lab", "nlp", ROOT, True),
    ("user", "nobody", ROOT, False),
    ("lab", "nothing", ROOT, False),
    ("cluster", "other", ROOT, False),
]


@pytest.mark.parametrize(("what", "name", "who", "may"), MAY)
def test_who_sees_what(tmp_path: Path, what: str, name: str, who: Who, may: bool) -> None:
    """Users see themselves, heads their lab, admins all; what is not theirs reads as what is not there."""
    jobs = Jobs(tmp_path)
    jobs.add("alice")
    jobs.add("bob")
    jobs.write()
    if may:
        assert asked(jobs, of(name, what), who).query.name == name
    else:
        with pytest.raises(StoreError, match=f"^{what} {name}: unknown, or not yours$"):
            asked(jobs, of(name, what), who)


def test_one_cluster_of_several(tmp_path: Path) -> None:
    """`-M` leaves the jobs of other clusters out."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 10.0)
    jobs.add("alice", 5.0, cluster="other")
    jobs.write()
    assert asked(jobs, of()).sums.energy_j == 15.0
    assert asked(jobs, of(cluster="other")).sums.energy_j == 5.0


def test_a_job_at_an_edge_is_in_one_time(tmp_path: Path) -> None:
    """A time has its first moment, and not its last: of two that follow each other, each job is in one."""
    jobs = Jobs(tmp_path)
    for number, at_s in enumerate((MONTH - 0.5, MONTH, MONTH + 30 * DAY - 0.5, MONTH + 30 * DAY)):
        jobs.add("alice", 10.0**number, at_s)
    jobs.write()
    assert asked(jobs, of()).sums.energy_j == 110.0
    assert asked(jobs, of(span=(MONTH - 30 * DAY, MONTH))).sums.energy_j == 1.0
    assert [one.energy_j for one in asked(jobs, of(span=(MONTH + 30 * DAY, MONTH + 60 * DAY))).before] == [110, 1, 0]


def test_of_very_many_models_the_largest_are_told(tmp_path: Path) -> None:
    """Who says something new in each job makes no report endless; nothing is lost, and what says nothing stays."""
    jobs = Jobs(tmp_path)
    for number in range(MOST_MODELS + 20):
        jobs.add("alice", 1000.0 + number, labels={"model": f"run-{number:04}"})
    jobs.add("bob", 1.0)
    jobs.write()
    found = asked(jobs, of("nlp", "lab"))
    models = found.by["model"]
    told = [f"run-{number:04}" for number in range(MOST_MODELS + 19, 19, -1)]
    assert [one.name for one in models] == [*told, "", "(20 others)"]
    check(models[-1].sums, jobs.rows[:20])
    assert fsum(one.sums.energy_j or 0.0 for one in models) == pytest.approx(found.sums.energy_j)
    assert len(found.by["user"]) == 2


def test_what_is_not_measured_is_not_zero(tmp_path: Path) -> None:
    """Of days and sums of which nothing is known there is no number; a day without jobs has none to know."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", None, MONTH + 10)
    jobs.add("alice", None, MONTH + 2 * DAY)
    jobs.write()
    found = asked(jobs, of())
    assert found.sums.energy_j is None
    assert found.kinds["cpu"] is None
    view = period_view(found)
    assert view.lead == ("Not measured: of no job's energy is anything known.",)
    assert view.total == ""
    assert view.total_kwh == ""
    assert [(one.joules, one.jobs) for one in view.days[:3]] == [(None, 1), (0, 0), (None, 1)]
    jobs.add("alice", 7000.0, MONTH + 11)
    jobs.write()
    view = period_view(asked(jobs, of()))
    assert view.total == "7.00 kJ"
    assert any(line.startswith("Of 2 of 3 jobs nothing was measured") for line in view.lead)


@pytest.mark.parametrize(
    ("covered", "spans"),
    [
        ([(MONTH - 91 * DAY, MONTH + 31 * DAY)], 3),
        ([(MONTH - 45 * DAY, MONTH + 31 * DAY)], 1),
        ([(MONTH - 100 * DAY, MONTH - 40 * DAY), (MONTH - 30 * DAY, MONTH + 31 * DAY)], 1),
        ([(MONTH + DAY, MONTH + 31 * DAY)], 0),
        ([(MONTH - 5 * DAY, MONTH + 31 * DAY)], 0),
    ],
)
def test_only_times_that_are_wholly_accounted_are_compared(
    tmp_path: Path, covered: list[tuple[float, float]], spans: int
) -> None:
    """The spans before end where a night is lacking; without one, no trend is told."""
    jobs = Jobs(tmp_path)
    for month in range(4):
        jobs.add("alice", 1000.0 * (month + 1), MONTH - month * 30 * DAY + 3600)
    jobs.write(*covered)
    found = asked(jobs, of())
    assert [one.energy_j for one in found.before] == [2000.0, 3000.0, 4000.0][:spans]
    trend = trend_of(found)
    assert (trend.ratio if trend else None) == (0.5 if spans else None)


def test_a_time_that_is_not_over_is_held_against_one_as_long(tmp_path: Path) -> None:
    """Ten days of a month are compared with the ten days before it."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 100.0, MONTH + DAY)
    jobs.add("alice", 400.0, MONTH - DAY)
    jobs.add("alice", 5000.0, MONTH - 11 * DAY)
    jobs.write((MONTH - 30 * DAY, MONTH + 10 * DAY - 1))
    found = asked(jobs, of())
    assert found.accounted_to_s == MONTH + 10 * DAY
    assert [one.energy_j for one in found.before] == [400.0, 5000.0, 0.0]
    view = period_view(found)
    assert view.time == "November 2026, so far"
    assert view.trend[0] == "Down 75 % against the 10 days before (400 J)."
    assert len(view.days) == 10


def test_sums_of_other_coverage_are_not_compared(tmp_path: Path) -> None:
    """Half as much of what was measured is no change of what was used: no percentage is told."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 100.0)
    jobs.add("alice", 50.0, MONTH - DAY, coverage=0.5)
    jobs.write()
    trend = trend_of(asked(jobs, of()))
    assert trend is not None
    assert trend.ratio is None
    assert trend.why_not == "50 % of it was measured then, 100 % now"


@pytest.mark.parametrize(("coverage", "of_what"), [(1.0, "all"), (0.5, "what is known")])
def test_what_failed_is_a_part_of_what_is_known(tmp_path: Path, coverage: float, of_what: str) -> None:
    """Of all only where all is."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 100.0, state="FAILED", coverage=coverage)
    jobs.add("alice", 300.0, coverage=coverage)
    jobs.write()
    lead = period_view(asked(jobs, of())).lead
    assert lead[0] == f"100 J (0.0000278 kWh) spent on 1 job that did not complete: 25 % of {of_what}."


def test_bars_are_as_long_as_their_energy_and_what_failed_in_them(tmp_path: Path) -> None:
    """A quarter of the most failed: a quarter of its bar is crosses; half the energy is half as long."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 300.0)
    jobs.add("alice", 100.0, state="FAILED")
    jobs.add("alice", 200.0, MONTH + DAY + 3600)
    jobs.write()
    bars = re.findall(r"^    2026-11-0[12]  ([#x]+) ", period_text(period_view(asked(jobs, of()))), flags=re.MULTILINE)
    assert bars == ["#" * 30 + "x" * 10, "#" * 20]


@pytest.mark.parametrize(("then", "ratio"), [(0.96, 2.0), (0.93, None)])
def test_what_was_measured_may_part_by_little(tmp_path: Path, then: float, ratio: float | None) -> None:
    """By a twentieth, and no more."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 100.0)
    jobs.add("alice", 50.0, MONTH - DAY, coverage=then)
    jobs.write()
    trend = trend_of(asked(jobs, of()))
    assert trend is not None
    assert trend.ratio == ratio


def test_times_of_which_little_was_measured_are_not_compared(tmp_path: Path) -> None:
    """Two fifths of both, and perhaps others of each: neither a percentage nor a thing of everyday life."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 1e9, coverage=0.4)
    jobs.add("alice", 5e8, MONTH - DAY, coverage=0.4)
    jobs.write()
    found = asked(jobs, of())
    trend, view = trend_of(found), period_view(found)
    assert trend is not None
    assert (trend.ratio, trend.why_not) == (None, "40 % of it was measured then, 40 % now")
    assert view.impacts
    assert view.equivalents == ()
    assert period_mail(view, Foot("")).subject == "alice, November 2026: 278 kWh (40 % measured)"
    assert "1.00 GJ, 40 % measured" in period_page(view)


def test_a_time_of_nothing_is_known_and_no_base(tmp_path: Path) -> None:
    """Zero joules were measured then: that is known, and no number of times it."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 100.0)
    jobs.add("alice", 0.0, MONTH - DAY)
    jobs.write()
    trend = trend_of(asked(jobs, of()))
    assert trend is not None
    assert (trend.then_j, trend.ratio, trend.why_not) == (0.0, None, "nothing was used then")


def test_energy_of_failed_jobs_that_is_not_known_is_no_part_of_0_percent(tmp_path: Path) -> None:
    """One failed then, and was not measured: whether less failed is not known."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 100.0, state="FAILED", elapsed_s=1000.0)
    jobs.add("alice", 1000.0, elapsed_s=1000.0)
    jobs.add("alice", 1000.0, MONTH - DAY, elapsed_s=1000.0)
    jobs.add("alice", None, MONTH - DAY, state="FAILED", elapsed_s=1.0)
    jobs.write()
    view = period_view(asked(jobs, of()))
    assert view.trend == ("Up 10 % against the 30 days before (1.00 kJ).",)


def test_sums_that_lack_something_are_marked_wherever_they_stand(tmp_path: Path) -> None:
    """By day, by user: what is whole is not."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 100.0)
    jobs.add("alice", None)
    jobs.add("ben", 50.0, MONTH + 2 * DAY)
    jobs.add("cleo", 20.0, MONTH + 3 * DAY, coverage=0.5)
    jobs.add("dora", None, MONTH + 4 * DAY)
    jobs.write()
    view = period_view(asked(jobs, of("nlp", "lab")))
    (users,) = (split for split in view.splits if split.of == "user")
    assert {row.name: row.energy for row in users.rows} == {
        "alice": "100 J*",
        "ben": "50.0 J",
        "cleo": "20.0 J*",
        "dora": "-",
    }
    assert [row.gwp.endswith("*") for row in users.rows if row.gwp != "-"].count(False) == 1
    assert [day.amount for day in view.days if day.jobs] == ["100 J*", "50.0 J", "20.0 J*", "-"]
    text = period_text(view)
    assert text.count("* not all of it is known") == 2
    assert period_page(view).count("* not all of it is known") == 2
    for body in (period_mail(view, Foot("")).text, period_mail(view, Foot("")).html):
        assert "* not all of it is known" in body


def test_which_jobs_were_looked_at_is_said_as_it_is(tmp_path: Path) -> None:
    """Those that failed are not among the ones with the most energy."""
    jobs = Jobs(tmp_path)
    use = {"cpu_ns": 10**9, "mem_peak_bytes": 2**30}
    for number in range(8):
        jobs.add("alice", 1000.0 + number, elapsed_s=9000.0, cpus=64)
    jobs.add("alice", 1.0, state="FAILED")
    for number, row in enumerate(jobs.rows):
        nodes = {name: node | {"use": use} for name, node in row.energy["nodes"].items()}
        jobs.rows[number] = msgspec.structs.replace(row, energy=row.energy | {"nodes": nodes})
    jobs.write()
    view = period_view(asked(jobs, of()))
    assert view.advice_of == (
        "Looked at: 6 jobs of 9, with the most energy, of all and of those that did not complete; 5 of them could use"
        " less."
    )


@pytest.mark.parametrize("users", [MEDIAN_USERS - 1, MEDIAN_USERS, MEDIAN_USERS + 1])
def test_the_median_of_a_lab_names_nobody(tmp_path: Path, users: int) -> None:
    """It is told from five users on, number by number, and nothing else of other users is in the answer."""
    jobs = Jobs(tmp_path)
    energies = [100.0 * 3**number for number in range(users)]
    names = ["alice", *(f"secret-{number}" for number in range(1, users))]
    for name, joules in zip(names, energies, strict=True):
        jobs.add(name, joules)
        jobs.add(name, joules, state="FAILED")
    jobs.add("stranger", 1e9, account="vision")
    jobs.add("secret-waiting", 0.0, state="CANCELLED", start_s=None)
    jobs.write()
    found = asked(jobs, of(), ALICE)
    said = msgspec.json.encode(found).decode()
    assert "secret" not in said
    assert "stranger" not in said
    if users < MEDIAN_USERS:
        assert found.median is None
        assert found.median_users == 0
        return
    assert found.median is not None
    assert (found.median_lab, found.median_users) == ("nlp", users)
    assert found.median.energy_j == pytest.approx(2 * median(energies))
    assert found.median.failed_energy_j == pytest.approx(median(energies))
    assert f"the median of the {users} users of nlp" in period_view(found).median


@pytest.mark.parametrize(
    "span", [(MONTH, MONTH + 6 * DAY), (MONTH + 1, MONTH + 10 * DAY), (MONTH, MONTH + 10 * DAY + 1)]
)
def test_no_median_of_a_time_that_could_tell_of_one_job(tmp_path: Path, span: tuple[float, float]) -> None:
    """Times shorter than a week, or not of whole days, have none: their edges could be moved over somebody's job."""
    jobs = Jobs(tmp_path)
    for number in range(9):
        jobs.add(f"user{number}" if number else "alice", 100.0)
    jobs.write()
    assert asked(jobs, of(span=span), ALICE).median is None
    assert asked(jobs, of(span=(MONTH, MONTH + 7 * DAY)), ALICE).median is not None


def test_a_user_without_jobs_and_results_that_are_not_there(tmp_path: Path) -> None:
    """Nothing is an answer of its own: no job, not zero joules measured."""
    jobs = Jobs(tmp_path)
    empty = asked(jobs, of(), ALICE)
    assert empty.sums.jobs == 0
    assert empty.accounted_to_s is None
    assert empty.before == ()
    jobs.add("bob")
    jobs.write()
    view = period_view(asked(jobs, of(), ALICE))
    assert view.facts == ("No job ended in this time.",)
    assert period_view(empty).facts == ("No job of this time is accounted for.",)
    assert view.total == ""
    assert view.impacts == ()
    assert view.method == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the service looks again at who is answered")
@pytest.mark.parametrize(("what", "name"), [("user", "alice"), ("lab", "nlp"), ("cluster", "lab")])
def test_over_the_socket_it_is_the_same(tmp_path: Path, what: str, name: str) -> None:
    """What the service sends is what a process that reads the results finds; what is not theirs is refused."""
    jobs = Jobs(tmp_path)
    many(jobs, 11)
    for user in ("u1", "u2", "u3"):
        jobs.add(user)
    jobs.write()
    config = jobs.world.config
    as_whom = [ROOT]
    with running(tmp_path, answers_for=lambda _: LocalAnswers(config, as_whom[0])) as service:
        remote = RemoteAnswers(service)
        assert remote.period(of(name, what)) == asked(jobs, of(name, what))
        as_whom[0] = Who(4242, "mallory", labs=("vision",))
        with pytest.raises(UnknownError, match="unknown, or not yours"):
            remote.period(of(name, what))


def test_a_question_for_endless_times_before_has_an_end(tmp_path: Path) -> None:
    """Anybody may ask the service: seconds, back to the first night, are not counted one by one."""
    jobs = Jobs(tmp_path)
    jobs.add()
    jobs.write()
    found = asked(jobs, of(span=(MONTH, MONTH + 1), before=10**9), ALICE)
    assert len(found.before) == MOST_BEFORE


def test_results_of_an_earlier_release(tmp_path: Path) -> None:
    """Rows without labels are summed; there is no model to split by."""
    jobs = Jobs(tmp_path)
    jobs.add("alice", 5.0)
    jobs.write()
    with sqlite3.connect(jobs.world.results) as db:
        for column in ("labels", "time_limit_s", *expressions()):
            db.execute(f"ALTER TABLE job_result DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 3")
    found = asked(jobs, of())
    assert found.sums.energy_j == 5.0
    assert "model" not in found.by
    assert found.kinds["cpu"] == jobs.rows[0].energy["domains"]["cpu"]["energy_j"]
    gwp = jobs.rows[0].impacts["gwp_kgco2e"]["total"]
    assert found.sums.impacts["gwp_kgco2e"].total == pytest.approx([gwp[end] for end in ("low", "central", "high")])
    assert [one.energy_j for one in found.most] == [5.0]


@pytest.mark.parametrize(("days", "label", "bars"), [(30, "By day", 30), (360, "By month", 13), (1800, "By year", 6)])
def test_long_times_have_few_bars(tmp_path: Path, days: int, label: str, bars: int) -> None:
    """Days become months, and months years; their sums are those of the jobs."""
    jobs = Jobs(tmp_path)
    begin = MONTH - days * DAY
    for day in range(0, days, 7):
        jobs.add("alice", 10.0, begin + day * DAY + 60, state="FAILED" if day % 2 else "COMPLETED")
    jobs.write((begin, MONTH))
    view = period_view(asked(jobs, of(span=(begin, MONTH))))
    assert view.days_label == label
    assert abs(len(view.days) - bars) <= 1
    assert fsum(one.joules or 0.0 for one in view.days) == pytest.approx(10.0 * len(jobs.rows))
    failed = [row for row in jobs.rows if row.state == "FAILED"]
    assert fsum(one.failed_j for one in view.days) == pytest.approx(10.0 * len(failed))
