"""The read service: one thread reads and writes for all, so that a slow client costs nobody else; some answer."""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from jobimpact.answers.wire import HEAD, MAX_REQUEST, framed
from jobimpact.core.errors import CredentialError
from jobimpact.service.desk import Desk, refusal
from jobimpact.service.doors import Door
from jobimpact.service.seal import Seal
from jobimpact.service.turns import Turns

__all__ = ["Limits", "Server"]

_LOG = logging.getLogger(__name__)
_CREDENTIAL = MAX_REQUEST * 4 // 3 + 4096
"""Bytes of a request that munge has sealed."""
_NOBODY = 0xFFFFFFFF
_PAUSE_S = 1.0
_LINE_S = 10.0
_CHUNK = 1 << 16


class Limits:
    """What the service takes on.

    Args:
        connections: open at once; of one more, the oldest that has not asked yet is closed.
        each_open: of one user; of a login node's once munge has told who that is.
        each_busy: questions of one user that are answered at once; one whose answer is not taken yet is one of them.
        threads: that answer.
        ask_s: for how long a client may take to ask.
        take_s: and to take its answer.
        end_s: for how long answers that are under way are waited for at the end.
    """

    def __init__(
        self,
        connections: int = 512,
        each_open: int = 128,
        each_busy: int = 4,
        threads: int = 16,
        ask_s: float = 5.0,
        take_s: float = 30.0,
        end_s: float = 5.0,
    ) -> None:
        self.connections = connections
        self.each_open = each_open
        self.each_busy = each_busy
        self.threads = threads
        self.ask_s = ask_s
        self.take_s = take_s
        self.end_s = end_s


class _Client:
    """One connection: it asks, waits, and takes its answer."""

    def __init__(self, sock: socket.socket, uid: int | None, until_s: float) -> None:
        self.sock = sock
        self.uid = uid
        """None: munge must tell it."""
        self.counted: int | None = uid
        """Whose it is among the open ones; None: that is not known yet."""
        self.held: int | None = None
        """Whose turn it keeps until its answer is taken."""
        self.until_s = until_s
        self.asked = bytearray()
        self.answer: deque[memoryview] = deque()

    def take(self) -> bytes | None:
        """Read what is there: the whole request, or None: it is not all there.

        Raises:
            EOFError: they hung up.
            OSError: they are gone.
            ValueError: it is longer than is taken.
        """
        some = self.sock.recv(_CHUNK)
        if not some:
            raise EOFError
        self.asked += some
        if len(self.asked) < HEAD:
            return None
        length = int.from_bytes(self.asked[:HEAD], "big")
        if length > (MAX_REQUEST if self.uid is not None else _CREDENTIAL):
            raise ValueError(length)
        if len(self.asked) < HEAD + length:
            return None
        request = bytes(self.asked[HEAD : HEAD + length])
        self.asked = bytearray()
        return request

    def give(self) -> bool:
        """Write what goes; all of it is gone now.

        Raises:
            OSError: they are gone.
        """
        while self.answer:
            sent = self.sock.send(self.answer[0][: 1 << 20])
            self.answer[0] = self.answer[0][sent:]
            if not self.answer[0]:
                self.answer.popleft()
        return not self.answer

    @property
    def hung_up(self) -> bool:
        """They wait no more."""
        try:
            return self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


