"""Hypothesis without a deadline: the machine that runs the tests may be busy."""

from __future__ import annotations

import pytest
from hypothesis import settings
from tests.fakes.rig import NoCompilerError, build

settings.register_profile("jobimpact", deadline=None, max_examples=100)
settings.load_profile("jobimpact")


@pytest.fixture
def compiled() -> None:
    """The rig's programs; a machine without a compiler skips what needs them, and says so."""
    try:
        build()
    except NoCompilerError as error:
        pytest.skip(str(error))
