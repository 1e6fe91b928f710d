"""What a test needs of the machine and may not find there: then it is skipped, and the run's last line says so."""

from __future__ import annotations

import os

import pytest
from tests.stores.servers import missing

__all__ = ["SKIPPED", "need", "need_server"]

SKIPPED: dict[str, str] = {}
"""In this run, and why."""


def need(what: str, reason: str, kind: str = "lab") -> None:
    """Skip, or with REQUIRE_LABS=1 fail, when there is a reason why it cannot be.

    Args:
        what: its name.
        reason: why it cannot be here; empty: it can.
        kind: of thing.
    """
    if not reason:
        return
    if os.environ.get("REQUIRE_LABS") == "1":
        pytest.fail(f"{what} {kind}: {reason}", pytrace=False)
    SKIPPED[what] = reason
    pytest.skip(f"{what} {kind}: {reason}")


def need_server(program: str) -> None:
    """Need a time-series server.

    Args:
        program: `influxd` or `victoria-metrics`.
    """
    need(program, missing(program), "server")
