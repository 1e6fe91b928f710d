"""Who holds and uses what on the node, as integrals over time. Pure.

Holdings change at marks, use is read at readings, and a domain may be read at neither (a failed read, a dead
daemon): so the integrals are kept once, cumulative, and each domain remembers a snapshot of them from its last
good reading. The difference of two snapshots is the weight of every holder in between.

Integrals go by *resource*: `cpu` (CPU-ns), each package (millionths of a CPU x ns), `dram` (KiB x ns), `gpu:<uuid>`
(millionths of the GPU x ns) and `node` (millionths of the node x ns, by dominant share).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from jobimpact.core.records import IDLE, SYSTEM, Domain, JobUsage, NodeFacts, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.attribution import Weights, split

__all__ = ["MILLION", "CgroupMemory", "GpuUtilisation", "Growth", "Held", "Holdings", "Run", "Snapshot", "Words"]

DEFICIT_NS = -NS
"""How much CPU time the runs may be ahead of the node's own count (a coarser clock) before it is forgotten."""
MILLION = 1_000_000

RunState = Literal["open", "ended", "lost", "rebooted"]
Integrals = dict[str, int]


class CgroupMemory(msgspec.Struct):
    """CPU time as last read of the jobs' cgroups and of the ancestor that outlives them, by path."""

    ancestors: dict[str, int] = {}
    jobs: dict[str, int] = {}


class Held(msgspec.Struct, frozen=True):
    """One run's part of a snapshot: its integrals so far, by resource."""

    time_ns: int
    held: Integrals
    used: Integrals


NOTHING = Held(0, {}, {})


class GpuUtilisation(msgspec.Struct):
    """How busy one GPU was while one run had it to itself, as far as its driver tells."""

    time_ns: int = 0
    """The run's `time_ns` at the GPU's last reading."""
    busy_ns: int = 0
    known_ns: int = 0
    readings: int = 0
    seen_busy: bool = False


class Words(msgspec.Struct):
    """What a run has said of itself, and how much of it."""

    wall_s: float = 0.0
    """The stamp of its last point."""
    gap_s: float = 1.0
    """Points are so far apart, or are one."""
    rows: int = 0
    metrics: list[str] = []
    labels: dict[str, str] = {}


class Snapshot(msgspec.Struct, frozen=True):
    """All integrals at one boot time."""

    t_ns: int
    runs: dict[str, Held]
    idle: Integrals
    system: Integrals

    def growth(self, before: Snapshot) -> Growth:
        """What was held and used of everything since an earlier snapshot, in one go over the runs."""
        found = Growth(self.t_ns - before.t_ns, {}, {}, {})
        for key, now in self.runs.items():
            then = before.runs.get(key, NOTHING)
            if time_ns := now.time_ns - then.time_ns:
                found.times[key] = time_ns
            _grow(found.held, key, now.held, then.held)
            _grow(found.used, key, now.used, then.used)
        _grow(found.held, IDLE, self.idle, before.idle)
        _grow(found.used, SYSTEM, self.system, before.system)
        return found


class Growth(msgspec.Struct, frozen=True):
    """What happened between two snapshots: by resource what each holder held and used, and each run's time, in ns."""

    dt_ns: int
    times: dict[str, int]
    held: dict[str, Weights]
    used: dict[str, Weights]

    def of(self, resource: str) -> tuple[Weights, Weights]:
        """What was held and what was used of a resource, by holder."""
        return self.held.get(resource, {}), self.used.get(resource, {})


def _grow(into: dict[str, Weights], key: str, now: Integrals, then: Integrals) -> None:
    for resource, amount in now.items():
        if grown := amount - then.get(resource, 0):
            into.setdefault(resource, {})[key] = grown


