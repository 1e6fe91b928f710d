"""Observations in, books out: the one path that a live node, a restart and a replay all take.

An observation is everything that was read at one boot time, with the marks that came since the last. The
bookkeeper advances the holdings through the marks, turns each counter into an energy, splits it among the holders
of exactly that interval, and adds it up. It reads no file, no clock and no hardware.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from jobimpact.core.records import Absent, Counter, Domain, Failed, Mark, NodeFacts, Reading, Usage
from jobimpact.core.units import NS
from jobimpact_daemon import lives
from jobimpact_daemon.attribution import split_domain, weights
from jobimpact_daemon.counters import Baseline, Step, compare
from jobimpact_daemon.holdings import CgroupMemory, Holdings, Run, Snapshot

__all__ = ["Account", "Bookkeeper", "DomainBook", "Finding", "Observation", "State"]

MAX_EDGE_NS = NS // 4
"""A mark that was read later than this has an interpolated edge."""
MAX_GAP_NS = 24 * 3600 * NS
"""A counter that has not been read for this long is not waited for: the holders of its energy are forgotten."""
MAX_DEFER_NS = 10 * NS
"""For how long an energy waits for the CPU times that split it."""


class Observation(msgspec.Struct, frozen=True):
    """All that was read at one boot time (`wall_s`: the same instant in UTC, a label)."""

    t_ns: int
    wall_s: float
    readings: dict[str, Reading]
    usage: Usage | None = None


class Finding(msgspec.Struct, frozen=True):
    """Something that a person should know of: a reset, a gap, a lost job."""

    wall_s: float
    kind: str
    subject: str
    text: str


class Account(msgspec.Struct):
    """One holder's energy in one domain so far, and for how long it is known."""

    uj: int = 0
    known_ns: int = 0


class DomainBook(msgspec.Struct):
    """One domain: what it is, what it has measured, where its counter stood."""

    domain: Domain
    measured_uj: int = 0
    known_ns: int = 0
    unknown_ns: int = 0
    reason: str | None = None
    since_ns: int | None = None
    """The last good reading, or when the domain was first looked at in this boot."""
    base: Baseline | None = None
    before: Snapshot | None = None
    """The holdings at the baseline; `suspect` those at the value under suspicion."""
    suspect: Snapshot | None = None
    gap: bool = False
    late: tuple[Counter, Snapshot] | None = None
    """The last reading that waits for the CPU times that split it."""

    def unknown_by(self, t_ns: int) -> int:
        """For how long its energy is not known, an outage that still lasts included, in ns."""
        return self.unknown_ns + (max(0, t_ns - self.since_ns) if self.since_ns is not None else 0)


class State(msgspec.Struct):
    """All that the bookkeeper must know after a restart, but the accounts, which the ledger holds."""

    holdings: Holdings
    boot: str = ""
    wall_s: float = 0.0
    domains: dict[str, DomainBook] = {}
    cgroups: CgroupMemory = msgspec.field(default_factory=CgroupMemory)
    minors: dict[str, str] = {}
    """GPUs' device minor numbers → UUIDs, as last known."""


