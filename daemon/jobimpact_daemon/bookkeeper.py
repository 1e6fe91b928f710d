"""Observations in, books out: the one path that a live node, a restart and a replay all take.

An observation is everything that was read at one boot time, with the marks that came since the last. The
bookkeeper advances the holdings through the marks, turns each reading into an energy, splits it among the holders
of exactly that interval, and adds it up. It reads no file, no clock and no hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from jobimpact.core.records import (
    IDLE,
    SYSTEM,
    Absent,
    Counter,
    Domain,
    DomainKind,
    Failed,
    Gauge,
    Mark,
    NodeFacts,
    Reading,
    Usage,
)
from jobimpact.core.units import NS
from jobimpact_daemon import lives
from jobimpact_daemon.attribution import POLICIES, Weights
from jobimpact_daemon.counters import CEILING_W, Baseline, Step, compare
from jobimpact_daemon.gauges import Sample, Steady, trapezoid_uj
from jobimpact_daemon.holdings import CgroupMemory, Holdings, Run, Snapshot
from jobimpact_daemon.idle import LearnedIdle, is_quiet
from jobimpact_daemon.rest import TRUST, Rest, Settled, window_ns

if TYPE_CHECKING:
    from jobimpact.core.calibration import NodeCalibration

__all__ = ["Account", "Bookkeeper", "DomainBook", "Finding", "Observation", "State"]

MAX_EDGE_NS = NS // 4
"""A mark that was read later than this has an interpolated edge."""
MAX_GAP_NS = 24 * 3600 * NS
"""A counter that has not been read for this long is not waited for: the holders of its energy are forgotten."""
MAX_DEFER_NS = 10 * NS
"""For how long an energy waits for the CPU times that split it."""
STUCK_NS = 60 * NS
"""Everything that is switched on draws something: a counter that stands still for this long is stuck."""
MAX_WAIT_NS = 3600 * NS
"""For how long the rest of the node waits for a part that cannot be read."""
BEHIND_NS = 2 * NS
"""A part that was read within this time of the meter is up to date."""
USUAL_GAPS = 3
MAX_PERIOD_NS = 300 * NS
"""Readings of a gauge that are further apart than this are never usual."""
REST = "rest"
CALIBRATED = "node:calibration"


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
    """One domain: what it is, what it has measured, where its meter stood. Snapshots are named by their time."""

    domain: Domain
    measured_uj: int = 0
    known_ns: int = 0
    unknown_ns: int = 0
    reason: str | None = None
    since_ns: int | None = None
    """The last good reading, or when the domain was first looked at in this boot."""
    base: Baseline | None = None
    sample: Sample | None = None
    """A gauge's last good reading."""
    usual_ns: int | None = None
    """How far apart a gauge's readings usually are."""
    steady: Steady = msgspec.field(default_factory=Steady)
    before: int | None = None
    """The holdings at the baseline; `suspect` those at the value under suspicion."""
    suspect: int | None = None
    still: int | None = None
    """The holdings when the counter last had the baseline's value."""
    gap: bool = False
    stuck: bool = False
    late: tuple[Counter, int] | None = None
    """The last reading that waits for the CPU times that split it."""
    learned: LearnedIdle = msgspec.field(default_factory=LearnedIdle)

    def unknown_by(self, t_ns: int) -> int:
        """For how long its energy is not known, an outage that still lasts included, in ns."""
        return self.unknown_ns + (max(0, t_ns - self.since_ns) if self.since_ns is not None else 0)

    def forget(self) -> None:
        """Whatever comes next begins anew."""
        self.base = self.sample = self.before = self.suspect = self.still = self.late = None


class State(msgspec.Struct):
    """All that the bookkeeper must know after a restart, but the accounts, which the ledger holds."""

    holdings: Holdings
    boot: str = ""
    wall_s: float = 0.0
    domains: dict[str, DomainBook] = {}
    rest: Rest = msgspec.field(default_factory=Rest)
    snapshots: dict[int, Snapshot] = {}
    """The holdings at the times that something above still refers to."""
    cgroups: CgroupMemory = msgspec.field(default_factory=CgroupMemory)
    minors: dict[str, str] = {}
    """GPUs' device minor numbers → UUIDs, as last known."""


