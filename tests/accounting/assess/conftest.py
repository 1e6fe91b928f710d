"""Nothing is configured but what a test gives."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the shell that runs the tests has."""
    monkeypatch.delenv("JOBIMPACT_CONFIG", raising=False)
