"""What is read back from a time-series server, whichever it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Protocol

from msgspec import Struct

from jobimpact.core.errors import StoreError
from jobimpact.core.series import Measurement, Value

__all__ = ["HOUR_MS", "Row", "SeriesReader", "number", "spans"]

HOUR_MS = 3_600_000


class Row(Struct, frozen=True):
    """One point as it was written: tags that it has, its stamp (ms since the epoch), and fields that are known."""

    tags: dict[str, str]
    stamp_ms: int
    fields: dict[str, Value]


class SeriesReader(Protocol):
    """Points by measurement and time [from_ms, to_ms), in no order, each once.

    `where` is by values of tags, as they were written. Nothing that is partial is ever returned as if it were all:
    rows come as they arrive, and the error at the end says that they are of no use.

    Raises:
        ConfigError: a setting is of no use: a secret that cannot be read.
        StoreError: the server cannot be reached, refuses, says that its answer is partial, breaks off, or answers
            with something else.
    """

    def edges(
        self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None
    ) -> Iterator[Row]:
        """Of each series the first and the last point of each full hour (UTC), where it has any."""
        ...

    def rows(self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None) -> Iterator[Row]:
        """Every point."""
        ...

    def latest(
        self, of: Measurement, from_ms: int, to_ms: int, where: Mapping[str, str] | None = None
    ) -> Iterator[Row]:
        """The last point of each series."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


def spans(from_ms: int, to_ms: int, length_ms: int) -> Iterator[tuple[int, int]]:
    """A time cut at the multiples of a length."""
    begin = from_ms
    while begin < to_ms:
        end = min((begin // length_ms + 1) * length_ms, to_ms)
        yield begin, end
        begin = end


def number(of: Measurement, name: str, value: object) -> Value:
    """A field's value in its own type; as it is where it is of another: that is its row's trouble alone.

    Raises:
        StoreError: it is of no type that a field may have.
    """
    if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        if isinstance(value, str) or not math.isfinite(value):
            return value
        if name in of.floats:
            return float(value)
        return int(value) if name in of.ints and value == int(value) else value
    raise StoreError(f"{of.name}.{name}: {value!r:.80} is not what we write there: do others write to it?")
