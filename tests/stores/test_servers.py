"""The servers that other tests stand on: they take points, keep them, and go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.needs import need_server
from tests.stores.servers import ORG, WRITE_TOKEN, Influx, InfluxV2, Server, Victoria, until

POINT = b"job_energy,node=n1 energy_uj=9007199254740993i 1732118300000"


def write(server: Server) -> int:
    if isinstance(server, InfluxV2):
        where = {"bucket": "jobimpact/books", "org": ORG, "precision": "ms"}
        return server.ask("POST", "/api/v2/write", where, POINT)[0]
    where = {} if isinstance(server, Victoria) else {"db": "jobimpact", "rp": "books"}
    return server.ask("POST", "/write", where | {"precision": "ms"}, POINT)[0]


def read(server: Server) -> bytes:
    server.settle()
    if isinstance(server, Victoria):
        return server.ask("GET", "/api/v1/export", {"match[]": "job_energy_energy_uj"})[1]
    return server.ask("GET", "/query", {"q": 'SELECT * FROM "jobimpact"."books"."job_energy"'})[1]


def test_a_point_survives_a_restart(server: Server) -> None:
    assert write(server) == 204
    assert b"900719925474099" in read(server)
    server.restart()
    assert b"900719925474099" in read(server)


def test_a_server_that_was_killed_comes_back_where_it_was(influx: Influx) -> None:
    assert write(influx) == 204
    url = influx.url
    influx.kill()
    influx.start()
    assert influx.url == url
    assert b"9007199254740993" in read(influx)


@pytest.mark.parametrize(
    ("header", "status"),
    [("Token wrong", 401), ("", 401), (f"Token {WRITE_TOKEN}", 204), ("Bearer token-of-admin", 204)],
)
def test_the_endpoint_of_2x_knows_its_tokens(influx_v2: InfluxV2, header: str, status: int) -> None:
    where = {"bucket": "jobimpact/books", "org": ORG, "precision": "ms"}
    found, body = influx_v2.ask("POST", "/api/v2/write", where, POINT, {"Authorization": header})
    assert found == status
    assert status == 204 or b'"code": "unauthorized"' in body


def test_who_may_only_write_does_not_read(tmp_path: Path) -> None:
    need_server("influxd")
    with Influx(tmp_path, auth=True) as server:
        server.create()
        assert write(server) == 204
        asked = {"q": 'SELECT * FROM "jobimpact"."books"."job_energy"', "u": "node", "p": "secret of nodes"}
        assert server.ask("GET", "/query", asked, headers={"Authorization": ""})[0] in {401, 403}
        asked |= {"u": "accounting", "p": "secret of accounting"}
        status, body = server.ask("GET", "/query", asked, headers={"Authorization": ""})
        assert (status, b"9007199254740993" in body) == (200, True)


_DIES = """
import os, sys
from pathlib import Path
from tests.needs import need_server
from tests.stores.servers import Influx
server = Influx(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


def test_a_server_dies_with_who_started_it(tmp_path: Path) -> None:
    need_server("influxd")
    command = [sys.executable, "-c", _DIES, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not _runs(pid), lambda: f"{pid} is still there")


def _runs(pid: int) -> bool:
    """A zombie that nobody collects does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
