"""A site beside the local providers: its configuration, its clock, and a day to ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes.grid_servers import DOMAIN, TOKEN, GridServers

from jobimpact.core import config
from jobimpact.grid.grid import Grid

__all__ = ["DAY", "GENERATION", "HOUR", "NOW", "Site"]

HOUR = 3600
DAY = 24 * HOUR
NOW = 1_772_420_400.0
"""2026-03-02T03:00Z: in the night after a first of March."""
MIDNIGHT = 1_772_409_600
"""2026-03-02T00:00Z."""
GENERATION = {"B14": (0.006, True), "B04": (0.418, True), "B10": (0.0, False), "B16": (0.043, True)}


class Site:
    """Makes a Grid for a provider, again and again on the same cache.

    Attributes:
        now: the clock, epoch seconds.
        deadline_s: of one answer.
        problems: room for what was told last.
    """

    def __init__(self, folder: Path, server: GridServers) -> None:
        self.folder = folder
        self.server = server
        self.now = NOW
        self.deadline_s = 5.0
        self.problems: list[str] = []
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN + "\n")
        self.cache = folder / "grid.db"

    def config(self, provider: str, **changes: Any) -> config.Grid:
        """The section `grid`."""
        token, url = str(self.token_file), self.server.url
        given: dict[str, Any] = {
            "zone": "FRA",
            "provider": provider,
            "rte": config.Rte(url=f"{url}/rte"),
            "electricitymaps": config.ElectricityMaps(token_file=token, zone="FR", url=f"{url}/em/v3"),
            "entsoe": config.Entsoe(token_file=token, domain=DOMAIN, url=f"{url}/entsoe/api"),
            "cache": str(self.cache),
            "deadline_s": self.deadline_s,
        }
        return config.Grid(**(given | changes))

    def grid(self, provider: str, **changes: Any) -> Grid:
        """The hours by that provider."""
        return Grid(self.config(provider, **changes), lambda: self.now, GENERATION)
