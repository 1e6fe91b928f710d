"""What tests in several folders need."""

from __future__ import annotations

import pytest
from tests.fakes.rig import NoCompilerError, build


@pytest.fixture
def compiled() -> None:
    """The rig's programs; a machine without a compiler skips what needs them, and says so."""
    try:
        build()
    except NoCompilerError as error:
        pytest.skip(str(error))
