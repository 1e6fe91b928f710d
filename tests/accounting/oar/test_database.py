"""The database itself: text in any bytes, rows that make no sense, and answers that do not come."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.accounting.oar.conftest import Make
from tests.accounting.oar.site import T0, Site
from tests.fakes.postgres import Postgres

from jobimpact.core.config import Oar
from jobimpact.core.errors import ConfigError, SchedulerError
from jobimpact.schedulers.oar import OarRecords

HOUR = 3600
SECRET = "s3cret % word"  # noqa: S105


def read(site: Site, **settings: Any) -> None:
    site.records(**settings).finished(T0, T0 + HOUR)


@pytest.mark.parametrize(
    ("encoding", "stored", "name"),
    [
        ("SQL_ASCII", b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}"),
        ("SQL_ASCII", "café \N{SNOWMAN}".encode(), "café \N{SNOWMAN}"),
        ("SQL_ASCII", b"\xff\xfe\xed\xa0\x80", "\N{REPLACEMENT CHARACTER}" * 5),
        ("LATIN1", b"caf\xe9", "café"),
        ("WIN1252", b"\x80", "\N{EURO SIGN}"),
    ],
)
def test_text_in_any_bytes(server: Postgres, make: Make, encoding: str, stored: bytes, name: str) -> None:
    """A database without an encoding keeps what it is given: what is no text costs its letters, not the night."""
    dbname = encoding.lower()
    with server.connect() as db:
        if not db.execute("SELECT 1 FROM pg_database WHERE datname = %s", (dbname,)).fetchone():
            query = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}")
            db.execute(query.format(sql.Identifier(dbname), encoding))
    site = make(dbname=dbname)
    site.node("n1", [0], 1)
    site.job(resources=[1], events=[("X", 1)], types=["t"])
    escaped = "".join(f"\\x{byte:02x}" for byte in stored)
    for table, column in (
        ("jobs", "job_name"),
        ("jobs", "message"),
        ("event_logs", "description"),
        ("job_types", "type"),
    ):
        query = f"UPDATE {table} SET {column} = E'{escaped}'"  # noqa: S608
        site.db.execute(query.encode())
    [record] = site.records().finished(T0, T0 + HOUR).records
    assert record.name == record.raw["message"] == name
    assert record.name in record.raw["events"]


@pytest.mark.parametrize(
    "name", ["'; DROP TABLE jobs; --", "%s %(from)s {}", "a\nb\tc", "\x1b[31m", "\N{SNOWMAN}\u202e", " ", "0" * 5000]
)
def test_names_are_words_and_nothing_else(site: Site, name: str) -> None:
    """Quotes, placeholders, escapes and line ends come out as they went in."""
    site.job(resources=[1], job_name=name, job_user=name, project=name, types=[name])
    [record] = site.records().finished(T0, T0 + HOUR).records
    assert (record.name, record.user, record.account) == (name, name, name)


BAD: dict[str, dict[str, Any]] = {
    "negative start": {"log": "Waiting 0-1, Running -2000000000-100, Terminated 100"},
    "no start": {"log": f"Waiting 0-1, Running {-T0}-100, Terminated 100"},
    "negative end": {"log": "Waiting 0-1, Running 1--2000000000, Terminated 100"},
    "end before start": {"log": "Waiting 0-1, Running 50-20, Finishing 50-51, Terminated 100"},
    "runs twice at once": {"log": "Waiting 0-1, Running 1-60, Running 50-70, Terminated 100"},
    "start after its end": {"log": "Waiting 0-10, Terminated 20", "start_time": 50, "stop_time": 40},
    "negative stop": {"stop_time": -2000000000},
    "negative planned start": {"start_time": -2000000000},
    "never submitted": {"submission_time": -T0},
    "submitted before time": {"submission_time": -2000000000},
    "an id that is none": {"job": -5},
    "a node that is none": {"resources": [99]},
}


@pytest.mark.parametrize("what", BAD)
def test_rows_without_sense_are_named_and_the_others_go_on(site: Site, what: str) -> None:
    """One problem, with the job's id; its neighbours are read."""
    site.put("resources", resource_id=99, network_address="../etc", cpuset="0")
    bad = {"job": 2, "resources": [1]} | BAD[what]
    site.job(1, resources=[1])
    site.job(**bad)
    site.job(3, resources=[1])
    found = site.records().finished(T0, T0 + HOUR)
    assert [one.job_id for one in found.records] == ["1", "3"]
    assert [str(one).partition(":")[0] for one in found.problems] == [f"OAR's job {bad['job']}"]


