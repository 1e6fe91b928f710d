"""Several things at once: bursts, short jobs in a row, bad days, parts that fail under a meter."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.daemon.faults.story import (
    METER,
    NVML,
    PACKAGES,
    Story,
    Within,
    cpus,
    gpu_node,
    gpus,
    nvml,
    rapl,
)
from tests.daemon.faults.tape import (
    AMD_UJ,
    Fault,
    Json,
    Meter,
    Sensor,
    Tape,
    frozen,
    missing,
    said,
)
from tests.daemon.faults.world import Job, Node, World


def crowds() -> list[Story]:
    """Bursts, short jobs in a row, and days on which everything goes wrong."""
    luck = random.Random(5)
    flicker = [
        Job(run, 20.3 + i, 280.7, 12, 32, load=_bursts(luck, 21.5 + i, 280, 12), core_w=core_w, used_gib=[(22, 4)])
        for i, (run, core_w) in enumerate((("A", 8.0), ("B", 3.0)))
    ]
    row = [
        Job(
            f"J{i}",
            10.2 + 1.37 * i,
            11.3 + 1.37 * i,
            32,
            64,
            load=[(10.26 + 1.37 * i, 5 + i % 25), (11.27 + 1.37 * i, 0)],
        )
        for i in range(200)
    ]
    turns = [
        Job(
            f"T{i}",
            20 + 20.0 * i,
            40 + 20.0 * i,
            4,
            16,
            ("GPU-a",),
            load=[(20.5 + 20 * i, 3), (39.5 + 20 * i, 0)],
            gpu_w=[(20.8 + 20 * i, 100 + 30.0 * (i % 7)), (39.2 + 20 * i, 0)],
        )
        for i in range(25)
    ]
    wattmeter = Meter("wattmeter", every_s=2.0, step_w=0.1)
    gone = [Job("A", 50.3, 1200.7, 4, 16, ("GPU-a",), load=[(50.9, 3)], gpu_w=[(52.4, 300)])]
    return [
        Story(
            "bursts",
            "two jobs flicker at 0.2 to 0.9 s with cores of 8 and 3 W, readings every second",
            cpus(flicker, 300, interval_s=1.0),
            Within(
                60, 0.05, "inside a tick CPU time is all that is known: the flicker of 8 W cores is averaged with 3 W"
            ),
            idle_w=PACKAGES,
        ),
        Story(
            "200 jobs of a second",
            "one after the other, 0.27 s between them",
            cpus(row, 300, interval_s=1.0),
            Within(1.5, 0.005, "ticks of 10 ms"),
            idle_w=PACKAGES,
            watch="J77",
        ),
        Story(
            "a GPU from hand to hand",
            "25 jobs hold it for 20 s each, without a break",
            gpus(turns, 560, interval_s=1.0),
            Within(10, 0.001, "NVML renews every 0.1 s: 50 W x 0.1 s at either edge"),
            idle_w=PACKAGES,
            watch="T13",
        ),
        Story(
            "a bad day",
            "six hours: jobs come and go, one reading of a hundred fails, wraps, dead twice, late marks",
            _bad_day(11),
            Within(60, 0.002, "ticks of 10 s, gaps by CPU time"),
            idle_w=PACKAGES,
            watch="J7",
        ),
        Story(
            "another bad day",
            "the same with other luck",
            _bad_day(12),
            Within(60, 0.002, "as above"),
            idle_w=PACKAGES,
            watch="J7",
        ),
        Story(
            "GPU lost under a wattmeter",
            "not listed for 90 s: the rest waits for its counter",
            gpus(meters=[wattmeter], faults=lambda: [said("absent", "gpu:GPU-a", (231, 321), why="not listed")]),
            METER,
            idle_w=PACKAGES,
            flags={"A": "gpu:GPU-a gap"},
            meter="wattmeter",
        ),
        Story(
            "GPU starts anew under a wattmeter",
            "the GPUs' counters start anew: 2 s of them are unknown",
            gpus(meters=[wattmeter], sensors=lambda world: rapl(world) + nvml(world, resets=[(301.0, 0)])),
            Within(800, 0.002, "the 2 s of the GPUs that are not known are seen by the wattmeter, as rest"),
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(300, 302)], "gpu:GPU-b": [(300, 302)]},
            told=[("reset", "gpu:GPU-a")],
            meter="wattmeter",
        ),
        Story(
            "dead under a wattmeter",
            "no daemon for 100 s: gauges' energy is gone, counters' is not",
            gpus(meters=[wattmeter], dead=[(231.1, 331.1)]),
            METER,
            idle_w=PACKAGES,
            hidden={"rest": [(230, 334)]},
        ),
        Story(
            "node's counter",
            "joules of the whole node at 10 Hz, as Cray's; it starts anew once",
            gpus(
                sensors=lambda world: [
                    *rapl(world),
                    *nvml(world),
                    Sensor("node", "pmcounters", 0.1, 1e6, max_w=5000.0, resets=[(301.0, 0)], told_epoch=True),
                ]
            ),
            METER,
            idle_w=PACKAGES,
            hidden={"rest": [(300, 302)]},
            told=[("reset", "node:pmcounters")],
        ),
        Story(
            "reboot under a BMC",
            "the node boots anew in mid job, with GPUs and a wattmeter",
            gpus(
                [Job("A", 60.3, 301, 12, 32, ("GPU-a",), load=[(60.6, 10)], gpu_w=[(62, 250)], end_mark=None)],
                600,
                gpu_node(off=((301.0, 400.0),)),
                meters=[wattmeter],
                boots=[(0.0, "b1"), (390.0, "b2")],
                sensors=lambda world: rapl(world, resets=[(400.0, 0)]) + nvml(world, resets=[(400.0, 0)]),
            ),
            Within(750, 0.002, "the meter's first reading of the new boot averages a second before it"),
            idle_w=PACKAGES,
            off=[(300, 400)],
            told=[("reboot", "A")],
            states={"A": "rebooted"},
        ),
        Story(
            "id used again",
            "the same job id without a restart count, after its end",
            cpus(
                [
                    Job("A", 60.3, 200.7, 12, 32, load=[(60.6, 10), (200.3, 0)]),
                    Job("A#1", 300.4, 400.2, 12, 32, load=[(300.8, 10), (399.9, 0)], job="A"),
                ]
            ),
            idle_w=PACKAGES,
            watch="A#1",
            states={"A": "ended", "A#1": "ended"},
        ),
        Story(
            "idle GPU without a counter",
            "50 W whatever the CPUs do: a GPU that nobody uses is not stuck",
            gpus(
                [
                    Job(
                        "A",
                        60.3,
                        1100.7,
                        12,
                        32,
                        load=[(w + 0.6, 12.0 if w // 60 % 2 else 2.0) for w in range(60, 1100, 60)],
                    )
                ],
                1200,
                sensors=rapl,
                meters=[
                    Meter("nvml", f"gpu:{name}", every_s=2.0, average_s=0.1, own_time=False)
                    for name in ("GPU-a", "GPU-b")
                ],
            ),
            Within(60, 0.002, "0.5 W"),
            idle_w=PACKAGES,
        ),
        Story(
            "GPU gone, steady node",
            "gone for good under a wattmeter, all else at one power: the meter is not stuck",
            gpus(
                [*gone, Job("B", 60.3, 1200.9, 16, 64, load=[(60.9, 10)])],
                1300,
                meters=[wattmeter],
                faults=lambda: [said("absent", "gpu:GPU-a", (301, 9999), why="gpu is lost")],
            ),
            NVML,
            watch="B",
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(300, 1300)]},
            domains=["package-0", "package-1", "dram-0", "gpu:GPU-a", "gpu:GPU-b"],
            doubt=["A", "B"],
            told=[("absent", "gpu:GPU-a")],
        ),
        Story(
            "GPU gone, busy node",
            "the same beside a load that changes: who bears what the plug sees of it is told",
            gpus(
                [*gone, Job("B", 60.3, 1200.9, 16, 64, load=[(60.9 + 50 * i, 2.0 + 4 * (i % 4)) for i in range(22)])],
                1300,
                meters=[wattmeter],
                faults=lambda: [said("absent", "gpu:GPU-a", (301, 9999), why="gpu is lost")],
            ),
            NVML,
            watch="B",
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(300, 1300)]},
            domains=["package-0", "package-1", "dram-0", "gpu:GPU-a", "gpu:GPU-b"],
            doubt=["A", "B"],
            told=[("absent", "gpu:GPU-a")],
        ),
        Story(
            "GPU stuck under a wattmeter",
            "its counter says the same for 200 s: the wattmeter sees what it draws, and the rest is not sure",
            gpus(
                [*gone, Job("B", 60.3, 1200.9, 16, 64, load=[(60.9 + 50 * i, 2.0 + 4 * (i % 4)) for i in range(22)])],
                1300,
                meters=[wattmeter],
                sensors=lambda world: rapl(world) + nvml(world, max_w=500.0),
                faults=lambda: [frozen("gpu:GPU-a", (301, 501))],
            ),
            Within(720, 0.0002, "up to a tick of 2 s before it is stuck, and one after"),
            watch="B",
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(302, 502)]},
            domains=["package-0", "package-1", "dram-0", "gpu:GPU-a", "gpu:GPU-b"],
            told=[("stuck", "gpu:GPU-a"), ("jump", "gpu:GPU-a")],
            doubt=["A", "B"],
        ),
        Story(
            "steady node, a part not told of",
            "no word of a GPU for 100 s under a wattmeter, all else at one power: the meter is not stuck",
            gpus(
                [*gone, Job("B", 60.3, 1200.9, 16, 64, load=[(60.9, 10)])],
                1300,
                meters=[wattmeter],
                faults=lambda: [missing("gpu:GPU-a", (301, 401))],
            ),
            METER,
            watch="B",
            idle_w=PACKAGES,
        ),
        Story(
            "idle BMC with a clock of its own",
            "an idle node's BMC samples every 7 s, and is asked every 10 s",
            gpus(
                meters=[Meter("redfish", every_s=10)],
                node=gpu_node(system=((0.0, 0.1),)),
                jobs=[],
                until=1200,
                faults=lambda: [_every_seven],
            ),
            Within(300, 0.002, "windows of 150 s"),
            watch="idle",
            idle_w=PACKAGES,
        ),
        Story(
            "meter back with an old sample",
            "after 50 s of silence the BMC says once more what it said before",
            gpus(
                meters=[Meter("redfish", every_s=10)],
                node=gpu_node(system=((0.0, 0.0),)),
                jobs=[],
                faults=lambda: [_repeats(), said("failed", "node", (301, 351))],
            ),
            Within(300, 0.002, "windows of 150 s"),
            watch="idle",
            idle_w=PACKAGES,
            hidden={"rest": [(300, 370)]},
            told=[("failed", "node:redfish")],
        ),
        Story(
            "meter back with a late sample",
            "after 50 s of silence the BMC's sample is one of the silence",
            gpus(
                meters=[Meter("redfish", every_s=10)],
                faults=lambda: [_late_answer, said("failed", "node", (301, 351))],
            ),
            Within(300 + 15 * 800, 0.002, "a sample's own time is trusted: 15 s of what is told as unknown are in it"),
            idle_w=PACKAGES,
            hidden={"rest": [(300, 360)]},
            told=[("failed", "node:redfish")],
        ),
    ]


def _bursts(luck: random.Random, a: float, b: float, cores: int) -> list[tuple[float, float]]:
    found = []
    while a < b:
        found.append((a, luck.choice([0.0, 0.5, cores / 2, float(cores)])))
        a += luck.uniform(0.2, 0.9)
    return [*found, (b, 0.0)]


def _bad_day(seed: int) -> Callable[[], Tape]:
    luck = random.Random(seed)
    jobs = []
    for i in range(40):
        a = luck.uniform(100, 19_000)
        b = a + luck.choice([20, 200, 900, 2500]) * luck.uniform(0.8, 1.2)
        n = luck.choice([2, 4, 8])
        load = [(a + 0.5, n * luck.uniform(0.2, 1)), ((a + b) / 2, n * luck.uniform(0.2, 1)), (b - 0.4, 0.0)]
        jobs.append(
            Job(
                f"J{i}",
                a,
                b,
                n,
                4.0 * n,
                load=load,
                core_w=5,
                used_gib=[(a + 0.5, 2.0 * n)],
                start_mark=luck.choice([0.0, 0.0, 0.0, 0.5]),
                end_mark=luck.choice([0.0, 0.0, 0.0, 0.5]),
            )
        )
    fails = [(w, w + 9) for w in (10 * luck.randrange(30, 2100) + 1 for _ in range(20))]

    def make() -> Tape:
        world = World(Node(), jobs, 21_600)
        faults = [said("failed", ("package", "dram"), *fails), said("failed", "package-1", (9001, 9081))]
        return Tape(
            world,
            rapl(world, AMD_UJ, 300.0),
            interval_s=10.0,
            seed=seed,
            faults=faults,
            dead=[(5003, 5033), (12_003, 12_103)],
            wall_steps=[(8000, 3600.0), (15_000, -3600.0)],
        )

    return make


def _every_seven(w: float, name: str, reading: Json) -> Json | None:
    return reading | {"t": 7.0 * (w // 7)} if name.startswith("node") else reading


def _repeats() -> Fault:
    """What was said at 300 s is said at 360 s, with the time that it had then."""
    kept: dict[str, Json] = {}

    def fault(w: float, name: str, reading: Json) -> Json | None:
        if name == "node:redfish" and 299 < w < 301:
            kept[name] = reading
        return kept[name] if name in kept and 359 < w < 361 else reading

    return fault


def _late_answer(w: float, name: str, reading: Json) -> Json | None:
    return reading | {"t": 345.0} if name == "node:redfish" and 359 < w < 361 else reading
