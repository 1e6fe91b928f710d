"""A year's books of manufacture, as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from jobimpact.core.config import Config
from jobimpact.nightly.accounts import Accounts
from jobimpact.nightly.closing import Months, year_books
from jobimpact.nightly.night import extra
from jobimpact.results.record import database_path

__all__ = ["YearBooks", "books_of"]


class YearBooks(Struct, frozen=True):
    """One line for each component of each type of nodes, and for what serves several nodes."""

    year: str
    months: list[str]
    """Its months that are closed: the lines are of these."""
    closed: bool
    """The whole year is, and its true-up is written."""
    lines: list[dict[str, Any]]


def books_of(config: Config, year: str) -> YearBooks:
    """The books of a year: as they were closed, else as far as its months are.

    Raises:
        ConfigError: the inventory or the factors are wrong.
        StoreError: the results cannot be read.
    """
    if not Path(database_path(config.results)).exists():
        return YearBooks(year, [], closed=False, lines=[])
    with extra():
        from jobimpact.results.write import Results

    results = Results(config.results)
    try:
        months = Months(config, results)
        closed = sorted(month for month in months.closed if month.startswith(f"{year}-"))
        lines = results.true_ups(config.cluster, year)
        if lines or not closed:
            return YearBooks(year, closed, bool(lines), lines)
        sums = results.charged(config.cluster, closed[0], closed[-1])
        found = year_books(Accounts(config).assessor, sums, months, year)
        return YearBooks(year, closed, closed=False, lines=[to_builtins(line) for line in found])
    finally:
        results.close()