def test_fields_without_a_value(site: Site) -> None:
    """Of a name, a project, a queue, an array, an event's words: absent, and not an error."""
    site.job(1, resources=[1], events=[("X", 1)])
    site.change(1, job_name=None, project=None, queue_name=None, job_user=None, exit_code=None, array_id=None)
    site.db.execute("UPDATE event_logs SET description = NULL, date = NULL")
    [record] = site.records().finished(T0, T0 + HOUR).records
    assert (record.name, record.account, record.partition, record.user) == ("", None, None, "")
    assert "job_name" not in record.raw


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("DROP TABLE jobs", 'relation "jobs" does not exist'),
        ("DROP TABLE job_state_logs", 'relation "job_state_logs" does not exist'),
        ("ALTER TABLE jobs DROP COLUMN stop_time", '"?stop_time"? does not exist'),
        ("REVOKE SELECT ON jobs FROM oar_ro", "permission denied for table jobs"),
        ("REVOKE SELECT ON event_logs FROM oar_ro", "permission denied for table event_logs"),
        ("REVOKE SELECT ON resources FROM oar_ro", "permission denied for table resources"),
    ],
)
def test_the_server_s_own_words(site: Site, broken: str, said: str) -> None:
    """What lacks, or may not be read, is named by PostgreSQL."""
    site.job(resources=[1])
    site.db.execute(broken)
    with pytest.raises(SchedulerError, match=f"OAR's database: .*{said}"):
        read(site)


def test_no_server(tmp_path: Path) -> None:
    """Its words say where it was looked for."""
    with pytest.raises(SchedulerError, match="No such file"):
        OarRecords(Oar(dsn=make_conninfo(host=str(tmp_path), user="oar_ro")), "lab").running(T0)


@pytest.fixture
def guarded(server: Postgres, site: Site) -> Iterator[Site]:
    """A site whose role wants a password."""
    with server.connect() as db:
        db.execute(sql.SQL("CREATE ROLE guarded LOGIN PASSWORD {} IN ROLE oar_ro, with_password").format(SECRET))
        yield site
        db.execute("DROP ROLE guarded")


def test_a_password_from_a_file(guarded: Site, tmp_path: Path) -> None:
    """It is on a line of its own."""
    (tmp_path / "word").write_text(SECRET + "\n")
    guarded.job(resources=[1])
    records = guarded.records(dsn=guarded.dsn("guarded"), password_file=str(tmp_path / "word"))
    assert len(records.finished(T0, T0 + HOUR).records) == 1


@pytest.mark.parametrize("how", ["file", "dsn", "uri"])
def test_a_wrong_password_is_never_shown(guarded: Site, tmp_path: Path, how: str) -> None:
    """Refused, in the server's words, wherever the password came from."""
    wrong = "wr0ng-guarded"
    (tmp_path / "word").write_text(wrong)
    ways = {
        "file": {"dsn": guarded.dsn("guarded"), "password_file": str(tmp_path / "word")},
        "dsn": {"dsn": make_conninfo(guarded.dsn("guarded"), password=wrong)},
        "uri": {"dsn": f"postgresql://guarded:{wrong}@/postgres?host={guarded.folder}"},
    }
    with pytest.raises(SchedulerError, match="password authentication failed") as raised:
        read(guarded, **ways[how])
    assert wrong not in str(raised.value)


