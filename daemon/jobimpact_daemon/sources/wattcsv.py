"""The CSV file of a wattmeter's own program, followed as it grows; and how stamps and watts are read anywhere.

What the file held before the daemon came is nobody's: reading starts at its end. A rotated or truncated file is read
from its start, a last line without an end waits until it is whole, and a row that cannot be read is named and skipped.
"""

from __future__ import annotations

import csv
import math
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from jobimpact.core import config
from jobimpact.core.records import Absent, Failed
from jobimpact.core.units import NS
from jobimpact_daemon.gauges import Sample

__all__ = ["Named", "Table", "WattCsv", "checked_w", "stamp_ns"]

MAX_W = 100_000.0
"""More than any node draws."""
EPOCH_S = (1e8, 1e10)
"""What seconds since the epoch can be (1973 to 2286): milliseconds are more."""
CHUNK = 1 << 20
MAX_LINE = 1 << 16
HEAD = 256
"""Bytes by which a file that was truncated and has grown again is told."""

Named = tuple[str, Sample]
"""An outlet, and its power at a time of the meter's clock (ns since the epoch)."""


def stamp_ns(text: str) -> int:
    """A time as ns since the epoch: seconds since then, or ISO 8601 with an offset.

    Raises:
        ValueError: it is neither; a local time without an offset happens twice each autumn.
    """
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        return _iso_ns(text)
    if not EPOCH_S[0] < seconds < EPOCH_S[1]:
        raise ValueError(f"{text!r} are not seconds since the epoch")
    return round(seconds * NS)


def _iso_ns(text: str) -> int:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither seconds since the epoch nor a time in ISO 8601") from None
    if when.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def checked_w(watts: object) -> float:
    """Power as a meter may tell it.

    Raises:
        ValueError: no number, negative, or more than any node draws.
    """
    if isinstance(watts, bool) or not isinstance(watts, int | float):
        raise ValueError(f"{watts!r} is not a number of watts")  # noqa: TRY004 (a row's fault, as any other)
    if not (math.isfinite(watts) and 0 <= watts <= MAX_W):
        raise ValueError(f"{watts:g} W is out of range (0 to {MAX_W:g})")
    return float(watts)


class Table:
    """Which columns of a CSV file are time and power.

    Args:
        time: the column's name, or its number from 1.
        watts: the same.
        delimiter: between fields; if it is not a comma, numbers may have a decimal comma.
    """

    def __init__(self, time: str, watts: str, delimiter: str) -> None:
        self._names = time, watts
        self._delimiter = delimiter
        self._columns: tuple[int, int] | None = None
        self.problem: str | None = "no whole line yet"
        """Why the columns are not known; None: they are."""

    def header(self, text: str) -> bool:
        """Look at a file's first line.

        Returns:
            Whether it is a header, so holds no sample.

        Raises:
            ValueError: it has no such column.
        """
        self._columns = None
        fields = [field.strip().lstrip("\ufeff#").strip() for field in self._fields(text)]
        try:
            found = [_column(name, fields) for name in self._names]
        except ValueError as error:
            self.problem = str(error)
            raise
        self._columns, self.problem = (found[0], found[1]), None
        if not all(name.isdecimal() for name in self._names):
            return True
        try:
            stamp_ns(fields[found[0]])
        except (ValueError, IndexError):
            return True
        return False

    def sample(self, text: str) -> Sample:
        """A row's sample.

        Raises:
            ValueError: why it has none.
        """
        if self._columns is None:
            raise ValueError(self.problem)
        fields = self._fields(text)
        time, watts = self._columns
        if len(fields) <= max(time, watts):
            raise ValueError(f"only {len(fields)} columns")
        said = fields[watts].strip()
        number = said if self._delimiter == "," else said.replace(",", ".")
        try:
            power = float(number)
        except ValueError:
            raise ValueError(f"{said!r} is not a number of watts") from None
        return Sample(checked_w(power), stamp_ns(fields[time]))

    def _fields(self, text: str) -> list[str]:
        try:
            return next(csv.reader([text], delimiter=self._delimiter), [])
        except csv.Error as error:
            raise ValueError(str(error)) from None


