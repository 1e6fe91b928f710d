"""Jobs as reports meet them, made by the real accounting of a small site: a good GPU job, a crash, an idle GPU, ...

`python -m tests.report.stories` prints each as text.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from tests.accounting.world import T0, World

from jobimpact.answers.query import Details, Group
from jobimpact.core.config import Findings
from jobimpact.core.records import Profile, Progress, RunUse
from jobimpact.energy.profile import Point, Track, profile_of
from jobimpact.findings.judge import of_array, of_job
from jobimpact.nightly.night import account
from jobimpact.report.group import group_view
from jobimpact.report.job import job_view
from jobimpact.report.text import group_text, job_text
from jobimpact.results.read import Reader
from jobimpact.results.record import JobResult
from jobimpact.results.sums import sums_of

GIB = 2**30
HOUR = 3600.0
STEPS = 90_000
KINDS = {"package-0": "cpu", "dram-0": "dram", "rest": "rest"}
HOSTILE = "\x1b[31mred\x1b[0m <script>alert(1)</script> &amp; \u202eevil\u202c\r\nBcc: x@y é"


class Story(msgspec.Struct, frozen=True):
    """What a report is made of."""

    jobs: tuple[JobResult, ...]
    """One, or the tasks of an array; empty: there are too many to be told."""
    details: Details = Details()
    """Of the one job."""
    group: Group | None = None
    """Of an array."""

    @property
    def job(self) -> JobResult:
        """The one job."""
        (one,) = self.jobs
        return one


class Site:
    """A site of two CPU nodes and two of 8 GPUs each, of which node03 has a meter of its own."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.tracks: dict[str, list[Track]] = {}
        for name in ("node01", "node02", "node03", "node04"):
            node = self.world.node(name)
            node.domain()
            node.domain("dram-0", "dram")
            if name == "node03":
                node.redfish()
            for gpu in range(8 if name > "node02" else 0):
                node.domain(f"gpu:GPU-{name}-{gpu}", "gpu", source="nvml")

    def job(
        self,
        job: str,
        node: str,
        lasts_s: float,
        watts: dict[str, float],
        *,
        gpus: int = 0,
        cpus: int = 4,
        mem_gib: float = 16,
        use: RunUse | None = None,
        labels: dict[str, str] | None = None,
        shape: Callable[[float], float] = lambda _: 1.0,
        known: float = 1.0,
        flags: tuple[str, ...] = (),
        start: float = 0.0,
        **record: Any,
    ) -> None:
        """A job as the scheduler tells it and as its node has it in the books.

        `watts` is the mean power of each domain, `shape` power over the job's time (0 to 1), which is scaled to that
        mean, and `known` for which part of its time it was measured.
        """
        held = {"cpus": cpus, "mem_bytes": int(mem_gib * GIB)}
        self.world.say(
            job,
            start=T0 + start,
            end=T0 + start + lasts_s,
            submit=T0 + start,
            nodes=[node],
            gpus=gpus,
            **held,
            **record,
        )
        books = self.world.node(node)
        raw = job.partition("_")[0] if "+" in job else job
        mine = [f"GPU-{node}-{gpu}" for gpu in range(gpus)]
        run = books.run(raw, start=start, end=start + lasts_s, gpus=mine, flags=list(flags), **held)
        tracks = []
        for domain, power in watts.items():
            joules, known_s = power * lasts_s * known, lasts_s * known
            books.charge(run, domain, joules, known_s)
            points = _points(lasts_s, joules, known, shape) if gpus else []
            for at, uj, known_ns in points:
                books.point(run, start + at, uj / 1e6, domain, known_ns / 1e9)
            kind: Any = KINDS.get(domain, "gpu")
            track = tuple(Point(T0 + start + at, uj, known_ns) for at, uj, known_ns in points)
            tracks.append(
                Track(kind, T0 + start, T0 + start + lasts_s, round(joules * 1e6), round(known_s * 1e9), track)
            )
        self.tracks[job] = tracks
        told = {name: value for name, value in msgspec.to_builtins(use or RunUse()).items() if value is not None}
        books.db.execute("UPDATE run SET used = ? WHERE run = ?", (json.dumps(told), run))
        books.db.executemany(
            "INSERT INTO label VALUES (?, ?, ?, ?)",
            [(run, name, value, T0 + start) for name, value in (labels or {}).items()],
        )
        books.db.commit()
        books.db.close()

    def night(self) -> None:
        """Account for all of it."""
        account(self.world.config, T0 + 3 * 86400, T0 - 86400, T0 + 3 * 86400)

    def found(self, job: str) -> tuple[JobResult, ...]:
        """What is answered for an id."""
        reader = Reader(self.world.config.results)
        try:
            return tuple(reader.find(job))
        finally:
            reader.close()

    def profile(self, job: str) -> Profile | None:
        """Its power over time."""
        return profile_of(self.tracks[job])

    def array(self, job: str, times: int = 1) -> Story:
        """An array, or one of so many times its tasks, of which there are only the sums."""
        tasks = self.found(job)
        sums = sums_of(task for _ in range(times) for task in tasks)
        jobs = tasks if times == 1 else ()
        return Story(jobs, group=Group(job, jobs, sums))


