"""Hooks get the signals that a slurmd leaves them, whatever the test run was started with (`nohup`, `&`)."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _no_ignored_signals() -> Iterator[None]:
    """A shell cannot trap what it was started with ignored, and children inherit that."""
    ignored = [
        one for one in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT) if signal.getsignal(one) == signal.SIG_IGN
    ]
    for one in ignored:
        signal.signal(one, signal.SIG_DFL)
    yield
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)
