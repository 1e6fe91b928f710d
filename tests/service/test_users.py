"""Real users, the real command and the real service: each sees their own, and no trick shows them more."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.accounting.world import CONFIG, World
from tests.labs.munged import AS_USER, folder_for_all, missing
from tests.needs import need
from tests.service.running import ENOUGH_S

from jobimpact.cli.main import main

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")

NOBODY, GAMES, MAN = (pwd.getpwnam(name).pw_uid for name in ("nobody", "games", "man"))
SERVICE = pwd.getpwnam("daemon").pw_uid
MINE, LABS, ROOTS, RUNNING, UNKNOWN = "5550071", "5550072", "5550073", "5550074", "5550079"
MORE = """
labs: {physics: {heads: [games]}}
access: {groups: [man]}
service: {socket: answers.sock, user: daemon, timeout_s: 120}
"""
COMMAND = f"""{AS_USER}
from jobimpact.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
SERVE = f"""
import os, sys
os.dup2(int(sys.argv.pop(1)), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
import _strptime, jobimpact.cli.serve, jobimpact.answers.live, jobimpact.answers.period, jobimpact.energy.local
import jobimpact.mirror.job, jobimpact.store.influx, jobimpact.store.reader, jobimpact.store.victoria
{COMMAND}
"""


class Site:
    """The accounting host: results that only the service may read, and its socket."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, CONFIG + MORE)
        self.world.say(MINE, user="nobody", name="my-own")
        self.world.say(LABS, user="bob", account="physics", name="the-labs")
        self.world.say(ROOTS, user="root", name="the-roots")
        self.config = str(self.world.config_file)
        assert main(["account", "--config", self.config]) == 0
        os.chown(self.world.results, 0, SERVICE)
        self.world.results.chmod(0o640)
        self.node = self.world.node()
        self.node.domain()
        self.node.run(RUNNING, end=None, uid=NOBODY)
        self.node.db.commit()
        for path in [folder / "nodes", *(folder / "nodes").iterdir()]:
            os.chown(path, 0, SERVICE)
            path.chmod(0o750 if path.is_dir() else 0o640)

    def ask(self, uid: int, *words: str, config: str | None = None, **environment: str) -> tuple[int, bytes, bytes]:
        """What a user of this host gets: exit status, stdout, stderr."""
        command = [sys.executable, "-c", COMMAND, str(uid), *words, "--config", config or self.config]
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment})
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """`jobimpact serve`, as systemd starts it: a user of its own, and root's socket."""
        path = self.world.folder / "answers.sock"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            path.chmod(0o666)
            listening.listen(100)
            command = [sys.executable, "-c", SERVE, str(listening.fileno()), str(SERVICE)]
            service = subprocess.Popen(
                [*command, "serve", "--config", self.config],
                env={**os.environ, "LISTEN_FDS": "1"},
                pass_fds=[listening.fileno()],
            )
        try:
            yield service
        finally:
            service.send_signal(signal.SIGTERM)
            assert service.wait(ENOUGH_S) == 0
            path.unlink()


@pytest.fixture(scope="module")
def bare() -> Iterator[Site]:
    """The host without the service."""
    with folder_for_all() as folder:
        yield Site(folder)


@pytest.fixture(scope="module")
def site(bare: Site) -> Iterator[Site]:
    """The host with it."""
    with bare.serving():
        yield bare


def test_ones_own_job_is_shown(site: Site) -> None:
    """From a file that they cannot read themselves."""
    status, out, err = site.ask(NOBODY, MINE)
    assert (status, err) == (0, b"")
    assert b"my-own" in out


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["-P"]], ids=" ".join)
def test_anothers_job_looks_like_none(site: Site, form: list[str]) -> None:
    """The same bytes on both streams and the same status, but for the id; alone, or beside one's own."""
    for words, job in (([LABS], LABS), ([MINE, ROOTS], ROOTS)):
        theirs = site.ask(NOBODY, *words, *form)
        unknown = site.ask(NOBODY, *[UNKNOWN if word == job else word for word in words], *form)
        assert theirs[0] == 1
        assert theirs[1:] == tuple(one.replace(UNKNOWN.encode(), job.encode()) for one in unknown[1:])


def test_a_running_job_is_its_users(site: Site) -> None:
    """By the uid that its node knows, and for others it is none."""
    status, out, _ = site.ask(NOBODY, RUNNING)
    assert (status, b"in progress" in out) == (0, True)
    theirs, unknown = site.ask(GAMES, RUNNING), site.ask(GAMES, UNKNOWN)
    assert theirs == (1, unknown[1], unknown[2].replace(UNKNOWN.encode(), RUNNING.encode()))


@pytest.mark.parametrize(
    ("uid", "seen"),
    [(NOBODY, {MINE}), (GAMES, {LABS}), (MAN, {MINE, LABS, ROOTS}), (0, {MINE, LABS, ROOTS}), (64999, set())],
    ids=["a user", "a lab's head", "an admin's group", "root", "nameless"],
)
def test_who_sees_what(site: Site, uid: int, seen: set[str]) -> None:
    """Each job alone; what is not seen is unknown."""
    for job in (MINE, LABS, ROOTS):
        assert site.ask(uid, job)[0] == (0 if job in seen else 1), job


