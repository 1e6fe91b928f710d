"""Who asks, by what the host's name service says of a uid; and which jobs are theirs to see."""

from __future__ import annotations

import grp
import os
import pwd
import threading
import time
from collections.abc import Callable

from jobimpact.answers.query import Who
from jobimpact.core.config import Config
from jobimpact.core.records import JobRecord

__all__ = ["WhoIs", "may_see", "who_is"]

KEPT_S = 60.0
"""For how long a name and its groups are not asked for again: leaving a group works soon."""
_MOST = 10_000


def who_is(uid: int, config: Config) -> Who:
    """Look a user up.

    A uid without a name is nobody's head and in no group: it sees the jobs that the scheduler tells under its digits.

    Args:
        uid: as the kernel or munge tell it.
        config: whose `access` and `labs` count.
    """
    numbered = _is_nobodys_name(uid)
    try:
        found = pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        return Who(uid, str(uid) if numbered else "", admin=uid == 0, numbered=numbered)
    admin = uid == 0 or _in_group(found.pw_name, found.pw_gid, config.access.groups)
    labs = tuple(name for name, lab in config.labs.items() if found.pw_name in lab.heads)
    return Who(uid, found.pw_name, admin, labs, numbered)


def may_see(who: Who, job: JobRecord) -> bool:
    """Whether a job is theirs to see."""
    return who.admin or job.user in who.names or job.account in who.labs


class WhoIs:
    """Looks users up, and remembers them for a while; for several threads.

    Args:
        config: whose `access` and `labs` count.
        clock: seconds.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._known: dict[int, tuple[float, Who]] = {}
        self._lock = threading.Lock()

    def __call__(self, uid: int) -> Who:
        """Who a uid is, as of a minute ago at most."""
        now_s = self._clock()
        with self._lock:
            at_s, who = self._known.get(uid, (0.0, None))
        if who is not None and now_s - at_s < KEPT_S:
            return who
        found = who_is(uid, self._config)  # outside of the lock: a directory may be slow
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[uid] = (now_s, found)
        return found


def _is_nobodys_name(uid: int) -> bool:
    """Some sites call users by numbers: such a name is its user's, and not that of whoever has the number as uid."""
    try:
        return pwd.getpwnam(str(uid)).pw_uid == uid
    except KeyError:
        return True


def _in_group(name: str, gid: int, groups: tuple[str, ...]) -> bool:
    mine = os.getgrouplist(name, gid)
    for group in groups:
        try:
            if grp.getgrnam(group).gr_gid in mine:
                return True
        except KeyError:
            continue  # this host has no such group
    return False
