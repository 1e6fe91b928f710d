"""Real time-series servers on free ports, in a folder of the caller's: they die with who started them.

Start them from a thread that lives as long as they shall: the kernel takes them along when it ends.
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import urllib3

from jobimpact.core.config import InfluxStore, Retention, Store, VictoriaStore

__all__ = [
    "ADMIN",
    "DEADLINE_S",
    "ORG",
    "READER",
    "TOKEN",
    "WRITER",
    "WRITE_TOKEN",
    "Influx",
    "InfluxV2",
    "Server",
    "ServerError",
    "Victoria",
    "missing",
    "until",
]

DEADLINE_S = 120.0
ROOT = Path(__file__).parents[2]
ADMIN, WRITER, READER = (
    ("admin", "secret of admin"),
    ("node", "secret of nodes"),
    ("accounting", "secret of accounting"),
)
TOKEN, WRITE_TOKEN = "token-of-admin", "token-of-nodes"
"""Of the endpoint of 2.x: the one may do all, the other only write."""
ORG = "lab"


class ServerError(Exception):
    """A server did not start, or died."""


def missing(program: str) -> str:
    """Why a server cannot be started here; empty: it can."""
    packages = {"influxd": "influxdb", "victoria-metrics": "victoria-metrics", "setpriv": "util-linux"}
    absent = [f"{one} (Debian: {packages[one]})" for one in ("setpriv", program) if shutil.which(one) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def until(holds: Callable[[], bool], why: Callable[[], str], deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition.

    Raises:
        ServerError: it does not come true, and why.
    """
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            raise ServerError(why())
        time.sleep(0.02)


def free_port() -> tuple[int, socket.socket]:
    """One that nobody listens on, below those that the kernel gives to clients: a restart finds it free again.

    Returns:
        The port, and what keeps it from other test runs until it is closed, while a server is down or not up yet.
    """
    for _ in range(200):
        port = random.randrange(20000, 32000)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0jobimpact-tests-{port}")  # of the kernel's names, not of the file system's
            with socket.socket() as one:
                one.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        return port, claim
    raise ServerError("no free port")


