"""A fault recording: a node, its jobs, its meters, what goes wrong, and how near the truth the books must be.

A tolerance is joules plus a part of the truth, for every holder alike, and the physical limit that asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.daemon.faults.tape import (
    INTEL_UJ,
    Fault,
    J,
    Sensor,
    Span,
    Tape,
)
from tests.daemon.faults.world import Job, Node, World


@dataclass(frozen=True)
class Within:
    """How far from the truth a holder may be."""

    j: float
    part: float
    why: str

    def of(self, truth_j: float) -> float:
        """In joules."""
        return self.j + self.part * truth_j


EDGES = Within(3, 0.0002, "counters renew every ms, CPU ticks are 10 ms")
TICK = Within(12, 0.0005, "loads that change inside a tick are split by the tick's CPU time")
METER = Within(150, 0.002, "a wattmeter of 1 s, windows of 10 s")
NVML = Within(12, 0.0002, "NVML renews every 0.1 s: 50 W x 0.1 s at each edge")


@dataclass
class Story:
    """One recording, and what its books must come to."""

    name: str
    what: str
    make: Callable[[], Tape]
    within: Within = TICK
    watch: str = "A"
    """The holder that the table shows."""
    others: Within | None = None
    """For everybody but the one who is watched, if that is another."""
    idle_w: Mapping[str, float] = field(default_factory=dict)
    hidden: Mapping[str, Sequence[Span]] = field(default_factory=dict)
    """Times, by domain, whose energy nobody can know from this recording."""
    off: Sequence[Span] = ()
    """Times outside the books: the machine is down."""
    told: Sequence[tuple[str, str]] = ()
    """Findings that there must be: kind, subject."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """A flag that a run must have."""
    doubt: Sequence[str] = ()
    """Runs that must be told that their rest of the node is not sure: by a flag, or by its coverage."""
    states: Mapping[str, str] = field(default_factory=dict)
    meter: str | None = None
    """The node's meter that the books must come to, to the microjoule."""
    plain: Literal["", "sum", "share"] = ""
    """Where a plain tool is wrong, if that is the point: in the node's sum, or in the shares of the watched holder."""
    unknown_s: float = 0.01
    """What may be told as unknown without a fault: what is pending at the end."""
    domains: Sequence[str] = ()
    """The domains that count; all by default."""
    law: str = ""
    """The law that the books break: the test is expected to fail until they do not."""

    @property
    def job(self) -> str:
        """The job id of the watched holder, as a plain tool knows it."""
        return self.watch.partition("#")[0]


PACKAGES = {"package-0": 40.0, "package-1": 40.0, "dram-0": 8.0}
BOTH = ("package-0", "package-1")


def cpu_jobs() -> list[Job]:
    """A: twelve cores of the first package at up to 88 W; B: eight cores on both, with a break."""
    return [
        Job(
            "A",
            60.3,
            480.7,
            12,
            32,
            load=[(60.6, 10), (300.4, 11), (480.2, 0)],
            core_w=7,
            on={"package-0": 12},
            used_gib=[(60.6, 12)],
        ),
        Job(
            "B",
            150.2,
            540.1,
            8,
            16,
            load=[(150.6, 6), (250.9, 0.5), (330.3, 7.5), (539.7, 0)],
            core_w=4,
            used_gib=[(150.6, 6)],
        ),
    ]


def rapl(
    world: World, max_uj: int = INTEL_UJ, max_w: float = 375.0, start_uj: int = 7 * J, **more: object
) -> list[Sensor]:
    """RAPL of every package and the memory."""
    names = [*world.node.packages, *(["dram-0"] if world.node.dram else [])]
    return [Sensor(name, "rapl", max_uj=max_uj, max_w=max_w, start_uj=start_uj, **more) for name in names]  # type: ignore[arg-type]


def nvml(world: World, refresh_s: float = 0.1, max_w: float = 1000.0, **more: object) -> list[Sensor]:
    """NVML's counters."""
    return [
        Sensor(f"gpu:{gpu}", "nvml", refresh_s, 1000.0, max_w=max_w, start_uj=123 * J, told_epoch=True, **more)  # type: ignore[arg-type]
        for gpu in world.node.gpus
    ]


def cpus(
    jobs: Sequence[Job] | None = None,
    until: float = 600.0,
    node: Node | None = None,
    sensors: Callable[[World], list[Sensor]] = rapl,
    **tape: object,
) -> Callable[[], Tape]:
    """A CPU node's tape."""

    def make() -> Tape:
        world = World(node or Node(), cpu_jobs() if jobs is None else jobs, until)
        return Tape(world, sensors(world), **tape)  # type: ignore[arg-type]

    return make


def gpus(
    jobs: Sequence[Job] | None = None,
    until: float = 600.0,
    node: Node | None = None,
    sensors: Callable[[World], list[Sensor]] = lambda world: rapl(world) + nvml(world),
    faults: Callable[[], Sequence[Fault]] = tuple,
    **tape: object,
) -> Callable[[], Tape]:
    """A GPU node's tape."""

    def make() -> Tape:
        world = World(node or gpu_node(), gpu_jobs() if jobs is None else jobs, until)
        return Tape(world, sensors(world), faults=faults(), **tape)  # type: ignore[arg-type]

    return make


def gpu_node(**more: object) -> Node:
    return Node(gpus=("GPU-a", "GPU-b"), **more)  # type: ignore[arg-type]


def gpu_jobs() -> list[Job]:
    """A holds the first GPU at 350 W and then 200, B the second for a while."""
    return [
        Job(
            "A",
            50.3,
            500.7,
            4,
            16,
            ("GPU-a",),
            load=[(50.9, 3), (500.1, 0)],
            gpu_w=[(52.4, 300), (310.7, 150), (499.8, 0)],
        ),
        Job("B", 200.6, 400.2, 4, 16, ("GPU-b",), load=[(201, 2), (399.9, 0)], gpu_w=[(202.2, 220), (399.5, 0)]),
    ]


def longer(jobs: list[Job]) -> list[Job]:
    """The same, twice as long."""
    return [
        Job(
            job.run,
            job.start,
            2 * job.end,
            job.cpus,
            job.mem_gib,
            job.gpus,
            load=[(w if w < 250 else 2 * w, cores) for w, cores in job.load],
            gpu_w=[(w if w < 250 else 2 * w, watts) for w, watts in job.gpu_w],
        )
        for job in jobs
    ]
