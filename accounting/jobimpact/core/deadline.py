"""A deadline over a whole request: a socket's own timeout starts anew with each byte that drips in."""

from __future__ import annotations

import socket
import threading
import time

__all__ = ["Deadline"]


class Deadline:
    """Ends a connection at a time; used with `with`.

    Args:
        sock: the connection's; None: it has none.
        until: by `time.monotonic`.

    Raises:
        TimeoutError: on entering: it is over already, or there is no socket.
    """

    def __init__(self, sock: socket.socket | None, until: float) -> None:
        self._sock = sock
        self._until = until
        self._timer: threading.Timer | None = None

    def __enter__(self) -> None:
        left_s = self._until - time.monotonic()
        if left_s <= 0 or self._sock is None:
            raise TimeoutError
        self._timer = threading.Timer(left_s, _shut, [self._sock])
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _shut(sock: socket.socket) -> None:
    try:
        # A TLS socket's own method would also take its session away from the thread that is reading from it.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already