def _state(task: Path) -> str:
    """Of a thread; X: it is gone."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


class Server(ABC):
    """One server.

    Args:
        folder: of its own, made where it is not there: its data and log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(DEADLINE_S))
        self._process: subprocess.Popen[bytes] | None = None
        self._claim: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def _command(self) -> list[str]:
        """The server in the foreground, on `port`."""

    @abstractmethod
    def _alive(self) -> bool:
        """Whether it answers."""

    @abstractmethod
    def create(self, database: str = "jobimpact") -> None:
        """Make what points are written to, as `jobimpact store init` does; harmless when it is there."""

    @abstractmethod
    def store(self, path: Path, **more: object) -> Store:
        """The configuration's section for it.

        Args:
            path: of the books.
            more: further settings.
        """

    def settle(self) -> bool:
        """Return when all that was accepted can be read."""
        return True

    @property
    def pid(self) -> int:
        """Of the server, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers. A restarted one listens where it did."""
        self.folder.mkdir(parents=True, exist_ok=True)
        chosen = self.port
        for _ in range(5):
            if not chosen:
                self.close()
                self.port, self._claim = free_port()
            self._launch()
            try:
                until(self._answers, lambda: f"{type(self).__name__} does not answer\n{self.log()}")
            except ServerError:
                # Another has taken the port in between.
                if not chosen and "address already in use" in self.log():
                    continue
                self.stop()
                raise
            return
        raise ServerError(f"{type(self).__name__} found no port\n{self.log()}")

    def _launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command()],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerError(f"{type(self).__name__} died\n{self.log()}")
        try:
            return self._alive()
        except urllib3.exceptions.HTTPError:
            return False

    def stop(self) -> None:
        """Ask it to end, and wait; harmless when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it where it runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It holds its connections and says nothing any more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        until(lambda: all(_state(one) in "TZX" for one in tasks.iterdir()), lambda: "it does not stop")

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self.http.clear()

    def close(self) -> None:
        """End it for good: its port is others' to take."""
        self.kill()
        self.http.clear()
        if self._claim is not None:
            self._claim.close()

    def log(self) -> str:
        """The end of what it said."""
        file = self.folder / "log"
        return file.read_text(errors="replace")[-4000:] if file.exists() else ""

    def ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """One request, as it comes back: status and body."""
        url = f"{self.url}{path}" + (f"?{urlencode(params)}" if params else "")
        answer = self.http.request(method, url, body=body or None, headers=dict(self._who() | dict(headers or {})))
        return answer.status, answer.data

    def _who(self) -> dict[str, str]:
        return {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Influx(Server):
    """InfluxDB 1.x.

    Args:
        folder: of its own.
        index: `tsi1` or `inmem`.
        auth: names and passwords: see ADMIN, WRITER and READER, who are made by `create`.
        values_per_tag: the server's limit (with `inmem`); 0: none.
        series: the server's limit of a database (with `inmem`); 0: none.
        max_rows: of an answer; 0: no limit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        index: str = "tsi1",
        auth: bool = False,
        values_per_tag: int = 0,
        series: int = 0,
        max_rows: int = 0,
    ) -> None:
        super().__init__(folder)
        self.auth = auth
        self._settings = _INFLUXD.format(
            folder=folder,
            index=index,
            auth=str(auth).lower(),
            values=values_per_tag,
            series=series,
            rows=max_rows,
            port="{port}",
        )

    def _command(self) -> list[str]:
        file = self.folder / "influxdb.conf"
        file.write_text(self._settings.format(port=self.port))
        return ["influxd", "-config", str(file)]

    def _alive(self) -> bool:
        return self.ask("GET", "/ping")[0] == 204

    def query(self, text: str, database: str = "") -> bytes:
        """An InfluxQL statement's answer.

        Raises:
            ServerError: it was refused.
        """
        status, body = self.ask("POST", "/query", {"q": text, "db": database})
        if status != 200 or b'"error"' in body:
            raise ServerError(f"{text}: HTTP {status}: {body[:500]!r}")
        return body

    def create(self, database: str = "jobimpact") -> None:
        """Database, retention policies, and with `auth` the users."""
        if self.auth:
            # The first of all may be made by anybody.
            self.ask("POST", "/query", {"q": f"CREATE USER {ADMIN[0]} WITH PASSWORD '{ADMIN[1]}' WITH ALL PRIVILEGES"})
        self.query(f'CREATE DATABASE "{database}"')
        for name in ("books", "profile", "ever"):
            self.query(f'CREATE RETENTION POLICY "{name}" ON "{database}" DURATION INF REPLICATION 1')
        for (name, password), right in {WRITER: "WRITE", READER: "READ"}.items() if self.auth else ():
            self.query(f"CREATE USER {name} WITH PASSWORD '{password}'")
            self.query(f'GRANT {right} ON "{database}" TO {name}')

    def _who(self) -> dict[str, str]:
        return dict(urllib3.make_headers(basic_auth=":".join(ADMIN))) if self.auth else {}

    def store(self, path: Path, **more: object) -> Store:
        """With `auth`, the admin's name, and its password in a file beside the data."""
        if self.auth and "username" not in more:
            secret = self.folder / "password"
            secret.write_text(ADMIN[1] + "\n")
            more |= {"username": ADMIN[0], "password_file": str(secret)}
        return Store(influxdb=InfluxStore(**({"url": self.url, "path": str(path)} | _influx(more))))


class InfluxV2(Server):
    """The endpoints of InfluxDB 2.x, translated for an InfluxDB 1.x that is behind: see `v2.py`.

    Args:
        folder: of its own.
        engine: the server behind; it must not ask for passwords, and runs already.
    """

    def __init__(self, folder: Path, engine: Influx) -> None:
        super().__init__(folder)
        self.engine = engine

    def _command(self) -> list[str]:
        tokens = f"{TOKEN}=all,{WRITE_TOKEN}=write"
        return [sys.executable, "-m", "tests.stores.v2", str(self.port), self.engine.url, ORG, tokens]

    def _alive(self) -> bool:
        return self.ask("GET", "/health")[0] == 200

    def create(self, database: str = "jobimpact") -> None:
        """The buckets: retention policies of the server behind."""
        self.engine.create(database)

    def _who(self) -> dict[str, str]:
        return {"Authorization": f"Token {TOKEN}"}

    def store(self, path: Path, **more: object) -> Store:
        """The token that may do all, in a file, unless another is given."""
        if "token_file" not in more:
            secret = self.folder / "token"
            secret.write_text(TOKEN + "\n")
            more |= {"token_file": str(secret)}
        return Store(influxdb=InfluxStore(**({"url": self.url, "path": str(path), "org": ORG} | _influx(more))))


class Victoria(Server):
    """VictoriaMetrics, one node.

    Args:
        folder: of its own.
        retention: for how long it keeps points.
        flags: further ones.
    """

    def __init__(self, folder: Path, *, retention: str = "100y", flags: tuple[str, ...] = ()) -> None:
        super().__init__(folder)
        self._settled = 0
        self._flags = (
            *("-dedup.minScrapeInterval=1ms", "-search.latencyOffset=0s", f"-retentionPeriod={retention}"),
            *("-memory.allowedBytes=256MB", "-loggerLevel=WARN"),
            *flags,
        )

    def _command(self) -> list[str]:
        where = f"-storageDataPath={self.folder / 'data'}"
        return ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{self.port}", where, *self._flags]

    def _alive(self) -> bool:
        return self.ask("GET", "/health")[0] == 200

    def create(self, database: str = "jobimpact") -> None:
        """Nothing is to be made there."""

    def settle(self) -> bool:
        """Points wait in memory for a second or so before a question finds them.

        And a question that was asked before may be answered, for ten seconds, without the series that are new since:
        the server remembers which ones it found. It forgets that when a series is deleted, so one is made for it.
        """
        self._settled += 1
        name = f"settled_{self._settled}"
        wanted = (
            ("POST", "/write", None, f"{name} n=1".encode()),
            ("GET", "/internal/force_flush", None, b""),
            ("POST", "/api/v1/admin/tsdb/delete_series", {"match[]": f"{name}_n"}, b""),
        )
        return all(self.ask(how, path, params, body)[0] in {200, 204} for how, path, params, body in wanted)

    def store(self, path: Path, **more: object) -> Store:
        """As it is."""
        return Store(victoriametrics=VictoriaStore(**({"url": self.url, "path": str(path)} | more)))


def _influx(more: dict[str, object]) -> dict[str, object]:
    found = dict(more)
    if isinstance(found.get("retention"), dict):
        found["retention"] = Retention(**found["retention"])  # type: ignore[arg-type]
    return found


_INFLUXD = """\
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = "{folder}/meta"
retention-autocreate = true
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
index-version = "{index}"
query-log-enabled = false
max-series-per-database = {series}
max-values-per-tag = {values}
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
auth-enabled = {auth}
log-enabled = false
max-row-limit = {rows}
[continuous_queries]
enabled = false
"""
