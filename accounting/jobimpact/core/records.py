"""What travels between rooms: readings, marks, job records, energies. Frozen, and without behaviour.

Absent is not zero: a reading is a value, *absent* (with the reason) or *failed* (with the error), and every
sum over readings carries the time for which it is known.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = [
    "IDLE",
    "PAST",
    "SYSTEM",
    "Absent",
    "Charge",
    "Counter",
    "Domain",
    "DomainEnergy",
    "DomainKind",
    "Failed",
    "Gauge",
    "HourIntensity",
    "HourShares",
    "JobEnergy",
    "JobRecord",
    "JobUsage",
    "Mark",
    "NodeFacts",
    "Profile",
    "Progress",
    "Reading",
    "RunEnergy",
    "RunUse",
    "Shares",
    "Slice",
    "SourceHealth",
    "Stay",
    "Usage",
    "run_key",
]

IDLE = "idle"
"""The holder of what no job has."""
SYSTEM = "system"
"""The holder of what is used outside every job."""
PAST = "past"
"""The holder of the runs of long ago, which have no rows of their own any more: one sum per domain."""

DomainKind = Literal["cpu", "dram", "gpu", "rest", "node"]
"""`node` is the whole machine's meter, of which the others are parts; `rest` is what it has beyond them."""
RunState = Literal["open", "ended", "lost", "rebooted", "estimated"]
"""`estimated` is none that a node's books have: there is no such run, and its energy is the accounting's guess."""
Method = Literal["counter", "gauge", "modelled"]
"""How an energy came about: a counter's difference, power integrated over time, or a model."""


class Domain(msgspec.Struct, frozen=True):
    """A power domain: what one meter meters (`package-0`, `dram-1`, `gpu:GPU-<uuid>`, `node`)."""

    name: str
    kind: DomainKind
    source: str
    method: Method = "counter"
    idle_w: float | None = None
    """Power when nothing runs, where the source knows it; the configuration's word comes first."""
    latency_s: float | None = None
    """By how much a node's meter may lag or average, where the source knows it."""
    excludes: tuple[DomainKind, ...] = ()
    """Parts that a node's meter does not see (GPUs in a chassis of their own)."""
    period_s: float | None = None
    """How often a gauge is asked, where the source knows it."""


class Counter(msgspec.Struct, frozen=True):
    """A cumulative energy counter, in microjoules."""

    uj: int
    max_uj: int | None = None
    """Where it wraps; None: it does not."""
    epoch: str | None = None
    """Changes when the counter starts anew (a driver's reload)."""
    max_w: float | None = None
    """More than this the domain cannot draw: tells a wrap from a reset."""


class Gauge(msgspec.Struct, frozen=True):
    """Power at one instant, in watts: integrated where there is no counter."""

    w: float
    t_ns: int | None = None
    """Boot time of the measurement, if it was not this reading's: a meter may be asked less often, and may lag."""


class Absent(msgspec.Struct, frozen=True):
    """Not there, or not ours to read; nothing to retry."""

    reason: str


class Failed(msgspec.Struct, frozen=True):
    """It was there and could not be read this time."""

    error: str


Reading = Counter | Gauge | Absent | Failed


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
    cpu_by: dict[str, int] | None = None
    """CPU time by package (`package-0`), cumulative, in ns; None where the kernel does not tell."""
    cpus_by: dict[str, int] | None = None
    """The CPUs that it may run on, by package; None where its cpuset is not known."""
    suspended: bool = False
    """Its processes are stopped: it keeps its memory and GPUs, and no CPU."""
    gpu_ns: dict[str, int] = {}
    """Busy time on each GPU or MIG device that it may share (by UUID), cumulative, in ns."""
    cpus: int | None = None
    """How many CPUs it may run on, where its scheduler always keeps a job to what it holds (OAR)."""
    ended: bool = False
    """Its cgroup is gone, and its scheduler (OAR) removes one at a job's end and never before."""
    empty_ns: int | None = None
    """For how long no process has been in its cgroup, which OAR may have left behind; None: there is one, or nobody
    has looked."""


class Usage(msgspec.Struct, frozen=True):
    """What the node and its runs have used: CPU time is cumulative since boot, memory is now."""

    jobs: dict[str, JobUsage]
    busy_cpu_ns: int | None = None
    used_mem_bytes: int | None = None
    busy_by: dict[str, int] | None = None
    """The node's CPU time by package."""
    gpu_ns: dict[str, int] = {}
    """Busy time on shared GPUs and MIG devices by processes of no job, cumulative, in ns."""
    utilisation: dict[str, float] = {}
    """How busy each whole GPU is, by UUID, from 0 to 1, where it was asked just now and tells."""


class Slice(msgspec.Struct, frozen=True):
    """A MIG device: `parts` of the `of` compute slices of a GPU."""

    gpu: str
    parts: int
    of: int = 7


class NodeFacts(msgspec.Struct, frozen=True):
    """A node's size: what its jobs hold shares of."""

    cpus: int
    """As the scheduler counts them."""
    mem_bytes: int
    gpus: tuple[str, ...] = ()
    packages: dict[str, int] = {}
    """Logical CPUs of each package (`package-0`), as the kernel counts them; empty where it does not tell."""
    slices: dict[str, Slice] = {}
    """MIG devices, by UUID."""


