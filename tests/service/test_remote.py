"""The asking side: whatever answers, or does not, is said in one sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.service.running import ENOUGH_S, me, no_sums, running, service_at

from jobimpact.answers.query import Answers, Period, PeriodQuery, Query
from jobimpact.answers.remote import RemoteAnswers
from jobimpact.answers.wire import PROTOCOL, Reply, framed
from jobimpact.core.config import Service
from jobimpact.core.errors import ConfigError, StoreError


@contextmanager
def saying(folder: Path, answer: bytes | None) -> Iterator[Service]:
    """Something that listens, takes one question, and says this; None: nothing, and keeps the line."""
    path, done = str(folder / "s"), threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def answer_one() -> None:
            with listening.accept()[0] as sock:
                sock.recv(1 << 16)
                if answer is None:
                    assert done.wait(ENOUGH_S)
                else:
                    sock.sendall(answer)

        thread = threading.Thread(target=answer_one)
        thread.start()
        try:
            yield service_at(path)
        finally:
            done.set()
            thread.join(ENOUGH_S)


WRONG = {
    "closed": (b"", "closed without an answer"),
    "broken off": (framed(b"{}")[:-1], "closed without an answer"),
    "no json": (framed(b"hello"), "none of jobimpact's"),
    "wrong types": (framed(b'{"version": 1, "answers": 7}'), "none of jobimpact's"),
    "endless": (b"\xff" * 4, "more than"),
    "newer": (framed(b'{"version": 9}'), "too new for this host .* update this host"),
    "older": (framed(b'{"version": -2}'), "too new for the accounting host .* update the accounting host"),
    "nothing in it": (framed(b'{"version": 1}'), "another question"),
    "its words": (framed(msgspec.json.encode(Reply(PROTOCOL, error="the file is torn"))), "^the file is torn$"),
}


@pytest.mark.parametrize(("answer", "said"), WRONG.values(), ids=list(WRONG))
def test_what_is_no_answer(tmp_path: Path, answer: bytes, said: str) -> None:
    """It is a StoreError in one line."""
    with saying(tmp_path, answer) as service, pytest.raises(StoreError, match=said) as raised:
        RemoteAnswers(service).jobs(Query(("1",)))
    assert "\n" not in str(raised.value)


def test_silence_has_an_end(tmp_path: Path) -> None:
    """After `timeout_s`, over the whole of it."""
    with saying(tmp_path, None) as service:
        hasty = RemoteAnswers(service_at(service.socket, timeout_s=0.05))
        with pytest.raises(StoreError, match=r"no answer within 0\.05 s"):
            hasty.jobs(Query(("1",)))


def test_fields_of_a_later_release_are_passed_over(tmp_path: Path) -> None:
    """An answer with more in it than we know is an answer."""
    later = b'{"version": 2, "answers": {"groups": [], "nothing_yet": true, "more": [1]}, "cost": 3}'
    with saying(tmp_path, framed(later)) as service:
        assert RemoteAnswers(service).jobs(Query()) == Answers((), nothing_yet=True)


def test_a_period(tmp_path: Path) -> None:
    """One's own is told; another's is refused in the words of the host."""
    with running(tmp_path) as service:
        remote = RemoteAnswers(service)
        query = PeriodQuery("user", me(), 0.0, 1.0)
        assert remote.period(query) == Period(query, no_sums())
        with pytest.raises(StoreError, match=r"^not there, or not yours$"):
            remote.period(PeriodQuery("user", "another", 0.0, 1.0))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_socket_of_another_user_is_not_believed(tmp_path: Path) -> None:
    """Who is neither root, nor the service's user, nor oneself could tell anything; the service's user is believed."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    for parent in tmp_path.parents[:-1]:
        if parent.name.startswith("pytest"):
            parent.chmod(0o711)
    tmp_path.chmod(0o711)
    reply = framed(b'{"version": 1, "answers": {"groups": []}}')
    listen = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(flush=True)\n"
        "while True:\n"
        "    c = s.accept()[0]\n"
        "    if c.recv(1000): c.sendall(bytes.fromhex(sys.argv[2]))\n"
    )
    path = folder / "s"
    command = [sys.executable, "-I", "-c", listen, str(path), reply.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"\n"
            with pytest.raises(StoreError, match=r"uid 65534 listens there.*\(jobimpact\)"):
                RemoteAnswers(service_at(str(path))).jobs(Query())
            for user in ("nobody", "65534"):
                assert RemoteAnswers(service_at(str(path), user=user)).jobs(Query()) == Answers(())
        finally:
            other.kill()


def test_munge_without_the_services_user() -> None:
    """Whom the question is to be sealed for must be known."""
    service = Service(ask="127.0.0.1:1", user="no-such-user")
    with pytest.raises(ConfigError, match=r"service\.user: 'no-such-user'"):
        RemoteAnswers(service).jobs(Query())


def test_asking_loads_nothing_heavy(tmp_path: Path) -> None:
    """Neither what writes results, nor what draws; ctypes and zlib only where munge is asked."""
    code = (
        "import sys; from jobimpact.answers.remote import RemoteAnswers; from jobimpact.core.config import Service\n"
        f"try: RemoteAnswers(Service(socket={str(tmp_path / 's')!r})).details('c', 'k')\n"
        "except Exception as error: assert 'no such socket' in str(error), error\n"
        "print(*sorted(set(sys.modules) & {'sqlalchemy', 'jinja2', 'matplotlib', 'numpy', 'ctypes',"
        " 'zlib', 'urllib3', 'ssl', 'asyncio', 'argparse', 'logging'}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
