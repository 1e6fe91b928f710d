"""Meters of the whole node that lag, stick, fall silent and disagree; power without counters."""

from __future__ import annotations

from tests.daemon.faults.story import (
    METER,
    PACKAGES,
    Story,
    Within,
    gpu_jobs,
    gpu_node,
    gpus,
    longer,
    nvml,
    rapl,
)
from tests.daemon.faults.tape import (
    Json,
    Meter,
    Sensor,
    replaced,
    said,
)
from tests.daemon.faults.world import Job, Node, World


def meters() -> list[Story]:
    """BMCs and wattmeters that lag, stick, fall silent and disagree; gauges."""
    until = 1260.0
    alone = Node(gpus=("GPU-a",), gpu_idle_w=50, rest_w=400, dram=False)
    one = [Job("A", 0.0, until, 32, 128, ("GPU-a",), load=[(0.5, 4)], gpu_w=[*_alternating(1200), (1200.0, 250.0)])]
    bmc = Meter("redfish", lag_s=15, average_s=1, every_s=10, step_w=1)
    seen = Meter("redfish", lag_s=3, average_s=3, every_s=10, step_w=1)
    known = {**PACKAGES, "rest": 120.0}

    def gpu(world: World) -> list[Sensor]:
        return rapl(world) + [
            Sensor("gpu:GPU-a", "nvml", 0.1, 1000.0, max_w=4000.0, told_epoch=True) for _ in world.node.gpus
        ]

    ends = Within(600, 0.002, "what the meter owes for its lag is paid back before the end")
    return [
        Story(
            "BMC 15 s late",
            "GPUs alternate between 300 and 3000 W under a BMC that is 15 s late",
            gpus(one, until, alone, gpu, meters=[bmc]),
            ends,
            idle_w=PACKAGES,
            meter="redfish",
            plain="sum",
        ),
        Story(
            "BMC stuck",
            "a BMC that says 900 W whatever the GPUs do: the rest is not known from the fifth minute on",
            gpus(one, until, alone, gpu, meters=[bmc], faults=lambda: [replaced("node", "w", 900.0, (0, 9999))]),
            ends,
            idle_w=PACKAGES,
            hidden={"rest": [(0, 1260)]},
            domains=["package-0", "package-1", "gpu:GPU-a"],
            told=[("stuck", "node:redfish"), ("negative rest", "rest")],
            flags={"A": "node:redfish stuck"},
        ),
        Story(
            "BMC silent",
            "no answer for ten minutes: the rest is unknown, the parts are not",
            gpus(
                until=1200,
                meters=[seen],
                jobs=longer(gpu_jobs()),
                faults=lambda: [said("failed", "node", (401, 1001))],
            ),
            Within(700, 0.004, "a BMC 3 s late, windows of 150 s"),
            idle_w=PACKAGES,
            hidden={"rest": [(400, 1010)]},
            told=[("failed", "node:redfish")],
        ),
        Story(
            "BMC 16 % low",
            "a wattmeter and a BMC that says 16 % less: the wattmeter counts",
            gpus(
                meters=[
                    Meter("redfish", lag_s=3, average_s=3, gain=0.84),
                    Meter("wattmeter", average_s=1, every_s=2.0, step_w=0.1),
                ]
            ),
            METER,
            idle_w=PACKAGES,
            meter="wattmeter",
            plain="sum",
        ),
        Story(
            "wattmeter fails over",
            "the wattmeter goes; the BMC, in truth as good, takes over after the longest gap",
            gpus(
                until=1200,
                jobs=longer(gpu_jobs()),
                meters=[seen, Meter("wattmeter", every_s=2.0, step_w=0.1)],
                faults=lambda: [said("failed", "node:wattmeter", (501, 9999), why="no route to host")],
            ),
            Within(1200, 0.004, "a BMC 3 s late, windows of 150 s"),
            idle_w=PACKAGES,
            hidden={"rest": [(500, 540)]},
            told=[("failed", "node:wattmeter")],
        ),
        Story(
            "losses follow load",
            "the rest has 120 W and 8 % of what the parts draw",
            gpus(
                until=1200,
                node=gpu_node(rest_gain=0.08, rest_idle=True),
                jobs=longer(gpu_jobs()),
                meters=[Meter("wattmeter", every_s=2.0, step_w=0.1)],
            ),
            METER,
            idle_w=known,
            meter="wattmeter",
        ),
        Story(
            "GPUs without counters",
            "power alone, every 2 s, in whole watts",
            gpus(
                sensors=rapl,
                meters=[
                    Meter("nvml", f"gpu:{name}", every_s=2.0, average_s=0.1, own_time=False)
                    for name in ("GPU-a", "GPU-b")
                ],
            ),
            Within(350, 0.002, "a gauge every 2 s: P x 1 s at each edge, 0.5 W"),
            idle_w=PACKAGES,
        ),
        Story(
            "late samples",
            "a wattmeter whose samples come twice, and now and then one of 20 s ago",
            gpus(meters=[Meter("wattmeter", every_s=2.0, step_w=0.1)], faults=lambda: [_old_samples]),
            Within(350, 0.002, "samples of 2 s"),
            idle_w=PACKAGES,
            unknown_s=2.1,
        ),
        Story(
            "blind chassis",
            "a BMC that does not see the GPUs, and says so",
            gpus(
                until=1200,
                jobs=longer(gpu_jobs()),
                sensors=lambda world: rapl(world) + nvml(world),
                meters=[Meter("redfish", average_s=1, every_s=10, excludes=("gpu",))],
            ),
            Within(300, 0.002, "windows of 150 s"),
            idle_w=PACKAGES,
        ),
    ]


def _alternating(until: float) -> list[tuple[float, float]]:
    """Half a minute each at 250 and at 2950 W."""
    return [(w, 2950.0 if int(w) // 30 % 2 else 250.0) for w in range(0, int(until), 30)]


def _old_samples(w: float, name: str, reading: Json) -> Json | None:
    if name == "node:wattmeter" and w > 30 and round(w / 2) % 5 == 0:
        return reading | {"w": 1.0, "t": round(w) - 20.0}
    return reading
