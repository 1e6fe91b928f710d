"""The socket where jobs tell how far they are: anybody on the node may write to it, as fast and as badly as they like.

A thread of its own takes each datagram, with the kernel's word of who sent it, and looks at once in which cgroup the
sender is: it may be gone a moment later. It reads so many in a second and no more; beyond, the kernel lets the senders
wait. The clock loop takes what has come at its next tick, and only then is anything believed.
"""

from __future__ import annotations

import array
import errno
import logging
import os
import socket
import stat
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from jobimpact.core.errors import ProgressError
from jobimpact.core.progress import MAX_DATAGRAM, Said, decode
from jobimpact_daemon.jobs.processes import cgroup_paths

__all__ = ["ProgressSocket", "Received"]

log = logging.getLogger(__name__)

RATE = 250
"""Datagrams in a second: flooded, the thread uses a percent of a core or two."""
BURST = 250
PAUSE_S = 0.1
KEPT = 512
"""Datagrams that wait for the clock loop; of more the oldest go."""
_CREDENTIALS = struct.Struct("iII")
_ROOM = socket.CMSG_SPACE(_CREDENTIALS.size)
"""For the sender's credentials and nothing else: the kernel closes files that somebody sends along."""


class Received(msgspec.Struct, frozen=True):
    """One datagram, and what the kernel says of its sender."""

    wall_s: float
    uid: int
    cgroups: tuple[tuple[int, str], ...]
    """Its cgroups, version and path; none: it was gone already."""
    sid: int | None
    said: Said


class ProgressSocket:
    """The socket and its thread.

    Args:
        path: where it lies; its folder must be there.
        processes: the /proc of the senders.
        wall_s: the wall clock, in epoch seconds.
    """

    def __init__(self, path: Path, processes: Path, wall_s: Callable[[], float] = time.time) -> None:
        self._path = path
        self._processes = processes
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._found: deque[Received] = deque()
        self._dropped: dict[str, tuple[int, int]] = {}
        self._socket: socket.socket | None = None
        self._inode: int | None = None
        self._thread: threading.Thread | None = None
        self.problem: str | None = None
        """Why jobs cannot tell anything; None: they can."""
        self.mend()

    def mend(self) -> None:
        """Listen, if that is not so yet, the socket was removed or its thread ended: called from time to time."""
        listens = self._thread is not None and self._thread.is_alive()
        if self._socket is not None and listens and self._inode == _inode(self._path):
            return
        self._leave()
        try:
            self._socket = _bound(self._path)
        except OSError as error:
            problem = f"{self._path}: {error.strerror or error}"
            if problem != self.problem:
                log.info("%s: jobs cannot tell how far they are", problem)
            self.problem = problem
            return
        self.problem, self._inode = None, _inode(self._path)
        self._thread = threading.Thread(target=self._work, args=(self._socket,), name="progress", daemon=True)
        self._thread.start()

    def take(self) -> tuple[list[Received], dict[str, tuple[int, int]]]:
        """What has come since the last time; and by reason how many were dropped, with the last one's uid."""
        with self._lock:
            found, self._found = list(self._found), deque()
            dropped, self._dropped = self._dropped, {}
        return found, dropped

    def close(self) -> None:
        """Remove the socket, where it is still ours."""
        if self._socket is not None and self._inode == _inode(self._path):
            self._path.unlink(missing_ok=True)
        self._leave()

    def _leave(self) -> None:
        """The thread ends with its socket."""
        old, self._socket = self._socket, None
        if old is not None:
            try:
                old.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                log.debug("%s: %s", self._path, error)

    # -- on the thread ---------------------------------------------------------------------------------------------

    def _work(self, source: socket.socket) -> None:
        left, since = float(BURST), time.monotonic()
        with source:
            while self._socket is source:
                try:
                    data, extra, flags, _ = source.recvmsg(MAX_DATAGRAM + 1, _ROOM)
                except OSError as error:
                    if error.errno == errno.EINTR:
                        continue
                    log.warning("%s: %s", self._path, error)
                    return
                sender = _sender(extra)
                if sender is not None:
                    self._receive(data, *sender, whole=not flags & socket.MSG_TRUNC)
                now = time.monotonic()
                left, since = min(float(BURST), left + (now - since) * RATE) - 1, now
                if left < 1:
                    time.sleep(PAUSE_S)

    def _receive(self, data: bytes, pid: int, uid: int, *, whole: bool) -> None:
        cgroups, sid = tuple(cgroup_paths(self._processes, pid)), _session(pid)
        try:
            said = decode(data) if whole else None
        except ProgressError:
            said = None
        with self._lock:
            if said is None:
                self._drop("not what `jobimpact progress` writes", uid)
                return
            if len(self._found) >= KEPT:
                self._drop("more than can be taken", self._found.popleft().uid)
            self._found.append(Received(self._wall_s(), uid, cgroups, sid, said))

    def _drop(self, why: str, uid: int) -> None:
        self._dropped[why] = self._dropped.get(why, (0, 0))[0] + 1, uid


def _bound(path: Path) -> socket.socket:
    """A socket at a path, to which everybody may write.

    Raises:
        OSError: it cannot be made, or another daemon listens there.
    """
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        _clear(path)
        found.bind(str(path))
        path.chmod(0o666)
    except OSError:
        found.close()
        raise
    return found


def _clear(path: Path) -> None:
    """What a killed daemon left is in the way; a socket at which somebody listens is not ours to take."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "there is something else in its place")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as other:
        other.setblocking(False)
        try:
            other.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another daemon listens there")


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _sender(extra: list[tuple[int, int, bytes]]) -> tuple[int, int] | None:
    """The process id and uid that the kernel vouches for; None: at its end, a socket gives nothing at all."""
    found = None
    for level, kind, data in extra:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= _CREDENTIALS.size:
            pid, uid, _ = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
            found = pid, uid
        elif kind == socket.SCM_RIGHTS:
            files = array.array("i", data[: len(data) - len(data) % 4])
            for file in files:
                os.close(file)
    return found


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid) if pid > 0 else None
    except OSError:
        return None
