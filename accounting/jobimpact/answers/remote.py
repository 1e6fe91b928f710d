"""Answers of the read service: over its socket on this host, or from a login node over TCP with munge."""

from __future__ import annotations

import os
import pwd
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from jobimpact.answers.query import Answers, Details, DetailsQuery, Period, PeriodQuery, Query
from jobimpact.answers.wire import (
    MAX_REPLY,
    MAX_REQUEST,
    MOST_IDS,
    PROTOCOL,
    Ask,
    Reply,
    Request,
    receive,
    ruled,
    send,
    split_address,
    version_trouble,
)
from jobimpact.core.config import Config, Service
from jobimpact.core.errors import ConfigError, CredentialError, StoreError, UnknownError

__all__ = ["RemoteAnswers", "uid_of"]

_HERE, _THERE = "this host", "the accounting host"
_MAX_FRAME = 1 << 20
_PAUSE_S = 0.02

T = TypeVar("T")


class RemoteAnswers:
    """Asks the read service, one connection a question.

    Args:
        service: where it is: `ask`, else `socket`.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._where = service.ask or service.socket
        self._rules: dict[str, dict[str, Any]] | None = None

    def jobs(self, query: Query) -> Answers:
        """Jobs, as far as the asker may see them; of very many ids in as many questions as they take.

        Raises:
            ConfigError: munge is needed and not installed, or the service's user is not known.
            StoreError: the service is not there, or does not answer.
        """
        found = [self._said(self._ask(one).answers) for one in _cut(query)]
        groups = tuple(group for one in found for group in one.groups)
        return Answers(groups, nothing_yet=all(one.nothing_yet for one in found))

    def details(self, cluster: str, key: str) -> Details:
        """Power over time and progress of an incarnation.

        Raises:
            ConfigError, StoreError: as `jobs`.
        """
        return self._said(self._ask(DetailsQuery(cluster, key)).details)

    def period(self, query: PeriodQuery) -> Period:
        """A time of a user, a lab or a cluster.

        Raises:
            ConfigError, StoreError: as `jobs`.
            UnknownError: it is not theirs to see, or not there.
        """
        return self._said(self._ask(query).period)

    def site(self, site: Config) -> Config:
        """The configuration with the thresholds, prices and words of the accounting host, as far as it told them."""
        return site if self._rules is None else ruled(site, self._rules)

    def close(self) -> None:
        """Nothing is kept open."""

    def _said(self, found: T | None) -> T:
        if found is None:
            raise StoreError(f"{self._where}: an answer to another question")
        return found

    def _ask(self, ask: Ask) -> Reply:
        until_s = time.monotonic() + self._service.timeout_s
        try:
            body = self._over_munge(ask, until_s) if self._service.ask else self._over_socket(ask, until_s)
            trouble = version_trouble(body, _HERE, _THERE)
            reply = msgspec.json.decode(body, type=Reply) if trouble is None else None
        except TimeoutError as error:
            munge = ", or the munge daemon of this host hangs" if self._service.ask else ""
            raise StoreError(f"{self._where}: no answer within {self._service.timeout_s:g} s{munge}") from error
        except msgspec.MsgspecError as error:
            raise StoreError(f"{self._where}: an answer that is none of jobimpact's: {error}") from error
        except CredentialError as error:
            raise StoreError(f"{self._where}: {error}") from error
        if reply is None:
            raise StoreError(str(trouble))
        if reply.error is not None:
            raise (UnknownError if reply.kind == "unknown" else StoreError)(reply.error)
        self._rules = reply.rules or self._rules
        return reply

    def _over_socket(self, ask: Ask, until_s: float) -> bytes:
        path = self._service.socket
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                _connect(sock, path, until_s)
                self._check_server(sock)
                send(sock, _encoded(Request(PROTOCOL, ask)), until_s)
                return receive(sock, MAX_REPLY, until_s)
            except TimeoutError:
                raise
            except (OSError, EOFError) as error:
                self._explain(error)

    def _check_server(self, sock: socket.socket) -> None:
        """Whoever can put a socket there could tell anything: the kernel says who listens."""
        uid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in {0, os.geteuid()} and uid != uid_of(self._service.user):
            raise StoreError(
                f"{self._where}: uid {uid} listens there, and neither root nor service.user ({self._service.user})"
            )

    def _over_munge(self, ask: Ask, until_s: float) -> bytes:
        from jobimpact.answers.munge import (
            Munge,
            stale_trouble,
        )  # ctypes and zlib are only loaded where they are needed
        from jobimpact.answers.parts import Joined

        server = uid_of(self._service.user)
        if server is None:
            raise ConfigError(
                f"service.user: {self._service.user!r}: no such user on this host; give the number that they have on"
                " the accounting host"
            )
        munge = Munge(self._service.munge_socket)
        nonce = os.urandom(16).hex()
        body = _encoded(Request(PROTOCOL, ask, nonce))
        credential = _by_then(until_s, lambda: munge.seal(body, server))
        joined = Joined(nonce, MAX_REPLY)
        try:
            address = split_address(str(self._service.ask))
            with socket.create_connection(address, timeout=max(until_s - time.monotonic(), 0.001)) as sock:
                send(sock, credential, until_s)
                while not joined.whole:
                    sealed = receive(sock, _MAX_FRAME, until_s)
                    opened = _by_then(until_s, partial(munge.open, sealed))
                    if opened.uid != server:
                        raise CredentialError(f"munge: uid {opened.uid} answers, not service.user ({server})")
                    if opened.stale is not None:
                        raise CredentialError(stale_trouble(opened, _HERE, _THERE))
                    joined.add(opened.payload)
        except TimeoutError:
            raise
        except (OSError, EOFError) as error:
            self._explain(error)
        return joined.body

    def _explain(self, error: OSError | EOFError) -> NoReturn:
        """Say why there is no answer.

        Raises:
            StoreError: always.
        """
        if not isinstance(error, (EOFError, ConnectionResetError, BrokenPipeError)):
            why = f"{error.strerror or error}: does `jobimpact serve` run there?"
            if self._service.ask is None and not Path(self._where).exists():
                why = "no such socket: `jobimpact serve` does not run on this host, and service.ask names no other"
        elif self._service.ask is None:
            why = "closed without an answer: it is being stopped, or has too many questions of yours"
        else:
            why = "closed without an answer: it may not know munge's key or service.user of this host; its log says"
        raise StoreError(f"{self._where}: {why}") from error


def _cut(query: Query) -> list[Query]:
    """A question in parts that are taken."""
    ids = query.ids
    starts = range(0, len(ids), MOST_IDS) if len(ids) > MOST_IDS else [0]
    return [msgspec.structs.replace(query, ids=ids[at : at + MOST_IDS]) for at in starts]


def _encoded(request: Request) -> bytes:
    body = msgspec.json.encode(request)
    if len(body) > MAX_REQUEST:
        raise StoreError(f"a question of {len(body)} bytes, and {MAX_REQUEST} are taken: ask for fewer jobs at once")
    return body


def _connect(sock: socket.socket, path: str, until_s: float) -> None:
    """Connect; where many wait to be let in, wait as well.

    Raises:
        OSError: nobody is there; TimeoutError: the deadline is over.
    """
    while True:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        sock.settimeout(left_s)
        try:
            return sock.connect(path)
        except BlockingIOError:
            time.sleep(min(_PAUSE_S, left_s))


def _by_then(until_s: float, work: Callable[[], T]) -> T:
    """Do what may hang by itself: libmunge waits ten seconds for a munge daemon that does not answer.

    Raises:
        TimeoutError: it is not done by then.
    """
    from threading import Thread

    done: list[T] = []
    failed: list[CredentialError] = []

    def run() -> None:
        try:
            done.append(work())
        except CredentialError as error:
            failed.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(until_s - time.monotonic(), 0.0))
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError
    return done[0]


def uid_of(user: str) -> int | None:
    """The uid of a name, or of digits; None: there is no such user."""
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
