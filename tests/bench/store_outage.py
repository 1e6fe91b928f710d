"""The database killed under load, a daemon killed inside that, and an outbox that is full for a day.

`python -m tests.bench.store_outage [--seconds 600] [--nodes 4] [--engine influx|v2|victoria]`: real daemons on played
meters, with jobs that start and end all the time. Each point that a ledger ever put into its outbox is looked for in
the server, by its series and stamp, with its values. Then the same for a day of points that nobody took, in an outbox
of a megabyte, on a driven clock: what was thinned, and what the totals came to.
"""

from __future__ import annotations

import argparse
import math
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.store_day import DAY_S, DayNode, jobs_of
from tests.bench.store_keep import keep_books, publish
from tests.bench.store_nodes import DEADLINE_S, Load, NodeFile, StoreNode, playing, until
from tests.bench.store_points import Field, Stamped, Stored, stored
from tests.stores.servers import Influx, InfluxV2, Server, Victoria, missing

from jobimpact.core.nodefile import node_file

__all__ = ["ENGINES", "Full", "Outage", "Told", "compare", "engine", "full", "main", "outage"]

ENGINES = {"influx": "influxd", "v2": "influxd", "victoria": "victoria-metrics"}
"""And the program that each needs."""


@contextmanager
def engine(name: str, folder: Path) -> Iterator[Server]:
    """A running server with its database."""
    with ExitStack() as stack:
        if name == "victoria":
            found: Server = stack.enter_context(Victoria(folder / name))
        else:
            found = behind = stack.enter_context(Influx(folder / "influx"))
            if name == "v2":
                found = stack.enter_context(InfluxV2(folder / name, behind))
        found.create()
        yield found


@dataclass
class Told:
    """What the nodes queued against what the server has."""

    queued: int = 0
    """Points, by series and stamp."""
    stored: int = 0
    lost: list[Stamped] = field(default_factory=list)
    other: list[Stamped] = field(default_factory=list)
    """Stored with other values."""
    strange: int = 0
    """Points in the server that nobody queued."""
    twice: int = 0
    """Values found twice at one stamp of one series."""
    in_order: bool = True
    ends: int = 0
    """Runs, and idle and system, in each domain, whose last stored energy was compared with the node's file."""
    out_uj: int = 0
    """By how many microjoules these are out, together."""


def compare(server: Server, nodes: Sequence[NodeFile]) -> Told:
    """Every point that was queued, and every run's energy."""
    found, twice = stored(server)
    told = Told(twice=twice, stored=sum(map(len, found.values())))
    wanted: dict[tuple[object, int], Stamped] = {}
    for node in nodes:
        wanted |= {(one.series, one.stamp_ms): one for one in node.witnessed()}
        told.in_order &= node.left_in_order()
        _compare_ends(told, node, found)
    told.queued = len(wanted)
    for one in wanted.values():
        at = found.get(one.series, {}).get(one.stamp_ms)
        if at is None:
            told.lost.append(one)
        elif not _is_same(at, one.fields):
            told.other.append(one)
    told.strange = told.stored - (told.queued - len(told.lost))
    return told


def _is_same(one: dict[str, Field], other: dict[str, Field]) -> bool:
    """Whole numbers and words alike; VictoriaMetrics rounds what has a fraction."""
    return one.keys() == other.keys() and all(
        math.isclose(one[name], value, rel_tol=1e-9)  # type: ignore[arg-type]
        if isinstance(value, float)
        else one[name] == value
        for name, value in other.items()
    )


def _compare_ends(told: Told, node: NodeFile, found: Stored) -> None:
    """The last energy that is stored of each holder, against the node's own books."""
    last: dict[tuple[str, str], int] = {}
    for (name, tags), points in found.items():
        words = dict(tags)
        if name == "job_energy" and words["node"] == node.name:
            last[words["run"], words["domain"]] = int(points[max(points)]["energy_uj"])
    # Of runs what the ledger has; of what is nobody's, its last point of time: a minute's.
    booked = {
        (holder, domain): uj
        for holder, domain, uj in node.ask(
            "SELECT l.holder, l.domain, l.uj FROM ledger l JOIN run r ON r.run = l.holder WHERE r.state != 'open'"
        )
    }
    booked |= {
        (holder, domain): uj
        for holder, domain, uj, _ in node.ask(
            "SELECT run, domain, uj, max(wall_s) FROM job_energy WHERE run IN ('idle', 'system') GROUP BY run, domain"
        )
    }
    told.ends += len(booked)
    told.out_uj += sum(abs(uj - last.get(key, 0)) for key, uj in booked.items())


@dataclass
class Outage:
    """What one run came to."""

    seconds: float
    jobs: int
    most_queued: int
    """Points that waited at the worst time."""
    caught_up_s: float
    """From the server's return until nothing waited."""
    told: Told