class SourceHealth(msgspec.Struct, frozen=True):
    """How one source has done since the daemon started."""

    source: str
    reads: int
    failures: int
    took_ns: int
    """How long its last reading took."""
    busy_ns: int
    """How long all of them took."""
    good_ns: int | None
    """Boot time of the last reading that had a value; None: none had."""
    problem: str | None
    """What is wrong now, in plain words."""


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
    """UUIDs of GPUs or MIG devices, or device minor numbers as a hook knows them."""
    gpu_percent: int | None = None
    """Its part of each of its GPUs where it shares them by MPS."""
    shards: int | None = None
    """Its shards on this node where its GPUs are shared by shards."""
    sluid: str | None = None
    """Slurm's own id of the incarnation, which names its cgroup from 26.05 on."""
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
    uj: Annotated[int, msgspec.Meta(ge=0)]
    known_ns: Annotated[int, msgspec.Meta(ge=0)]
    """For how much of the run the domain was metered."""
    reason: str | None = None
    """Why it is not read now, where it is not."""


class RunUse(msgspec.Struct, frozen=True):
    """What a run has used of what it held on one node; None: not known, which is not zero."""

    cpu_ns: int | None = None
    """CPU time."""
    mem_peak_bytes: int | None = None
    """The most memory that any reading saw."""
    gpu_busy_ns: int | None = None
    """GPU utilisation (0 to 1) x time, over all its GPUs that tell theirs."""
    gpu_known_ns: int | None = None
    """For how long their utilisation was known: GPUs x time."""
    gpus_seen: int | None = None
    """How many of its GPUs told their utilisation often enough to judge."""
    gpus_unused: int | None = None
    """How many of these were never seen busy."""


class Progress(msgspec.Struct, frozen=True):
    """What a job said of itself in mid run."""

    wall_s: float
    step: int | None = None
    metrics: dict[str, float] = {}
    """By name, like `acc`."""
    uj: int | None = None
    """What it had used by then, all nodes and domains; None: not known."""


class Profile(msgspec.Struct, frozen=True):
    """A job's mean power over time, all its nodes together, by kind of part."""

    start_s: float
    """Wall clock, UTC, of the first edge."""
    edges_s: tuple[float, ...]
    """Seconds since then, rising: one more than there are spans between them."""
    watts: dict[DomainKind, tuple[float | None, ...]]
    """Of each span; None: not known."""


class RunEnergy(msgspec.Struct, frozen=True):
    """What one node's books say of one run."""

    node: str
    job: str
    restart: int
    start_s: float
    """Wall clock, UTC, of the marks."""
    end_s: float | None
    elapsed_ns: int
    state: RunState
    cpus: int | None
    mem_bytes: int | None
    gpus: tuple[str, ...]
    flags: tuple[str, ...]
    domains: tuple[DomainEnergy, ...]
    """Every domain that the run has a part of; one with known_ns 0 is unknown, not zero."""
    uid: int | None = None
    gpu_share: float | None = None
    """Its mean part of the node's GPUs, 0 to 1, slices and shards by size; None: the books do not tell."""
    hours: tuple[tuple[int, int], ...] = ()
    """Its energy over time: an hour's start (epoch seconds), and microjoules over all domains. Empty: not known."""
    use: RunUse | None = None
    labels: dict[str, str] = {}
    """What it said of itself, like `model`; so is `progress`."""
    progress: tuple[Progress, ...] = ()


class HourShares(msgspec.Struct, frozen=True):
    """What no job had of one node in one hour."""

    node: str
    start_s: int
    """Epoch seconds, a full hour."""
    idle_uj: dict[DomainKind, int]
    """By kind of part; so is `system_uj`. A kind that is not there was not metered."""
    system_uj: dict[DomainKind, int]


class HourIntensity(msgspec.Struct, frozen=True):
    """What a kWh of one hour emitted."""

    kgco2e_per_kwh: float
    basis: Literal["lifecycle", "direct"]
    """`direct` leaves out what came before the power plant: only its shape is used."""
    mean: float | None = None
    """Of a direct one: the mean that its shape is taken against, kgCO2e per kWh."""
    estimated: bool = False
    """The provider calls it an estimate."""


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
    exclusive: bool = False
    """It was given whole nodes, whatever it asked for."""
    array_id: str | None = None
    """The array that it is a task of."""
    off_books: str | None = None
    """Why no node's books can have it (OAR: the user's own system ran there); None: they can."""
    time_limit_s: float | None = None
    """How long it might have run; None: no limit, or not known."""
    labels: dict[str, str] = {}
    """What its owner says that it is: `model`, `activity`, `steps`, ... (core/labels.py)."""


class Shares(msgspec.Struct, frozen=True):
    """A job's part of each part of a node, from 0 to 1. `rest` is the dominant share: the largest."""

    cpu: float
    ram: float
    gpu: float
    rest: float

    def each(self) -> tuple[float, float, float, float]:
        """In order."""
        return (self.cpu, self.ram, self.gpu, self.rest)


class Stay(msgspec.Struct, frozen=True):
    """One incarnation of a job on one node: when, in epoch seconds, and which part of each component it reserved."""

    key: str
    start_s: float
    end_s: float
    shares: Shares


Triple = tuple[float, float, float]


class Charge(msgspec.Struct, frozen=True):
    """What is booked of one job, node and month: central values, GWP (kgCO2e), ADP (kgSbe), PE (MJ)."""

    key: str
    node: str
    month: str
    """`2026-11`, UTC."""
    node_type: str
    hours: dict[str, float]
    """Hours of each whole component of the node (cpu, ram, gpu, rest) that it held."""
    in_life: dict[str, float]
    """Of these, hours while the node was in its life."""
    own: dict[str, Triple]
    """Its own part of their manufacture, by the hours in its life."""
    idle: dict[str, Triple]
    """Its share of the manufacture of what was idle."""
    idle_use: dict[str, Triple]
    """Its share of the electricity of what was idle; a component of which that is not known is not there."""
    shared: dict[str, tuple[float, float | None, float | None, float | None]] = {}
    """Of what serves several nodes, by name: node-hours in its life, and its part of making it (None: not known)."""
