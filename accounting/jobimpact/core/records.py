"""What travels between rooms: readings, marks, job records, energies. Frozen, and without behaviour.

Absent is not zero: a reading is a value, *absent* (with the reason) or *failed* (with the error), and every
sum over readings carries the time for which it is known.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "IDLE",
    "SYSTEM",
    "Absent",
    "Counter",
    "Domain",
    "DomainEnergy",
    "DomainKind",
    "Failed",
    "JobEnergy",
    "JobRecord",
    "JobUsage",
    "Mark",
    "NodeFacts",
    "Reading",
    "RunEnergy",
    "Usage",
    "run_key",
]

IDLE = "idle"
"""The holder of what no job has."""
SYSTEM = "system"
"""The holder of what is used outside every job."""

DomainKind = Literal["cpu", "dram", "gpu"]
Method = Literal["counter", "modelled"]


class Domain(msgspec.Struct, frozen=True):
    """A power domain: what one counter meters (`package-0`, `dram-1`, `gpu:GPU-<uuid>`)."""

    name: str
    kind: DomainKind
    source: str
    method: Method = "counter"
    idle_w: float | None = None
    """Power when nothing runs, where the source knows it; the configuration's word comes first."""


class Counter(msgspec.Struct, frozen=True):
    """A cumulative energy counter, in microjoules."""

    uj: int
    max_uj: int | None = None
    """Where it wraps; None: it does not."""
    epoch: str | None = None
    """Changes when the counter starts anew (a driver's reload)."""
    max_w: float | None = None
    """More than this the domain cannot draw: tells a wrap from a reset."""


class Absent(msgspec.Struct, frozen=True):
    """Not there, or not ours to read; nothing to retry."""

    reason: str


class Failed(msgspec.Struct, frozen=True):
    """It was there and could not be read this time."""

    error: str


Reading = Counter | Absent | Failed


class JobUsage(msgspec.Struct, frozen=True):
    """What a run has used: cumulative CPU time, and memory now."""

    cpu_ns: int
    mem_bytes: int | None = None
    mem_limit_bytes: int | None = None
    uid: int | None = None
    gone: bool = False
    """Its last word: the processes are no more."""
    shared: bool = False
    """Several died at once, and their last CPU time is split by their cores."""


class Usage(msgspec.Struct, frozen=True):
    """What the node and its runs have used: CPU time is cumulative since boot, memory is now."""

    jobs: dict[str, JobUsage]
    busy_cpu_ns: int | None = None
    used_mem_bytes: int | None = None


class NodeFacts(msgspec.Struct, frozen=True):
    """A node's size: what its jobs hold shares of."""

    cpus: int
    mem_bytes: int
    gpus: tuple[str, ...] = ()


class Mark(msgspec.Struct, frozen=True):
    """What a hook wrote: this job starts or ends here, at this uptime, and holds this."""

    event: Literal["start", "end"]
    job: str
    t_ns: int
    boot: str | None = None
    restart: int = 0
    """The incarnation: how often the job had been requeued."""
    uid: int | None = None
    cpus: int | None = None
    mem_bytes: int | None = None
    gpus: tuple[str, ...] = ()
    """UUIDs, or device minor numbers as a hook knows them."""
    sid: int | None = None
    """A process session that stands for the job where there are no cgroups."""


def run_key(job: str, restart: int) -> str:
    """The key of one incarnation of a job: its id, and `#n` after its n-th requeue."""
    return job if restart == 0 else f"{job}#{restart}"


class DomainEnergy(msgspec.Struct, frozen=True):
    """One run's energy in one power domain of one node."""

    domain: str
    kind: DomainKind
    method: Method
    uj: int
    known_ns: int
    """For how much of the run the domain was metered."""
    reason: str | None = None
    """Why it is not read now, where it is not."""


class RunEnergy(msgspec.Struct, frozen=True):
    """What one node's books say of one run."""

    node: str
    job: str
    restart: int
    start_s: float
    """Wall clock, UTC, of the marks."""
    end_s: float | None
    elapsed_ns: int
    state: Literal["open", "ended", "lost", "rebooted"]
    cpus: int | None
    mem_bytes: int | None
    gpus: tuple[str, ...]
    flags: tuple[str, ...]
    domains: tuple[DomainEnergy, ...]
    """Every domain that the run has a part of; one with known_ns 0 is unknown, not zero."""
    uid: int | None = None


class JobEnergy(msgspec.Struct, frozen=True):
    """All nodes' runs of one job, and the nodes of which nothing is known (with the reason)."""

    runs: tuple[RunEnergy, ...]
    missing: dict[str, str]


class JobRecord(msgspec.Struct, frozen=True):
    """One incarnation of a job as its scheduler tells it. Times are epoch seconds, UTC."""

    cluster: str
    raw_id: str
    """What hooks see and marks carry (Slurm: JobIDRaw)."""
    job_id: str
    """What users see (Slurm: 6_3, 10+1)."""
    key: str
    """Unique for this incarnation in this cluster, and the same whenever it is read again."""
    user: str
    account: str | None
    partition: str | None
    name: str
    state: str
    exit_code: str | None
    submit_s: int | None
    start_s: float | None
    end_s: float | None
    elapsed_s: float | None
    """Without suspended time."""
    nodes: tuple[str, ...]
    cpus: int | None
    """Allocated, over all nodes; so are memory and GPUs."""
    mem_bytes: int | None
    gpus: int | None
    raw: dict[str, str]
    """The scheduler's own words: they may be gone from there later."""
