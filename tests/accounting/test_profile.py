"""A job's power over time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobimpact.core.records import DomainEnergy, DomainKind, Profile, RunEnergy
from jobimpact.energy.profile import SPANS, Point, Track, profile_of, thinned, tracks_of

NS = 10**9
T0 = 1795190300.0
KINDS: tuple[DomainKind, ...] = ("cpu", "gpu", "rest")


def track(points: list[tuple[float, float, float]], end: float, kind: DomainKind = "cpu", start: float = 0.0) -> Track:
    """Of points as seconds after T0, joules, and seconds that are known; it has what the last of them says."""
    told = tuple(Point(T0 + at, round(joules * 1e6), round(known * NS)) for at, joules, known in points)
    return Track(kind, T0 + start, T0 + end, told[-1].uj, told[-1].known_ns, told)


def steady(
    watts: float, minutes: list[int], end: int, lost: tuple[int, int] = (0, 0)
) -> list[tuple[float, float, float]]:
    """Points at some minutes, and nothing known between two of them."""
    found = []
    for minute in minutes:
        known = 60.0 * (minute - max(min(minute, lost[1]) - lost[0], 0))
        found.append((60.0 * minute, watts * known, known))
    return found


def joules_of(profile: Profile, kind: DomainKind) -> float:
    lasting = [now - then for then, now in pairwise(profile.edges_s)]
    return sum((watts or 0.0) * lasts for watts, lasts in zip(profile.watts[kind], lasting, strict=True))


def made(*tracks: Track) -> Profile:
    found = profile_of(tracks)
    assert found is not None
    return found


def test_two_points_are_one_flat_span() -> None:
    """A short job: 100 W for 5 s."""
    assert made(track([(0, 0, 0), (5, 500, 5)], 5)) == Profile(T0, (0.0, 5.0), {"cpu": (100.0,)})


def test_minutes_are_its_spans() -> None:
    """100 W in the first minute, 300 W in the next; another node beside it is added, though its points lie between."""
    mine = track([(0, 0, 0), (60, 6000, 60), (120, 24000, 120)], 120)
    other = track([(30, 0, 0), (90, 3000, 60)], 90, start=30)
    found = made(mine, other)
    assert found.edges_s == (0.0, 30.0, 60.0, 90.0, 120.0)
    assert found.watts == {"cpu": (100.0, 150.0, 350.0, 300.0)}


def test_a_job_of_40_percent_shows_its_hole() -> None:
    """100 minutes, of which those from the 20th to the 80th are lost: None there, and the true power beside it."""
    found = made(track(steady(200, [*range(21), *range(81, 101)], 100, (20, 80)), 6000))
    assert {0.0, 1200.0, 4800.0, 6000.0} <= set(found.edges_s)
    for (then, now), watts in zip(pairwise(found.edges_s), found.watts["cpu"], strict=True):
        inside = then >= 1200 and now <= 4800
        assert watts == (None if inside else 200.0), (then, now)
    assert joules_of(found, "cpu") == pytest.approx(200 * 60 * 40)


def test_an_outage_that_a_counter_bridged_is_no_hole() -> None:
    """Not read for an hour, and then all of it at once."""
    found = made(track([(0, 0, 0), (60, 6000, 60), (3660, 366000, 3660)], 3660))
    assert set(found.watts["cpu"]) == {100.0}


def test_a_rest_that_is_settled_late_lies_evenly() -> None:
    """Every five minutes, the last time when the run is over: its points between say nothing new."""
    told = [(0, 0, 0), (300, 3000, 300), (360, 3000, 300), (600, 6000, 600), (660, 6000, 600)]
    late = Track("rest", T0, T0 + 660, 6_600_000_000, 660 * NS, track([*told], 660).points)
    assert set(made(late).watts["rest"]) == {10.0}


@pytest.mark.parametrize(("silent", "watts"), [(2, 200.0), (3, None)])
def test_a_span_is_known_where_half_of_its_nodes_are(silent: int, watts: float | None) -> None:
    """Of four nodes of 100 W, some fall silent in the second of two hours: of fewer than half nobody speaks."""
    whole = track([(0, 0, 0), (3600, 360_000, 3600), (7200, 720_000, 7200)], 7200)
    half = track([(0, 0, 0), (3600, 360_000, 3600), (7200, 360_000, 3600)], 7200)
    found = made(*[whole] * (4 - silent), *[half] * silent)
    assert found.edges_s == (0.0, 3600.0, 7200.0)
    assert found.watts["cpu"][1] == watts
    assert joules_of(found, "cpu") == pytest.approx(4 * 360_000 + (4 - silent) * 360_000)


def test_what_was_never_known_is_no_part() -> None:
    """A GPU without a meter is not 0 W, and a job of which nothing is known has no profile."""
    dark = Track("gpu", T0, T0 + 60, 0, 0)
    assert set(made(track([(60, 60, 60)], 60), dark).watts) == {"cpu"}
    assert profile_of([dark]) is None
    assert profile_of([track([(0, 5, 1)], 0)]) is None


def test_a_node_that_is_left_early_counts_until_then() -> None:
    """Its power is 0 afterwards, not unknown."""
    found = made(track([(0, 0, 0), (120, 1200, 120)], 120), track([(0, 0, 0), (60, 600, 60)], 60, "gpu"))
    assert found.watts == {"cpu": (10.0, 10.0), "gpu": (10.0, 0.0)}


def test_holes_of_many_nodes_leave_edges_for_the_rest() -> None:
    """A hundred nodes that fell silent within one minute: that is one edge, and the job has spans before it."""
    nodes = [
        track([(60.0 * at + number * 0.6, 6000.0 * at, 60.0 * at) for at in range(400)], 30_000)
        for number in range(100)
    ]
    found = made(*nodes)
    assert len(found.edges_s) > 70
    assert max(now - then for then, now in pairwise(found.edges_s) if now < 20_000) < 600
    assert joules_of(found, "cpu") == pytest.approx(100 * 6000 * 399, rel=1e-3)


RUN = RunEnergy(
    "n1", "1", 0, T0, T0 + 600.0, 600 * NS, "ended", 4, None, (), (), (
        DomainEnergy("package-0", "cpu", "counter", 10**9, 600 * NS),
        DomainEnergy("gpu:a", "gpu", "counter", 0, 0, "absent: no permission"),
    )
)  # fmt: skip
POINTS = {"package-0": [Point(T0 + 600.0, 10**9, 600 * NS)]}


@pytest.mark.parametrize(
    ("changes", "points", "known"),
    [
        ({}, POINTS, True),
        ({}, {}, False),
        ({"end_s": T0 + 100.0, "elapsed_ns": 100 * NS}, {}, True),
        ({"end_s": T0 + 7800.0}, POINTS, False),
        ({"end_s": None, "state": "open"}, POINTS, True),
        ({"state": "estimated"}, POINTS, False),
    ],
    ids=["points", "none left", "short", "the clock stepped", "open", "an estimate"],
)
def test_when_energy_came_is_known_by_points_alone(
    changes: dict[str, Any], points: dict[str, list[Point]], known: bool
) -> None:
    """Or the run is short; nothing is drawn through a time that nobody knows, and what was never read is no track."""
    found = tracks_of(msgspec.structs.replace(RUN, **changes), points)
    assert (found is not None) == known
    assert found is None or [one.kind for one in found] == ["cpu"]


@st.composite
def tracks(draw: st.DrawFn) -> Track:
    """A run's domain with gaps anywhere: some that its counter bridged, some that nobody did."""
    start = draw(st.floats(0, 5000))
    at, uj, known = start, 0, 0
    points = [Point(T0 + at, 0, 0)]
    for _ in range(draw(st.integers(1, 40))):
        lasts = draw(st.one_of(st.just(60.0), st.floats(0.1, 90.0), st.floats(100.0, 20000.0)))
        at += lasts
        if draw(st.integers(0, 3)):
            known += int(lasts * NS * draw(st.sampled_from((1.0, 1.0, 1.0, 0.4))))
            uj += draw(st.integers(0, 10**12))
        points.append(Point(T0 + at, uj, known))
    more = draw(st.sampled_from((0.0, 0.0, 33.3)))
    return Track(
        draw(st.sampled_from(KINDS)),
        T0 + start,
        T0 + at + more,
        uj,
        known,
        tuple(points[:: draw(st.sampled_from((1, -1)))]),
    )


