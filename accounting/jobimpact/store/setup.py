"""Setting up a time-series server, and saying how it does: what `jobimpact store init` and `check` do."""

from __future__ import annotations

from jobimpact.core.config import InfluxStore, VictoriaStore
from jobimpact.store.setup_influx import Influx
from jobimpact.store.setup_report import Report
from jobimpact.store.setup_victoria import Victoria

__all__ = ["check", "init"]


def init(server: InfluxStore | VictoriaStore) -> Report:
    """Make what points are written to, as far as the server and our rights allow. Twice changes nothing.

    Raises:
        ConfigError: a secret cannot be read.
        StoreError: the server cannot be reached, or is another than the configuration says.
    """
    if isinstance(server, VictoriaStore):
        return Victoria(server).init()
    return Influx(server).init()


def check(server: InfluxStore | VictoriaStore, now_ms: int) -> Report:
    """How the server does: what is there, who is silent, how near its limits are.

    Args:
        server: its settings.
        now_ms: since the epoch.

    Raises:
        ConfigError: a secret cannot be read.
        StoreError: the server cannot be reached, or is another than the configuration says.
    """
    if isinstance(server, VictoriaStore):
        return Victoria(server).check(now_ms)
    return Influx(server).check(now_ms)
