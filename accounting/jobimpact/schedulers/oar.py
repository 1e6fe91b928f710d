"""OAR's records, by SQL from its PostgreSQL, as a role that may only read: OAR 2.5, 2.6 and 3 have the same tables.

Jobs are found first and read page by page, all in one read-only snapshot. Which columns there are is asked for: some
came with later versions, and the properties of resources are the site's own.
"""

from __future__ import annotations

import codecs
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from jobimpact.core.config import Oar
from jobimpact.core.errors import ConfigError, RecordError, SchedulerError
from jobimpact.core.records import JobRecord
from jobimpact.schedulers.base import Finished, held_at
from jobimpact.schedulers.oar_record import (
    FINAL,
    Event,
    Interval,
    Resource,
    Rows,
    final_s,
    host_of,
    read_resource,
    record_of,
)

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

__all__ = ["OarRecords"]

PAGE = 1000
"""Jobs to a question."""
SLACK_S = 3600
"""How far the log of states may be out of order: its ids are given out before rows are committed."""
LATE_S = 86400
"""For so long a job may be finishing after it has left its nodes. One that takes longer is found when it is over."""
ROUNDED_S = 60
"""`start_time` is rounded up, and may lie after the true start."""
CONNECT_S = 30
LONGEST = 4000
"""Characters of a column that are kept."""

NEEDED = (
    "job_id", "array_id", "job_name", "job_user", "project", "queue_name", "state", "exit_code", "submission_time",
    "start_time", "stop_time", "assigned_moldable_job",
)  # fmt: skip
PRIVATE = frozenset(
    {"command", "initial_request", "job_env", "launching_directory", "stdout_file", "stderr_file", "notify"}
)
"""Columns that are left in the database: OAR shows them to the job's owner alone, for they may hold secrets."""
OAR_S_OWN = frozenset({"accounted"})
"""Columns of OAR's book-keeping: they change when the job is long over, and say nothing of it."""

# Compiling a query, and starting helpers for it, take longer than these queries do.
_QUICK = """
SELECT set_config(name, value, true)
FROM (VALUES
  ('jit', 'off'), ('max_parallel_workers_per_gather', '0'), ('statement_timeout', %(timeout)s)
) AS wanted (name, value)
WHERE name IN (SELECT s.name FROM pg_settings s)
"""
_COLUMNS = """
SELECT attname::text FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
  AND has_column_privilege(attrelid, attnum, 'SELECT') ORDER BY attname
"""
_ENDED = """
SELECT job_id FROM jobs WHERE state = ANY(%(final)s) AND stop_time BETWEEN %(from)s AND %(to)s
UNION
SELECT j.job_id FROM job_state_logs l JOIN jobs j ON j.job_id = l.job_id
WHERE l.job_state_log_id BETWEEN %(low)s AND %(high)s AND l.job_state = ANY(%(final)s) AND j.state = ANY(%(final)s)
  AND (l.date_start BETWEEN %(from)s AND %(to)s
    OR l.date_start BETWEEN %(to)s AND %(late)s AND j.start_time <= %(to)s)
ORDER BY 1
"""
_HELD = """
SELECT job_id FROM jobs WHERE start_time BETWEEN 1 AND %(begun)s AND (state <> ALL(%(final)s) OR stop_time >= %(over)s)
ORDER BY 1
"""
_EDGES = "SELECT coalesce(min(job_state_log_id), 0), coalesce(max(job_state_log_id), 0) FROM job_state_logs"
_PROBE = """
SELECT job_state_log_id, date_start FROM job_state_logs WHERE job_state_log_id >= %s AND date_start > 0
ORDER BY job_state_log_id LIMIT 1
"""
_JOBS = """
SELECT {columns}, m.moldable_walltime::text
FROM jobs j LEFT JOIN moldable_job_descriptions m ON m.moldable_id = j.assigned_moldable_job
WHERE j.job_id = ANY(%s::bigint[]) ORDER BY j.job_id
"""
_LOG = """
SELECT job_id, job_state::text, coalesce(date_start, 0), coalesce(date_stop, 0) FROM job_state_logs
WHERE job_id = ANY(%s::bigint[]) ORDER BY job_id, date_start, job_state_log_id
"""
_TYPES = "SELECT job_id, type::text FROM job_types WHERE job_id = ANY(%s::bigint[]) ORDER BY job_id, job_type_id"
_EVENTS = """
SELECT job_id, type::text, count(*), min(date), max(date),
  left((array_agg(description::text ORDER BY event_id))[1], 300)
FROM event_logs WHERE job_id = ANY(%s::bigint[]) GROUP BY job_id, type ORDER BY job_id, min(event_id)
"""
_ARRAYS = """
SELECT array_id FROM jobs WHERE array_id = ANY(%s::bigint[])
GROUP BY array_id HAVING min(array_index) <> max(array_index)
"""
_ASSIGNED = """
SELECT moldable_job_id, array_agg(resource_id ORDER BY resource_id) FROM assigned_resources
WHERE moldable_job_id = ANY(%s::bigint[]) GROUP BY moldable_job_id
"""
_RESOURCES = """
SELECT resource_id, network_address::text, {cpuset}, {gpu} FROM resources WHERE type = 'default'
"""


