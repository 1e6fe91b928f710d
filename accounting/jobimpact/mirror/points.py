"""A node's points as they are cut, joined and kept in its mirror: no file and no server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from jobimpact.core.units import NS
from jobimpact.mirror.rows import Arrived, DomainRow
from jobimpact.store.series import HOUR_MS

__all__ = [
    "DAY_MS",
    "MARGIN_MS",
    "Key",
    "Points",
    "Raw",
    "drop",
    "drop_later",
    "falls",
    "is_whole",
    "kept_stamps",
    "knows_more",
    "merged_points",
    "ms_of",
    "part_of",
    "raw_of",
    "since",
]

DAY_MS = 24 * HOUR_MS
MARGIN_MS = 300_000
"""So far from a midnight every point is kept: there the books of a day are cut."""
SLACK_NS = 120 * NS

Key = tuple[str, str]
"""Holder and domain."""
Points = dict[int, tuple[int, int]]
"""By stamp: microjoules, and for how many ns they are known."""
Raw = dict[str, tuple[int, int]]
"""By domain, as the node says it: microjoules measured, and for how many ns they are known."""


def part_of(arrived: Arrived, from_ms: int, to_ms: int | None) -> Arrived:
    """What is of a time."""

    def within(stamp: int) -> bool:
        return from_ms <= stamp and (to_ms is None or stamp < to_ms)

    return Arrived(
        domains={at: cut for at, cut in arrived.domains.items() if within(at)},
        energy={
            key: some
            for key, points in arrived.energy.items()
            if (some := {at: point for at, point in points.items() if within(at)})
        },
        runs={run: (at, one) for run, (at, one) in arrived.runs.items() if within(at)},
        books={at: one for at, one in arrived.books.items() if within(at)},
        progress={
            key: told
            for key, rows in arrived.progress.items()
            if (told := {at: row for at, row in rows.items() if within(at)})
        },
        labels={key: (at, text) for key, (at, text) in arrived.labels.items() if within(at)},
    )


def drop(arrived: Arrived, before_ms: int) -> None:
    """Forget what is earlier."""
    rest = part_of(arrived, before_ms, None)
    arrived.domains, arrived.energy, arrived.runs, arrived.books = rest.domains, rest.energy, rest.runs, rest.books
    arrived.progress, arrived.labels = rest.progress, rest.labels


def drop_later(arrived: Arrived, from_ms: int) -> None:
    """Forget what is of then and later, but what runs are: of that the most that is known holds."""
    rest = part_of(arrived, 0, from_ms)
    arrived.domains, arrived.energy, arrived.books = rest.domains, rest.energy, rest.books
    arrived.progress = rest.progress


def since(arrived: Arrived, before_ms: int) -> Arrived:
    """What runs that ended before this had is in one sum, and not to be had twice."""
    if before_ms <= 0:
        return arrived
    rest = part_of(arrived, before_ms, None)
    gone = {run for run, (_, one) in rest.runs.items() if one.end_ms is not None and one.end_ms < before_ms}
    rest.runs = {run: one for run, one in rest.runs.items() if run not in gone}
    rest.energy = {key: points for key, points in rest.energy.items() if key[0] not in gone}
    rest.progress = {key: points for key, points in rest.progress.items() if key[0] not in gone}
    rest.labels = {key: one for key, one in rest.labels.items() if key[0] not in gone}
    return rest


def merged_points(stored: Mapping[Key, Points], new: Mapping[Key, Points]) -> dict[Key, Points]:
    """Both; a point that is there twice is the one that knows more."""
    found = {key: dict(points) for key, points in stored.items()}
    for key, points in new.items():
        mine = found.setdefault(key, {})
        for at, (uj, known_ns) in points.items():
            was = mine.get(at, (0, 0))
            mine[at] = max(uj, was[0]), max(known_ns, was[1])
    return found


def kept_stamps(stamps: Iterable[int]) -> set[int]:
    """Of each full hour the first and the last, and all near a midnight."""
    hours: dict[int, tuple[int, int]] = {}
    keep = set()
    for at in stamps:
        first, last = hours.get(at // HOUR_MS, (at, at))
        hours[at // HOUR_MS] = min(first, at), max(last, at)
        if min(at % DAY_MS, DAY_MS - at % DAY_MS) <= MARGIN_MS:
            keep.add(at)
    return keep.union(*hours.values())


def raw_of(cut: Mapping[str, DomainRow]) -> Raw:
    """Where domains stand at a commit."""
    return {name: (one.energy_uj, one.known_ns) for name, one in cut.items()}


def knows_more(now: Raw, then: Raw) -> bool:
    """Nothing of it is less, and something more: it is later, whatever the stamps say."""
    common = now.keys() & then.keys()
    return all(now[one] >= then[one] and now[one][1] >= then[one][1] for one in common) and any(
        now[one] > then[one] for one in common
    )


def is_whole(part: Arrived, at: int) -> bool:
    """A commit has all domains that were there before it."""
    before = {name for stamp, cut in part.domains.items() if stamp <= at for name in cut}
    return before == part.domains[at].keys()


def falls(cuts: list[tuple[int, Raw]]) -> Iterator[int]:
    """When a node's own file was begun anew: its sums fall, and nothing since knows more than the time since.

    Where the clock was set back, sums fall by their stamps, too, but what they know is of a longer time.
    """
    for number in range(1, len(cuts)):
        (then, before), (at, now) = cuts[number - 1 : number + 1]
        common = before.keys() & now.keys()
        if sum(now[one][0] for one in common) < sum(before[one][0] for one in common) and all(
            max((known_ns for _, known_ns in raw.values()), default=0) <= (stamp - then) * 1_000_000 + SLACK_NS
            for stamp, raw in cuts[number:]
        ):
            yield at


def ms_of(wall_s: float) -> int:
    """A stamp of a file, epoch seconds, in ms."""
    return round(wall_s * 1000)
