"""What a run has used of what it held: CPU time, memory's peak, GPUs' utilisation, through the real books and file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.books import GIB, Json, end, line, node, play, start, write

from jobimpact.core.config import load_config
from jobimpact_daemon.replay import replay

GPUS = ("GPU-a", "GPU-b")


def seen(t: float, util: dict[str, float] | None = None, **jobs: Json) -> Json:
    """A reading of use alone; `j1` is job 1."""
    usage = {"jobs": {job.removeprefix("j"): use for job, use in jobs.items()}, "util": util or {}}
    return line(t, read={}, usage=usage)


def used(lines: list[Json], **more: Any) -> Json:
    """What each run has used at the end, as the file tells it."""
    return {run: one["used"] for run, one in play(lines, **more).told["jobs"].items()}


def test_cpu_time_and_the_peak_of_memory() -> None:
    """The largest reading of memory, all CPU time, the last of which came with its end."""
    use = [{"cpu_s": 0.5, "mem_bytes": GIB}, {"cpu_s": 3.0, "mem_bytes": 3 * GIB}, {"cpu_s": 4.5, "mem_bytes": GIB}]
    lines = [node(), seen(1), start(1, "1", cpus=2)]
    lines += [seen(2 + number, None, j1=one) for number, one in enumerate(use)]
    lines += [end(5, "1"), seen(5, None, j1={"cpu_s": 4.75, "gone": True})]
    assert used(lines) == {"1": {"cpu_ns": 4_750_000_000, "mem_peak_bytes": 3 * GIB}}


def test_what_was_never_read_is_not_zero() -> None:
    """A held node without a cgroup, and a reading without memory: nothing is told of what is not known."""
    lines = [node(), seen(1), start(1, "1"), start(1, "2"), seen(2, None, j2={"cpu_s": 0.0}), end(3, "1"), seen(3)]
    assert used(lines) == {"1": {}, "2": {"cpu_ns": 0}}


def busy_story(util: list[float | None], *, step: float = 2.0, **mark: Any) -> list[Json]:
    """A run from 1 s on, its GPU read every `step` seconds."""
    lines = [node(gpus=GPUS), seen(1, {"GPU-a": 1.0}), start(1, "1", gpus=["GPU-a"], **mark)]
    for number, part in enumerate(util):
        lines.append(seen(1 + step * (number + 1), {} if part is None else {"GPU-a": part}))
    return lines


def test_utilisation_is_held_since_the_reading_before() -> None:
    """Half busy, then not at all: 12 readings of 2 s, all of them known."""
    found = used(busy_story([0.5] * 6 + [0.0] * 6))["1"]
    assert found == {"gpu_busy_ns": 6 * 10**9, "gpu_known_ns": 24 * 10**9, "gpus_seen": 1, "gpus_unused": 0}


def test_a_gpu_that_is_never_busy_is_unused() -> None:
    """The first reading falls into the run's first second: what the driver tells then may be of the job before."""
    lines = [node(gpus=GPUS), seen(1, {"GPU-a": 1.0}), start(1, "1", gpus=["GPU-a", "GPU-b"])]
    lines += [seen(1.5, {"GPU-a": 1.0})]
    lines += [seen(2.5 + number, {"GPU-a": 0.0}) for number in range(10)]
    found = used(lines)["1"]
    # Of GPU-b nothing is known: it is no unused one.
    assert found == {"gpu_busy_ns": 0, "gpu_known_ns": 10 * 10**9, "gpus_seen": 1, "gpus_unused": 1}


@pytest.mark.parametrize(
    ("util", "known_s", "seen_gpus"),
    [([0.5] * 9, 18, 0), ([0.5] * 5 + [None] * 4 + [0.5] * 5, 28, 1), ([0.5] * 5 + [None] * 20 + [0.5] * 5, 18, 0)],
    ids=["too few to judge", "a short silence is bridged", "a gap is not"],
)
def test_gaps_and_few_readings(util: list[float | None], known_s: int, seen_gpus: int) -> None:
    found = used(busy_story(util))["1"]
    assert (found["gpu_known_ns"], found["gpus_seen"]) == (known_s * 10**9, seen_gpus)
    assert found["gpu_busy_ns"] == known_s * 10**9 // 2