def _column(name: str, fields: list[str]) -> int:
    if name.isdecimal() and int(name):
        return int(name) - 1
    if name not in fields:
        raise ValueError(f"no column {name!r}; the first line has: {', '.join(fields)[:200]}")
    return fields.index(name)


class _Line(msgspec.Struct, frozen=True):
    row: int
    text: str
    old: bool = False
    """The first line of a file that was there before."""


class _Tail:
    """A growing file, as `tail -F` follows it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._at_end = True
        self._begin(0, 0)

    def _begin(self, position: int, row: int) -> None:
        self._position, self._row, self._rest, self._head = position, row, b"", b""

    def lines(self) -> Iterator[_Line]:
        """Whole lines that are new.

        Raises:
            OSError: the file cannot be read, or is not there: what it had to say has been said.
        """
        if self._fd is None:
            first = self._open()
            if first is not None:
                yield first
        yield from self._new()
        if self._rotated():
            yield from self._new()
            if self._rest:
                yield _Line(self._row + 1, _text(self._rest))
            self.close()
            self._open()
            yield from self._new()

    def close(self) -> None:
        """Let go of the file; its name is read from the start of whatever is there next."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> _Line | None:
        try:
            # A FIFO without a writer would hang here.
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            self._at_end = False
            raise
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self.close()
            raise OSError(0, "not a regular file")
        self._begin(0, 0)
        at_end, self._at_end = self._at_end, False
        return self._skip() if at_end else None

    def _skip(self) -> _Line | None:
        """Go behind the last whole line, and count the rows for their numbers."""
        first = None
        for line in self._new():
            first = first or _Line(line.row, line.text, old=True)
        return first

    def _new(self) -> Iterator[_Line]:
        fd = self._fd
        if fd is None:
            return
        if os.fstat(fd).st_size < self._position or os.pread(fd, len(self._head), 0) != self._head:
            self._begin(0, 0)
        while chunk := os.pread(fd, CHUNK, self._position):
            if len(self._head) < HEAD:
                self._head = os.pread(fd, min(HEAD, self._position + len(chunk)), 0)
            self._position += len(chunk)
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > MAX_LINE:
                whole, self._rest = [*whole, self._rest[:MAX_LINE]], b""
            for line in whole:
                self._row += 1
                yield _Line(self._row, _text(line))

    def _rotated(self) -> bool:
        if self._fd is None:
            return False
        here, there = os.fstat(self._fd), self._path.stat()
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")


class WattCsv:
    """A feed of samples: what the file has that is new.

    Args:
        settings: the file, its columns and its delimiter.
    """

    name = "csv"

    def __init__(self, settings: config.WattCsv) -> None:
        self.problem: str | None = None
        self._path = Path(settings.path)
        self._tail = _Tail(self._path)
        self._table = Table(settings.time, settings.watts, settings.delimiter)
        self._was_there = False

    def fetch(self, _since_ns: int | None) -> list[Named] | Absent | Failed:
        """Rows since the last time.

        Returns:
            Samples of the one outlet; why there are none where the file itself is at fault.
        """
        samples: list[Named] = []
        bad: list[str] = []
        self.problem = None
        fault: Absent | Failed | None = None
        try:
            for line in self._tail.lines():
                self._was_there = True
                self._take(line, samples, bad)
        except OSError as error:
            why = f"{self._path}: {error.strerror}"
            gone = Failed if self._was_there else Absent
            refused = Absent(f"{self._path}: not readable by this user")
            fault = refused if isinstance(error, PermissionError) else gone(why)
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            self.problem = f"{self._path}: {bad[0]}{more}"
        if fault is not None and not samples:
            return fault
        if self._table.problem:
            return Failed(f"{self._path}: row 1: {self._table.problem}")
        return samples

    def _take(self, line: _Line, samples: list[Named], bad: list[str]) -> None:
        try:
            if line.row == 1 and (self._table.header(line.text) or line.old):
                return
            if line.text.strip():
                samples.append(("", self._table.sample(line.text)))
        except ValueError as error:
            bad.append(f"row {line.row}: {error}")

    def close(self) -> None:
        """Close the file."""
        self._tail.close()
