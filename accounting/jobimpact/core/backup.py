"""A database as the last release left it, kept beside it for going back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["back_up"]


def back_up(path: Path, aside: Path) -> None:
    """Copy a SQLite file; the copy is readable by nobody who may not read the file.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    with closing(sqlite3.connect(path)) as was, closing(sqlite3.connect(aside)) as copy:
        was.backup(copy)
    found = path.stat()
    if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(aside, found.st_uid, found.st_gid)
    shutil.copymode(path, aside)
