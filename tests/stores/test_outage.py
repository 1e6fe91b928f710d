"""The database killed under load, and a daemon killed inside that: no point is lost, none doubled, none changed.

Real daemons and servers; the long form, with figures, is `python -m tests.bench.store_outage`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.store_outage import outage
from tests.stores.servers import Server

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.mark.parametrize("server", ["influx", "influx_v2"], indirect=True)
def test_nothing_is_lost_with_the_server(server: Server, tmp_path: Path) -> None:
    """Every point that a ledger queued is stored once, with its values, and in the order in which it came."""
    found = outage(server, tmp_path / "nodes", nodes=2, seconds=4, around=1, interval_s=0.5)
    told = found.told
    assert found.most_queued > 0, "nothing waited: the server was not away"
    assert told.queued == told.stored > found.most_queued
    assert (told.lost, told.other, told.strange, told.twice) == ([], [], 0, 0)
    assert told.in_order
    assert told.ends > 2 * 2
    assert told.out_uj == 0
