"""Readings and daemons that fail, reboots, suspends, clocks."""

from __future__ import annotations

from tests.daemon.faults.story import (
    BOTH,
    NVML,
    PACKAGES,
    Story,
    Within,
    cpu_jobs,
    cpus,
    gpus,
    rapl,
)
from tests.daemon.faults.tape import (
    Meter,
    frozen,
    said,
)
from tests.daemon.faults.world import Job, Node


def silences() -> list[Story]:
    """Failed reads, dead daemons, reboots, suspends, clocks."""
    short = Job("C", 244.2, 249.7, 4, 8, load=[(244.5, 4), (249.4, 0)], core_w=5)
    gap = Within(60, 0.001, "a gap's energy goes by the CPU time and cores of the whole gap")
    return [
        Story(
            "one domain fails",
            "package-0 cannot be read for 60 s; B begins meanwhile",
            cpus(faults=[said("failed", "package-0", (121, 181))]),
            gap,
            idle_w=PACKAGES,
            told=[("failed", "package-0")],
            flags={"A": "package-0 gap"},
        ),
        Story(
            "all domains fail",
            "no counter can be read for 60 s",
            cpus(faults=[said("failed", ("package", "dram"), (121, 181))]),
            gap,
            idle_w=PACKAGES,
            told=[("failed", "dram-0")],
            flags={"B": "dram-0 gap"},
        ),
        Story(
            "dead for 20 s",
            "no daemon for 20 s; a job of 5 s comes and goes meanwhile",
            cpus([*cpu_jobs(), short], dead=[(235.1, 255.1)]),
            gap,
            idle_w=PACKAGES,
            flags={"C": "interpolated"},
        ),
        Story(
            "dead for 10 min",
            "no daemon for ten minutes; B ends and C runs meanwhile",
            cpus(
                [
                    Job("A", 60.3, 1100.7, 12, 32, load=[(60.6, 10), (1100.2, 0)], core_w=6, used_gib=[(60.6, 12)]),
                    Job("B", 150.2, 500.1, 8, 16, load=[(150.6, 8), (499.7, 0)], core_w=5, used_gib=[(150.6, 6)]),
                    Job(
                        "C",
                        450.2,
                        700.5,
                        8,
                        16,
                        load=[(450.6, 8), (700, 0)],
                        core_w=5,
                        used_gib=[(450.6, 6)],
                        dies=700.5,
                    ),
                ],
                1200,
                dead=[(300.1, 900.1)],
            ),
            Within(
                300,
                0.005,
                "ten minutes' energy goes by the CPU time of the"
                " gap; what C used while nobody looked is its cgroup's last word",
            ),
            idle_w=PACKAGES,
            flags={"B": "end interpolated", "C": "start interpolated"},
        ),
        Story(
            "reboot",
            "the node boots anew in mid job: the run ends at the last reading, another begins",
            cpus(
                [
                    Job("A", 60.3, 301, 12, 32, load=[(60.6, 10)], core_w=6, start_mark=0.0, end_mark=None),
                    Job("D", 460.3, 560.2, 8, 16, load=[(460.7, 8), (559.9, 0)]),
                ],
                600,
                Node(off=((301.0, 400.0),)),
                lambda world: rapl(world, resets=[(400.0, 0)]),
                boots=[(0.0, "b1"), (390.0, "b2")],
            ),
            idle_w=PACKAGES,
            off=[(300, 400)],
            told=[("reboot", "A")],
            states={"A": "rebooted", "D": "ended"},
            plain="sum",
        ),
        Story(
            "machine suspended",
            "boot time jumps by an hour: no energy comes of it, and what little there was is told",
            cpus(
                [Job("A", 60.3, 4100.7, 12, 32, load=[(60.6, 10), (301, 0), (3901, 10), (4100.2, 0)], core_w=6)],
                4200,
                Node(off=((301.0, 3901.0),)),
                interval_s=4.0,
            ),
            idle_w=PACKAGES,
            hidden={name: [(300, 3904)] for name in (*BOTH, "dram-0")},
            told=[("ambiguous", "package-0")],
        ),
        Story(
            "wall clock steps",
            "an hour back, two forth: order and durations are boot time's",
            gpus(
                sensors=lambda world: rapl(world),
                meters=[
                    Meter("nvml", f"gpu:{gpu}", every_s=2.0, average_s=0.1, step_w=0.001, own_time=False)
                    for gpu in ("GPU-a", "GPU-b")
                ],
                wall_steps=[(211.0, -3600.0), (351.0, 7200.0)],
            ),
            Within(350, 0.002, "a gauge every 2 s: P x 1 s at each edge"),
            idle_w=PACKAGES,
            plain="sum",
        ),
        Story(
            "NVML hangs",
            "timeouts for 40 s, in between two answers that were true before",
            gpus(
                faults=lambda: [
                    frozen("gpu", (231, 271)),
                    said("failed", "gpu", (233, 247), (249, 259), (261, 271), why="timeout"),
                ]
            ),
            NVML,
            idle_w=PACKAGES,
            told=[("failed", "gpu:GPU-a")],
        ),
        Story(
            "GPU lost and back",
            "the driver does not list it for 90 s; its counter goes on",
            gpus(faults=lambda: [said("absent", "gpu:GPU-a", (231, 321), why="not listed")]),
            NVML,
            idle_w=PACKAGES,
            told=[("absent", "gpu:GPU-a")],
            flags={"A": "gpu:GPU-a gap"},
        ),
        Story(
            "GPU gone for good",
            "from the fifth minute on it is not there any more: unknown, not zero",
            gpus(faults=lambda: [said("absent", "gpu:GPU-a", (301, 999), why="gpu is lost")]),
            NVML,
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(300, 600)]},
            told=[("absent", "gpu:GPU-a")],
        ),
        Story(
            "driver loaded late",
            "the GPUs' counters appear an hour after the job began",
            gpus(
                [
                    Job(
                        "A",
                        50.3,
                        4100.7,
                        4,
                        16,
                        ("GPU-a",),
                        load=[(50.9, 3), (4100.1, 0)],
                        gpu_w=[(52.4, 300), (4100, 0)],
                    )
                ],
                4200,
                interval_s=20.0,
                faults=lambda: [said("absent", "gpu", (0, 3601), why="no driver")],
            ),
            Within(60, 0.001, "ticks of 20 s"),
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(0, 3620)], "gpu:GPU-b": [(0, 3620)]},
            told=[("absent", "gpu:GPU-a")],
        ),
        Story(
            "use not read",
            "no CPU times for two minutes: counters wait ten seconds, then split by what is held",
            cpus(blind=[(181, 301)]),
            Within(550, 0.03, "two minutes without CPU times are split by cores"),
            idle_w=PACKAGES,
        ),
    ]
