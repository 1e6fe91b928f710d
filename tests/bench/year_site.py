"""A site's year for `tests.bench.year`: 12 nodes, 99 users in 5 accounts, jobs packed as a scheduler does.

Deterministic. Written as the daemon and a scheduler write: records in a file, and for each node runs, ledger, and
cumulative points at every start, full hour and end (the daemon's come once a minute), idle and system included.
"""

from __future__ import annotations

import json
import math
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.accounting.world import World

from jobimpact.core.nodefile import node_file, open_for_writing

__all__ = ["FROM_S", "HOUR", "LAST_S", "NODES", "TO_S", "YEAR", "Job", "Kind", "make"]

HOUR = 3600
YEAR = "2025"
FROM_S = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
TO_S = int(datetime(2026, 1, 10, tzinfo=UTC).timestamp())
"""Up to when the year is accounted for: December closes on the 6th."""
LAST_S = TO_S + 24 * HOUR
"""The next night."""
GIB = 2**30
INVENTORY = """
version: "2025-12"
pue: 1.3
types:
  v100:
    nodes: v100n[1-6]
    cpu: {model: Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz, count: 2, cores: 20}
    ram_gb: 384
    ram_modules: 12
    gpus: [{model: Tesla V100-SXM2-32GB, count: 4}]
    ssd_gb: [1920]
    purchased: 2019-09-01
    lifetime_years: 6
  a40:
    nodes: a40n[1-4]
    cpu: {model: AMD EPYC 7413 24-Core Processor, count: 2, cores: 24}
    ram_gb: 512
    ram_modules: 16
    gpus: [{model: NVIDIA A40, count: 4}]
    ssd_gb: [1920, 1920]
    purchased: 2022-01-15
    lifetime_years: 6
  cpu:
    nodes: cpun[1-2]
    cpu: {model: Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz, count: 2, cores: 20}
    ram_gb: 192
    ssd_gb: [960]
    purchased: 2019-09-01
    lifetime_years: 8
shared:
  switch: {count: 2, power_w: 150, gwp_kgco2e: [200, 300, 500], adp_kgsbe: 0.02, pe_mj: 4000, lifetime_years: 8}
"""


@dataclass(frozen=True)
class Kind:
    """A type of nodes, as the scheduler and the meters know it."""

    name: str
    cores: int
    mem_gib: int
    gpus: int
    gpu_w: float
    count: int


KINDS = {one.name: one for one in (
    Kind("v100", 40, 384, 4, 300.0, 6), Kind("a40", 48, 512, 4, 300.0, 4), Kind("cpu", 40, 192, 0, 0.0, 2),
)}  # fmt: skip
NODES = {f"{kind.name}n{number}": kind for kind in KINDS.values() for number in range(1, kind.count + 1)}


@dataclass(frozen=True)
class Job:
    """One incarnation."""

    id: str
    user: int
    submit: int
    start: float
    end: float
    node: str
    cpus: int
    mem_gib: int
    gpus: tuple[int, ...]
    state: str = "COMPLETED"
    exclusive: bool = False
    restart: int = 0

    def shares(self) -> tuple[float, float, float, float]:
        """Its part of its node's CPUs, memory, GPUs, and the largest of them: worked out anew, for checking."""
        kind = NODES[self.node]
        if self.exclusive:
            return 1.0, 1.0, float(bool(kind.gpus)), 1.0
        three = (
            min(self.cpus / kind.cores, 1.0),
            min(self.mem_gib / kind.mem_gib, 1.0),
            len(self.gpus) / kind.gpus if kind.gpus else 0.0,
        )
        return (*three, max(three))


@dataclass
class _Node:
    """When each GPU (or, without GPUs, each fifth of the cores) is free again."""

    name: str
    free: list[float] = field(default_factory=list)

    def place(self, submit: float, count: int) -> tuple[float, list[int]]:
        """The earliest time at which so many are free, and which."""
        order = sorted(range(len(self.free)), key=lambda slot: (self.free[slot], slot))[:count]
        return max(submit, *(self.free[slot] for slot in order)), order


def make(folder: Path, count: int) -> tuple[World, list[Job]]:
    """Write a site with so many jobs that end in its year."""
    config = {
        "cluster": "lab",
        "store": {"local": {"path": "nodes"}},
        "results": "sqlite:///results.db",
        "scheduler": {"local": {"path": "jobs.jsonl"}},
        "inventory": "nodes.yaml",
        "grid": {
            "zone": "FRA", "provider": "csv", "cache": "grid.db",
            "csv": {"path": "intensity.csv", "basis": "lifecycle"},
        },
    }  # fmt: skip
    world = World(folder, json.dumps(config), INVENTORY)
    jobs = _jobs(random.Random(2025), count)
    _write_records(world, jobs)
    _write_intensity(folder / "intensity.csv")
    for number, name in enumerate(NODES):
        _write_node(folder / "nodes", name, [one for one in jobs if one.node == name], random.Random(number))
    return world, jobs


