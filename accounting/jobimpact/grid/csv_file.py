"""A CSV file of carbon intensities: from a provider that we do not know, or by the site's own hand."""

from __future__ import annotations

import csv
import math
import os
import stat
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, TextIO

import msgspec

from jobimpact.core.config import Grid as Config
from jobimpact.core.errors import ConfigError, GridError
from jobimpact.grid.base import HOUR_S, Answer, Collected, Slot, seconds

__all__ = ["CsvFile"]

MAX_BYTES = 64 << 20
"""Ten years of quarter hours are a quarter of it."""
EPOCH = (1e9, 4102444800.0)
"""2001 to 2100: what lies outside is a date without dashes, or milliseconds."""


class _Row(msgspec.Struct, frozen=True):
    line: int
    start_s: float
    grams: float | None
    """None: the field is empty, which is a gap."""


class CsvFile:
    """The file that the configuration names, read again each time.

    A row holds until the next one, as long as the step before it at most, and an hour at most.

    Args:
        config: the section `grid`, with `csv`.

    Raises:
        ConfigError: its section is missing.
    """

    name = "csv"
    chunk_s = 366 * 24 * HOUR_S
    changes = True

    def __init__(self, config: Config) -> None:
        if config.csv is None:
            raise ConfigError("grid.csv: its settings are missing")
        self._csv = config.csv
        self.basis: Literal["lifecycle", "direct"] = config.csv.basis
        self.key = f"{config.csv.path} {config.csv.value} {config.csv.basis}"

    def ask(self, from_s: int, to_s: int) -> Answer:
        """The rows of [from_s, to_s), and all that cannot be read.

        Raises:
            GridError: there is no such file, or it lacks a column.
        """
        found = Collected(from_s, to_s)
        rows = self._rows(found)
        rows.sort(key=lambda row: (row.start_s, row.line))
        rows = self._once(rows, found)
        for row, length in zip(rows, _lengths([row.start_s for row in rows]), strict=True):
            if row.grams is not None and row.start_s + length > from_s and row.start_s < to_s:
                found.add(Slot(row.start_s, length, row.grams / 1000))
        return found.answer()

    def _rows(self, found: Collected) -> list[_Row]:
        path = self._csv.path
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                    raise GridError(f"{path}: not a file of {MAX_BYTES >> 20} MiB at most")
                return list(self._read(file, found))
        except OSError as error:
            raise GridError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise GridError(f"{path}: not UTF-8 text") from None

    def _read(self, file: TextIO, found: Collected) -> Iterator[_Row]:
        reader = csv.reader(file, delimiter=self._csv.delimiter)
        try:
            time_at, value_at = self._columns(next(reader, []))
            for fields in reader:
                if any(field.strip() for field in fields):
                    try:
                        yield _row(reader.line_num, fields, time_at, value_at)
                    except ValueError as error:
                        found.refuse("not a row", f"{self._csv.path}, line {reader.line_num}: {error}")
        except csv.Error as error:
            raise GridError(f"{self._csv.path}, line {reader.line_num}: {error}") from None

    def _columns(self, header: list[str]) -> tuple[int, int]:
        names = [name.strip() for name in header]
        for name in (self._csv.time, self._csv.value):
            if names.count(name) != 1:
                how = "no column" if name not in names else "more than one column"
                raise GridError(f"{self._csv.path}: {how} {name} in its first line")
        return names.index(self._csv.time), names.index(self._csv.value)

    def _once(self, rows: list[_Row], found: Collected) -> list[_Row]:
        """Each time once; one that has two values keeps its place, and none of them."""
        kept: dict[float, _Row] = {}
        for row in rows:
            first = kept.setdefault(row.start_s, row)
            if first.grams != row.grams:
                lines = f"{self._csv.path}, lines {first.line} and {row.line}"
                found.refuse("two values for one time", lines, row.start_s)
                kept[row.start_s] = msgspec.structs.replace(first, grams=None)
        return list(kept.values())


def _row(line: int, fields: list[str], time_at: int, value_at: int) -> _Row:
    if len(fields) <= max(time_at, value_at):
        raise ValueError("it is too short")
    value = fields[value_at].strip()
    try:
        grams = float(value) if value else None
    except ValueError:
        raise ValueError(f"its value is {_short(value)}") from None
    if grams is not None and not math.isfinite(grams):
        raise ValueError(f"its value is {_short(value)}")
    return _Row(line, _time(fields[time_at].strip()), grams)


def _time(text: str) -> float:
    try:
        at = float(text)
    except ValueError:
        found = seconds(text)
        if found is None:
            raise ValueError(
                f"its time is {_short(text)}: neither epoch seconds nor ISO 8601 with its offset"
            ) from None
        return found
    if not EPOCH[0] <= at < EPOCH[1]:
        raise ValueError(f"its time is {_short(text)}: not epoch seconds of this century")
    return at


def _short(text: str) -> str:
    return ascii(text[:40])


def _lengths(starts: list[float]) -> list[float]:
    """How long each slot lasts: the smaller of the steps before and after it, so that no gap is covered."""
    if not starts:
        return []
    steps = [float(HOUR_S), *(after - before for before, after in pairwise(starts)), float(HOUR_S)]
    return [min(before, after, HOUR_S) for before, after in pairwise(steps)]
