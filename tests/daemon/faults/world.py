"""A node whose every watt is known: jobs with stepwise curves, and who each joule belongs to, worked out in floats.

Nothing here uses the daemon's code. Power, CPU time and memory are constant between breakpoints, so the truth is a
sum over segments: the rules of attribution applied to instantaneous power. Times are seconds since the story began
(`w`), energies joules, powers watts.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

GIB = 1 << 30
Shares = dict[str, float]
Points = Sequence[tuple[float, float]]


class Steps:
    """A quantity that is constant between breakpoints, 0 before the first."""

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        self.times: list[float] = []
        self.values: list[float] = []
        self._sums: list[float] = []
        total = 0.0
        for w, value in sorted(points):
            if self.times:
                total += self.values[-1] * (w - self.times[-1])
            self.times.append(w)
            self.values.append(value)
            self._sums.append(total)

    def at(self, w: float) -> float:
        """Its value at a time."""
        i = bisect_right(self.times, w) - 1
        return self.values[i] if i >= 0 else 0.0

    def until(self, w: float) -> float:
        """Its integral from the beginning."""
        i = bisect_right(self.times, w) - 1
        return self._sums[i] + self.values[i] * (w - self.times[i]) if i >= 0 else 0.0


@dataclass
class Job:
    """One run: what it holds from `start` to `end`, and what it does meanwhile."""

    run: str
    start: float
    end: float
    cpus: int = 0
    mem_gib: float = 0.0
    gpus: tuple[str, ...] = ()
    load: Points = ()
    """Busy cores from each time on; nothing after `end`."""
    core_w: float = 5.0
    """What each of its busy cores draws above idle."""
    on: dict[str, int] | None = None
    """Its cores by package, where it is pinned."""
    used_gib: Points = ()
    gpu_w: Points = ()
    """What each GPU that it holds draws above idle, if the GPU is its own."""
    gpu_use: Points = ()
    """How busy it keeps its part of a shared GPU, 0 to 1."""
    gpu_percent: int | None = None
    stopped: Sequence[tuple[float, float]] = ()
    job: str = ""
    restart: int = 0
    dies: float | None = None
    """When its processes end, if that is not `end`."""
    start_mark: float | None = 0.0
    """How long after `start` its mark is seen; None: never."""
    end_mark: float | None = 0.0

    @property
    def id(self) -> str:
        """As the scheduler has it."""
        return self.job or self.run

    @property
    def last(self) -> float:
        """When its processes end."""
        return self.end if self.dies is None else self.dies

    def is_stopped(self, w: float) -> bool:
        """Whether it is suspended."""
        return any(a <= w < b for a, b in self.stopped)

    def _within(self, points: Points) -> Steps:
        edges = {w for span in self.stopped for w in span if self.start <= w < self.last}
        raw = Steps(points)
        inside = {max(self.start, w) for w, _ in points if w < self.last} | edges
        found = [(w, 0.0 if self.is_stopped(w) else raw.at(w)) for w in inside]
        return Steps([*found, (self.last, 0.0)])

    @cached_property
    def cores(self) -> Steps:
        return self._within(self.load)

    @cached_property
    def memory(self) -> Steps:
        return Steps([*((w, v) for w, v in self.used_gib if w < self.last), (self.last, 0.0)])

    @cached_property
    def draw(self) -> Steps:
        return self._within(self.gpu_w)

    @cached_property
    def use(self) -> Steps:
        return self._within(self.gpu_use)


@dataclass
class Node:
    """The machine, what it draws with nothing running, and what the daemon is told of that."""

    cpus: int = 32
    mem_gib: float = 128.0
    packages: dict[str, int] = field(default_factory=lambda: {"package-0": 16, "package-1": 16})
    gpus: tuple[str, ...] = ()
    slices: dict[str, tuple[str, int]] = field(default_factory=dict)
    """MIG devices: their GPU, and how many of its seven slices they are."""
    cpu_idle_w: float = 40.0
    gpu_idle_w: float = 50.0
    dram: bool = True
    dram_idle_w: float = 8.0
    gib_w: float = 0.3
    """What each GiB in use draws on top, over all memory."""
    slice_w: float = 300.0
    """What a whole shared GPU draws above idle if it is busy."""
    rest_w: float = 120.0
    rest_gain: float = 0.0
    """Losses: this part of what the parts draw."""
    rest_idle: bool = False
    """Whether the daemon knows `rest_w`."""
    system: Points = ((0.0, 0.5),)
    """Busy cores outside every job."""
    system_gib: float = 4.0
    system_core_w: float = 5.0
    system_gpu_w: dict[str, Points] = field(default_factory=dict)
    off: tuple[tuple[float, float], ...] = ()
    """When it draws nothing at all."""

    def domains(self) -> list[str]:
        """Its parts."""
        return [*self.packages, *(["dram-0"] if self.dram else []), *(f"gpu:{gpu}" for gpu in self.gpus)]


@dataclass
class Segment:
    """A time in which nothing changes: watts by domain and holder."""

    start: float
    end: float
    watts: dict[str, Shares]


class World:
    """A node and its jobs over a time."""

    def __init__(self, node: Node, jobs: Sequence[Job], until: float) -> None:
        self.node, self.jobs, self.until = node, list(jobs), until
        self.system = Steps(node.system)
        edges = {0.0, until, *self.system.times, *(w for span in node.off for w in span)}
        for job in jobs:
            edges |= {job.start, job.end, *(w for span in job.stopped for w in span)}
            for curve in (job.cores, job.memory, job.draw, job.use):
                edges |= set(curve.times)
        for points in node.system_gpu_w.values():
            edges |= {w for w, _ in points}
        cuts = sorted(w for w in edges if 0 <= w <= until)
        self.segments = [Segment(a, b, self._watts(a)) for a, b in itertools.pairwise(cuts)]
        names = [*node.domains(), "rest"]
        self._power = {
            name: Steps([(one.start, sum(one.watts[name].values())) for one in self.segments]) for name in names
        }

    # -- what the meters see -------------------------------------------------------------------------------------

    def joules(self, domain: str, w: float) -> float:
        """A domain's energy since the beginning; `node` is all of it."""
        if domain == "node":
            return sum(power.until(w) for power in self._power.values())
        return self._power[domain].until(w)

    def is_off(self, w: float) -> bool:
        """Whether the machine is switched off or sleeps."""
        return any(a <= w < b for a, b in self.node.off)

    # -- whose it is ---------------------------------------------------------------------------------------------

    def truth(self, holder: str, domain: str, hidden: Iterable[tuple[float, float]] = ()) -> float:
        """A holder's joules in a domain, but for the times that nobody can know."""
        gaps = list(hidden)
        total = 0.0
        for one in self.segments:
            span = one.end - one.start - sum(max(0.0, min(one.end, b) - max(one.start, a)) for a, b in gaps)
            total += one.watts[domain].get(holder, 0.0) * span
        return total

    def _watts(self, w: float) -> dict[str, Shares]:
        node = self.node
        if self.is_off(w):
            return {name: {} for name in [*node.domains(), "rest"]}
        jobs = [job for job in self.jobs if job.start <= w < job.end]
        found = {name: self._package(name, w, jobs) for name in node.packages}
        if node.dram:
            found["dram-0"] = self._dram(w, jobs)
        for gpu in node.gpus:
            found[f"gpu:{gpu}"] = self._gpu(gpu, w, jobs)
        found["rest"] = self._rest(found, w, jobs)
        return found

    def _package(self, name: str, w: float, jobs: list[Job]) -> Shares:
        """Idle power by allocated cores of the package, the power above by CPU time on it."""
        node, size = self.node, self.node.packages[name]
        whole = sum(node.packages.values())
        held = {job.run: 0.0 if job.is_stopped(w) else job.cpus * self._on(job, name) for job in jobs}
        shares = _split(node.cpu_idle_w, held, node.cpus * size / whole)
        busy = {job.run: job.cores.at(w) * self._on(job, name) for job in jobs}
        busy["system"] = self.system.at(w) * size / whole
        draw = sum(busy[job.run] * job.core_w for job in jobs) + busy["system"] * node.system_core_w
        return _add(shares, _split(draw, busy, 0.0))

    def _on(self, job: Job, package: str) -> float:
        sizes = job.on or self.node.packages
        return sizes.get(package, 0) / sum(sizes.values())

    def _dram(self, w: float, jobs: list[Job]) -> Shares:
        node = self.node
        shares = _split(node.dram_idle_w, {job.run: job.mem_gib for job in jobs}, node.mem_gib)
        used = {job.run: job.memory.at(w) for job in jobs} | {"system": node.system_gib}
        return _add(shares, _split(node.gib_w * sum(used.values()), used, 0.0))

    def parts_of(self, gpu: str, jobs: Iterable[Job]) -> Shares:
        """What each job holds of a GPU."""
        node, fixed, equal = self.node, {}, []
        for job in jobs:
            slices = [node.slices[one][1] / 7 for one in job.gpus if node.slices.get(one, ("",))[0] == gpu]
            if slices:
                fixed[job.run] = sum(slices)
            elif gpu in job.gpus and job.gpu_percent is not None:
                fixed[job.run] = job.gpu_percent / 100
            elif gpu in job.gpus:
                equal.append(job.run)
        return fixed | {run: (1 - sum(fixed.values())) / len(equal) for run in equal}

    def _gpu(self, gpu: str, w: float, jobs: list[Job]) -> Shares:
        """Whole to who holds it; a shared one by slices below idle power and by use above."""
        node, parts = self.node, self.parts_of(gpu, jobs)
        shares = _split(node.gpu_idle_w, parts, 1.0)
        here = [job for job in jobs if job.run in parts]
        sliced = any(one == gpu for one, _ in node.slices.values())
        use = {job.run: job.use.at(w) * (parts[job.run] if sliced else 1.0) for job in here if job.gpu_use}
        if use:
            return _add(shares, _split(node.slice_w * sum(use.values()), use, 0.0))
        above = sum(job.draw.at(w) for job in here) + Steps(node.system_gpu_w.get(gpu, ())).at(w)
        return _add(shares, _split(above, parts, 1.0))

    def _rest(self, parts: dict[str, Shares], w: float, jobs: list[Job]) -> Shares:
        """Its static part by dominant share, its dynamic part by what the parts gave each holder."""
        node, gave = self.node, {}
        for shares in parts.values():
            gave = _add(gave, shares)
        held = {}
        for job in jobs:
            gpus = sum(self.parts_of(gpu, jobs).get(job.run, 0.0) for gpu in node.gpus)
            cpus = 0.0 if job.is_stopped(w) else job.cpus / node.cpus
            held[job.run] = max(cpus, job.mem_gib / node.mem_gib, gpus / len(node.gpus) if node.gpus else 0.0)
        losses = node.rest_gain * sum(gave.values())
        if not node.rest_idle:
            return _split(node.rest_w + losses, held, 1.0)
        return _add(_split(node.rest_w, held, 1.0), _split(losses, gave, 0.0))


def _split(watts: float, held: Shares, capacity: float) -> Shares:
    """By what is held of a capacity; what nobody holds is idle, and over-committed parts come to the whole."""
    whole = max(capacity, sum(held.values()))
    if whole <= 0:
        return {"idle": watts} if watts else {}
    shares = {run: watts * part / whole for run, part in held.items() if part}
    free = whole - sum(held.values())
    return shares | ({"idle": watts * free / whole} if free > 1e-12 else {})


def _add(one: Shares, other: Shares) -> Shares:
    return {run: one.get(run, 0.0) + other.get(run, 0.0) for run in {**one, **other}}
