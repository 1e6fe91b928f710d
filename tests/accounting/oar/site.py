"""An OAR site's database: tables with the names of OAR's, and jobs put into them as OAR's modules leave them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from tests.accounting.world import T0
from tests.fakes.postgres import Postgres

from jobimpact.core.config import Oar
from jobimpact.schedulers.oar import OarRecords

__all__ = ["T0", "TABLES", "Site"]

TABLES = """
CREATE TABLE jobs (
  job_id bigint PRIMARY KEY, array_id int, array_index int, job_name text, job_user text, project text,
  queue_name text, state text, exit_code int, submission_time int, start_time int, stop_time int,
  assigned_moldable_job int, resubmit_job_id int, reservation text, job_type text, message text, properties text,
  suspended text, accounted text, command text, initial_request text, job_env text, launching_directory text,
  stdout_file text, stderr_file text, notify text);
CREATE INDEX ON jobs (array_id);
CREATE TABLE moldable_job_descriptions (
  moldable_id bigint PRIMARY KEY, moldable_job_id int, moldable_walltime int);
CREATE TABLE resources (
  resource_id bigint PRIMARY KEY, type text DEFAULT 'default', network_address text, cpuset text DEFAULT '0');
CREATE TABLE assigned_resources (moldable_job_id int, resource_id int, PRIMARY KEY (moldable_job_id, resource_id));
CREATE TABLE job_types (job_type_id bigserial PRIMARY KEY, job_id int, type text);
CREATE INDEX ON job_types (job_id);
CREATE TABLE job_state_logs (
  job_state_log_id bigserial PRIMARY KEY, job_id int, job_state text, date_start int, date_stop int);
CREATE INDEX ON job_state_logs (job_id);
CREATE TABLE event_logs (event_id bigserial PRIMARY KEY, type text, job_id int, date int, description text);
CREATE INDEX ON event_logs (job_id);
"""
ENDS = ("Terminated", "Error")


class Site:
    """An OAR in a schema of its own.

    Args:
        server: where.
        name: the schema's.
        properties: columns that the site has given its resources, with their types.
        dbname: the database's.
    """

    def __init__(
        self, server: Postgres, name: str, properties: dict[str, str] | None = None, dbname: str = "postgres"
    ) -> None:
        self._server = server
        self.name = name
        self.dbname = dbname
        self.db: psycopg.Connection[tuple[Any, ...]] = server.connect(dbname)
        self.db.execute("SELECT set_config('search_path', %s, false)", (name,))
        columns = (properties or {"gpu": "int", "gpudevice": "int"}).items()
        added = (sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, kind in columns)
        schema = sql.Identifier(name)
        self.db.execute(
            sql.SQL("; ").join(
                [
                    sql.SQL("CREATE SCHEMA {}").format(schema),
                    sql.SQL(TABLES),
                    sql.SQL("ALTER TABLE resources {}").format(sql.SQL(", ").join(added)),
                    sql.SQL("GRANT USAGE ON SCHEMA {} TO oar_ro").format(schema),
                    sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO oar_ro").format(schema),
                ]
            )
        )

    @property
    def folder(self) -> str:
        """Of the server's socket."""
        return str(self._server.folder)

    def close(self) -> None:
        """Hang up."""
        self.db.close()

    def dsn(self, user: str = "oar_ro") -> str:
        """How accounting reaches it."""
        return self._server.dsn(dbname=self.dbname, user=user, options=f"-c search_path={self.name}")

    def records(self, **settings: Any) -> OarRecords:
        """What accounting reads it with."""
        return OarRecords(Oar(**{"dsn": self.dsn()} | settings), "lab")

    def put(self, table: str, **values: object) -> None:
        """A row."""
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        )
        self.db.execute(query, list(values.values()))

    def change(self, job: int, **values: object) -> None:
        """A row of `jobs`."""
        sets = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in values
        )
        query = sql.SQL("UPDATE jobs SET {} WHERE job_id = {}").format(sets, sql.Placeholder())
        self.db.execute(query, [*values.values(), job])

    def node(self, host: str, cpusets: Iterable[str | int], first: int, **properties: Sequence[object]) -> None:
        """A node's resources, one for each cpuset, with ids from `first` on."""
        for at, cpuset in enumerate(cpusets):
            mine = {name: values[at] for name, values in properties.items()}
            self.put("resources", resource_id=first + at, network_address=host, cpuset=str(cpuset), **mine)

    def job(
        self,
        job: int = 1,
        log: str = "Waiting 0-1, toLaunch 1-2, Launching 2-4, Running 4-104, Finishing 104-106, Terminated 106",
        resources: Iterable[int] = (),
        types: Iterable[str] = (),
        events: Iterable[tuple[str, int]] = (),
        walltime: int = 3600,
        **values: object,
    ) -> int:
        """A job, by default of 100 s with exit code 0; times are seconds after T0.

        Args:
            job: its id.
            log: states, with when they began and ended.
            resources: what it was given.
            types: of job.
            events: with when.
            walltime: granted, in seconds.
            values: of columns of `jobs`; times count from T0 on, too.

        Returns:
            Its id.
        """
        states = [_state(text) for text in log.split(", ")]
        end = next((start for state, start, _ in states if state in ("Finishing", *ENDS)), None)
        row: dict[str, object] = {
            "array_id": job,
            "array_index": 1,
            "job_name": "train",
            "job_user": "ana",
            "project": "default",
            "queue_name": "default",
            "state": states[-1][0],
            "exit_code": 0 if states[-1][0] == "Terminated" else None,
            "resubmit_job_id": 0,
            "reservation": "None",
            "submission_time": 0,
            "start_time": next((start for state, start, _ in states if state == "Launching"), None),
            "stop_time": end if any(state == "Running" for state, _, _ in states) else None,
            "assigned_moldable_job": job if resources else 0,
            "suspended": "NO",
            "accounted": "NO",
            "command": "./train --token=secret",
        } | values
        for name in ("submission_time", "start_time", "stop_time"):
            at = row[name]
            row[name] = 0 if at is None else T0 + int(str(at))
        self.put("jobs", job_id=job, **row)
        self.put("moldable_job_descriptions", moldable_id=job, moldable_job_id=job, moldable_walltime=walltime)
        for resource in resources:
            self.put("assigned_resources", moldable_job_id=job, resource_id=resource)
        for kind in types:
            self.put("job_types", job_id=job, type=kind)
        for state, start, stop in states:
            date_stop = 0 if stop is None else T0 + stop
            self.put("job_state_logs", job_id=job, job_state=state, date_start=T0 + start, date_stop=date_stop)
        for kind, at in events:
            self.put("event_logs", job_id=job, type=kind, date=T0 + at, description=f"[OAR] {kind} of {job}")
        return job


def _state(text: str) -> tuple[str, int, int | None]:
    """`Running 4-104` or, where it lasts, `Running 4`."""
    match = re.fullmatch(r"(\w+) (-?\d+)(?:-(-?\d+))?", text)
    assert match is not None, text
    return match[1], int(match[2]), None if match[3] is None else int(match[3])