class Server:
    """Answers until `stop`.

    Args:
        doors: where it listens; they are closed at the end.
        desk: gives the answers.
        seal: for doors that need munge; None: there is none.
        limits: what it takes on.
    """

    def __init__(self, doors: Sequence[Door], desk: Desk, seal: Seal | None, limits: Limits | None = None) -> None:
        self._doors = doors
        self._desk = desk
        self._seal = seal
        self._limits = limits or Limits()
        self._turns = Turns(self._limits.each_busy)
        self._selector = selectors.DefaultSelector()
        self._asking: dict[_Client, None] = {}  # the oldest first
        self._working: set[_Client] = set()
        self._taking: set[_Client] = set()
        self._by_uid: Counter[int] = Counter()
        self._answered: deque[tuple[_Client, list[bytes]]] = deque()
        self._named: deque[tuple[_Client, int, Callable[[], list[bytes]]]] = deque()
        self._waker, self._woken = socket.socketpair()
        for sock in (self._waker, self._woken):
            sock.setblocking(False)
        self._stopping = False
        self._shut_until_s = 0.0
        self._open = False
        self._said: dict[str, tuple[float, int]] = {}

    @property
    def wake_descriptor(self) -> int:
        """For `signal.set_wakeup_fd`: a byte there and the loop looks around."""
        return self._waker.fileno()

    def stop(self) -> None:
        """End soon: to be called from a signal handler or another thread."""
        self._stopping = True
        self._wake()

    def serve(self) -> None:
        """Answer until `stop` is called; then what is under way is finished."""
        self._selector.register(self._woken, selectors.EVENT_READ)
        for number in range(self._limits.threads):
            threading.Thread(target=self._turns.do_all, name=f"answers-{number}", daemon=True).start()
        try:
            while not self._stopping:
                self._mind_doors()
                self._turn(_PAUSE_S)
            self._finish()
        finally:
            self._turns.close()
            for client in [*self._asking, *self._working, *self._taking]:
                client.sock.close()
            self._selector.close()
            self._waker.close()
            self._woken.close()

    def _finish(self) -> None:
        self._close_doors()
        for door in self._doors:
            door.close()
        for client in list(self._asking):
            self._drop(client)
        until_s = time.monotonic() + self._limits.end_s
        while (self._working or self._taking) and time.monotonic() < until_s:
            self._turn(0.1)

    def _turn(self, wait_s: float) -> None:
        for key, _ in self._selector.select(wait_s):
            found = key.data
            if isinstance(found, Door):
                self._let_in(found)
            elif found is None:
                with contextlib.suppress(BlockingIOError):
                    while self._woken.recv(4096):
                        pass
            elif found in self._asking:
                self._listen_to(found)
            elif found in self._taking:
                self._hand_out(found)
        while self._named:
            self._let_wait(*self._named.popleft())
        while self._answered:
            self._answer_is_there(*self._answered.popleft())
        now_s = time.monotonic()
        for client in [one for one in (*self._asking, *self._taking) if one.until_s < now_s]:
            self._drop(client)

    def _mind_doors(self) -> None:
        room = len(self._asking) + len(self._working) + len(self._taking) < self._limits.connections
        wanted = time.monotonic() >= self._shut_until_s and (room or bool(self._asking))
        if wanted and not self._open:
            for door in self._doors:
                self._selector.register(door.sock, selectors.EVENT_READ, door)
            self._open = True
        elif not wanted:
            self._close_doors()

    def _close_doors(self) -> None:
        if self._open:
            for door in self._doors:
                self._selector.unregister(door.sock)
            self._open = False

    def _let_in(self, door: Door) -> None:
        try:
            sock, _ = door.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return  # who was there is gone
        except OSError as error:
            self._warn(f"{door.name}: {error.strerror}")
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                self._shut_until_s = time.monotonic() + _PAUSE_S
                self._close_doors()
            return
        sock.setblocking(False)
        uid = _peer(sock) if door.local else None
        if uid == _NOBODY or (uid is not None and self._by_uid[uid] >= self._limits.each_open):
            sock.close()
            self._warn(f"uid {uid}: too many connections")
            return
        if len(self._asking) + len(self._working) + len(self._taking) >= self._limits.connections:
            if not self._asking:
                sock.close()  # another door's turn came first
                return
            self._drop(next(iter(self._asking)))
        client = _Client(sock, uid, time.monotonic() + self._limits.ask_s)
        if uid is not None:
            self._by_uid[uid] += 1
        self._asking[client] = None
        self._selector.register(sock, selectors.EVENT_READ, client)

    def _listen_to(self, client: _Client) -> None:
        try:
            request = client.take()
        except ValueError as error:
            self._warn(f"{_name(client)}: a request of {error} bytes")
            if client.uid is None:
                return self._drop(client)  # whom munge has not named is told nothing
            self._asked(client)
            return self._answer_is_there(client, [refusal("request", f"a question of {error} bytes is too long")])
        except BlockingIOError:
            return None
        except (OSError, EOFError):
            return self._drop(client)
        if request is None:
            return None
        self._asked(client)
        if client.uid is not None:
            uid = client.uid
            return self._turns.put(uid, lambda: self._work(client, uid, lambda: [self._desk.answer(uid, request)]))
        # As one more user: a munge daemon that hangs keeps some threads, and the others answer this host's users.
        return self._turns.put("munge", lambda: self._unseal(client, request))

    def _asked(self, client: _Client) -> None:
        del self._asking[client]
        self._working.add(client)
        self._selector.unregister(client.sock)

    def _unseal(self, client: _Client, credential: bytes) -> None:
        """In a thread: open a credential, and let its maker wait for their turn."""
        seal = self._seal
        if seal is None:
            return self._done(client, [])
        try:
            found = seal.open(credential)
        except CredentialError as error:
            self._warn(f"{_name(client)}: {error}")
            return self._done(client, [])
        except Exception:
            self._done(client, [])
            raise
        if found.stale is not None:
            self._warn(f"{_name(client)}: {found.stale}")

        def answer() -> list[bytes]:
            body = (
                self._desk.answer(found.uid, found.body) if found.stale is None else refusal("credential", found.stale)
            )
            return seal.close(found, body)

        self._named.append((client, found.uid, answer))
        return self._wake()

    def _let_wait(self, client: _Client, uid: int, answer: Callable[[], list[bytes]]) -> None:
        """One whom munge has named waits for their turn, with as many connections as a user of this host."""
        if self._by_uid[uid] >= self._limits.each_open:
            self._warn(f"uid {uid}: too many connections")
            return self._answer_is_there(client, [])
        self._by_uid[uid] += 1
        client.counted = uid
        return self._turns.put(uid, lambda: self._work(client, uid, answer))

    def _work(self, client: _Client, uid: int, answer: Callable[[], list[bytes]]) -> None:
        """In a thread: answer, unless nobody waits for it any more."""
        frames: list[bytes] = []
        try:
            if not client.hung_up:
                frames = answer()
        except CredentialError as error:
            self._warn(f"{_name(client)}: {error}")
        finally:
            # Answers that nobody takes are in memory: of one user there are no more of them than turns.
            self._turns.hold(uid)
            client.held = uid
            self._done(client, frames)

    def _done(self, client: _Client, frames: list[bytes]) -> None:
        self._answered.append((client, frames))
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake; closed: it has ended
            self._waker.send(b"\0")

    def _answer_is_there(self, client: _Client, frames: Iterable[bytes]) -> None:
        self._working.discard(client)
        self._taking.add(client)
        client.answer.extend(memoryview(framed(one)) for one in frames)
        client.until_s = time.monotonic() + self._limits.take_s
        self._selector.register(client.sock, selectors.EVENT_WRITE, client)
        self._hand_out(client)

    def _hand_out(self, client: _Client) -> None:
        try:
            if client.give():
                self._drop(client)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        self._asking.pop(client, None)
        self._taking.discard(client)
        self._selector.unregister(client.sock)
        client.sock.close()
        if client.held is not None:
            self._turns.let_go(client.held)
        if client.counted is not None:
            self._by_uid[client.counted] -= 1
            if not self._by_uid[client.counted]:
                del self._by_uid[client.counted]

    def _warn(self, words: str) -> None:
        """Log, but not the same for each connection of a flood."""
        now_s = time.monotonic()
        at_s, more = self._said.get(words, (-_LINE_S, 0))
        if now_s - at_s < _LINE_S:
            self._said[words] = (at_s, more + 1)
            return
        if len(self._said) > 1000:
            self._said.clear()
        self._said[words] = (now_s, 0)
        _LOG.warning("%s%s", words, f" (and {more} times more)" if more else "")


def _peer(sock: socket.socket) -> int:
    """The uid of the process that connected, by the kernel's word."""
    return int(struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])


def _host(sock: socket.socket) -> str:
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return "gone"


def _name(client: _Client) -> str:
    return _host(client.sock) if client.uid is None else f"uid {client.uid}"
