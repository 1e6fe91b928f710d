"""The node's own meter against its parts: which meter counts, when a window is settled, who the rest belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobimpact.core.records import IDLE, SYSTEM, Domain, DomainKind
from jobimpact.core.units import NS
from jobimpact_daemon.accounts import Accounts
from jobimpact_daemon.attribution import POLICIES
from jobimpact_daemon.books import REST, DomainBook, State
from jobimpact_daemon.holdings import Snapshot
from jobimpact_daemon.idle import is_quiet
from jobimpact_daemon.rest import TRUST, Modelled, Settled, window_ns

if TYPE_CHECKING:
    from collections.abc import Collection

    from jobimpact.core.calibration import NodeCalibration

__all__ = ["NodeRest"]

MAX_WAIT_NS = 3600 * NS
"""For how long the rest of the node waits for a part that cannot be read, or a meter that says nothing."""
BEHIND_NS = 2 * NS
"""A part that was read within this time of the meter is up to date."""
SHORT_WINDOWS = 10
CALIBRATED = "node:calibration"


class NodeRest:
    """Keeps the rest of one node.

    Args:
        state: the node's books.
        accounts: who has what.
        policy: by whose rules energy is split.
        calibration: what the node's plug draws for its parts, where it has no meter of its own.
    """

    def __init__(
        self, state: State, accounts: Accounts, policy: str, calibration: NodeCalibration | None = None
    ) -> None:
        self._state = state
        self._rest = state.rest
        self._accounts = accounts
        self._policy = policy
        self._calibration = calibration

    def is_meter(self, book: DomainBook) -> bool:
        """Whether a domain is the meter that counts now."""
        return self._rest.meter == book.domain.name and self._rest.start is not None

    def meter_read(self, book: DomainBook, now: Snapshot) -> None:
        """A meter of the whole node has a good reading: it is the node's, if there is no better one."""
        rest, domain = self._rest, book.domain
        if self.is_meter(book):
            rest.read(now.t_ns, book.measured_uj)
            return
        current = self._state.domains.get(rest.meter or "")
        works = current is not None and rest.start is not None and not current.stuck
        if works and current is not None and _trust(domain) >= _trust(current.domain):
            return
        self.stop(now.t_ns)
        whole = Domain(REST, "rest", domain.source, domain.method)
        own = self._state.domains.setdefault(REST, DomainBook(whole))
        own.domain, own.reason = whole, None
        own.lose(now.t_ns)
        rest.begin(domain.name, window_ns(domain.source, domain.latency_s), now.t_ns, book.measured_uj)
        rest.unknown = self._parts_unknown()
        for part in self._seen_parts():
            if not part.known_ns and part.before is None and part.reason is not None:
                text = f"includes {part.domain.name}, which has no meter that can be read"
                self._accounts.find("rest", part.domain.name, text)

    def part_given(self, kind: DomainKind, shares: dict[str, int], before: Snapshot, now: Snapshot) -> None:
        """A part has given its holders this."""
        meter = self._state.domains.get(self._rest.meter or "")
        if meter is None or kind not in meter.domain.excludes:
            self._rest.add(shares, before.t_ns, now.t_ns)

    def part_missed(self) -> None:
        """A part cannot be read from now on: up to here all of them are known."""
        if not self._behind():
            self.settle()

    def keep(self, now: Snapshot) -> None:
        """Close the window if it is time, and all parts are known to its end."""
        rest = self._rest
        if rest.start is not None and now.t_ns - (rest.last or rest.start).t_ns > MAX_WAIT_NS:
            self.stop(now.t_ns)
        if self._calibration is not None:
            self._model(now, self._calibration)
        behind = self._behind()
        if rest.is_due and not behind:
            self.settle()
        elif behind and rest.age_ns > max(MAX_WAIT_NS, 2 * rest.window_ns):
            self._give_up(now, behind)

    def finish(self) -> None:
        """Nothing more will come."""
        last = self._rest.last
        if last is not None and (behind := self._behind()):
            self._give_up(self._state.snapshots[last.t_ns], behind)
        self.settle()
        if self._rest.deficit_uj > 0 and self._rest.short_windows:
            self._tell_deficit()

    def stop(self, t_ns: int) -> None:
        """The node's meter says nothing from now on: from its last reading the rest is not known."""
        if self._rest.start is None:
            return
        self.settle()
        book = self._state.domains[REST]
        book.lose(t_ns)
        book.reason = f"failed: {self._rest.meter} is silent"
        self._rest.stop()

    def retire(self, sources: Collection[str]) -> None:
        """No meter that could come back is switched on: there is no rest, and it is not waited for."""
        own = self._state.domains.get(REST)
        meters = [book.domain for book in self._state.domains.values() if book.domain.kind == "node"]
        modelled = self._calibration is not None
        if own is None or any(one.source in sources or (modelled and one.name == CALIBRATED) for one in meters):
            return
        own.lose(self._state.holdings.t_ns)
        own.since_ns, own.reason = None, "absent: no meter of the whole node"
        self._rest.stop()

    def settle(self) -> None:
        """Close the window at the meter's last reading."""
        settled = self._rest.settle()
        if settled is None:
            return
        self._give(settled)
        if self._rest.short_windows == SHORT_WINDOWS:
            self._tell_deficit()

    def _give(self, settled: Settled) -> None:
        book, accounts = self._state.domains[REST], self._accounts
        before, now = self._state.snapshots[settled.start_ns], self._state.snapshots[settled.end_ns]
        dt_ns = now.t_ns - before.t_ns
        grown = accounts.growth(before, now)
        held, _ = grown.of("node")
        runs = self._state.holdings.runs
        # A part that came back after hours may have given something to a run whose books are closed by now.
        used = {one: uj for one, uj in settled.parts.items() if one in runs or one in (IDLE, SYSTEM)}
        if not any(used.values()) or self._policy == "cpu_time":
            used = grown.of("cpu")[1]
        if is_quiet(grown, "node", self._state.holdings.node.cpus):
            book.learned.add(settled.uj, dt_ns)
        shares = POLICIES[self._policy]("rest", settled.uj, accounts.idle_uj(book, dt_ns), held, used)
        accounts.give(book.domain, shares, grown)
        unknown = self._parts_unknown()
        for name, unknown_ns in unknown.items():
            if unknown_ns > self._rest.unknown.get(name, 0):
                # What the meter saw of a part while its own energy was not known is in here.
                accounts.flag(book.domain, before.t_ns, now, f"includes {name}")
        self._rest.unknown = unknown
        book.measured_uj += settled.uj
        book.known_ns += dt_ns
        book.since_ns = now.t_ns

    def _seen_parts(self) -> list[DomainBook]:
        """The parts that the node's meter sees."""
        meter = self._state.domains.get(self._rest.meter or "")
        excludes = meter.domain.excludes if meter is not None else ()
        return [book for book in self._state.parts() if book.domain.kind not in excludes]

    def _parts_unknown(self) -> dict[str, int]:
        """For how long the energy of each part that the node's meter sees was not known so far, in ns."""
        return {book.domain.name: book.unknown_ns for book in self._seen_parts()}

    def _behind(self) -> list[str]:
        """The parts that are not known up to the meter's last reading, though they once were."""
        last = self._rest.last
        if last is None:
            return []
        late_ns = last.t_ns - BEHIND_NS
        parts = [book for book in self._seen_parts() if book.before is not None]
        return [book.domain.name for book in parts if book.stuck or (book.before or 0) < late_ns]

    def _give_up(self, now: Snapshot, behind: list[str]) -> None:
        """A part that is lost is in what the meter sees: as rest it would be charged to everybody."""
        rest, own = self._rest, self._state.domains[REST]
        self._accounts.flag(own.domain, rest.start.t_ns if rest.start else None, now, "unknown")
        text = f"{', '.join(behind)} cannot be read: what {rest.meter} sees of it is not told from the rest"
        self._accounts.find("rest unknown", REST, text)
        own.lose(now.t_ns)
        own.reason = f"failed: {text}"
        rest.stop()

    def _model(self, now: Snapshot, fit: NodeCalibration) -> None:
        """Where no meter works, the parts and what was fitted while one did stand for it."""
        rest, state = self._rest, self._state
        if rest.start is not None and rest.meter != CALIBRATED:
            return
        known = [book for book in state.parts() if book.before is not None]
        parts = [book for book in known if book.domain.kind not in fit.excludes]
        if not parts or any(book.stuck or (book.before or 0) < now.t_ns - BEHIND_NS for book in parts):
            return
        domain = Domain(CALIBRATED, "node", "calibration", "modelled", excludes=fit.excludes)
        book = state.domains.setdefault(CALIBRATED, DomainBook(domain))
        book.domain = domain
        parts_uj, unknown_ns = sum(one.measured_uj for one in parts), sum(one.unknown_ns for one in parts)
        last, seen = rest.modelled, Modelled(now.t_ns, parts_uj, unknown_ns, len(parts))
        if last is None or book.before is None or (seen.unknown_ns, seen.parts) != (last.unknown_ns, last.parts):
            book.lose(now.t_ns)
            if self.is_meter(book):
                self.stop(now.t_ns)
        else:
            uj = fit.slope * (seen.parts_uj - last.parts_uj) + fit.offset_w * (now.t_ns - last.t_ns) / 1000
            book.measured_uj += round(uj)
            book.known_ns += now.t_ns - book.before
        rest.modelled = seen
        book.before = book.since_ns = now.t_ns
        self.meter_read(book, now)

    def _tell_deficit(self) -> None:
        rest = self._rest
        text = f"the parts measure {rest.deficit_uj / 1e6:.0f} J more than {rest.meter}: does it see all of them?"
        self._accounts.find("negative rest", REST, text)


def _trust(domain: Domain) -> int:
    """The less, the more trusted."""
    return TRUST.index(domain.source) if domain.source in TRUST else len(TRUST)
