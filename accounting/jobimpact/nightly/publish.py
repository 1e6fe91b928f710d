"""What accounting found, to the time-series server: days, jobs, and hours of nodes.

The results know which days and points are not there yet; each is forgotten when it was delivered, and not before. So a
server that was away has all of it after the next accounting, and what is published twice replaces itself. Nothing that
goes wrong here touches the accounting: it is told, and done by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from math import floor
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from jobimpact.core.config import Config, InfluxStore, VictoriaStore
from jobimpact.core.errors import StoreError
from jobimpact.core.line import line
from jobimpact.core.series import EVER, PROFILE, Point, Retained
from jobimpact.core.server import Outcome, Server
from jobimpact.energy.local import LocalEnergy
from jobimpact.nightly.points import day_points, hour_point, job_point, replaced_point
from jobimpact.results.published import DAY_S, Place

if TYPE_CHECKING:
    from jobimpact.results.published import Published
    from jobimpact.results.write import Results

__all__ = ["publish"]

BATCH_LINES = 5000
BATCH_BYTES = 2_000_000
"""Far below what servers take at once."""
LATE_S = 26 * 3600
"""A counter that could not be read is waited for a day: so long before a node's last points its hours may change."""
HOUR_S = 3600
PAUSES_S = (0.5, 2.0)
"""Before a server that cannot now is asked again; then the next accounting does."""
MOST_REFUSED = 20
"""So many lines are looked for one by one: a server that refuses more has something against all of them."""
LONGEST_LINE = 200


class _StoppedError(Exception):
    """The server takes nothing more now: says why."""


def publish(
    config: Config,
    store: InfluxStore | VictoriaStore,
    results: Results,
    energy: LocalEnergy,
    now_s: float,
    from_s: float,
    again: tuple[float, float] | None = None,
) -> list[str]:
    """Publish what the server of one cluster lacks.

    Args:
        config: the site's, of one cluster.
        store: its server.
        results: where what is to be published stands, and is noted.
        energy: the nodes' books.
        now_s: the time, epoch seconds.
        from_s: where hours begin of a node of which none was published yet, epoch seconds.
        again: a time all of whose days and hours are published again.

    Returns:
        What a person should know: that the server is away and how much waits, which lines it refused.
    """
    published = results.published(config.cluster)
    with _Publishing(config.cluster, store, published, now_s) as one:
        try:
            one.all(energy, from_s, again)
        except _StoppedError as error:
            waits = len(published.days())
            days = f"{waits} days and nodes' hours wait" if waits else "nodes' hours wait"
            one.problems.append(f"not all is published, {days} for the next accounting: {error}")
        except StoreError as error:
            one.problems.append(f"not all is published: {error}")
        return one.told()


