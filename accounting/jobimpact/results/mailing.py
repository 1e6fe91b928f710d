"""The mails' own rows: what was told to whom, and what becomes of each. Every step is a compare-and-swap.

A mail is `planned`, is `sending` from just before its text goes to the server, and is `sent` once the server has said
so. `retry` waits for another night, `failed` was refused for good, `uncertain` may or may not have arrived and is
never repeated by itself, `digest` is told in the user's digest instead, `dropped` is not wanted any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError

from jobimpact.core.errors import StoreError
from jobimpact.results.outcome import FAILED
from jobimpact.results.record import JobResult, database_path, result_of
from jobimpact.results.tables import job_result, mail, make_engine, meta, migrate
from jobimpact.results.turn import Runner

__all__ = ["Kind", "MailRow", "Mailing", "State", "Unit"]

Kind = Literal["job", "array", "het"]
State = Literal["planned", "sending", "sent", "retry", "failed", "uncertain", "digest", "dropped"]

LEASE_S = 86400
"""After so long a mail that a process on another host began to send is uncertain: nobody here can tell if it lives."""
WAITING = ("planned", "retry")


class Unit(msgspec.Struct, frozen=True):
    """What gets one mail: a job with all its incarnations, an array, a heterogeneous job."""

    kind: Kind
    id: str
    user: str
    jobs: int
    ran: int
    failed: int
    energy_j: float | None
    """Of those of which it is known; None: of none. So is `failed_j`."""
    failed_j: float | None
    end_s: float
    """When the last one ended, epoch seconds."""
    last_state: str
    """How that one ended."""


class MailRow(msgspec.Struct, frozen=True):
    """A mail as it stands."""

    subject: str
    user: str
    address: str | None
    state: State
    attempts: int
    message_id: str | None
    runner: str | None
    why: str | None
    made_s: float
    changed_s: float


_NAMES = MailRow.__struct_fields__


class Mailing:
    """The mails of one cluster.

    Args:
        url: of the results' database.
        cluster: whose jobs they are about.

    Raises:
        SchemaTooNewError: a newer release wrote it.
        StoreError: it is not there, or cannot be opened.
    """

    def __init__(self, url: str, cluster: str) -> None:
        self._path = database_path(url)
        self._cluster = cluster
        try:
            there = Path(self._path).exists()
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        if not there:
            raise StoreError(f"{self._path}: nothing is accounted yet: `jobimpact account` has not run")
        self._engine = make_engine(self._path)
        with self._transaction() as db:
            migrate(db, self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def units(self, from_s: float, to_s: float) -> list[Unit]:
        """What jobs that ended within [from_s, to_s) make up, by their end."""
        c = job_result.c
        ran = _ran()
        failed = c.state.in_(sorted(FAILED)) & ran
        kind = sa.case((c.array_id.is_not(None), "array"), (c.het_id.is_not(None), "het"), else_="job")
        name = sa.func.coalesce(c.array_id, c.het_id, c.job_id)
        last = sa.func.max(c.end_s)
        query = (
            sa.select(
                kind.label("kind"),
                name.label("id"),
                c.user,
                sa.func.count(),
                sa.func.sum(sa.case((ran, 1), else_=0)),
                sa.func.sum(sa.case((failed, 1), else_=0)),
                sa.func.sum(c.energy_j),
                sa.func.sum(sa.case((failed, c.energy_j))),
                last.label("last"),
                c.state,  # SQLite's word: beside a max(), a bare column is of that row
            )
            .where(_mine(c.cluster, self._cluster), c.end_s >= from_s, c.end_s < to_s)
            .group_by("kind", "id", c.user)
            .order_by("last", "id")
        )
        with self._transaction() as db:
            return [Unit(*row) for row in db.execute(query)]

    def accounts(self, from_s: float, to_s: float) -> set[str]:
        """Accounts with a job that ran and ended within [from_s, to_s)."""
        c = job_result.c
        inside = _mine(c.cluster, self._cluster) & (c.end_s >= from_s) & (c.end_s < to_s) & _ran()
        with self._transaction() as db:
            return set(db.execute(sa.select(c.account).where(inside, c.account.is_not(None)).distinct()).scalars())

    def jobs(self, unit: Unit, from_s: float, to_s: float, most: int) -> list[JobResult]:
        """A unit's jobs that ended within [from_s, to_s), those with the most energy first."""
        c = job_result.c
        by = {"array": c.array_id, "het": c.het_id, "job": c.job_id}[unit.kind]
        inside = (by == unit.id) & (c.end_s >= from_s) & (c.end_s < to_s) & (c.user == unit.user)
        names = [field.name for field in msgspec.structs.fields(JobResult)]
        query = sa.select(*(c[name] for name in names)).where(inside, _mine(c.cluster, self._cluster))
        with self._transaction() as db:
            rows = db.execute(query.order_by(c.energy_j.desc()).limit(most)).all()
        return [result_of(dict(zip(names, row, strict=True))) for row in rows]

    def begun(self) -> float | None:
        """When mails were first sent of this cluster, in epoch seconds; None: none ever was."""
        with self._transaction() as db:
            found: float | None = db.execute(sa.select(meta.c.value).where(meta.c.key == self._since)).scalar()
        return found

    def begin(self, now_s: float) -> float:
        """When mails were first sent: now, if they never were."""
        with self._transaction() as db:
            row = insert(meta).values(key=self._since, value=now_s)
            db.execute(row.on_conflict_do_nothing(index_elements=["key"]))
            found: float = db.execute(sa.select(meta.c.value).where(meta.c.key == self._since)).scalar_one()
        return found

    @property
    def _since(self) -> str:
        return f"mail_from {self._cluster}"

    def rows(self, states: Collection[str] = (), since_s: float | None = None) -> list[MailRow]:
        """Mails by the time they were made.

        Args:
            states: that they are in; empty: any.
            since_s: made then or later.
        """
        where = mail.c.cluster == self._cluster
        if states:
            where &= mail.c.state.in_(sorted(states))
        if since_s is not None:
            where &= mail.c.made_s >= since_s
        query = sa.select(*(mail.c[name] for name in _NAMES)).where(where).order_by(mail.c.made_s, mail.c.subject)
        with self._transaction() as db:
            return [MailRow(*row) for row in db.execute(query)]

    def row(self, subject: str) -> MailRow | None:
        """The mail of a key."""
        query = sa.select(*(mail.c[name] for name in _NAMES)).where(self._of(subject))
        with self._transaction() as db:
            found = db.execute(query).first()
        return None if found is None else MailRow(*found)

    def counts(self) -> dict[str, int]:
        """How many mails are in each state."""
        query = sa.select(mail.c.state, sa.func.count()).where(mail.c.cluster == self._cluster)
        with self._transaction() as db:
            rows = db.execute(query.group_by(mail.c.state).order_by(mail.c.state)).all()
        return {state: count for state, count in rows}  # noqa: C416 (a row is no tuple to mypy)

    def plan(self, rows: Iterable[MailRow]) -> int:
        """Write mails down that are not yet; one that is stays as it is.

        Returns:
            How many were new.
        """
        new = 0
        with self._transaction() as db:
            for one in rows:
                row = insert(mail).values(msgspec.structs.asdict(one) | {"cluster": self._cluster})
                new += db.execute(row.on_conflict_do_nothing(index_elements=["cluster", "subject"])).rowcount
        return new

    def claim(self, row: MailRow, message_id: str, now_s: float) -> bool:
        """Take a mail that waits: the text goes to the server next. False: somebody else has, or it waits no more."""
        values = {
            "state": "sending",
            "runner": _runner(),
            "message_id": message_id,
            "attempts": mail.c.attempts + 1,
            "changed_s": now_s,
        }
        # The attempts too: another run may have tried it, and failed, since this one looked.
        where = self._of(row.subject) & mail.c.state.in_(WAITING) & (mail.c.attempts == row.attempts)
        return self._swap(where, values)

    def settle(self, subject: str, state: State, why: str | None, now_s: float) -> bool:
        """What became of a mail that this process claimed. False: it is another's."""
        where = self._of(subject) & (mail.c.state == "sending") & (mail.c.runner == _runner())
        return self._swap(where, {"state": state, "why": why, "changed_s": now_s})

    def put_off(self, row: MailRow, state: State, why: str, now_s: float) -> bool:
        """A mail that waits did not get as far as to be sent. False: somebody else has it."""
        where = self._of(row.subject) & mail.c.state.in_(WAITING) & (mail.c.attempts == row.attempts)
        values = {"state": state, "why": why, "attempts": mail.c.attempts + 1, "changed_s": now_s}
        return self._swap(where, values)

    def bury(self, now_s: float) -> list[str]:
        """Mails whose sender died over them are uncertain.

        Returns:
            Their keys.
        """
        found = []
        for one in self.rows(["sending"]):
            if _is_dead(one, now_s):
                where = self._of(one.subject) & (mail.c.state == "sending") & (mail.c.runner == one.runner)
                why = "the process that sent it died before the server's answer was written down"
                if self._swap(where, {"state": "uncertain", "why": why, "changed_s": now_s}):
                    found.append(one.subject)
        return found

    def again(self, subject: str, now_s: float) -> bool:
        """By a person's word, a mail that is uncertain or has failed waits to be sent. False: it is neither."""
        where = self._of(subject) & mail.c.state.in_(("uncertain", "failed", "retry"))
        return self._swap(where, {"state": "planned", "attempts": 0, "why": "by hand", "changed_s": now_s})

    def readdress(self, row: MailRow, address: str) -> MailRow:
        """A mail that waits goes to where its user is now."""
        where = self._of(row.subject) & mail.c.state.in_(WAITING) & (mail.c.attempts == row.attempts)
        self._swap(where, {"address": address})
        return msgspec.structs.replace(row, address=address)

    def _of(self, subject: str) -> Any:
        return (mail.c.cluster == self._cluster) & (mail.c.subject == subject)

    def _swap(self, where: Any, values: dict[str, Any]) -> bool:
        with self._transaction() as db:
            return db.execute(mail.update().where(where).values(values)).rowcount == 1

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as db:
                yield db
        except DBAPIError as error:
            raise StoreError(f"{self._path}: {error.orig}") from error


def _ran() -> Any:
    """As outcome.has_run() has it."""
    c = job_result.c
    return c.start_s.is_not(None) | c.energy_j.is_(None) | (c.energy_j != 0)


def _mine(column: Any, cluster: str) -> Any:
    """Rows of a cluster, not found by its index, which is of every row: SQLite would rather go by that."""
    return column.concat("") == cluster


def _runner() -> str:
    return msgspec.json.encode(Runner.here()).decode()


def _is_dead(row: MailRow, now_s: float) -> bool:
    try:
        lives = msgspec.json.decode(row.runner or "", type=Runner).lives()
    except msgspec.MsgspecError:
        return True  # of nobody that can be asked
    return now_s >= row.changed_s + LEASE_S if lives is None else not lives
