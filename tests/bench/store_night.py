"""A night's reading from a server, beside the same night by the nodes' own files: `python -m tests.bench.store_night`.

Twelve nodes with four GPUs keep their books on a driven clock: the real bookkeeper, ledger, outbox and publisher, with
readings (and so points) once in 10 s for the day of 400 jobs, and once in five minutes for the 30 days of 20,000; with
`--every 60` these have a point a minute, as a daemon's have. Then `jobimpact account` is typed, once with the nodes'
files as the store and once with the server, and the two databases of results are compared row by row.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from tests.accounting.world import World
from tests.bench.store_day import DAY_S, DayJob, DayNode, jobs_of
from tests.bench.store_keep import Watch, keep_books, publish, queued
from tests.bench.store_outage import ENGINES, engine
from tests.bench.year import Step, step
from tests.stores.servers import Influx, Server, Victoria, missing

from jobimpact.core.config import Store

__all__ = ["Apart", "Site", "apart", "main", "make", "statements"]

NODES = [f"a40n{number}" for number in range(1, 13)]
HOUR = 3600
INVENTORY = """
version: "2026-11"
pue: 1.3
types:
  a40:
    nodes: a40n[1-12]
    cpu: {model: AMD EPYC 7413 24-Core Processor, count: 2, cores: 16}
    ram_gb: 256
    ram_modules: 8
    gpus: [{model: NVIDIA A40, count: 4}]
    ssd_gb: [1920, 1920]
    purchased: 2025-01-15
    lifetime_years: 6
"""


@dataclass(frozen=True)
class Site:
    """What was made: a folder with the nodes' files and the records, and the time that they are of."""

    folder: Path
    from_s: int
    to_s: int

    @property
    def nodes(self) -> Path:
        """The nodes' own files."""
        return self.folder / "nodes"

    def world(self, name: str, store: dict[str, Any]) -> World:
        """An accounting host: a folder with a configuration, and nothing accounted for."""
        own = self.folder / name
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        config = {
            "cluster": "lab",
            "store": store,
            "results": "sqlite:///results.db",
            "scheduler": {"local": {"path": str(self.folder / "jobs.jsonl")}},
            "inventory": "nodes.yaml",
            "grid": {
                "zone": "FRA", "provider": "csv", "cache": "grid.db",
                "csv": {"path": str(self.folder / "intensity.csv"), "basis": "lifecycle"},
            },
        }  # fmt: skip
        return World(own, json.dumps(config), INVENTORY)


def find(folder: Path) -> Site:
    """What was made there."""
    from_s, to_s = json.loads((folder / "window.json").read_text(encoding="ascii"))
    return Site(folder, from_s, to_s)


