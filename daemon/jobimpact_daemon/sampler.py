"""The clock loop: at each tick and at each mark, read everything and hand it to the bookkeeper.

A mark, and the coming or going of a job's cgroup, trigger a reading at once; those within 50 ms share one. The ledger
commits every 10 s and at each mark; only then are the marks' files deleted.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from inotify_simple import INotify

from jobimpact.core.clock import Clock
from jobimpact.core.errors import StoreError
from jobimpact.core.records import Domain, Mark, NodeFacts, Reading, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.bookkeeper import Bookkeeper, Finding, Observation
from jobimpact_daemon.health import Health
from jobimpact_daemon.jobs.gpu_use import GpuUse, shared_gpus
from jobimpact_daemon.jobs.gpus import name_devices, named
from jobimpact_daemon.jobs.marks import MarkFolder
from jobimpact_daemon.jobs.progress_socket import ProgressSocket
from jobimpact_daemon.jobs.usage import UsageReader
from jobimpact_daemon.ledger import Ledger
from jobimpact_daemon.notify import Notifier
from jobimpact_daemon.progress import Listener
from jobimpact_daemon.recording import Recorder, book_name, booked
from jobimpact_daemon.sources.base import GpuSource, KnowsMinors, Source, TellsUtilisation
from jobimpact_daemon.sources.choice import choose

__all__ = ["Sampler"]

SHARE_NS = NS // 20
"""Marks within this time share one reading."""
EDGE_NS = NS // 10
"""A job's load comes up within its first second: after its start the ticks are this close, and double."""
COMMIT_NS = 10 * NS
DISCOVER_NS = 60 * NS
DISCOVER_SOON_NS = 5 * NS
STARTING_NS = 120 * NS
"""For how long after its own start the daemon looks more often for sources that are not there: drivers load late."""


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
        facts: the node's size as configured or found; GPUs and packages are added as they are discovered.
        topology: which logical CPUs each of the metered packages has.
        notifier: tells systemd that the loop goes round.
        recorder: writes a recording as well, if given.
        progress: where jobs tell how far they are, if they may.
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
        topology: Callable[[Iterable[str]], Mapping[str, Sequence[int]]],
        boot: str,
        notifier: Notifier,
        recorder: Recorder | None = None,
        progress: ProgressSocket | None = None,
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
        self._topology = topology
        self._boot = boot
        self._notifier = notifier
        self._recorder = recorder
        self._recorded: NodeFacts | None = None
        self._found: dict[str, list[Domain]] = {}
        self._known: dict[str, set[str]] = {source.name: set() for source in sources}
        self._kept: dict[str, set[str]] = {}
        self._health = {source.name: Health(source.name) for source in sources}
        # Asked at each reading: a protocol's isinstance is slow.
        self._gpu_sources = [source for source in sources if isinstance(source, GpuSource)]
        self._telling = [source for source in sources if isinstance(source, TellsUtilisation)]
        self._gpu_use = GpuUse(usage.job_of)
        self._progress = progress
        self._listener = Listener(books, usage.job_at)
        self._wake_out, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._read_ns = self._committed_ns = -COMMIT_NS
        self._discover_ns = 0
        self._started_ns: int | None = None
        self._chosen_ns = 0

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
        self._notifier.stopping()
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
        discovered = self._clock.boot_ns() >= self._discover_ns
        if discovered:
            self._discover()
        found = self._of_this_boot(self._marks.waiting())
        self._read_ns, wall_s = self._clock.boot_ns(), self._clock.wall_s()
        read = {source.name: self._read(source) for source in self._sources}
        if discovered:
            self._choose(read, wall_s)
        elif any(ones.keys() - self._known[source] for source, ones in read.items()):
            # A domain that nobody knew of.
            self._discover_ns = min(self._discover_ns, self._chosen_ns + DISCOVER_SOON_NS)
        marks = [named(mark, self._books.state.minors) for _, mark in found]
        readings = {
            book_name(source, name): one
            for source, ones in read.items()
            for name, one in ones.items()
            if name in self._kept[source]
        }
        seen = Observation(self._read_ns, wall_s, readings, self._read_usage(marks))
        self._record(seen, marks)
        if self._progress is not None:
            # Before the marks: a job's last word comes just before its end.
            self._listener.take(*self._progress.take(), self._read_ns)
        self._books.observe(seen, marks)
        self._marks.take([name for name, _ in found])
        self._report_rejected(wall_s)
        self._watch_shared_gpus()
        if found or self._read_ns - self._committed_ns >= COMMIT_NS:
            self._commit()
        self._notifier.alive(self._read_ns, self._status)
        return started or any(mark.event == "start" for mark in marks)

    def _read(self, source: Source) -> dict[str, Reading]:
        start_ns = self._clock.boot_ns()
        found = source.read()
        now_ns = self._clock.boot_ns()
        took_ns = getattr(source, "took_ns", now_ns - start_ns)
        self._health[source.name].add(found, took_ns, now_ns, source.problem)
        return found

    def _status(self) -> str:
        bad = [f"{name}: {one.now.problem}" for name, one in self._health.items() if self._is_bad(one)]
        if self._ledger.trouble:
            bad.append(f"books in memory only: {self._ledger.trouble}")
        if self._ledger.late:
            bad.append(self._ledger.late)
        runs = len(self._books.state.holdings.open_runs())
        return "; ".join([f"{runs} jobs", *bad]).replace("\n", " ")

    def _is_bad(self, health: Health) -> bool:
        """It has read something once, and does not now."""
        return health.now.good_ns is not None and health.now.good_ns < self._read_ns and bool(health.now.problem)

    def _watch_shared_gpus(self) -> None:
        state = self._books.state
        slices = {device: part.gpu for device, part in state.holdings.node.slices.items()}
        shared = shared_gpus(state.holdings.open_runs(), slices)
        for source in self._gpu_sources:
            source.watch(shared)

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
        ended = {mark.job for mark in marks if mark.event == "end"}
        sluids = {mark.sluid: mark.job for mark in marks if mark.sluid} | {
            run.sluid: run.job for run in runs if run.sluid
        }
        usage = self._usage.read(self._read_ns, cores, ended, sessions, sluids)
        use: dict[str, dict[int, int]] = {}
        for source in self._gpu_sources:
            use |= source.use()
        self._gpu_use.add(use)
        told = self._gpu_use.told(usage)
        self._gpu_use.forget({run.job for run in runs} | {mark.job for mark in marks} | usage.jobs.keys())
        busy: dict[str, float] = {}
        for one in self._telling:
            busy |= one.utilisation()
        return msgspec.structs.replace(told, utilisation=busy) if busy else told

    def _discover(self) -> None:
        now_ns = self._clock.boot_ns()
        if self._progress is not None:
            self._progress.mend()
        for source in self._sources:
            self._found[source.name] = source.discover()
        if self._started_ns is None:
            self._started_ns = now_ns
        missing = not all(self._found.values()) and now_ns - self._started_ns < STARTING_NS
        self._discover_ns = now_ns + (DISCOVER_SOON_NS if missing else DISCOVER_NS)

    def _choose(self, read: dict[str, dict[str, Reading]], wall_s: float) -> None:
        """Declare what is booked of what was found, and what the node is made of."""
        books, state = self._books, self._books.state
        state.wall_s, self._chosen_ns = wall_s, self._read_ns
        choice = choose(self._found, read)
        minors: dict[str, str] = {}
        facts = self._facts
        for source in self._sources:
            kept = [one for one in self._found[source.name] if source.name in choice.get(one.kind, {source.name})]
            self._known[source.name] = {domain.name for domain in self._found[source.name]}
            self._kept[source.name] = {domain.name for domain in kept}
            for domain in kept:
                books.declare(booked(domain))
                if domain.name.startswith("gpu:accel"):
                    minors[domain.name.removeprefix("gpu:accel")] = domain.name.removeprefix("gpu:")
            if isinstance(source, KnowsMinors):
                minors |= source.minors
            if isinstance(source, GpuSource):
                facts = msgspec.structs.replace(facts, slices={**facts.slices, **source.slices})
        facts = msgspec.structs.replace(facts, packages=self._packages())
        books.retire(choice, self._found.keys())
        state.minors = minors or state.minors
        name_devices(state.holdings.open_runs(), state.minors)
        # A GPU that was replaced is no part of the node any more once nobody waits for its counter.
        found = {name for ones in self._kept.values() for name in ones}
        gpus = [one for one in state.parts() if one.domain.kind == "gpu"]
        awaited = [one.domain.name for one in gpus if one.before is not None or one.domain.name in found]
        uuids = {name.partition(":")[2] for name in awaited}
        facts = msgspec.structs.replace(facts, gpus=tuple(sorted(uuids | set(facts.gpus))))
        if self._recorder and facts != self._recorded:
            self._recorded = facts
            self._recorder.node(self._read_ns, wall_s, self._boot, facts)
        books.resize(facts)

    def _packages(self) -> dict[str, int]:
        """The CPUs of each package, where there are several and all that are metered are known."""
        cpus = [domain for ones in self._found.values() for domain in ones if domain.kind == "cpu"]
        metered = {domain.name for domain in cpus if domain.name in self._kept[domain.source]} - {"cpu"}
        packages = self._topology(metered)
        if len(packages) < 2 or not metered <= packages.keys():
            packages = {}
        self._usage.set_packages(packages)
        return {name: len(found) for name, found in packages.items()}

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
        health = [one.now for one in self._health.values()]
        if self._ledger.commit(self._books, self._marks.taken, health):
            self._marks.delete_taken()
        elif final:
            raise StoreError(f"{self._ledger.path}: {self._ledger.trouble}: the last minutes are lost")
