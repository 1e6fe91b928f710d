"""A day of twelve nodes into a real server: `python -m tests.bench.store_fill [--engine ...] [--every-second]`.

Readings are driven, all else is real: the bookkeeper, the ledger with its outbox, the publisher, the server. The first
node is read once a second and delivers every 10 s of its day, as a daemon does: that is what a node pays. The others
are read once in 10 s, which comes to as many points, and deliver their day at once: that is what a server takes after
an outage. With `--every-second` the day's power is written by the second, twelve times thirteen domains, and nothing
else: a stress, which no daemon comes to.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.store_day import DAY_S, DayNode, jobs_of
from tests.bench.store_keep import Kept, Published, Watch, disk_bytes, keep_books, publish, queued
from tests.bench.store_outage import ENGINES, engine
from tests.stores.servers import Server, missing

from jobimpact.core.config import Store
from jobimpact.core.nodefile import node_file, open_for_reading, open_for_writing
from jobimpact.core.series import NODE_POWER, Point
from jobimpact_daemon.outbox import Outbox

__all__ = ["main"]

NODES = 12
JOBS = 400
BATCH_S = 10
"""Seconds of points in a row of the outbox where each second has one."""


def day_node(number: int, wall_s: float, every_s: float, seconds: int) -> DayNode:
    """One of the twelve."""
    jobs = JOBS // NODES + (number <= JOBS % NODES)
    return DayNode(f"lab-n{number:02d}", jobs_of(number, max(1, jobs * seconds // DAY_S), seconds), wall_s, every_s)


def keep(folder: Path, number: int, wall_s: float, store: Store, seconds: int) -> None:
    """The day of a node that delivers later."""
    keep_books(folder, day_node(number, wall_s, 10.0, seconds), store, seconds)


def every_second(folder: Path, number: int, wall_s: float, store: Store, seconds: int) -> None:
    """Put a point a second of each of thirteen domains into a node's outbox."""
    name = f"lab-n{number:02d}"
    assert store.server is not None
    outbox = Outbox(store.server, "lab", name)
    domains = [(f"package-{one}", "cpu") for one in range(2)] + [(f"dram-{one}", "dram") for one in range(2)]
    domains += [(f"gpu:GPU-{name}-{one:02d}", "gpu") for one in range(8)] + [("rest", "rest")]
    chance, drawn_uj = random.Random(number), [0] * len(domains)
    db = open_for_writing(node_file(folder, name))
    for begin in range(0, seconds, BATCH_S):
        points = []
        for at in range(begin, min(begin + BATCH_S, seconds)):
            for place, (domain, kind) in enumerate(domains):
                drawn_uj[place] += chance.randrange(60_000_000, 260_000_000)
                watts = drawn_uj[place] / max(1, at) / 1e6
                fields = {"energy_uj": drawn_uj[place], "watts": watts, "unknown_ns": 0}
                stamp_ms = round((wall_s + at) * 1000)
                points.append(Point(NODE_POWER, ("lab", name, domain, kind), stamp_ms, dict(fields)))
        db.execute("BEGIN")
        outbox._insert(db, "profile", points, points[0].stamp_ms, outbox._now)
        db.execute("COMMIT")
    db.close()


def raw_bytes(folder: Path, name: str) -> int:
    """What waits in a node's file, as lines."""
    db = open_for_reading(node_file(folder, name))
    try:
        return sum(len(zlib.decompress(lines)) for (lines,) in db.execute("SELECT lines FROM outbox"))
    finally:
        db.close()


def of_a_node(server: Server, folder: Path, wall_s: float, seconds: int) -> Iterator[str]:
    """What one node pays, and the server for it."""
    store = server.store(folder)
    node = day_node(1, wall_s, 1.0, seconds)
    plain = keep_books(folder / "plain", node, Store(), seconds)
    yield f"one node read at 1 Hz, {len(node.jobs)} jobs in {seconds / 3600:g} h: {plain.commits} commits"
    yield f"{'bookkeeper':34}{plain.observe_s / seconds * 1e3:8.3f} ms CPU a second"
    yield f"{'commit, store: local':34}{plain.commit_s / plain.commits * 1e3:8.3f} ms CPU"
    watch = Watch(server)
    kept = keep_books(folder / "live", day_node(1, wall_s, 1.0, seconds), store, seconds, live=True)
    cost = watch.told()
    points = kept.points
    yield f"{'commit, with its outbox':34}{kept.commit_s / kept.commits * 1e3:8.3f} ms CPU"
    more_s = kept.commit_s - plain.commit_s
    yield f"{'outbox':34}{more_s / points * 1e6:8.1f} us CPU a point, of {points:,} points"
    yield f"{'delivery every 10 s':34}{kept.publish_s / kept.rounds * 1e3:8.3f} ms CPU, {_each(kept)}"
    yield f"{'outbox and delivery':34}{(more_s + kept.publish_s) / seconds:8.4%} of a core"
    sent = kept.published.wire_bytes
    yield f"{'on the wire':34}{sent / seconds * DAY_S / 1e6:8.2f} MB a day, {sent / points:.0f} B a point"
    requests = kept.published.requests
    yield f"{'the server':34}{cost.cpu_s / requests * 1e3:8.3f} ms CPU a request, {cost.cpu_s / seconds:.4%} of a core"


