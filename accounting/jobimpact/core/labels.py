"""What a job says that it is: names and short texts, by its comment (`--comment`) or from inside. All are hostile.

Names that reports know: `model`, `activity`, `unit` (what its functional unit is), `steps`, `data`. Any other may be
grouped by, too.
"""

from __future__ import annotations

import re

__all__ = ["KNOWN", "MAX_BYTES", "MAX_LABELS", "is_name", "is_value", "parse_comment"]

KNOWN = ("model", "activity", "unit", "steps", "data")
MAX_LABELS = 16
MAX_BYTES = 200
"""Of one value."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}", re.ASCII)
_OURS = re.compile(r"jobimpact:(\S+)")


def is_name(text: str) -> bool:
    """Whether a label or a metric may be called so."""
    return _NAME.fullmatch(text) is not None


def is_value(text: str) -> bool:
    """Whether a label may say so: printable text (no line ends, no controls, nothing invisible) of 200 bytes."""
    return bool(text.strip()) and text.isprintable() and len(text.encode(errors="surrogatepass")) <= MAX_BYTES


def parse_comment(text: str | None) -> dict[str, str]:
    """The labels of a job's comment: `jobimpact:model=resnet50,steps=90000`, anywhere in it, up to white space.

    Args:
        text: any; None: there is none.

    Returns:
        By name. What is malformed is left out; of one name the last holds; of more than 16 names the first.
    """
    found: dict[str, str] = {}
    for words in _OURS.findall(text or ""):
        for word in words.split(","):
            name, _, value = word.partition("=")
            if is_name(name) and is_value(value) and (name in found or len(found) < MAX_LABELS):
                found[name] = value
    return found
