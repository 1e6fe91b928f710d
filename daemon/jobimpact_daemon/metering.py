"""From each domain's readings to booked energies: every microjoule to a holder, every second known or unknown."""

from __future__ import annotations

from jobimpact.core.records import Absent, Counter, Failed, Gauge, Reading
from jobimpact.core.units import NS
from jobimpact_daemon.accounts import Accounts
from jobimpact_daemon.attribution import POLICIES
from jobimpact_daemon.books import DomainBook, State
from jobimpact_daemon.counters import CEILING_W, Baseline, Step, compare
from jobimpact_daemon.gauges import Sample, trapezoid_uj
from jobimpact_daemon.holdings import Snapshot
from jobimpact_daemon.idle import is_quiet
from jobimpact_daemon.node_rest import NodeRest

__all__ = ["STUCK_NS", "Metering"]

STUCK_NS = 60 * NS
"""Everything that is switched on draws something: a counter that stands still for this long is stuck."""
USUAL_GAPS = 3
"""A gauge may miss two of its periods."""


class Metering:
    """Reads one node's domains.

    Args:
        state: the node's books.
        accounts: who has what.
        rest: the node's own meter against its parts.
        policy: by whose rules energy is split.
        max_gap_ns: two readings of a gauge that are further apart say nothing of the time between.
    """

    def __init__(self, state: State, accounts: Accounts, rest: NodeRest, policy: str, max_gap_ns: int) -> None:
        self._state = state
        self._accounts = accounts
        self._rest = rest
        self._split = POLICIES[policy]
        self._whole_node = policy == "exclusive"
        self._max_gap_ns = max_gap_ns

    def read(self, book: DomainBook, reading: Reading, now: Snapshot, *, deferred: bool) -> None:
        """Take in one reading.

        Args:
            book: the domain's.
            reading: what was read.
            now: the holdings at that time.
            deferred: the CPU times that split it come later.
        """
        if book.since_ns is None:
            book.since_ns = now.t_ns
        if isinstance(reading, (Absent, Failed)):
            self._miss(book, reading, now)
        elif isinstance(reading, Gauge):
            self._sample(book, reading, now)
        else:
            if book.late is not None and reading.uj < book.late[0].uj:
                self.catch_up(book, self._state.snapshots[book.late[1]])  # it fell since: that is for itself
            if deferred and book.base is not None and book.domain.kind in ("cpu", "dram"):
                book.late = reading, now.t_ns
            else:
                self._count(book, reading, now)

    def catch_up(self, book: DomainBook, now: Snapshot) -> None:
        """Count the reading that waits for CPU times: they are here, or will not come."""
        if book.late is not None:
            reading, t_ns = book.late
            self._count(book, reading, now)
            if book.base is not None and book.base.t_ns == now.t_ns:
                # What comes next has risen since it was read, not since it was counted.
                book.base.t_ns = t_ns

    def finish(self, book: DomainBook) -> None:
        """Nothing more will come."""
        snapshots = self._state.snapshots
        if book.late is not None:
            self.catch_up(book, snapshots[book.late[1]])
        if book.still is not None and book.before is not None and not book.stuck:
            # It may have drawn too little to show.
            self._post(book, 0, snapshots[book.before], snapshots[book.still])
            book.since_ns = book.before = book.still
            book.still = None

    def _miss(self, book: DomainBook, reading: Absent | Failed, now: Snapshot) -> None:
        kind, reason = ("absent", reading.reason) if isinstance(reading, Absent) else ("failed", reading.error)
        if book.reason is None:
            self._accounts.find(kind, book.domain.name, reason)
            if book.domain.kind != "node":
                self._rest.part_missed()
        book.reason, book.gap = f"{kind}: {reason}", True
        if book.sample is not None and now.t_ns - book.sample.t_ns > self._longest_ns(book):
            self._lose(book, now, "gap")

    def _longest_ns(self, book: DomainBook) -> int:
        """Over how long a gap a gauge is integrated: one that is asked once in a minute has no gaps of a minute."""
        return max(self._max_gap_ns, round(USUAL_GAPS * (book.domain.period_s or 0) * NS))

    def _lose(self, book: DomainBook, now: Snapshot, word: str) -> None:
        """The energy since the last good reading is not known, and begins anew."""
        self._accounts.flag(book.domain, book.before, now, word)
        if self._rest.is_meter(book):
            self._rest.stop(now.t_ns)
        book.lose(now.t_ns)

    def _sample(self, book: DomainBook, reading: Gauge, now: Snapshot) -> None:
        """A gauge: the trapezoid since its last reading, if that is not too long ago."""
        sample = Sample(reading.w, now.t_ns if reading.t_ns is None else min(reading.t_ns, now.t_ns))
        last = book.sample
        if last is not None and sample.t_ns <= last.t_ns:
            return  # late, or told twice
        if last is not None and book.before is not None:
            apart_ns = max(sample.t_ns - last.t_ns, now.t_ns - book.before)
            if apart_ns > self._longest_ns(book):
                self._lose(book, now, "gap")
        follows = book.domain.kind in ("node", "cpu")  # what an idle GPU draws follows nothing that is known here
        if follows and book.steady.is_stuck(sample.w, now.t_ns, self._load(book, now)):
            self._stick(book, now)
        elif book.sample is None or book.before is None:
            book.lose(now.t_ns)
            book.stuck = False
        else:
            book.stuck = False
            self._post(book, trapezoid_uj(book.sample, sample), self._state.snapshots[book.before], now)
        book.base, book.sample, book.before = None, sample, now.t_ns
        book.since_ns, book.reason, book.gap = now.t_ns, None, False
        if book.domain.kind == "node" and not book.stuck:
            self._rest.meter_read(book, now)

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
            self._accounts.find(step.verdict, book.domain.name, _told(step, book, reading))
        known = self._known_since(book, step, now)
        if step.uj is not None and known is not None:
            self._post(book, step.uj, self._state.snapshots[known], now)
        self._rebase(book, reading, now)
        book.stuck = False
        if book.domain.kind == "node":
            self._rest.meter_read(book, now)

    def _known_since(self, book: DomainBook, step: Step, now: Snapshot) -> int | None:
        """Since when the step's energy is known; the time before that is lost."""
        known = book.before
        if step.uj is None or known is None:
            if book.base is None or book.stuck:
                book.lose(now.t_ns)
            else:
                self._lose(book, now, step.verdict)
            return None
        # It moves again, since some time after it last stood still; or it was reset before it was suspected.
        later = book.suspect if step.after_suspect else book.still if book.stuck else None
        if later is None:
            return known
        self._accounts.flag(book.domain, known, self._state.snapshots[later], "stuck" if book.stuck else step.verdict)
        if self._rest.is_meter(book):
            self._rest.stop(now.t_ns)
        book.lose(later)
        return later

    def _rebase(self, book: DomainBook, reading: Counter, now: Snapshot) -> None:
        book.base, book.sample = Baseline(reading.uj, now.t_ns, reading.epoch), None
        book.before = book.since_ns = now.t_ns
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
        if not book.stuck:
            text = "it does not change: its energy is not known until it does"
            self._accounts.find("stuck", book.domain.name, text)
        self._lose(book, now, "stuck")
        book.stuck = True

    def _load(self, book: DomainBook, now: Snapshot) -> int | None:
        """What a gauge should follow, cumulative: what the other parts' counters measure, else the CPU time in use."""
        others = [one for one in self._state.parts() if one is not book and one.domain.method == "counter"]
        if any(one.before != now.t_ns or one.stuck for one in others):
            return None  # the sum stands still, and jumps when the part is back
        return sum(one.measured_uj for one in others) or _busy(now)

    def _post(self, book: DomainBook, uj: int, before: Snapshot, now: Snapshot) -> None:
        """Book a domain's energy: every microjoule to a holder."""
        book.measured_uj += uj
        book.known_ns += now.t_ns - before.t_ns
        if book.domain.kind == "node":
            return  # what it is made of goes to holders: its parts, and the rest
        holdings, domain = self._state.holdings, book.domain
        resource = holdings.resource(domain)
        grown = self._accounts.growth(before, now)
        held, used = grown.of("node" if self._whole_node else resource)
        if is_quiet(grown, resource, holdings.node.cpus):
            book.learned.add(uj, grown.dt_ns)
        idle_uj = self._accounts.idle_uj(book, grown.dt_ns)
        shares = self._split(domain.kind, uj, idle_uj, held, used)
        self._accounts.give(domain, shares, grown, to_all=self._whole_node)
        self._rest.part_given(domain.kind, shares, before, now)
        if book.gap:
            self._accounts.flag(domain, before.t_ns, now, "gap")


def _busy(snapshot: Snapshot) -> int:
    """CPU time that was used by anybody, cumulative."""
    return snapshot.system.get("cpu", 0) + sum(run.used.get("cpu", 0) for run in snapshot.runs.values())


def _told(step: Step, book: DomainBook, reading: Counter) -> str:
    before = book.base.uj if book.base else 0
    if step.verdict == "reset" and book.domain.method == "gauge":
        return "its power was not read for a time: that energy is not known"
    said = {
        "reset": "the counter started anew: the energy since the last reading is not known",
        "healed": "the counter fell and came back: a blip, nothing lost",
        "jump": "the counter rose by more than the hardware can draw: taken as a reset",
        "ambiguous": "the counter may have wrapped more than once: the energy is not known",
    }
    return f"{said[step.verdict]} ({before} to {reading.uj} uJ)"