class Run(msgspec.Struct):
    """One incarnation of a job on this node: what it holds, and its integrals so far."""

    key: str
    job: str
    restart: int
    start_ns: int
    start_s: float
    uid: int | None = None
    cpus: int = 0
    mem_bytes: int = 0
    gpus: tuple[str, ...] = ()
    """UUIDs of GPUs and MIG devices; a device minor number where its UUID is not known yet."""
    gpu_percent: int | None = None
    shards: int | None = None
    cpus_by: dict[str, int] | None = None
    """The CPUs that it may run on, by package, where its cpuset tells."""
    sid: int | None = None
    sluid: str | None = None
    said: int = 0
    """The incarnation as its marks count it; `restart` is higher where the job id was used before."""
    marked: bool = True
    """A start mark said so; else its cgroup did."""
    suspended: bool = False
    state: RunState = "open"
    end_ns: int | None = None
    end_s: float | None = None
    flags: list[str] = []
    time_ns: int = 0
    held: Integrals = {}
    used: Integrals = {}
    gpus_held: int = 0
    """Its part of all the node's GPUs (millionths x ns), over the time in which they and its own were known."""
    gpus_known_ns: int = 0
    read_cpu_ns: int = 0
    """Its CPU time as last read; by package in `read_cpu_by`."""
    read_cpu_by: Integrals = {}
    read_gpu_ns: Integrals = {}
    cgroup_gone: bool = False
    mem_now: int = 0
    use_time_ns: int = 0
    """Its `time_ns` when use was last read."""
    seen_ns: int | None = None
    """When its cgroup or processes were last there."""
    cpu_known: bool = False
    """Its CPU time was read at least once."""
    mem_peak: int | None = None
    """The largest reading of its memory."""
    missed_ns: int = 0
    """Of its time, that in which its memory was not looked at."""
    cpu_missed: bool = False
    """It went while nobody looked, and nothing has told its CPU time since."""
    utilisation: dict[str, GpuUtilisation] = {}
    """By GPU."""
    words: Words = msgspec.field(default_factory=Words)

    def flag(self, flag: str) -> None:
        """Add a flag, once."""
        if flag not in self.flags:
            self.flags.append(flag)

    def is_in(self, snapshot: Snapshot) -> bool:
        """Nothing has been added to it since a snapshot."""
        return snapshot.runs.get(self.key) == Held(self.time_ns, self.held, self.used)

    def uses(self, resource: str, amount: int) -> None:
        """It has used this much more of a resource."""
        if amount:
            self.used[resource] = self.used.get(resource, 0) + amount