def make(folder: Path, store: Store, *, days: int, count: int, every_s: float, mean_s: float) -> Site:
    """Keep the books of all nodes, and write the scheduler's records and the grid's intensities.

    Args:
        folder: for all of it.
        store: for which server points are written.
        days: up to the last midnight (UTC).
        count: of jobs.
        every_s: seconds between two readings.
        mean_s: how long jobs last.
    """
    to_s = int(time.time()) // DAY_S * DAY_S
    site = Site(folder, to_s - days * DAY_S, to_s)
    seconds = days * DAY_S
    jobs = {
        name: jobs_of(number, count // len(NODES), seconds, gpus=4, mean_s=mean_s) for number, name in enumerate(NODES)
    }
    nodes = [DayNode(name, jobs[name], float(site.from_s), every_s, 4, drams=False) for name in NODES]
    with multiprocessing.get_context("spawn").Pool(min(2, os.cpu_count() or 1)) as pool:
        pool.starmap(keep_books, [(site.nodes, node, store, seconds) for node in nodes], chunksize=1)
    _write_records(site, jobs)
    _write_intensity(site)
    (folder / "window.json").write_text(json.dumps([site.from_s, site.to_s]), encoding="ascii")
    return site


def _write_records(site: Site, jobs: dict[str, list[DayJob]]) -> None:
    with (site.folder / "jobs.jsonl").open("w", encoding="ascii") as file:
        for node, some in jobs.items():
            for number, one in enumerate(some):
                start_s, end_s = site.from_s + one.start_s, site.from_s + one.end_s
                over = end_s < site.to_s
                line = {
                    "id": one.id, "user": f"user{number % 40:02d}", "account": f"team{number % 5}",
                    "partition": "all", "name": "train", "state": "COMPLETED" if over else "RUNNING",
                    "exit_code": "0:0", "submit": int(start_s), "start": start_s, "end": end_s if over else None,
                    "nodes": [node], "cpus": one.cpus, "mem_bytes": one.mem_bytes, "gpus": len(one.gpus),
                }  # fmt: skip
                file.write(json.dumps(line) + "\n")


def _write_intensity(site: Site) -> None:
    """By hour, so that it matters in which hour a job drew its energy."""
    hours = range(site.from_s - HOUR, site.to_s + HOUR, HOUR)
    lines = [f"{at},{45 + 20 * math.sin(2 * math.pi * at / DAY_S):.1f}\n" for at in hours]
    (site.folder / "intensity.csv").write_text("time,gco2e_per_kwh\n" + "".join(lines), encoding="ascii")


def statements(server: Server) -> int:
    """How many statements it has been asked since it started."""
    if isinstance(server, Victoria):
        _, body = server.ask("GET", "/metrics")
        found = re.findall(rb'vm_http_requests_total\{path="/(?:prometheus/)?api/v1/[^"]*"[^}]*\} (\d+)', body)
        return sum(map(int, found))
    behind = server if isinstance(server, Influx) else getattr(server, "engine")  # noqa: B009 (InfluxV2 has one)
    for one in msgspec.json.decode(behind.query("SHOW STATS FOR 'queryExecutor'"))["results"][0]["series"]:
        return int(dict(zip(one["columns"], one["values"][0], strict=True))["queriesExecuted"])
    raise RuntimeError("it does not tell")


@dataclass
class Apart:
    """Two databases of results, row by row."""

    rows: int = 0
    one_alone: int = 0
    """Rows that only one of them has."""
    energies: int = 0
    """Rows with an energy."""
    most_uj: float = 0.0
    """By how much two energies of a job, a node or a domain differ at most, in microjoules."""
    hours_uj: int = 0
    """The same of a job's energies by hour: a server's stamps are of milliseconds."""
    impacts: float = 0.0
    """By how much anything that comes of intensities by hour differs at most, as a part of it."""
    other: int = 0
    """Rows that differ in anything else but when they were written."""


def apart(one: World, other: World) -> Apart:
    """Compare them."""
    found = Apart()
    mine, theirs = _rows(one), _rows(other)
    found.rows, found.one_alone = len(mine), len(mine.keys() ^ theirs.keys())
    for key in mine.keys() & theirs.keys():
        a, b = mine[key], theirs[key]
        found.energies += a["energy_j"] is not None
        found.most_uj = max(found.most_uj, _out(a["energy_j"], b["energy_j"]))
        for name in ("impacts", "factors"):
            found.impacts = max(found.impacts, _most(json.loads(a[name]), json.loads(b[name])))
        energies = [json.loads(row["energy"]) for row in (a, b)]
        _compare_nodes(found, *(energy["nodes"] for energy in energies))
        found.other += any(a[name] != b[name] for name in a if name not in _OWN) or energies[0] != energies[1]
    return found


def _compare_nodes(found: Apart, one: dict[str, Any], other: dict[str, Any]) -> None:
    """What nodes say of a job; what was compared is taken out."""
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        hours = dict(a.pop("hours")), dict(b.pop("hours"))
        for hour in hours[0].keys() | hours[1].keys():
            found.hours_uj = max(found.hours_uj, abs(hours[0].get(hour, 0) - hours[1].get(hour, 0)))
        for domain in a["domains"].keys() & b["domains"].keys():
            pair = [node["domains"][domain].pop("energy_j") for node in (a, b)]
            found.most_uj = max(found.most_uj, _out(*pair))


def _out(one: float | None, other: float | None) -> float:
    """In microjoules; a value against none is as far apart as can be."""
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return abs(one - other) * 1e6


_OWN = ("energy_j", "impacts", "factors", "energy", "digest", "accounted_s", "revision")


def _rows(world: World) -> dict[str, dict[str, Any]]:
    db = sqlite3.connect(f"file:{world.results}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    try:
        return {row["key"]: dict(row) for row in db.execute("SELECT * FROM job_result")}
    finally:
        db.close()


def _most(a: Any, b: Any) -> float:
    """By how much numbers at the same places differ at most, as a part; other things differ wholly or not at all."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max((_most(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max((_most(*pair) for pair in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)) and not isinstance(a, bool):
        return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b))
    return 0.0 if a == b else math.inf


def nights(name: str, base: Path, days: int, count: int, every_s: float, mean_s: float) -> Iterator[str]:
    """One set of data on one kind of server; what was made in this folder before is taken as it is."""
    with engine(name, base) as server:
        folder = base / "site"
        more: dict[str, object] = {"outbox_mb": 100_000}
        store = server.store(folder, **more | ({} if name == "victoria" else {"retention": {"books_days": 60}}))
        if not (base / "made").exists():
            folder.mkdir()
            yield from fill(store, folder, days=days, count=count, every_s=every_s, mean_s=mean_s)
            server.settle()
            (base / "made").touch()
        yield from beside(server, find(folder), store)


def fill(store: Store, folder: Path, *, days: int, count: int, every_s: float, mean_s: float) -> Iterator[str]:
    """Make the site, and deliver its points."""
    begin = time.perf_counter()
    site = make(folder, store, days=days, count=count, every_s=every_s, mean_s=mean_s)
    points = sum(queued(site.nodes, node)[1] for node in NODES)
    yield f"(made in {time.perf_counter() - begin:.0f} s)"
    begin = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(publish, [(site.nodes, node, store) for node in NODES])
    yield f"({points:,} points delivered in {time.perf_counter() - begin:.0f} s)"


def beside(server: Server, site: Site, store: Store) -> Iterator[str]:
    """The site's nights with its node files as the store, and with the server."""
    local = site.world("local", {"local": {"path": str(site.nodes)}})
    section = {
        kind: {key: one for key, one in settings.items() if one is not None} | {"path": "store"}
        for kind, settings in msgspec.to_builtins(store).items()
        if settings
    }
    other = site.world("server", section)
    window = ("account", "--from", str(site.from_s), "--to", str(site.to_s - 1))
    for what in ("all at once", "again"):
        yield _row(f"node files, {what}", step(local, *window), None)
        before, watch = statements(server), Watch(server)
        found = step(other, *window)
        cost = watch.told()
        asked = statements(server) - before
        yield _row(f"the server, {what}", found, asked)
        yield f"{'':24} the server itself: {cost.cpu_s:.1f} s of CPU, at most {cost.peak_mb:.0f} MB"
    size = sum(one.stat().st_size for one in (other.folder / "store").rglob("*") if one.is_file())
    yield f"{'the mirror':24} {size / 1e6:.1f} MB; the nodes' files {_size(site.nodes) / 1e6:.0f} MB"
    found_apart = apart(local, other)
    yield f"{found_apart.rows:,} rows, {found_apart.one_alone} in one alone, {found_apart.energies:,} with an energy:"
    yield f"energies differ by {found_apart.most_uj:g} uJ at most, hours of a job by {found_apart.hours_uj} uJ,"
    yield f"impacts by {found_apart.impacts:.1e} of them; {found_apart.other} rows in anything else"


def _size(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.iterdir())


def _row(what: str, found: Step, asked: int | None) -> str:
    counts = next((line.partition(": ")[2] for line in found.said.splitlines() if " unchanged" in line), found.said)
    told = "" if asked is None else f" {asked} statements,"
    return f"{what:24} {found.wall_s:6.1f} s, {found.cpu_s:5.1f} s of CPU, {found.peak_mb:4.0f} MB;{told} {counts}"


def main(words: Sequence[str] | None = None) -> None:
    """Print a table for each set of data and server."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store_night")
    parser.add_argument("--engine", choices=[*ENGINES], action="append", help="more than one may be named")
    parser.add_argument("--days", type=int, default=30, help="of the long one (30); 0: the day alone")
    parser.add_argument("--jobs", type=int, default=20_000, help="of the long one (20000)")
    parser.add_argument("--long-alone", action="store_true", help="without the day")
    parser.add_argument("--every", type=float, default=300.0, help="seconds between readings of the long one (300)")
    parser.add_argument("--folder", type=Path, help="keep what is made here, or take what was made here before")
    asked = parser.parse_args(words)
    for name in asked.engine or ["influx", "victoria"]:
        if reason := missing(ENGINES[name]):
            print(f"{name}: not measured: {reason}")
            continue
        sets = [] if asked.long_alone else [(1, 420, 10.0, 4000.0)]
        if asked.days:
            mean_s = min(1500.0, 0.6 * asked.days * DAY_S * len(NODES) * 4 / 1.8 / asked.jobs)
            sets.append((asked.days, asked.jobs, asked.every, mean_s))
        for days, count, every_s, mean_s in sets:
            print(f"{name}: {days} days, {count:,} jobs, read every {every_s:g} s", flush=True)
            with ExitStack() as stack:
                base = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
                own = base / f"{name}-{days}"
                own.mkdir(parents=True, exist_ok=True)
                for line in nights(name, own, days, count, every_s, mean_s):
                    print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
