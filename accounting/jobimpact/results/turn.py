"""One accounting of a cluster at a time: who is at it is noted in the results' database.

Two at once would leave the same rows, but would ask the scheduler twice and wait for each other's transactions.
"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from jobimpact.core.errors import BusyError
from jobimpact.results.tables import runner

__all__ = ["Runner", "give_back", "take"]

LEASE_S = 86400
"""A process on another host, of which nobody here can tell whether it lives, has its turn for so long."""


class Runner(msgspec.Struct, frozen=True):
    """A process that accounts."""

    host: str
    pid: int
    begun: str
    """The boot, and when in it the process began: another one may have its number by now."""

    @classmethod
    def here(cls) -> Runner:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), _begun(os.getpid()) or "")

    def lives(self) -> bool | None:
        """Whether it is still there; None: it is on another host."""
        if self.host != socket.gethostname():
            return None
        return _begun(self.pid) == self.begun


def _begun(pid: int) -> str | None:
    """By the kernel's clock, which nobody sets; None: there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The program's name, in brackets, may hold anything; the begin is the 20th word after it.
    return f"{boot} {stat.rpartition(b')')[2].split()[19].decode()}"


def take(db: Connection, cluster: str, now_s: float) -> None:
    """Note that it is this process's turn; one that has died gives its own up.

    Raises:
        BusyError: it is another's.
    """
    c = runner.c
    row = db.execute(sa.select(c.host, c.pid, c.begun, c.since_s).where(c.cluster == cluster)).first()
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