def _jobs(chance: random.Random, count: int) -> list[Job]:
    """In order of submission: arrays of short tasks, jobs of hours, of days, of a week; whole nodes; requeues."""
    nodes = [_Node(name, [0.0] * (kind.gpus or 5)) for name, kind in NODES.items()]
    whole = count * (LAST_S - FROM_S) / (TO_S - FROM_S)
    """Jobs of the days after are there as well: a site does not stop."""
    found: list[Job] = []
    number = 1000
    while len(found) < whole:
        number += 1
        submit = FROM_S + int((LAST_S - FROM_S) * len(found) / whole + chance.expovariate(1 / 600))
        user = min(int(chance.paretovariate(0.9)) % 99, 98)
        what = chance.random()
        if what < 0.012:
            hours = chance.uniform(0.08, 0.7)
            found += [
                _placed(chance, nodes, f"{number}_{task}", user, submit, 1, hours * chance.uniform(0.8, 1.2))
                for task in range(chance.randint(10, 80))
            ]
        elif what < 0.60:
            found.append(_placed(chance, nodes, str(number), user, submit, 1, chance.lognormvariate(1.3, 1.2)))
        elif what < 0.84:
            gpus = chance.choice([2, 2, 3, 4])
            found.append(_placed(chance, nodes, str(number), user, submit, gpus, chance.lognormvariate(2.0, 1.0)))
        elif what < 0.90:
            hours = chance.lognormvariate(1.5, 1.0)
            found.append(_placed(chance, nodes, str(number), user, submit, 4, hours, exclusive=True))
        elif what < 0.904:
            found.append(
                _placed(chance, nodes, str(number), user, submit, chance.randint(1, 4), chance.uniform(140, 190))
            )
        elif what < 0.93:
            first = _placed(chance, nodes, str(number), user, submit, 1, chance.uniform(0.2, 6), state="REQUEUED")
            again = _placed(chance, nodes, str(number), user, int(first.end) + 120, 1, chance.uniform(1, 9), restart=1)
            found += [first, again]
        else:
            found.append(_placed(chance, nodes, str(number), user, submit, 1, chance.lognormvariate(0.5, 1.5)))
    return [one for one in found if one.start < LAST_S]


def _placed(
    chance: random.Random,
    nodes: list[_Node],
    job: str,
    user: int,
    submit: int,
    slots: int,
    hours: float,
    *,
    exclusive: bool = False,
    state: str | None = None,
    restart: int = 0,
) -> Job:
    """On one of three nodes, that which is free first; one in fifty asks for more than its GPUs' part of the node."""
    node = min(chance.sample(nodes, 3), key=lambda one: one.place(submit, slots)[0])
    kind = NODES[node.name]
    slots = min(slots, len(node.free))
    start, taken = node.place(submit, len(node.free) if exclusive else slots)
    start += chance.uniform(1, 20)
    end = start + max(20.0, min(hours, 200.0) * HOUR)
    for slot in taken:
        node.free[slot] = end
    part = slots / len(node.free)
    cpus = kind.cores if exclusive else max(1, int(kind.cores * part * chance.choice([0.5, 1, 1, 1])))
    mem = kind.mem_gib if exclusive else max(1, int(kind.mem_gib * part * chance.choice([0.25, 0.5, 1])))
    if not exclusive and chance.random() < 0.02:
        # --mem=0, or more CPUs than its part: the node is over-committed.
        mem, cpus = (kind.mem_gib, cpus) if chance.random() < 0.5 else (mem, kind.cores)
    ended = state or chance.choices(["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"], [85, 8, 4, 3])[0]
    gpus = tuple(sorted(taken)) if kind.gpus else ()
    return Job(
        job, user, submit, round(start, 1), round(end, 1), node.name, cpus, mem, gpus, ended, exclusive, restart
    )


def _write_records(world: World, jobs: list[Job]) -> None:
    with (world.folder / "jobs.jsonl").open("a", encoding="ascii") as file:
        for one in jobs:
            over = one.end < LAST_S
            line = {
                "id": one.id, "user": f"user{one.user:02d}", "account": f"team{one.user % 5}", "partition": "all",
                "name": "train", "state": one.state if over else "RUNNING", "exit_code": "0:0", "submit": one.submit,
                "start": one.start, "end": one.end if over else None, "nodes": [one.node], "cpus": one.cpus,
                "mem_bytes": one.mem_gib * GIB, "gpus": len(one.gpus), "exclusive": one.exclusive,
            }  # fmt: skip
            file.write(json.dumps(line) + "\n")


