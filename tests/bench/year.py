"""A year of jobs accounted for, redone under other factors, and its books: `python -m tests.bench.year [JOBS]`.

Every step is the command that an admin types, a process of its own, on the site of `tests.bench.year_site`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml
from tests.accounting.world import World
from tests.bench.year_site import FROM_S, HOUR, LAST_S, NODES, TO_S, YEAR, Job, make

__all__ = ["Step", "main", "step"]

DATA = Path(__file__).parents[2] / "accounting/jobimpact/data"
END_S = FROM_S + 365 * 24 * HOUR
PROCESSES = 40
COMPONENTS = ("cpu", "ram", "gpu", "rest")
COLUMNS = ("hardware", "jobs", "idle", "true_up")
DAY_S = 24 * HOUR


class Step(msgspec.Struct, frozen=True):
    """What one command came to."""

    said: str
    wall_s: float
    cpu_s: float
    peak_mb: float


def step(world: World, *words: str) -> Step:
    """Run the command; it must go well."""
    command = [str(Path(sys.executable).parent / "jobimpact"), *words, "--config", str(world.config_file)]
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=_environment(world))
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: status {process.returncode}: {text}")
    wall_s = time.perf_counter() - begin
    return Step(text.strip(), wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)


def _environment(world: World) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(world.folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def other_factors(world: World) -> None:
    """A copy of the shipped factors, of another version: electricity of 2030, and GPUs that cost 1.5 times as much."""
    folder = world.folder / "factors"
    folder.mkdir()
    for name in ("electricity.yaml", "gpus.yaml"):
        found = yaml.safe_load((DATA / name).read_text(encoding="utf-8"))
        found["set"]["version"] = "2030.1"
        if name == "electricity.yaml":
            found["zones"]["FRA"]["gwp_kgco2e_per_kwh"]["values"] = [0.02, 0.03, 0.06]
        else:
            for gpu in found["gpus"].values():
                gpu["gwp_kgco2e"] = [value * 1.5 for value in gpu["gwp_kgco2e"]]
        (folder / name).write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")
    config = json.loads(world.config_file.read_text(encoding="utf-8"))
    world.config_file.write_text(json.dumps(config | {"factors": "factors"}), encoding="utf-8")


def ask(world: World, query: str, *values: object) -> list[tuple[Any, ...]]:
    """The results."""
    db = sqlite3.connect(f"file:{world.results}?mode=ro", uri=True)
    try:
        return db.execute(query, values).fetchall()
    finally:
        db.close()


def revisions(world: World) -> dict[int, int]:
    """How many jobs have which revision."""
    return dict(ask(world, "SELECT revision, count(*) FROM job_result GROUP BY revision ORDER BY revision"))


def held_by_hand(jobs: Iterable[Job]) -> dict[tuple[str, str], float]:
    """Hours held in the year by type and component: at each time the shares' sum, 1 at most. In floats, job by job."""
    found: dict[tuple[str, str], float] = {}
    by_node: dict[str, list[Job]] = {}
    for one in jobs:
        by_node.setdefault(one.node, []).append(one)
    for node, some in by_node.items():
        for number, component in enumerate(COMPONENTS):
            key = NODES[node].name, component
            found[key] = found.get(key, 0.0) + _held(some, number, *_life(node))
        # The switches serve all nodes, and outlive them.
        found["shared", "switch"] = found.get(("shared", "switch"), 0.0) + _held(some, 3, FROM_S, END_S)
    return found


def _life(node: str) -> tuple[float, float]:
    """The part of the year in which a node is not yet paid off: V100 nodes were bought on 2019-09-01, for 6 years."""
    bought = 1567296000.0
    return FROM_S, min(END_S, bought + 6 * 8766 * HOUR) if node.startswith("v100") else END_S


def _held(jobs: list[Job], component: int, from_s: float, to_s: float) -> float:
    steps: list[tuple[float, float]] = []
    for one in jobs:
        start, end = max(one.start, from_s), min(one.end, to_s)
        if end > start:
            steps += [(start, one.shares()[component]), (end, -one.shares()[component])]
    seconds = level = 0.0
    before = from_s
    for at, change in sorted(steps):
        seconds += min(max(level, 0.0), 1.0) * (at - before)
        level, before = level + change, at
    return seconds / HOUR


