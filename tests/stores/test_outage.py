"""The database killed under load, and a daemon killed inside that: no point is lost, none doubled, none changed.

And where a full outbox must be thinned, no total is.

Real daemons and servers; the long form, with figures, is `python -m tests.bench.store_outage`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.store_outage import full, outage
from tests.stores.servers import Server, Victoria

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.mark.parametrize("server", ["influx", "influx_v2", "victoria"], indirect=True)
def test_nothing_is_lost_with_the_server(server: Server, tmp_path: Path) -> None:
    """Every point that a ledger queued is stored, with its values, and in the order in which it came.

    InfluxDB has it once. VictoriaMetrics was sent again what it may have lost, and shows one of two that are alike.
    """
    nodes = tmp_path / "nodes"
    found = outage(server, nodes, nodes=2, seconds=3, around=0.5, interval_s=0.5, patient=False)
    told = found.told
    assert found.most_queued > 0, "nothing waited: the server was not away"
    assert told.queued == told.stored >= found.most_queued
    assert (told.lost, told.other, told.strange) == ([], [], 0)
    assert told.twice == 0 or isinstance(server, Victoria)
    assert told.in_order
    assert told.ends > 2 * 2
    assert told.out_uj == 0


@pytest.mark.parametrize("server", ["influx", "victoria"], indirect=True)
def test_a_full_outbox_loses_no_total(server: Server, tmp_path: Path) -> None:
    """Of an hour that would take several times its outbox, power goes before the minutes, and of those every other.

    What is delivered tells the end of every run, its last energy, and books that balance to the microjoule.
    """
    found = full(server, tmp_path, seconds=3600, jobs=12, cap_bytes=40_000)
    thinned = {name: found.put[name] - found.left.get(name, 0) for name in found.put}
    assert found.packed[0] > 3 * found.packed[1]
    assert found.packed[1] <= 40_000
    assert thinned["edge"] == 0
    assert 0 < thinned["minute"] < found.put["minute"]
    assert thinned["profile"] / found.put["profile"] > 0.9
    assert found.jobs > 5
    assert found.told.ends > 5 * found.jobs
    assert (found.told.lost, found.told.other, found.told.strange) == ([], [], 0)
    assert (found.told.out_uj, found.out_uj, found.without_end) == (0, 0, 0)
