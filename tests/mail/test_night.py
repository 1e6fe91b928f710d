"""Whole nights of mail: what ended is accounted for by the real accounting, and real mails arrive, or none."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from tests.accounting.world import T0
from tests.mail.smtp_server import OK, Server
from tests.mail.world import DAYS, Site

from jobimpact.mail.delivery import MOST_ATTEMPTS
from jobimpact.mail.night import Night, send_night, show
from jobimpact.nightly.schedule import night as scheduled_night

DAY_S = 86400.0


@pytest.fixture
def server() -> Iterator[Server]:
    """One that takes all."""
    with Server() as one:
        yield one


def send(world: Site, later_s: float = 0.0, problems: tuple[str, ...] = ()) -> Night:
    """A night's mails, so much later."""
    at_s = world.now_s + later_s
    return send_night(world.config, lambda: at_s, problems)


def add(world: Site, text: str) -> Site:
    """More configuration."""
    with world.config_file.open("a") as file:
        file.write(text)
    return world


def today() -> str:
    """The day's name, where we are."""
    return DAYS[datetime.now().astimezone().weekday()]


# -- once for each job, array and heterogeneous job ------------------------------------------------------------------


def test_one_mail_for_a_job_an_array_and_a_heterogeneous_job(tmp_path: Path, server: Server) -> None:
    """However many tasks, parts and incarnations; each says what it is about."""
    world = Site(tmp_path, server.port)
    world.job("1")
    for task in range(5):
        world.job(f"6_{task}", user="bob", joules=2000.0)
    for part in range(2):
        world.job(f"10+{part}", user="carol", joules=3000.0)
    world.job("7", user="dave", joules=10.0)
    send(world.account().begin())
    assert world.states() == {"job 1": "sent", "array 6": "sent", "het 10": "sent"}
    by_user = {one.to[0].partition("@")[0]: one.message for one in server.mails}
    assert set(by_user) == {"alice", "bob", "carol"}
    assert "5 tasks" in str(by_user["bob"]["Subject"])
    for message in by_user.values():
        plain = next(message.iter_parts())
        assert "You get this because" in plain.get_content()  # type: ignore[attr-defined]


@pytest.mark.parametrize("job", ["1", "6_1"])
def test_a_finding_brings_a_mail_below_the_threshold(tmp_path: Path, server: Server, job: str) -> None:
    """A job, or an array, that asked for far more time than it took; the mail says so, and why it came."""
    world = add(Site(tmp_path, server.port, min_kwh=1), "findings: {min_run_s: 10, min_coverage: 0}\n")
    world.job(job, time_limit_s=100_000)
    world.job("2", time_limit_s=110)
    night = send(world.account().begin())
    assert [one.why.startswith("a finding: ") for one in night.plan.mails] == [True]
    text = next(server.mails[0].message.iter_parts()).get_content()  # type: ignore[attr-defined]
    assert night.plan.mails[0].why.removeprefix("a finding: ").split(":")[0] in " ".join(text.split())


def test_an_array_that_goes_on_is_told_once(tmp_path: Path, server: Server) -> None:
    """Too small at first, mailed when it is large enough, and tasks that end later bring no second mail."""
    world = Site(tmp_path, server.port)
    world.job("6_1", joules=1000.0)
    send(world.account().begin())
    assert world.states() == {}
    world.job("6_2", joules=5000.0)
    send(world.account())
    world.job("6_3", joules=50_000.0)
    send(world.account())
    assert world.states() == {"array 6": "sent"}
    assert len(server.mails) == 1


def test_a_job_that_is_begun_anew_is_told_when_it_is_over(tmp_path: Path, server: Server) -> None:
    """A requeued run alone is not; then all its runs are one mail, and a later one is told no more."""
    world = Site(tmp_path, server.port)
    world.job("1", ago_s=3000, state="REQUEUED")
    send(world.account().begin())
    assert world.states() == {}
    world.say("1", submit=int(world.now_s - 1000), start=world.now_s - 900, end=world.now_s - 600)
    send(world.account())
    assert world.states() == {"job 1": "sent"}
    text = next(server.mails[0].message.iter_parts()).get_content()  # type: ignore[attr-defined]
    told = " ".join(text.split())
    assert told.startswith("job 1 COMPLETED")
    assert "It ran 2 times; this is the last. All its runs together, without 1 of which nothing is known: " in told


