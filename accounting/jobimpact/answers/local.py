"""Answers from this host: finished jobs from the results alone, the others from the nodes' own books."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from jobimpact.answers.query import Answers, Details, Group, Period, PeriodQuery, Query, Who
from jobimpact.core.config import Config
from jobimpact.core.errors import ConfigError, StoreError
from jobimpact.results.read import Found, Reader
from jobimpact.results.record import JobResult
from jobimpact.results.select import Seen, Selection
from jobimpact.results.sums import sums_of

__all__ = ["LocalAnswers"]

_STARTED_ANEW = frozenset({"REQUEUED", "PREEMPTED", "NODE_FAIL"})
"""How a run ends whose job may go on: its next incarnation may not be accounted for yet."""


class LocalAnswers:
    """Answers what one asker may see.

    What is not theirs is left out by the question that is put to the database, so that it looks like what is not
    there: in the rows, in their number, and in the sums.

    Args:
        config: the site's.
        who: asks; None: somebody who may see all, as whoever can read the results' file can.
        most_live: so many jobs of a question are looked for in the nodes' books; None: all.

    Raises:
        SchemaTooNewError: a newer release wrote the results.
        StoreError: they cannot be read.
    """

    def __init__(self, config: Config, who: Who | None, most_live: int | None = None) -> None:
        self._config = config
        self._who = who
        self._most_live = most_live
        self._looked_for = 0
        self._reader = Reader(config.results)

    def close(self) -> None:
        """Let go of the results."""
        self._reader.close()

    def jobs(self, query: Query) -> Answers:
        """Jobs by their ids, a group each, or all that fit as one group.

        Raises:
            StoreError: the results cannot be read. Nodes' books that cannot be are the group's trouble.
            ConfigError: of a job that is not accounted for yet: the inventory is wrong.
        """
        self._looked_for = 0
        if query.ids:
            groups = tuple(self._group(job, query) for job in dict.fromkeys(query.ids))
        else:
            found = self._reader.select(self._selection(None, query), query.rows)
            groups = (_group("", found),)
        return Answers(groups, nothing_yet=self._reader.empty)

    def details(self, cluster: str, key: str) -> Details:
        """Power over time and progress; empty where there are none, or it is not theirs.

        Raises:
            StoreError: the results cannot be read.
        """
        return Details(*self._reader.details(cluster, key, self._seen_by))

    def period(self, query: PeriodQuery) -> Period:
        """A time of a user, a lab or a cluster.

        Raises:
            StoreError: it is not theirs to see, or cannot be read.
        """
        from jobimpact.answers.period import period

        return period(self._reader, query, self._who or Who(0, "root", admin=True), self._config)

    @property
    def _seen_by(self) -> Seen | None:
        if self._who is None or self._who.admin:
            return None
        return Seen(self._who.names, self._who.labs)

    def _selection(self, job: str | None, query: Query) -> Selection:
        return Selection(
            job=job,
            users=query.users,
            accounts=query.accounts,
            clusters=query.clusters,
            from_s=query.from_s,
            to_s=query.to_s,
            seen_by=self._seen_by,
        )

    def _group(self, job: str, query: Query) -> Group:
        found = self._reader.select(self._selection(job, query), query.rows)
        last = found.jobs[-1] if found and found.jobs else None
        if not query.live or (found and (last is None or last.state not in _STARTED_ANEW)):
            return _group(job, found)
        try:
            live = self._live(job, last, query)
        except (ConfigError, StoreError) as error:  # an inventory that is wrong, too: what is accounted needs none
            return msgspec.structs.replace(_group(job, found), trouble=str(error))
        if not live:
            return _group(job, found)
        jobs = (*(found.jobs if found else ()), *live)
        return Group(job, jobs, sums_of(jobs))

    def _live(self, job: str, last: JobResult | None, query: Query) -> list[JobResult]:
        """Of a job that is not in the results, or went on after what is there."""
        self._looked_for += 1
        if self._most_live is not None and self._looked_for > self._most_live:
            raise StoreError(f"more than {self._most_live} jobs are not in the results: ask for fewer at once")
        from jobimpact.answers.live import live_results

        if last is None:
            found = live_results(job, self._config, owner=self._owner(None))
        else:
            found = live_results(last.raw_id, self._config, last.end_s, last.cluster, owner=self._owner(last))
            known = {name: getattr(last, name) for name in ("job_id", "user", "account", "partition", "name")}
            found = [msgspec.structs.replace(one, **known) for one in found]
        return [one for one in found if _fits(one, query)]

    def _owner(self, last: JobResult | None) -> Callable[[int | None], bool] | None:
        """Whether a run of this uid is theirs; None: any is. Nobody but an admin sees one whose uid is not known."""
        who = self._who
        if who is None or who.admin:
            return None
        if last is None:
            return lambda uid: uid == who.uid
        from jobimpact.answers.live import user_of

        # The job is theirs to see by its row, as its user or as the head of its account: so are its later runs.
        return lambda uid: uid is not None and (uid == who.uid or user_of(uid) == last.user)


def _group(asked: str, found: Found | None) -> Group:
    return Group(asked) if found is None else Group(asked, found.jobs, found.sums, shared=found.shared)


def _fits(one: JobResult, query: Query) -> bool:
    """A job that runs was there until now."""
    if query.to_s is not None and one.start_s is not None and one.start_s >= query.to_s:
        return False
    if query.from_s is not None and one.end_s is not None and one.end_s < query.from_s:
        return False
    return all(
        not asked or is_ in asked
        for asked, is_ in ((query.users, one.user), (query.accounts, one.account), (query.clusters, one.cluster))
    )
