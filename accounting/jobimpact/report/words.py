"""Small pieces of text that all reports share. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

__all__ = ["clean", "count", "listed", "moment", "some"]

_ESCAPES = r"(?s)\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|\Z)|.)"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean(text: str) -> str:
    """Users' text without escape sequences, control characters and what turns the writing's direction."""
    plain = text.replace("\n", " ").replace("\t", " ")
    if "\x1b" in plain:  # rare, and the pattern takes longer to compile than an answer to print
        plain = re.sub(_ESCAPES, "", plain)
    return "".join(char for char in plain if unicodedata.category(char) not in _HIDDEN)


def count(number: int | None, what: str) -> str:
    """4 and `CPU` as `4 CPUs`; empty of none, or where it is not known."""
    return "" if not number else f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(words: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def some(names: tuple[str, ...], shown: int = 4) -> str:
    """The first few of them, clean, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(clean, names[:shown])) + more


def moment(at_s: float) -> str:
    """Epoch seconds as `2026-11-20 14:00:05`, UTC."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}"
