"""The reader of the server that is configured."""

from __future__ import annotations

from jobimpact.core.config import InfluxStore, Store, VictoriaStore
from jobimpact.core.errors import ConfigError
from jobimpact.store.series import SeriesReader

__all__ = ["reader_of"]


def reader_of(store: Store) -> SeriesReader:
    """The reader of the server that is configured; no other's is loaded.

    Raises:
        ConfigError: there is none.
    """
    server = store.server
    if isinstance(server, InfluxStore):
        from jobimpact.store.influx import InfluxReader

        return InfluxReader(server)
    if isinstance(server, VictoriaStore):
        from jobimpact.store.victoria import VictoriaReader

        return VictoriaReader(server)
    raise ConfigError("store: local has no server to read from")
