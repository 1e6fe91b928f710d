"""A job's power over time, from the cumulative points of its runs. Pure.

What a run has of a domain is known at its points. Between two of them energy came evenly over the time by which the
known time grew: a counter that bridged an outage spreads it over the outage, and what nobody measured is a hole. A
profile has few spans: their edges are points, those of holes first, and the energies of its spans add up to the job's.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf

import msgspec

from jobimpact.core.records import DomainKind, Profile, RunEnergy
from jobimpact.core.units import NS

__all__ = ["SHORT_S", "SPANS", "Course", "Point", "Track", "end_of", "profile_of", "thinned", "tracks_of"]

SPANS = 96
"""A profile has no more."""
HOLE_EDGES = 48
"""Of its edges, so many may be those of holes: the longest ones."""
FINE_S = 0.1
"""What edges are rounded to."""
CLOSE_PARTS = 2 * SPANS
"""Edges lie no nearer to each other than the job's time by this, but at holes."""
DIGITS = 4
"""Of watts."""
SHORT_S = 120.0
"""A run that lasted no longer needs no points between its start and its end."""
STEP_PART = 0.05
"""By so much of its time, and `SHORT_S`, a run's wall clock may be out against its boot clock."""
SLACK_S = 2.0
"""By so much less than the time between two points the known time may grow where nothing is missing."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """What a run has of a domain by a time (epoch seconds): microjoules, and for how many ns they are known."""

    wall_s: float
    uj: int
    known_ns: int


class Track(msgspec.Struct, frozen=True):
    """One domain of one run: what it has in the end, and its points, in whatever order."""

    kind: DomainKind
    start_s: float
    end_s: float
    """Epoch seconds, of the run."""
    uj: int
    known_ns: int
    points: tuple[Point, ...] = ()


def end_of(run: RunEnergy) -> float:
    """Where a run ends, or its books do, in epoch seconds."""
    return run.start_s + run.elapsed_ns / NS if run.end_s is None else run.end_s


def tracks_of(run: RunEnergy, points: Mapping[str, Sequence[Point]]) -> list[Track] | None:
    """A run's domains, those that are known, over time.

    Args:
        run: what its node's books say of it.
        points: by domain.

    Returns:
        A track each. None: of one of them it is not known when its energy came, for its points are gone, or the wall
        clock stepped; or the energy is an estimate.
    """
    end_s, lasted_s = end_of(run), run.elapsed_ns / NS
    stepped = abs(end_s - run.start_s - lasted_s) > SHORT_S + STEP_PART * lasted_s
    known = [one for one in run.domains if one.known_ns]
    gone = any(not points.get(one.domain) for one in known) and lasted_s > SHORT_S
    if run.state == "estimated" or stepped or gone:
        return None
    return [
        Track(one.kind, run.start_s, end_s, one.uj, one.known_ns, tuple(points.get(one.domain, ()))) for one in known
    ]


class Course:
    """A track as two functions of time, linear between their knots: energy, and how much of the time is known.

    Args:
        track: the domain's; what its last point lacks of the end came right before the end.
    """

    def __init__(self, track: Track) -> None:
        self.kind = track.kind
        self.start_s = track.start_s
        self.end_s = max(track.end_s, track.start_s)
        self._knots = _knots(track, self.end_s)
        self._at = [one.wall_s for one in self._knots]

    @property
    def edges(self) -> list[float]:
        """When something of it changes."""
        return self._at

    def holes(self) -> Iterable[tuple[float, float]]:
        """Times of which nothing is known."""
        for then, now in pairwise(self._knots):
            if now.known_ns == then.known_ns and now.wall_s - then.wall_s > SLACK_S:
                yield then.wall_s, now.wall_s

    def at(self, wall_s: float) -> tuple[float, float]:
        """Microjoules by a time, and for how many ns they are known."""
        place = bisect.bisect_right(self._at, wall_s)
        if place == 0:
            return 0.0, 0.0
        then = self._knots[place - 1]
        if place == len(self._knots):
            return float(then.uj), float(then.known_ns)
        now = self._knots[place]
        part = (wall_s - then.wall_s) / (now.wall_s - then.wall_s)
        return then.uj + (now.uj - then.uj) * part, then.known_ns + (now.known_ns - then.known_ns) * part

    def held_s(self, from_s: float, to_s: float) -> float:
        """For how long of a time the run was there."""
        return max(min(to_s, self.end_s) - max(from_s, self.start_s), 0.0)


def profile_of(tracks: Iterable[Track]) -> Profile | None:
    """A job's mean power over time, all its nodes together.

    Args:
        tracks: of all its runs. A domain of which nothing was ever known has no part in it: the coverage of the
            job's energy tells of that.

    Returns:
        At most `SPANS` spans. A kind is None in a span of which less than half is known, and what was measured there
        is in the nearest span before, or else after, that is known: by kind, the spans' energies add up to the
        job's. None: nothing is known, or the job lasted no time.
    """
    courses = [Course(one) for one in tracks if one.known_ns > 0]
    if not courses:
        return None
    start_s, end_s = min(one.start_s for one in courses), max(one.end_s for one in courses)
    if end_s <= start_s:
        return None
    edges_s = _edges(courses, start_s, end_s)
    kinds = dict.fromkeys(one.kind for one in sorted(courses, key=lambda one: one.kind))
    return Profile(
        start_s=round(start_s, 3),
        edges_s=tuple(edges_s),
        watts={kind: _watts([one for one in courses if one.kind == kind], start_s, edges_s) for kind in kinds},
    )


def thinned(points: Iterable[Point], start_s: float, end_s: float) -> tuple[Point, ...]:
    """Points as far as a profile can show them: the last of each short part of a run's time, by time."""
    width_s = (end_s - start_s) / (2 * SPANS)
    last: dict[int, Point] = {}
    for one in points:
        part = min(int((one.wall_s - start_s) // width_s), 2 * SPANS) if width_s > 0 else 0
        if part not in last or last[part].wall_s <= one.wall_s:
            last[part] = one
    return tuple(sorted(last.values(), key=lambda one: one.wall_s))


def _knots(track: Track, end_s: float) -> list[Point]:
    """Where a track's two functions bend: they never fall, and end with all that it has."""
    knots = [Point(track.start_s, 0, 0)]
    for one in _rising(track, end_s):
        then = knots[-1]
        grown_s = (one.known_ns - then.known_ns) / NS
        from_s = one.wall_s - grown_s
        if grown_s > 0 and from_s > then.wall_s + SLACK_S:
            knots.append(Point(from_s, then.uj, then.known_ns))
        knots.append(one)
    if knots[-1].wall_s < end_s:
        knots.append(Point(end_s, knots[-1].uj, knots[-1].known_ns))
    return knots


def _rising(track: Track, end_s: float) -> Iterable[Point]:
    """The points at which more is known than before, one of each time, and the end."""
    last: dict[float, Point] = {}
    for one in track.points:
        at_s = min(one.wall_s, end_s)
        was = last.get(at_s)
        if at_s > track.start_s and (was is None or (was.uj, was.known_ns) < (one.uj, one.known_ns)):
            last[at_s] = one
    last[end_s] = Point(end_s, track.uj, track.known_ns)
    uj = known_ns = 0
    for at_s, one in sorted(last.items()):
        if at_s < end_s:
            more = Point(at_s, min(max(uj, one.uj), track.uj), min(max(known_ns, one.known_ns), track.known_ns))
        else:
            more = Point(end_s, track.uj, track.known_ns)
        if (more.uj, more.known_ns) != (uj, known_ns):
            uj, known_ns = more.uj, more.known_ns
            yield more


def _edges(courses: Sequence[Course], start_s: float, end_s: float) -> list[float]:
    """Edges in seconds since the start: those of the longest holes, and of the others some that lie evenly."""
    lasted = max(_fine(end_s - start_s), 1)
    least = lasted / CLOSE_PARTS
    holes = {hole for one in courses for hole in one.holes() if hole[1] - hole[0] >= least * FINE_S}
    sure = [0, lasted]
    for hole in sorted(holes, key=lambda hole: hole[0] - hole[1]):
        for at_s in hole:
            _insert(sure, min(_fine(at_s - start_s), lasted), least)
        if len(sure) >= HOLE_EDGES:
            break
    there = sorted({min(_fine(at_s - start_s), lasted) for one in courses for at_s in one.edges})
    free = SPANS + 1 - len(sure)
    if len(there) > free:
        there = [_nearest(there, lasted * place / (free + 1)) for place in range(1, free + 1)]
    for at in there:
        _insert(sure, at, least)
    return [round(at * FINE_S, 1) for at in sure]


def _insert(edges: list[int], at: int, least: float) -> None:
    """Into edges that rise, unless it is too near to one of them."""
    place = bisect.bisect_left(edges, at)
    if all(abs(one - at) >= least for one in edges[max(place - 1, 0) : place + 1]):
        edges.insert(place, at)


def _fine(seconds: float) -> int:
    return round(seconds / FINE_S)


def _nearest(there: Sequence[int], wanted: float) -> int:
    place = bisect.bisect_left(there, wanted)
    return min(there[max(place - 1, 0) : place + 1], key=lambda one: abs(one - wanted))


def _watts(courses: Sequence[Course], start_s: float, edges_s: Sequence[float]) -> tuple[float | None, ...]:
    """Of one kind, by span."""
    # What lies beyond the last edge, which is rounded, belongs to the last span.
    at = [*(start_s + one for one in edges_s[:-1]), inf]
    energies, held_s, known_ns = ([0.0] * (len(at) - 1) for _ in range(3))
    for one in courses:
        for place, ((uj_then, known_then), (uj_now, known_now)) in enumerate(pairwise(map(one.at, at))):
            energies[place] += uj_now - uj_then
            known_ns[place] += known_now - known_then
            held_s[place] += one.held_s(at[place], at[place + 1])
    known = [2 * grown / NS >= whole_s for grown, whole_s in zip(known_ns, held_s, strict=True)]
    _move(energies, known)
    lasting = (now - then for then, now in pairwise(edges_s))
    return tuple(
        _short(uj / 1e6 / lasts_s) if sure else None
        for uj, sure, lasts_s in zip(energies, known, lasting, strict=True)
    )


def _move(energies: list[float], known: Sequence[bool]) -> None:
    """What was measured in spans that are not known goes to the one before that is, or else to the one after."""
    before: int | None = None
    for place, sure in enumerate(known):
        if sure:
            before = place
        elif energies[place]:
            to = before if before is not None else next((n for n in range(place, len(known)) if known[n]), place)
            energies[to] += energies[place]
            if to != place:
                energies[place] = 0.0


def _short(watts: float) -> float:
    return float(f"{watts:.{DIGITS}g}")
