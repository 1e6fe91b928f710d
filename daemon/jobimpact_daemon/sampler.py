"""The clock loop: at each tick and at each mark, read everything and hand it to the bookkeeper.

A mark, and the coming or going of a job's cgroup, trigger a reading at once; those within 50 ms share one. The ledger
commits every 10 s and at each mark; only then are the marks' files deleted.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

import msgspec
from inotify_simple import INotify

from jobimpact.core.clock import Clock
from jobimpact.core.errors import StoreError
from jobimpact.core.records import Mark, NodeFacts, Reading, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.bookkeeper import Bookkeeper, Finding, Observation
from jobimpact_daemon.jobs.gpus import name_devices, named
from jobimpact_daemon.jobs.marks import MarkFolder
from jobimpact_daemon.jobs.usage import UsageReader
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.recording import Recorder
from jobimpact_daemon.sources.base import Source
from jobimpact_daemon.sources.nvml import Nvml

__all__ = ["Sampler"]

SHARE_NS = NS // 20
"""Marks within this time share one reading."""
EDGE_NS = NS // 10
"""A job's load comes up within its first second: after its start the ticks are this close, and double."""
COMMIT_NS = 10 * NS
DISCOVER_NS = 60 * NS
DISCOVER_SOON_NS = 5 * NS
"""After a discovery that left a source without domains: a driver may need its time to start."""


class Sampler:
    """One node's loop.

    Args:
        clock: boot time and wall clock.
        interval_s: between two ticks.
        sources: where power is read.
        usage: where use is read.
        marks: the mark folder.
        inotify: what wakes the loop.
        books: the bookkeeper.
        ledger: its file.
        facts: the node's size as configured or found; GPUs are added as they are discovered.
        recorder: writes a recording as well, if given.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        interval_s: float,
        sources: Sequence[Source],
        usage: UsageReader,
        marks: MarkFolder,
        inotify: INotify,
        books: Bookkeeper,
        ledger: Ledger,
        facts: NodeFacts,
        boot: str,
        recorder: Recorder | None = None,
    ) -> None:
        self._clock = clock
        self._interval_ns = round(interval_s * NS)
        self._sources = sources
        self._usage = usage
        self._marks = marks
        self._inotify = inotify
        self._books = books
        self._ledger = ledger
        self._facts = facts
        self._boot = boot
        self._recorder = recorder
        self._recorded: NodeFacts | None = None
        self._wake_out, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._read_ns = self._committed_ns = -COMMIT_NS
        self._discover_ns = 0

    @property
    def wake_fd(self) -> int:
        """A byte written here wakes the loop (for `signal.set_wakeup_fd`)."""
        return self._wake_in

    def stop(self) -> None:
        """End after a last reading and commit."""
        self._stopping = True

    def run(self) -> None:
        """Loop until stopped."""
        poll = select.poll()
        poll.register(self._inotify.fd, select.POLLIN)
        poll.register(self._wake_out, select.POLLIN)
        self.observe()
        edge_ns = self._read_ns
        while not self._stopping:
            due_ns = self._read_ns + min(self._interval_ns, max(EDGE_NS, self._read_ns - edge_ns))
            wait_ns = due_ns - self._clock.boot_ns()
            if wait_ns > 0 and poll.poll(wait_ns / 1e6) and not self._stopping:
                self._let_others_come()
                self._drain()
            if self.observe():
                edge_ns = self._read_ns
        self._commit(final=True)

    def _let_others_come(self) -> None:
        since_ns = self._clock.boot_ns() - self._read_ns
        if since_ns < SHARE_NS:
            select.select([self._wake_out], [], [], (SHARE_NS - since_ns) / NS)

    def _drain(self) -> None:
        for event in self._inotify.read(timeout=0):
            if not self._usage.event(event.wd, event.mask, event.name):
                self._marks.event(event.wd, event.mask)

    def observe(self) -> bool:
        """Read everything now, book it, and commit if it is time.

        Returns:
            Whether a job has started since the last time.
        """
        started = self._usage.take_births()
        if self._clock.boot_ns() >= self._discover_ns:
            self._discover()
        found = self._of_this_boot(self._marks.waiting())
        marks = [named(mark, self._books.state.minors) for _, mark in found]
        readings: dict[str, Reading] = {}
        self._read_ns, wall_s = self._clock.boot_ns(), self._clock.wall_s()
        for source in self._sources:
            readings |= source.read()
        seen = Observation(self._read_ns, wall_s, readings, self._read_usage(marks))
        self._record(seen, marks)
        self._books.observe(seen, marks)
        self._marks.take([name for name, _ in found])
        self._report_rejected(wall_s)
        if found or self._read_ns - self._committed_ns >= COMMIT_NS:
            self._commit()
        return started or any(mark.event == "start" for mark in marks)

    def _of_this_boot(self, found: list[tuple[str, Mark]]) -> list[tuple[str, Mark]]:
        """A mark of a boot that nobody remembers has an uptime that means nothing now."""
        ours = []
        for name, mark in found:
            if self._boot and mark.boot not in (None, self._boot):
                self._marks.reject(name, f"of another boot ({mark.boot})")
            else:
                ours.append((name, mark))
        return ours

    def _read_usage(self, marks: list[Mark]) -> Usage:
        runs = self._books.state.holdings.open_runs()
        cores = {run.job: run.cpus for run in runs}
        cores |= {mark.job: mark.cpus for mark in marks if mark.cpus and mark.event == "start"}
        sessions = {run.job: run.sid for run in runs if run.sid}
        sessions |= {mark.job: mark.sid for mark in marks if mark.sid and mark.event == "start"}
        return self._usage.read(self._read_ns, cores, {mark.job for mark in marks if mark.event == "end"}, sessions)

    def _discover(self) -> None:
        books, now_ns = self._books, self._clock.boot_ns()
        books.state.wall_s = self._clock.wall_s()
        self._discover_ns = now_ns + DISCOVER_NS
        for source in self._sources:
            found = source.discover()
            if not found:
                self._discover_ns = now_ns + DISCOVER_SOON_NS
            for domain in found:
                books.declare(domain)
            if isinstance(source, Nvml) and source.minors:
                books.state.minors = source.minors
        name_devices(books.state.holdings.open_runs(), books.state.minors)
        uuids = {name[4:] for name, book in books.state.domains.items() if book.domain.kind == "gpu"}
        facts = msgspec.structs.replace(self._facts, gpus=tuple(sorted(uuids | set(self._facts.gpus))))
        if self._recorder and facts != self._recorded:
            self._recorded = facts
            self._recorder.node(now_ns, books.state.wall_s, self._boot, facts)
        books.resize(facts)

    def _record(self, seen: Observation, marks: list[Mark]) -> None:
        if self._recorder:
            for mark in marks:
                self._recorder.mark(mark, seen)
            self._recorder.seen(seen, {name: book.domain for name, book in self._books.state.domains.items()})

    def _report_rejected(self, wall_s: float) -> None:
        for name, reason in self._marks.rejected:
            self._books.findings.append(Finding(wall_s, "mark set aside", name, reason))
        self._marks.rejected.clear()

    def _commit(self, *, final: bool = False) -> None:
        self._committed_ns = self._read_ns
        if self._ledger.commit(self._books, self._marks.taken):
            self._marks.delete_taken()
        elif final:
            raise StoreError(f"{self._ledger.path}: {self._ledger.trouble}: the last minutes are lost")
