"""Who has what: each holder's energy in each domain, what is odd about a run, and what a person should know of."""

from __future__ import annotations

from collections.abc import Mapping

from jobimpact.core.records import IDLE, SYSTEM, Domain
from jobimpact.core.units import NS
from jobimpact_daemon.books import Account, DomainBook, Finding, State
from jobimpact_daemon.holdings import Growth, Snapshot

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
        self._growths: dict[tuple[int, int], Growth] = {}

    def begin(self) -> None:
        """A new instant: nothing that was worked out for the last one holds."""
        self._growths.clear()

    def growth(self, before: Snapshot, now: Snapshot) -> Growth:
        """What happened between two snapshots, worked out once: most domains were read together the last time, too."""
        span = before.t_ns, now.t_ns
        found = self._growths.get(span)
        if found is None:
            found = self._growths[span] = now.growth(before)
        return found

    def give(self, domain: Domain, shares: Mapping[str, int], grown: Growth, *, to_all: bool = False) -> None:
        """Book an energy's shares, and for how long the runs know of it.

        Args:
            domain: whose energy it is.
            shares: microjoules by holder.
            grown: what happened in its interval.
            to_all: every run has a part of every domain.
        """
        runs = self._state.holdings.runs
        times = grown.times if to_all else self._times(domain, grown)
        for holder, share in shares.items():
            # The books of a run that is settled are closed: a row of theirs must not be written anew.
            account = self._account(domain.name, holder if holder in runs or holder == IDLE else SYSTEM)
            account.uj += share
        for key, time_ns in times.items():
            if key in runs:
                self._account(domain.name, key).known_ns += time_ns

    def _times(self, domain: Domain, grown: Growth) -> dict[str, int]:
        """For how long each run was there that held a part of a domain."""
        if domain.kind != "gpu":
            return grown.times
        held = grown.held.get(self._state.holdings.resource(domain), {})
        return {key: grown.times[key] for key in held if key in grown.times}

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
        if then is None:
            return
        for key in self._times(domain, self.growth(then, now)):
            run = self._state.holdings.runs.get(key)
            if run is not None:
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
