"""A node's day as its daemon reads it: two packages with their memory, eight GPUs, a meter of the whole, and jobs.

Deterministic, and nobody waits for it: the clock is driven. What comes of it goes through the real bookkeeper.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from jobimpact.core.records import Counter, Domain, Gauge, JobUsage, Mark, NodeFacts, Reading, SourceHealth, Usage
from jobimpact.core.units import NS
from jobimpact_daemon.bookkeeper import Bookkeeper, Observation, State
from jobimpact_daemon.holdings import Holdings

__all__ = ["CORES", "DAY_S", "GIB", "DayJob", "DayNode", "Tick", "jobs_of", "new_books"]

DAY_S = 86_400
GIB = 1 << 30
CORES, MEM_GIB = 8, 64
"""Of the node, by GPU: a job has these with each of its GPUs."""
COMMIT_S = 10
METER_S = 10
RANGE_UJ = 262_143_328_850
BOOT_S = 1000
"""The node has been up for so long when the day begins."""


@dataclass(frozen=True)
class DayJob:
    """A job on one node, in seconds of its day."""

    id: str
    start_s: float
    end_s: float
    gpus: tuple[int, ...]

    @property
    def cpus(self) -> int:
        """Its cores."""
        return CORES * len(self.gpus)

    @property
    def mem_bytes(self) -> int:
        """Its memory."""
        return MEM_GIB * GIB * len(self.gpus)


def jobs_of(number: int, count: int, seconds: int = DAY_S, gpus: int = 8, mean_s: float = 7000.0) -> list[DayJob]:
    """So many jobs of one node, in order of their start, each on GPUs that are free then; the last may not end.

    Args:
        number: the node's: its jobs' ids begin with it.
        count: how many; a few that find no room are left out.
        seconds: over how long.
        gpus: how many it has.
        mean_s: how long most of them last.
    """
    chance = random.Random(number)
    free = [0.0] * gpus
    found = []
    apart_s = seconds / max(count, 1)
    for one in range(count):
        order = sorted(range(gpus), key=lambda gpu: (free[gpu], gpu))[: chance.choice((1, 1, 1, 2, 4))]
        start_s = round(max(apart_s * (one + chance.random()), *(free[gpu] + 1.0 for gpu in order)), 2)
        end_s = round(start_s + max(5.0, chance.lognormvariate(-0.5, 1.0) * mean_s), 2)
        if start_s < seconds - 5:
            for gpu in order:
                free[gpu] = end_s
            found.append(DayJob(f"{100 + number}{one:05d}", start_s, end_s, tuple(sorted(order))))
    return sorted(found, key=lambda job: job.start_s)


@dataclass(frozen=True)
class Tick:
    """What was read at one time, with the marks that it takes in, and whether the daemon commits then."""

    seen: Observation
    marks: list[Mark]
    commits: bool


@dataclass
class DayNode:
    """One node.

    Args:
        name: its name, which its GPUs' have in them.
        jobs: what runs on it.
        wall_s: when its day begins, epoch seconds.
        every_s: seconds between two readings.
        gpu_count: how many GPUs it has.
        drams: its packages' memory is metered, too.
    """

    name: str
    jobs: list[DayJob]
    wall_s: float
    every_s: float = 1.0
    gpu_count: int = 8
    drams: bool = True
    _uj: dict[str, int] = field(default_factory=dict)
    _cpu_ns: dict[str, int] = field(default_factory=dict)
    _busy_ns: int = 0
    _reads: int = 0

    @property
    def gpus(self) -> list[str]:
        """Their UUIDs, by number."""
        return [f"GPU-{self.name}-{number:02d}" for number in range(self.gpu_count)]

    def facts(self) -> NodeFacts:
        """Its size."""
        return NodeFacts(CORES * self.gpu_count, MEM_GIB * GIB * self.gpu_count, tuple(self.gpus))

    def domains(self) -> list[Domain]:
        """What is metered."""
        cpus = [Domain(f"package-{number}", "cpu", "rapl", idle_w=60.0) for number in range(2)]
        drams = [Domain(f"dram-{number}", "dram", "rapl", idle_w=12.0) for number in range(2 if self.drams else 0)]
        gpus = [Domain(f"gpu:{one}", "gpu", "nvml", idle_w=50.0) for one in self.gpus]
        meter = Domain("node:redfish", "node", "redfish", "gauge", latency_s=1.0, period_s=max(METER_S, self.every_s))
        return [*cpus, *drams, *gpus, meter]

    def health(self, t_ns: int) -> list[SourceHealth]:
        """How its sources do."""
        each = {"rapl": 40_000, "nvml": 60_000, "redfish": 600_000}
        reads = self._reads
        return [SourceHealth(name, reads, 0, ns, reads * ns, t_ns, None) for name, ns in each.items()]

    def ticks(self, seconds: int = DAY_S) -> Iterator[Tick]:
        """Its day: a reading every `every_s`, one more at each mark; a commit every 10 s and at each mark."""
        edges = [(job.start_s, "start", job) for job in self.jobs] + [(job.end_s, "end", job) for job in self.jobs]
        edges.sort(key=lambda edge: edge[:2])
        chance = random.Random(self.name)
        running: dict[str, DayJob] = {}
        at_s, committed_s, step = 0.0, -float(COMMIT_S), 0
        while (next_s := step * self.every_s) <= seconds:
            if edges and edges[0][0] <= next_s:
                edge_s, event, job = edges.pop(0)
                self._draw(edge_s - at_s, running, chance)
                at_s = committed_s = edge_s
                yield Tick(self._seen(at_s, running), [self._mark(event, job, at_s)], commits=True)
                if event == "start":
                    running[job.id] = job
                else:
                    running.pop(job.id)
                    self._cpu_ns.pop(job.id, None)
                continue
            self._draw(next_s - at_s, running, chance)
            at_s, step = next_s, step + 1
            due = at_s - committed_s >= COMMIT_S
            committed_s = at_s if due else committed_s
            yield Tick(self._seen(at_s, running, meter=at_s % max(METER_S, self.every_s) == 0), [], commits=due)

    def _draw(self, lasts_s: float, running: Mapping[str, DayJob], chance: random.Random) -> None:
        """Let time go by: what is held draws more, and never the same twice."""
        cores = sum(job.cpus for job in running.values())
        held = {gpu for job in running.values() for gpu in job.gpus}
        wobble = chance.uniform(0.9, 1.1)
        watts = dict.fromkeys(("package-0", "package-1"), 65.0 + 2.0 * wobble * cores)
        if self.drams:
            watts |= dict.fromkeys(("dram-0", "dram-1"), 14.0 + 0.3 * wobble * cores)
        for number, uuid in enumerate(self.gpus):
            watts[f"gpu:{uuid}"] = 280.0 * wobble if number in held else 52.0
        watts["node"] = 1.04 * sum(watts.values()) + 180.0
        for domain, drawn_w in watts.items():
            self._uj[domain] = self._uj.get(domain, 0) + round(drawn_w * lasts_s * 1e6)
        for job in running.values():
            self._cpu_ns[job.id] = self._cpu_ns.get(job.id, 0) + round(0.85 * wobble * job.cpus * lasts_s * NS)
        self._busy_ns += round((0.85 * wobble * cores + 0.4) * lasts_s * NS)
        self._node_w = watts["node"]

    def _seen(self, at_s: float, running: Mapping[str, DayJob], *, meter: bool = False) -> Observation:
        self._reads += 1
        t_ns = self._t_ns(at_s)
        found: dict[str, Reading] = {
            domain: Counter(uj % RANGE_UJ, RANGE_UJ, max_w=1000.0) if domain[0] != "g" else Counter(uj)
            for domain, uj in self._uj.items()
            if domain != "node"
        }
        if meter:
            found["node:redfish"] = Gauge(self._node_w, t_ns)
        jobs = {job.id: JobUsage(self._cpu_ns.get(job.id, 0), job.mem_bytes // 2) for job in running.values()}
        used = sum(one.mem_bytes or 0 for one in jobs.values()) + (4 << 30)
        return Observation(t_ns, self.wall_s + at_s, found, Usage(jobs, self._busy_ns, used))

    def _mark(self, event: str, job: DayJob, at_s: float) -> Mark:
        t_ns = self._t_ns(at_s)
        if event == "end":
            return Mark("end", job.id, t_ns)
        gpus = tuple(self.gpus[number] for number in job.gpus)
        return Mark("start", job.id, t_ns, uid=1000, cpus=job.cpus, mem_bytes=job.mem_bytes, gpus=gpus)

    def _t_ns(self, at_s: float) -> int:
        return round((BOOT_S + at_s) * NS)


def new_books(node: DayNode) -> Bookkeeper:
    """Its books before the day, with its domains declared."""
    max_gap_ns = round(max(30, 3 * node.every_s) * NS)
    books = Bookkeeper(State(Holdings(node.facts()), boot="b1"), {}, max_gap_ns=max_gap_ns)
    for domain in node.domains():
        books.declare(domain)
    return books
