"""Stories of a node for Hypothesis: what its meters said, what its jobs used, and marks gone wrong in every way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from tests.daemon.books import GIB, Json, line, node

PACKAGE_MAX_UJ, SMALL_MAX_UJ = 262_143_328_850, 20_000_000_000
JOBS = ("1", "2", "3")
DOMAINS = ("package-0", "package-1", "dram-0", "gpu:GPU-a", "gpu:GPU-b")
"""package-1 wraps every minute or so and is always read; gpu:GPU-b is never there."""


@dataclass
class Story:
    """A recording, and what it must come to."""

    lines: list[Json]
    rise_uj: dict[str, int | None]
    """Last good reading minus the first, by domain; None where a reset or a reboot came between."""
    observed_ns: dict[str, int]
    """From the first look to the last, boot by boot, but the last boot."""
    first_look: dict[str, int | None]
    """In the last boot."""


@dataclass
class _Meter:
    true_uj: int
    first_uj: int | None = None
    last_uj: int | None = None
    was_reset: bool = False
    epoch: int = 0
    blipped: bool = False


@dataclass
class _Teller:
    draw: st.DrawFn
    t_cs: int = 100
    calm: bool = False
    """From now on every reading is good."""
    boots: int = 1
    lines: list[Json] = field(default_factory=list)
    meters: dict[str, _Meter] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(JOBS, 0.0))
    busy_s: float = 0.0
    observed_ns: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DOMAINS, 0))
    first_look: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(DOMAINS, None))

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def boot(self) -> None:
        for name, look in self.first_look.items():
            if look is not None:
                self.observed_ns[name] += self.t_cs * 10**7 - look
        self.first_look = dict.fromkeys(DOMAINS, None)
        self.boots, self.t_cs, self.busy_s = self.boots + 1, 100, 0.0
        self.cpu_s = dict.fromkeys(JOBS, 0.0)
        for meter in self.meters.values():
            meter.true_uj, meter.was_reset, meter.blipped = 1_000_000_000, True, False
        self.lines.append(node(8, 16 * GIB, ["GPU-a"], f"b{self.boots}", 0.5))

    def mark(self) -> None:
        t = max(0, self.t_cs - self.draw(st.integers(0, 300))) / 100
        parts: Json = {
            "event": self.pick("start", "end"),
            "job": self.pick(*JOBS),
            "restart": self.pick(0, 0, 0, 1, 2),
        }
        if self.pick(True, False):
            parts |= {"cpus": self.pick(0, 1, 4, 8, 99), "mem_bytes": self.pick(0, GIB, 99 * GIB)}
        parts["gpus"] = self.pick([], [], ["GPU-a"], ["GPU-b"])
        self.lines += [line(t, mark=parts)] * self.pick(1, 1, 1, 2)

    def tick(self) -> None:
        dt_cs = self.draw(st.integers(1, 1000))
        self.t_cs += dt_cs
        read = {name: self.read(name, dt_cs) for name in DOMAINS[:4]}
        read["gpu:GPU-b"] = {"absent": "not there"}
        found = {name: one for name, one in read.items() if one is not None}
        for name in found:
            if self.first_look[name] is None:
                self.first_look[name] = self.t_cs * 10**7
        parts: Json = {"read": {"any": found}}
        if self.calm or self.pick(True, True, True, False):
            parts["usage"] = self.usage(dt_cs)
        self.lines.append(line(self.t_cs / 100, **parts))

    def read(self, name: str, dt_cs: int) -> Json | None:
        steady = name == "package-1"
        meter = self.meters.setdefault(name, _Meter(1_000_000_000))
        meter.true_uj += dt_cs * 10_000 * self.draw(st.integers(0, 300))
        said = "ok" if steady or self.calm else self.pick(*["ok"] * 10, "failed", "absent", "omitted", "reset", "blip")
        if said in ("failed", "absent"):
            return {said: "for once"}
        if said == "omitted":
            return None
        if said == "reset":
            meter.true_uj, meter.was_reset, meter.epoch = 5, True, meter.epoch + 1
        blip = said == "blip" and not meter.blipped and meter.last_uj is not None and not name.startswith("gpu")
        meter.blipped = blip
        if not blip:
            meter.first_uj = meter.true_uj if meter.first_uj is None else meter.first_uj
            meter.last_uj = meter.true_uj
        uj = (meter.last_uj or 0) - self.draw(st.integers(1, 10**8)) if blip else meter.true_uj
        if name.startswith("gpu"):
            return {"uj": uj, "epoch": f"e{meter.epoch}", "max_w": 450.0}
        max_uj = SMALL_MAX_UJ if steady else PACKAGE_MAX_UJ
        return {"uj": max(0, uj) % max_uj, "max_uj": max_uj, "max_w": 375.0}

    def usage(self, dt_cs: int) -> Json:
        jobs: Json = {}
        for job in JOBS:
            self.cpu_s[job] += self.draw(st.integers(0, 2 * dt_cs)) / 100
            if self.pick(True, False):
                jobs[job] = {"cpu_s": self.cpu_s[job], "gone": self.pick(False, False, False, True)}
                jobs[job]["mem_bytes"] = self.pick(None, 0, GIB, 99 * GIB)
        self.busy_s += self.draw(st.integers(0, 8 * dt_cs)) / 100
        return {
            "busy_cpu_s": self.pick(self.busy_s, self.busy_s, None),
            "used_mem_bytes": self.pick(None, 4 * GIB),
            "jobs": jobs,
        }


@st.composite
def stories(draw: st.DrawFn, *, reboots: bool = True) -> Story:
    """A node's life of up to some minutes."""
    teller = _Teller(draw)
    teller.lines.append(node(8, 16 * GIB, ["GPU-a"]))
    for _ in range(draw(st.integers(1, 14))):
        event = teller.pick("tick", "tick", "tick", "mark", "mark", "boot" if reboots else "tick")
        {"tick": teller.tick, "mark": teller.mark, "boot": teller.boot}[event]()
    # A blip heals with the next good reading: a story does not end in one.
    teller.calm = True
    teller.tick()
    rises = {
        name: None if meter.was_reset else (meter.last_uj or 0) - (meter.first_uj or 0)
        for name, meter in teller.meters.items()
    }
    return Story(teller.lines, rises, teller.observed_ns, teller.first_look)
