"""A PostgreSQL of its own in a temporary folder: real, with a Unix socket alone, and gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

__all__ = ["Postgres", "missing"]

DEADLINE_S = 120.0
USER = "postgres"


def _programs() -> Path | None:
    """Where the server's programs are: Debian keeps them off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def missing() -> str:
    """Why there can be no server here; empty: there can."""
    if _programs() is None:
        return "PostgreSQL's server is not installed (Debian: postgresql-15)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(USER)
        except KeyError:
            return f"there is no user {USER}, and PostgreSQL does not run as root"
    return ""


class Postgres:
    """A server. Everybody on the machine is trusted, but roles in the group `with_password`.

    Args:
        settings: of postgresql.conf.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = {"fsync": "off", "listen_addresses": "", "shared_buffers": "64MB"} | settings
        # The path of a Unix socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._as: dict[str, Any] = {"cwd": self.folder}
        self.log = self.folder / "log"
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER, USER)
            self._as |= {"user": USER, "group": USER, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(DEADLINE_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        programs = _programs()
        assert programs is not None
        data = self.folder / "data"
        make = [programs / "initdb", "--no-sync", "-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C", "-D", data]
        subprocess.run(make, check=True, capture_output=True, **self._as)
        (data / "pg_hba.conf").write_text("local all +with_password scram-sha-256\nlocal all all trust\n")
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        # It ends with whoever started it, even one that was killed.
        command = ["setpriv", "--pdeathsig", "QUIT", programs / "postgres", "-D", data, "-k", self.folder, *options]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as)
        self._wait(self._process)
        with self.connect() as db:
            db.execute("CREATE ROLE with_password")

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text(errors='replace')}") from None
                time.sleep(0.05)
            else:
                return

    def dsn(self, **more: str) -> str:
        """How a client reaches it: `dbname`, `user`, and what else libpq knows."""
        return make_conninfo(host=str(self.folder), **{"user": USER, "dbname": USER} | more)

    def connect(self, dbname: str = USER) -> psycopg.Connection[tuple[Any, ...]]:
        """As the server's own user; each statement is committed."""
        return psycopg.connect(self.dsn(dbname=dbname), autocommit=True)