class OarRecords:
    """The records of one OAR server.

    Args:
        settings: where its database is.
        cluster: whose jobs they are.

    Raises:
        ConfigError: psycopg is not installed, or the settings are of no use.
    """

    def __init__(self, settings: Oar, cluster: str) -> None:
        self._psycopg = _psycopg()
        self._settings = settings
        self._cluster = cluster
        self._target = self._where()

    def finished(self, from_s: int, to_s: int) -> Finished:
        """Jobs whose end lies in [from_s, to_s], and those that OAR was done with in it though they ended before.

        Raises:
            SchedulerError: the database did not answer, or not in time; its own words are in the message.
        """

        def inside(record: JobRecord, rows: Rows) -> bool:
            edges = (record.end_s, final_s(rows.log))
            return record.end_s is not None and any(at_s is not None and from_s <= at_s <= to_s for at_s in edges)

        return self._found(lambda db: db.ended(from_s, to_s), inside)

    def running(self, at_s: int) -> Finished:
        """Jobs that held nodes at a time.

        Raises:
            SchedulerError: as for `finished`.
        """
        return held_at(self._found(lambda db: db.held(at_s), lambda record, _: record.start_s is not None), at_s)

    def _found(self, find: Callable[[_Database], list[int]], wanted: Callable[[JobRecord, Rows], bool]) -> Finished:
        records, problems = [], []
        with self._reading() as db:
            for job_id, rows in db.rows(find(db), full_names=self._settings.full_names):
                try:
                    record = record_of(rows, self._cluster)
                except RecordError as error:
                    problems.append(RecordError(f"OAR's job {job_id}: {error}"))
                    continue
                if wanted(record, rows):
                    records.append(record)
        return Finished(tuple(records), tuple(problems))

    @contextmanager
    def _reading(self) -> Iterator[_Database]:
        """The database in one snapshot, for no longer than the settings allow; every error a SchedulerError."""
        timeout_s = self._settings.timeout_s
        deadline = None
        try:
            # Closed without an end of the transaction: nothing was written, and a silent server cannot hold us up.
            with closing(self._psycopg.connect(**self._target, prepare_threshold=None)) as connection:
                connection.isolation_level = self._psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                with _Deadline(connection.fileno(), timeout_s) as deadline:
                    yield _Database(connection, timeout_s)
        except self._psycopg.Error as error:
            late = deadline is not None and deadline.over
            said = f"no answer within {timeout_s:g} s" if late else self._words_of(error)
            raise SchedulerError(f"OAR's database: {said}") from None

    def _words_of(self, error: Exception) -> str:
        said = " ".join(str(error).split()) or type(error).__name__
        secret = self._target.get("password")
        return f"{said.replace(secret, '***') if secret else said:.500}"

    def _where(self) -> dict[str, Any]:
        """What to connect with."""
        from psycopg.conninfo import conninfo_to_dict

        try:
            given = conninfo_to_dict(self._settings.dsn)
        except self._psycopg.Error:  # its words may quote a password
            raise ConfigError("scheduler.oar.dsn: not what libpq takes: host=oar dbname=oar user=oar_ro") from None
        target: dict[str, Any] = {
            "connect_timeout": max(2, round(min(CONNECT_S, self._settings.timeout_s))),
            "application_name": "jobimpact",
            "keepalives_idle": 30,
        }
        target |= given
        if self._settings.password_file:
            target["password"] = _read_password(self._settings.password_file)
        # Text comes as its bytes: a database without an encoding may hold anything.
        return target | {"client_encoding": "SQL_ASCII"}


