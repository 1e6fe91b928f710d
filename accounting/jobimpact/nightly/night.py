"""One night: what the scheduler says, what the nodes measured, month by month, and what is written."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import msgspec

from jobimpact.core.config import Config
from jobimpact.core.errors import ConfigError, SchedulerError
from jobimpact.core.records import HourShares, JobEnergy, JobRecord, Stay
from jobimpact.core.units import kwh
from jobimpact.energy.local import EARLY_S, EndedRun
from jobimpact.impact.months import closes_s, edges_of
from jobimpact.nightly.accounts import Accounts
from jobimpact.nightly.books import true_up
from jobimpact.nightly.closing import Months, closable, merged
from jobimpact.nightly.estimate import estimated, unestimated
from jobimpact.nightly.extra import opened
from jobimpact.nightly.incarnations import Incarnations
from jobimpact.nightly.profiles import ProfileKeeper
from jobimpact.nightly.segment import BATCH, Job, Segment, ended_before, job_of, kept
from jobimpact.schedulers import job_source
from jobimpact.schedulers.base import JobSource

if TYPE_CHECKING:
    from jobimpact.results.write import Counts, Results

__all__ = ["DAY_S", "NightReport", "account", "recompute"]

DAY_S = 86400
SLICE_S = 7 * DAY_S
"""How much of a window is gone through at a time; both ends are in it, as jobs may end within a second."""
LONGEST_S = 8 * SLICE_S
"""The same where there are no jobs."""
MOST_TOLD = 100
"""So many problems a person may read; a database that gives rubbish gives millions."""
LATE_DAYS = 30
"""For so long the grid's hours may come late, or become final."""


class NightReport(msgspec.Struct, frozen=True):
    """What one night came to."""

    from_s: int
    to_s: int
    new: int
    changed: int
    unchanged: int
    not_measured: int
    """Neither measured nor estimated."""
    problems: tuple[str, ...]
    """Rows of the scheduler that could not be read, files that are not there, hours that the grid does not know."""
    closed: tuple[str, ...] = ()
    """Months that were closed."""
    estimated: int = 0
    """Not, or not wholly, measured, and estimated by the inventory's `load_w`."""


def account(config: Config, now_s: float, from_s: int | None = None, to_s: int | None = None) -> NightReport:
    """Account for the jobs of one cluster that ended in a window.

    A long window is gone through a week at a time, so that memory is bounded and a night that is stopped goes on
    where it was.

    Args:
        config: the site's, of one cluster (`each_cluster`).
        now_s: the time, epoch seconds.
        from_s: the window's begin; None: `nightly.look_back_days` ago, or earlier, where the last night that
            went well ended before that.
        to_s: the window's end, inclusive; None: now.

    Returns:
        What changed.

    Raises:
        BusyError: another process is at it.
        ConfigError, SchedulerError, StoreError: nothing was accounted, or only whole batches were.
    """
    with opened(config) as results, results.turn(config.cluster, now_s):
        window = _window(config, results, now_s, from_s, to_s)
        with _Night(config, results, now_s) as one:
            return one.published(one.account(*window, by_itself=from_s is None))


def recompute(config: Config, now_s: float, from_s: int, to_s: int) -> NightReport:
    """Redo the impacts of jobs that ended in a window, and of the closed months that lie in it.

    Neither the scheduler nor the nodes are asked: what they said is kept with the results. Factors, inventory and
    configuration are those of now; what changes leaves a revision.

    Args:
        config: the site's.
        now_s: the time, epoch seconds.
        from_s: the window's begin.
        to_s: its end, inclusive.

    Raises:
        BusyError: another process is at it.
        ConfigError, StoreError: nothing was redone, or only whole batches were.
    """
    _check_order(from_s, to_s)
    with (
        opened(config) as results,
        results.turn(config.cluster, now_s),
        _Night(config, results, now_s) as one,
    ):
        return one.published(one.recompute(from_s, to_s), again=(from_s, to_s))


def _window(config: Config, results: Results, now_s: float, from_s: int | None, to_s: int | None) -> tuple[int, int]:
    end_s = min(math.ceil(now_s), to_s if to_s is not None else math.ceil(now_s))
    if from_s is None:
        look_back_s = int(now_s) - config.nightly.look_back_days * DAY_S
        watermark_s = results.watermark(config.cluster)
        from_s = look_back_s if watermark_s is None else min(look_back_s, int(watermark_s))
    _check_order(from_s, end_s)
    return from_s, end_s


def _check_order(from_s: int, to_s: int) -> None:
    if from_s > to_s:
        begin, end = (datetime.fromtimestamp(at_s, UTC).isoformat(" ") for at_s in (from_s, to_s))
        raise ConfigError(f"a window from {begin} to {end} has no time in it: give an earlier --from")


