"""The carbon intensity of the site's zone, hour by hour: asked of one provider, and kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from jobimpact.core.config import Grid as Config
from jobimpact.core.errors import GridError
from jobimpact.core.records import HourIntensity
from jobimpact.grid.base import HOUR_S, Source, stamp
from jobimpact.grid.cache import Cache
from jobimpact.grid.csv_file import CsvFile
from jobimpact.grid.electricitymaps import ElectricityMaps
from jobimpact.grid.entsoe import Entsoe
from jobimpact.grid.rte import Rte
from jobimpact.grid.slots import hourly
from jobimpact.grid.web import NoAnswerError

__all__ = ["Grid"]

ASKS = 40
"""Questions in one go, each for days or weeks: a year and more, and then it is another night's turn."""
FAILURES = 3
"""After so many answers of no use the rest is left for the next time."""
YOUNG_S = 30 * 24 * HOUR_S
"""For so long an estimate is asked for again."""
MEAN_MONTHS = 12
MEAN_KNOWN = 0.9
"""The part of a mean's hours that must be known."""


class Grid:
    """Hourly carbon intensity of the site's zone: the provider's answers, kept in a SQLite file.

    Args:
        config: the section `grid`.
        clock: now, epoch seconds.
        generation: of each kind of generation (psrType), kgCO2e/kWh over its life cycle, and whether it counts.

    Raises:
        ConfigError: a setting, a token's file or a file of certificates is of no use; names it.
        StoreError: the cache cannot be opened, or is none. So do the methods if it cannot be read or written.
        SchemaTooNewError: a newer release wrote the cache.
    """

    def __init__(
        self, config: Config, clock: Callable[[], float], generation: Mapping[str, tuple[float, bool]]
    ) -> None:
        self.provider: str = config.provider
        """As the configuration calls it; `annual` has no hours at all."""
        self._clock = clock
        self._source = _source(config, generation)
        if self._source is not None:
            self._cache = Cache(Path(config.cache), self._source.name, self._source.key)

    def fill(self, from_s: float, to_s: float) -> list[str]:
        """Ask for the hours of a time that are not kept yet, or only as an estimate that may be better by now.

        Where only the shape of the answers is used, the months that its mean is of are asked for as well, as many as
        can be in one go: the next call goes on.

        Args:
            from_s: epoch seconds.
            to_s: its end; hours that are not over are not asked for.

        Returns:
            What went wrong in words, a line for each kind, with how many hours it concerns. A provider that fails is
            told here, and never raised.
        """
        if self._source is None:
            return []
        now = self._clock()
        wanted = [hour for hour in _hours(from_s, to_s) if hour + HOUR_S <= now]
        going = _Round(self._source, self._cache, now, frozenset(wanted))
        going.ask(self._lacking(wanted, now))
        if self._source.basis == "direct":
            for month in sorted({_month(hour) for hour in wanted}, reverse=True):
                going.find_mean(month, [hour for hour in wanted if _month(hour) == month])
        return going.problems.told()

    def hours(self, from_s: float, to_s: float) -> dict[int, HourIntensity]:
        """What is kept.

        Args:
            from_s: epoch seconds.
            to_s: its end.

        Returns:
            By start of the hour, epoch seconds; every known hour of which a part lies in that time. A direct one is
            known only with the mean that its shape is taken against.
        """
        if self._source is None:
            return {}
        span = _hours(from_s, to_s)
        known = self._cache.known(span.start, span.stop)
        if self._source.basis == "lifecycle":
            return {
                start: HourIntensity(hour.kgco2e_per_kwh, "lifecycle", estimated=hour.estimated)
                for start, hour in known.items()
            }
        means = {month: self._cache.mean(month) for month in {_month(start) for start in known}}
        return {
            start: HourIntensity(hour.kgco2e_per_kwh, "direct", mean, hour.estimated)
            for start, hour in known.items()
            if (mean := means[_month(start)]) is not None
        }

    def close(self) -> None:
        """Let go of the cache."""
        if self._source is not None:
            self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lacking(self, wanted: list[int], now: float) -> list[int]:
        if not wanted or (self._source is not None and self._source.changes):
            return wanted
        known = self._cache.known(wanted[0], wanted[-1] + 1)
        return [
            hour for hour in wanted if hour not in known or (known[hour].estimated and hour + HOUR_S > now - YOUNG_S)
        ]