def accounted(world: World, jobs: list[Job]) -> Iterator[str]:
    """Each command, and what it took."""
    year = ("account", "--from", str(FROM_S), "--to", str(TO_S))
    night = ("account", "--from", str(LAST_S - 3 * DAY_S), "--to", str(LAST_S))
    yield _row("the year, in one go", step(world, *year))
    yield _row("the next night: its three days", step(world, *night))
    yield _row("the same night again", step(world, *night))
    yield _row("the year again", step(world, *year))
    other_factors(world)
    redo = (*year, "--recompute")
    yield _row("recompute under other factors", step(world, *redo))
    yield f"{'':32} jobs by revision: {_told(revisions(world))}"
    yield _row("the same recomputation again", step(world, *redo))
    yield f"{'':32} jobs by revision: {_told(revisions(world))}"
    chosen = random.Random(1)
    waits = [step(world, chosen.choice(jobs).id).wall_s * 1e3 for _ in range(PROCESSES + 1)]
    p50, p95 = statistics.median(waits[1:]), sorted(waits[1:])[int(0.95 * PROCESSES)]
    yield f"{f'jobimpact ID, {PROCESSES} processes':32} p50 {p50:.0f} ms, p95 {p95:.0f} ms"
    whole = world.results.stat().st_size
    yield f"{'results.db':32} {whole / 1e6:.0f} MB, {whole / len(jobs) / 1e3:.1f} kB a job"


def _told(found: dict[int, int]) -> str:
    return ", ".join(f"{count} of {revision}" for revision, count in found.items())


def _row(what: str, found: Step) -> str:
    counts = next(line.partition(": ")[2] for line in found.said.splitlines() if " unchanged" in line)
    return f"{what:32} {found.wall_s:6.2f} s, {found.cpu_s:6.2f} s of CPU, {found.peak_mb:4.0f} MB; {counts}"


def books(world: World, jobs: list[Job]) -> Iterator[str]:
    """The year's books, and what they are out by against sums of another kind."""
    lines = [json.loads(data) for (data,) in ask(world, "SELECT data FROM true_up WHERE year = ?", YEAR)]
    lines.sort(key=lambda one: (one["node_type"], one["component"]))
    by_hand = held_by_hand(jobs)
    yield f"{'kgCO2e of':20}{'available h':>12}{'held h':>10}{'':7}" + "".join(f"{name:>10}" for name in COLUMNS)
    out = hours_out = 0.0
    for one in lines:
        available, held = one["available_h"], one["held_h"]
        part = held / available if available else 0.0
        shown = f"{one['node_type']:8}{one['component']:12}{available:12.1f}{held:10.1f}{part:7.1%}"
        yield shown + "".join(f"{one[name][0]:10.2f}" for name in COLUMNS)
        for whole, *parts in zip(*(one[name] for name in COLUMNS), strict=True):
            out = max(out, abs(math.fsum((whole, *(-part for part in parts)))) / whole)
        expected = by_hand.get((one["node_type"], one["component"]), held)
        hours_out = max(hours_out, abs(held - expected) / expected)
    yield f"hardware - jobs - idle - true-up: {out:.1e} of the hardware at most, over the three indicators"
    yield f"held hours: {hours_out:.1e} at most off the same by the scheduler's records alone, in floats"
    told, booked = [0.0] * 3, [0.0] * 3
    for (data,) in ask(world, "SELECT impacts FROM job_result"):
        told = [
            so_far + one["embodied"]["central"] for so_far, one in zip(told, json.loads(data).values(), strict=True)
        ]
    for amounts in ask(world, "SELECT own_gwp, own_adp, own_pe FROM charge WHERE component NOT LIKE 'shared.%'"):
        booked = [so_far + one for so_far, one in zip(booked, amounts, strict=True)]
    apart = max(abs(one / other - 1) for one, other in zip(told, booked, strict=True))
    yield f"{told[0]:.2f} kgCO2e, {told[1]:.4f} kgSbe and {told[2]:.0f} MJ of manufacture were told to users:"
    yield f"{apart:.1e} at most off what is booked"


def main(count: int = 20_000) -> None:
    """Make the site, and print."""
    with tempfile.TemporaryDirectory() as name:
        begin = time.perf_counter()
        world, jobs = make(Path(name), count)
        print(f"{len(jobs)} jobs by {len({one.user for one in jobs})} users on {len(NODES)} nodes", end="")
        print(f" (made in {time.perf_counter() - begin:.0f} s)")
        for line in accounted(world, jobs):
            print(line, flush=True)
        print()
        for line in books(world, jobs):
            print(line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.year", description=main.__doc__)
    parser.add_argument("jobs", nargs="?", type=int, default=20_000, help="how many (20000)")
    main(parser.parse_args().jobs)