def test_the_environment_changes_nothing(site: Site) -> None:
    """Who one claims to be is not looked at."""
    claims = dict.fromkeys(("USER", "LOGNAME", "SUDO_USER", "USERNAME"), "root") | {"SUDO_UID": "0", "HOME": "/root"}
    assert site.ask(NOBODY, ROOTS, **claims) == site.ask(NOBODY, ROOTS)


def test_a_configuration_of_ones_own_changes_nothing(site: Site, bare: Site) -> None:
    """One that makes oneself head and admin: rights are the service's to give."""
    own = bare.world.folder / "own.yaml"
    rights = CONFIG + "labs: {physics: {heads: [nobody]}}\naccess: {groups: [nogroup]}\n"
    own.write_text(rights + "service: {socket: answers.sock, user: nobody, timeout_s: 120}\n")
    for job in (LABS, ROOTS):
        assert site.ask(NOBODY, job, config=str(own)) == site.ask(NOBODY, job)


def test_the_file_is_closed_to_users(site: Site) -> None:
    """It cannot be opened, and the command does not need it."""
    program = f"{AS_USER}\nopen(sys.argv[1])"
    command = [sys.executable, "-c", program, str(NOBODY), str(site.world.results)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr


def test_ones_own_report(site: Site) -> None:
    """A user's month, and a lab's by its head."""
    for uid, words in ((NOBODY, []), (NOBODY, ["-u", "nobody"]), (GAMES, ["-A", "physics"])):
        status, out, err = site.ask(uid, "report", *words, "--month", "2026-11", "--json")
        assert (status, err) == (0, b"")
        assert b"the-roots" not in out


NAMES = {
    "user": (["-u", "NAME", "-S", "2026-01-01"], "root"),
    "account": (["-A", "NAME", "-S", "2026-01-01"], "physics"),
    "report of a user": (["report", "-u", "NAME", "--month", "2026-11"], "root"),
    "report of a lab": (["report", "-A", "NAME", "--month", "2026-11"], "physics"),
    "compare": (["compare", "NAME", MINE], ROOTS),
    "json": (["-A", "NAME", "-S", "2026-01-01", "--json"], "physics"),
}


@pytest.mark.parametrize(("words", "there"), NAMES.values(), ids=list(NAMES))
def test_what_is_there_and_not_theirs_looks_like_nothing(site: Site, words: list[str], there: str) -> None:
    """A user, a lab or a job by name: one that is there and one that is not give the same bytes."""
    gone = UNKNOWN if there == ROOTS else "x" * len(there)
    theirs, unknown = (
        site.ask(NOBODY, words[0], *[name if word == "NAME" else word for word in words[1:]]) for name in (there, gone)
    )
    assert theirs[0] == unknown[0]
    assert theirs[1:] == tuple(one.replace(gone.encode(), there.encode()) for one in unknown[1:])
    assert b"Traceback" not in theirs[2]


def test_a_dead_socket_is_said() -> None:
    """The service was killed: its socket is there, and nobody listens. And where there is no socket either."""
    with folder_for_all() as folder:
        site = Site(folder)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(folder / "answers.sock"))
        (folder / "answers.sock").chmod(0o666)
        status, out, err = site.ask(NOBODY, MINE)
        assert (status, out) == (3, b"")
        assert b"does `jobimpact serve` run there?" in err
        (folder / "answers.sock").unlink()
        status, out, err = site.ask(NOBODY, MINE)
        assert (status, out, err.count(b"\n")) == (3, b"", 1)
        site.node.db.close()


@pytest.mark.parametrize(("user", "warned"), [("nobody", True), ("root", False), ("0", False)])
def test_a_service_that_cannot_open_its_questions_says_so(user: str, warned: bool) -> None:
    """Login nodes would seal them for another user than it runs as."""
    need("munge", missing())
    with folder_for_all() as folder:
        config = folder / "jobimpact.yaml"
        (folder / "run").mkdir()
        config.write_text(CONFIG + f"service: {{socket: run/s, listen: '127.0.0.1:0', user: '{user}'}}\n")
        command = [shutil.which("jobimpact", path=Path(sys.executable).parent) or "", "serve", "--config", str(config)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as service:
            assert service.stderr is not None
            said = [service.stderr.readline()]
            while b"answering at" not in said[-1]:
                said.append(service.stderr.readline())
            service.terminate()
        assert (f"service.user is {user}, and this process runs as uid 0".encode() in b"".join(said)) is warned


def test_a_second_service_is_refused() -> None:
    """And says which socket."""
    with folder_for_all() as folder:
        config = folder / "jobimpact.yaml"
        config.write_text(CONFIG + "service: {socket: run/s}\n")
        (folder / "run").mkdir()
        command = [shutil.which("jobimpact", path=Path(sys.executable).parent) or "", "serve", "--config", str(config)]
        first = subprocess.Popen(command, stderr=subprocess.PIPE)
        assert first.stderr is not None
        assert b"answering at" in first.stderr.readline()
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        first.terminate()
        assert (first.wait(ENOUGH_S), second.returncode) == (0, 3)
        assert "another service answers there already" in second.stderr
        assert not (folder / "run/s").exists()
        first.stderr.close()
