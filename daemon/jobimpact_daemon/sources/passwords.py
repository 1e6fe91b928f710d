"""Passwords come from files: arguments stand in /proc for every user to read."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PasswordError", "password"]


class PasswordError(Exception):
    """A password's file cannot be used; the text names it."""


def password(path: str) -> str:
    """The first line of a file; read anew for each use, so that it may change.

    Raises:
        PasswordError: it cannot be read, is empty, or is not text.
    """
    try:
        line = Path(path).read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise PasswordError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if not line or "\0" in line:
        raise PasswordError(f"{path}: the first line is to be the password, and has none")
    return line
