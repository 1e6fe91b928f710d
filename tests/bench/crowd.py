"""A crowd of short tasks beside jobs of weeks, accounted for: `python -m tests.bench.crowd [TASKS...]`.

An array whose tasks of a minute fill every core but one of 12 nodes, and on each node a job that holds the last core
for the whole month: the worst for books that lay jobs over each other. Told per task, so that what grows faster than
the number of tasks is seen.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.accounting.world import World
from tests.bench.node_books import BookedRun, write_node
from tests.bench.year import Step, step
from tests.bench.year_site import FROM_S, HOUR, INVENTORY, NODES

__all__ = ["main"]

CONFIG = {
    "cluster": "lab",
    "store": {"local": {"path": "nodes"}},
    "results": "sqlite:///results.db",
    "scheduler": {"local": {"path": "jobs.jsonl"}},
    "inventory": "nodes.yaml",
    "grid": {"zone": "FRA"},
}
LASTS_S = 60
MONTH_S = 28 * 24 * HOUR


def main(words: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", type=int, default=[1_000, 10_000, 100_000])
    print(f"{'tasks':>8} {'first night':>12} {'a task':>9} {'peak':>8} {'again':>8} {'peak':>8}")
    for tasks in parser.parse_args(words).tasks:
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), json.dumps(CONFIG), INVENTORY)
            end_s = make(world, tasks)
            window = ("account", "--from", str(FROM_S), "--to", str(end_s))
            first, again = step(world, *window), step(world, *window)
            check(world, tasks, again)
        each = f"{first.cpu_s / tasks * 1e3:.2f} ms"
        print(
            f"{tasks:>8} {first.wall_s:>10.1f} s {each:>9} {first.peak_mb:>5.0f} MB {again.wall_s:>6.1f} s"
            f" {again.peak_mb:>5.0f} MB",
            flush=True,
        )


def check(world: World, tasks: int, again: Step) -> None:
    """Every task has its row once, with its energy; the second time nothing changed."""
    whole = tasks + len(NODES)
    if f"0 new, 0 changed, {whole} unchanged" not in again.said:
        raise SystemExit(f"again: {again.said}")
    with sqlite3.connect(world.results) as db:
        found = db.execute("SELECT count(*), count(energy_j) FROM job_result").fetchone()
    if found != (whole, whole):
        raise SystemExit(f"{found} rows and energies, not {whole}")


def make(world: World, tasks: int) -> int:
    """Write the records, and a file for each node. Gives the time up to which to account."""
    lines = []
    runs: dict[str, list[BookedRun]] = {node: [] for node in NODES}
    slots = [node for node, kind in NODES.items() for _ in range(kind.cores - 1)]
    for number in range(tasks):
        node = slots[number % len(slots)]
        start_s = FROM_S + 3 * 24 * HOUR + number // len(slots) * (LASTS_S + 5)
        lines.append(_line(f"100_{number}", node, start_s, start_s + LASTS_S))
        runs[node].append(BookedRun(f"100_{number}", start_s, start_s + LASTS_S))
    for number, node in enumerate(NODES):
        end_s = FROM_S + MONTH_S + number
        lines.append(_line(str(number), node, FROM_S, end_s))
        runs[node].append(BookedRun(str(number), FROM_S, end_s))
    (world.folder / "jobs.jsonl").write_text("".join(lines), encoding="utf-8")
    for node, some in runs.items():
        write_node(world, node, some, watts=1)
    return FROM_S + MONTH_S + 2 * 24 * HOUR


def _line(job: str, node: str, start_s: int, end_s: int) -> str:
    found = {"id": job, "user": "alice", "name": "sweep", "state": "COMPLETED", "submit": FROM_S, "start": start_s}
    return json.dumps(found | {"end": end_s, "nodes": node, "cpus": 1, "mem_bytes": 1 << 30, "gpus": 0}) + "\n"


if __name__ == "__main__":
    main()
