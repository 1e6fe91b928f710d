"""Login nodes over TCP, by real munge daemons: who asks is who munge says, and nobody else can read the answer."""

from __future__ import annotations

import json
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.labs.lab import PATIENCE_S
from tests.labs.munged import AS_USER, Host, folder_for_all, missing, munged
from tests.needs import need
from tests.service.running import List, received, result, until

from jobimpact.answers.access import WhoIs
from jobimpact.answers.munge import MAX_PAYLOAD, Munge
from jobimpact.answers.parts import Joined
from jobimpact.answers.query import Query
from jobimpact.answers.remote import RemoteAnswers
from jobimpact.answers.wire import MAX_REPLY, MAX_REQUEST, PROTOCOL, Reply, Request, framed, receive
from jobimpact.core.config import Access, Config, Lab, Service
from jobimpact.core.errors import CredentialError, StoreError
from jobimpact.results.record import JobResult
from jobimpact.service.desk import Desk
from jobimpact.service.doors import Door, open_socket, open_tcp
from jobimpact.service.seal import Seal
from jobimpact.service.server import Limits, Server

NOBODY = pwd.getpwnam("nobody").pw_uid
GAMES = pwd.getpwnam("games").pw_uid
KEY, OTHER_KEY = bytes(range(64)), bytes(range(64, 128))
NONCE = "0123456789abcdef"
HOUR_S = 3600
WORD = "a-name-that-nobody-may-see"
JOBS = (
    result("1", user="nobody", name=WORD),
    result("2", user="games", account="physics"),
    result("3", user="root", name="x"),
)
PROGRAM = f"""{AS_USER}
from jobimpact.answers.query import Query
from jobimpact.answers.remote import RemoteAnswers
from jobimpact.core.config import Service
import msgspec
service = msgspec.json.decode(sys.argv[1], type=Service)
try:
    found = RemoteAnswers(service).jobs(Query(("1", "2", "3")))
    print(*(job.job_id for group in found.groups for job in group.jobs))
except Exception as error:
    print(type(error).__name__, error)
"""


class Site:
    """The accounting host with its munge, and a login node with its own."""

    def __init__(self, folder: Path, host: Host, login: Host) -> None:
        self.folder, self.host, self.login = folder, host, login

    def ask(self, address: str, munge: Host | None = None, user: str = "root") -> Service:
        """What a login node's configuration says."""
        return Service(ask=address, munge_socket=(munge or self.login).socket, user=user, timeout_s=PATIENCE_S)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One of each for all tests; each test starts a service of its own."""
    need("munge", missing())
    with folder_for_all() as folder, munged(folder, "host", KEY) as host, munged(folder, "login", KEY) as login:
        yield Site(folder, host, login)


@contextmanager
def serving(
    host: Host | Path, jobs: Sequence[JobResult] = JOBS, door: Door | None = None, **limits: Any
) -> Iterator[str]:
    """The service on the accounting host; gives its address."""
    tcp = open_tcp("127.0.0.1:0")
    doors = [tcp, door] if door else [tcp]
    config = Config(access=Access(()), labs={"physics": Lab(heads=("games",))})
    desk = Desk(WhoIs(config), lambda who: List(who, jobs))
    path = host.socket if isinstance(host, Host) else str(host)
    server = Server(doors, desk, Seal(Munge(path)), Limits(**limits))
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield f"127.0.0.1:{tcp.sock.getsockname()[1]}"
    finally:
        server.stop()
        thread.join(PATIENCE_S)


def as_user(uid: int, service: Service) -> str:
    """What a user of the login node is told."""
    command = [sys.executable, "-c", PROGRAM, str(uid), msgspec.json.encode(service).decode()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def request(nonce: str = NONCE, *ids: str) -> bytes:
    return msgspec.json.encode(Request(PROTOCOL, Query(ids or ("1", "3")), nonce))


def sent(address: str, *frames: bytes) -> bytes:
    """What comes back for some bytes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as sock:
        for one in frames:
            sock.sendall(one)
        return received(sock)


def opened(munge: Munge, answer: bytes, nonce: str = NONCE) -> Reply:
    """A reply, its credentials opened."""
    joined = Joined(nonce, MAX_REPLY)
    while answer:
        length = int.from_bytes(answer[:4], "big")
        joined.add(munge.open(answer[4 : 4 + length]).payload)
        answer = answer[4 + length :]
    return msgspec.json.decode(joined.body, type=Reply)


