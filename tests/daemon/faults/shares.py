"""Nodes that several jobs share, and who used what."""

from __future__ import annotations

from tests.daemon.faults.story import (
    EDGES,
    NVML,
    PACKAGES,
    Story,
    Within,
    cpus,
    gpus,
)
from tests.daemon.faults.tape import (
    Meter,
)
from tests.daemon.faults.world import Job, Node


def shares() -> list[Story]:
    """Nodes that several jobs share."""
    pinned = {"package-0": 16}, {"package-1": 16}
    sockets = [
        Job("A", 20.3, 500.7, 16, 64, load=[(20.7, 16), (500.3, 0)], core_w=13.125, on=pinned[0]),
        Job("B", 20.4, 500.6, 16, 64, load=[(20.8, 10), (500.2, 0)], core_w=5, on=pinned[1]),
    ]
    uneven = [
        Job("A", 20.3, 500.7, 16, 64, load=[(20.7, 15), (200.3, 3), (500.3, 0)], core_w=6),
        Job("B", 20.4, 500.6, 16, 64, load=[(20.8, 2), (300.9, 12), (500.2, 0)], core_w=6),
    ]
    eight = tuple(f"GPU-{i}" for i in range(8))
    big = Node(128, 1024, {"package-0": 64, "package-1": 64}, eight, cpu_idle_w=90, rest_w=400)
    beside = [
        Job("A", 20.3, 540.7, 8, 256, eight, load=[(20.7, 6), (540.3, 0)], core_w=3.5, gpu_w=[(25, 350), (540, 0)]),
        Job("B", 60.4, 500.6, 112, 512, load=[(60.8, 110), (500.2, 0)], core_w=2.2),
    ]
    crowd = [
        Job("A", 20.3, 500.7, 24, 64, load=[(20.7, 16), (500.3, 0)]),
        Job("B", 20.4, 500.6, 24, 64, load=[(20.8, 8), (500.2, 0)]),
    ]
    mps = Node(gpus=("GPU-a",), gpu_idle_w=60, slice_w=320)
    mps_jobs = [
        Job(
            "A",
            20.3,
            500.7,
            4,
            16,
            ("GPU-a",),
            load=[(20.7, 1), (500.3, 0)],
            gpu_use=[(22, 0.75), (500, 0)],
            gpu_percent=50,
        ),
        Job(
            "B",
            20.9,
            500.6,
            4,
            16,
            ("GPU-a",),
            load=[(21.3, 1), (500.2, 0)],
            gpu_use=[(22, 0.25), (500, 0)],
            gpu_percent=50,
        ),
    ]
    mig = Node(gpus=("GPU-a",), slices={"MIG-3": ("GPU-a", 3), "MIG-2": ("GPU-a", 2)}, gpu_idle_w=70, slice_w=420)
    mig_jobs = [
        Job("A", 20.3, 500.7, 4, 16, ("MIG-3",), load=[(20.7, 1), (500.3, 0)], gpu_use=[(22, 0.9), (500, 0)]),
        Job("B", 100.9, 400.6, 4, 16, ("MIG-2",), load=[(101.3, 1), (400.2, 0)], gpu_use=[(102, 0.5), (400, 0)]),
    ]
    memory = Node(gib_w=0.6, dram_idle_w=30, mem_gib=512)
    heavy = [
        Job("A", 20.3, 500.7, 2, 400, load=[(20.7, 1), (500.3, 0)], used_gib=[(21, 100), (150, 380), (500.2, 0)]),
        Job("B", 20.4, 500.6, 24, 16, load=[(20.8, 22), (500.2, 0)], used_gib=[(21, 8), (500.2, 0)]),
    ]
    day = 7200.0
    quiet = Job("A", day + 60.4, day + 660.7, 8, 32, load=[(day + 60.8, 7), (day + 660.3, 0)], core_w=6)
    return [
        Story(
            "two jobs on a package",
            "the same cores, CPU times of 15 to 2 and then 3 to 12",
            cpus(uneven),
            EDGES,
            idle_w=PACKAGES,
        ),
        Story("two sockets", "one job each, at 250 and 90 W", cpus(sockets), EDGES, idle_w=PACKAGES, plain="share"),
        Story(
            "8 GPUs, 8 of 128 cores",
            "beside a job on 112 cores, under a wattmeter",
            gpus(beside, 600, big, meters=[Meter("wattmeter", every_s=2.0, step_w=0.1)]),
            Within(1600, 0.001, "windows of 10 s: at the edges of A 2.8 kW x 1 s"),
            idle_w={"package-0": 90.0, "package-1": 90.0, "dram-0": 8.0},
            meter="wattmeter",
            plain="share",
        ),
        Story("over-committed cores", "two jobs of 24 cores each on 32", cpus(crowd), EDGES, idle_w=PACKAGES),
        Story(
            "MPS, 3 to 1",
            "two jobs share a GPU by halves and use it 3 to 1",
            gpus(mps_jobs, 600, mps),
            NVML,
            idle_w={**PACKAGES, "gpu:GPU-a": 60.0},
            plain="share",
        ),
        Story(
            "MIG, 3g and 2g",
            "two slices held, two sevenths nobody's",
            gpus(mig_jobs, 600, mig),
            NVML,
            idle_w={**PACKAGES, "gpu:GPU-a": 70.0},
            plain="share",
        ),
        Story(
            "memory-heavy job",
            "400 of 512 GiB and a core, beside 22 busy cores with 16 GiB",
            cpus(heavy, node=memory),
            Within(20, 0.001, "memory that changes inside a tick: 280 GiB x 0.6 W/GiB x 1 s / 2"),
            idle_w={**PACKAGES, "dram-0": 30.0},
            plain="share",
        ),
        Story(
            "idle for hours, then busy",
            "nobody told the idle power: it is learned while nothing runs",
            cpus([quiet], day + 720, Node(system=((0.0, 0.02),), system_gib=0.0), interval_s=20.0),
            Within(60, 0.002, "ticks of 20 s"),
            others=Within(5600, 0.01, "in the first minute it is not known: 88 W x 60 s go by use, to the system"),
            plain="share",
        ),
    ]