def test_jobs_from_before_mail_was_switched_on_are_not_mailed(tmp_path: Path, server: Server) -> None:
    """The first night notes the time, and sends nothing; nor does any night mail what is too long ago."""
    world = Site(tmp_path, server.port)
    world.job("1", ago_s=600)
    world.job("2", ago_s=15 * DAY_S)
    first = send(world.account())
    assert (first.delivered.sent, first.quiet) == (0, "the first night: jobs that end from now on are mailed")
    assert world.states() == {}
    world.begin()  # it is noted once
    assert send(world).delivered.sent == 0
    with sqlite3.connect(world.results) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'mail_from lab'", (world.now_s - 100 * DAY_S,))
    send(world)
    assert world.states() == {"job 1": "sent"}


# -- caps, days, lists -----------------------------------------------------------------------------------------------


def test_a_user_gets_the_heaviest_jobs_and_is_not_told_of_the_rest_the_next_night(
    tmp_path: Path, server: Server
) -> None:
    """The rest is told in the digest: it is decided once."""
    world = Site(tmp_path, server.port, per_user=2, digest="weekly")
    for job in range(1, 6):
        world.job(str(job), joules=5000.0 * job)
    send(world.account().begin())
    states = {f"job {job}": "sent" if job > 3 else "digest" for job in range(1, 6)}
    units = {key: state for key, state in world.states().items() if key.startswith("job")}
    assert units == states
    send(world, DAY_S)
    assert {key: state for key, state in world.states().items() if key.startswith("job")} == states


def test_what_a_night_has_no_room_for_goes_the_next(tmp_path: Path, server: Server) -> None:
    """In the order in which it was planned, and none is lost; why some wait is said."""
    world = Site(tmp_path, server.port, per_night=2)
    for job in range(1, 6):
        world.job(str(job), user=f"user{job}", joules=5000.0 * job)
    world.account().begin()
    found = [send(world, night * DAY_S) for night in range(4)]
    assert [(one.delivered.sent, one.waiting) for one in found] == [(2, 3), (2, 1), (1, 0), (0, 0)]
    said = [f"mail.per_night is reached: {left} go another night" for left in (3, 1)]
    assert [one.quiet for one in found] == [*said, "", ""]
    assert len(set(server.names)) == len(server.mails) == 5


@pytest.mark.parametrize("by", ["days", "holidays"])
def test_jobs_wait_for_a_day_of_mail(tmp_path: Path, server: Server, by: str) -> None:
    """Of a weekend or a holiday; then they go once."""
    settings: dict[str, Any] = {"days": [day for day in DAYS if day != today()]}
    if by == "holidays":
        settings = {"holidays_file": "holidays"}
        (tmp_path / "holidays").write_text(f"{datetime.now().astimezone().date()} # today\n")
    world = Site(tmp_path, server.port, **settings)
    world.job("1")
    quiet = send(world.account().begin())
    assert "is no day for mail" in quiet.quiet
    assert (world.states(), server.mails) == ({}, [])
    assert send(world, DAY_S).delivered.sent == 1
    assert send(world, DAY_S).delivered.sent == 0


def test_who_opted_out_gets_none(tmp_path: Path, server: Server) -> None:
    """The list is read each night, for mails that wait, too."""
    (tmp_path / "out").write_text("# none for\nalice\n")
    world = Site(tmp_path, server.port, opt_out_file="out", per_night=1)
    for job, user in enumerate(("alice", "bob", "carol"), 1):
        world.job(str(job), user=user, joules=5000.0 * (5 - job))
    first = send(world.account().begin())
    assert [(one.user, one.why) for one in first.plan.skipped] == [("alice", "opted out")]
    assert world.states() == {"job 2": "sent", "job 3": "planned"}
    (tmp_path / "out").write_text("alice\ncarol\n")
    send(world, DAY_S)
    assert world.states() == {"job 2": "sent", "job 3": "dropped"}
    assert server.recipients == ["bob@site.example"]


@pytest.mark.parametrize("key", ["opt_out_file", "holidays_file"])
def test_a_list_that_is_lost_stops_all_mails_to_users(tmp_path: Path, server: Server, key: str) -> None:
    """It might hold somebody who must get none; admins are told, and jobs wait."""
    world = Site(tmp_path, server.port, admins=["root@site.example"], **{key: "gone"})
    world.job("1")
    night = send(world.account().begin())
    assert "gone" in night.stopped[0]
    assert server.recipients == ["root@site.example"]
    (tmp_path / "gone").write_text("")
    send(world, DAY_S)
    assert server.recipients == ["root@site.example", "alice@site.example"]


