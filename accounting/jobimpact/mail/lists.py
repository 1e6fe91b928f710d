"""The files that admins keep: who wants no mail, on which days none go, who has which address.

Each is read anew every night. One that is named and cannot be read is an error: with it, nothing is sent to users.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from jobimpact.core.errors import ConfigError

__all__ = ["is_address", "local_part_trouble", "read_holidays", "read_map", "read_opt_out"]

# RFC 5321's dot-string and domain, in ASCII: what every server takes.
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*@{_LABEL}(?:\.{_LABEL})*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+-]*(?:\.[A-Za-z0-9_+-]+)*")


def is_address(text: str) -> bool:
    """Whether mail can be sent there: ASCII, no quotes, no comments, nothing that could be a second address."""
    return len(text) <= 254 and len(text.partition("@")[0]) <= 64 and _ADDRESS.fullmatch(text) is not None


def local_part_trouble(user: str) -> str | None:
    """Why a user's name cannot stand before an @; None: it can."""
    if user.isascii() and user.isdigit():
        return "a number, not a name: the scheduler does not know who that was"
    if len(user) > 64 or not _NAME.fullmatch(user):
        return "the name cannot stand in an address"
    return None


def read_opt_out(path: str | None) -> frozenset[str]:
    """Users who want no mail, one a line.

    Raises:
        ConfigError: names file and line.
    """
    return frozenset(line for _, line in _lines(path, "mail.opt_out_file"))


def read_holidays(path: str | None) -> frozenset[date]:
    """Days like `2026-12-25`, one a line.

    Raises:
        ConfigError: names file and line.
    """
    found = set()
    for number, line in _lines(path, "mail.holidays_file"):
        try:
            found.add(date.fromisoformat(line))
        except ValueError as error:
            raise ConfigError(f"{path}: line {number}: {line!r:.60}: not a day like 2026-12-25") from error
    return frozenset(found)


def read_map(path: str | None) -> dict[str, str]:
    """Lines `user: address`.

    Raises:
        ConfigError: names file and line.
    """
    found: dict[str, str] = {}
    for number, line in _lines(path, "mail.addresses.map_file"):
        user, colon, address = (part.strip() for part in line.rpartition(":"))
        if not colon or not user:
            raise ConfigError(f"{path}: line {number}: {line!r:.60}: not like `user: address`")
        if not is_address(address):
            raise ConfigError(f"{path}: line {number}: {address!r:.60}: not a mail address")
        if user in found:
            raise ConfigError(f"{path}: line {number}: user {user!r:.60} twice")
        found[user] = address
    return found


def _lines(path: str | None, key: str) -> Iterator[tuple[int, str]]:
    """What stands on each line, comments and empty lines left out."""
    if path is None:
        return
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path} ({key}): {error.strerror}") from error
    for number, line in enumerate(text.split("\n"), 1):
        # A comment begins the line or stands after a blank: an address may have a # in it.
        plain = re.sub(r"(^|\s)#.*", "", line).strip()
        if plain:
            yield number, plain