def _each(kept: Kept) -> str:
    return f"{kept.publish_s / kept.points * 1e6:.1f} us a point, {kept.points / kept.rounds:.0f} points"


def backlog(server: Server, folder: Path, names: Sequence[str]) -> Iterator[str]:
    """What waits in these nodes' files, delivered at once."""
    store = server.store(folder)
    waiting = [queued(folder, name) for name in names]
    points, packed = sum(one[1] for one in waiting), sum(one[2] for one in waiting)
    raw = raw_bytes(folder, names[0]) / waiting[0][1]
    yield f"{points:,} points of {len(names)} nodes: {raw:.0f} B each as lines, {packed / points:.1f} B in the outbox,"
    # All at once, each in a process of its own: a node alone paces itself between batches.
    with multiprocessing.get_context("spawn").Pool(len(names)) as pool:
        pool.map(len, names, chunksize=1)
        watch, begin = Watch(server), time.perf_counter()
        found: list[Published] = pool.starmap(publish, [(folder, name, store) for name in names], chunksize=1)
        wall_s, cost = time.perf_counter() - begin, watch.told()
    sent, cpu_s = sum(one.wire_bytes for one in found), sum(one.cpu_s for one in found)
    yield f"{sent / points:.1f} B on the wire; {packed / len(names) / 1e6:.1f} MB a node in the outbox"
    yield f"{'delivered, all nodes at a time':34}{points / wall_s:8,.0f} points/s ({wall_s:.1f} s)"
    yield f"{'the publisher':34}{cpu_s / points * 1e6:8.2f} us CPU a point"
    own = f"{cost.cpu_s / points * 1e6:8.2f} us CPU a point, {cost.cpu_s:.1f} s"
    yield f"{'the server':34}{own}, at most {cost.peak_mb:.0f} MB"


def fill(name: str, seconds: int, *, stress: bool) -> Iterator[str]:
    """All of it, on one kind of server."""
    with tempfile.TemporaryDirectory() as base, engine(name, Path(base)) as server:
        folder = Path(base) / "nodes"
        wall_s = float(int(time.time()) // 3600 * 3600 - seconds)
        store = server.store(folder)
        first = 1 if stress else 2
        names = [f"lab-n{number:02d}" for number in range(first, NODES + 1)]
        with multiprocessing.get_context("spawn").Pool(min(2, os.cpu_count() or 1)) as pool:
            if not stress:
                yield from of_a_node(server, folder, wall_s, seconds)
            asked = [(folder, number, wall_s, store, seconds) for number in range(first, NODES + 1)]
            begin = time.perf_counter()
            pool.starmap(every_second if stress else keep, asked)
            yield f"(made in {time.perf_counter() - begin:.0f} s)"
        yield from backlog(server, folder, names)
        yield f"{'disk, compacted':34}{disk_bytes(server) / 1e6:8.1f} MB"


def main(words: Sequence[str] | None = None) -> None:
    """Print a table for each server."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store_fill")
    parser.add_argument("--engine", choices=[*ENGINES], action="append", help="more than one may be named")
    parser.add_argument("--hours", type=float, default=24, help="of the day (24)")
    parser.add_argument("--every-second", action="store_true", help="the stress, in place of the day")
    asked = parser.parse_args(words)
    for name in asked.engine or ["influx", "victoria"]:
        reason = missing(ENGINES[name])
        print(f"{name}: {'not measured: ' + reason if reason else ''}")
        for line in () if reason else fill(name, round(asked.hours * 3600), stress=asked.every_second):
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
