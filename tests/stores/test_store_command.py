"""`jobimpact store init` and `check` on real servers."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from tests.needs import need_server
from tests.stores.servers import WRITE_TOKEN, WRITER, Influx, InfluxV2, Server, Victoria

from jobimpact.cli.main import main
from jobimpact.core.config import Store
from jobimpact.core.line import line
from jobimpact.core.series import NODE_DOMAIN, NODE_POWER, Point
from jobimpact.core.server import Server as Way

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command's status and what it printed."""

    def call(what: str, store: Store) -> tuple[int, str]:
        sections = {name: one for name, one in msgspec.to_builtins(store).items() if one is not None}
        file = tmp_path / "jobimpact.yaml"
        file.write_text(yaml.safe_dump({"store": sections}))
        status = main(["store", what, "--config", str(file)])
        told = capsys.readouterr()
        return status, told.out + told.err

    return call


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Influx]:
    """InfluxDB 1.x without a database."""
    need_server("influxd")
    with Influx(tmp_path / "influx") as server:
        yield server


@pytest.fixture
def empty_v2(tmp_path: Path, empty: Influx) -> Iterator[InfluxV2]:
    """The endpoints of 2.x without a bucket."""
    with InfluxV2(tmp_path / "v2", empty) as server:
        yield server


def policies(server: Influx) -> dict[str, tuple[str, str]]:
    """By name: how long it keeps, and the length of its shards."""
    body = server.query('SHOW RETENTION POLICIES ON "jobimpact"').decode()
    return {name: (kept, shard) for name, kept, shard in re.findall(r'\["(\w+)","(\w+)","(\w+)",1', body)}


WANTED = {"books": ("168h0m0s", "24h0m0s"), "profile": ("2160h0m0s", "168h0m0s"), "ever": ("0s", "8736h0m0s")}


def test_it_makes_database_and_policies_and_twice_changes_nothing(empty: Influx, tmp_path: Path, run: Run) -> None:
    status, told = run("init", empty.store(tmp_path))
    assert (status, told.count("made")) == (0, 4)
    assert WANTED.items() <= policies(empty).items()
    status, told = run("init", empty.store(tmp_path))
    assert (status, told.count("made"), told.count("changed"), told.count("there: ")) == (0, 0, 0, 3)


def test_a_changed_configuration_changes_what_is_kept(empty: Influx, tmp_path: Path, run: Run) -> None:
    run("init", empty.store(tmp_path))
    status, told = run("init", empty.store(tmp_path, retention={"books_days": 30, "profile_days": 90}))
    assert status == 0
    assert re.search(r"books +changed: 30 days, was 7 days", told)
    assert {name: policies(empty)[name] for name in WANTED} == WANTED | {"books": ("720h0m0s", "24h0m0s")}


def test_buckets_of_2x_are_made_kept_and_changed(empty_v2: InfluxV2, tmp_path: Path, run: Run) -> None:
    assert run("init", empty_v2.store(tmp_path))[1].count("made") == 3
    status, told = run("init", empty_v2.store(tmp_path))
    assert (status, told.count("there: ")) == (0, 3)
    status, told = run("init", empty_v2.store(tmp_path, retention={"books_days": 14}))
    assert status == 0
    assert re.search(r"jobimpact/books +changed: 14 days, was 7 days", told)
    kept = {name: duration for name, (duration, _) in policies(empty_v2.engine).items()}
    assert kept.items() >= {"books": "336h0m0s", "profile": "2160h0m0s", "ever": "0s"}.items()


def test_a_token_that_may_not_is_told_the_commands(empty_v2: InfluxV2, tmp_path: Path, run: Run) -> None:
    secret = tmp_path / "node"
    secret.write_text(WRITE_TOKEN)
    status, told = run("init", empty_v2.store(tmp_path, token_file=str(secret)))
    assert status == 1
    assert "influx bucket create --org lab --name jobimpact/books --retention 168h" in told
    assert "influx bucket create --org lab --name jobimpact/ever --retention 0" in told


@pytest.mark.parametrize("what", ["init", "check"])
def test_a_wrong_token_is_said_once(empty_v2: InfluxV2, tmp_path: Path, run: Run, what: str) -> None:
    secret = tmp_path / "node"
    secret.write_text("wrong")
    status, told = run(what, empty_v2.store(tmp_path, token_file=str(secret)))
    assert (status, told.count("\n")) == (3, 1)
    assert "HTTP 401" in told
    assert "store.influxdb.token_file" in told


def test_a_user_of_1x_who_may_not_is_told_the_commands(tmp_path: Path, run: Run) -> None:
    need_server("influxd")
    with Influx(tmp_path / "influx", auth=True) as server:
        server.create("other")
        secret = tmp_path / "password"
        secret.write_text(WRITER[1])
        status, told = run("init", server.store(tmp_path, username=WRITER[0], password_file=str(secret)))
        assert status == 1
        commands = re.findall(r"-execute '(.*)'$", told, re.MULTILINE)
        assert len(commands) == 4
        for command in commands:
            server.query(command)
        assert WANTED.items() <= policies(server).items()


@pytest.mark.parametrize("what", ["init", "check"])
def test_a_wrong_password_is_said_once(tmp_path: Path, run: Run, what: str) -> None:
    """No command of an admin's mends it."""
    need_server("influxd")
    with Influx(tmp_path / "influx", auth=True) as server:
        server.create()
        secret = tmp_path / "password"
        secret.write_text("wrong")
        status, told = run(what, server.store(tmp_path, username=WRITER[0], password_file=str(secret)))
    assert (status, told.count("\n")) == (3, 1)
    assert "HTTP 401" in told
    assert "username and password_file" in told