@pytest.mark.parametrize(
    ("uid", "told"),
    [(NOBODY, "1"), (GAMES, "2"), (64999, ""), (0, "1 2 3")],
    ids=["a user", "a head", "nameless", "root"],
)
def test_users_of_a_login_node_see_their_own(site: Site, uid: int, told: str) -> None:
    """Each what is theirs, by the uid that their munge daemon was told by the kernel."""
    with serving(site.host) as address:
        assert as_user(uid, site.ask(address)) == told


def test_what_is_sent_can_be_read_by_nobody_else(site: Site) -> None:
    """Neither on the wire, nor by root with the same key: munge opens it for the asker alone."""
    with serving(site.host) as address:
        credential = Munge(site.login.socket).seal(request(), 0)
        answer = sent(address, framed(credential))
    assert WORD.encode() not in answer
    done = subprocess.run(
        [sys.executable, "-c", f"{AS_USER}{_OPEN}", str(NOBODY), site.login.socket, answer[4:].decode()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("CredentialError munge: Unauthorized credential")
    assert [group.asked for group in _groups(opened(Munge(site.login.socket), answer))] == ["1", "3"]


_OPEN = """
from jobimpact.answers.munge import Munge
try:
    print("opened", Munge(sys.argv[1]).open(sys.argv[2].encode()))
except Exception as error:
    print(type(error).__name__, error)
"""


def _groups(reply: Reply) -> Sequence[Any]:
    assert reply.answers is not None
    return reply.answers.groups


def test_a_question_is_answered_once(site: Site) -> None:
    """Whoever repeats it gets a refusal, sealed for who asked first."""
    with serving(site.host) as address:
        credential = Munge(site.login.socket).seal(request(), 0)
        munge = Munge(site.login.socket)
        assert _groups(opened(munge, sent(address, framed(credential))))
        again = opened(munge, sent(address, framed(credential)))
    assert (again.answers, again.kind) == (None, "credential")
    assert "has had this message before" in str(again.error)


@contextmanager
def repeating(answer: bytes) -> Iterator[str]:
    """A server that gives one answer, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def say() -> None:
            with listening.accept()[0] as sock:
                receive(sock, 1 << 20, time.monotonic() + PATIENCE_S)
                sock.sendall(answer)

        thread = threading.Thread(target=say)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(PATIENCE_S)


def test_an_answer_to_another_question_is_not_taken(site: Site) -> None:
    """It is the service's own, and sealed for this user, but not of this question; and once opened it is stale."""
    with serving(site.host) as address:
        answer = sent(address, framed(Munge(site.login.socket).seal(request(), 0)))
    for said in ("an answer to another question", "has had this message before"):
        with repeating(answer) as address, pytest.raises(StoreError, match=said):
            RemoteAnswers(site.ask(address)).jobs(Query(("1",)))


def test_another_user_cannot_stand_in_for_the_service(site: Site) -> None:
    """What a user of the site has sealed is opened, and not believed. Nor can they read the question."""
    forged = json.dumps({"nonce": NONCE, "part": 0, "of": 1})
    program = f"{AS_USER}\nfrom jobimpact.answers.munge import Munge\n"
    program += f"print(Munge(sys.argv[1]).seal({forged!r}.encode(), 0).decode())"
    command = [sys.executable, "-c", program, str(NOBODY), site.login.socket]
    credential = subprocess.run(command, capture_output=True, check=True).stdout.strip()
    with (
        repeating(framed(credential)) as address,
        pytest.raises(StoreError, match=f"uid {NOBODY} answers, not service.user"),
    ):
        RemoteAnswers(site.ask(address)).jobs(Query(("1",)))


def test_the_question_is_for_the_service_alone(site: Site) -> None:
    """Sealed for `service.user`: a service that runs as another user cannot have it opened, and says nothing."""
    with serving(site.host) as address, pytest.raises(StoreError, match="closed without an answer"):
        RemoteAnswers(site.ask(address, user="nobody")).jobs(Query(("1",)))


def test_another_key_is_told_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Not a byte; the log says why, and the user hears where to look."""
    with munged(site.folder, "stranger", OTHER_KEY) as stranger, serving(site.host) as address:
        assert sent(address, framed(Munge(stranger.socket).seal(request(), 0))) == b""
        with pytest.raises(StoreError, match="may not know munge's key"):
            RemoteAnswers(site.ask(address, stranger)).jobs(Query(("1",)))
    assert "127.0.0.1: munge: Invalid credential (made with another key?)" in caplog.text


@pytest.mark.parametrize(("shift_s", "side"), [(HOUR_S, "ahead of"), (-HOUR_S, "behind")], ids=["ahead", "behind"])
def test_clocks_that_differ_are_named(site: Site, shift_s: int, side: str) -> None:
    """On either host: who asks is told by how much."""
    with munged(site.folder, f"shifted{shift_s}", KEY, shift_s) as shifted:
        with serving(site.host) as address, pytest.raises(StoreError) as raised:
            RemoteAnswers(site.ask(address, shifted)).jobs(Query(("1",)))
        # The refusal is stale there, too: seen from the wrong clock it is the other that is wrong.
        assert "that of this host" in str(raised.value)
        with serving(site.host) as address:
            answer = sent(address, framed(Munge(shifted.socket).seal(request(), 0)))
    reply = opened(Munge(site.login.socket), answer)
    assert reply.answers is None
    assert side in str(reply.error)
    off_s = int(str(reply.error).partition(" s ")[0].rpartition(" ")[2])
    assert abs(off_s - HOUR_S) < PATIENCE_S


NOT_OURS = {
    "empty": ("", []),
    "no json": ("hello", []),
    "no nonce": ('{"version": 1, "ask": {"type": "jobs"}}', []),
    "a short nonce": ('{"version": 1, "ask": {"type": "jobs"}, "nonce": "1"}', []),
    "not encrypted": (request().decode(), ["--cipher", "none"]),
    "for others": (request().decode(), ["--restrict-uid", "nobody"]),
}


@pytest.mark.parametrize(("payload", "options"), NOT_OURS.values(), ids=list(NOT_OURS))
def test_credentials_of_other_kinds_are_told_nothing(site: Site, payload: str, options: list[str]) -> None:
    """Good ones by munge's own command, but not for this service, or not secret."""
    with serving(site.host) as address:
        assert sent(address, framed(site.login.credential(payload, *options))) == b""
        assert _groups(
            opened(Munge(site.login.socket), sent(address, framed(site.login.credential(request().decode()))))
        )


@pytest.mark.parametrize(
    "some",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        framed(b"MUNGE:"),
        framed(b"MUNGE:AwQ\0:"),
        framed(b""),
        framed(request()),
        b"\xff" * 8,
    ],
    ids=["http", "cut", "nul", "empty", "no credential", "huge"],
)
def test_garbage_is_told_nothing(site: Site, some: bytes) -> None:
    """Not a byte, and the next question is answered."""
    with serving(site.host, ask_s=PATIENCE_S) as address:
        assert sent(address, some) == b""
        assert RemoteAnswers(site.ask(address)).jobs(Query(("3",))).groups[0].jobs[0].name == "x"


def test_a_refusal_is_sealed(site: Site) -> None:
    """A question that is none, in a good credential, is refused in words for its maker."""
    with serving(site.host) as address:
        body = json.dumps({"version": 1, "ask": {"type": "everything"}, "nonce": NONCE})
        reply = opened(Munge(site.login.socket), sent(address, framed(site.login.credential(body))))
    assert (reply.answers, reply.kind) == (None, "request")


def test_a_long_answer_comes_in_parts(site: Site) -> None:
    """More than one credential holds, and that cannot be packed."""
    noise = random.Random(1).randbytes(MAX_PAYLOAD).hex()
    long = [result(str(number), user="root", name=noise[number::3]) for number in range(3)]
    with serving(site.host, long) as address:
        found = RemoteAnswers(site.ask(address)).jobs(Query(("0", "1", "2")))
        many = sent(address, framed(Munge(site.login.socket).seal(request(NONCE, "0", "1", "2"), 0)))
    assert [group.jobs for group in found.groups] == [(one,) for one in long]
    assert len(many) > int.from_bytes(many[:4], "big") + 4


def test_the_largest_question_fits(site: Site) -> None:
    """Into a credential."""
    fits = "x" * (MAX_REQUEST - 500)
    with serving(site.host) as address:
        found = RemoteAnswers(site.ask(address)).jobs(Query(("3", fits)))
    assert [len(group.jobs) for group in found.groups] == [1, 0]


def test_many_at_once(site: Site) -> None:
    """A hundred questions of one login node."""
    found = list[int]()

    def one(service: Service) -> None:
        found.append(len(RemoteAnswers(service).jobs(Query(("1", "2", "3"))).groups))

    with serving(site.host) as address:
        threads = [threading.Thread(target=one, args=(site.ask(address),)) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert found == [3] * 100


def test_half_open_connections_cost_nobody(site: Site) -> None:
    """More of them than there are places."""
    with serving(site.host, connections=8, ask_s=PATIENCE_S) as address:
        host, _, port = address.rpartition(":")
        silent = [socket.create_connection((host, int(port)), timeout=PATIENCE_S) for _ in range(20)]
        until(lambda: _answered(site.ask(address)))
        for one in silent:
            one.close()


def test_one_user_of_login_nodes_does_not_take_all_places(site: Site) -> None:
    """Beyond their part, those that wait or do not take their answers, they are closed; and nobody else is."""
    long = [result("1", user="root", name=random.Random(1).randbytes(4 << 20).hex()), JOBS[1]]
    with serving(site.host, long, each_open=2) as address:
        host, _, port = address.rpartition(":")
        deaf = [socket.create_connection((host, int(port)), timeout=PATIENCE_S) for _ in range(2)]
        for one in deaf:
            one.sendall(framed(Munge(site.login.socket).seal(request(), 0)))
            assert one.recv(1)
        assert sent(address, framed(Munge(site.login.socket).seal(request(), 0))) == b""
        assert as_user(GAMES, site.ask(address)) == "2"
        for one in deaf:
            one.close()
        until(lambda: bool(sent(address, framed(Munge(site.login.socket).seal(request(), 0)))))


def _answered(service: Service) -> bool:
    try:
        return bool(RemoteAnswers(service).jobs(Query(("3",))).groups[0].jobs)
    except StoreError:
        return False  # a flood before us put us out


def test_no_munge_on_either_side(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Here it is said; there it is in the log."""
    nowhere = site.folder / "nowhere"
    with serving(nowhere) as address:
        with pytest.raises(StoreError, match=f'Failed to access "{nowhere}".*Did you start munged'):
            RemoteAnswers(msgspec.structs.replace(site.ask(address), munge_socket=str(nowhere))).jobs(Query())
        with pytest.raises(StoreError, match="closed without an answer"):
            RemoteAnswers(site.ask(address)).jobs(Query())
    assert "Did you start munged" in caplog.text


def test_a_munge_daemon_that_hangs(site: Site) -> None:
    """On the login node: the user waits no longer than they are to. On the host: its own users are answered."""
    with munged(site.folder, "hung", KEY) as hung:
        os.kill(hung.pid, signal.SIGSTOP)
        with serving(site.host) as address, pytest.raises(StoreError, match=r"within 0\.1 s, or the munge daemon"):
            RemoteAnswers(msgspec.structs.replace(site.ask(address, hung), timeout_s=0.1)).jobs(Query())
        door = open_socket(str(site.folder / "answers.sock"))
        with serving(hung, door=door) as address:
            for _ in range(20):
                with pytest.raises(StoreError, match=r"no answer within 0\.1 s"):
                    RemoteAnswers(msgspec.structs.replace(site.ask(address), timeout_s=0.1)).jobs(Query())
            here = Service(socket=str(door.made), timeout_s=PATIENCE_S)
            assert RemoteAnswers(here).jobs(Query(("3",))).groups[0].jobs
            os.kill(hung.pid, signal.SIGCONT)


def test_nobody_there(site: Site) -> None:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    with pytest.raises(StoreError, match=f"^{address}: Connection refused: does `jobimpact serve` run there"):
        RemoteAnswers(site.ask(address)).jobs(Query())


def test_a_credential_for_everybody_is_never_made(site: Site) -> None:
    """The number that munge takes for all users is nobody's."""
    with pytest.raises(CredentialError, match="nobody in particular"):
        Munge(site.login.socket).seal(b"", 2**32 - 1)


def test_without_libmunge(site: Site) -> None:
    """A host without it: what is missing is named."""
    code = "from jobimpact.answers.munge import Munge; Munge()"
    hidden = "for one in $(ls -1 /usr/lib/*/libmunge.so.2); do mount --bind /dev/null $(readlink -f $one); done; "
    command = ["unshare", "--mount", "sh", "-c", f'{hidden} exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "libmunge.so.2 is not installed on this host" in done.stderr
