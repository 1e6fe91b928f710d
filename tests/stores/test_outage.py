"""The database killed under load, and a daemon killed inside that: no point is lost, none doubled, none changed.

Real daemons and servers; the long form, with figures, is `python -m tests.bench.store_outage`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.store_outage import outage
from tests.stores.servers import Server, Victoria

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.mark.parametrize("server", ["influx", "influx_v2", "victoria"], indirect=True)
def test_nothing_is_lost_with_the_server(server: Server, tmp_path: Path) -> None:
    """Every point that a ledger queued is stored once, with its values, and in the order in which it came.

    VictoriaMetrics is ended in good order: killed, it loses points that it has accepted.
    """
    gently = isinstance(server, Victoria)
    nodes = tmp_path / "nodes"
    found = outage(server, nodes, nodes=2, seconds=3, around=0.5, interval_s=0.5, patient=False, gently=gently)
    told = found.told
    assert found.most_queued > 0, "nothing waited: the server was not away"
    assert told.queued == told.stored >= found.most_queued
    assert (told.lost, told.other, told.strange, told.twice) == ([], [], 0, 0)
    assert told.in_order
    assert told.ends > 2 * 2
    assert told.out_uj == 0