class Bookkeeper:
    """Keeps one node's books.

    Args:
        state: where it goes on, or a new one.
        idle_w: configured idle power by domain, in watts; comes before what a source knows or what is learned.
        taken: whether a run key is in the ledger already, closed.
        policy: by whose rules energy is split.
        calibration: what the node's plug draws for its parts, where it has no meter of its own.
        max_gap_ns: two readings of a gauge that are further apart say nothing of the time between.
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
    ) -> None:
        self.state = state
        self.accounts: dict[tuple[str, str], Account] = {}
        self.touched: set[tuple[str, str]] = set()
        self.findings: list[Finding] = []
        self.closed: list[Run] = []
        """Runs that nothing can be added to any more, until the ledger has them."""
        self._idle_w = idle_w
        self._in_ledger = taken
        self._split = POLICIES[policy]
        self._whole_node = policy == "exclusive"
        self._calibration = calibration
        self._max_gap_ns = max_gap_ns
        self._weights: dict[tuple[int, int, str], tuple[Weights, Weights]] = {}

    # -- what is on the node ------------------------------------------------------------------------------------

    def declare(self, domain: Domain) -> None:
        """A source has found a domain."""
        book = self.state.domains.get(domain.name)
        if book is None:
            book = self.state.domains[domain.name] = DomainBook(domain)
            if domain.kind in ("cpu", "dram") and self._idle_known_w(book) is None:
                self._find("no idle power", domain.name, "its idle power is not known: all of it goes by use")
        elif book.domain != domain:
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
        rest = self.state.rest
        for book in self.state.domains.values():
            kind, source = book.domain.kind, book.domain.source
            others = choice.get(kind, frozenset())
            if kind == "node" and source not in sources and book.domain.name != CALIBRATED:
                if rest.meter == book.domain.name:
                    self._settle_rest()
                    rest.stop()
                self._retire(book, f"{source} is switched off")
            elif others and source not in others:
                self._retire(book, f"{'+'.join(sorted(others))} measures this part")
        own = self.state.domains.get(REST)
        if own is not None and not any(self._is_meter(book, sources) for book in self.state.domains.values()):
            self._retire(own, "no meter of the whole node")

    def _is_meter(self, book: DomainBook, sources: Collection[str]) -> bool:
        modelled = book.domain.name == CALIBRATED and self._calibration is not None
        return book.domain.kind == "node" and (modelled or book.domain.source in sources)

    def _retire(self, book: DomainBook, reason: str) -> None:
        if book.since_ns is not None:
            book.unknown_ns += max(0, self.state.holdings.t_ns - book.since_ns)
        book.forget()
        book.since_ns, book.reason = None, f"absent: {reason}"

    def resize(self, node: NodeFacts) -> None:
        """The node's size, or its GPUs, are known (anew)."""
        self.state.holdings.node = node

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
            self._find("reboot", run.key, "the node booted anew in mid run: it ended at the last reading")
        for book in state.domains.values():
            if book.since_ns is not None:
                book.unknown_ns += holdings.t_ns - book.since_ns
            book.forget()
            book.since_ns, book.gap, book.stuck, book.steady = None, False, False, Steady()
        state.rest.stop()
        state.snapshots.clear()
        self.closed += holdings.runs.values()
        holdings.runs = {}
        holdings.t_ns, holdings.usage_ns, holdings.read_busy_ns = 0, None, None
        holdings.read_busy_by, holdings.read_gpu_ns, holdings.deficits = {}, {}, {}
        holdings.system_mem_now = 0
        state.cgroups.ancestors, state.cgroups.jobs = {}, {}
        state.boot = boot

    # -- what happened -------------------------------------------------------------------------------------------

    def observe(self, seen: Observation, marks: list[Mark]) -> None:
        """Take in the marks since the last observation, and what was read now."""
        state, holdings = self.state, self.state.holdings
        for mark in sorted(marks, key=lambda mark: mark.t_ns):
            self._mark(mark, seen)
        self._refine(seen.usage)
        holdings.advance(seen.t_ns)
        state.wall_s = seen.wall_s
        if seen.usage is not None:
            usage = self._follow_cgroups(seen.usage, seen.wall_s)
            holdings.use(usage)
            self._close_gone(usage, seen.wall_s)
            self._follow_suspensions(usage)
        now = holdings.snapshot()
        state.snapshots[now.t_ns] = now
        self._weights.clear()
        deferred = self._use_is_late(seen)
        meters = []
        for name, reading in seen.readings.items():
            book = state.domains.get(name)
            if book is None:
                continue
            if book.since_ns is None:
                book.since_ns = now.t_ns
            if book.domain.kind == "node":
                meters.append((book, reading))
            else:
                self._read(book, reading, now, deferred=deferred)
        # The meter of the whole comes after its parts: its reading is set against theirs of the same instant.
        for book, reading in meters:
            self._read(book, reading, now, deferred=False)
        self._keep_rest(now)
        self._settle_runs()
        self._drop_snapshots()

    def settle(self) -> None:
        """Nothing more will come: split what waits without the CPU times, and close the rest's window."""
        self._weights.clear()
        for book in self.state.domains.values():
            if book.late is not None:
                reading, at = book.late
                self._count(book, reading, self.state.snapshots[at])
            if book.still is not None and book.before is not None and not book.stuck:
                # It may have drawn too little to show.
                self._post(book, 0, self.state.snapshots[book.before], self.state.snapshots[book.still])
                book.since_ns, book.before = book.still, book.still
        last = self.state.rest.last
        if last is not None and (behind := self._behind()):
            self._give_up(self.state.snapshots[last.t_ns], behind)
        self._settle_rest()
        if self.state.rest.deficit_uj > 0 and self.state.rest.short_windows:
            self._tell_deficit()

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
            jobs[run.key] = use
        return msgspec.structs.replace(usage, jobs=jobs)

    def _refine(self, usage: Usage | None) -> None:
        """What a cgroup tells of its job was so before it was read: a guess is not held on for a whole gap."""
        for job, use in (usage.jobs if usage else {}).items():
            run = lives.find(self.state.holdings, job, gone=use.gone)
            if run is not None:
                lives.refine(self.state.holdings, run, use)

    def _close_gone(self, usage: Usage, wall_s: float) -> None:
        for run in lives.close_gone(self.state.holdings, usage, wall_s):
            if run.state == "lost":
                self._find("lost", run.key, "its processes have been gone for minutes and no end mark came")

    def _follow_suspensions(self, usage: Usage) -> None:
        for key, use in usage.jobs.items():
            run = self.state.holdings.runs[key]
            if use.suspended and not run.suspended:
                run.flag("suspended for a time: no share of the CPUs")
            run.suspended = use.suspended

    # -- readings ------------------------------------------------------------------------------------------------

    def _read(self, book: DomainBook, reading: Reading, now: Snapshot, *, deferred: bool) -> None:
        if isinstance(reading, (Absent, Failed)):
            self._miss(book, reading, now)
        elif isinstance(reading, Gauge):
            self._sample(book, reading, now)
        elif deferred and book.base is not None and book.domain.kind in ("cpu", "dram"):
            book.late = reading, now.t_ns
        else:
            self._count(book, reading, now)

    def _miss(self, book: DomainBook, reading: Absent | Failed, now: Snapshot) -> None:
        reason = reading.reason if isinstance(reading, Absent) else reading.error
        kind: Literal["absent", "failed"] = "absent" if isinstance(reading, Absent) else "failed"
        if book.reason is None:
            self._find(kind, book.domain.name, reason)
            if book.domain.kind != "node" and not self._behind():
                self._settle_rest()  # up to here all parts are known
        book.reason, book.gap = f"{kind}: {reason}", True
        if book.sample is not None and now.t_ns - book.sample.t_ns > self._longest_ns(book):
            self._lose(book, now)

    def _longest_ns(self, book: DomainBook) -> int:
        """Over how long a gap a gauge is integrated: one that is asked once in a minute has no gaps of a minute."""
        return max(self._max_gap_ns, USUAL_GAPS * (book.usual_ns or 0))

    def _lose(self, book: DomainBook, now: Snapshot) -> None:
        """A gauge's gap is too long: the time since its last reading is not known, and begins anew."""
        if book.since_ns is not None:
            book.unknown_ns += now.t_ns - book.since_ns
        self._flag(book, book.before, now, "gap")
        book.since_ns, book.sample, book.before = now.t_ns, None, None
        if self.state.rest.meter == book.domain.name:
            self._settle_rest()
            self._stop_rest(now)

    def _sample(self, book: DomainBook, reading: Gauge, now: Snapshot) -> None:
        """A gauge: the trapezoid since its last reading, if that is not too long ago."""
        sample = Sample(reading.w, now.t_ns if reading.t_ns is None else min(reading.t_ns, now.t_ns))
        last = book.sample
        if last is not None and sample.t_ns <= last.t_ns:
            return  # late, or told twice
        if last is not None:
            apart_ns = sample.t_ns - last.t_ns
            if not book.gap and apart_ns <= MAX_PERIOD_NS:
                book.usual_ns = min(apart_ns, book.usual_ns or apart_ns)
            if apart_ns > self._longest_ns(book):
                self._lose(book, now)
                last = None
        follows = book.domain.kind in ("node", "cpu")  # what an idle GPU draws follows nothing that is known here
        if follows and book.steady.is_stuck(sample.w, now.t_ns, self._load(book, now)):
            self._stick(book, now)
        elif last is None or book.before is None:
            book.unknown_ns += now.t_ns - (book.since_ns if book.since_ns is not None else now.t_ns)
        else:
            book.stuck = False
            self._post(book, trapezoid_uj(last, sample), self.state.snapshots[book.before], now)
        book.sample, book.before, book.since_ns, book.reason, book.gap = sample, now.t_ns, now.t_ns, None, False
        if book.domain.kind == "node" and not book.stuck:
            self._meter_read(book, now)

    def _count(self, book: DomainBook, reading: Counter, now: Snapshot) -> None:
        book.late = None
        step = compare(book.base, reading, now.t_ns, CEILING_W[book.domain.kind])
        if step.verdict == "still":
            self._stand_still(book, reading, now)
            return
        if step.verdict == "held" and book.base is not None:
            book.base.suspect_uj, book.base.suspect_t_ns, book.suspect = reading.uj, now.t_ns, now.t_ns
            return
        if step.verdict not in ("first", "counted", "wrapped") and book.domain.method != "modelled":
            self._find(step.verdict, book.domain.name, _told(step, book.base, reading))
        before, since_ns = book.before, book.since_ns if book.since_ns is not None else now.t_ns
        if book.stuck and book.still is not None:
            # It moves again, since some time after it last stood still.
            book.unknown_ns += book.still - since_ns
            before = since_ns = book.still
        if step.after_suspect and book.suspect is not None:
            book.unknown_ns += book.suspect - since_ns
            self._flag(book, book.before, now, step.verdict)
            before = since_ns = book.suspect
        if step.uj is None or before is None:
            book.unknown_ns += now.t_ns - since_ns
            if book.base is not None and not book.stuck:
                self._flag(book, before, now, step.verdict)
            if self.state.rest.meter == book.domain.name:
                self._settle_rest()
                self._stop_rest(now)
        else:
            self._post(book, step.uj, self.state.snapshots[before], now)
        self._rebase(book, reading, now)
        book.stuck = False
        if book.domain.kind == "node":
            self._meter_read(book, now)

    def _rebase(self, book: DomainBook, reading: Counter, now: Snapshot) -> None:
        book.base, book.before, book.since_ns = Baseline(reading.uj, now.t_ns, reading.epoch), now.t_ns, now.t_ns
        book.suspect, book.still, book.reason, book.gap = None, None, None, False

    def _stand_still(self, book: DomainBook, reading: Counter, now: Snapshot) -> None:
        """The counter has not moved: its energy is in its next move, unless it never comes."""
        book.still, book.reason = now.t_ns, None
        if book.base is None or now.t_ns - book.base.t_ns < STUCK_NS:
            return
        self._stick(book, now)
        self._rebase(book, reading, now)

    def _stick(self, book: DomainBook, now: Snapshot) -> None:
        """A sensor says the same whatever happens: that is not known, which is not zero."""
        if book.since_ns is not None:
            book.unknown_ns += now.t_ns - book.since_ns
        self._flag(book, book.before, now, "stuck")
        if not book.stuck:
            self._find("stuck", book.domain.name, "it does not change: its energy is not known until it does")
            if self.state.rest.meter == book.domain.name:
                self._settle_rest()
                self._stop_rest(now)
        book.stuck = True

    def _load(self, book: DomainBook, now: Snapshot) -> int | None:
        """What a gauge should follow, cumulative: what the other parts' counters measure, else the CPU time in use."""
        others = [one for one in self._parts() if one is not book and one.domain.method == "counter"]
        if any(one.before != now.t_ns or one.stuck for one in others):
            return None  # the sum stands still, and jumps when the part is back
        return sum(one.measured_uj for one in others) or _busy(now)

    def _post(self, book: DomainBook, uj: int, before: Snapshot, now: Snapshot) -> None:
        """Book a domain's energy: every microjoule to a holder."""
        book.measured_uj += uj
        book.known_ns += now.t_ns - before.t_ns
        if book.domain.kind == "node":
            return  # what it is made of goes to holders: its parts, and the rest
        holdings, domain = self.state.holdings, book.domain
        resource = holdings.resource(domain)
        held, used = self._since(before, now, "node" if self._whole_node else resource)
        if is_quiet(before, now, resource, holdings.node.cpus):
            book.learned.add(uj, now.t_ns - before.t_ns)
        shares = self._split(domain.kind, uj, self._idle_uj(book, now.t_ns - before.t_ns), held, used)
        self._give(domain, shares, before, now)
        meter = self.state.domains.get(self.state.rest.meter or "")
        if meter is None or domain.kind not in meter.domain.excludes:
            self.state.rest.add(shares)
        if book.gap:
            self._flag(book, before.t_ns, now, "gap")

    def _give(self, domain: Domain, shares: Mapping[str, int], before: Snapshot, now: Snapshot) -> None:
        for holder, share in shares.items():
            self._account(domain.name, holder).uj += share
        for key, time_ns in now.times_since(before):
            run = self.state.holdings.runs.get(key)
            if run is not None and self.state.holdings.holds(run, domain):
                self._account(domain.name, key).known_ns += time_ns

    def _since(self, before: Snapshot, now: Snapshot, resource: str) -> tuple[Weights, Weights]:
        cache = before.t_ns, now.t_ns, resource
        found = self._weights.get(cache)
        if found is None:
            found = self._weights[cache] = now.since(before, resource)
        return found

    def _account(self, domain: str, holder: str) -> Account:
        key = (domain, holder)
        self.touched.add(key)
        found = self.accounts.get(key)
        if found is None:
            found = self.accounts[key] = Account()
        return found

    def _flag(self, book: DomainBook, before: int | None, now: Snapshot, word: str) -> None:
        """Tell every run that held a part of the domain in an interval what is odd about it."""
        then = self.state.snapshots.get(before) if before is not None else None
        for key, _ in now.times_since(then) if then is not None else ():
            run = self.state.holdings.runs.get(key)
            if run is not None and self.state.holdings.holds(run, book.domain):
                run.flag(f"{book.domain.name} {word}")

    def _idle_known_w(self, book: DomainBook) -> float | None:
        found = self._idle_w.get(book.domain.name, book.domain.idle_w)
        return book.learned.w if found is None else found

    def _idle_uj(self, book: DomainBook, dt_ns: int) -> int | None:
        watts = self._idle_known_w(book)
        return None if watts is None else round(watts * 1_000_000) * dt_ns // NS

    # -- the rest of the node ------------------------------------------------------------------------------------

    def _meter_read(self, book: DomainBook, now: Snapshot) -> None:
        """A meter of the whole node has a good reading: it is the node's, if there is no better one."""
        rest, name = self.state.rest, book.domain.name
        if rest.meter != name or rest.start is None:
            current = self.state.domains.get(rest.meter or "")
            works = current is not None and rest.start is not None and not current.stuck
            if works and current is not None and _trust(book.domain) >= _trust(current.domain):
                return
            self._settle_rest()
            if rest.start is not None:
                self._stop_rest(now)
            domain = book.domain
            self.declare(Domain(REST, "rest", domain.source, domain.method))
            own = self.state.domains[REST]
            own.reason = None
            if own.since_ns is not None:
                own.unknown_ns += now.t_ns - own.since_ns
            own.since_ns = now.t_ns
            rest.begin(name, window_ns(domain.source, domain.latency_s), now.t_ns, book.measured_uj)
            rest.unknown = self._parts_unknown()
            return
        rest.read(now.t_ns, book.measured_uj)

    def _keep_rest(self, now: Snapshot) -> None:
        """Close the window if it is time, and all parts are known to its end."""
        if self._calibration is not None:
            self._calibrated(now)
        rest = self.state.rest
        if rest.start is not None and now.t_ns - (rest.last or rest.start).t_ns > MAX_WAIT_NS:
            self._settle_rest()
            self._stop_rest(now)
        behind = self._behind()
        if rest.is_due and not behind:
            self._settle_rest()
        elif behind and rest.age_ns > max(MAX_WAIT_NS, 2 * rest.window_ns):
            self._give_up(now, behind)

    def _behind(self) -> list[str]:
        """The parts that are not known up to the meter's last reading, though they once were."""
        last = self.state.rest.last
        if last is None:
            return []
        known = {book.domain.name: book.before for book in self._parts() if book.before is not None}
        return [name for name, before in known.items() if before < last.t_ns - BEHIND_NS]

    def _give_up(self, now: Snapshot, behind: list[str]) -> None:
        """A part that is lost is in what the meter sees: as rest it would be charged to everybody."""
        rest, own = self.state.rest, self.state.domains[REST]
        self._flag(own, rest.start.t_ns if rest.start else None, now, "unknown")
        text = f"{', '.join(behind)} cannot be read: what {rest.meter} sees of it is not told from the rest"
        self._find("rest unknown", REST, text)
        self._stop_rest(now)
        own.reason = f"failed: {text}"

    def _calibrated(self, now: Snapshot) -> None:
        """Where no meter works, the parts and what was fitted while one did stand for it."""
        rest, fit = self.state.rest, self._calibration
        current = self.state.domains.get(rest.meter or "")
        if fit is None or (current is not None and rest.start is not None and current.domain.name != CALIBRATED):
            return
        parts = [book for book in self._parts() if book.domain.kind not in fit.excludes]
        if not parts or any(book.before != now.t_ns for book in parts):
            return
        self.declare(Domain(CALIBRATED, "node", "calibration", "modelled", excludes=fit.excludes))
        book = self.state.domains[CALIBRATED]
        parts_uj = sum(one.measured_uj for one in parts)
        unknown_ns = sum(one.unknown_ns for one in parts)
        last = book.base
        if last is None or str(unknown_ns) != last.epoch or book.before is None:
            book.unknown_ns += now.t_ns - (book.since_ns if book.since_ns is not None else now.t_ns)
            self._settle_rest()
            rest.stop()
        else:
            uj = round(fit.slope * (parts_uj - last.uj) + fit.offset_w * (now.t_ns - last.t_ns) / 1000)
            self._post(book, max(0, uj), self.state.snapshots[book.before], now)
        book.base = Baseline(parts_uj, now.t_ns, str(unknown_ns))
        book.before = book.since_ns = now.t_ns
        self._meter_read(book, now)

    def _settle_rest(self) -> None:
        settled = self.state.rest.settle()
        if settled is None:
            return
        self._post_rest(settled)
        if self.state.rest.short_windows == 10:
            self._tell_deficit()

    def _post_rest(self, settled: Settled) -> None:
        book = self.state.domains[REST]
        before, now = self.state.snapshots[settled.start_ns], self.state.snapshots[settled.end_ns]
        dt_ns = now.t_ns - before.t_ns
        held, used = self._since(before, now, "node")
        # A part that came back after hours may have given something to a run whose books are closed by now.
        used = {one: uj for one, uj in settled.parts.items() if one in now.runs or one in (IDLE, SYSTEM)}
        if not used or self._split is POLICIES["cpu_time"]:
            used = self._since(before, now, "cpu")[1]
        if is_quiet(before, now, "node", self.state.holdings.node.cpus):
            book.learned.add(settled.uj, dt_ns)
        shares = self._split("rest", settled.uj, self._idle_uj(book, dt_ns), held, used)
        self._give(book.domain, shares, before, now)
        for name, unknown_ns in self._parts_unknown().items():
            if unknown_ns > self.state.rest.unknown.get(name, 0):
                # What the meter saw of a part while its own energy was not known is in here.
                self._flag(book, before.t_ns, now, f"includes {name}")
        self.state.rest.unknown = self._parts_unknown()
        book.measured_uj += settled.uj
        book.known_ns += dt_ns
        book.since_ns = now.t_ns

    def _parts_unknown(self) -> dict[str, int]:
        """For how long the energy of each part that the node's meter sees was not known so far, in ns."""
        meter = self.state.domains.get(self.state.rest.meter or "")
        excludes = meter.domain.excludes if meter is not None else ()
        return {book.domain.name: book.unknown_ns for book in self._parts() if book.domain.kind not in excludes}

    def _stop_rest(self, now: Snapshot) -> None:
        """The node's meter is silent: from its last reading on the rest is not known."""
        book = self.state.domains.get(REST)
        if book is not None and book.since_ns is not None:
            book.unknown_ns += now.t_ns - book.since_ns
            book.since_ns = now.t_ns
            book.reason = f"failed: {self.state.rest.meter} is silent"
        self.state.rest.stop()

    def _tell_deficit(self) -> None:
        rest = self.state.rest
        text = f"the parts measure {rest.deficit_uj / 1e6:.0f} J more than {rest.meter}: does it see all of them?"
        self._find("negative rest", REST, text)

    def _parts(self) -> list[DomainBook]:
        """The domains of the node's parts."""
        return [book for book in self.state.domains.values() if book.domain.kind in ("cpu", "dram", "gpu")]

    # -- housekeeping --------------------------------------------------------------------------------------------

    def _settle_runs(self) -> None:
        """Forget the closed runs that no pending energy can still belong to."""
        holdings, rest = self.state.holdings, self.state.rest
        books = self.state.domains.values()
        for book in books:
            if book.since_ns is not None and holdings.t_ns - book.since_ns > MAX_GAP_NS:
                book.unknown_ns += holdings.t_ns - book.since_ns
                book.forget()
                book.since_ns = holdings.t_ns
        waiting = [book.before for book in books if book.before is not None and book.domain.kind != "node"]
        if rest.start is not None:
            waiting.append(rest.start.t_ns)
        oldest = min(waiting, default=holdings.t_ns)
        oldest = min(oldest, holdings.usage_ns if holdings.usage_ns is not None else oldest)
        for run in lives.settled(holdings, oldest):
            self.closed.append(holdings.runs.pop(run.key))

    def _drop_snapshots(self) -> None:
        """Keep those that something still refers to."""
        wanted: set[int | None] = {point.t_ns for point in (self.state.rest.start, self.state.rest.last) if point}
        for book in self.state.domains.values():
            wanted |= {book.before, book.suspect, book.still, book.late[1] if book.late else None}
        self.state.snapshots = {t_ns: one for t_ns, one in self.state.snapshots.items() if t_ns in wanted}

    def _find(self, kind: str, subject: str, text: str) -> None:
        self.findings.append(Finding(self.state.wall_s, kind, subject, text))


def _busy(snapshot: Snapshot) -> int:
    """CPU time that was used by anybody, cumulative."""
    return snapshot.system.get("cpu", 0) + sum(run.used.get("cpu", 0) for run in snapshot.runs.values())


def _trust(domain: Domain) -> int:
    """The less, the more trusted."""
    return TRUST.index(domain.source) if domain.source in TRUST else len(TRUST)


def _told(step: Step, base: Baseline | None, reading: Counter) -> str:
    before = base.uj if base else 0
    said = {
        "reset": "the counter started anew: the energy since the last reading is not known",
        "healed": "the counter fell and came back: a blip, nothing lost",
        "jump": "the counter rose by more than the hardware can draw: taken as a reset",
        "ambiguous": "the counter may have wrapped more than once: the energy is not known",
    }
    return f"{said[step.verdict]} ({before} to {reading.uj} uJ)"
