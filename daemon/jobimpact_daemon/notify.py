"""Words to systemd, where it has started the daemon: ready, alive, and in one line how it is."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

from jobimpact.core.units import NS

__all__ = ["Notifier"]


class Notifier:
    """systemd's notification socket; without one, nothing is said.

    Args:
        environment: where systemd tells the socket and how often it wants to hear that all is well.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        usec = environment.get("WATCHDOG_USEC", "")
        # Twice within the time after which systemd kills, as its manual advises.
        self._every_ns = int(usec) * 500 if usec.isdecimal() else 10 * NS
        self._told_ns: int | None = None

    def alive(self, now_ns: int, status: Callable[[], str]) -> None:
        """The loop has come round: tell it, and at the first time that the daemon is ready.

        Args:
            now_ns: boot time.
            status: how it is, in one line; asked only if it is told.
        """
        if not self._address or (self._told_ns is not None and now_ns - self._told_ns < self._every_ns):
            return
        first = "READY=1\n" if self._told_ns is None else ""
        self._told_ns = now_ns
        self._send(f"{first}WATCHDOG=1\nSTATUS={status()}")

    def stopping(self) -> None:
        """The last readings are taken."""
        if self._address:
            self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as one:
                one.sendto(text.encode(), self._address)
        except OSError:
            return  # systemd is restarting; it hears the next word