def _write_intensity(path: Path) -> None:
    """30 to 70 g, by day and season; a hundred hours are lacking."""
    chance = random.Random(7)
    lines = ["time,gco2e_per_kwh"]
    for at in range(FROM_S, LAST_S, HOUR):
        day = (at - FROM_S) / 86400
        grams = 45 + 15 * math.cos(2 * math.pi * day / 365) + 8 * math.sin(2 * math.pi * (day % 1))
        if chance.random() > 0.0115:
            lines.append(f"{at},{grams + chance.uniform(-2, 2):.1f}")
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _write_node(folder: Path, name: str, jobs: list[Job], chance: random.Random) -> None:
    """A node's file: what each run drew by domain, and what was left to idle and system."""
    kind = NODES[name]
    db = open_for_writing(node_file(folder, name))
    db.execute("PRAGMA synchronous=OFF")
    db.execute("BEGIN")
    gpus = [f"GPU-{name}-{number}" for number in range(kind.gpus)]
    domains = [("package-0", "cpu", "rapl"), ("package-1", "cpu", "rapl"), ("rest", "rest", "redfish")]
    domains += [(f"gpu:{gpu}", "gpu", "nvml") for gpu in gpus]
    span_ns = (LAST_S - FROM_S) * 10**9
    free = {domain: [1.0] * ((LAST_S - FROM_S) // HOUR) for domain, _, _ in domains}
    """By hour, the part of each that nobody holds."""
    for one in jobs:
        end = min(one.end, float(LAST_S))
        cpu, _, _, most = one.shares()
        mean_w = {"package-0": 120 * cpu, "package-1": 120 * cpu, "rest": 250 * most}
        mean_w |= {f"gpu:{gpus[gpu]}": chance.uniform(0.3, 0.9) * kind.gpu_w for gpu in one.gpus}
        held = dict.fromkeys(mean_w, 1.0) | {"package-0": cpu, "package-1": cpu, "rest": most}
        _write_run(db, one, end, [gpus[gpu] for gpu in one.gpus], mean_w, len(one.gpus) / max(kind.gpus, 1))
        for hour, seconds in _hours(one.start, end):
            for domain, part in held.items():
                left = free[domain]
                left[hour] = max(left[hour] - part * seconds / HOUR, 0.0)
    idle_w = {"cpu": 35.0, "gpu": 28.0, "rest": 140.0}
    for domain, domain_kind, source in domains:
        measured = db.execute("SELECT coalesce(sum(uj), 0) FROM ledger WHERE domain = ?", (domain,)).fetchone()[0]
        measured += _write_free(db, domain, free[domain], idle_w[domain_kind], 4.0 if domain_kind == "cpu" else 0.0)
        method = "gauge" if domain_kind == "rest" else "counter"
        db.execute("INSERT INTO domain VALUES (?, ?, ?, ?, ?, 0, ?, NULL)",
                   (domain, domain_kind, source, method, measured, span_ns))  # fmt: skip
    db.execute("COMMIT")
    db.close()


def _hours(start: float, end: float) -> Iterator[tuple[int, float]]:
    """Numbers of the year's hours, and seconds in each."""
    for hour in range(int(start - FROM_S) // HOUR, int(end - FROM_S - 1e-6) // HOUR + 1):
        from_s = FROM_S + hour * HOUR
        yield hour, min(end, from_s + HOUR) - max(start, from_s)


def _write_run(
    db: sqlite3.Connection, one: Job, end: float, gpus: list[str], mean_w: dict[str, float], gpu_share: float
) -> None:
    key = one.id if one.restart == 0 else f"{one.id}#{one.restart}"
    elapsed_ns = round((end - one.start) * 1e9)
    over = one.end < LAST_S
    held = json.dumps({"gpu": round(gpu_share * elapsed_ns)})
    row = (key, one.id, one.restart, 1000 + one.user, one.cpus, one.mem_gib * GIB, json.dumps(gpus), one.start)
    row += (one.end if over else None, elapsed_ns, "ended" if over else "open", "[]", held)
    db.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}')", row)
    edges = [one.start, *range(int(one.start // HOUR + 1) * HOUR, math.ceil(end), HOUR), end]
    for domain, watts in mean_w.items():
        points = [
            (key, domain, at, round(watts * (at - one.start) * 1e6), round((at - one.start) * 1e9)) for at in edges
        ]
        db.executemany("INSERT OR REPLACE INTO job_energy VALUES (?, ?, ?, ?, ?)", points)
        db.execute("INSERT INTO ledger VALUES (?, ?, ?, ?)", (domain, key, *points[-1][3:]))


def _write_free(db: sqlite3.Connection, domain: str, free: list[float], idle_w: float, system_w: float) -> int:
    """Points of idle and system at each full hour; what they come to."""
    idle = system = 0
    points = [("idle", domain, float(FROM_S), 0, 0)]
    for number, part in enumerate(free, 1):
        idle += round(part * idle_w * HOUR * 1e6)
        system += round(system_w * HOUR * 1e6)
        at, known_ns = float(FROM_S + number * HOUR), number * HOUR * 10**9
        points.append(("idle", domain, at, idle, known_ns))
        if system:
            points.append(("system", domain, at, system, known_ns))
    db.executemany("INSERT INTO job_energy VALUES (?, ?, ?, ?, ?)", points)
    for holder, uj in (("idle", idle), ("system", system)):
        db.execute("INSERT INTO ledger VALUES (?, ?, ?, ?)", (domain, holder, uj, len(free) * HOUR * 10**9))
    return idle + system