def test_who_may_only_write_is_told_what_it_lacks(tmp_path: Path, run: Run) -> None:
    """The database is there: its policies alone are left, and our statement is not repeated."""
    need_server("influxd")
    with Influx(tmp_path / "influx", auth=True) as server:
        server.create()
        secret = tmp_path / "password"
        secret.write_text(WRITER[1])
        store = server.store(tmp_path, username=WRITER[0], password_file=str(secret))
        status, told = run("init", store)
        assert (status, told.count(f"influx -host 127.0.0.1 -port {server.port} -username ADMIN")) == (1, 3)
        assert "CREATE DATABASE" not in told
        status, told = run("check", store)
    assert status == 1
    assert "requires READ on jobimpact" in told
    assert "SELECT" not in told


class Tls(Influx):
    """InfluxDB 1.x that speaks TLS alone."""

    def _alive(self) -> bool:
        return self.ask("GET", "/ping")[0] == 400


def test_tls_with_a_ca_of_ones_own(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its certificate; without TLS, or without the certificate, the key to set is told."""
    need_server("influxd")
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "9"]
    subprocess.run(
        [*made, "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True
    )
    for name, value in {"ENABLED": "true", "CERTIFICATE": cert, "PRIVATE_KEY": key}.items():
        monkeypatch.setenv(f"INFLUXDB_HTTP_HTTPS_{name}", value)
    with Tls(tmp_path / "influx") as server:
        url = server.url.replace("http:", "https:")
        assert run("init", server.store(tmp_path, url=url, ca_file=cert))[0] == 0
        status, told = run("check", server.store(tmp_path, url=url))
        assert (status, "store.influxdb.ca_file" in told) == (3, True)
        status, told = run("check", server.store(tmp_path))
        assert (status, "is it https:// in store.influxdb.url?" in told) == (3, True)


@pytest.mark.parametrize("what", ["init", "check"])
def test_limits_that_are_near_are_told(tmp_path: Path, run: Run, what: str) -> None:
    need_server("influxd")
    with Influx(tmp_path / "influx", index="inmem", values_per_tag=10, series=1000) as server:
        run("init", server.store(tmp_path))
        lines = "\n".join(f"job_energy,run={number} energy_uj=1i,stamp_ms=1i" for number in range(9))
        assert server.ask("POST", "/write", {"db": "jobimpact", "rp": "books"}, lines.encode())[0] == 204
        status, told = run(what, server.store(tmp_path))
        assert status == 1
        assert re.search(r"^! runs +9 of 10 \(max-values-per-tag\)", told, re.MULTILINE)
        assert re.search(r"^  series +9 of 1,000", told, re.MULTILINE)


def test_silent_nodes_and_the_age_of_points_are_told(server: Server, tmp_path: Path, run: Run) -> None:
    store = server.store(tmp_path)
    run("init", store)
    now = int(time.time() * 1000)
    ages = {"quick": 5_000, "slow": 3 * 3600_000, "odd'\"\\n\x1b": 25 * 3600_000, "early": -3600_000}
    assert store.server
    way = Way(store.server)
    for node, age in ages.items():
        for of in (NODE_DOMAIN, NODE_POWER):
            fields = {"energy_uj": 1} | ({"stamp_ms": now - age} if of is NODE_DOMAIN else {})
            one = Point(of, ("c", node, "d", "cpu"), now - age, dict(fields))
            assert way.write(of.kept, [line(one, words_as_tags=way.words_as_tags)]).kind == "delivered"
    way.close()
    assert server.settle()
    status, told = run("check", store)
    assert status == 1
    assert re.search(r"silent +slow: newest point 3 h ago", told)
    assert re.search(r"silent +odd'\"\\n\?: newest point 25 h ago", told)
    assert "quick" not in told
    assert re.search(r"ahead +early: its clock is \d+ min ahead", told)
    assert re.search(r"node_domain +newest point is in the future, 4 nodes", told)
    assert re.search(r"job_impact +no points", told)


def test_what_is_missing_is_told_by_check(empty: Influx, tmp_path: Path, run: Run) -> None:
    status, told = run("check", empty.store(tmp_path))
    assert status == 1
    assert "database not found" in told
    assert "jobimpact store init" in told


def test_flags_of_victoriametrics_are_judged(tmp_path: Path, run: Run) -> None:
    need_server("victoria-metrics")
    with Victoria(tmp_path / "good") as good:
        status, told = run("init", good.store(tmp_path))
        assert status == 0, told
    with Victoria(tmp_path / "bad", retention="1", flags=("-dedup.minScrapeInterval=0s",)) as bad:
        status, told = run("check", bad.store(tmp_path))
        assert status == 1
        assert "-retentionPeriod=10y" in told
        assert "-dedup.minScrapeInterval=1ms" in told


def test_the_wrong_engine_is_named(influx: Influx, victoria: Victoria, tmp_path: Path, run: Run) -> None:
    for what in ("init", "check"):
        swapped = influx.store(tmp_path, url=victoria.url)
        assert run(what, swapped)[0] == 3
        assert "set store.victoriametrics" in run(what, swapped)[1]
        swapped = victoria.store(tmp_path, url=influx.url)
        assert run(what, swapped)[0] == 3
        assert "store.influxdb" in run(what, swapped)[1]


def test_a_server_that_is_away_is_exit_status_3(influx: Influx, tmp_path: Path, run: Run) -> None:
    store = influx.store(tmp_path)
    influx.kill()
    for what in ("init", "check"):
        status, told = run(what, store)
        assert status == 3
        assert influx.url in told


def test_a_local_store_needs_nothing(tmp_path: Path, run: Run) -> None:
    assert run("init", Store()) == (0, "store: local, in /var/lib/jobimpact: nothing is to be done\n")
