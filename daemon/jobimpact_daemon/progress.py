"""What jobs say of themselves, and who may say it of which run: points of progress, and labels. No file, no socket.

A point is stamped when it came, with what its run had in the books then. In one second a run has one point: what
comes sooner replaces it, so that the last word always counts. Of a run that says much, every other point is dropped
and the second becomes two, then four.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from jobimpact.core.labels import MAX_LABELS
from jobimpact.core.progress import MAX_METRICS
from jobimpact.core.units import NS
from jobimpact_daemon import lives
from jobimpact_daemon.bookkeeper import Bookkeeper
from jobimpact_daemon.holdings import Run
from jobimpact_daemon.jobs.progress_socket import Received

__all__ = ["Listener"]

WAIT_NS = 5 * NS
"""A word may come a moment before its run is known: so long it waits."""
MAX_WAITING = 256
NOT_THEIRS = "not of a job that the sender may speak for"
NO_RUN = "of no job that runs here"
TOO_MANY = "more names than a run may have"


class Listener:
    """Takes in what has come, for the runs that it may speak for.

    Args:
        books: the node's.
        job_at: the job in whose cgroup, or process session, a sender is.
    """

    def __init__(
        self, books: Bookkeeper, job_at: Callable[[Iterable[tuple[int, str]], int | None], str | None]
    ) -> None:
        self._books = books
        self._job_at = job_at
        self._waiting: list[tuple[int, Received]] = []

    def take(self, found: Iterable[Received], dropped: Mapping[str, tuple[int, int]], t_ns: int) -> None:
        """Take in what has come, and tell what was dropped.

        Args:
            found: since the last time, in order.
            dropped: by reason: how many were dropped before they came here, and the last one's uid.
            t_ns: now, in boot time.
        """
        lost = dict(dropped)
        waiting, self._waiting = self._waiting, []
        for since_ns, one in [*waiting, *((t_ns, one) for one in found)]:
            run, why = self._run(one)
            if run is not None:
                why = self._say(run, one)
            elif why == NO_RUN and t_ns - since_ns < WAIT_NS and len(self._waiting) < MAX_WAITING:
                self._waiting.append((since_ns, one))
                why = None
            if why:
                lost[why] = lost.get(why, (0, 0))[0] + 1, one.uid
        for why, (many, uid) in lost.items():
            self._books.find("progress dropped", why, f"{many} datagrams, the last of uid {uid}")

    def _run(self, one: Received) -> tuple[Run | None, str | None]:
        """The run that it speaks for: its own cgroup's, else the one that it names; and why not."""
        job = self._job_at(one.cgroups, one.sid)
        name = job or one.said.job
        run = lives.find(self._books.state.holdings, name) if name else None
        if run is None or run.state != "open":
            return None, NO_RUN
        if one.uid in (0, run.uid) or (job is not None and run.uid is None):
            return run, None
        return None, NOT_THEIRS

    def _say(self, run: Run, one: Received) -> str | None:
        """Note it; gives why a part of it was left out."""
        said, words, why = one.said, run.words, None
        new = [name for name in said.metrics if name not in words.metrics]
        if len(words.metrics) + len(new) > MAX_METRICS:
            why, new = TOO_MANY, new[: MAX_METRICS - len(words.metrics)]
        words.metrics += new
        values = {name: value for name, value in said.metrics.items() if name in words.metrics}
        if said.step is not None or values:
            self._books.words.point(run, one.wall_s, said.step, values, self._books.energy_of(run))
        for name, text in said.labels.items():
            if name not in words.labels and len(words.labels) >= MAX_LABELS:
                why = TOO_MANY
            elif words.labels.get(name) != text:
                words.labels[name] = text
                self._books.words.labels[run.key, name] = text, one.wall_s
        return why
