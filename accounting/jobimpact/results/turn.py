"""One accounting of a cluster at a time: who is at it is noted in the results' database.

Two at once would leave the same rows, but would ask the scheduler twice and wait for each other's transactions.
"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime

import msgspec
import psutil
import sqlalchemy as sa
from sqlalchemy import Connection

from jobimpact.core.errors import BusyError
from jobimpact.results.tables import runner

__all__ = ["Runner", "give_back", "take"]

LEASE_S = 86400
"""A process on another host, of which nobody here can tell whether it lives, has its turn for so long."""
SAME_S = 2.0
"""By how much one process's begin may differ between two readings of the clock."""


class Runner(msgspec.Struct, frozen=True):
    """A process that accounts."""

    host: str
    pid: int
    begun_s: float
    """When the process began, epoch seconds: another one may have its id by now."""

    @classmethod
    def here(cls) -> Runner:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    def lives(self) -> bool | None:
        """Whether it is still there; None: it is on another host."""
        if self.host != socket.gethostname():
            return None
        try:
            return abs(psutil.Process(self.pid).create_time() - self.begun_s) < SAME_S
        except psutil.Error:
            return False


def take(db: Connection, cluster: str, now_s: float) -> None:
    """Note that it is this process's turn; one that has died gives its own up.

    Raises:
        BusyError: it is another's.
    """
    c = runner.c
    row = db.execute(sa.select(c.host, c.pid, c.begun_s, c.since_s).where(c.cluster == cluster)).first()
    me = Runner.here()
    if row is not None:
        other, since_s = Runner(*row[:3]), row[3]
        lives = other.lives()
        if lives or (lives is None and now_s < since_s + LEASE_S):
            since = f"{datetime.fromtimestamp(since_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
            raise BusyError(f"{cluster} is being accounted for since {since}, by process {other.pid} on {other.host}")
        db.execute(runner.delete().where(c.cluster == cluster))
    db.execute(runner.insert(), msgspec.structs.asdict(me) | {"cluster": cluster, "since_s": now_s})


def give_back(db: Connection, cluster: str) -> None:
    """It is nobody's turn any more; another's stays."""
    c, me = runner.c, Runner.here()
    db.execute(runner.delete().where(c.cluster == cluster, c.host == me.host, c.pid == me.pid))
