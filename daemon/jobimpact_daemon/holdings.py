"""Who holds and uses what on the node, as integrals over time. Pure.

Holdings change at marks, use is read at readings, and a domain may be read at neither (a failed read, a dead
daemon): so the integrals are kept once, cumulative, and each domain remembers a snapshot of them from its last
good reading. The difference of two snapshots is the weight of every holder in between.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from jobimpact.core.records import DomainKind, JobUsage, NodeFacts, Usage
from jobimpact.core.units import NS

__all__ = ["CgroupMemory", "Held", "Holdings", "Run", "Snapshot"]

DEFICIT_NS = -NS
"""How much CPU time the runs may be ahead of the node's own count (a coarser clock) before it is forgotten."""
MS = 1_000_000

RunState = Literal["open", "ended", "lost", "rebooted"]


class CgroupMemory(msgspec.Struct):
    """CPU time as last read of the jobs' cgroups and of the ancestor that outlives them, by path."""

    ancestors: dict[str, int] = {}
    jobs: dict[str, int] = {}


class Held(msgspec.Struct, frozen=True):
    """One run's part of a snapshot: its share of the node, and its integrals so far."""

    cpus: int
    mem_kib: int
    gpus: tuple[str, ...]
    time_ns: int
    cpu_ns: int
    mem_kib_ms: int

    def used(self, kind: DomainKind) -> int:
        """What it has used of a kind of domain, cumulative."""
        return self.cpu_ns if kind == "cpu" else self.mem_kib_ms


class Snapshot(msgspec.Struct, frozen=True):
    """All integrals at one boot time."""

    t_ns: int
    runs: dict[str, Held]
    idle_cpu_ns: int
    idle_mem_kib_ms: int
    idle_gpu_ns: dict[str, int]
    system_cpu_ns: int
    system_mem_kib_ms: int

    def unheld(self, kind: DomainKind, gpu: str) -> int:
        """What nobody has held, in the unit of the kind's held weights."""
        if kind == "cpu":
            return self.idle_cpu_ns
        return self.idle_mem_kib_ms * MS if kind == "dram" else self.idle_gpu_ns.get(gpu, 0)

    def system(self, kind: DomainKind) -> int:
        """What was used outside every run, in the unit of the kind's used weights."""
        return {"cpu": self.system_cpu_ns, "dram": self.system_mem_kib_ms, "gpu": 0}[kind]


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
    """UUIDs; a device minor number where its UUID is not known yet."""
    sid: int | None = None
    said: int = 0
    """The incarnation as its marks count it; `restart` is higher where the job id was used before."""
    marked: bool = True
    """A start mark said so; else its cgroup did."""
    state: RunState = "open"
    end_ns: int | None = None
    end_s: float | None = None
    flags: list[str] = []
    time_ns: int = 0
    cpu_ns: int = 0
    mem_kib_ms: int = 0
    read_cpu_ns: int = 0
    """Its CPU time as last read."""
    cgroup_gone: bool = False
    mem_now: int = 0
    use_time_ns: int = 0
    """Its `time_ns` when use was last read."""
    seen_ns: int | None = None
    """When its cgroup or processes were last there."""

    def flag(self, flag: str) -> None:
        """Add a flag, once."""
        if flag not in self.flags:
            self.flags.append(flag)

    def held(self) -> Held:
        """Its part of a snapshot."""
        return Held(self.cpus, self.mem_bytes >> 10, self.gpus, self.time_ns, self.cpu_ns, self.mem_kib_ms)


