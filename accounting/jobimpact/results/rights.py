"""Who may read the results' file: every job of everybody is in it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

__all__ = ["make_private", "open_to_all"]

MODE = 0o640


def make_private(path: Path) -> None:
    """Make an empty file for its owner and its group alone; one that is there is left as it is.

    What SQLite puts beside it, its journal, gets the file's own rights.

    Raises:
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE))


def open_to_all(path: Path) -> str | None:
    """Say so if every user of this host can read it.

    Args:
        path: of the results' file.

    Returns:
        A sentence for the admin; None: others cannot read it, or it is not there.
    """
    try:
        file, *folders = (one.stat().st_mode for one in (path, *path.resolve().parents))
    except OSError:
        return None
    if not file & stat.S_IROTH or not all(one & stat.S_IXOTH for one in folders):
        return None
    return f"{path}: every user of this host can read all jobs: chmod o= it, and see docs/admin/access.md"
