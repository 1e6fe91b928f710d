"""`jobimpactd run` and `check` as processes, with a real InfluxDB that is away when they start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.running import WAIT_S, Daemon, until
from tests.daemon.test_outbox import sent
from tests.fakes.rig import PowerRig
from tests.needs import need_server
from tests.stores.servers import Influx

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[Influx]:
    """InfluxDB 1.x with its database, stopped."""
    need_server("influxd")
    server = Influx(tmp_path / "influx")
    server.start()
    server.create()
    server.stop()
    yield server
    server.close()


def send_to(daemon: Daemon, url: str, **more: str) -> None:
    """From now on its store is a server."""
    config = json.loads(daemon.config.read_text())
    config["store"] = {"influxdb": {"url": url, "path": str(daemon.store), "timeout_s": 20, **more}}
    daemon.config.write_text(json.dumps(config))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A node with meters."""
    daemon = Daemon(tmp_path)
    with PowerRig(daemon.folder, daemon.node):
        yield daemon
        if daemon.process is not None:
            daemon.process.kill()
            daemon.process.communicate()


def check(daemon: Daemon) -> str:
    environment = {**os.environ, **daemon.node.env, "PATH": "/nowhere"}
    return subprocess.run(daemon.command("check"), env=environment, capture_output=True, text=True).stdout


def rows(influx: Influx, name: str, run: str) -> dict[tuple[str, str], list[int]]:
    """The energies of a run by domain, in order of time."""
    found: dict[tuple[str, str], list[int]] = {}
    where = f'"jobimpact"."books"."{name}" WHERE run = \'{run}\''
    body = json.loads(influx.query(f"SELECT energy_uj FROM {where} GROUP BY domain"))  # noqa: S608 (ours)
    for one in body["results"][0].get("series", []):
        found[run, one["tags"]["domain"]] = [value for _, value in one["values"]]
    return found


def waiting(daemon: Daemon) -> int:
    return int(daemon.ask("SELECT coalesce(sum(n), 0) FROM outbox_size")[0][0])


def test_a_kill_in_an_outage_loses_no_point(daemon: Daemon, influx: Influx) -> None:
    """The server is away at the start; a job begins, the daemon is killed and goes on, the job ends: all arrive."""
    send_to(daemon, influx.url)
    daemon.start()
    daemon.mark("start", "7", cpus=16)
    until(daemon.taken, "for the start mark")
    daemon.stop(signal.SIGKILL)
    before = [(one.series, one.stamp_ms) for one in sent(daemon.store / "n1.sqlite")]
    assert any("run=7" in series for series, _ in before)
    daemon.start()
    daemon.mark("end", "7")
    until(daemon.taken, "for the end mark")
    said = check(daemon)
    assert "MEND  server: " in said
    assert "Connection refused" in said
    assert " points wait, 0.0 of 64 MB" in said
    daemon.stop()
    energies = dict(daemon.ask("SELECT domain, uj FROM ledger WHERE holder = '7'"))
    queued = sent(daemon.store / "n1.sqlite")
    assert [(one.series, one.stamp_ms) for one in queued][: len(before)] == before
    influx.start()
    daemon.start()
    until(lambda: waiting(daemon) == 0, "for the outbox to be empty")
    said = check(daemon)
    assert said.count("takes points") == 2
    daemon.stop()
    found = rows(influx, "job_energy", "7")
    assert {domain: values[-1] for (_, domain), values in found.items() if values[-1]} == energies
    for values in found.values():
        assert values[0] == 0
        assert values == sorted(values)
    books: Any = [one for one in queued if one.name in ("job_energy", "job_run", "node_domain")]
    unique = {(one.series, one.stamp_ms) for one in books}
    stored = 0
    for name in ("job_energy", "job_run", "node_domain"):
        last_ms = max(one.stamp_ms for one in queued)
        body = json.loads(
            influx.query(f'SELECT count(stamp_ms) FROM "jobimpact"."books"."{name}" WHERE time <= {last_ms}ms')  # noqa: S608 (ours)
        )
        stored += body["results"][0]["series"][0]["values"][0][1]
    assert stored == len(unique)


AWAY = {
    "nobody listens": ("http://127.0.0.1:1", {}),
    "no such name": ("http://name.invalid:8086", {}),
    "no TLS": ("https://127.0.0.1:1", {"ca_file": "/nowhere"}),
    "no token": ("http://127.0.0.1:1", {"token_file": "/nowhere"}),
}


@pytest.mark.parametrize("case", AWAY)
def test_a_server_that_cannot_be_does_not_keep_the_daemon(daemon: Daemon, case: str) -> None:
    """It starts, books, and ends cleanly; what it has to tell waits, and `check` says what is to be mended."""
    url, more = AWAY[case]
    send_to(daemon, url, **more)
    daemon.start()
    daemon.mark("start", "7", cpus=16)
    until(daemon.taken, "for the start mark")
    assert "ended cleanly" in daemon.stop()
    daemon.check_exact("package-0", "dram-0")
    assert any(one.tags["run"] == "7" for one in sent(daemon.store / "n1.sqlite", "job_run"))
    (told,) = [one for one in check(daemon).splitlines() if one.startswith("MEND  server: ") and "/books" in one]
    assert not more or f"store.influxdb.{next(iter(more))}: /nowhere: No such file or directory" in told


def test_systemd_hears_that_points_wait_for_long(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the line of `systemctl status`: since when, and why."""
    send_to(daemon, "http://127.0.0.1:1")
    daemon.start()
    daemon.stop()
    with closing(sqlite3.connect(daemon.store / "n1.sqlite")) as db:
        db.execute("UPDATE outbox SET stamp_ms = stamp_ms - 86400000")
        db.commit()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(daemon.folder / "notify"))
        listener.settimeout(WAIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(daemon.folder / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        daemon.start()
        said = ""
        while not re.search(
            r"STATUS=0 jobs; points wait since [-0-9]+ [0-9:]+Z: http://127.0.0.1:1: Connection ref", said
        ):
            said = listener.recv(65536).decode()
    daemon.stop()


def test_a_local_store_imports_no_http(daemon: Daemon) -> None:
    """What a node does not need costs it nothing: neither the modules nor a row."""
    daemon.start()
    assert daemon.process is not None
    mapped = Path(f"/proc/{daemon.process.pid}/maps").read_text()
    daemon.stop()
    assert "_ssl" not in mapped
    assert waiting(daemon) == 0
    assert "server" not in check(daemon)
