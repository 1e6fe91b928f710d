"""What tests in several folders need."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from tests.fakes.rig import NoCompilerError, build

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
