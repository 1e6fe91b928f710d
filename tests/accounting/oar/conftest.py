"""A PostgreSQL for the tests of this folder, and an OAR site in a database of its own for each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.accounting.oar.site import Site
from tests.fakes.postgres import Postgres, missing

Make = Callable[..., Site]
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A real server; where it cannot be, a skip, or with REQUIRE_LABS=1 a failure."""
    reason = missing()
    if reason and os.environ.get("REQUIRE_LABS") == "1":
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    with Postgres() as found:
        with found.connect() as db:
            db.execute("CREATE ROLE oar_ro LOGIN")
        yield found


@pytest.fixture
def make(server: Postgres) -> Iterator[Make]:
    """Sites as they are asked for."""
    made = []

    def one(**more: Any) -> Site:
        made.append(Site(server, f"oar{next(_numbers)}", **more))
        return made[-1]

    yield one
    for site in made:
        site.close()


@pytest.fixture
def site(make: Make) -> Site:
    """Two nodes of four cores; the first has a GPU for each two."""
    found = make()
    found.node("n1.site.example", range(4), 1, gpudevice=[0, 0, 1, 1])
    found.node("n2.site.example", range(4), 5)
    return found
