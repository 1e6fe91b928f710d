"""Counters that wrap, start anew, slip, jump and stop."""

from __future__ import annotations

from collections.abc import Callable

from tests.daemon.faults.story import (
    BOTH,
    NVML,
    PACKAGES,
    Story,
    Within,
    cpus,
    gpus,
    nvml,
    rapl,
)
from tests.daemon.faults.tape import (
    AMD_UJ,
    INTEL_UJ,
    J,
    Sensor,
    frozen,
    replaced,
    said,
    shifted,
)
from tests.daemon.faults.world import Job, Node, World


def counters() -> list[Story]:
    """Wraps, resets, blips and nonsense."""
    amd = Node(64, 256, {"package-0": 64}, cpu_idle_w=90, dram=False)
    hot = [
        Job("A", 30.2, 1150.5, 48, 128, load=[(30.6, 48), (1150.1, 0)], core_w=5.2),
        Job("B", 400.3, 900.6, 16, 64, load=[(400.7, 15), (900.2, 0)], core_w=4),
    ]

    def amd_rapl(world: World) -> list[Sensor]:
        return rapl(world, AMD_UJ, 480.0)

    def near_the_end(world: World) -> list[Sensor]:
        return rapl(world, start_uj=INTEL_UJ - 9_000 * J)

    def reset_at(at: float, to: int = 0) -> Callable[[World], list[Sensor]]:
        return lambda world: rapl(world, start_uj=150_000 * J, resets=[(at, to)])

    return [
        Story("wrap, Intel", "each counter wraps at 262 kJ in mid job", cpus(sensors=near_the_end), idle_w=PACKAGES),
        Story(
            "wraps, AMD at 400 W",
            "a range of 65.5 kJ is passed six times, readings every 10 s",
            cpus(hot, 1200, amd, amd_rapl, interval_s=10.0),
            Within(30, 0.001, "ticks of 10 s"),
            idle_w={"package-0": 90.0},
        ),
        Story(
            "wrap in a gap",
            "AMD: no reading for 100 s, and the counter wraps meanwhile",
            cpus(hot, 1200, amd, amd_rapl, interval_s=10.0, faults=[said("failed", "package", (500, 600))]),
            Within(30, 0.001, "ticks of 10 s"),
            idle_w={"package-0": 90.0},
            flags={"A": "package-0 gap"},
            told=[("failed", "package-0")],
        ),
        Story(
            "many wraps in a gap",
            "AMD: no daemon for ten minutes, 3.6 ranges pass: nobody can know how many",
            cpus(hot, 1200, amd, amd_rapl, interval_s=10.0, dead=[(405, 1001)]),
            Within(60, 0.001, "ticks of 10 s"),
            idle_w={"package-0": 90.0},
            hidden={"package-0": [(401, 1001.5)]},
            told=[("ambiguous", "package-0")],
            plain="sum",
        ),
        Story(
            "RAPL starts anew",
            "both packages' counters fall to zero in mid job, no word of it",
            cpus(sensors=reset_at(231.0)),
            idle_w=PACKAGES,
            hidden={name: [(230, 232)] for name in (*BOTH, "dram-0")},
            told=[("reset", "package-0")],
            plain="sum",
        ),
        Story(
            "driver reload, told",
            "the GPUs' counters start anew, with a new epoch",
            gpus(sensors=lambda world: rapl(world) + nvml(world, resets=[(301.0, 0)])),
            NVML,
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(300, 302)], "gpu:GPU-b": [(300, 302)]},
            told=[("reset", "gpu:GPU-a")],
        ),
        Story(
            "driver reload, not told",
            "the same without an epoch: the fall alone tells",
            gpus(sensors=lambda world: rapl(world) + _no_epoch(nvml(world, resets=[(301.0, 0)]))),
            NVML,
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(300, 302)], "gpu:GPU-b": [(300, 302)]},
            told=[("reset", "gpu:GPU-a")],
        ),
        Story(
            "reload past the old value",
            "no reading for 60 s; the driver came back with a higher value, and an epoch",
            gpus(
                sensors=lambda world: rapl(world) + nvml(world, resets=[(330.0, 10**13)]),
                faults=lambda: [said("failed", "gpu", (301, 361))],
            ),
            NVML,
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(300, 362)], "gpu:GPU-b": [(300, 362)]},
            told=[("reset", "gpu:GPU-a")],
            plain="sum",
        ),
        Story(
            "jump past the old value",
            "the same without an epoch: no hardware can have drawn that",
            gpus(
                sensors=lambda world: rapl(world) + _no_epoch(nvml(world, resets=[(330.0, 10**13)])),
                faults=lambda: [said("failed", "gpu", (301, 361))],
            ),
            NVML,
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(300, 362)], "gpu:GPU-b": [(300, 362)]},
            told=[("jump", "gpu:GPU-a")],
            plain="sum",
        ),
        Story(
            "backward blip",
            "RAPL falls back by 2 kJ for one reading",
            cpus(
                faults=[shifted("package", -2000 * J, (239, 241))],
                sensors=lambda world: rapl(world, start_uj=100_000 * J),
            ),
            idle_w=PACKAGES,
            told=[("healed", "package-0")],
            plain="sum",
        ),
        Story(
            "blip of two readings",
            "RAPL falls back by 5 kJ for two readings: two intervals are lost, none invented",
            cpus(
                faults=[shifted("package", -5000 * J, (239, 243))],
                sensors=lambda world: rapl(world, start_uj=100_000 * J),
            ),
            idle_w=PACKAGES,
            hidden={name: [(238, 240), (242, 244)] for name in BOTH},
            told=[("reset", "package-0"), ("jump", "package-0")],
            plain="sum",
        ),
        Story(
            "GPU counter slips back",
            "AMD-like: a counter without a range falls by 900 J for one reading, twice",
            gpus(faults=lambda: [shifted("gpu", -900 * J, (239, 241), (349, 351))]),
            NVML,
            idle_w=PACKAGES,
            told=[("healed", "gpu:GPU-a")],
        ),
        Story(
            "absurd spike",
            "one reading says 1e18 uJ",
            gpus(
                faults=lambda: [
                    replaced("gpu", "uj", 10**18, (239, 241)),
                    replaced("package", "uj", 10**18, (239, 241)),
                ]
            ),
            NVML,
            idle_w=PACKAGES,
            hidden={name: [(238, 242)] for name in ("gpu:GPU-a", "gpu:GPU-b", *BOTH)},
            told=[("jump", "gpu:GPU-a"), ("reset", "gpu:GPU-a")],
            plain="sum",
        ),
        Story(
            "stuck counter",
            "a GPU's counter stops for five minutes, and then counts on from there",
            gpus(sensors=_stops),
            Within(700, 0.0002, "it stops and goes on in mid tick: 2 x 2 s x 350 W at most"),
            idle_w=PACKAGES,
            hidden={"gpu:GPU-a": [(122, 420)]},
            told=[("stuck", "gpu:GPU-a")],
            flags={"A": "gpu:GPU-a stuck"},
            plain="share",
        ),
        Story(
            "cached answers",
            "the driver says the same for 24 s, and then what it should",
            gpus(faults=lambda: [frozen("gpu", (101, 125))]),
            NVML,
            idle_w=PACKAGES,
        ),
    ]


def _no_epoch(sensors: list[Sensor]) -> list[Sensor]:
    for sensor in sensors:
        sensor.told_epoch = False
    return sensors


def _stops(world: World) -> list[Sensor]:
    found = nvml(world)
    stop = found[0].start_uj + int(world.joules("gpu:GPU-a", 121.0) * J)
    found[0].resets, found[0].told_epoch = [(421.0, stop)], False
    found[0].halts = (121.0, 421.0)
    return rapl(world) + found
