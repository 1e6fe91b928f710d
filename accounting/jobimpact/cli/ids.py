"""Job ids as people and sacct write them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from jobimpact.core.errors import ConfigError

__all__ = ["Wanted", "check", "wanted"]

MOST = 10_000
"""So many ids at once; of more the array is asked for, or a user's time."""

Wanted = tuple[tuple[str, ...], tuple[str, ...]]


def check(words: Iterable[str], commands: Collection[str]) -> None:
    """Every id of Slurm and of a record has a digit; a word without one is a command misspelt.

    Raises:
        ConfigError: no id at all, or a word that is none.
    """
    ids = [one for word in words for one in _split(word)]
    if not ids:
        raise ConfigError("no job id is given: see jobimpact --help")
    for one in ids:
        if one in commands:
            raise ConfigError(f"{one!r}: a command comes first, and alone")
        if not any(char.isdigit() for char in one):
            from difflib import get_close_matches

            near = get_close_matches(one, commands, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see jobimpact --help"
            raise ConfigError(f"{one!r:.60} is neither a command nor a job id: {hint}")


def wanted(words: Iterable[str]) -> Wanted:
    """The ids in the order given, once each, and those that named a step.

    A step's id (`123.0`, `123_4.batch`) asks for its job: steps are not metered. Ranges of an array's tasks
    (`123_[1-5,7]`) are its tasks.

    Raises:
        ConfigError: a range that is none, or too many ids.
    """
    ids: dict[str, None] = {}
    steps = []
    for word in words:
        for one in _split(word):
            job, dot, _ = one.partition(".")
            if dot:
                steps.append(one)
            ids |= dict.fromkeys(filter(None, _tasks(job)))
            if len(ids) > MOST:
                raise ConfigError(f"more than {MOST} jobs at once: ask for the array, or for a user's time (-u, -S)")
    return tuple(ids), tuple(steps)


def _split(word: str) -> list[str]:
    """By spaces and commas, but not by those between brackets."""
    return re.findall(r"(?:\[[^\]]*\]?|[^\s,\[])+", word)


def _tasks(job: str) -> Iterator[str]:
    array, bracket, rest = job.partition("_[")
    if not bracket:
        yield job
        return
    if not rest.endswith("]"):
        raise ConfigError(f"{job!r:.60}: a range of tasks is written like 123_[1-5,7]")
    for part in rest[:-1].partition("%")[0].split(","):  # what follows the per cent is how many may run at once
        found = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?\s*", part, re.ASCII)
        if found is None:
            raise ConfigError(f"{job!r:.60}: a range of tasks is written like 123_[1-5,7]")
        first = int(found[1])
        tasks = range(first, int(found[2] or first) + 1, max(int(found[3] or 1), 1))
        if not tasks:
            raise ConfigError(f"{job!r:.60}: {part.strip()!r:.30}: the first task is after the last")
        if len(tasks) > MOST:
            raise ConfigError(f"{job!r:.60}: more than {MOST} tasks: ask for {array!r:.30}")
        yield from (f"{array}_{task}" for task in tasks)
