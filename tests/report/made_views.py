"""Views made by hand, for what the laid-out report must bear: every field filled, and the worst that users write."""

from __future__ import annotations

import math

from jobimpact.core.records import Profile, Progress
from jobimpact.report.view import Advice, Beside, EndingRow, EnergyRow, GroupView, ImpactRow, JobView, TaskRow

__all__ = ["HOSTILE", "bare_view", "full_view", "hostile_group", "hostile_view", "profile", "progress"]

START_S = 1_795_219_200.0
HOSTILE = (
    "</title></style></script><script>document.title='hit'</script>",
    "<img src=x onerror=\"document.title='hit'\">",
    "\" onmouseover=\"document.title='hit'\" x='",
    "'><svg onload=document.title='hit'>",
    "{{ 7*7 }}{% raw %}",
    "javascript:document.title='hit'",
    "\u202eevil\u2066\u200f\x1b[31mred\x00\x07\x9b\u2028",
    "$\\frac{$ ]]> --> &lt;b&gt; font: 3px</text><script>",
)
"""What a job may be called."""


def profile(spans: int = 120, *, gap: tuple[int, int] = (40, 46), span_s: float = 60.0) -> Profile:
    """Four parts, for some time not known."""

    def values(mean: float, swing: float, pace: float) -> tuple[float | None, ...]:
        return tuple(None if gap[0] <= at < gap[1] else mean + swing * math.sin(at / pace) for at in range(spans))

    return Profile(
        START_S,
        tuple(at * span_s for at in range(spans + 1)),
        {"cpu": values(130, 20, 5), "dram": values(30, 0, 1), "gpu": values(520, 120, 9), "rest": values(180, 5, 7)},
    )


def progress(count: int = 8, name: str = "acc") -> tuple[Progress, ...]:
    """A metric that rises ever less."""
    return tuple(
        Progress(START_S + at * 800.0, at * 1000, {name: 1 - 0.9 * math.exp(-at / 2.5)}, int(at * 0.21 * 3.6e12))
        for at in range(1, count + 1)
    )


def full_view(**changed: object) -> JobView:
    """A job of which all is known, with findings."""
    found: dict[str, object] = {
        "title": "job 124_4",
        "state": "FAILED (exit code 1:0)",
        "tone": "bad",
        "name": "train-resnet50",
        "facts": (
            "ada, account vision, partition gpu",
            "32 CPUs, 128 GiB, 4 GPUs on node01",
            "2026-11-21 08:00:00 to 10:00:00 UTC, 2 h 0 min",
        ),
        "lead": ("6.19 MJ (1.72 kWh) spent on a run that failed.",),
        "advice": (
            Advice(
                "2 of 4 GPUs were never used",
                "used 0 % of 2 h 0 min; told below 25 %",
                "1.08 MJ (0.300 kWh), 0.06 EUR",
                "Ask for 2 GPUs, or let the program use all of them.",
            ),
            Advice("It held far more memory than it used", "9 of 128 GiB; told below 25 %", "", "Ask for 11 GiB."),
        ),
        "total": "6.19 MJ",
        "total_kwh": "1.72 kWh",
        "energy": (
            EnergyRow("cpu", "CPU", 936e3, "936 kJ", ("energy counter",)),
            EnergyRow("dram", "memory", 216e3, "216 kJ", ("energy counter", "known for 95 % of the run")),
            EnergyRow("gpu", "GPU", 3.74e6, "3.74 MJ", ("power, integrated",)),
            EnergyRow("rest", "rest", 1.3e6, "1.30 MJ", ("node's power, integrated, less the parts",)),
        ),
        "impacts": (
            ImpactRow(
                "gwp_kgco2e",
                "GWP (climate)",
                "CO2e",
                "98.9 g",
                "61.2 g",
                "160 g",
                "121 - 238 g",
                0.0989,
                0.0612,
                0.121,
                0.238,
            ),
            ImpactRow(
                "adp_kgsbe",
                "ADP (minerals)",
                "Sb-e",
                "0.12 mg",
                "3.61 mg",
                "3.73 mg",
                "1.29 - 11.4 mg",
                1.2e-7,
                3.61e-6,
                1.29e-6,
                1.14e-5,
            ),
            ImpactRow(
                "pe_mj", "PE (energy)", "", "23.4 MJ", "0.81 MJ", "24.2 MJ", "20.1 - 28.5 MJ", 23.4, 0.81, 20.1, 28.5
            ),
        ),
        "range_of": "",
        "not_known": "",
        "beside": (Beside("idle machines", "12.1 g", "0.70 mg", "1.9 MJ", ""),),
        "equivalents": ("0.9 km in an average new car (EEA, 2023)",),
        "activity": ("model resnet50, 8000 steps: 774 J for each",),
        "notes": ("Note: readings of the meter of GPU 0 failed for a time.",),
        "accounted": "Accounted 2026-11-22 02:10:06 UTC, revision 2.",
        "method": "Method: meters of CPU packages, memory and GPUs. Use: electricity of FRA, 44.2 gCO2e/kWh.",
        "cluster": "labia",
        "profile": profile(),
        "progress": progress(),
    }
    return JobView(**(found | changed))  # type: ignore[arg-type]


def bare_view() -> JobView:
    """A job of which nothing is known."""
    return full_view(
        state="COMPLETED", tone="good", lead=("Not measured: no daemon ran on node09.",), advice=(), total="",
        total_kwh="", energy=(), impacts=(), not_known="Impact not known: no energy.", beside=(), equivalents=(),
        activity=(), notes=(), method="", profile=None, progress=(),
    )  # fmt: skip


def hostile_view() -> JobView:
    """Everything that comes from users says the worst."""
    said = " ".join(HOSTILE)
    return full_view(
        title=f"job {HOSTILE[0]}", state=HOSTILE[1], name=said, facts=HOSTILE, lead=HOSTILE,
        advice=tuple(Advice(one, one, one, one) for one in HOSTILE), activity=HOSTILE, notes=HOSTILE,
        equivalents=HOSTILE, method=said, accounted=said, cluster=said, not_known=said,
        beside=(Beside(said, '1 g', '-', '3 MJ', said),), progress=progress(name=HOSTILE[7]),
    )  # fmt: skip


def hostile_group() -> GroupView:
    """An array of the same."""
    said = " ".join(HOSTILE)
    return GroupView(
        title=f"job {HOSTILE[0]}: 3 tasks", name=said, facts=HOSTILE, lead=HOSTILE,
        advice=tuple(Advice(one, one, one, one) for one in HOSTILE), total="1 kJ", total_kwh="0.000278 kWh",
        endings=tuple(EndingRow(one, "bad", 1, "1 J") for one in HOSTILE),
        tasks=tuple(TaskRow(one, one, "plain", "1 s", "-", "-", "-") for one in HOSTILE), tasks_are=HOSTILE[1],
        impacts=(), range_of="", not_known=said, equivalents=HOSTILE, notes=HOSTILE, accounted=said, method=said,
        cluster=said, failed=8,
    )  # fmt: skip