def _psycopg() -> ModuleType:
    try:
        import psycopg
    except ImportError as error:
        said = f"psycopg is not installed ({error})" if error.name != "psycopg" else "psycopg is not installed"
        raise ConfigError(f"scheduler.oar: {said}: install the extra, jobimpact[postgres]") from error
    return psycopg


def _read_password(path: str) -> str:
    key = f"scheduler.oar.password_file: {path}"
    try:
        text = Path(path).read_bytes()[:4096].decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{key}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{key}: not UTF-8") from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or any(not char.isprintable() for char in password):
        raise ConfigError(f"{key}: it must hold the password alone, on one line")
    return password


class _Deadline:
    """Hangs up when a conversation takes too long: a server that is stopped says nothing, and closes nothing."""

    def __init__(self, descriptor: int, seconds: float) -> None:
        self.over = False
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._timer = threading.Timer(seconds, self._hang_up)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._socket.close()

    def _hang_up(self) -> None:
        self.over = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class _Database:
    """OAR's tables, in one transaction."""

    def __init__(self, connection: Connection[tuple[Any, ...]], timeout_s: float) -> None:
        self._connection = connection
        connection.execute(_QUICK, {"timeout": str(round(timeout_s * 1000))})
        self._text = _decoder(connection.info.parameter_status("server_encoding") or "")

    def ended(self, from_s: int, to_s: int) -> list[int]:
        """Jobs that are over, and may have ended or become so in [from_s, to_s]."""
        late_s = to_s + LATE_S
        among = {"low": self._logged(from_s - SLACK_S), "high": self._logged(late_s + SLACK_S)}
        return self._ids(_ENDED, among | {"from": from_s, "to": to_s, "late": late_s, "final": list(FINAL)})

    def held(self, at_s: int) -> list[int]:
        """Jobs that may have had nodes at a time."""
        return self._ids(_HELD, {"begun": at_s + ROUNDED_S, "over": at_s - SLACK_S, "final": list(FINAL)})

    def _ids(self, query: str, values: dict[str, object]) -> list[int]:
        return [row[0] for row in self._connection.execute(query, values)]

    def _logged(self, at_s: int) -> int:
        """Where in the log of states a time is: dates have no index, but ids are given out in their order."""
        [(low, high)] = self._connection.execute(_EDGES)
        while low < high:
            middle = (low + high) // 2
            found = self._connection.execute(_PROBE, (middle,)).fetchone()
            if found is None or found[1] >= at_s:
                high = middle
            else:
                low = found[0] + 1
        return int(low)

    def rows(self, jobs: Sequence[int], *, full_names: bool) -> Iterator[tuple[int, Rows]]:
        """All that is said of some jobs, by id."""
        if not jobs:
            return
        columns = self._columns("jobs")
        extra = [name for name in columns if name not in {*NEEDED, *PRIVATE, *OAR_S_OWN}]
        query = self._job_query(extra)
        names = [*NEEDED, *extra, "moldable_walltime"]
        resources = self._resources(full_names=full_names)
        for at in range(0, len(jobs), PAGE):
            yield from self._page(jobs[at : at + PAGE], query, names, resources)

    def _columns(self, table: str) -> list[str]:
        return [self._text(row[0]) for row in self._connection.execute(_COLUMNS, (table,))]

    def _job_query(self, extra: Sequence[str]) -> Composed:
        from psycopg.sql import SQL, Identifier

        columns = [SQL("{}::text").format(Identifier("j", name)) for name in NEEDED]
        columns += [SQL("left({}::text, {})").format(Identifier("j", name), LONGEST) for name in extra]
        return SQL(_JOBS).format(columns=SQL(", ").join(columns))

    def _resources(self, *, full_names: bool) -> dict[int, Resource]:
        """What can be allotted of nodes: the site's size, not its history's."""
        from psycopg.sql import NULL, SQL, Identifier

        there = self._columns("resources")
        gpu = next((name for name in ("gpudevice", "gpu") if name in there), None)
        found = {
            name: SQL("{}::text").format(Identifier(column)) if column in there else NULL
            for name, column in (("cpuset", "cpuset"), ("gpu", gpu or ""))
        }
        text = self._text
        return {
            number: read_resource(
                host_of(text(address or b""), full_names=full_names),
                None if cpuset is None else text(cpuset),
                None if device is None else text(device),
                has_gpus=gpu is not None,
            )
            for number, address, cpuset, device in self._connection.execute(SQL(_RESOURCES).format(**found))
        }

    def _page(
        self, jobs: Sequence[int], query: Composed, names: Sequence[str], resources: dict[int, Resource]
    ) -> Iterator[tuple[int, Rows]]:
        ask, text = self._connection.execute, self._text
        log: dict[int, list[Interval]] = {}
        for job_id, state, start_s, stop_s in ask(_LOG, (list(jobs),)):
            log.setdefault(job_id, []).append(Interval(text(state or b""), start_s, stop_s))
        types: dict[int, list[str]] = {}
        for job_id, kind in ask(_TYPES, (list(jobs),)):
            types.setdefault(job_id, []).append(text(kind or b""))
        events: dict[int, list[Event]] = {}
        for job_id, kind, count, first_s, last_s, said in ask(_EVENTS, (list(jobs),)):
            event = Event(text(kind or b""), count, first_s or 0, last_s or 0, text(said or b""))
            events.setdefault(job_id, []).append(event)
        found = [
            {name: None if one is None else text(one) for name, one in zip(names, row, strict=True)}
            for row in ask(query, (list(jobs),))
        ]
        assigned = dict(ask(_ASSIGNED, (_numbers(found, "assigned_moldable_job"),)).fetchall())
        arrays = {row[0] for row in ask(_ARRAYS, (_numbers(found, "array_id"),))}
        for job in found:
            job_id = int(job["job_id"] or 0)
            mine = assigned.get(int(job["assigned_moldable_job"] or 0), ())
            held = {number: resources[number] for number in mine if number in resources}
            in_array = int(job["array_id"] or 0) in arrays
            of = (log.get(job_id, ()), types.get(job_id, ()), events.get(job_id, ()))
            yield job_id, Rows(job, *of, held, in_array)


def _numbers(jobs: Sequence[dict[str, str | None]], column: str) -> list[int]:
    """Other than 0, which stands for none."""
    return sorted({int(job[column] or 0) for job in jobs} - {0})


def _decoder(encoding: str) -> Callable[[bytes], str]:
    """Bytes of the database's encoding as text, whatever they are; the same words are one object."""
    try:
        # PostgreSQL's names are Python's, but for those.
        codec = codecs.lookup(encoding.replace("WIN", "cp").replace("KOI8", "koi8-")).name
    except LookupError:
        codec = "utf-8"
    if codec == "ascii":
        codec = "utf-8"

    @lru_cache(maxsize=8192)
    def text(found: bytes) -> str:
        return found.decode(codec, "replace")

    return text
