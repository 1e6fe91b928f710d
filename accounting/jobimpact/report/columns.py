"""Texts by the columns that they take on a screen: some characters take two, and marks on others none. Pure."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator

__all__ = ["cut", "fitted", "width_of", "wrap"]

_MORE = "..."
_MARKS = frozenset({"Mn", "Me"})


def width_of(text: str) -> int:
    """How many columns a clean text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.category(char) in _MARKS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """As much of a text as so many columns take, its blanks single; what was cut ends with `...`.

    Marks take no column, and may be without end: there are no more characters than two a column.
    """
    plain = " ".join(text.split())
    if width_of(plain) <= width and len(plain) <= 2 * width:
        return plain
    return f"{_head(plain, width - len(_MORE))[: 2 * width - len(_MORE)].rstrip()}{_MORE}"


def fitted(text: str, width: int) -> str:
    """So many columns of a text, padded or cut; wide characters take two, marks that go onto others none."""
    shown = cut(text, width) if width > 6 else cut(text, width + 3).removesuffix("...")
    return shown + " " * (width - width_of(shown))


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most so many columns; none of no text.

    Args:
        text: clean.
        width: of a line with its indent.
        first: the indent of the first line, of single columns; so is `rest`, of the others.
        rest: see `first`.
    """
    if width_of(text) == len(text):
        return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest)
    lines: list[str] = []
    line, indent = "", first
    # Blanks of no line's end stay what they are.
    for word in _words(text, width - max(len(first), len(rest))):
        more = f"{line} {word}" if line else word
        if line and width_of(more) > width - len(indent):
            lines.append(f"{indent}{line}")
            line, indent = word, rest
        else:
            line = more
    return [*lines, f"{indent}{line}"] if line else lines


def _words(text: str, width: int) -> Iterator[str]:
    """Words, the ones that no line can bear in pieces."""
    for word in filter(None, text.split(" ")):
        left = word
        while width_of(left) > width:
            piece = _head(left, width)
            yield piece
            left = left[len(piece) :]
        if left:
            yield left


def _head(text: str, width: int) -> str:
    """The first characters, of at most so many columns, with all their marks; one at least."""
    taken = 0
    for at, char in enumerate(text):
        taken += _columns(char)
        if taken > width and at:
            return text[:at]
    return text