class Holdings(msgspec.Struct):
    """The node's runs and integrals. Times only go forward."""

    node: NodeFacts
    t_ns: int = 0
    runs: dict[str, Run] = {}
    idle_cpu_ns: int = 0
    idle_mem_kib_ms: int = 0
    idle_gpu_ns: dict[str, int] = {}
    system_cpu_ns: int = 0
    system_mem_kib_ms: int = 0
    read_busy_ns: int | None = None
    deficit_ns: int = 0
    """By how much the runs' CPU time is ahead of the node's; paid back before `system` is charged again."""
    usage_ns: int | None = None
    """When use was last read."""
    system_mem_now: int = 0

    def open_runs(self) -> list[Run]:
        """The runs that hold something now."""
        return [run for run in self.runs.values() if run.state == "open"]

    def advance(self, t_ns: int) -> None:
        """Let time pass: every open run holds its share until `t_ns`, what none holds is idle."""
        dt = t_ns - self.t_ns
        if dt <= 0:
            return
        self.t_ns = t_ns
        cpus, mem_kib, held_gpus = self.node.cpus, self.node.mem_bytes >> 10, set[str]()
        for run in self.runs.values():
            if run.state != "open":
                continue
            run.time_ns += dt
            cpus -= run.cpus
            mem_kib -= run.mem_bytes >> 10
            held_gpus.update(run.gpus)
        if cpus > 0:
            self.idle_cpu_ns += cpus * dt
        if mem_kib > 0:
            self.idle_mem_kib_ms += mem_kib * dt // MS
        for gpu in self.node.gpus:
            if gpu not in held_gpus:
                self.idle_gpu_ns[gpu] = self.idle_gpu_ns.get(gpu, 0) + dt

    def use(self, usage: Usage) -> None:
        """Take in what was used until now, by each known run and outside all of them."""
        dt = self.t_ns - (self.usage_ns if self.usage_ns is not None else self.t_ns)
        self.usage_ns = self.t_ns
        cpu_ns = mem_now = 0
        for key, run in self.runs.items():
            job = usage.jobs.get(key)
            cpu_ns += self._use_cpu(run, job)
            mem_now += self._use_memory(run, job)
        self._use_outside(usage, cpu_ns, mem_now, dt)

    def _use_cpu(self, run: Run, job: JobUsage | None) -> int:
        if job is None:
            return 0
        if not job.gone:
            run.seen_ns = self.t_ns
        if run.cgroup_gone and job.cpu_ns < run.read_cpu_ns:
            run.read_cpu_ns = 0  # it has a cgroup again, a new one
        run.cgroup_gone = job.gone
        grown = max(0, job.cpu_ns - run.read_cpu_ns)
        run.read_cpu_ns = job.cpu_ns
        run.cpu_ns += grown
        return grown

    def _use_memory(self, run: Run, job: JobUsage | None) -> int:
        """A gauge: the mean of both ends, over the time held since the last reading."""
        held_ns, run.use_time_ns = run.time_ns - run.use_time_ns, run.time_ns
        now = (job.mem_bytes or 0) if job and not job.gone else 0
        # Memory that is gone was held to the end of the run, not freed half-way.
        mean = run.mem_now if now == 0 else (run.mem_now + now) // 2
        run.mem_kib_ms += (mean >> 10) * held_ns // MS
        run.mem_now = now
        return now

    def _use_outside(self, usage: Usage, cpu_ns: int, mem_now: int, dt: int) -> None:
        if usage.busy_cpu_ns is not None:
            if self.read_busy_ns is not None:
                outside = max(0, usage.busy_cpu_ns - self.read_busy_ns) - cpu_ns + self.deficit_ns
                # The kernel counts the node in ticks and cgroups in nanoseconds: a clamp per reading would
                # charge the difference of the clocks to `system` again and again.
                self.deficit_ns = max(DEFICIT_NS, min(0, outside))
                self.system_cpu_ns += max(0, outside)
            self.read_busy_ns = usage.busy_cpu_ns
        if usage.used_mem_bytes is not None:
            now = max(0, usage.used_mem_bytes - mem_now)
            self.system_mem_kib_ms += ((self.system_mem_now or now) + now >> 11) * dt // MS
            self.system_mem_now = now

    def snapshot(self) -> Snapshot:
        """All integrals now."""
        return Snapshot(
            self.t_ns,
            {key: run.held() for key, run in self.runs.items()},
            self.idle_cpu_ns,
            self.idle_mem_kib_ms,
            dict(self.idle_gpu_ns),
            self.system_cpu_ns,
            self.system_mem_kib_ms,
        )
