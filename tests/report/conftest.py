"""A browser, once for all that look at pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from tests.needs import need
from tests.report.looking import Looking


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looking]:
    """A real one."""
    need("chromium", "" if shutil.which("chromium") else "not installed (Debian: chromium)", "browser")
    with Looking(tmp_path_factory.mktemp("browser")) as one:
        yield one
