"""Marks that are late, missing and out of order; short jobs; many at once."""

from __future__ import annotations

from tests.daemon.faults.story import (
    PACKAGES,
    Story,
    Within,
    cpus,
)
from tests.daemon.faults.world import Job, Node


def lives() -> list[Story]:
    """Marks that are late, missing, doubled and out of order; short jobs; many at once."""
    node = Node()

    def job(run: str, a: float, b: float, **more: object) -> Job:
        fields: dict[str, object] = {"load": [(a + 0.3, 10), (b - 0.3, 0)], "core_w": 6.0, "used_gib": [(a + 0.3, 10)]}
        return Job(run, a, b, 12, 32, **(fields | more))  # type: ignore[arg-type]

    other = Job("B", 20.2, 580.1, 8, 16, load=[(20.6, 6), (579.7, 0)], core_w=5, used_gib=[(20.6, 6)])
    held_w = 12 / 32 * 80 + 32 / 128 * 8
    short = [
        Job("A", 20.35, 22.35, 16, 32, load=[(20.4, 14), (22.32, 0)], core_w=6),
        Job("C", 30.71, 31.01, 16, 32, load=[(30.765, 14), (31.0, 0)], core_w=6),
        Job("D", 41.2, 61.4, 8, 32, load=[(41.5, 8), (61.0, 0)], core_w=6),
    ]
    tiny = [
        Job(f"J{i}", 30.2 + 0.0006 * i, 150.3 + 0.0006 * i, 1, 2, load=[(30.5, 0.2 + 0.012 * i), (150.0, 0)])
        for i in range(64)
    ]
    return [
        Story(
            "marks 30 s late",
            "hooks that are seen half a minute late: the cgroup tells of the job meanwhile",
            cpus([job("A", 60.3, 400.7, start_mark=30.0, end_mark=30.0), other]),
            Within(
                30 * held_w, 0.001, "until its mark comes a job's idle share is a guess: 30 s x 32 W at either end"
            ),
            idle_w=PACKAGES,
        ),
        Story(
            "end before start",
            "the end mark is seen first",
            cpus([job("A", 60.3, 90.7, start_mark=40.0), other]),
            Within(30 * held_w, 0.001, "as above"),
            idle_w=PACKAGES,
        ),
        Story(
            "no end mark",
            "the processes go, no epilog runs: lost after five minutes",
            cpus([job("A", 60.3, 200.7, end_mark=None), other], 700),
            Within(302 * held_w, 0.001, "300 s of its idle share, until it counts as lost"),
            idle_w=PACKAGES,
            told=[("lost", "A")],
            states={"A": "lost"},
        ),
        Story(
            "no start mark",
            "no prolog ran: the cgroup alone tells of the job",
            cpus([job("A", 60.3, 400.7, start_mark=None), other]),
            Within(340 * 80 * 4 / 32 + 50, 0.002, "its cores are a guess from its memory limit: 8, not 12 of 32"),
            idle_w=PACKAGES,
            told=[("no start mark", "A")],
            flags={"A": "cpu share from memory limit"},
        ),
        Story(
            "requeued",
            "the same id again, with its restart count",
            cpus([job("A", 60.3, 200.7), job("A#1", 230.4, 400.2, job="A", restart=1), other]),
            idle_w=PACKAGES,
            watch="A#1",
            states={"A": "ended", "A#1": "ended"},
        ),
        Story(
            "late epilog",
            "the end mark of the first run comes while the second runs",
            cpus(
                [job("A", 60.3, 200.7, end_mark=None), job("A#1", 200.9, 400.2, job="A", restart=1), other],
                marks_again=[(260.0, "end", "A", 0)],
            ),
            idle_w=PACKAGES,
            watch="A#1",
            states={"A": "ended", "A#1": "ended"},
            flags={"A": "no end mark"},
        ),
        Story(
            "64 marks at once",
            "64 jobs of a core each begin and end within 40 ms",
            cpus(tiny, 200, Node(64, 256, {"package-0": 32, "package-1": 32}), interval_s=2.0),
            Within(0.5, 0.002, "the first and last tenths of a second are shared"),
            idle_w=PACKAGES,
            watch="J63",
        ),
        Story(
            "jobs of 2 s and 0.3 s",
            "on a daemon of 1 s",
            cpus(short, 80, node, interval_s=1.0),
            Within(0.5, 0.005, "RAPL ms and ticks of 10 ms; law 4 asks for 2 % of the job of 2 s"),
            idle_w=PACKAGES,
            plain="share",
        ),
        Story(
            "same, short one",
            "the job of 0.3 s of the same recording",
            cpus(short, 80, node, interval_s=1.0),
            Within(0.5, 0.005, "as above"),
            idle_w=PACKAGES,
            watch="C",
            plain="share",
        ),
        Story(
            "suspended and resumed",
            "A is stopped for two minutes",
            cpus([job("A", 60.3, 400.7, stopped=[(150.0, 270.0)]), other]),
            idle_w=PACKAGES,
            flags={"A": "suspended for a time"},
            plain="share",
        ),
    ]