def _points(
    lasts_s: float, joules: float, known: float, shape: Callable[[float], float]
) -> list[tuple[float, int, int]]:
    """A point a minute: seconds, microjoules and known ns so far; what is not known is the end of the run."""
    count = max(int(lasts_s / 60), 2)
    parts = [shape((index + 0.5) / count) for index in range(count)]
    points = [(0.0, 0, 0)]
    told = 0.0
    for index, part in enumerate(parts, 1):
        told += part
        points.append(
            (
                index * lasts_s * known / count,
                round(joules * told / sum(parts) * 1e6),
                round(index * lasts_s * known / count * 1e9),
            )
        )
    return points


def _training(part: float) -> float:
    """Loading, then steps with a dip at each of four evaluations."""
    if part < 0.04:
        return 0.3
    return 0.45 if any(abs(part - at) < 0.015 for at in (0.25, 0.5, 0.75, 0.97)) else 1.05


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _use(lasts_s: float, gpus: int, gpu: float, unused: int, cpus: int, cpu: float, peak_gib: float) -> RunUse:
    return RunUse(
        cpu_ns=_ns(cpu * cpus * lasts_s),
        mem_peak_bytes=int(peak_gib * GIB),
        gpu_busy_ns=_ns(gpu * gpus * lasts_s) if gpus else None,
        gpu_known_ns=_ns(gpus * lasts_s) if gpus else None,
        gpus_seen=gpus or None,
        gpus_unused=unused if gpus else None,
    )


def _gpu_watts(node: str, count: int, watts: list[float], cpu_w: float, dram_w: float) -> dict[str, float]:
    each = {f"gpu:GPU-{node}-{gpu}": watts[gpu] for gpu in range(count)}
    return {"package-0": cpu_w, "dram-0": dram_w} | each