def outage(
    server: Server,
    folder: Path,
    *,
    nodes: int,
    seconds: float,
    around: float,
    interval_s: float = 1.0,
    patient: bool = True,
    seed: int = 1,
) -> Outage:
    """Take the server away for so long under load, and kill a daemon with -9 inside that.

    Args:
        server: runs; of the endpoint of 2.x what is behind it goes, so that it answers with errors.
        folder: for the nodes.
        nodes: how many.
        seconds: of the outage.
        around: seconds of load before and after.
        interval_s: between two readings.
        patient: before and after, wait until the daemons have delivered in their own time.
        seed: which jobs.
    """
    behind: Server = getattr(server, "engine", server)
    with playing(folder, server.store(folder), nodes, interval_s) as some:
        load = Load(some, seed, apart_s=2.0, longest_s=min(60.0, 5 + seconds / 4))
        load.run(DEADLINE_S if patient else 0.0, lambda: _served(server, some))
        load.run(around)
        behind.kill()
        load.run(seconds * 0.4)
        some[0].end(signal.SIGKILL)
        load.run(min(10.0, seconds * 0.2))
        some[0].start()
        load.run(seconds - seconds * 0.4 - min(10.0, seconds * 0.2))
        most = sum(node.queued() for node in some)
        behind.start()
        back_s = time.monotonic()
        load.run(DEADLINE_S if patient else 0.0, lambda: sum(node.waits() for node in some) < most / 20)
        caught_up_s = time.monotonic() - back_s
        load.run(around)
        load.finish()
        for node in some:
            node.end()
        # VictoriaMetrics has the last points too, and they wait until it has surely written them.
        _deliver_rest(some, 1 if isinstance(server, Victoria) else 3)
        return Outage(seconds, load.jobs, most, caught_up_s, compare(server, some))


def _served(server: Server, nodes: Sequence[StoreNode]) -> bool:
    """Whether each node's points arrive."""
    seen = {dict(tags).get("node") for _, tags in stored(server)[0]}
    return {node.name for node in nodes} <= seen


def _deliver_rest(nodes: Sequence[StoreNode], times: int) -> None:
    """What a daemon's end has put into its outbox is delivered by its next start."""
    for _ in range(times):
        rest = [node for node in nodes if node.queued()]
        for node in rest:
            node.start()
        for node in rest:
            until(node.delivered, lambda node=node: f"{node.name}'s last points: {node.said()}")  # type: ignore[misc]
        for node in rest:
            node.end()


@dataclass
class Full:
    """A day of points that nobody took, in a small outbox."""

    jobs: int
    put: dict[str, int]
    """Points by class: `profile`, `minute`, `edge`."""
    left: dict[str, int]
    """Those that were there in the end, by the class that they came with."""
    packed: tuple[int, int]
    """Bytes of all, and of what was left."""
    told: Told
    out_uj: int
    """By how much the server's points alone do not balance: what each domain measured against all its holders."""
    without_end: int
    """Runs that are over in the node's file, and not in the server."""


