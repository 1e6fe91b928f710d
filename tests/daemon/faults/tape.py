"""A recording of a simulated node in the documented format: meters as coarse and late as real ones, and their faults.

RAPL counters renew every millisecond in steps of 61 uJ and wrap, NVML's every 20 to 100 ms in millijoules, a BMC lags,
averages and rounds to watts. A fault changes or removes readings, lines or marks, and never the world.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Any

from tests.daemon.faults.world import GIB, Job, World

Json = dict[str, Any]
Fault = Callable[[float, str, Json], Json | None]
"""Time, domain (`node:<source>` for meters of the whole), its reading → what is told instead; None: nothing."""
Span = tuple[float, float]
J = 1_000_000
WALL = 1_795_190_300.0
INTEL_UJ, AMD_UJ = 262_143_328_850, 65_532_610_987
CGROUP_S = 0.05
"""A job's cgroup comes this long after its start mark."""


@dataclass
class Sensor:
    """A counter of one domain."""

    domain: str
    source: str
    refresh_s: float = 0.001
    step_uj: float = 61.035
    max_uj: int | None = None
    max_w: float | None = None
    start_uj: int = 0
    resets: Sequence[tuple[float, int]] = ()
    """When it starts anew, and at which value."""
    told_epoch: bool = False
    idle_w: float | None = None
    halts: Span | None = None
    """When it stands still, and what it does not count then is lost."""

    def read(self, world: World, w: float) -> Json:
        """What it says."""
        then = floor(w / self.refresh_s + 1e-6) * self.refresh_s
        if self.halts and self.halts[0] <= w < self.halts[1]:
            then = min(then, self.halts[0])
        past = [(at, to) for at, to in self.resets if at <= w]
        at, to = past[-1] if past else (0.0, self.start_uj)
        grown = (world.joules(self.domain, max(at, then)) - world.joules(self.domain, at)) * J
        uj = floor((to + grown) / self.step_uj) * self.step_uj
        told: Json = {"uj": int(uj) % self.max_uj if self.max_uj else int(uj)}
        more = {"max_uj": self.max_uj, "max_w": self.max_w, "idle_w": self.idle_w}
        more["epoch"] = f"e{len(past)}" if self.told_epoch else None
        return told | {key: value for key, value in more.items() if value is not None}


@dataclass
class Meter:
    """A gauge: of the whole node (a BMC, a wattmeter), or of one domain."""

    source: str
    domain: str = "node"
    lag_s: float = 0.0
    average_s: float = 1.0
    step_w: float = 1.0
    every_s: float = 10.0
    gain: float = 1.0
    latency_s: float | None = None
    own_time: bool = True
    excludes: tuple[str, ...] = ()

    def read(self, world: World, w: float, t: float) -> Json:
        """What it says: a mean of some time ago."""
        b = max(0.0, w - self.lag_s)
        a = max(0.0, b - self.average_s)
        if b - a < 1e-3:
            b = a + 1e-3
        watts = self.gain * (self._joules(world, b) - self._joules(world, a)) / (b - a)
        told: Json = {"w": round(watts / self.step_w) * self.step_w}
        if self.own_time:
            told["t"] = max(0.0, t - 0.05)
        if self.latency_s is not None:
            told["latency_s"] = self.latency_s
        return told | ({"excludes": list(self.excludes)} if self.excludes else {})

    def _joules(self, world: World, w: float) -> float:
        unseen = [f"gpu:{gpu}" for gpu in world.node.gpus] if "gpu" in self.excludes else []
        return world.joules(self.domain, w) - sum(world.joules(name, w) for name in unseen)


