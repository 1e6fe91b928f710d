"""What the books are made of: records of one node, its domains and its accounts."""

from __future__ import annotations

import msgspec

from jobimpact.core.records import Counter, Domain, Reading, Usage
from jobimpact_daemon.counters import Baseline
from jobimpact_daemon.gauges import Sample, Steady
from jobimpact_daemon.holdings import CgroupMemory, Holdings, Snapshot
from jobimpact_daemon.idle import LearnedIdle
from jobimpact_daemon.rest import Rest

__all__ = ["REST", "Account", "DomainBook", "Finding", "Observation", "State"]

REST = "rest"
"""The domain of what the node's meter sees beyond the parts."""


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
    """A counter's last good reading; `sample` a gauge's."""
    sample: Sample | None = None
    steady: Steady = msgspec.field(default_factory=Steady)
    before: int | None = None
    """The holdings at the last good reading; `suspect` those at the value under suspicion."""
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
        # A counter that was read and has not moved is none: its next move tells.
        since_ns = self.still if self.still is not None and not self.stuck else self.since_ns
        return self.unknown_ns + (max(0, t_ns - since_ns) if since_ns is not None else 0)

    def lose(self, t_ns: int) -> None:
        """The time since the last good reading is not known, what is pending included; what comes next begins anew."""
        if self.since_ns is not None:
            self.unknown_ns += max(0, t_ns - self.since_ns)
        self.since_ns = t_ns
        self.forget()

    def forget(self) -> None:
        """Whatever comes next begins anew."""
        self.base = self.sample = self.before = self.suspect = self.still = self.late = None

    def pending(self) -> set[int]:
        """The snapshots that its next energy may be split by."""
        found = {self.before, self.suspect, self.still, self.late[1] if self.late else None}
        return {t_ns for t_ns in found if t_ns is not None}


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
    told: dict[str, tuple[int, int]] = {}
    """When each kind of finding was last told of a subject (boot time), and how often it has happened since."""
    minors: dict[str, str] = {}
    """GPUs' device minor numbers → UUIDs, as last known."""

    def parts(self) -> list[DomainBook]:
        """The domains of the node's parts."""
        return [book for book in self.domains.values() if book.domain.kind in ("cpu", "dram", "gpu")]