class _Publishing:
    """One cluster's way to its server."""

    def __init__(self, cluster: str, store: InfluxStore | VictoriaStore, published: Published, now_s: float) -> None:
        self._cluster = cluster
        self._published = published
        self._server = Server(store)
        self._now_s = now_s
        self._id = f"{store.url} {store.database}" if isinstance(store, InfluxStore) else store.url
        # What the server would refuse as older than it keeps; an hour, so that it cannot become so meanwhile.
        kept_s = store.retention.profile_days * DAY_S - HOUR_S if isinstance(store, InfluxStore) else None
        self._oldest_s = 0.0 if kept_s is None else now_s - kept_s
        self._number = 0
        self._refused = self._too_old = 0
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def all(self, energy: LocalEnergy, from_s: float, again: tuple[float, float] | None) -> None:
        """Points that are replaced, then days with their jobs, then nodes' hours."""
        self._number = self._published.begin(self._id, again)
        left = self._published.left_points()
        places = self._published.left_places()
        emptied = (replaced_point(self._cluster, job, words_as_tags=self._server.words_as_tags) for job in left)
        self._send(PROFILE, self._recent(emptied), first=True)
        self._published.points_are_done(left)
        self._days(places)
        self._hours(energy, from_s, again)

    def _days(self, left: Mapping[int, AbstractSet[Place]]) -> None:
        """As many days at a time as make a batch: a day that was delivered in part is published again."""
        points: list[Point] = []
        jobs: list[Point] = []
        done: list[int] = []
        days = self._published.days()
        for day_s in days:
            ended = self._published.jobs(day_s)
            points += day_points(self._cluster, day_s, ended, left.get(day_s, frozenset()))
            jobs += self._recent(job_point(self._cluster, job) for job in ended)
            done.append(day_s)
            if len(points) + len(jobs) >= BATCH_LINES or day_s == days[-1]:
                self._send(EVER, points)
                self._send(PROFILE, jobs)
                self._published.days_are_done(done)
                points, jobs, done = [], [], []

    def _hours(self, energy: LocalEnergy, from_s: float, again: tuple[float, float] | None) -> None:
        known_to_s = self._published.hours_to()
        over_s = floor(self._now_s / HOUR_S) * HOUR_S

        def begin_s(node: str) -> float:
            begins = [known_to_s[node] - LATE_S if node in known_to_s else from_s]
            return min(begins + ([again[0] // HOUR_S * HOUR_S] if again else []))

        points: list[Point] = []
        done: dict[str, float] = {}
        for name in energy.nodes():
            found, unread = energy.node_hours(begin_s, self._now_s, [name])
            self.problems += unread
            for one in found:
                # The hour that is not over is not published yet.
                to_s = None if one.to_s is None else min(one.to_s, over_s)
                if to_s is not None and (again or to_s != known_to_s.get(name)):
                    points += [hour_point(self._cluster, hour) for hour in one.hours]
                    done[name] = to_s
            if len(points) >= BATCH_LINES:
                self._send(EVER, points)
                self._published.hours_are_done(done)
                points, done = [], {}
        self._send(EVER, points)
        self._published.hours_are_done(done)

    def _recent(self, points: Iterable[Point | None]) -> Iterator[Point]:
        """Those that the server still keeps."""
        return (point for point in points if point is not None and point.stamp_ms >= self._oldest_s * 1000)

    # -- lines -------------------------------------------------------------------------------------------------------

    def _send(self, kept: Retained, points: Iterable[Point], *, first: bool = False) -> None:
        lines: list[str] = []
        size = 0
        for point in points:
            text = line(self._stamped(point, first=first), words_as_tags=self._server.words_as_tags)
            if not text:
                continue
            lines.append(text)
            size += len(text)
            if len(lines) >= BATCH_LINES or size >= BATCH_BYTES:
                self._deliver(kept, lines)
                lines, size = [], 0
        if lines:
            self._deliver(kept, lines)

    def _stamped(self, point: Point, *, first: bool) -> Point:
        """VictoriaMetrics does not replace a sample, and keeps any one of those of one stamp.

        So that the latest counts, each publication is later than the one before it, by 2 ms.
        """
        if not self._server.words_as_tags:
            return point
        return replace(point, stamp_ms=point.stamp_ms + min(2 * self._number + (not first), HOUR_S * 1000 - 1))

    def _deliver(self, kept: Retained, lines: list[str]) -> None:
        """All of these lines, or those that the server takes.

        Raises:
            _StoppedError: it takes none now.
        """
        outcome = self._written(kept, lines)
        if outcome.kind == "delivered":
            return
        if outcome.dropped:
            self._too_old += outcome.dropped
        elif outcome.kind == "refused" and (len(lines) == 1 or self._refused >= MOST_REFUSED):
            self._refused += len(lines)
            if len(self.problems) < MOST_REFUSED:
                shown = f"{lines[0][:LONGEST_LINE]}..." if len(lines[0]) > LONGEST_LINE else lines[0]
                self.problems.append(f"not published, for the server refused it: {shown}: {outcome.said}")
        elif outcome.kind in {"refused", "smaller"} and len(lines) > 1:
            half = len(lines) // 2
            self._deliver(kept, lines[:half])
            self._deliver(kept, lines[half:])
        else:
            raise _StoppedError(outcome.said)

    def _written(self, kept: Retained, lines: list[str]) -> Outcome:
        outcome = self._server.write(kept, lines)
        for pause_s in PAUSES_S:
            if outcome.kind != "later":
                break
            time.sleep(max(pause_s, min(outcome.retry_after_s or 0.0, 60.0)))
            outcome = self._server.write(kept, lines)
        return outcome

    def told(self) -> list[str]:
        """What a person should know."""
        more = []
        if self._refused:
            again = "when that is mended, account --recompute publishes them"
            more.append(f"the server refused {self._refused} points, which are not tried again: {again}")
        if self._too_old:
            more.append(f"the server does not keep {self._too_old} points: they are older than its retention")
        return [*self.problems, *more]
