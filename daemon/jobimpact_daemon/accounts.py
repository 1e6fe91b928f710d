"""Who has what: each holder's energy in each domain, what is odd about a run, and what a person should know of."""

from __future__ import annotations

from collections.abc import Mapping

from jobimpact.core.records import IDLE, SYSTEM, Domain
from jobimpact.core.units import NS
from jobimpact_daemon.attribution import Weights
from jobimpact_daemon.books import Account, DomainBook, Finding, State
from jobimpact_daemon.holdings import Snapshot

__all__ = ["Accounts"]

SAME_NS = 600 * NS
"""The same thing is told once in this time, with how often it happened."""
MANY = 1000


class Accounts:
    """One node's accounts.

    Args:
        state: the node's holdings and domains.
        idle_w: configured idle power by domain, in watts; comes before what a source knows or what is learned.
    """

    def __init__(self, state: State, idle_w: Mapping[str, float]) -> None:
        self.of: dict[tuple[str, str], Account] = {}
        """By domain and holder: those to which something can still be added."""
        self.touched: set[tuple[str, str]] = set()
        self.findings: list[Finding] = []
        self._state = state
        self._idle_w = idle_w
        self._weights: dict[tuple[int, int, str], tuple[Weights, Weights]] = {}

    def begin(self) -> None:
        """A new instant: nothing that was worked out for the last one holds."""
        self._weights.clear()

    def weights(self, before: Snapshot, now: Snapshot, resource: str) -> tuple[Weights, Weights]:
        """What was held and what was used between two snapshots, worked out once for all domains of a resource."""
        cache = before.t_ns, now.t_ns, resource
        found = self._weights.get(cache)
        if found is None:
            found = self._weights[cache] = now.since(before, resource)
        return found

    def give(
        self, domain: Domain, shares: Mapping[str, int], before: Snapshot, now: Snapshot, *, to_all: bool = False
    ) -> None:
        """Book an energy's shares, and for how long the runs know of it.

        Args:
            domain: whose energy it is.
            shares: microjoules by holder.
            before: the holdings when it began.
            now: when it ended.
            to_all: every run has a part of every domain.
        """
        runs = self._state.holdings.runs
        for holder, share in shares.items():
            # The books of a run that is settled are closed: a row of theirs must not be written anew.
            mine = holder if holder in runs or holder == IDLE else SYSTEM
            self._account(domain.name, mine).uj += share
        for key, time_ns in now.times_since(before):
            run = runs.get(key)
            if run is not None and (to_all or self._state.holdings.holds(run, domain)):
                self._account(domain.name, key).known_ns += time_ns

    def _account(self, domain: str, holder: str) -> Account:
        key = (domain, holder)
        self.touched.add(key)
        found = self.of.get(key)
        if found is None:
            found = self.of[key] = Account()
        return found

    def flag(self, domain: Domain, before: int | None, now: Snapshot, word: str) -> None:
        """Tell every run that held a part of a domain in an interval what is odd about it."""
        then = self._state.snapshots.get(before) if before is not None else None
        for key, _ in now.times_since(then) if then is not None else ():
            run = self._state.holdings.runs.get(key)
            if run is not None and self._state.holdings.holds(run, domain):
                run.flag(f"{domain.name} {word}")

    def find(self, kind: str, subject: str, text: str) -> None:
        """Tell a person; the same again only after a while."""
        now_ns, told, key = self._state.holdings.t_ns, self._state.told, f"{kind} {subject}"
        told_ns, since = told.get(key, (None, 0))
        if told_ns is not None and 0 <= now_ns - told_ns < SAME_NS:
            told[key] = told_ns, since + 1
            return
        if len(told) > MANY:
            self._state.told = told = {one: at for one, at in told.items() if 0 <= now_ns - at[0] < SAME_NS}
        told[key] = now_ns, 0
        again = f" ({since} times more since it was last told)" if since else ""
        self.findings.append(Finding(self._state.wall_s, kind, subject, text + again))

    def idle_w(self, book: DomainBook) -> float | None:
        """A domain's idle power in watts: configured, told by its source, or learned; None: not known."""
        found = self._idle_w.get(book.domain.name, book.domain.idle_w)
        return book.learned.w if found is None else found

    def idle_uj(self, book: DomainBook, dt_ns: int) -> int | None:
        """The idle part of a domain's energy over a time."""
        watts = self.idle_w(book)
        return None if watts is None else round(watts * 1_000_000) * dt_ns // NS