def _progress(start_s: float, lasts_s: float, joules: float) -> tuple[Progress, ...]:
    """A curve that flattens: most of the quality comes in the first third."""
    marks = []
    for index in range(1, 13):
        part = index / 12
        accuracy = round(0.742 * (1 - 0.5 ** (part * 9)), 4)
        marks.append(
            Progress(start_s + part * lasts_s, STEPS * index // 12, {"acc": accuracy}, round(joules * part * 1e6))
        )
    return tuple(marks)


def _good(site: Site) -> None:
    lasts = 8 * HOUR
    watts = _gpu_watts("node03", 4, [352, 347, 349, 355], 118, 21) | {"rest": 260}
    site.job(
        "124",
        "node03",
        lasts,
        watts,
        gpus=4,
        cpus=64,
        mem_gib=256,
        use=_use(lasts, 4, 0.87, 0, 64, 0.62, 141),
        labels={"model": "resnet50", "activity": "training", "steps": str(STEPS)},
        shape=_training,
        name="train-resnet50",
        account="vision",
        partition="gpu",
        time_limit_s=12 * HOUR,
    )


def _others(site: Site) -> None:
    site.job(
        "125", "node01", 71, {"package-0": 64, "dram-0": 6.5}, state="FAILED", exit_code="1:0", name="train-crash"
    )
    lasts = 3 * HOUR + 20 * 60
    idle = _gpu_watts("node04", 4, [301, 292, 58.2, 57.4], 96, 14)
    site.job(
        "126",
        "node04",
        lasts,
        idle,
        gpus=4,
        cpus=16,
        mem_gib=120,
        use=_use(lasts, 4, 0.43, 2, 16, 0.31, 52),
        name="finetune",
        account="nlp",
        partition="gpu",
        time_limit_s=6 * HOUR,
    )
    site.job(
        "127",
        "node01",
        6 * HOUR,
        {"package-0": 55, "dram-0": 5},
        cpus=8,
        mem_gib=32,
        known=0.4,
        flags=("package-0 gap",),
        use=_use(6 * HOUR, 0, 0, 0, 8, 0.9, 20),
        name="half-measured",
    )
    site.world.say("128", nodes=["node09"], start=T0, end=T0 + 7200, name="not-measured", cpus=8)
    site.job(
        "129",
        "node02",
        2 * HOUR,
        {"package-0": 83, "dram-0": 12},
        cpus=32,
        mem_gib=192,
        use=_use(2 * HOUR, 0, 0, 0, 32, 0.11, 6.2),
        time_limit_s=48 * HOUR,
        name="asked-too-much",
        account="bio",
    )
    site.job(
        "130",
        "node04",
        2 * HOUR,
        _gpu_watts("node04", 2, [92, 91], 140, 9),
        gpus=2,
        cpus=4,
        mem_gib=64,
        use=_use(2 * HOUR, 2, 0.12, 0, 4, 0.98, 40),
        start=5 * HOUR,
        name="starved",
    )
    site.job(
        "131",
        "node02",
        900,
        {"package-0": 40, "dram-0": 4},
        use=_use(900, 0, 0, 0, 4, 0.9, 12),
        labels={"model": HOSTILE, "steps": "12"},
        start=3 * HOUR,
        name=HOSTILE,
        user="<b>mallory</b>",
        account="a\x1b]0;title\x07b",
        state="FAILED",
        exit_code="<i>1</i>:0",
    )


def _array(site: Site) -> None:
    for task in range(300):
        failed = task % 7 == 3
        lasts = 420.0 if failed else 1200.0 + 13 * (task % 11)
        site.job(
            f"200_{task}",
            f"node0{1 + task % 2}",
            lasts,
            {"package-0": 31 + task % 5, "dram-0": 3},
            cpus=4,
            mem_gib=32,
            use=_use(lasts, 0, 0, 0, 4, 0.93, 2.5),
            state="FAILED" if failed else "COMPLETED",
            exit_code="2:0" if failed else "0:0",
            name="sweep",
            account="bio",
            start=10 * HOUR + task // 20 * 1500,
        )


@functools.cache
def stories() -> dict[str, Story]:
    """By name: a good GPU job, a crash of 5 kJ, and so on; the arrays are of 300 and of 99,900 tasks."""
    with tempfile.TemporaryDirectory(prefix="jobimpact-stories-") as folder:
        site = Site(Path(folder))
        _good(site)
        _others(site)
        _array(site)
        site.night()
        (good,) = site.found("124")
        start_s, lasts_s = good.start_s or 0.0, good.elapsed_s or 0.0
        return {
            "good": Story((good,), Details(site.profile("124"), _progress(start_s, lasts_s, good.energy_j or 0.0))),
            "crash": Story(site.found("125")),
            "idle_gpu": Story(site.found("126"), Details(site.profile("126"))),
            "part_measured": Story(site.found("127")),
            "not_measured": Story(site.found("128")),
            "asked_too_much": Story(site.found("129")),
            "starved": Story(site.found("130"), Details(site.profile("130"))),
            "hostile": Story(site.found("131")),
            "array_300": site.array("200"),
            "array_100k": site.array("200", 333),
        }


def main() -> None:
    """Print them."""
    for name, story in stories().items():
        print(f"=== {name}")
        if story.group is None:
            findings = of_job(story.job, Findings(), 0.2)
            print(job_text(job_view(story.job, findings=findings, details=story.details)))
        else:
            endings = story.group.sums.endings if story.group.sums else ()
            print(group_text(group_view(story.group, findings=of_array(endings, story.jobs, Findings(), 0.2))))


if __name__ == "__main__":
    main()
