"""Questions and answers on their way: a JSON document each, framed by its length.

Fields that a later release adds have defaults and are passed over by an earlier one, so that a release works with the
one before and the one after it; the version is raised where that cannot be.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import msgspec

from jobimpact.answers.query import Answers, Details, DetailsQuery, Period, PeriodQuery, Query
from jobimpact.core.config import Config
from jobimpact.core.errors import StoreError

__all__ = [
    "MAX_REPLY",
    "MAX_REQUEST",
    "MOST_IDS",
    "PROTOCOL",
    "Ask",
    "Reply",
    "Request",
    "framed",
    "receive",
    "ruled",
    "rules_of",
    "send",
    "split_address",
    "version_trouble",
]

PROTOCOL = 1
MAX_REQUEST = 256 << 10
MAX_REPLY = 256 << 20
MOST_IDS = 1000
"""In one question: each that is not in the results is looked for in the store."""
_RULES = ("findings", "report")
HEAD = 4
"""Bytes of a frame's length, the most significant first."""

Ask = Query | PeriodQuery | DetailsQuery


class Request(msgspec.Struct, frozen=True):
    """A question."""

    version: int
    ask: Ask
    nonce: str = ""
    """Over munge: what the answer must repeat."""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the three answers, or why there is none."""

    version: int
    answers: Answers | None = None
    details: Details | None = None
    period: Period | None = None
    error: str | None = None
    """A sentence for the user."""
    kind: str | None = None
    """Of error: `store`, `unknown`, `request`, `version`, `credential`, `failed`."""
    rules: dict[str, dict[str, Any]] | None = None
    """The accounting host's sections `findings` and `report`: all hosts judge and price alike."""


class _Version(msgspec.Struct, frozen=True):
    version: int = 0


def version_trouble(body: bytes, mine: str, other: str) -> str | None:
    """Why two releases cannot talk, in a sentence; None: they can.

    Args:
        body: a request or a reply.
        mine: what this side is called, like `this host`.
        other: what the other side is called.

    Raises:
        msgspec.MsgspecError: it is neither.
    """
    found = msgspec.json.decode(body, type=_Version).version
    if abs(found - PROTOCOL) <= 1:
        return None
    older, newer = (mine, other) if found > PROTOCOL else (other, mine)
    return (
        f"jobimpact on {newer} is too new for {older} (protocols {max(found, PROTOCOL)} and {min(found, PROTOCOL)}):"
        f" update {older}"
    )


def rules_of(site: Config) -> dict[str, dict[str, Any]]:
    """What a reply tells of a configuration."""
    return {name: msgspec.to_builtins(getattr(site, name)) for name in _RULES}


def ruled(site: Config, rules: dict[str, dict[str, Any]]) -> Config:
    """A configuration with what a reply told of the accounting host's; what this release does not know is left out."""
    found = {}
    for name in set(_RULES) & set(rules):
        own = getattr(site, name)
        known = {key: value for key, value in rules[name].items() if key in own.__struct_fields__}
        try:
            found[name] = msgspec.convert(known, type(own))
        except msgspec.ValidationError:
            continue  # another release's idea of a key that this one has, too
    return msgspec.structs.replace(site, **found)


def framed(body: bytes) -> bytes:
    """A frame."""
    return len(body).to_bytes(HEAD, "big") + body


def send(sock: socket.socket, body: bytes, until_s: float) -> None:
    """Send a frame.

    Args:
        sock: connected.
        body: what goes into it.
        until_s: a deadline by `time.monotonic`.

    Raises:
        OSError: it did not go; TimeoutError: not by then.
    """
    rest = memoryview(framed(body))
    while rest:
        sock.settimeout(_left(until_s))
        rest = rest[sock.send(rest) :]


def receive(sock: socket.socket, most: int, until_s: float) -> bytes:
    """Receive a frame.

    Args:
        sock: connected.
        most: bytes in it.
        until_s: a deadline by `time.monotonic`, over all of it.

    Raises:
        EOFError: the other side closed before its end.
        OSError: it did not come; TimeoutError: not by then.
        StoreError: it is longer.
    """
    length = int.from_bytes(_read(sock, HEAD, until_s), "big")
    if length > most:
        raise StoreError(f"an answer of {length} bytes: more than {most}")
    return _read(sock, length, until_s)


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[::1]:8649` or `*:8649`, whose host is empty: all addresses."""
    host, _, port = text.rpartition(":")
    return "" if host == "*" else host.strip("[]"), int(port)


def _read(sock: socket.socket, length: int, until_s: float) -> bytes:
    # As it comes, and not room for all that the other side announces.
    found = bytearray()
    while len(found) < length:
        sock.settimeout(_left(until_s))
        some = sock.recv(min(length - len(found), 1 << 20))
        if not some:
            raise EOFError
        found += some
    return bytes(found)


def _left(until_s: float) -> float:
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
