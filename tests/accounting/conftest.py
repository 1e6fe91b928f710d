"""Time-series servers for the tests of this folder: one of each for a module, whose tests share it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.accounting.world import T0
from tests.needs import need_server
from tests.stores.servers import Influx, InfluxV2, Victoria


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    """InfluxDB 1.x; each test has a database of its own there."""
    need_server("influxd")
    with Influx(tmp_path_factory.mktemp("influx")) as server:
        yield server


@pytest.fixture(scope="module")
def influx_v2(influx: Influx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxV2]:
    """The endpoints of 2.x before it."""
    with InfluxV2(tmp_path_factory.mktemp("v2"), influx) as server:
        yield server


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victoria]:
    """VictoriaMetrics; each test has a cluster of its own there."""
    need_server("victoria-metrics")
    if time.time() < T0:
        pytest.skip("VictoriaMetrics takes no points of the future, and by this machine's clock T0 is")
    with Victoria(tmp_path_factory.mktemp("victoria")) as server:
        yield server