@pytest.mark.parametrize(
    "dsn", ["hunter2", "host=oar password=hun'ter2 x", "host=oar passwd=hunter2", "postgresql://u:hunter2@[h/"]
)
def test_a_dsn_that_is_none_is_not_quoted(dsn: str) -> None:
    """Part of it may be a password."""
    with pytest.raises(ConfigError, match=r"scheduler\.oar\.dsn") as raised:
        OarRecords(Oar(dsn=dsn), "lab")
    assert "ter2" not in str(raised.value)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two\nlines", b"\xff\xff"])
def test_a_password_file_without_a_password(tmp_path: Path, content: bytes | None) -> None:
    """It is named, and what is in it is not shown."""
    if content is not None:
        (tmp_path / "word").write_bytes(content)
    with pytest.raises(ConfigError, match=r"scheduler\.oar\.password_file: .*word"):
        OarRecords(Oar(dsn="host=oar", password_file=str(tmp_path / "word")), "lab")


WITHOUT = """
import sys
sys.modules["psycopg"] = None
from jobimpact.core.config import Config, Oar, Scheduler
from jobimpact.schedulers import job_source
try:
    job_source(Config(scheduler=Scheduler(oar=Oar(dsn="host=oar"))))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_the_extra() -> None:
    """Whoever has no OAR needs no psycopg, and whoever lacks it is told what to install."""
    said = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    assert said.startswith("ConfigError scheduler.oar: psycopg is not installed")
    assert "jobimpact[postgres]" in said


def test_a_table_that_is_locked(server: Postgres, site: Site) -> None:
    """A statement that waits too long is an error, not a night that hangs."""
    site.job(resources=[1])
    with server.connect() as db, db.transaction():
        db.execute(f"LOCK TABLE {site.name}.jobs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SchedulerError, match=r"no answer within 0\.5 s|statement timeout"):
            read(site, timeout_s=0.5)


@contextmanager
def silent_after(server: Postgres, word: bytes) -> Iterator[Path]:
    """A way to the server that carries nothing more once a client has said a word, and closes nothing."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / ".s.PGSQL.5432"))
    listening.listen(1)
    kept: list[socket.socket] = [listening]

    def carry(source: socket.socket, target: socket.socket, until: bytes | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if until is not None and until in data:
                    return
                target.sendall(data)

    def serve() -> None:
        client, _ = listening.accept()
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(str(server.folder / ".s.PGSQL.5432"))
        kept.extend((client, upstream))
        threading.Thread(target=carry, args=(upstream, client, None), daemon=True).start()
        carry(client, upstream, word)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield folder
    finally:
        thread.join(60)
        for one in reversed(kept):
            one.close()
        (folder / ".s.PGSQL.5432").unlink()
        folder.rmdir()


def test_a_server_that_falls_silent(server: Postgres, site: Site) -> None:
    """Stopped, or behind a cable that is cut: nothing comes, not even an end."""
    site.job(resources=[1])
    with silent_after(server, b"job_state_logs") as folder:
        dsn = make_conninfo(site.dsn(), host=str(folder))
        with pytest.raises(SchedulerError, match=r"OAR's database: no answer within 1 s"):
            read(site, dsn=dsn, timeout_s=1)


def test_a_server_that_does_not_greet(server: Postgres, site: Site) -> None:
    """It takes the connection, and says nothing: libpq waits for two seconds at least."""
    with silent_after(server, b"oar_ro") as folder:
        dsn = make_conninfo(site.dsn(), host=str(folder))
        with pytest.raises(SchedulerError, match=r"OAR's database: .*timeout"):
            read(site, dsn=dsn, timeout_s=0.1)


def test_one_snapshot_that_writes_nothing(server: Postgres, site: Site) -> None:
    """As the server's own log has it, with whose question it is."""
    with server.connect() as db:
        db.execute("ALTER ROLE oar_ro SET log_statement = 'all'")
    try:
        read(site)
    finally:
        with server.connect() as db:
            db.execute("ALTER ROLE oar_ro RESET log_statement")
    log = server.log.read_text()
    assert "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" in log
    assert "'jit', 'off'" in log