@given(st.lists(tracks(), min_size=1, max_size=4))
def test_its_spans_are_the_job_s_energy(some: list[Track]) -> None:
    """Few spans with rising edges, and by kind the energy of all its runs, unless no span of it is known."""
    found = profile_of(some)
    if found is None:
        assert not any(one.known_ns for one in some)
        return
    assert 2 <= len(found.edges_s) <= SPANS + 1
    assert all(then < now and round(now, 1) == now for then, now in pairwise(found.edges_s))
    assert found.edges_s[0] == 0.0
    assert set(found.watts) == {one.kind for one in some if one.known_ns}
    for kind, watts in found.watts.items():
        assert len(watts) == len(found.edges_s) - 1
        if any(one is not None for one in watts):
            joules = sum(one.uj for one in some if one.kind == kind and one.known_ns) / 1e6
            assert joules_of(found, kind) == pytest.approx(joules, rel=1e-3, abs=1e-6)
            assert all(one is None or one >= 0 for one in watts)


@given(tracks())
def test_few_points_are_enough(one: Track) -> None:
    """What is kept of many points ends as they do, and is no more than a profile can show."""
    few = thinned(one.points, one.start_s, one.end_s)
    assert len(few) <= 2 * SPANS + 1
    assert few[-1].wall_s == max(point.wall_s for point in one.points)
    assert [point.wall_s for point in few] == sorted(point.wall_s for point in few)
