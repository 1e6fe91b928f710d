"""Observations in, books out: the one path that a live node, a restart and a replay all take.

An observation is everything that was read at one boot time, with the marks that came since the last. The
bookkeeper advances the holdings through the marks, has each reading turned into an energy and split among the holders
of exactly that interval (`metering`), has the node's own meter set against its parts (`node_rest`), and keeps what is
needed for the next. It reads no file, no clock and no hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import msgspec

from jobimpact.core.records import Domain, DomainKind, Mark, NodeFacts, Usage, run_key
from jobimpact.core.units import NS
from jobimpact_daemon import lives
from jobimpact_daemon.accounts import Accounts
from jobimpact_daemon.books import Account, DomainBook, Finding, Observation, State
from jobimpact_daemon.gauges import Steady
from jobimpact_daemon.holdings import Run
from jobimpact_daemon.metering import Metering
from jobimpact_daemon.node_rest import CALIBRATED, NodeRest
from jobimpact_daemon.run_use import add_utilisation, miss
from jobimpact_daemon.words import RunWords

if TYPE_CHECKING:
    from jobimpact.core.calibration import NodeCalibration

__all__ = ["Account", "Bookkeeper", "DomainBook", "Finding", "Observation", "State"]

MAX_EDGE_NS = NS // 4
"""A mark that was read later than this has an interpolated edge."""
MAX_GAP_NS = 24 * 3600 * NS
"""A counter that has not been read for this long is not waited for: the holders of its energy are forgotten."""
LATE_MARK_NS = NS
"""A cgroup may be seen a moment before its mark."""
MAX_CLOSED = 500
"""More closed runs than this are not kept waiting for a domain that cannot be read."""
MAX_DEFER_NS = 10 * NS
"""For how long an energy waits for the CPU times that split it."""


class Bookkeeper:
    """Keeps one node's books.

    Args:
        state: where it goes on, or a new one.
        idle_w: configured idle power by domain, in watts; comes before what a source knows or what is learned.
        taken: whether a run key is in the ledger already, closed.
        policy: by whose rules energy is split.
        calibration: what the node's plug draws for its parts, where it has no meter of its own.
        max_gap_ns: two readings of a gauge that are further apart say nothing of the time between.
        interval_ns: how often everything is read.
    """

    def __init__(
        self,
        state: State,
        idle_w: Mapping[str, float],
        taken: Callable[[str], bool] = lambda _: False,
        *,
        policy: str = "default",
        calibration: NodeCalibration | None = None,
        max_gap_ns: int = 30 * NS,
        interval_ns: int = NS,
    ) -> None:
        self.state = state
        self.closed: list[Run] = []
        """Runs that nothing can be added to any more, until the ledger has them."""
        self.words = RunWords()
        """What runs say of themselves, and the ledger does not have yet."""
        self._in_ledger = taken
        self._use_gap_ns = max(max_gap_ns, 3 * interval_ns)
        self._accounts = Accounts(state, idle_w)
        self._rest = NodeRest(state, self._accounts, policy, calibration)
        self._metering = Metering(state, self._accounts, self._rest, policy, max_gap_ns)

    @property
    def accounts(self) -> dict[tuple[str, str], Account]:
        """The accounts, by domain and holder, to which something can still be added."""
        return self._accounts.of

    @accounts.setter
    def accounts(self, found: dict[tuple[str, str], Account]) -> None:
        self._accounts.of = found

    @property
    def touched(self) -> set[tuple[str, str]]:
        """The accounts that the ledger does not have yet."""
        return self._accounts.touched

    @property
    def findings(self) -> list[Finding]:
        """What a person should know of, and the ledger does not have yet."""
        return self._accounts.findings

    def find(self, kind: str, subject: str, text: str) -> None:
        """Tell a person; the same again only after a while."""
        self._accounts.find(kind, subject, text)

    def energy_of(self, run: Run) -> int | None:
        """What a run has in the books, over all domains, in microjoules; None: nothing is known."""
        found = [self.accounts.get((name, run.key)) for name in self.state.domains]
        known = [account.uj for account in found if account is not None]
        return sum(known) if known else None

    # -- what is on the node ------------------------------------------------------------------------------------

    def declare(self, domain: Domain) -> None:
        """A source has found a domain."""
        book = self.state.domains.get(domain.name)
        if book is None:
            book = self.state.domains[domain.name] = DomainBook(domain)
            if domain.kind in ("cpu", "dram") and self._accounts.idle_w(book) is None:
                text = "its idle power is not known: all of it goes by use until it is learned"
                self._accounts.find("no idle power", domain.name, text)
        elif book.domain != domain:
            other = (book.domain.source, book.domain.method) != (domain.source, domain.method)
            if other and book.since_ns is not None:
                book.lose(self.state.holdings.t_ns)  # another meter stands elsewhere
            book.domain = domain
        node = self.state.holdings.node
        gpu = domain.name.partition(":")[2]
        if domain.kind == "gpu" and gpu not in node.gpus:
            self.resize(msgspec.structs.replace(node, gpus=(*node.gpus, gpu)))

    def retire(self, choice: Mapping[DomainKind, frozenset[str]], sources: Collection[str]) -> None:
        """Domains that are not read any more are not waited for.

        Args:
            choice: the sources of each kind of part, now.
            sources: those that are switched on.
        """
        for book in self.state.domains.values():
            kind, source = book.domain.kind, book.domain.source
            others = choice.get(kind, frozenset())
            if kind == "node" and source not in sources and book.domain.name != CALIBRATED:
                if self._rest.is_meter(book):
                    self._rest.stop(self.state.holdings.t_ns)
                self._retire(book, f"{source} is switched off")
            elif others and source not in others:
                self._retire(book, f"{'+'.join(sorted(others))} measures this part")
        self._rest.retire(sources)

    def _retire(self, book: DomainBook, reason: str) -> None:
        book.lose(self.state.holdings.t_ns)
        book.since_ns, book.reason = None, f"absent: {reason}"

    def resize(self, node: NodeFacts) -> None:
        """The node's size, or its GPUs, are known (anew)."""
        holdings = self.state.holdings
        # While a driver does not answer, nobody else tells what the MIG devices are that jobs hold.
        held = {device for run in holdings.open_runs() for device in run.gpus}
        slices = {device: one for device, one in holdings.node.slices.items() if device in held}
        holdings.node = msgspec.structs.replace(node, slices=slices | node.slices)

    def resume(self) -> None:
        """Go on after a restart: whatever the next readings cover includes a gap."""
        for book in self.state.domains.values():
            book.gap = book.before is not None
        # Drivers tell what processes have used since they were first seen, and they are seen anew.
        self.state.holdings.read_gpu_ns = {}
        for run in self.state.holdings.runs.values():
            run.read_gpu_ns = {}

    def reboot(self, boot: str) -> None:
        """The machine booted: open runs ended at the last reading, counters start anew."""
        self.settle()
        state, holdings = self.state, self.state.holdings
        for run in lives.close_all(holdings, state.wall_s):
            self._accounts.find("reboot", run.key, "the node booted anew in mid run: it ended at the last reading")
        for book in state.domains.values():
            book.lose(holdings.t_ns)
            book.since_ns, book.gap, book.stuck, book.steady = None, False, False, Steady()
        state.rest.stop()
        state.snapshots.clear()
        self.closed += holdings.runs.values()
        holdings.runs = {}
        holdings.t_ns, holdings.usage_ns, holdings.read_busy_ns = 0, None, None
        holdings.read_busy_by, holdings.read_gpu_ns, holdings.deficits = {}, {}, {}
        holdings.utilisation_ns = {}
        holdings.system_mem_now = 0
        state.cgroups.ancestors, state.cgroups.jobs = {}, {}
        state.boot = boot

    # -- what happened -------------------------------------------------------------------------------------------

    def observe(self, seen: Observation, marks: list[Mark]) -> None:
        """Take in the marks since the last observation, and what was read now."""
        state, holdings = self.state, self.state.holdings
        for mark in sorted(marks, key=lambda mark: mark.t_ns):
            self._mark(mark, seen)
        known = lives.by_job(holdings) if seen.usage is not None else {}
        self._refine(seen.usage, known)
        holdings.advance(seen.t_ns)
        state.wall_s = seen.wall_s
        deferred = self._use_is_late(seen)
        if seen.usage is not None:
            usage = self._follow_cgroups(seen.usage, known, seen.wall_s)
            miss(holdings, usage, self._use_gap_ns)
            holdings.use(usage)
            add_utilisation(holdings, usage.utilisation, self._use_gap_ns)
            self._close_gone(usage, seen.wall_s)
            self._follow_runs(usage)
        now = holdings.snapshot()
        state.snapshots[now.t_ns] = now
        self._accounts.begin()
        # The meter of the whole comes after its parts: its reading is set against theirs of the same instant.
        found = [(state.domains[name], reading) for name, reading in seen.readings.items() if name in state.domains]
        for book, reading in sorted(found, key=lambda one: one[0].domain.kind == "node"):
            self._metering.read(book, reading, now, deferred=deferred)
        if seen.usage is not None:
            for book in state.domains.values():
                self._metering.catch_up(book, now)
        self._rest.keep(now)
        self._settle_runs()
        self._drop_snapshots()

    def settle(self) -> None:
        """Nothing more will come: split what waits without the CPU times, and close the rest's window."""
        self._accounts.begin()
        for book in self.state.domains.values():
            self._metering.finish(book)
        self._rest.finish()

    def _use_is_late(self, seen: Observation) -> bool:
        """Counters hold their energy: better wait for the CPU times than split without them."""
        last = self.state.holdings.usage_ns
        return seen.usage is None and last is not None and 0 < seen.t_ns - last < MAX_DEFER_NS

    def _taken(self, key: str) -> bool:
        return any(run.key == key for run in self.closed) or self._in_ledger(key)

    # -- marks, and runs without them ----------------------------------------------------------------------------

    def _mark(self, mark: Mark, seen: Observation) -> None:
        holdings = self.state.holdings
        holdings.advance(min(mark.t_ns, seen.t_ns))
        wall_s = seen.wall_s - max(0, seen.t_ns - mark.t_ns) / NS
        run = (
            lives.start(holdings, mark, wall_s, self._taken)
            if mark.event == "start"
            else lives.end(holdings, mark, wall_s, self._taken)
        )
        if run and seen.t_ns - mark.t_ns > MAX_EDGE_NS:
            run.flag(f"{mark.event} interpolated")
        if run and "no start mark" in run.flags and run.marked:
            text = "an end mark came for a job that was never seen to start"
            self._accounts.find("no start mark", run.key, text)

    def _refine(self, usage: Usage | None, known: Mapping[str, list[Run]]) -> None:
        """What a cgroup tells of its job was so before it was read: a guess is not held on for a whole gap."""
        for job, use in (usage.jobs if usage else {}).items():
            run = lives.owner(known.get(job, []), use)
            if run is not None:
                lives.refine(self.state.holdings, run, use)

    def _follow_cgroups(self, usage: Usage, known: Mapping[str, list[Run]], wall_s: float) -> Usage:
        """Use by job id to use by run; a cgroup without a mark starts a run."""
        holdings = self.state.holdings
        jobs = {}
        for job, use in usage.jobs.items():
            run = lives.owner(known.get(job, []), use)
            if run is None:
                if use.gone and (use.cpu_ns == 0 or self._taken(run_key(job, 0))):
                    continue  # the last word of a job whose books are closed
                if use.empty_ns and (lives.is_left_over(use) or self._taken(run_key(job, 0))):
                    continue  # a folder that OAR could not remove
                run = lives.discover(holdings, job, use, wall_s, self._taken)
                if use.gone:
                    run.flag("no end mark")
                    lives.close(run, holdings.t_ns, wall_s)
            jobs[run.key] = use
        return msgspec.structs.replace(usage, jobs=jobs)

    def _close_gone(self, usage: Usage, wall_s: float) -> None:
        for run in lives.close_gone(self.state.holdings, usage, wall_s):
            if run.state == "lost":
                text = "its processes have been gone for minutes and no end mark came"
                self._accounts.find("lost", run.key, text)

    def _follow_runs(self, usage: Usage) -> None:
        for key, use in usage.jobs.items():
            run = self.state.holdings.runs[key]
            if use.suspended and not run.suspended:
                run.flag("suspended for a time: no share of the CPUs")
            run.suspended = use.suspended
            if not run.marked and run.time_ns > LATE_MARK_NS:
                text = "seen by its cgroup alone: are the hooks installed?"
                self._accounts.find("no start mark", key, text)

    # -- housekeeping --------------------------------------------------------------------------------------------

    def _settle_runs(self) -> None:
        """Forget the closed runs that no pending energy can still belong to."""
        holdings = self.state.holdings
        for book in self.state.domains.values():
            if book.since_ns is not None and holdings.t_ns - book.since_ns > MAX_GAP_NS:
                book.lose(holdings.t_ns)
        closed = lives.settled(holdings)
        pending = [self.state.snapshots[t_ns] for t_ns in self._pending()]
        for run in closed:
            if all(run.is_in(one) for one in pending):
                self.closed.append(holdings.runs.pop(run.key))
        if len(closed) > MAX_CLOSED:
            self._let_go()

    def _let_go(self) -> None:
        """A domain that cannot be read keeps every job since from being closed: its gap is not known."""
        waiting = [book for book in self.state.parts() if book.before is not None]
        book = min(waiting, key=lambda one: one.before or 0, default=None)
        if book is None or book.before == self.state.holdings.t_ns:
            return
        self._accounts.flag(book.domain, book.before, self.state.snapshots[self.state.holdings.t_ns], "gap")
        text = f"it has not been read while {MAX_CLOSED} jobs ended: its energy in that time is not known"
        self._accounts.find("gap", book.domain.name, text)
        book.lose(self.state.holdings.t_ns)

    def _pending(self) -> set[int]:
        """The snapshots by which energy may still be given to a run."""
        rest = self.state.rest
        found = {point.t_ns for point in (rest.start, rest.last) if point}
        for book in self.state.domains.values():
            found |= book.pending() if book.domain.kind != "node" else set()
        return found

    def _drop_snapshots(self) -> None:
        """Keep those that something still refers to."""
        meters = (book.pending() for book in self.state.domains.values() if book.domain.kind == "node")
        wanted = self._pending().union(*meters)
        self.state.snapshots = {t_ns: one for t_ns, one in self.state.snapshots.items() if t_ns in wanted}