class Bookkeeper:
    """Keeps one node's books.

    Args:
        state: where it goes on, or a new one.
        idle_w: configured idle power by domain, in watts; comes before what a source knows.
        taken: whether a run key is in the ledger already, closed.
    """

    def __init__(
        self,
        state: State,
        idle_w: dict[str, float],
        taken: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.state = state
        self.accounts: dict[tuple[str, str], Account] = {}
        self.touched: set[tuple[str, str]] = set()
        self.findings: list[Finding] = []
        self.closed: list[Run] = []
        """Runs that nothing can be added to any more, until the ledger has them."""
        self._idle_w = idle_w
        self._in_ledger = taken
        self._weights: dict[tuple[int, str, str], tuple[dict[str, int], dict[str, int]]] = {}

    # -- what is on the node ------------------------------------------------------------------------------------

    def declare(self, domain: Domain) -> None:
        """A source has found a domain."""
        book = self.state.domains.get(domain.name)
        if book is None:
            self.state.domains[domain.name] = DomainBook(domain)
            if domain.kind != "gpu" and self._idle_uw(domain) == 0:
                self._find("no idle power", domain.name, "its idle power is not known: all of it goes by use")
        elif book.domain != domain:
            book.domain = domain

    def resize(self, node: NodeFacts) -> None:
        """The node's size, or its GPUs, are known (anew)."""
        self.state.holdings.node = node

    def resume(self) -> None:
        """Go on after a restart: whatever the next readings cover includes a gap."""
        for book in self.state.domains.values():
            book.gap = book.base is not None

    def reboot(self, boot: str) -> None:
        """The machine booted: open runs ended at the last reading, counters start anew."""
        self.settle()
        state, holdings = self.state, self.state.holdings
        for run in lives.close_all(holdings, state.wall_s):
            self._find("reboot", run.key, "the node booted anew in mid run: it ended at the last reading")
        for book in state.domains.values():
            if book.since_ns is not None:
                book.unknown_ns += holdings.t_ns - book.since_ns
            book.base = book.before = book.suspect = book.since_ns = None
            book.gap = False
        self.closed += holdings.runs.values()
        holdings.runs = {}
        holdings.t_ns, holdings.usage_ns, holdings.read_busy_ns = 0, None, None
        holdings.deficit_ns = holdings.system_mem_now = 0
        state.cgroups.ancestors, state.cgroups.jobs = {}, {}
        state.boot = boot

    # -- what happened -------------------------------------------------------------------------------------------

    def observe(self, seen: Observation, marks: list[Mark]) -> None:
        """Take in the marks since the last observation, and what was read now."""
        state, holdings = self.state, self.state.holdings
        for mark in sorted(marks, key=lambda mark: mark.t_ns):
            self._mark(mark, seen)
        holdings.advance(seen.t_ns)
        state.wall_s = seen.wall_s
        if seen.usage is not None:
            usage = self._follow_cgroups(seen.usage, seen.wall_s)
            holdings.use(usage)
            self._close_gone(usage, seen.wall_s)
        now = holdings.snapshot()
        self._weights.clear()
        deferred = self._use_is_late(seen)
        for name, reading in seen.readings.items():
            book = state.domains.get(name)
            if book is None:
                continue
            if book.since_ns is None:
                book.since_ns = now.t_ns
            if isinstance(reading, Counter):
                if deferred and book.base is not None and book.domain.kind != "gpu":
                    book.late = reading, now
                else:
                    self._count(book, reading, now)
            elif isinstance(reading, (Absent, Failed)):
                self._miss(book, reading)
        self._settle_runs()

    def settle(self) -> None:
        """Nothing more will come: split what waits without the CPU times."""
        self._weights.clear()
        for book in self.state.domains.values():
            if book.late is not None:
                self._count(book, *book.late)

    def _use_is_late(self, seen: Observation) -> bool:
        """Counters hold their energy: better wait for the CPU times than split without them."""
        last = self.state.holdings.usage_ns
        return seen.usage is None and last is not None and seen.t_ns - last < MAX_DEFER_NS

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
            self._find("no start mark", run.key, "an end mark came for a job that was never seen to start")

    def _follow_cgroups(self, usage: Usage, wall_s: float) -> Usage:
        """Use by job id to use by run; a cgroup without a mark starts a run."""
        jobs = {}
        for job, use in usage.jobs.items():
            run = lives.find(self.state.holdings, job, gone=use.gone)
            if run is None:
                run = lives.discover(self.state.holdings, job, use, wall_s, self._taken)
                self._find("no start mark", run.key, "seen by its cgroup alone: are the hooks installed?")
            lives.refine(self.state.holdings, run, use)
            jobs[run.key] = use
        return msgspec.structs.replace(usage, jobs=jobs)

    def _close_gone(self, usage: Usage, wall_s: float) -> None:
        for run in lives.close_gone(self.state.holdings, usage, wall_s):
            if run.state == "lost":
                self._find("lost", run.key, "its processes have been gone for minutes and no end mark came")

    # -- readings ------------------------------------------------------------------------------------------------

    def _miss(self, book: DomainBook, reading: Absent | Failed) -> None:
        reason = reading.reason if isinstance(reading, Absent) else reading.error
        kind: Literal["absent", "failed"] = "absent" if isinstance(reading, Absent) else "failed"
        if book.reason is None:
            self._find(kind, book.domain.name, reason)
        book.reason, book.gap = f"{kind}: {reason}", True

    def _count(self, book: DomainBook, reading: Counter, now: Snapshot) -> None:
        book.late = None
        step = compare(book.base, reading, now.t_ns)
        if step.verdict == "held" and book.base is not None:
            book.base.suspect_uj, book.base.suspect_t_ns, book.suspect = reading.uj, now.t_ns, now
            return
        if step.verdict not in ("first", "counted", "wrapped") and book.domain.method != "modelled":
            self._find(step.verdict, book.domain.name, _told(step, book.base, reading))
        before, since_ns = book.before, book.since_ns if book.since_ns is not None else now.t_ns
        if step.after_suspect and book.suspect is not None:
            book.unknown_ns += book.suspect.t_ns - since_ns
            before, since_ns = book.suspect, book.suspect.t_ns
        if step.uj is None or before is None:
            book.unknown_ns += now.t_ns - since_ns
            self._flag(before, now, f"{book.domain.name} {step.verdict}" if book.base else "")
        else:
            self._post(book, step.uj, before, now)
        book.base = Baseline(reading.uj, now.t_ns, reading.epoch, _moved_ns(step, book.base))
        book.before, book.suspect, book.since_ns, book.reason, book.gap = now, None, now.t_ns, None, False

    def _post(self, book: DomainBook, uj: int, before: Snapshot, now: Snapshot) -> None:
        """Book a domain's energy: every microjoule to a holder."""
        name, kind = book.domain.name, book.domain.kind
        dt = now.t_ns - before.t_ns
        gpu = name.partition(":")[2] if kind == "gpu" else ""
        cache = (id(before), kind, gpu)
        found = self._weights.get(cache)
        if found is None:
            found = self._weights[cache] = weights(kind, gpu, before, now)
        held, used = found
        idle_uj = self._idle_uw(book.domain) * dt // NS
        for holder, share in split_domain(uj, idle_uj, held, used).items():
            self._account(name, holder).uj += share
        for key, after in now.runs.items():
            then = before.runs.get(key)
            known = after.time_ns - (then.time_ns if then else 0)
            if known and (kind != "gpu" or gpu in after.gpus):
                self._account(name, key).known_ns += known
        book.measured_uj += uj
        book.known_ns += dt
        if book.gap:
            self._flag(before, now, f"{name} gap")

    def _account(self, domain: str, holder: str) -> Account:
        key = (domain, holder)
        self.touched.add(key)
        found = self.accounts.get(key)
        if found is None:
            found = self.accounts[key] = Account()
        return found

    def _flag(self, before: Snapshot | None, now: Snapshot, flag: str) -> None:
        """Tell every run that held time in an interval what is odd about it."""
        for key, after in now.runs.items():
            then = before.runs.get(key) if before else None
            run = self.state.holdings.runs.get(key)
            if flag and run and after.time_ns > (then.time_ns if then else 0):
                run.flag(flag)

    def _idle_uw(self, domain: Domain) -> int:
        watts = self._idle_w.get(domain.name, domain.idle_w)
        return round((watts or 0.0) * 1_000_000)

    # -- housekeeping --------------------------------------------------------------------------------------------

    def _settle_runs(self) -> None:
        """Forget the closed runs that no pending energy can still belong to."""
        holdings = self.state.holdings
        books = self.state.domains.values()
        for book in books:
            if book.since_ns is not None and holdings.t_ns - book.since_ns > MAX_GAP_NS:
                book.unknown_ns += holdings.t_ns - book.since_ns
                book.base = book.before = book.suspect = book.late = None
                book.since_ns = holdings.t_ns
        oldest = min((book.before.t_ns for book in books if book.before is not None), default=holdings.t_ns)
        oldest = min(oldest, holdings.usage_ns if holdings.usage_ns is not None else oldest)
        for run in lives.settled(holdings, oldest):
            self.closed.append(holdings.runs.pop(run.key))

    def _find(self, kind: str, subject: str, text: str) -> None:
        self.findings.append(Finding(self.state.wall_s, kind, subject, text))


def _moved_ns(step: Step, base: Baseline | None) -> int | None:
    """Since when a counter stands still; None: it moved."""
    if base is None or step.uj != 0:
        return None
    return base.t_ns if base.moved_ns is None else base.moved_ns


def _told(step: Step, base: Baseline | None, reading: Counter) -> str:
    before = base.uj if base else 0
    said = {
        "reset": "the counter started anew: the energy since the last reading is not known",
        "healed": "the counter fell and came back: a blip, nothing lost",
        "jump": "the counter rose by more than the hardware can draw: taken as a reset",
        "ambiguous": "the counter may have wrapped more than once: the energy is not known",
    }
    return f"{said[step.verdict]} ({before} to {reading.uj} uJ)"