def full(server: Server, folder: Path, *, seconds: int = DAY_S, jobs: int = 34, cap_bytes: int = 1 << 20) -> Full:
    """Fill an outbox for a day of a node on a driven clock, then deliver what is left.

    Args:
        server: runs.
        folder: for the node.
        seconds: of the day.
        jobs: on the node.
        cap_bytes: of the outbox.
    """
    store = server.store(folder)
    begins_s = float(int(time.time()) // 3600 * 3600 - seconds)
    day = DayNode("lab-n01", jobs_of(1, jobs, seconds, mean_s=0.08 * seconds), begins_s, 10.0)
    file = NodeFile(node_file(folder, day.name), day.name)
    keep_books(folder, day, store, seconds, cap_bytes=cap_bytes)
    put, left = (_by_class(file, only) for only in ("", "WHERE w.id IN (SELECT id FROM outbox)"))
    queued = {(one.series, one.stamp_ms) for one in file.waiting()}
    publish(folder, day.name, store)
    found, _ = stored(server)
    one = compare(server, [file])
    one.lost = [point for point in one.lost if (point.series, point.stamp_ms) in queued]
    over = {run for (run,) in file.ask("SELECT run FROM run WHERE state != 'open'")}
    return Full(
        len(over),
        {name: points for name, (points, _) in put.items()},
        {name: points for name, (points, _) in left.items()},
        (sum(size for _, size in put.values()), sum(size for _, size in left.values())),
        one,
        _balance(found),
        len(over - _ended(found)),
    )


def _by_class(file: NodeFile, only: str) -> dict[str, tuple[int, int]]:
    rows = file.ask(f"SELECT class, sum(n), sum(length(lines)) FROM witness w {only} GROUP BY class")  # noqa: S608
    return {name: (points, size) for name, points, size in rows}


def _ended(found: Stored) -> set[str]:
    """Runs whose end the server has."""
    last: dict[str, tuple[int, object]] = {}
    for (name, tags), points in found.items():
        words = dict(tags)
        if name == "job_run":
            stamp_ms = max(points)
            state = points[stamp_ms].get("state", words.get("state"))
            last[words["run"]] = max(last.get(words["run"], (0, "")), (stamp_ms, state))
    return {run for run, (_, state) in last.items() if state != "open"}


def _balance(found: Stored) -> int:
    """By how many microjoules the books are out that the server alone tells, in all domains together."""
    at: dict[str, tuple[int, int]] = {}
    for (name, tags), points in found.items():
        words = dict(tags)
        if name == "node_domain" and words["kind"] != "node":
            stamp_ms = max(points)
            at[words["domain"]] = max(at.get(words["domain"], (0, 0)), (stamp_ms, int(points[stamp_ms]["energy_uj"])))
    sums = dict.fromkeys(at, 0)
    for (name, tags), points in found.items():
        domain = dict(tags).get("domain", "")
        if name == "job_energy" and domain in at:
            until_ms = max((stamp_ms for stamp_ms in points if stamp_ms <= at[domain][0]), default=None)
            sums[domain] += 0 if until_ms is None else int(points[until_ms]["energy_uj"])
    return sum(abs(at[domain][1] - sums[domain]) for domain in at)


def told_full(found: Full, cap_bytes: int, seconds: int) -> Iterator[str]:
    """The same in words."""
    size, left = found.packed
    yield f"an outbox of {cap_bytes / 2**20:g} MiB for {seconds / 3600:g} h of a node, where {found.jobs} jobs ended:"
    yield f"{size / 1e6:.2f} MB were put, {left / 1e6:.2f} MB were left"
    for name, points in found.put.items():
        kept = found.left.get(name, 0)
        yield f"  {name:8}{points:8,} points, {points - kept:8,} thinned"
    one = found.told
    yield f"delivered {one.stored:,}: lost {len(one.lost)}, other values {len(one.other)}; last energies of {one.ends}"
    yield f"holders and domains {one.out_uj} uJ off the node's file, runs without their end {found.without_end},"
    yield f"books of the server's points alone {found.out_uj} uJ out"


def told(found: Outage) -> Iterator[str]:
    """One run, in words."""
    one = found.told
    yield f"{found.seconds:.0f} s without the server, {found.jobs} jobs: {found.most_queued:,} points waited at its"
    yield f"end, and were delivered within {found.caught_up_s:.1f} s of the server's return"
    yield f"queued {one.queued:,} points, stored {one.stored:,}: lost {len(one.lost)}, other values {len(one.other)},"
    yield f"in the server alone {one.strange}, twice {one.twice}; in order: {'yes' if one.in_order else 'NO'}"
    yield f"last energies of {one.ends} holders and domains: {one.out_uj} uJ off the nodes' files"
    if one.lost:
        span = [point.stamp_ms / 1000 for point in one.lost]
        kinds = Counter(point.name for point in one.lost)
        yield f"lost were points of {max(span) - min(span):.0f} s: {dict(kinds)}"


def main(words: Sequence[str] | None = None) -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store_outage")
    parser.add_argument("--seconds", type=float, default=60, help="of the outage (60)")
    parser.add_argument("--around", type=float, default=20, help="seconds of load before and after (20)")
    parser.add_argument("--nodes", type=int, default=3, help="how many daemons (3)")
    parser.add_argument("--engine", choices=[*ENGINES], default="influx")
    parser.add_argument("--hours", type=float, default=24, help="for which the outbox is full (24)")
    parser.add_argument("--cap-mb", type=float, default=1, help="of the outbox, MiB (1)")
    asked = parser.parse_args(words)
    if reason := missing(ENGINES[asked.engine]):
        print(f"not measured: {reason}")
        return
    with tempfile.TemporaryDirectory() as name, engine(asked.engine, Path(name)) as server:
        found = outage(server, Path(name) / "nodes", nodes=asked.nodes, seconds=asked.seconds, around=asked.around)
        print("\n".join(told(found)), flush=True)
    with tempfile.TemporaryDirectory() as name, engine(asked.engine, Path(name)) as server:
        seconds, cap_bytes = round(asked.hours * 3600), round(asked.cap_mb * 2**20)
        whole = full(server, Path(name) / "nodes", seconds=seconds, cap_bytes=cap_bytes)
        print("\n".join(told_full(whole, cap_bytes, seconds)))


if __name__ == "__main__":
    main()
