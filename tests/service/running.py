"""The read service in a thread, with answers from a list, and clients that do what they should not."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.accounting.world import T0, record

from jobimpact.answers.access import WhoIs, may_see
from jobimpact.answers.query import Answerer, Answers, Details, Group, Period, PeriodQuery, Query, Sums, Who
from jobimpact.answers.wire import PROTOCOL, Ask, Reply, Request, framed
from jobimpact.core.config import Config, Service
from jobimpact.core.errors import StoreError
from jobimpact.core.records import Profile, Progress
from jobimpact.results.record import JobResult
from jobimpact.service.desk import Desk
from jobimpact.service.doors import Door, open_socket
from jobimpact.service.seal import Seal
from jobimpact.service.server import Limits, Server

__all__ = [
    "ENOUGH_S",
    "List",
    "ask_raw",
    "connected",
    "no_sums",
    "received",
    "result",
    "running",
    "service_at",
    "until",
]

ENOUGH_S = 120.0
"""For anything that must come: the machine may be slow and busy."""


def result(job: str = "1", **changes: Any) -> JobResult:
    """A job's row."""
    found = {"energy": {"nodes": {}}, "impacts": {}, "factors": {}, "inventory": {}}
    return JobResult.of(record(job, **changes), energy_j=5.0, coverage=1.0, warnings=(), **found)


def no_sums() -> Sums:
    """Of nothing."""
    return Sums(0, 0, 0, 0, None, 0.0, None, 0.0, 0.0, 0.0, {})


class List:
    """Answers from a list of jobs, for one asker.

    Args:
        who: asks.
        jobs: of everybody.
        first: done before each answer.
    """

    def __init__(self, who: Who, jobs: Sequence[JobResult], first: Callable[[Who], None] | None = None) -> None:
        self._who, self._jobs, self._first = who, jobs, first

    def jobs(self, query: Query) -> Answers:
        """Those asked for that are theirs."""
        if self._first:
            self._first(self._who)
        theirs = [one for one in self._jobs if may_see(self._who, one)]
        return Answers(tuple(Group(asked, tuple(j for j in theirs if j.job_id == asked)) for asked in query.ids))

    def details(self, cluster: str, key: str) -> Details:
        """Of one that is theirs."""
        if not any((one.cluster, one.key) == (cluster, key) and may_see(self._who, one) for one in self._jobs):
            return Details()
        return Details(Profile(T0, (0.0, 1.0), {"cpu": (2.5,)}), (Progress(T0, 1, {"acc": 0.5}, 7),))

    def period(self, query: PeriodQuery) -> Period:
        """Of oneself, and empty."""
        if query.name != self._who.name:
            raise StoreError("not there, or not yours")
        return Period(query, no_sums())

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def running(
    folder: Path,
    jobs: Sequence[JobResult] = (),
    config: Config | None = None,
    limits: Limits | None = None,
    answers_for: Callable[[Who], Answerer] | None = None,
    doors: Sequence[Door] | None = None,
    seal: Seal | None = None,
) -> Iterator[Service]:
    """The service, listening in a folder; gives what a client needs to know of it."""
    path = str(folder / "answers.sock")
    desk = Desk(WhoIs(config or Config()), answers_for or (lambda who: List(who, jobs)))
    server = Server([open_socket(path)] if doors is None else doors, desk, seal, limits)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield service_at(path)
    finally:
        server.stop()
        thread.join(ENOUGH_S)
    assert not thread.is_alive()


def service_at(path: str, **more: Any) -> Service:
    """Where to ask, with patience."""
    return Service(socket=path, **{"timeout_s": ENOUGH_S} | more)


def connected(service: Service) -> socket.socket:
    """A connection that has said nothing yet."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(ENOUGH_S)
    until(lambda: _connects(sock, service.socket))
    return sock


def _connects(sock: socket.socket, path: str) -> bool:
    try:
        sock.connect(path)
    except BlockingIOError:
        return False
    return True


def ask_raw(service: Service, ask: Ask | bytes) -> Reply:
    """Ask with any bytes, in a frame."""
    body = ask if isinstance(ask, bytes) else msgspec.json.encode(Request(PROTOCOL, ask))
    with connected(service) as sock:
        sock.sendall(framed(body))
        return msgspec.json.decode(received(sock)[4:], type=Reply)


def received(sock: socket.socket) -> bytes:
    """All that comes until they close; a reset is a close."""
    found = b""
    try:
        while some := sock.recv(1 << 16):
            found += some
    except ConnectionResetError:
        pass
    return found


def until(done: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + ENOUGH_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def me() -> str:
    """The name by which this process asks."""
    return WhoIs(Config())(os.geteuid()).name


def header(length: int) -> bytes:
    """A frame's, whatever comes after it."""
    return struct.pack(">I", length)
