"""The mark folder: what the hooks left, in order of uptime; what is no mark is set aside.

inotify only wakes the daemon: the folder itself is what counts, so nothing is missed while the daemon is away.
"""

from __future__ import annotations

import logging
import os
import pwd
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from inotify_simple import INotify, flags

from jobimpact.core.errors import ConfigError, MarkError
from jobimpact.core.marks import MAX_BYTES, parse_mark
from jobimpact.core.records import Mark

__all__ = ["MarkFolder"]

log = logging.getLogger(__name__)

REJECTED = "rejected"
OLD_TEMP_S = 600


class MarkFolder:
    """One node's marks.

    Args:
        path: the folder; made (0700) if it can be.
        inotify: what wakes the daemon; the folder adds its watch.
        owners: user names beside root and the daemon's own whose marks count.

    Raises:
        ConfigError: no such user.
    """

    def __init__(self, path: Path, inotify: INotify, owners: Iterable[str] = ()) -> None:
        self.path = path
        self.problem: str | None = None
        self.rejected: list[tuple[str, str]] = []
        """File name and reason of the marks set aside since this list was last emptied."""
        self._inotify = inotify
        self._watch: int | None = None
        self._owners = {0, os.geteuid(), *(_uid(name) for name in owners)}
        self._taken: set[str] = set()
        self._ignored: set[str] = set()

    def waiting(self) -> list[tuple[str, Mark]]:
        """The marks that have not been taken in yet, by uptime, each with its file name."""
        if self._watch is None:
            self._start_watch()
        try:
            names = os.listdir(self.path)
        except OSError as error:
            self._trouble(f"{self.path}: {error.strerror}")
            self._watch = None
            return []
        found = []
        for name in names:
            if name.startswith(".") or name == REJECTED or name in self._taken | self._ignored:
                continue
            mark = self._read(name)
            if mark is not None:
                found.append((name, mark))
        return sorted(found, key=lambda one: (one[1].t_ns, one[0]))

    def event(self, watch: int, mask: int) -> None:
        """Take one inotify event: if the folder was removed or moved, it is made and watched anew."""
        if watch == self._watch and mask & (flags.IGNORED | flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT):
            self._watch = None

    def take(self, names: list[str]) -> None:
        """These marks are in the books in memory: do not list them again."""
        self._taken.update(names)

    @property
    def taken(self) -> set[str]:
        """The marks in memory whose files are still there."""
        return self._taken

    def delete_taken(self) -> None:
        """The books are on disk: the files of the marks that they hold can go."""
        for name in tuple(self._taken):
            try:
                (self.path / name).unlink()
            except FileNotFoundError:
                self._taken.discard(name)
            except OSError as error:
                self._trouble(f"{self.path / name}: {error.strerror}")
            else:
                self._taken.discard(name)

    def _start_watch(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A mark comes by a rename; the writing beside it would wake us a moment too early.
            self._watch = self._inotify.add_watch(self.path, flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF)
            self._sweep()
        except OSError as error:
            self._trouble(f"{self.path}: {error.strerror}")
        else:
            self.problem = None

    def _sweep(self) -> None:
        """What a killed hook left half-written is nobody's any more."""
        old_s = time.time() - OLD_TEMP_S
        for path in self.path.glob(".tmp.*"):
            if path.lstat().st_mtime < old_s:
                path.unlink(missing_ok=True)

    def _read(self, name: str) -> Mark | None:
        path = self.path / name
        if not name.isascii():
            self.reject(name, "its name is not plain text")
            return None
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.reject(name, error.strerror or "cannot be opened")
            return None
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise MarkError("not a regular file")
            if info.st_uid not in self._owners:
                raise MarkError(f"owned by uid {info.st_uid}, not by root, this daemon or one of node.mark_owners")
            return parse_mark(os.read(fd, MAX_BYTES + 1))
        except (MarkError, OSError) as error:
            self.reject(name, str(error))
            return None
        finally:
            os.close(fd)

    def reject(self, name: str, reason: str) -> None:
        """Set a bad mark aside: it is kept for a person to look at, and never looked at again."""
        log.warning("mark %r set aside: %s", name, reason)
        # A name may be any bytes: what is told of it goes to a database.
        self.rejected.append((os.fsencode(name).decode("utf-8", "backslashreplace"), reason))
        aside = self.path / REJECTED
        try:
            aside.mkdir(mode=0o700, exist_ok=True)
            (self.path / name).rename(aside / name)
        except OSError as error:
            log.warning("mark %r cannot be moved (%s): ignored", name, error.strerror)
            self._ignored.add(name)

    def _trouble(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("marks: %s", problem)
        self.problem = problem


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise ConfigError(f"node.mark_owners: {name}: no such user on this machine") from error
