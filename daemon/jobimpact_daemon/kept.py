"""A small file of the kernel's that is read again and again: kept open, as opening costs ten times the reading."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["KeptFile", "text_of"]

FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""A pipe in a file's place must not hang the clock loop; on the kernel's own files the last one means nothing."""


def text_of(path: Path, size: int = 256) -> str:
    """What a small file says, read once and without its blanks; empty where it cannot be read."""
    file = KeptFile(path)
    try:
        return file.read(size).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    finally:
        file.close()


class KeptFile:
    """One file, opened at its first reading and after each failure.

    Args:
        path: where it lies.
        reopen: whether a file that was removed may come back; else it stays gone.
    """

    def __init__(self, path: Path, *, reopen: bool = True) -> None:
        self.path = path
        self._reopen = reopen
        self._fd: int | None = None
        self._gone = False

    def read(self, size: int) -> bytes:
        """Its first bytes, now.

        Raises:
            OSError: it cannot be read; the next call opens it anew.
        """
        if self._gone:
            raise FileNotFoundError(0, "gone", str(self.path))
        try:
            if self._fd is None:
                self._fd = os.open(self.path, FLAGS)
            text = os.pread(self._fd, size, 0)
            # What was removed can still be read through a descriptor, for ever the same.
            if os.fstat(self._fd).st_nlink == 0:
                return self._replaced(size)
        except OSError:
            self.close()
            self._gone = not self._reopen
            raise
        return text

    def _replaced(self, size: int) -> bytes:
        self.close()
        if not self._reopen:
            self._gone = True
            raise FileNotFoundError(0, "gone", str(self.path))
        self._fd = os.open(self.path, FLAGS)
        return os.pread(self._fd, size, 0)

    def close(self) -> None:
        """Let go of it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
