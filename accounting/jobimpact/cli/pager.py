"""A long answer on a terminal, by the user's pager."""

from __future__ import annotations

import os
import sys

__all__ = ["put", "width"]

_DEFAULT = "less -FRX"


def put(text: str, *, paged: bool = True) -> None:
    """Print, by $PAGER where standard output is a terminal with fewer lines than the text.

    Args:
        text: ends with a newline.
        paged: a pager may be used.
    """
    lines = _size()[1]
    if paged and lines and text.count("\n") >= lines and _paged(text):
        return
    sys.stdout.write(text)


def width() -> int:
    """Columns of the terminal, at least 80; 80 where standard output is none."""
    return max(_size()[0], 80)


def _size() -> tuple[int, int]:
    """Columns and lines; 0 where standard output is no terminal."""
    try:
        if not sys.stdout.isatty():
            return 0, 0
        size = os.get_terminal_size(sys.stdout.fileno())  # shutil's loads compression libraries
    except (OSError, ValueError):
        return 0, 0
    return size.columns, size.lines


def _paged(text: str) -> bool:
    """Whether the pager showed it; one that cannot be started, or was killed, has not."""
    import shlex
    import subprocess

    try:
        command = shlex.split(os.environ.get("PAGER") or _DEFAULT)
    except ValueError:
        return False  # a quotation without its end
    if not command or command == ["cat"]:
        return False
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
    except OSError:
        return False
    try:
        process.communicate(text.encode("utf-8", "replace"))
    except KeyboardInterrupt:
        process.wait()
    return process.returncode >= 0 and process.returncode not in {126, 127}
