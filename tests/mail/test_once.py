"""Each mail goes at most once: runs killed at each point, two at a time, databases that are busy, revisions."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.mail.night_300 import night_of
from tests.mail.smtp_server import DEADLINE_S, OK, Server
from tests.mail.world import DAYS, Site

from jobimpact.mail.night import send_night
from jobimpact.results.mailing import MailRow
from jobimpact.results.turn import Runner


def kill(process: subprocess.Popen[str]) -> None:
    """As `kill -9` does, and wait for it to be gone."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE_S)


def hold_at(point: str, number: int) -> Callable[[str, int], str]:
    """Wait at a command, the nth of its kind."""
    return lambda what, n: "hold" if (what, n) == (point, number) else OK


def site(folder: Path, port: int, jobs: int = 4, **mail: object) -> Site:
    """Some jobs that get a mail each."""
    found = Site(folder, port, **mail)
    for job in range(1, jobs + 1):
        found.job(str(job), joules=5000.0 + 100 * job)
    return found.account().begin()


@pytest.mark.parametrize(
    ("point", "state", "arrived"), [("MAIL", "planned", False), ("RCPT", "planned", False), ("DATA", "sending", True)]
)
def test_a_run_that_is_killed_and_repeated(tmp_path: Path, point: str, state: str, arrived: bool) -> None:
    """Killed over the third mail: before its text the next run sends it; after, it is uncertain and stays so."""
    with Server(hold_at(point, 3)) as server:
        world = site(tmp_path, server.port)
        process = world.start("mail")
        assert server.held.wait(DEADLINE_S)
        kill(process)
        server.go.set()
        assert sorted(world.states().values()) == sorted(["sent", "sent", "planned", state])
        status, out, said = world.run("mail")
        assert Counter(server.names).most_common(1)[0][1] == 1
        assert Counter(world.states().values()) == Counter({"sent": 4} if not arrived else {"sent": 3, "uncertain": 1})
        assert len(server.mails) == 4
        if not arrived:
            assert (status, said) == (0, "")
            return
        assert status == 1
        key = next(key for key, row in world.mails().items() if row.state == "uncertain")
        assert f"{key}: may or may not have arrived" in said
        assert world.run("mail")[:2] == (0, "mail: 0 sent\n")  # nor by any run after it
        status, out, _ = world.run("mail", "status")
        assert status == 1
        assert f"uncertain:\n  {key}\n" in out
        assert f"Message-ID {world.mails()[key].message_id}" in " ".join(out.split())
        # A person has looked, and says so.
        assert world.run("mail", "resend", key) == (0, "sent\n", "")
        assert Counter(server.names).most_common(1)[0] == (str(world.mails()[key].message_id), 2)
        assert world.run("mail", "resend", key)[0] == 2
        assert len(server.mails) == 5


def test_killed_between_the_servers_answer_and_our_note(tmp_path: Path) -> None:
    """The server has taken it, the database was busy: nobody knows any more, so it is not repeated."""
    lock: list[sqlite3.Connection] = []

    def busy(what: str, number: int) -> str:
        if what == "DATA" and not lock:
            # In the server's thread; it is let go in this one.
            db = sqlite3.connect(world.results, isolation_level=None, check_same_thread=False)
            db.execute("BEGIN IMMEDIATE")
            lock.append(db)
            server.held.set()
        return OK

    with Server(busy) as server:
        world = site(tmp_path, server.port, jobs=2)
        process = world.start("mail")
        assert server.held.wait(DEADLINE_S)
        kill(process)
        lock[0].close()
        assert sorted(world.states().values()) == ["planned", "sending"]
        assert world.run("mail")[0] == 1
        assert sorted(world.states().values()) == ["sent", "uncertain"]
        assert len(set(server.names)) == len(server.names) == 2


def test_killed_while_it_claims(tmp_path: Path) -> None:
    """The database was busy before the text went out: none did, and the next run sends it."""
    lock: list[sqlite3.Connection] = []

    def busy(what: str, number: int) -> str:
        if what == "RCPT" and not lock:
            db = sqlite3.connect(world.results, isolation_level=None, check_same_thread=False)
            db.execute("BEGIN IMMEDIATE")
            lock.append(db)
            server.held.set()
        return OK

    with Server(busy) as server:
        world = site(tmp_path, server.port, jobs=1)
        process = world.start("mail")
        assert server.held.wait(DEADLINE_S)
        kill(process)
        lock[0].close()
        assert (server.mails, list(world.states().values())) == ([], ["planned"])
        assert world.run("mail")[1] == "mail: 1 sent\n"
        assert len(server.mails) == 1


