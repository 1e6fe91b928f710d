"""What every scheduler adapter offers, and what it hands over."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Protocol

import msgspec
from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

from jobimpact.core.errors import RecordError
from jobimpact.core.records import JobRecord

__all__ = ["LATEST_S", "MOST", "Finished", "JobSource", "array_of", "expand_nodes", "held_at"]

LATEST_S = 100_000_000_000
"""No time of ours is so late, in epoch seconds."""
MOST = 1 << 62
"""More of anything no cluster has, and no database takes."""

_ARRAY = re.compile(r"(\d+)_", re.ASCII)
_PATTERN = re.compile(r"[^,\[]*(?:\[[^\]]*\][^,\[]*)*")
_BRACKETS = re.compile(r"\[([^\]]*)\]")
_RANGE = re.compile(r"(\d{1,18})-(\d{1,18})\Z", re.ASCII)
_LIST = re.compile(r"[A-Za-z0-9_.,\[\]-]*\Z", re.ASCII)
_NODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\Z", re.ASCII)

MOST_NODES = 100_000
"""More no scheduler has; what a damaged list names beyond that would fill the memory."""


class Finished(msgspec.Struct, frozen=True):
    """The jobs that were asked for, and the rows that could not be read (each error names its row)."""

    records: tuple[JobRecord, ...]
    problems: tuple[RecordError, ...]


def held_at(found: Finished, at_s: int) -> Finished:
    """Those of some jobs that had begun and were not over."""
    records = tuple(
        one
        for one in found.records
        if one.start_s is not None and one.start_s <= at_s and (one.end_s is None or one.end_s > at_s)
    )
    return Finished(records, found.problems)


class JobSource(Protocol):
    """Where job records come from."""

    def finished(self, from_s: int, to_s: int) -> Finished:
        """Jobs whose end lies in [from_s, to_s], both in epoch seconds and inclusive.

        Raises:
            SchedulerError: the scheduler did not answer; its own words are in the message.
        """

    def running(self, at_s: int) -> Finished:
        """Jobs that held nodes at a time (epoch seconds), whether or not they have ended since.

        Raises:
            SchedulerError: the scheduler did not answer; its own words are in the message.
        """


def array_of(job_id: str) -> str | None:
    """The array that `6_3` is a task of."""
    match = _ARRAY.match(job_id)
    return match[1] if match else None


@lru_cache(maxsize=4096)
def expand_nodes(text: str) -> tuple[str, ...]:
    """`node[03-04],login1` as names, in the scheduler's order.

    Raises:
        RecordError: not a list of node names.
    """
    if not _LIST.match(text):
        raise RecordError(f"node list {text!r:.80} is not one of nodes' names")
    if _size(text) > MOST_NODES:
        raise RecordError(f"node list {text!r:.80}: more nodes than there can be")
    try:
        names = tuple(NodeSet(text, resolver=RESOLVER_NOGROUP)) if text else ()
    except NodeSetException as error:
        raise RecordError(f"node list {text!r:.80}: {error}") from error
    bad = next((name for name in names if not _NODE.match(name)), None)
    if bad is not None:
        raise RecordError(f"node list {text!r:.80}: {bad!r:.80} is not a node's name")
    return names


def _size(text: str) -> int:
    """How many names a list stands for, or more, without making them."""
    patterns = (_BRACKETS.findall(pattern) for pattern in _PATTERN.findall(text))
    return sum(math.prod(sum(map(_span, group.split(","))) for group in groups) for groups in patterns)


def _span(part: str) -> int:
    match = _RANGE.match(part)
    if match:
        return max(1, int(match[2]) - int(match[1]) + 1)
    return 1 if "-" not in part else MOST_NODES + 1
