"""The local providers, and a site beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.accounting.grid.world import Site
from tests.fakes.grid_servers import GridServers, serving


@pytest.fixture
def server() -> Iterator[GridServers]:
    """All three providers."""
    with serving() as one:
        yield one


@pytest.fixture
def site(tmp_path: Path, server: GridServers) -> Site:
    """A site beside them."""
    return Site(tmp_path, server)