def test_two_runs_at_once_share_the_work(tmp_path: Path) -> None:
    """Both begin before either has sent anything: each mail goes once, by one of them."""

    def slow(what: str, number: int) -> str:
        # The first command of the first run is held until the second has come as far.
        if what == "MAIL" and number == 1:
            return "hold"
        if what == "MAIL" and number == 2:
            server.go.set()
        return OK

    with Server(slow) as server:
        world = site(tmp_path, server.port, jobs=12, smtp={"timeout_s": DEADLINE_S})
        # What the first has planned is due for the second only if that has begun later.
        runs = [world.start("mail")]
        assert server.held.wait(DEADLINE_S)
        runs.append(world.start("mail"))
        said = [run.communicate(timeout=DEADLINE_S * 3) for run in runs]
        assert [run.returncode for run in runs] == [0, 0], said
        assert Counter(server.names).most_common(1)[0][1] == 1
        assert len(server.mails) == 12
        assert set(world.states().values()) == {"sent"}
        counts = [int(out.split()[1]) for out, _ in said]
        assert sum(counts) == 12


def test_a_runner_on_another_host_has_a_day(tmp_path: Path) -> None:
    """Nobody here can tell whether it lives: its mail is uncertain after a day, not before, and never sent again."""
    world = site(tmp_path, 9, jobs=1)
    with closing(world.mailing()) as mailing:
        mailing.plan([MailRow("job/2026-11-20/1", "alice", "a@x.example", "planned", 0, None, None, "", 0.0, 0.0)])
        assert mailing.claim(mailing.rows()[0], "<1@x>", world.now_s)
        with sqlite3.connect(world.results) as db:
            elsewhere = msgspec.json.encode(Runner("elsewhere", 1, "boot 1")).decode()
            db.execute("UPDATE mail SET runner = ?", (elsewhere,))
        assert mailing.bury(world.now_s + 3600) == []
        assert mailing.bury(world.now_s + 86400) == ["job/2026-11-20/1"]
        assert not mailing.settle("job/2026-11-20/1", "sent", None, world.now_s)
        assert [row.state for row in mailing.rows()] == ["uncertain"]


def test_only_one_may_claim(tmp_path: Path) -> None:
    """Whoever looked before another run tried it has an old picture, even when it waits again."""
    world = site(tmp_path, 9, jobs=1)
    with closing(world.mailing()) as mailing:
        mailing.plan([MailRow("job/2026-11-20/1", "alice", "a@x.example", "planned", 0, None, None, "", 0.0, 0.0)])
        seen = mailing.rows()[0]
        assert mailing.claim(seen, "<1@x>", 1.0)
        assert not mailing.claim(seen, "<1@x>", 1.0)
        assert mailing.settle(seen.subject, "retry", "452 later", 2.0)
        assert not mailing.claim(seen, "<1@x>", 3.0)
        assert not mailing.put_off(seen, "retry", "no", 3.0)
        again = mailing.rows()[0]
        assert (again.attempts, again.why) == (1, "452 later")
        assert mailing.claim(again, "<1@x>", 3.0)


def test_a_revision_is_not_mailed_again(tmp_path: Path) -> None:
    """A job whose late energy makes it another, larger one was told, and that was that."""
    with Server() as server:
        world = site(tmp_path, server.port, jobs=1)
        world.run("mail")
        with closing(sqlite3.connect(tmp_path / "nodes" / "node01.sqlite")) as db:
            db.execute("UPDATE ledger SET uj = uj * 9 WHERE holder = '1'")
            db.execute("UPDATE domain SET measured_uj = measured_uj * 9")
            db.commit()
        before = world.rows()
        world.account()
        assert world.rows() != before
        assert world.run("mail")[1] == "mail: 0 sent\n"
        assert len(server.mails) == 1


def test_a_night_of_many_jobs_a_dying_server_and_a_killed_run(tmp_path: Path) -> None:
    """What `python -m tests.mail.night_300` shows of 300 jobs."""
    told = night_of(tmp_path, 45)
    assert told.twice == []
    assert told.lost == []
    # One when the server died after its text, one when the run was killed after its text.
    assert len(told.uncertain) == 2
    assert told.listed == sorted(told.uncertain)
    assert told.counts == {"sent": 43, "uncertain": 2}
    assert told.arrived == told.jobs == 45
    assert told.by_default == (3, 42)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_server_does_for_nights_no_mail_comes_twice(tmp_path: Path, seed: int) -> None:
    """Answers at random, lost connections among them, until it is well again: each mail is where its row says."""
    dice = random.Random(seed)
    answered: list[str] = []
    well = False

    def moody(what: str, _number: int) -> str:
        said = OK if well else dice.choice([OK, OK, OK, "451 later", "550 no", "421 closing", "drop"])
        if what == "DATA":
            answered.append(said)
        return said

    with Server(moody) as server:
        world = site(tmp_path, server.port, jobs=10, days=DAYS)
        for night in range(14):
            well = night > 9
            send_night(world.config, lambda at_s=world.now_s + night * 2 * 86400.0: at_s)  # type: ignore[misc]
        taken = [name for name, said in zip(server.names, answered, strict=True) if said == OK]
        lost = {name for name, said in zip(server.names, answered, strict=True) if said == "drop"}
        rows = list(world.mails().values())
        assert len(rows) == 10
        assert len(set(taken)) == len(taken)
        assert {row.message_id for row in rows if row.state == "sent"} == set(taken)
        assert {row.message_id for row in rows if row.state == "uncertain"} == lost
        assert not lost & set(taken)
        assert {row.state for row in rows} <= {"sent", "uncertain", "failed"}
