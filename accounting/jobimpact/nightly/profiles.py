"""Power over time and progress of the night's jobs.

Nodes' own files have a point a minute. A mirror has the first and last of each hour: for a job of days that is enough;
for a shorter one the server is asked for its points, the jobs with the most energy first. What is not had in one night
is looked for in the next, as long as the job is in the look-back.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from jobimpact.core.config import Config
from jobimpact.core.errors import ConfigError, StoreError
from jobimpact.core.records import Profile, Progress, RunEnergy, run_key
from jobimpact.core.series import JOB_ENERGY
from jobimpact.energy.local import LocalEnergy
from jobimpact.energy.profile import SHORT_S, SPANS, Course, Point, Track, end_of, profile_of, thinned, tracks_of
from jobimpact.energy.progress import merged
from jobimpact.mirror.anew import BEGUN_ANEW
from jobimpact.mirror.rows import Arrivals
from jobimpact.nightly.segment import Job
from jobimpact.store.reader import reader_of
from jobimpact.store.series import HOUR_MS, SeriesReader

if TYPE_CHECKING:
    from jobimpact.results.write import Results

__all__ = ["MOST_ASKED", "ProfileKeeper"]

MOST_ASKED = 1000
"""Statements to the server in a night."""
MOST_S = 600.0
"""For so long it is asked."""
MOST_POINTS = 3_000_000
"""A job with more is told by what its mirror has of each hour."""
SLICE_POINTS = 200_000
"""Of one statement, as far as an hour's are not more."""
LONG_S = SPANS * 3600.0
"""A longer job has enough of them there, too."""
J_PER_KWH = 3.6e6


class ProfileKeeper:
    """The profiles of the jobs that one night writes.

    Args:
        config: the site's, of one cluster.
        energy: the nodes' files.
        results: where they go.
        reader: of the server, where there is one; None: the configuration's.
        clock: seconds, for how long the server is asked.
    """

    def __init__(
        self,
        config: Config,
        energy: LocalEnergy,
        results: Results,
        reader: Callable[[], SeriesReader] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._energy = energy
        self._profiles = results.profiles(config.cluster)
        self._reader = reader or (lambda: reader_of(config.store))
        self._clock = clock
        self._least_j = config.report.profile_kwh * J_PER_KWH
        self._waiting: list[tuple[float, str, Job]] = []
        """For the server: the jobs with the most energy, as a heap."""

    def take(self, jobs: Sequence[Job]) -> None:
        """Jobs whose rows are written: what the files tell of them is put beside their rows."""
        measured = {job.record.key: job for job in jobs if job.energy.runs}
        lacking = self._profiles.lacking(list(measured), self._least_j)
        profiles: dict[str, tuple[Profile | None, float]] = {}
        progress: dict[str, Sequence[Progress]] = {}
        for key, job in measured.items():
            said = any(run.progress for run in job.energy.runs)
            here = key in lacking and not self._must_ask(job.energy.runs)
            tracks = self._tracks(job.energy.runs) if here or (said and len(job.energy.runs) > 1) else {}
            if said:
                courses = {node: [Course(one) for one in some] for node, some in tracks.items() if some is not None}
                progress[key] = merged(job.energy.runs, courses)
            if here:
                profiles[key] = _profile(tracks.values()), lacking[key]
            elif key in lacking:
                self._wait(lacking[key], job)
        if profiles:
            self._profiles.put(profiles)
        if progress:
            self._profiles.put_progress(progress)

    def finish(self) -> list[str]:
        """Ask the server for those that its mirror does not tell; gives why it could not be asked."""
        if not self._waiting:
            return []
        asked, begun_s = 0, self._clock()
        reader = self._reader()
        try:
            for energy_j, key, job in sorted(self._waiting, key=lambda one: (-one[0], one[1])):
                slices = list(_slices(job.energy.runs))
                if asked + len(slices) > MOST_ASKED or self._clock() - begun_s > MOST_S:
                    break
                asked += len(slices)
                found = _profile(self._asked(reader, job.energy.runs, slices))
                self._profiles.put({key: (found, energy_j)})
        except (ConfigError, StoreError) as error:
            return [f"power over time is left to the next night: {error}"]
        finally:
            reader.close()
            self._waiting.clear()
        return []

    def _must_ask(self, runs: Sequence[RunEnergy]) -> bool:
        """The files have too little of a job's time, and the server has more."""
        if self._config.store.server is None or any(BEGUN_ANEW in run.flags for run in runs):
            return False
        lasted_s = max(end_of(run) - run.start_s for run in runs)
        return SHORT_S < lasted_s < LONG_S and _points(runs) * lasted_s / 60 <= MOST_POINTS

    def _wait(self, energy_j: float, job: Job) -> None:
        one = (energy_j, job.record.key, job)
        if len(self._waiting) < MOST_ASKED:
            heapq.heappush(self._waiting, one)
        else:
            heapq.heappushpop(self._waiting, one)

    def _tracks(self, runs: Iterable[RunEnergy]) -> dict[str, list[Track] | None]:
        """By node; None: its file does not tell, or not any more."""
        found: dict[str, list[Track] | None] = {}
        for run in runs:
            try:
                found[run.node] = self._energy.tracks(run)
            except StoreError:
                found[run.node] = None
        return found

    def _asked(
        self, reader: SeriesReader, runs: Sequence[RunEnergy], slices: Sequence[tuple[str, int, int]]
    ) -> list[list[Track] | None]:
        points: dict[tuple[str, str], tuple[Point, ...]] = {}
        spans = {run.node: (run.start_s, end_of(run)) for run in runs}
        cluster = self._config.cluster
        for name, from_ms, to_ms in slices:
            arrivals = Arrivals(cluster)
            arrivals.add(JOB_ENERGY, reader.rows(JOB_ENERGY, from_ms, to_ms, {"cluster": cluster, "run": name}))
            for node, arrived in arrivals.nodes.items():
                for (_, domain), some in arrived.energy.items():
                    more = (Point(at / 1000, uj, known_ns) for at, (uj, known_ns) in some.items())
                    if node in spans:
                        points[node, domain] = thinned([*points.get((node, domain), ()), *more], *spans[node])
        return [tracks_of(run, _of_node(points, run.node)) for run in runs]


def _of_node(points: Mapping[tuple[str, str], Sequence[Point]], node: str) -> dict[str, Sequence[Point]]:
    return {domain: some for (where, domain), some in points.items() if where == node}


def _points(runs: Sequence[RunEnergy]) -> int:
    """Of each time."""
    return sum(len(run.domains) for run in runs)


def _slices(runs: Sequence[RunEnergy]) -> Iterator[tuple[str, int, int]]:
    """A job's time in parts that are not too large: run, begin and end in ms."""
    for name in sorted({run_key(run.job, run.restart) for run in runs}):
        mine = [run for run in runs if run_key(run.job, run.restart) == name]
        begin_ms = int(min(run.start_s for run in mine) * 1000)
        end_ms = int(max(map(end_of, mine)) * 1000) + HOUR_MS  # the last of the rest is settled later
        hours = max(SLICE_POINTS // max(_points(mine) * 60, 1), 1)
        while begin_ms < end_ms:
            yield name, begin_ms, min(begin_ms + hours * HOUR_MS, end_ms)
            begin_ms += hours * HOUR_MS


def _profile(tracks: Iterable[list[Track] | None]) -> Profile | None:
    """None: of some of the job it is not known."""
    whole: list[Track] = []
    for some in tracks:
        if some is None:
            return None
        whole += some
    return profile_of(whole)