@dataclass
class Tape:
    """Everything that a daemon of this node reads, line by line."""

    world: World
    sensors: Sequence[Sensor]
    meters: Sequence[Meter] = ()
    interval_s: float = 2.0
    seed: int = 1
    faults: Sequence[Fault] = ()
    dead: Sequence[Span] = ()
    """When no daemon runs."""
    blind: Sequence[Span] = ()
    """When use cannot be read."""
    wall_steps: Sequence[tuple[float, float]] = ()
    boots: Sequence[tuple[float, str]] = ((0.0, "b1"),)
    marks_again: Sequence[tuple[float, str, str, int]] = ()
    """Further marks: when, event, job, restart."""
    _told_gone: set[str] = field(default_factory=set)

    def lines(self) -> list[Json]:
        """The recording."""
        luck = random.Random(self.seed)
        marks = self._marks(luck)
        lines: list[Json] = []
        boot = ""
        for w in self._times([seen for seen, _, _ in marks], luck):
            now = self._boot(w)
            if now != boot:
                boot = now
                lines.append(self._line(w, boot=boot, node=self._node()))
            while marks and marks[0][0] <= w:
                _, own, mark = marks.pop(0)
                lines.append(self._line(own, mark=mark))
            usage = {} if _in(w, self.blind) else {"usage": self._usage(w)}
            lines.append(self._line(w, read=self._readings(w), **usage))
        return lines

    # -- when -----------------------------------------------------------------------------------------------------

    def _times(self, seen: list[float], luck: random.Random) -> list[float]:
        """Ticks, a reading at every mark, and closer ticks in a job's first second."""
        until = self.world.until
        ticks = {k * self.interval_s for k in range(int(until / self.interval_s) + 1)}
        late = {one for one in ticks if 0 < one < until}
        times = (ticks - late) | {one + luck.uniform(0, 0.003) for one in late} | {one for one in seen if one < until}
        for job in self.world.jobs:
            if job.start_mark is not None and job.start > 0:
                times |= {job.start + job.start_mark + after for after in (0.1, 0.2, 0.4, 0.8)}
        times |= {b + 0.5 for _, b in self.dead}
        found: list[float] = []
        for w in sorted(one for one in times if one <= until):
            if _in(w, self.dead) or self.world.is_off(w):
                continue
            if found and w - found[-1] < 0.05 and w not in seen and w != until:
                continue
            found.append(w)
        return found

    def _marks(self, luck: random.Random) -> list[tuple[float, float, Json]]:
        """When the daemon sees it, when it was written, what it says."""
        found = []
        for job in self.world.jobs:
            for event, w, delay in (("start", job.start, job.start_mark), ("end", job.end, job.end_mark)):
                if delay is not None and w < self.world.until and not self.world.is_off(w):
                    found.append((self._seen(w + delay, luck), w, self._mark(job, event)))
        for w, event, job, restart in self.marks_again:
            found.append((self._seen(w, luck), w, {"event": event, "job": job, "restart": restart}))
        return sorted(found, key=lambda one: (one[0], one[1]))

    def _seen(self, w: float, luck: random.Random) -> float:
        for a, b in self.dead:
            if a <= w < b:
                return b + 0.5
        return w + luck.uniform(0.004, 0.02)

    def _boot(self, w: float) -> str:
        return [name for at, name in self.boots if at <= w][-1]

    def _line(self, w: float, **parts: Any) -> Json:
        at = [at for at, _ in self.boots if at <= w][-1]
        wall = WALL + w + sum(step for when, step in self.wall_steps if when <= w)
        return {"t": round(w - at, 6), "wall": round(wall, 3), **parts}

    # -- what -----------------------------------------------------------------------------------------------------

    def _node(self) -> Json:
        node = self.world.node
        told: Json = {"cpus": node.cpus, "mem_bytes": int(node.mem_gib * GIB), "gpus": list(node.gpus)}
        if len(node.packages) > 1:
            told["packages"] = node.packages
        if node.slices:
            told["slices"] = {name: {"gpu": gpu, "parts": parts} for name, (gpu, parts) in node.slices.items()}
        return told

    def _mark(self, job: Job, event: str) -> Json:
        mark: Json = {"event": event, "job": job.id, "uid": 1000}
        if job.restart:
            mark["restart"] = job.restart
        if event == "start":
            mark |= {"cpus": job.cpus, "mem_bytes": int(job.mem_gib * GIB), "gpus": list(job.gpus)}
            if job.gpu_percent is not None:
                mark["gpu_percent"] = job.gpu_percent
        return mark

    def _readings(self, w: float) -> Json:
        at = [at for at, _ in self.boots if at <= w][-1]
        read: Json = {}
        for sensor in self.sensors:
            self._tell(read, w, sensor.source, sensor.domain, sensor.read(self.world, w))
        tick = round(w / self.interval_s) * self.interval_s
        for meter in self.meters:
            on_time = abs(w - tick) < 0.004 and abs(tick / meter.every_s - round(tick / meter.every_s)) < 1e-6
            if on_time:
                self._tell(read, w, meter.source, meter.domain, meter.read(self.world, w, w - at))
        return read

    def _tell(self, read: Json, w: float, source: str, domain: str, reading: Json) -> None:
        name = f"node:{source}" if domain == "node" else domain
        told: Json | None = reading
        for fault in self.faults:
            told = fault(w, name, told) if told is not None else None
        if told is not None:
            read.setdefault(source, {})[domain] = told

    def _usage(self, w: float) -> Json:
        at = [at for at, _ in self.boots if at <= w][-1]
        node, world = self.world.node, self.world
        jobs: Json = {}
        by = dict.fromkeys(node.packages, 0.0)
        whole = sum(node.packages.values())
        for name, size in node.packages.items():
            by[name] += (world.system.until(w) - world.system.until(at)) * size / whole
        for job in world.jobs:
            if job.start < at:
                continue
            used = job.cores.until(w)
            on = job.on or node.packages
            for name in by:
                by[name] += used * on.get(name, 0) / sum(on.values())
            gone = w >= job.last
            if w < job.start + CGROUP_S or (gone and job.run in self._told_gone):
                continue
            if gone:
                self._told_gone.add(job.run)
            jobs[job.id] = self._used(job, w, used, gone=gone)
        told: Json = {"busy_cpu_s": round(floor(sum(by.values()) * 100) / 100, 2)}
        if len(node.packages) > 1:
            told["busy_cpu_s_by"] = {name: round(floor(used * 100) / 100, 2) for name, used in by.items()}
        memory = node.system_gib + sum(job.memory.at(w) for job in world.jobs if job.start >= at)
        return told | {"used_mem_bytes": int(memory * GIB), "jobs": jobs}

    def _used(self, job: Job, w: float, used: float, *, gone: bool) -> Json:
        packages = self.world.node.packages
        on = job.on or packages
        told: Json = {"cpu_s": round(used, 6), "mem_bytes": int(job.memory.at(w) * GIB)}
        told["mem_limit_bytes"] = int(job.mem_gib * GIB) or None
        if len(packages) > 1:
            told["cpu_s_by"] = {name: round(used * on.get(name, 0) / sum(on.values()), 6) for name in packages}
        if job.on:
            told["cpus_by"] = job.on
        if job.gpu_use:
            told["gpu_s"] = {gpu: round(job.use.until(w), 6) for gpu in job.gpus}
        if job.is_stopped(w):
            told["suspended"] = True
        return told | ({"gone": True} if gone else {})


