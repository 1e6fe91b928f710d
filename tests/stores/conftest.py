"""Real servers for the tests of this folder, each with data of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.needs import need_server
from tests.stores.servers import Influx, InfluxV2, Server, Victoria


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[Influx]:
    """InfluxDB 1.x with its database."""
    need_server("influxd")
    with Influx(tmp_path / "influx") as server:
        server.create()
        yield server


@pytest.fixture
def influx_v2(tmp_path: Path, influx: Influx) -> Iterator[InfluxV2]:
    """The endpoints of 2.x, with its buckets."""
    with InfluxV2(tmp_path / "v2", influx) as server:
        yield server


@pytest.fixture
def victoria(tmp_path: Path) -> Iterator[Victoria]:
    """VictoriaMetrics."""
    need_server("victoria-metrics")
    with Victoria(tmp_path / "victoria") as server:
        yield server


@pytest.fixture(params=["influx", "influx_v2", "victoria"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of them."""
    found: Server = request.getfixturevalue(request.param)
    return found