@pytest.mark.parametrize("shared", [{"gpu_percent": 50}, {"shards": 2}], ids=str)
def test_a_part_of_a_gpu_is_not_known(shared: dict[str, int]) -> None:
    assert used(busy_story([0.5] * 12, **shared)) == {"1": {}}


def test_two_at_one_time_are_not_known_and_one_after_the_other_are() -> None:
    """Job 2 joins at 11 s, job 1 ends at 21 s: each is known while it is alone, but for what a reading has of both."""
    lines = [*busy_story([0.5] * 5), start(11, "2", gpus=["GPU-a"])]
    lines += [seen(13 + 2 * number, {"GPU-a": 1.0}) for number in range(4)]
    lines += [end(21, "1"), seen(21, {"GPU-a": 1.0})]
    lines += [seen(23 + 2 * number, {"GPU-a": 0.25}) for number in range(5)]
    found = used(lines)
    assert (found["1"]["gpu_known_ns"], found["1"]["gpu_busy_ns"]) == (10 * 10**9, 5 * 10**9)
    assert (found["2"]["gpu_known_ns"], found["2"]["gpu_busy_ns"]) == (10 * 10**9, 5 * 10**9 // 2)


def test_a_gpu_of_which_the_mark_tells_late_is_known_from_then_on() -> None:
    """Until then it was read, but not for this run, which was seen by its cgroup: no reading stands for all of it."""
    use = {"cpu_s": 0.0}
    lines = [node(gpus=GPUS), seen(1, {"GPU-a": 1.0}), seen(2, None, j1=use)]
    lines += [seen(1 + 2 * number, {"GPU-a": 0.5}, j1=use) for number in range(1, 10)]
    lines += [start(20, "1", gpus=["GPU-a"])]
    lines += [seen(19 + 2 * number, {"GPU-a": 0.5}, j1=use) for number in range(1, 11)]
    found = used(lines)["1"]
    assert (found["gpu_known_ns"], found["gpu_busy_ns"]) == (20 * 10**9, 10 * 10**9)


def test_an_end_between_two_readings_is_not_told_by_the_later_one() -> None:
    """What the GPU did after it is not its own."""
    lines = [*busy_story([1.0] * 10), end(21.5, "1"), seen(22), seen(23, {"GPU-a": 0.0})]
    assert used(lines)["1"]["gpu_known_ns"] == used(lines)["1"]["gpu_busy_ns"] == 20 * 10**9


@pytest.mark.parametrize(
    ("away_s", "after", "known"),
    [
        (20, {"cpu_s": 50.0}, {"cpu_ns", "mem_peak_bytes"}),
        (20, None, {"cpu_ns", "mem_peak_bytes"}),
        (600, {"cpu_s": 50.0, "mem_bytes": GIB}, {"cpu_ns"}),
        (600, {"cpu_s": 50.0, "gone": True}, {"cpu_ns"}),
        (600, None, set()),
    ],
    ids=["a restart", "an end in a restart", "a gap", "an end in a gap", "an end in a gap that nothing told"],
)
def test_what_was_used_while_nobody_looked_is_not_known(away_s: int, after: Json | None, known: set[str]) -> None:
    """Of a minute that was seen nobody can tell how much memory, or CPU time, a run of eleven has used."""
    lines = [node(), seen(1), start(1, "1")]
    lines += [seen(1 + second, None, j1={"cpu_s": second / 2, "mem_bytes": GIB}) for second in range(1, 61)]
    t = 61 + away_s
    if after is None or after.get("gone"):
        lines.append(end(t, "1"))
    lines.append(seen(t + 1, None, **({} if after is None else {"j1": after})))
    found = used(lines, restart_at=[len(lines) - 1])["1"]
    assert found.keys() == known
    assert found.get("cpu_ns", 0) == (0 if not known else 50 * 10**9 if after else 30 * 10**9)


@pytest.mark.parametrize("interval_s", [1, 30])
def test_a_node_that_is_read_seldom_tells_use_as_well(tmp_path: Path, interval_s: int) -> None:
    """Half a minute and a moment between two readings is no gap where that is how often they come."""
    settings = {"name": "n1", "interval_s": interval_s}
    config = {"cluster": "c", "store": {"local": {"path": "store"}}, "scheduler": {"local": {"path": "jobs"}}}
    (tmp_path / "c.yaml").write_text(json.dumps(config | {"node": settings}))
    lines = [node(gpus=GPUS), seen(1, {"GPU-a": 1.0}), start(1, "1", gpus=["GPU-a"])]
    lines += [seen(1 + 30.01 * n, {"GPU-a": 0.5}, j1={"cpu_s": n, "mem_bytes": GIB}) for n in range(1, 21)]
    found = replay(load_config(tmp_path / "c.yaml"), write(tmp_path / "recording", lines))["jobs"]["1"]["used"]
    assert ("mem_peak_bytes" in found, "gpu_known_ns" in found) == (interval_s == 30, interval_s == 30)
    assert found["cpu_ns"] == 20 * 10**9


def test_a_short_gap_in_a_long_run_hides_no_peak() -> None:
    """A minute of an hour: as good as a reading each second is."""
    lines = [node(), seen(1), start(1, "1")]
    times = [t for t in range(2, 3600, 10) if not 1000 < t < 1060]
    lines += [seen(t, None, j1={"cpu_s": t / 2, "mem_bytes": GIB}) for t in times]
    assert used(lines)["1"]["mem_peak_bytes"] == GIB


def test_a_restart_in_mid_run_goes_on() -> None:
    """The daemon is stopped and started from its file before every line: nothing is lost or counted twice."""
    lines = busy_story([0.5] * 12)
    lines.insert(9, seen(14.5, None, j1={"cpu_s": 2.0, "mem_bytes": GIB}))
    found = used(lines, restart_at=range(3, len(lines)))
    assert found == used(lines)
    assert found["1"]["mem_peak_bytes"] == GIB


@st.composite
def runs(draw: st.DrawFn) -> list[Json]:
    """GPUs read now and then, runs that start and end in any order, with one GPU, both, or a part of one."""
    lines, t = [node(gpus=GPUS)], 0
    for _ in range(draw(st.integers(1, 25))):
        t += draw(st.integers(1, 4000))
        job, event = draw(st.sampled_from("123")), draw(st.sampled_from(["start", "end", "read", "read", "read"]))
        if event == "read":
            told = st.one_of(st.none(), st.floats(0, 1))
            util = {gpu: part for gpu in GPUS if (part := draw(told)) is not None}
            lines.append(seen(t / 100, util))
        else:
            late = min(t, draw(st.integers(0, 500)))
            gpus = draw(st.sampled_from([[], ["GPU-a"], ["GPU-b"], list(GPUS)]))
            part = {"gpu_percent": 30} if gpus and draw(st.integers(0, 4)) == 0 else {}
            restart = draw(st.integers(0, 2))
            mark = {"event": event, "job": job, "restart": restart, "cpus": 1, "gpus": gpus, **part}
            lines.append(line((t - late) / 100, mark=mark))
    return lines


@settings(max_examples=60, deadline=None)
@given(runs())
def test_use_is_bounded(lines: list[Json]) -> None:
    """Busy <= known <= GPUs x time, and of the GPUs that are judged some are unused: whatever happened."""
    for one in play(lines).told["jobs"].values():
        found = one["used"]
        if "gpu_known_ns" in found:
            assert 0 <= found["gpu_busy_ns"] <= found["gpu_known_ns"] <= len(GPUS) * round(one["seconds"] * 1e9)
            assert 0 <= found["gpus_unused"] <= found["gpus_seen"] <= len(GPUS)


@settings(max_examples=15, deadline=None)
@given(runs(), st.integers(1, 5))
def test_no_energy_goes_by_utilisation(lines: list[Json], watts: int) -> None:
    """With and without it, every microjoule, second and coverage is the same."""
    for one in lines:
        if "usage" in one:
            uj = round(one["t"] * watts * 1e6)
            gpus = {f"gpu:{gpu}": {"uj": uj + number} for number, gpu in enumerate(GPUS)}
            one["read"] = {"rapl": {"package-0": {"uj": 2 * uj}}, "nvml": gpus}
    without = [one | ({"usage": one["usage"] | {"util": {}}} if "usage" in one else {}) for one in lines]
    told, plain = play(lines).told, play(without).told
    for job in (*told["jobs"].values(), *plain["jobs"].values()):
        job.pop("used")
    assert told == plain