class _Night:
    """One run over a window."""

    def __init__(self, config: Config, results: Results, now_s: float) -> None:
        self._config = config
        self._cluster = config.cluster
        self._results = results
        self._now_s = now_s
        self._months = Months(config, results)
        self._accounts = Accounts(config, self._months.keys, lambda: now_s)
        self._counts: list[Counts] = []
        self._not_measured = self._estimated = 0
        self._problems: list[str] = []
        self._bad_rows: dict[str, None] = {}
        self._closed: list[str] = []
        self._strange: list[EndedRun] = []
        self._profiles: ProfileKeeper | None = None
        """None: a recomputation, which leaves them as they are."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._accounts.__exit__()

    def account(self, from_s: int, to_s: int, *, by_itself: bool) -> NightReport:
        """Jobs that ended in a window, and the months that can be closed then.

        Args:
            from_s: the window's begin.
            to_s: its end, inclusive.
            by_itself: nobody asked for this window: the next night goes on from there.
        """
        self._problems += self._accounts.refresh(from_s - DAY_S, self._now_s)
        self._accounts.energy.nodes()  # a store that is not there is an error, not a night without a measurement
        self._tell_of_change()
        self._open_again()
        self._profiles = profiles = ProfileKeeper(self._config, self._accounts.energy, self._results)
        source = job_source(self._config)
        told_s = to_s - self._config.nightly.look_back_days * DAY_S
        strange_s = self._told_from(from_s) if by_itself else from_s - DAY_S
        begin_s, lasts_s, end_s = from_s, SLICE_S, min(from_s + SLICE_S, to_s)
        while True:
            found = source.finished(begin_s, end_s)
            self._bad_rows.update(dict.fromkeys(map(str, found.problems)))
            # The second that two slices share is the former's.
            new = [one for one in found.records if begin_s == from_s or not from_s <= (one.end_s or 0.0) <= begin_s]
            self._slice(source, new, begin_s, end_s, last=end_s == to_s)
            if by_itself:
                self._results.set_watermark(self._cluster, end_s)
            until_s = min(end_s - DAY_S, max(told_s, from_s))
            self._find_strangers(strange_s, until_s)
            strange_s = max(strange_s, until_s)
            if end_s == to_s:
                break
            # Years without a job (somebody has asked for all there is) go by in longer steps.
            lasts_s = SLICE_S if found.records else min(2 * lasts_s, LONGEST_S)
            begin_s, end_s = end_s, min(end_s + lasts_s, to_s)
        self._fill_in(Segment(self._accounts, self._results, self._cluster, {}), from_s)
        self._tell_of_strangers()
        self._true_up()
        self._problems += profiles.finish()
        if by_itself:
            self._results.set_told(self._cluster, told_s)
        return self._report(from_s, to_s)

    def published(self, report: NightReport, again: tuple[float, float] | None = None) -> NightReport:
        """Tell the time-series server, where there is one; what that runs into is told, and is no error.

        Args:
            report: of this night.
            again: a time that is published whether or not anything changed.
        """
        store = self._config.store.server
        if store is None:
            self._results.published(self._cluster).forget()
            return report
        from jobimpact.nightly.publish import publish  # it loads what only a server needs

        energy = self._accounts.energy
        told = publish(self._config, store, self._results, energy, self._now_s, report.from_s, again)
        return msgspec.structs.replace(report, problems=tuple(dict.fromkeys([*report.problems, *told])))

    def _open_again(self) -> None:
        """Months that are not over, and were closed by a clock that was ahead."""
        early = sorted(month for month in self._months.closed if closes_s(month) > self._now_s)
        if early or (self._results.watermark(self._cluster) or 0.0) > self._now_s + DAY_S:
            self._results.take_back(self._cluster, early, self._now_s)
        if early:
            self._months.forget(early)
            self._problems.append(f"closed by a clock that was ahead, and open again: {', '.join(early)}")

    def _told_from(self, from_s: int) -> float:
        """Where to go on telling of energy without a record: nights are not always a day apart."""
        told_s = self._results.told(self._cluster)
        return from_s - DAY_S if told_s is None else min(from_s - DAY_S, told_s)

    def _slice(self, source: JobSource, records: Sequence[JobRecord], from_s: int, to_s: int, *, last: bool) -> None:
        if not records and not last and self._results.first_s(self._cluster) is None:
            self._results.cover(self._cluster, from_s, to_s)  # before the first job
            return
        stays = self._stays(records)
        gone = self._hold(source, from_s, to_s)
        if gone:
            keys = {stay.key for some in gone.values() for stay in some}
            left = Segment(self._accounts, self._results, self._cluster, stays, without=keys)
            self._counts += left.free(gone, self._now_s)
            self._results.release(self._cluster, keys)  # not before those beside them know
        segment = Segment(self._accounts, self._results, self._cluster, stays)
        due = self._due([record.start_s for record in records], from_s, to_s)
        self._fill(records, due)
        incarnations = Incarnations(self._accounts, self._results, self._cluster, records)

        def load(keys: Sequence[str]) -> list[Job]:
            jobs = self._with_kept(incarnations.measured(keys))
            return [estimated(self._accounts.assessor, ended_before(job)) for job in jobs]

        ended = [(record.end_s or 0.0, record.key) for record in records]
        self._walk(ended, due, load, segment, self._close)
        self._results.cover(self._cluster, from_s, to_s)

    def recompute(self, from_s: int, to_s: int) -> NightReport:
        """Jobs that are in the results already, and the closed months that lie in the window."""
        ended = self._results.ended(self._cluster, from_s, to_s)
        others: dict[str, list[Stay]] = {}
        for keys in chunks([key for _, key in ended]):
            jobs = self._load(keys)
            self._fill([job.record for job in jobs], [])
            for job in jobs:
                for node, stay in self._accounts.assessor.stays(job.record, job.energy).items():
                    others.setdefault(node, []).append(stay)
        # Months all of whose days are redone, so that jobs and hardware are of one factor set.
        edges = {month: edges_of(month) for month in self._months.closed}
        due = [month for month, (begin_s, end_s) in edges.items() if from_s <= begin_s and end_s <= to_s + 1]
        segment = Segment(self._accounts, self._results, self._cluster, others, anew=True)

        def load(keys: Sequence[str]) -> list[Job]:
            return [estimated(self._accounts.assessor, unestimated(job)) for job in self._load(keys)]

        self._walk(ended, due, load, segment, self._close_anew)
        self._true_up()
        return self._report(from_s, to_s)

    def _with_kept(self, jobs: list[Job]) -> list[Job]:
        """What nodes said of a job before, where they do not say it any more: nothing is lost with a node's file."""
        mirrored = self._config.store.server is not None
        lacking = [job.record.key for job in jobs if job.energy.missing or mirrored]
        rows = {row.key: row for row in self._results.rows(self._cluster, lacking)}
        return [kept(job, rows[job.record.key]) if job.record.key in rows else job for job in jobs]

    def _tell_of_change(self) -> None:
        """Rows that no window asks for again keep the factors and the inventory that they were made with."""
        was = self._results.made_with(self._cluster)
        now = (self._accounts.factors.version, self._accounts.inventory.version)
        for what, before, after in zip(("factors", "inventory"), was or now, now, strict=True):
            if before != after:
                text = f"{what} {after} now, {before} before: earlier rows keep theirs until account --recompute"
                self._problems.append(text)

    def _find_strangers(self, from_s: float, to_s: float) -> None:
        """Runs in the nodes' books that ended within [from_s, to_s), and of which no record was ever read."""
        runs = self._accounts.energy.ended(from_s, to_s)[0] if from_s < to_s else []
        if not runs:
            return
        first_s = min(run.start_s for run in runs)
        known = self._results.spans(self._cluster, first_s - EARLY_S, to_s + EARLY_S)
        self._strange += [run for run in runs if not any(_meet(run, *span) for span in known.get(run.job, ()))]

    def _tell_of_strangers(self) -> None:
        """Energy of jobs that the scheduler has not told of by the end of the look-back."""
        if self._strange:
            whole = kwh(sum(run.uj or 0 for run in self._strange) / 1e6)
            some = ", ".join(f"{run.job} on {run.node}" for run in self._strange[:3])
            more = f" and {len(self._strange) - 3} more" if len(self._strange) > 3 else ""
            self._problems.append(f"the scheduler knows nothing of {whole:.3g} kWh of runs that ended: {some}{more}")

    def _load(self, keys: Sequence[str]) -> list[Job]:
        return [job_of(row) for row in self._results.rows(self._cluster, keys)]

    def _walk(
        self,
        ended: list[tuple[float, str]],
        due: list[str],
        load: Callable[[Sequence[str]], list[Job]],
        segment: Segment,
        close: Callable[[str, Segment], None],
    ) -> None:
        """Jobs by their end, and between them each month when it closes: later jobs have its keys."""
        ended.sort()
        at = 0
        for month in sorted(due):
            cut = bisect.bisect_left(ended, (closes_s(month), ""))
            self._account([key for _, key in ended[at:cut]], load, segment)
            at = cut
            close(month, segment)
            self._closed.append(month)
        self._account([key for _, key in ended[at:]], load, segment)

    def _account(self, keys: list[str], load: Callable[[Sequence[str]], list[Job]], segment: Segment) -> None:
        for some in chunks(keys):
            jobs = load(some)
            self._not_measured += sum(job.summary.total_j is None for job in jobs)
            self._estimated += sum(any(run.state == "estimated" for run in job.energy.runs) for job in jobs)
            self._counts += segment.write(jobs, self._now_s)
            if self._profiles is not None:
                self._profiles.take(jobs)

    def _close(self, month: str, segment: Segment) -> None:
        self._months.close(month, self._accounts.assessor, segment.occupancy, self._idle_hours, self._now_s)

    def _close_anew(self, month: str, segment: Segment) -> None:
        self._months.close_anew(month, self._accounts.assessor, segment.occupancy, self._now_s)

    def _idle_hours(self, from_s: float, to_s: float) -> list[HourShares]:
        found, unread = self._accounts.energy.idle_hours(from_s, to_s)
        self._problems += unread
        return found

    def _stays(self, records: Iterable[JobRecord]) -> dict[str, list[Stay]]:
        """Who holds what, as far as the scheduler alone tells."""
        found: dict[str, list[Stay]] = {}
        for record in records:
            for node, stay in self._accounts.assessor.stays(record, JobEnergy((), {})).items():
                found.setdefault(node, []).append(stay)
        return found

    def _hold(self, source: JobSource, from_s: int, at_s: int) -> dict[str, list[Stay]]:
        """Note what running jobs hold: their own rows come when they end. Gives what turned out not to be held."""
        try:
            found = source.running(at_s)
        except SchedulerError as error:
            self._problems.append(f"jobs that are running are not known: {error}")
            return {}
        self._bad_rows.update(dict.fromkeys(map(str, found.problems)))
        running = [msgspec.structs.replace(record, end_s=float(at_s)) for record in found.records]
        gone = self._results.hold(self._cluster, self._stays(running), from_s, at_s)
        return {} if found.problems else gone  # one that could not be read may run on

    def _due(self, starts: Iterable[float | None], from_s: float, to_s: float) -> list[str]:
        """The months that can be closed."""
        if not self._accounts.inventory.types:
            return []
        known = [start_s for start_s in (self._results.first_s(self._cluster), *starts) if start_s is not None]
        covered = merged([*self._results.covered(self._cluster), (from_s, to_s)])
        return closable(covered, self._months.closed, min(known, default=None))

    def _fill(self, records: Iterable[JobRecord], due: list[str]) -> None:
        """Ask for the electricity's intensity in the hours of some jobs, and of the months that are to be closed."""
        spans = [(one.start_s, one.end_s) for one in records if one.start_s is not None and one.end_s is not None]
        spans += map(edges_of, due)
        if self._accounts.grid is not None and spans:
            first_s, last_s = min(start_s for start_s, _ in spans), max(end_s for _, end_s in spans)
            self._problems += self._accounts.grid.fill(first_s, last_s)

    def _fill_in(self, segment: Segment, before_s: int) -> None:
        """Hours of the grid that were not known, or estimated, when jobs of the last weeks were accounted for."""
        if self._accounts.grid is None or self._config.grid.provider == "annual":
            return
        lacking = self._results.lacking_hours(self._cluster, before_s - LATE_DAYS * DAY_S, before_s)
        for keys in chunks(lacking):
            jobs = self._load(keys)
            self._fill([job.record for job in jobs], [])
            self._counts.append(segment.redo(jobs, self._now_s))

    def _true_up(self) -> None:
        """Close the books of every year whose December is closed, where anything in it has changed."""
        ended = {month[:4] for month in self._months.closed if month.endswith("-12")}
        for year in sorted(ended & self._results.unsettled(self._cluster)):
            lines = true_up(self._results, self._months, self._cluster, year)
            self._results.write_true_ups(self._cluster, year, lines, self._now_s)

    def _report(self, from_s: int, to_s: int) -> NightReport:
        if self._accounts.inventory.reason:
            self._problems.append(self._accounts.inventory.reason)
        rows = list(self._bad_rows)
        if len(rows) > MOST_TOLD:
            rows[MOST_TOLD:] = [f"and {len(rows) - MOST_TOLD} more rows of the scheduler that cannot be read"]
        return NightReport(
            from_s=from_s,
            to_s=to_s,
            new=sum(one.new for one in self._counts),
            changed=sum(one.changed for one in self._counts),
            unchanged=sum(one.unchanged for one in self._counts),
            not_measured=self._not_measured,
            problems=tuple(dict.fromkeys([*rows, *self._problems])),
            closed=tuple(self._closed),
            estimated=self._estimated,
        )


def _meet(run: EndedRun, start_s: float, end_s: float, nodes: str) -> bool:
    """The record has a place for the run: names of nodes are plain, so they stand in JSON as they are."""
    return run.start_s <= end_s + EARLY_S and run.end_s >= start_s - EARLY_S and f'"{run.node}"' in nodes


def chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """In order, as many at a time as one transaction takes."""
    return (keys[at : at + BATCH] for at in range(0, len(keys), BATCH))
