"""`jobimpact compare A B ...`: jobs, groups of the same label, and functional units side by side."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from jobimpact.answers.query import Answerer, Query
from jobimpact.core.config import Config, config_path, load_config
from jobimpact.core.errors import ConfigError
from jobimpact.report.compare import Side, compare, side_of_jobs, side_of_unit, with_work
from jobimpact.results.record import JobResult

__all__ = ["run"]

_UNKNOWN = 1
_ROWS = 2000
_SHORTEST_S = 1.0
_DAYS = 90
"""How far back jobs with a label are looked for, if nothing is said."""


def run(
    words: Sequence[str],
    config: str | None,
    *,
    as_json: bool,
    steps: str | None,
    per: float | None,
    begin: str | None,
    user: str | None,
) -> int:
    """Print a comparison.

    Args:
        words: ids, `LABEL=VALUE`, `FILE.yaml` and `FILE.yaml#UNIT`.
        config: the configuration's file.
        as_json: one document.
        steps: what each did: one number, or one each.
        per: so much of it.
        begin: from when on jobs of a label are looked for.
        user: whose jobs these are; None: the caller's.

    Returns:
        0; 1: some job is unknown, and nothing is compared.

    Raises:
        ConfigError: what is asked for cannot be compared.
        StoreError: jobs cannot be read.
    """
    asked = _Asked(config, begin, user)
    try:
        sides = [side for word in words for side in asked.sides(word)]
    finally:
        asked.close()
    for trouble in asked.unknown:
        print(f"jobimpact: {_plain(trouble)}", file=sys.stderr)
    if asked.unknown:
        return _UNKNOWN
    if len(sides) < 2:
        raise ConfigError("one alone cannot be compared: name two jobs, labels or units, or a file of several")
    found = compare(_done(sides, steps), per)
    if as_json:
        from jobimpact.report.compare_json import dumps

        print(dumps(found))
        return 0
    from jobimpact.report.compare_text import compare_text

    print(compare_text(found, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")), end="")
    return 0


class _Asked:
    """Turns words into sides; jobs are asked for when the first one is."""

    def __init__(self, config: str | None, begin: str | None, user: str | None) -> None:
        self._config = config
        self._begin = begin
        self._user = user
        self._answers: Answerer | None = None
        self._site: Config | None = None
        self.unknown: list[str] = []

    def close(self) -> None:
        """Let go of what jobs were asked of."""
        if self._answers is not None:
            self._answers.close()

    def sides(self, word: str) -> list[Side]:
        """Of a word: none where a job is unknown."""
        file, _, unit = word.partition("#")
        if file.endswith((".yaml", ".yml")):
            return self._units(Path(file), unit)
        name, equal, value = word.partition("=")
        jobs, notes = self._labelled(name, value) if equal else self._jobs(word)
        if not jobs:
            self.unknown.append(
                f"{word}: no such jobs, or not yours" if equal else f"job {word}: unknown, or not yours"
            )
            return []
        return [side_of_jobs(word if equal else f"job {word}", jobs, notes)]

    def _units(self, file: Path, name: str) -> list[Side]:
        from jobimpact.cli.assess import assessed

        units = assessed(file, self._config)
        chosen = [unit for unit in units if not name or unit.name == name]
        if not chosen:
            raise ConfigError(f"{file}: no unit {name!r:.60}; there are {', '.join(unit.name for unit in units)}")
        return [side_of_unit(unit, f"{file}#{unit.name}") for unit in chosen]

    def _jobs(self, word: str) -> tuple[list[JobResult], list[str]]:
        job = word.partition(".")[0]  # steps are not metered
        if not any(char.isdigit() for char in job):
            raise ConfigError(f"{word!r:.60}: neither a job's id, nor LABEL=VALUE, nor a FILE.yaml of units")
        group = self._ask().jobs(Query(ids=(job,), rows=_ROWS)).groups[0]
        if group.sums is not None and not group.jobs:
            raise ConfigError(f"job {word}: more than {_ROWS} tasks; compare some of them, or another array")
        return list(group.jobs), [group.trouble] if group.trouble else []

    def _labelled(self, name: str, value: str) -> tuple[list[JobResult], list[str]]:
        from jobimpact.cli.report import myself
        from jobimpact.cli.times import moment

        now_s = time.time()
        from_s = now_s - _DAYS * 86400 if self._begin is None else moment(self._begin, now_s)
        query = Query(users=(self._user or myself(),), from_s=from_s, rows=_ROWS, live=False)
        found = {(one.cluster, one.key): one for one in self._over(query) if one.labels.get(name) == value}
        jobs = [one for one in found.values() if one.end_s is not None]
        since = time.strftime("%Y-%m-%d", time.localtime(from_s))
        return jobs, [f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} since {since}"]

    def _over(self, query: Query) -> Iterator[JobResult]:
        """All jobs that fit, in as many questions as they take; one that is in two of them comes twice."""
        group = self._ask().jobs(query).groups[0]
        if group.jobs or group.sums is None:
            yield from group.jobs
            return
        from_s = query.from_s or 0.0
        to_s = query.to_s if query.to_s is not None else (group.sums.last_end_s or from_s) + 1.0
        if to_s - from_s < _SHORTEST_S:
            raise ConfigError(f"{group.sums.jobs:,} jobs at once: too many to be compared by label")
        middle_s = (from_s + to_s) / 2
        yield from self._over(msgspec.structs.replace(query, from_s=from_s, to_s=middle_s))
        yield from self._over(msgspec.structs.replace(query, from_s=middle_s, to_s=to_s))

    def _ask(self) -> Answerer:
        if self._answers is None:
            from jobimpact.cli.answer import answerer

            self._site = load_config(config_path(self._config))
            self._answers = answerer(self._site)
        return self._answers


def _done(sides: Sequence[Side], steps: str | None) -> Sequence[Side]:
    if steps is None:
        return sides
    try:
        numbers = [float(one) for one in steps.split(",")]
    except ValueError as error:
        raise ConfigError(f"--steps {steps!r:.60}: numbers, with commas") from error
    if len(numbers) not in {1, len(sides)} or not all(0 < one < 1e18 for one in numbers):
        raise ConfigError(f"--steps {steps!r:.60}: one number above zero for all, or {len(sides)} of them")
    return with_work(sides, numbers)


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
