"""Trees of small files as sysfs shows them, and what can go wrong with each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

EIO = Path("/proc/self/mem")
"""A link to it stands for a file whose reading fails: its first bytes cannot be read (EIO)."""


def write_tree(root: Path, files: Mapping[str, object]) -> Path:
    """Write files by their path below `root`, one line each; a path as content makes a link to it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_text(f"{content}\n", encoding="utf-8")
    return root


def holds_without_permission(files: Iterable[Path], look: Callable[[], bool]) -> bool:
    """Whether something is so for a user who may not read these files.

    Root may read everything, so there a child becomes nobody; folders of root's below /tmp are opened for it.
    """
    files = list(files)
    for file in files:
        file.chmod(0o400 if os.geteuid() == 0 else 0)
    if os.geteuid() != 0:
        return look()
    for folder in {folder for file in files for folder in file.parents}:
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            os._exit(0 if look() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
