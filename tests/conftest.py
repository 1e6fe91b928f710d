"""What tests in several folders need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from tests.fakes.rig import NoCompilerError, build
from tests.needs import SKIPPED

# CI asks the same questions each time: what others find at random at their desks is no reason to refuse a change.
settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def compiled() -> None:
    """The rig's programs; a machine without a compiler skips what needs them, and says so."""
    try:
        build()
    except NoCompilerError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Say which labs were skipped, after pytest's own closing line: what was not tested must be the last word."""
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if SKIPPED and reporter:
        reporter.write_line("SKIPPED LABS: " + "; ".join(f"{lab} ({why})" for lab, why in sorted(SKIPPED.items())))
    return result