def _in(w: float, spans: Sequence[Span]) -> bool:
    return any(a <= w < b for a, b in spans)


# -- faults ----------------------------------------------------------------------------------------------------------


def said(what: str, names: str, *spans: Span, why: str = "EIO") -> Fault:
    """The domains whose name begins like this are `failed` or `absent` for a time."""

    def fault(w: float, name: str, reading: Json) -> Json | None:
        return {what: why} if name.startswith(names) and _in(w, spans) else reading

    return fault


def missing(names: str, *spans: Span) -> Fault:
    """No word of them at all."""
    return lambda w, name, reading: None if name.startswith(names) and _in(w, spans) else reading


def frozen(names: str, *spans: Span) -> Fault:
    """What was said first in a span is said again and again."""
    first: dict[tuple[str, Span], Json] = {}

    def fault(w: float, name: str, reading: Json) -> Json | None:
        for span in spans:
            if name.startswith(names) and _in(w, [span]):
                kept = first.setdefault((name, span), reading)
                return reading | {key: kept[key] for key in ("uj", "w") if key in kept}
        return reading

    return fault


def shifted(names: str, uj: int, *spans: Span) -> Fault:
    """A counter that is off by this much for a time."""

    def fault(w: float, name: str, reading: Json) -> Json | None:
        if not name.startswith(names) or not _in(w, spans) or "uj" not in reading:
            return reading
        wrap = reading.get("max_uj") or 1 << 63
        return reading | {"uj": (reading["uj"] + uj) % wrap}

    return fault


def replaced(names: str, key: str, value: float, *spans: Span) -> Fault:
    """A nonsense value."""

    def fault(w: float, name: str, reading: Json) -> Json | None:
        return reading | {key: value} if name.startswith(names) and key in reading and _in(w, spans) else reading

    return fault