class Holdings(msgspec.Struct):
    """The node's runs and integrals. Times only go forward."""

    node: NodeFacts
    t_ns: int = 0
    runs: dict[str, Run] = {}
    idle: Integrals = {}
    system: Integrals = {}
    read_busy_ns: int | None = None
    read_busy_by: Integrals = {}
    read_gpu_ns: Integrals = {}
    deficits: Integrals = {}
    """By how much the runs' CPU time is ahead of the node's; paid back before `system` is charged again."""
    usage_ns: int | None = None
    """When use was last read."""
    system_mem_now: int = 0
    utilisation_ns: Integrals = {}
    """When each GPU's utilisation was last read."""

    def open_runs(self) -> list[Run]:
        """The runs that hold something now."""
        return [run for run in self.runs.values() if run.state == "open"]

    def resource(self, domain: Domain) -> str:
        """The resource by which a domain is split."""
        if domain.kind == "cpu":
            return domain.name if domain.name in self.node.packages else "cpu"
        if domain.kind == "gpu":
            return f"gpu:{domain.name.partition(':')[2]}"
        return "dram" if domain.kind == "dram" else "node"

    def advance(self, t_ns: int) -> None:
        """Let time pass: every open run holds its share until `t_ns`, what none holds is idle."""
        dt = t_ns - self.t_ns
        if dt <= 0:
            return
        self.t_ns = t_ns
        runs = self.open_runs()
        for run in runs:
            run.time_ns += dt
        gpu_parts = _gpu_parts(self.node, runs)
        of_gpus = _of_all(gpu_parts, runs)
        for run in runs:
            # Who was seen by a cgroup alone may hold GPUs that nobody told of.
            if gpu_parts and run.marked and all(_gpu_of(self.node, device) in gpu_parts for device in run.gpus):
                run.gpus_known_ns += dt
                run.gpus_held += of_gpus[run.key] * dt
        self._pass(dt, "cpu", self.node.cpus, {run.key: _cpus(run) for run in runs})
        for package, capacity, parts in self._package_parts(runs):
            self._pass(dt, package, capacity, parts)
        self._pass(dt, "dram", self.node.mem_bytes >> 10, {run.key: run.mem_bytes >> 10 for run in runs})
        for gpu, parts in gpu_parts.items():
            self._pass(dt, f"gpu:{gpu}", MILLION, parts)
        self._pass(dt, "node", MILLION, _dominant(self.node, runs, of_gpus))

    def shares(self, run: Run) -> dict[str, int]:
        """What a run held so far of the node's CPUs, memory, GPUs and of all of it: its part (0 to 1) x ns.

        Over its time it is the mean part. Of what the node has not, or nobody knows, there is none. Of GPUs that were
        known for some of the time the mean part of that time is taken.
        """
        node, of = self.node, run.held
        found = {"node": of.get("node", 0) // MILLION}
        if node.cpus:
            found["cpu"] = of.get("cpu", 0) // node.cpus
        if mem_kib := node.mem_bytes >> 10:
            found["dram"] = of.get("dram", 0) // mem_kib
        if run.gpus_known_ns:
            found["gpu"] = run.gpus_held * run.time_ns // (run.gpus_known_ns * MILLION)
        # The node may have been smaller (another configuration) than it was.
        return {resource: min(ns, run.time_ns) for resource, ns in found.items()}

    def _pass(self, dt: int, resource: str, capacity: int, parts: Mapping[str, int]) -> None:
        """Let every part of a resource be held for a time."""
        for key, part in parts.items():
            if part:
                held = self.runs[key].held
                held[resource] = held.get(resource, 0) + part * dt
        free = capacity - sum(parts.values())
        if free > 0:
            self.idle[resource] = self.idle.get(resource, 0) + free * dt

    def _package_parts(self, runs: list[Run]) -> Iterator[tuple[str, int, dict[str, int]]]:
        """Each package's size and what each run holds of it, in millionths of the scheduler's CPUs."""
        packages = self.node.packages
        whole = sum(packages.values())
        for package, size in packages.items():
            parts = {}
            for run in runs:
                allowed = run.cpus_by if run.cpus_by and sum(run.cpus_by.values()) else packages
                parts[run.key] = _cpus(run) * MILLION * allowed.get(package, 0) // sum(allowed.values())
            yield package, self.node.cpus * MILLION * size // whole, parts

    def use(self, usage: Usage) -> None:
        """Take in what was used until now, by each known run and outside all of them."""
        dt = self.t_ns - (self.usage_ns if self.usage_ns is not None else self.t_ns)
        self.usage_ns = self.t_ns
        grown: Integrals = {}
        mem_now = 0
        for key, run in self.runs.items():
            job = usage.jobs.get(key)
            if job is not None:
                for resource, amount in self._use_cpu(run, job).items():
                    grown[resource] = grown.get(resource, 0) + amount
                self._use_gpus(run, job)
                _note(run, job)
            mem_now += self._use_memory(run, job)
        self._outside_cpu(usage, grown)
        self._outside_gpus(usage)
        if usage.used_mem_bytes is not None:
            now = max(0, usage.used_mem_bytes - mem_now)
            mean_kib = (self.system_mem_now or now) + now >> 11
            self.system["dram"] = self.system.get("dram", 0) + mean_kib * dt
            self.system_mem_now = now

    def _use_cpu(self, run: Run, job: JobUsage) -> Integrals:
        """CPU time since the last reading, `cpu` and by package."""
        if job.gone and job.cpu_ns < run.read_cpu_ns:
            return {}  # a last word that knows less than what was read
        if not job.gone:
            run.seen_ns = self.t_ns
        if run.cgroup_gone and job.cpu_ns < run.read_cpu_ns:
            run.read_cpu_ns, run.read_cpu_by = 0, {}  # it has a cgroup again, a new one
        run.cgroup_gone = job.gone
        grown = {"cpu": max(0, job.cpu_ns - run.read_cpu_ns)}
        run.read_cpu_ns = job.cpu_ns
        packages = self.node.packages
        if packages:
            by = {name: max(0, now - run.read_cpu_by.get(name, 0)) for name, now in (job.cpu_by or {}).items()}
            run.read_cpu_by = dict(job.cpu_by or {})
            # Which package it ran on tells how to split what it used; how much it used is told by the sum.
            where = by if any(by.values()) else run.cpus_by or packages
            where = where if any(where.get(name) for name in packages) else packages
            grown |= split(grown["cpu"], {name: where.get(name, 0) for name in packages})
            grown.pop(IDLE, None)
        for resource, amount in grown.items():
            run.uses(resource, amount)
        return grown

    def _use_gpus(self, run: Run, job: JobUsage) -> None:
        for device, busy_ns in job.gpu_ns.items():
            grown = max(0, busy_ns - run.read_gpu_ns.get(device, 0))
            run.read_gpu_ns[device] = busy_ns
            run.uses(f"gpu:{_gpu_of(self.node, device)}", grown * _part_of(self.node, device))

    def _use_memory(self, run: Run, job: JobUsage | None) -> int:
        """A gauge: the mean of both ends, over the time held since the last reading."""
        held_ns, run.use_time_ns = run.time_ns - run.use_time_ns, run.time_ns
        now = (job.mem_bytes or 0) if job and not job.gone else 0
        # Memory that is gone was held to the end of the run, not freed half-way.
        mean = run.mem_now if now == 0 else (run.mem_now + now) // 2
        run.uses("dram", (mean >> 10) * held_ns)
        run.mem_now = now
        return now

    def _outside_cpu(self, usage: Usage, grown: Integrals) -> None:
        """What the node's busy time has beyond the runs' own."""
        if usage.busy_cpu_ns is None:
            return
        before, self.read_busy_ns = self.read_busy_ns, usage.busy_cpu_ns
        by, self.read_busy_by = self.read_busy_by, dict(usage.busy_by or {})
        if before is None:
            return
        busy = max(0, usage.busy_cpu_ns - before)
        self._charge_system("cpu", busy - grown.get("cpu", 0))
        packages = self.node.packages
        if packages:
            rise = {name: max(0, self.read_busy_by.get(name, 0) - by.get(name, 0)) for name in packages if by}
            shares = split(busy, rise if any(rise.values()) else packages)
            for package in packages:
                self._charge_system(package, shares.get(package, 0) - grown.get(package, 0))

    def _charge_system(self, resource: str, outside_ns: int) -> None:
        # The kernel counts the node in ticks and cgroups in nanoseconds: a clamp per reading would charge the
        # difference of the clocks to `system` again and again.
        outside_ns += self.deficits.get(resource, 0)
        self.deficits[resource] = max(DEFICIT_NS, min(0, outside_ns))
        if outside_ns > 0:
            self.system[resource] = self.system.get(resource, 0) + outside_ns

    def _outside_gpus(self, usage: Usage) -> None:
        for device, busy_ns in usage.gpu_ns.items():
            grown = max(0, busy_ns - self.read_gpu_ns.get(device, 0))
            self.read_gpu_ns[device] = busy_ns
            resource = f"gpu:{_gpu_of(self.node, device)}"
            self.system[resource] = self.system.get(resource, 0) + grown * _part_of(self.node, device)

    def snapshot(self) -> Snapshot:
        """All integrals now."""
        runs = {key: Held(run.time_ns, dict(run.held), dict(run.used)) for key, run in self.runs.items()}
        return Snapshot(self.t_ns, runs, dict(self.idle), dict(self.system))


def _note(run: Run, job: JobUsage) -> None:
    """What it used, for people: no energy goes by it."""
    # A GPU's driver may list processes of a job of which nothing else was ever read.
    run.cpu_known = run.cpu_known or not job.gone or job.cpu_ns > 0
    if job.mem_bytes is not None and not job.gone:
        run.mem_peak = max(run.mem_peak or 0, job.mem_bytes)


def _cpus(run: Run) -> int:
    """A suspended job keeps its memory and GPUs; its cores are anybody's."""
    return 0 if run.suspended else run.cpus


def _gpu_of(node: NodeFacts, device: str) -> str:
    part = node.slices.get(device)
    return part.gpu if part else device


def _part_of(node: NodeFacts, device: str) -> int:
    part = node.slices.get(device)
    return MILLION * part.parts // part.of if part else MILLION


def _gpu_parts(node: NodeFacts, runs: list[Run]) -> dict[str, dict[str, int]]:
    """What each run holds of each GPU, in millionths: slices and MPS percentages as they are, others what is left."""
    fixed: dict[str, dict[str, int]] = {gpu: {} for gpu in node.gpus}
    open_: dict[str, dict[str, int]] = {gpu: {} for gpu in node.gpus}
    for run in runs:
        for device in run.gpus:
            gpu = _gpu_of(node, device)
            if gpu not in fixed:
                continue
            if device in node.slices:
                fixed[gpu][run.key] = fixed[gpu].get(run.key, 0) + _part_of(node, device)
            elif run.gpu_percent is not None:
                fixed[gpu][run.key] = run.gpu_percent * MILLION // 100
            else:
                open_[gpu][run.key] = run.shards or 1
    return {gpu: _shared(fixed[gpu], open_[gpu]) for gpu in node.gpus}


def _shared(fixed: dict[str, int], open_: dict[str, int]) -> dict[str, int]:
    left = MILLION - sum(fixed.values())
    if left < 0 or (left == 0 and open_):
        # Over-committed: by what each has, all to 1.
        return split(MILLION, fixed | dict.fromkeys(open_, MILLION))
    if not open_:
        return fixed
    shares = split(left, open_)
    return {key: fixed.get(key, 0) + shares.get(key, 0) for key in {**fixed, **shares}}


def _of_all(gpu_parts: dict[str, dict[str, int]], runs: list[Run]) -> dict[str, int]:
    """What each run holds of all the node's GPUs together, in millionths."""
    count = len(gpu_parts)
    return {
        run.key: sum(parts.get(run.key, 0) for parts in gpu_parts.values()) // count if run.gpus and count else 0
        for run in runs
    }


def _dominant(node: NodeFacts, runs: list[Run], of_gpus: dict[str, int]) -> dict[str, int]:
    """Each run's largest share of any resource, in millionths of the node; all to 1 where they are more."""
    shares = {}
    for run in runs:
        shares[run.key] = max(
            _cpus(run) * MILLION // node.cpus if node.cpus else 0,
            run.mem_bytes * MILLION // node.mem_bytes if node.mem_bytes else 0,
            of_gpus[run.key],
        )
    return split(MILLION, shares) if sum(shares.values()) > MILLION else shares