def test_ldap_that_is_away_makes_its_users_wait(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the map knows get theirs; the others the next night."""
    (tmp_path / "map").write_text("alice: alice@map.example\n")
    program = tmp_path / "ldapsearch"
    program.write_text("#!/bin/sh\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    addresses = {"map_file": "map", "ldap": {"uri": "ldaps://x.example", "base": "dc=x"}, "domain": "site.example"}
    world = Site(tmp_path, server.port, addresses=addresses)
    world.job("1")
    world.job("2", user="bob")
    assert "exit 255" in send(world.account().begin()).stopped[0]
    program.write_text("#!/bin/sh\nprintf 'dn: uid=bob\\nmail: bob@ldap.example\\n'\n")
    send(world, DAY_S)
    assert server.recipients == ["alice@map.example", "bob@ldap.example"]


@pytest.mark.parametrize("user", ["1000", "a b", "a\nBcc: x@evil.example", "\u202eeve", "é" * 300])
def test_a_user_whose_name_is_no_address_gets_none_and_harms_nobody(tmp_path: Path, server: Server, user: str) -> None:
    """It is listed, without what harms a terminal; others get theirs."""
    world = Site(tmp_path, server.port)
    world.job("1", user=user, name="x\r\nBcc: evil@x.example")
    world.job("2", name="=?utf-8?q?=0D=0ABcc:_evil@x.example?=")
    night = send(world.account().begin())
    assert [one.user for one in night.plan.skipped] == [user]
    assert server.recipients == ["alice@site.example"]
    message = server.mails[0].message
    assert message["Bcc"] is None
    assert "=0D=0ABcc" in str(message["Subject"])
    day = f"{datetime.fromtimestamp(world.now_s - 600, UTC):%Y-%m-%d}"
    shown = world.run("mail", "--preview", str(tmp_path / "look"), "--night", day)
    assert shown[0] == 0
    assert all(line.isprintable() for line in shown[1].split("\n"))


# -- what the server says --------------------------------------------------------------------------------------------


def test_what_the_server_refuses_for_good_is_listed_with_its_words(tmp_path: Path) -> None:
    """And is not tried again by itself."""
    with Server(lambda what, _: "550 5.1.1 \x1b[31mno such user" if what == "RCPT" else OK) as server:
        world = Site(tmp_path, server.port)
        world.job("1")
        night = send(world.account().begin())
        assert night.delivered.failed == 1
        assert send(world, DAY_S).delivered.failed == 0
        status, out, _ = world.run("mail", "status")
        assert status == 1
        assert "recipient refused: 550 5.1.1 no such user" in " ".join(out.split())


def test_what_is_refused_for_now_goes_another_night(tmp_path: Path) -> None:
    """Each time after a longer wait, and after the fifth it has failed."""
    with Server(lambda what, _: "451 greylisted" if what == "RCPT" else OK) as server:
        world = Site(tmp_path, server.port)
        world.job("1")
        world.account().begin()
        tried = []
        for night in range(16):
            before = server.commands.count("RCPT")
            send(world, night * DAY_S)
            if server.commands.count("RCPT") > before:
                tried.append(night)
        assert tried == [0, 1, 3, 7, 15]
        assert len(tried) == MOST_ATTEMPTS
        assert world.states() == {"job 1": "failed"}


def test_a_server_that_is_not_there_costs_no_mail_an_attempt(tmp_path: Path) -> None:
    """One try for the night, however many wait; when it is back they go."""
    with Server() as server:
        port = server.port
    world = Site(tmp_path, port)
    for job in range(1, 4):
        world.job(str(job))
    night = send(world.account().begin())
    assert night.delivered.trouble == f"127.0.0.1:{port}: Connection refused"
    assert {(row.state, row.attempts) for row in world.mails().values()} == {("planned", 0)}


def test_a_sender_that_is_refused_is_no_users_fault(tmp_path: Path) -> None:
    """It would be said of each: the night stops, and no mail is given up for it."""
    with Server(lambda what, _: "550 not from here" if what == "MAIL" else OK) as server:
        world = Site(tmp_path, server.port)
        for job in range(1, 4):
            world.job(str(job))
        night = send(world.account().begin())
        assert night.stopped == ("sender refused: 550 not from here",)
        assert server.commands.count("MAIL") == 1
        assert Counter(world.states().values()) == {"planned": 2, "retry": 1}


def test_a_row_of_which_no_mail_can_be_made_keeps_nobody_elses(tmp_path: Path, server: Server) -> None:
    """It is tried again, and the reason is told in the end."""
    world = Site(tmp_path, server.port, min_kwh=1, min_failed_kwh=0.0001)
    world.job("1", joules=4e6)
    world.job("2", joules=4e6)
    world.job("3", joules=5000.0)
    world.account().begin()
    with closing(sqlite3.connect(world.results)) as db:
        db.execute("UPDATE job_result SET impacts = '{}', energy = '{}' WHERE job_id IN ('1', '3')")
        db.commit()
    send(world)
    rows = {key.rpartition("/")[2]: row for key, row in world.mails().items()}
    assert {job: row.state for job, row in rows.items()} == {"1": "retry", "2": "sent"}
    assert "could not be written: KeyError" in (rows["1"].why or "")


def test_a_mail_that_failed_goes_to_the_address_that_was_mended(tmp_path: Path) -> None:
    """By hand, and at once; not to somebody who has opted out meanwhile."""
    with Server(lambda what, number: "550 no such user" if (what, number) == ("RCPT", 1) else OK) as server:
        (tmp_path / "map").write_text("")
        (tmp_path / "out").write_text("")
        addresses = {"map_file": "map", "domain": "site.example"}
        world = Site(tmp_path, server.port, addresses=addresses, opt_out_file="out")
        world.job("1")
        send(world.account().begin())
        key = next(iter(world.mails()))
        (tmp_path / "out").write_text("alice\n")
        status, _, said = world.run("mail", "resend", key)
        assert (status, "'alice' has opted out" in said, server.mails) == (2, True, [])
        (tmp_path / "out").write_text("")
        (tmp_path / "map").write_text("alice: a.lice@site.example\n")
        assert world.run("mail", "resend", key)[:2] == (0, "sent\n")
        assert server.recipients == ["a.lice@site.example"]
        assert world.mails()[key].address == "a.lice@site.example"


# -- digests and labs ------------------------------------------------------------------------------------------------


def weekly(folder: Path, server: Server, **more: Any) -> Site:
    """A site whose week ends today: a job of each day before, of two users."""
    settings = {"digest": "weekly", "labs": "weekly", "digest_day": DAYS[datetime.now(UTC).weekday()], "min_kwh": 1}
    world = Site(folder, server.port, **settings | {"min_failed_kwh": 1} | more)
    midnight_s = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    for job, user in enumerate(("alice", "alice", "bob"), 1):
        world.job(str(job), user=user, account="nlp", ago_s=world.now_s - midnight_s + job * DAY_S / 2)
    return add(world, "labs: {nlp: {name: Language, heads: [carol]}, bio: {heads: [dave]}}\n")


def test_digests_and_labs_reports_go_once(tmp_path: Path, server: Server) -> None:
    """To each user who had other jobs, and to the heads of labs that had any."""
    world = weekly(tmp_path, server).account().begin()
    send(world)
    assert Counter(server.recipients) == Counter({f"{name}@site.example": 1 for name in ("alice", "bob", "carol")})
    for later in (0, DAY_S, 3 * DAY_S):
        send(world, later)
    assert len(server.mails) == 3
    subjects = {one.to[0]: str(one.message["Subject"]) for one in server.mails}
    assert subjects["carol@site.example"].startswith("Lab Language (nlp)")


def test_who_was_told_of_each_job_gets_no_digest(tmp_path: Path, server: Server) -> None:
    """Nothing is told twice."""
    world = weekly(tmp_path, server, min_kwh=0.001, labs="off").account().begin()
    night = send(world)
    assert {one.subject.partition("/")[0] for one in night.plan.mails} == {"job", "digest"}
    second = Site.states(world)
    assert set(second.values()) == {"sent"}


# -- admins ----------------------------------------------------------------------------------------------------------


def test_admins_hear_nothing_of_a_night_on_which_all_is_well(tmp_path: Path, server: Server) -> None:
    """However many mails go."""
    world = Site(tmp_path, server.port, admins=["root@site.example"])
    world.job("1")
    send(world.account().begin())
    assert server.recipients == ["alice@site.example"]


def test_admins_hear_what_is_wrong_once(tmp_path: Path) -> None:
    """A night's problems, a silent node, a mail that failed; not the same mail's failure the night after."""
    with Server(lambda what, number: "550 no" if (what, number) == ("RCPT", 1) else OK) as server:
        world = Site(tmp_path, server.port, admins=["root@site.example", "b@site.example"])
        world.job("1")
        with closing(sqlite3.connect(tmp_path / "nodes" / "node01.sqlite")) as db:
            db.execute("INSERT INTO node_power VALUES ('package-0', ?, 1, 0)", (world.now_s - 7200,))
            db.commit()
        send(world.account().begin(), problems=("jobs.jsonl: line 3: \x1b[2Jnot JSON",))
        assert sorted(server.recipients) == ["b@site.example", "root@site.example"]
        message = server.mails[0].message
        text = next(message.iter_parts()).get_content()  # type: ignore[attr-defined]
        assert "jobs.jsonl: line 3: not JSON" in text
        assert "node01: nothing since" in text
        assert "recipient refused: 550 no" in text
        assert message["List-Unsubscribe"] is None
        with closing(sqlite3.connect(tmp_path / "nodes" / "node01.sqlite")) as db:
            db.execute("UPDATE node_power SET wall_s = ?", (world.now_s + DAY_S,))
            db.commit()
        send(world, DAY_S)
        assert len(server.mails) == 2


# -- looking ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_writes_files_and_notes_nothing(tmp_path: Path, server: Server) -> None:
    """Each mail in a file of its own, for its owner alone; those of the time before are gone; nothing was sent."""
    world = Site(tmp_path, server.port, send=False, per_user=2)
    for job in range(1, 4):
        world.job(str(job), joules=5000.0 * job)
    world.job("4", user="1000")
    world.account()
    folder = tmp_path / "preview"
    folder.mkdir(mode=0o700)
    (folder / "notes.txt").write_text("mine")
    for _ in range(2):
        status, out, said = world.run("mail")
        assert (status, said) == (0, "")
    files = sorted(folder.glob("*.eml"))
    assert len(files) == 2
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
    message = message_from_bytes(files[0].read_bytes(), policy=policy.default)
    assert message["To"] == "alice@site.example"
    assert (folder / "notes.txt").exists()
    assert "alice  alice@site.example  job 3  used" in out
    assert "more than 2 mails of one night" in out
    assert "a number, not a name" in out
    assert "2 mails, 2 files in" in out
    assert (server.mails, world.mails()) == ([], {})
    with closing(world.mailing()) as mailing:
        assert mailing.begun() is None


def test_all_to_one_address_to_look_at(tmp_path: Path, server: Server) -> None:
    """Nobody else gets any, nothing is noted, and they are not taken for the true ones, which go later."""
    world = Site(tmp_path, server.port)
    world.job("1")
    world.job("2", user="bob")
    world.account().begin()
    status, out, _ = world.run("mail", "--to", "me@site.example")
    assert (status, "all to me@site.example: 2 sent, and nothing is noted" in out) == (0, True)
    assert (server.recipients, world.mails()) == (["me@site.example"] * 2, {})
    send(world)
    assert server.recipients[2:] == ["alice@site.example", "bob@site.example"]
    assert len(set(server.names)) == 4


def test_a_day_is_shown_whatever_was_mailed(tmp_path: Path, server: Server) -> None:
    """`--night` looks back: at jobs that ended on that day, told or not."""
    world = Site(tmp_path, server.port)
    world.job("1", ago_s=3 * DAY_S)
    world.job("2", ago_s=5 * DAY_S)
    send(world.account().begin())
    day = datetime.fromtimestamp(world.now_s - 3 * DAY_S, UTC).date()
    shown = show(world.config, lambda: world.now_s, folder=tmp_path / "look", night=day)
    assert [one.subject.rpartition("/")[2] for one in shown.plan.going] == ["1"]
    assert len(shown.files) == 1
    assert show(world.config, lambda: world.now_s, night=day - timedelta(days=1)).plan.going == []


def test_a_preview_does_not_follow_a_link(tmp_path: Path) -> None:
    """Somebody who may write there cannot have another file overwritten."""
    world = Site(tmp_path, 9)
    world.job("1")
    world.account().begin()
    show(world.config, lambda: world.now_s, folder=tmp_path / "look")
    name = next((tmp_path / "look").iterdir()).name
    (tmp_path / "look" / name).unlink()
    (tmp_path / "target").write_text("mine")
    (tmp_path / "look" / name).symlink_to(tmp_path / "target")
    show(world.config, lambda: world.now_s, folder=tmp_path / "look")
    assert (tmp_path / "target").read_text() == "mine"


# -- with the accounting ---------------------------------------------------------------------------------------------


def test_the_accounting_mails_at_its_end(tmp_path: Path, server: Server) -> None:
    """In the same command; a second one sends nothing again."""
    world = Site(tmp_path, server.port)
    world.job("1", ago_s=3600)
    world.account().begin()
    world.job("2")
    status, out, said = world.run("account")
    assert (status, said) == (0, "")
    assert out.endswith("mail: 2 sent\n")
    assert world.run("account")[1].endswith("mail: 0 sent\n")
    assert len(server.mails) == 2


@pytest.mark.parametrize(
    ("settings", "said"), [({"smtp": {"port": 1}}, "Connection refused"), ({"opt_out_file": "gone"}, "gone")]
)
def test_what_goes_wrong_with_mail_is_no_error_of_the_accounting(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    """Jobs are accounted for, and it is said."""
    world = Site(tmp_path, **settings)
    world.job("1")
    world.account().begin()
    status, _, words = world.run("account")
    assert status == 0
    assert said in words


def test_admins_hear_of_an_accounting_that_failed(tmp_path: Path, server: Server) -> None:
    """By the command and by the schedule."""
    world = Site(tmp_path, server.port, admins=["root@site.example"])
    world.job("1")
    world.account().begin()
    (tmp_path / "jobs.jsonl").unlink()
    assert world.run("account")[0] == 3
    assert server.recipients == ["alice@site.example", "root@site.example"]
    text = next(server.mails[-1].message.iter_parts()).get_content()  # type: ignore[attr-defined]
    assert "jobs.jsonl" in text
    told: list[tuple[str, ...]] = []
    assert not scheduled_night(world.config, time.time, lambda _config, problems: told.append(tuple(problems)))
    assert len(told) == 1
    assert "jobs.jsonl" in told[0][0]


def test_what_is_switched_off_is_not_loaded(tmp_path: Path) -> None:
    """An accounting without mail imports none of it."""
    world = Site(tmp_path, enabled=False)
    program = (
        "import sys; from jobimpact.cli.main import main; "
        f"assert main(['account', '--config', {str(world.config_file)!r}]) == 0; "
        "print([name for name in sys.modules if name.startswith(('jobimpact.mail', 'jinja2', 'smtplib'))])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("\n[]\n")
    assert not (tmp_path / "preview").exists()
    status, _, said = world.run("mail", "resend", "job/2026-11-20/1")
    assert (status, "mail.enabled and mail.send must be true" in said) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--night", "yesterday"], "not a day like 2026-11-20"),
        (["--to", "me"], "not a mail address"),
        (["resend", "nonsense"], "no such mail"),
    ],
)
def test_wrong_words_are_told(tmp_path: Path, words: list[str], said: str) -> None:
    """Before anything is done."""
    world = Site(tmp_path)
    world.account()
    status, _, words_said = world.run("mail", *words)
    assert (status, said in words_said) == (2, True)


def test_a_mail_shows_power_over_time_and_escapes_what_users_wrote(tmp_path: Path, server: Server) -> None:
    """Its picture is inside, where the HTML names it; a job's name is text, not HTML."""
    world = add(Site(tmp_path, server.port), "report: {profile_kwh: 0}\n")
    world.job("1", name="<script>alert(1)</script>")
    begin_s = world.now_s - 700 - T0
    for at_s in range(0, 101, 10):
        world.node().point("1", begin_s + at_s, 50.0 * at_s, known_s=at_s)
    send(world.account().begin())
    _, related = server.mails[0].message.iter_parts()
    page, picture = related.iter_parts()  # type: ignore[attr-defined]
    text = page.get_content()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert picture.get_content().startswith(b"\x89PNG")
    assert f'src="cid:{picture["Content-ID"].strip("<>")}"' in text
