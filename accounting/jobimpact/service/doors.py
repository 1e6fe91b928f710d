"""The sockets that the service listens on, made here or handed over by systemd."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import MutableMapping
from pathlib import Path

import msgspec

from jobimpact.answers.wire import split_address
from jobimpact.core.errors import BusyError, ConfigError

__all__ = ["Door", "handed_over", "open_socket", "open_tcp", "tell_systemd"]

_FIRST = 3
_BACKLOG = 1024


class Door(msgspec.Struct, frozen=True):
    """A listening socket."""

    sock: socket.socket
    name: str
    """For messages."""
    made: str | None = None
    """A path to take away at the end."""

    @property
    def local(self) -> bool:
        """The kernel tells who asks; else munge must."""
        return self.sock.family == socket.AF_UNIX

    def close(self) -> None:
        """Listen no more."""
        if self.made is not None:
            Path(self.made).unlink(missing_ok=True)
        self.sock.close()


def handed_over(environment: MutableMapping[str, str]) -> list[Door]:
    """The sockets that systemd passes by `LISTEN_FDS`, which are taken out of the environment.

    Raises:
        ConfigError: one is none to listen on.
    """
    mine = environment.pop("LISTEN_PID", "") == str(os.getpid())
    count = environment.pop("LISTEN_FDS", "0")
    environment.pop("LISTEN_FDNAMES", None)
    doors = []
    for fd in range(_FIRST, _FIRST + (int(count) if mine and count.isdigit() else 0)):
        os.set_inheritable(fd, False)
        try:
            sock = socket.socket(fileno=fd)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ConfigError(f"descriptor {fd} of systemd: {error.strerror}") from error
        if not listens or sock.family not in {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}:
            raise ConfigError(f"descriptor {fd} of systemd: not a stream socket that listens: Accept=no is needed")
        sock.setblocking(False)
        name = sock.getsockname()
        doors.append(Door(sock, str(name if sock.family == socket.AF_UNIX else f"{name[0]}:{name[1]}")))
    return doors


def open_socket(path: str) -> Door:
    """Listen for users of this host.

    Raises:
        BusyError: somebody listens there already.
        ConfigError: it cannot be made, or its folder is not safe.
    """
    _check_folder(Path(path))
    sock = socket.socket(socket.AF_UNIX)
    try:
        _clear(Path(path))
        sock.bind(path)
        Path(path).chmod(0o666)  # who asks is told by the kernel, whoever may connect
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(f"service.socket: {path}: {error.strerror or error}") from error
    except BusyError:
        sock.close()
        raise
    sock.setblocking(False)
    return Door(sock, path, path)


def open_tcp(address: str) -> Door:
    """Listen for login nodes.

    Args:
        address: `host:port`; `*` for all addresses.

    Raises:
        ConfigError: it cannot be listened on.
    """
    host, port = split_address(address)
    both = host == "" and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"service.listen: {address}: {getattr(error, 'strerror', None) or error}") from error
    sock.setblocking(False)
    return Door(sock, address)


def tell_systemd(words: str, environment: MutableMapping[str, str]) -> None:
    """Send `READY=1` or the like where `NOTIFY_SOCKET` says; elsewhere nothing."""
    path = environment.get("NOTIFY_SOCKET")
    if not path:
        return
    where = f"\0{path[1:]}" if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(words.encode(), where)
        except OSError:
            return  # it asked to be told, and is not there


def _check_folder(path: Path) -> None:
    """Nobody else may put a socket of theirs in its place."""
    for number, folder in enumerate(path.parents):
        try:
            found = folder.stat()
        except OSError as error:
            raise ConfigError(f"service.socket: {folder}: {error.strerror}") from error
        open_to_all = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (number and found.st_mode & stat.S_ISVTX)
        if open_to_all or found.st_uid not in {0, os.geteuid()}:
            raise ConfigError(
                f"service.socket: {folder}: others than root may write there, and stand in for the service"
            )


def _clear(path: Path) -> None:
    """Take away what a service that was killed has left."""
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(1.0)
        try:
            other.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            if path.is_socket():
                path.unlink()
            return
        except BlockingIOError:
            pass  # it listens, and has much to do
    raise BusyError(f"{path}: another service answers there already")
