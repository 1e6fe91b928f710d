"""What only the extra `accounting` brings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobimpact.core.config import Config
from jobimpact.core.errors import ConfigError

if TYPE_CHECKING:
    from jobimpact.results.write import Results

__all__ = ["extra", "opened"]


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
        if missing not in {"sqlalchemy", "apscheduler", "jinja2", "matplotlib"}:
            raise
        raise ConfigError(f"{missing} is not installed: install the extra, jobimpact[accounting]") from error


@contextmanager
def opened(config: Config) -> Iterator[Results]:
    """The results' database, to be written.

    Raises:
        ConfigError: the extra is not installed.
        StoreError: it cannot be opened.
    """
    with extra():  # not for those who only ask
        from jobimpact.results.write import Results

    results = Results(config.results)
    try:
        yield results
    finally:
        results.close()
