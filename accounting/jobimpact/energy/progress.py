"""What jobs said of themselves in mid run: told by one node's file, and put together over all nodes of a job. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from jobimpact.core.records import Progress, RunEnergy
from jobimpact.energy.profile import Course

__all__ = ["MOST", "Said", "few", "merged", "points_of"]

MOST = 1000
"""Of a job's points so many are kept."""

Said = tuple[float, str, int | None, float | None, int | None]
"""When (epoch seconds), the metric (empty: a step alone), the step, the metric's value, and the run's microjoules."""


def points_of(rows: Iterable[Said]) -> tuple[Progress, ...]:
    """A run's points, one for each time, by time; a value that is no number is not there."""
    found: dict[float, Progress] = {}
    for wall_s, metric, step, value, uj in rows:
        one = found.get(wall_s, Progress(wall_s))
        metrics = (
            one.metrics if not metric or value is None or not math.isfinite(value) else one.metrics | {metric: value}
        )
        found[wall_s] = Progress(
            wall_s, one.step if step is None else step, metrics, one.uj if uj is None else max(uj, one.uj or 0)
        )
    return few(tuple(found[at] for at in sorted(found)))


def few(points: Sequence[Progress], most: int = MOST) -> tuple[Progress, ...]:
    """As many at most, evenly among all, with the first and the last."""
    if len(points) <= most:
        return tuple(points)
    return tuple(points[round(place * (len(points) - 1) / (most - 1))] for place in range(most))


def merged(runs: Sequence[RunEnergy], courses: Mapping[str, Sequence[Course]]) -> tuple[Progress, ...]:
    """What a job said on all of its nodes, by time.

    Args:
        runs: of the job, one a node.
        courses: by node, its domains over time; a node that is not there has none that is known.

    Returns:
        Each with what all nodes had used by then: the node's own books are exact, the others' lie between their
        points. None: of a node it is not known.
    """
    found = []
    for run in runs:
        others = [one for one in runs if one is not run]
        known = all(one.node in courses for one in others)
        for point in run.progress:
            uj = point.uj
            if uj is not None and others:
                more = (course.at(point.wall_s)[0] for one in others for course in courses.get(one.node, ()))
                uj = uj + round(sum(more)) if known else None
            found.append(replace(point, uj=uj))
    return few(sorted(found, key=lambda one: one.wall_s))