class _Problems:
    """What went wrong, by kind: an example, how often, and in which of the hours that are wanted."""

    def __init__(self, name: str, wanted: frozenset[int]) -> None:
        self._name = name
        self._wanted = wanted
        self._examples: dict[str, dict[str, None]] = {}
        self._hours: dict[str, set[int]] = {}

    def add(self, what: str, examples: Iterable[str], hours: Iterable[int]) -> None:
        self._examples.setdefault(what, {}).update(dict.fromkeys(examples))
        self._hours.setdefault(what, set()).update(self._wanted.intersection(hours))

    def told(self) -> list[str]:
        return [self._line(what, examples) for what, examples in self._examples.items()]

    def _line(self, what: str, examples: Collection[str]) -> str:
        more = f", and {len(examples) - 1} more" if len(examples) > 1 else ""
        example = f": {next(iter(examples))}{more}" if examples else ""
        hours = len(self._hours[what])
        concerns = f": {hours} hour{'s' if hours > 1 else ''} concerned" if hours else ""
        return f"{self._name}: {what}{example}{concerns}"


class _Round:
    """One call's questions: bounded, newest first, and ended early by a provider that is of no use now."""

    def __init__(self, source: Source, cache: Cache, now: float, wanted: frozenset[int]) -> None:
        self.problems = _Problems(source.name, wanted)
        self._wanted = wanted
        self._source = source
        self._cache = cache
        self._now = now
        self._asks = ASKS
        self._failures = FAILURES
        self._ended: str | None = None
        """Why no more is asked."""

    def ask(self, hours: list[int]) -> None:
        """Ask for hours, in order of time, and keep the answers."""
        while hours and self._ended is None:
            first = max(hours[0], hours[-1] + HOUR_S - self._source.chunk_s)
            batch = [hour for hour in hours if hour >= first]
            hours = hours[: len(hours) - len(batch)]
            self._ask(batch)
        if hours and self._ended is not None:
            self.problems.add(self._ended, (), hours)

    def find_mean(self, month: str, hours: list[int]) -> None:
        """Keep the mean of the months before, or say why there is none, and which hours are unknown for it."""
        if self._cache.mean(month) is not None:
            return
        span = _hours_before(month)
        known = self._cache.known(span.start, span.stop)
        self.ask([hour for hour in span if hour not in known])
        values = [hour.kgco2e_per_kwh for hour in self._cache.known(span.start, span.stop).values()]
        needed = math.ceil(MEAN_KNOWN * len(span))
        mean = math.fsum(values) / len(values) if len(values) >= needed else None
        if mean:
            self._cache.freeze(month, mean, len(values), self._now)
        else:
            why = f"{len(values)} of {len(span)} hours are known, {needed} are needed" if mean is None else "all are 0"
            self.problems.add(f"no mean of the {MEAN_MONTHS} months before {month}: {why}", (), hours)

    def _ask(self, batch: list[int]) -> None:
        self._asks -= 1
        if self._asks == 0:
            self._ended = f"asked {ASKS} times, the rest is left for the next time"
        try:
            answer = self._source.ask(batch[0], batch[-1] + HOUR_S)
        except GridError as error:
            self._failures -= 1
            self.problems.add(str(error), (), batch)
            if isinstance(error, NoAnswerError) or self._failures == 0:
                self._ended = str(error)
            return
        bad = {int(one.at_s // HOUR_S) * HOUR_S for one in answer.refused if one.at_s is not None}
        for one in answer.refused:
            at = () if one.at_s is None else (int(one.at_s // HOUR_S) * HOUR_S,)
            self.problems.add(one.what, (one.example,), at)
        asked = set(batch)
        found = {start: hour for start, hour in hourly(answer.slots).items() if start in asked}
        if differ := self._cache.keep(found, self._now):
            self.problems.add("another value than the one that is kept, which stays", map(stamp, differ), differ)
        known = self._cache.known(batch[0], batch[-1] + 1)
        gone = [hour for hour in batch if hour in self._wanted and hour not in known and hour not in bad]
        if gone:
            self.problems.add("no value", map(stamp, gone), gone)


def _source(config: Config, generation: Mapping[str, tuple[float, bool]]) -> Source | None:
    match config.provider:
        case "rte":
            return Rte(config)
        case "electricitymaps":
            return ElectricityMaps(config)
        case "entsoe":
            return Entsoe(config, generation)
        case "csv":
            return CsvFile(config)
        case "annual":
            return None


def _hours(from_s: float, to_s: float) -> range:
    """The hours of which a part lies in a time."""
    return range(int(from_s // HOUR_S) * HOUR_S, math.ceil(to_s / HOUR_S) * HOUR_S, HOUR_S)


def _month(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m")


def _hours_before(month: str) -> range:
    """The hours of the twelve calendar months before one, UTC."""
    end = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    return range(int(end.replace(year=end.year - 1).timestamp()), int(end.timestamp()), HOUR_S)
