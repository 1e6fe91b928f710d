"""What only the extra `accounting` brings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jobimpact.core.errors import ConfigError

__all__ = ["extra"]


@contextmanager
def extra() -> Iterator[None]:
    """Around imports of what only the extra `accounting` brings.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {"sqlalchemy", "apscheduler"}:
            raise
        raise ConfigError(f"{missing} is not installed: install the extra, jobimpact[accounting]") from error
